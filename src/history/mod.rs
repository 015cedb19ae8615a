//! The history of every battery, for charts: in memory, and in a file if one is configured.
//!
//! ```text
//! board ─updates─▶ record ──▶ battery_history ──▶ query ──▶ http
//!                   └─minutes, every five minutes─▶ store (SQLite) ──at the start──▶ battery_history
//! board ──energy counters, every five minutes───────▶ store (SQLite) ──at the start──▶ board
//! ```
//!
//! Values are delta-encoded (see `packed`): 48 hours of a battery with 16 cells that is read every
//! ten seconds take less than 400 kB, even if every value changes all the time. The time of a row is
//! that of the reading, so a jump of the clock moves rows, but loses and duplicates none. Rows are
//! deleted no faster than time passes (see `horizon`). What charts show is also kept by hour, for a year.
//!
//! The energy of each day and the alarms are kept for years, apart from the charts (`energy_days`, `alarm_records`), and
//! so is what is known about the cells for a year (`health_days`).

mod alarm_records;
mod battery_history;
mod energy_days;
mod health_days;
mod horizon;
mod packed;
mod query;
mod record;
mod row_buffer;
mod store;
pub mod unsent;
mod write_schedule;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::board::Board;
use crate::model::cell_health::{HealthDay, KeptRun};
use crate::model::{DeviceId, DeviceState, Millis, TimeZone, Uptime};

pub use alarm_records::AlarmRecord;
pub use energy_days::Day;
pub use packed::Spread;
pub use query::{Answer, Query};
pub use record::run;

use alarm_records::AlarmRecords;
use battery_history::{BatteryHistory, HistoryRow, YEAR};
use energy_days::EnergyDays;
use health_days::HealthDays;
use packed::Sample;
use store::Batch;
use unsent::Unsent;

/// A handle to the history of all batteries; cheap to clone.
#[derive(Debug, Clone)]
pub struct History {
    pub span: Duration,
    /// In which days begin and end.
    pub zone: TimeZone,
    /// Whether a file keeps it.
    pub is_kept: bool,
    /// Of the outputs that repeat what they could not send.
    unsent: Vec<Arc<Unsent>>,
    batteries: Arc<Mutex<BTreeMap<DeviceId, BatteryHistory>>>,
    records: Arc<Mutex<Records>>,
    /// Whether the energy counters of the file have been restored to the board.
    restored: Arc<watch::Sender<bool>>,
}

/// Time of the last reading of a battery, and its run in progress; `None` without one.
type KeptRunOf = (DeviceId, Option<(Millis, KeptRun)>);

/// What is kept for years.
#[derive(Debug)]
struct Records {
    /// In the order of the board.
    days: Vec<(DeviceId, EnergyDays)>,
    health: BTreeMap<DeviceId, HealthDays>,
    alarms: AlarmRecords,
}

impl Records {
    fn days(&mut self, device: &DeviceId) -> Option<&mut EnergyDays> {
        self.days.iter_mut().find(|(id, _)| id == device).map(|(_, days)| days)
    }
}

impl History {
    /// Keeps rows of each battery of the board for `span`.
    pub fn new(board: &Board, span: Duration) -> Self {
        let batteries = board.devices().map(|id| (id.clone(), BatteryHistory::new(span))).collect();
        let days = board.devices().map(|id| (id.clone(), EnergyDays::default())).collect();
        let health = board.devices().map(|id| (id.clone(), HealthDays::default())).collect();
        let records = Records { days, health, alarms: AlarmRecords::default() };
        History {
            span,
            zone: TimeZone::default(),
            is_kept: false,
            unsent: Vec::new(),
            batteries: Arc::new(Mutex::new(batteries)),
            records: Arc::new(Mutex::new(records)),
            restored: Arc::default(),
        }
    }

    /// Keeps what this output cannot send. `None` without a file. Call it before [`run`].
    pub fn keep_unsent(&mut self, output: &'static str) -> Option<Arc<Unsent>> {
        let unsent = self.is_kept.then(|| Arc::new(Unsent::new(output)))?;
        self.unsent.push(unsent.clone());
        Some(unsent)
    }

    /// Takes milliseconds for a range of days, so call it from a blocking task. `None`: unknown battery.
    pub fn answer(&self, device: &DeviceId, query: &Query) -> Option<Answer> {
        // A copy shares the packed rows, so recording continues meanwhile.
        let battery = self.batteries().get(device)?.clone();
        Some(battery.answer(query))
    }

    /// The energy of each day of a battery since the day with this number. `None`: unknown battery.
    pub fn energy_days(&self, device: &DeviceId, since: u32) -> Option<Vec<Day>> {
        let mut records = self.records();
        let days = &records.days(device)?.days;
        Some(days[days.partition_point(|day| day.number < since)..].to_vec())
    }

    /// What is known about the cells, by day. `None`: unknown battery.
    pub fn health_days(&self, device: &DeviceId) -> Option<Vec<HealthDay>> {
        Some(self.records().health.get(device)?.days.clone())
    }

    /// Of all batteries, newest first.
    pub fn alarms(&self) -> Vec<AlarmRecord> {
        self.records().alarms.records.iter().rev().cloned().collect()
    }

    /// Memory of a battery's history in bytes.
    pub fn size(&self, device: &DeviceId) -> Option<usize> {
        Some(self.batteries().get(device)?.size())
    }

    /// Waits until the energy counters of the file are on the board, or it is clear that there is no
    /// readable file. Other sources of the counters (the broker) come afterwards.
    pub async fn restored(&self) {
        // Cannot fail: `self` holds the sender.
        let _ = self.restored.subscribe().wait_for(|restored| *restored).await;
    }

    /// Adds a reading of the past. Readings have to be added in the order of their times, and before
    /// [`run`].
    pub fn add(&self, state: &DeviceState) {
        // No file is written with it, so the end of a minute does not matter.
        let _ = self.record(state);
    }

    /// Returns the minute before this reading if that has ended.
    fn record(&self, state: &DeviceState) -> Option<HistoryRow> {
        let (time, samples) = self.record_day(state)?;
        self.batteries().get_mut(&state.profile.id)?.push(time, &samples)
    }

    /// Records what is kept for years, and returns the time of the reading and what is drawn.
    fn record_day(&self, state: &DeviceState) -> Option<(Millis, Vec<Sample>)> {
        let snapshot = state.snapshot.as_ref()?;
        let samples = battery_history::samples(state);
        let (id, derived) = (&state.profile.id, &snapshot.derived);
        let mut records = self.records();
        if let Some(days) = records.days(id) {
            days.count(&self.zone, snapshot.taken, derived.energy_since_start);
        }
        if let Some(health) = records.health.get_mut(id) {
            let read_at = state.read_at.unwrap_or(Uptime(snapshot.taken.0));
            health.observe(&self.zone, read_at, snapshot);
        }
        records.alarms.record(state, snapshot);
        Some((snapshot.taken, samples))
    }

    fn is_empty(&self) -> bool {
        self.batteries().values().all(|battery| battery.newest().is_none())
    }

    fn batteries(&self) -> MutexGuard<'_, BTreeMap<DeviceId, BatteryHistory>> {
        self.batteries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `is_recent`: for the minutes. `is_new`: not part of an hour that is already there.
    fn restore_minute(&self, device: &DeviceId, row: &HistoryRow, is_recent: bool, is_new: bool) {
        if let Some(battery) = self.batteries().get_mut(device) {
            if is_recent {
                battery.restore(row);
            }
            if is_new {
                battery.add_to_hour(row);
            }
        }
    }

    fn restore_hour(&self, device: &DeviceId, row: &HistoryRow) {
        if let Some(battery) = self.batteries().get_mut(device) {
            battery.restore_hour(row);
        }
    }

    fn restore_day(&self, device: &DeviceId, day: Day) {
        if let Some(days) = self.records().days(device) {
            days.restore(day);
        }
    }

    fn restore_health(&self, device: &DeviceId, day: &HealthDay) {
        if let Some(health) = self.records().health.get_mut(device) {
            health.restore(day);
        }
    }

    /// Days of the cells that are not in the file yet, and the runs from full to empty. Their rows are large, so they are
    /// written rarely.
    fn take_unwritten_health(&self) -> (Vec<(DeviceId, HealthDay)>, Vec<KeptRunOf>) {
        let (mut days, mut runs) = (Vec::new(), Vec::new());
        for (id, health) in &mut self.records().health {
            days.extend(health.take_unwritten().into_iter().map(|day| (id.clone(), day)));
            runs.push((id.clone(), health.run()));
        }
        (days, runs)
    }

    fn restore_run(&self, device: &DeviceId, last: Millis, run: KeptRun) {
        if let Some(health) = self.records().health.get_mut(device) {
            health.restore_run(last, run);
        }
    }

    fn restore_alarm(&self, record: AlarmRecord) {
        let mut records = self.records();
        // The alarms of a battery that is not configured any more would never end.
        if records.days(&record.device).is_some() {
            records.alarms.restore(record);
        }
    }

    /// How far queries may go back.
    pub fn range(&self) -> Duration {
        YEAR.max(self.span)
    }

    /// Hours, energy and alarms that are not in the file yet.
    fn take_unwritten(&self, rows: Vec<(DeviceId, HistoryRow)>) -> Batch {
        let mut hours = Vec::new();
        for (id, battery) in self.batteries().iter_mut() {
            hours.extend(battery.take_unwritten().into_iter().map(|row| (id.clone(), row)));
        }
        let Records { days, alarms, .. } = &mut *self.records();
        let days = days
            .iter_mut()
            .flat_map(|(id, days)| days.take_unwritten().into_iter().map(|day| (id.clone(), day)));
        let (days, alarms) = (days.collect(), alarms.take_unwritten());
        Batch { rows, hours, days, alarms, ..Batch::default() }
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends every minute but that of `now` (`None`: every minute), and drops old rows.
    /// `elapsed`: since the last call.
    fn end_minutes(&self, now: Option<Millis>, elapsed: Duration) -> Vec<(DeviceId, HistoryRow)> {
        let mut ended = Vec::new();
        for (id, battery) in self.batteries().iter_mut() {
            ended.extend(battery.end_minute(now).map(|row| (id.clone(), row)));
            if let Some(now) = now {
                battery.expire(now, elapsed);
            }
        }
        ended
    }
}
