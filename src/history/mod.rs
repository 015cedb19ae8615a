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
//! deleted no faster than time passes (see `horizon`).

mod battery_history;
mod horizon;
mod packed;
mod query;
mod record;
mod row_buffer;
mod store;
mod write_schedule;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::board::Board;
use crate::model::{DeviceId, DeviceState, Millis};

pub use packed::Spread;
pub use query::{Answer, Query};
pub use record::run;

use battery_history::{BatteryHistory, MinuteRow};

/// A handle to the history of all batteries; cheap to clone.
#[derive(Debug, Clone)]
pub struct History {
    pub span: Duration,
    batteries: Arc<Mutex<BTreeMap<DeviceId, BatteryHistory>>>,
    /// Whether the energy counters of the file have been restored to the board.
    restored: Arc<watch::Sender<bool>>,
}

impl History {
    /// Keeps rows of each battery of the board for `span`.
    pub fn new(board: &Board, span: Duration) -> Self {
        let batteries = board.devices().map(|id| (id.clone(), BatteryHistory::new(span))).collect();
        History { span, batteries: Arc::new(Mutex::new(batteries)), restored: Arc::default() }
    }

    /// Takes milliseconds for a range of days, so call it from a blocking task. `None`: unknown battery.
    pub fn answer(&self, device: &DeviceId, query: &Query) -> Option<Answer> {
        // A copy shares the packed rows, so recording continues meanwhile.
        let battery = self.batteries().get(device)?.clone();
        Some(battery.answer(query))
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
    fn record(&self, state: &DeviceState) -> Option<MinuteRow> {
        let snapshot = state.snapshot.as_ref()?;
        let samples = battery_history::samples(state);
        self.batteries().get_mut(&state.profile.id)?.push(snapshot.taken, &samples)
    }

    fn is_empty(&self) -> bool {
        self.batteries().values().all(|battery| battery.newest().is_none())
    }

    fn batteries(&self) -> MutexGuard<'_, BTreeMap<DeviceId, BatteryHistory>> {
        self.batteries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn restore(&self, device: &DeviceId, row: &MinuteRow) {
        if let Some(battery) = self.batteries().get_mut(device) {
            battery.restore(row);
        }
    }

    /// Ends every minute but that of `now` (`None`: every minute), and drops old rows.
    /// `elapsed`: since the last call.
    fn end_minutes(&self, now: Option<Millis>, elapsed: Duration) -> Vec<(DeviceId, MinuteRow)> {
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
