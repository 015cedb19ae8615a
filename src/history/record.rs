//! The task that records: readings from the board into memory, ended minutes into the file.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::History;
use super::battery_history::{HistoryRow, hour_number};
use super::store::{Expiry, HistoryFile};
use super::unsent::{CHECK_INTERVAL, CLOSE_TIMEOUT};
use super::write_schedule::{DueWrite, WriteSchedule};
use crate::board::Board;
use crate::clock;
use crate::model::health_report::HealthReport;
use crate::model::{DeviceId, DeviceState, EnergySource, EnergyTotals, Restored};
use crate::tasks::Task;

/// Minutes of the clock end together. In milliseconds.
const MINUTE: u64 = 60_000;
/// Wait for the last reading of a minute, in milliseconds.
const GRACE: u64 = 1_000;
/// After this time the clock has been set, if it is ever set: many machines start with a wrong one.
const CLOCK_TRUST: Duration = Duration::from_secs(3600);
/// Rows that are further in the future were recorded with a wrong clock.
const MAX_CLOCK_ERROR: Duration = Duration::from_secs(24 * 3600);

/// A slow disk may take this long. One that takes longer, for example an SD card that fails, stops
/// the recording, which the health check reports.
const FILE_LIMIT: Duration = Duration::from_secs(5 * 60);

/// Records until the stop. With a file, continues the history in it.
pub async fn run(history: History, board: Board, file: Option<String>, task: Task) {
    let file = file.map(HistoryFile::new);
    let stop = task.stop.clone();
    let mut recorder = Recorder {
        history,
        board,
        file,
        sequences: BTreeMap::new(),
        ended: Vec::new(),
        recorded: Duration::ZERO,
        reported: None,
        schedule: WriteSchedule::default(),
        task,
    };
    recorder.restore_counters().await;
    recorder.restore_unsent().await;
    // After a restart of this task the history is still in memory.
    if recorder.history.is_empty() {
        let history = recorder.history.clone();
        recorder.with_file(move |file| file.load(&history, clock::now())).await;
    }
    let mut updates = recorder.board.updates();
    let mut last_write = clock::uptime();
    let (mut continues, mut checked) = (true, Instant::now());
    while continues {
        let now = clock::now().0;
        let wait = Duration::from_millis(MINUTE - now % MINUTE + GRACE);
        recorder.task.progress(wait);
        let minute = stop.run_until_cancelled(sleep(wait));
        tokio::pin!(minute);
        let keeps_unsent = !recorder.history.unsent.is_empty();
        continues = loop {
            tokio::select! {
                biased;
                ended = &mut minute => break ended.is_some(),
                () = sleep(CHECK_INTERVAL.saturating_sub(checked.elapsed())), if keeps_unsent => {
                    checked = Instant::now();
                    recorder.write_unsent(false).await;
                }
                states = updates.next() => states.iter().for_each(|state| recorder.record(state)),
            }
        };
        let elapsed = clock::uptime().since(last_write);
        last_write = clock::uptime();
        let elapsed = Duration::from_millis(elapsed);
        let ended = recorder.history.end_minutes(continues.then(clock::now), elapsed);
        recorder.ended.extend(ended);
        recorder.write_when_due(elapsed, !continues).await;
        recorder.report_health();
    }
    let all_closed = async {
        for unsent in &recorder.history.unsent {
            unsent.closed.cancelled().await;
        }
    };
    // What is on its way at the end may be repeated by the next run.
    let _ = timeout(CLOSE_TIMEOUT, all_closed).await;
    recorder.write_unsent(true).await;
}

struct Recorder {
    history: History,
    board: Board,
    file: Option<HistoryFile>,
    /// Number of the last recorded reading of each battery.
    sequences: BTreeMap<DeviceId, u64>,
    /// Minutes to be written to the file.
    ended: Vec<(DeviceId, HistoryRow)>,
    /// Time since the start of the recording.
    recorded: Duration,
    /// The hour in which the health was reported to the board.
    reported: Option<u64>,
    schedule: WriteSchedule,
    task: Task,
}

impl Recorder {
    /// Does nothing if the update has no new reading, for example after a failed attempt.
    fn record(&mut self, state: &DeviceState) {
        let Some(snapshot) = &state.snapshot else { return };
        let id = &state.profile.id;
        if self.sequences.insert(id.clone(), snapshot.sequence) == Some(snapshot.sequence) {
            return;
        }
        self.ended.extend(self.history.record(state).map(|row| (id.clone(), row)));
    }

    /// Continues the energy counters of the file. Those it lacks may come from the broker later.
    async fn restore_counters(&mut self) {
        let counters = self.with_file(HistoryFile::counters).await.unwrap_or_default();
        for (id, totals) in counters {
            if let Some(Restored::Resumed(totals)) =
                self.board.restore(&id, Some(totals), EnergySource::File)
            {
                tracing::info!(
                    "{id}: energy counters continue from {totals} (kept by the history file)"
                );
            }
        }
        self.history.restored.send_replace(true);
    }

    /// Returns to the outputs what they could not send before the last stop.
    async fn restore_unsent(&mut self) {
        for unsent in self.history.unsent.clone() {
            // After a restart of this task it is still in memory.
            if !unsent.is_restored() {
                let output = unsent.output;
                let rows = self.with_file(move |file| file.unsent(output)).await;
                unsent.restore(&rows.unwrap_or_default(), clock::uptime());
            }
        }
    }

    async fn write_unsent(&mut self, is_end: bool) {
        for unsent in self.history.unsent.clone() {
            let Some(changes) = unsent.due(clock::uptime(), is_end) else { continue };
            let write = move |file: &mut HistoryFile| {
                if let Some(row) = file.write_unsent(unsent.output, &changes) {
                    unsent.confirm(&changes, row);
                }
            };
            self.with_file(write).await;
        }
    }

    /// Once an hour: it hardly ever changes.
    fn report_health(&mut self) {
        let now = clock::now();
        if self.reported.replace(hour_number(now)) == Some(hour_number(now)) {
            return;
        }
        let (today, _) = self.history.zone.day(now);
        for id in self.board.devices() {
            if let Some(days) = self.history.health_days(id) {
                self.board.update_health(id, HealthReport::new(&days, today, true).summary());
            }
        }
    }

    /// `elapsed`: since the last call.
    async fn write_when_due(&mut self, elapsed: Duration, stopping: bool) {
        self.recorded += elapsed;
        let Some(file) = &self.file else {
            self.ended.clear();
            self.history.take_unwritten(Vec::new());
            self.history.take_unwritten_health();
            return;
        };
        let urgent = stopping || file.has_failed();
        let Some(DueWrite { delete }) =
            self.schedule.advance(elapsed, !self.ended.is_empty(), urgent)
        else {
            return;
        };
        let mut batch = self.history.take_unwritten(std::mem::take(&mut self.ended));
        if delete.is_some() {
            (batch.health, batch.runs) = self.history.take_unwritten_health();
        }
        let now = clock::now();
        let expiry = delete.map(|elapsed| Expiry {
            oldest: now.before(self.history.span),
            newest: (self.recorded >= CLOCK_TRUST).then(|| now.after(MAX_CLOCK_ERROR)),
            elapsed,
        });
        let counters: Vec<_> = self.board.states().filter_map(|state| counters(&state)).collect();
        self.with_file(move |file| file.write(batch, expiry, &counters)).await;
    }

    /// Accesses the file in a blocking task, as an SD card may be slow. `None`: no file is configured.
    async fn with_file<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut HistoryFile) -> T + Send + 'static,
    ) -> Option<T> {
        let mut file = self.file.take()?;
        self.task.progress(FILE_LIMIT);
        let done = spawn_blocking(move || {
            let result = work(&mut file);
            (file, result)
        });
        match done.await {
            Ok((file, result)) => {
                self.file = Some(file);
                Some(result)
            }
            // The restarted task opens the file again.
            Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
            // The program is stopping.
            Err(_) => None,
        }
    }
}

/// `None` until the counters are known.
fn counters(state: &DeviceState) -> Option<(DeviceId, EnergyTotals)> {
    let totals = state.snapshot.as_ref()?.derived.energy?;
    Some((state.profile.id.clone(), totals))
}
