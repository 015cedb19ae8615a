//! Readings that an output could not send yet, kept in the history file over a restart.
//!
//! An output that confirms its readings within seconds writes nothing. In an outage they are written after a tenth of
//! the time that it has lasted, so that the file has nearly all of a short one and little is written in a long one.
//! At a clean stop, all that waits is written.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::model::units::millis;
use crate::model::{Millis, Uptime};

/// Of what waits for one output, in memory.
pub const MAX_BYTES: usize = 4 << 20;
/// Memory of a reading besides its text, in bytes.
pub const OVERHEAD: usize = 128;
/// Older readings are dropped.
pub const MAX_AGE: Duration = Duration::from_secs(7 * 86_400);
/// Number of the first reading of a run. Those of earlier runs have lower ones.
pub const FIRST: u64 = 1 << 40;
/// An outage lasts longer than this, in milliseconds.
const MIN_INTERVAL: u64 = 5_000;
/// Like the interval of the history.
const MAX_INTERVAL: u64 = 5 * 60_000;

/// A reading as it is sent.
#[derive(Debug, Clone)]
pub struct Record {
    /// When the battery was read.
    pub time: Millis,
    pub text: Arc<str>,
}

/// What waits for one output. The output adds and removes, the history writes it to the file.
#[derive(Debug)]
pub struct Unsent {
    /// Its name in the file.
    pub output: &'static str,
    state: Mutex<State>,
    /// The file was read.
    restored: watch::Sender<bool>,
    /// The output has stopped: what waits now is what is left.
    pub closed: CancellationToken,
}

#[derive(Debug)]
struct State {
    /// By number, with the time at which they were added.
    waiting: BTreeMap<u64, (Uptime, Record)>,
    /// All before this number are in the file.
    written: u64,
    chunks: Vec<Chunk>,
    /// From the file, until the output takes them.
    restored: Vec<Record>,
}

/// A row of the file: several readings, so that they can be packed.
#[derive(Debug)]
struct Chunk {
    row: i64,
    /// Number of its last reading.
    last: u64,
}

/// What is to be changed in the file.
#[derive(Debug)]
pub(super) struct Changes {
    /// Rows that are not needed any more.
    pub(super) delete: Vec<i64>,
    /// Lines with a time and a text each; empty: nothing to add.
    pub(super) add: String,
    /// Number of the last of them.
    last: u64,
}

impl Unsent {
    pub fn new(output: &'static str) -> Self {
        let state = State {
            waiting: BTreeMap::new(),
            written: FIRST,
            chunks: Vec::new(),
            restored: Vec::new(),
        };
        Unsent {
            output,
            state: Mutex::new(state),
            restored: watch::Sender::default(),
            closed: CancellationToken::new(),
        }
    }

    /// A reading waits. `number` grows with each, from [`FIRST`].
    pub fn add(&self, number: u64, record: Record, now: Uptime) {
        self.lock().waiting.insert(number, (now, record));
    }

    /// It is confirmed, or dropped.
    pub fn remove(&self, number: u64) {
        self.lock().waiting.remove(&number);
    }

    /// Waits until the file was read, and returns what it has, once; its numbers end before [`FIRST`].
    pub async fn restored(&self) -> Vec<Record> {
        // Cannot fail: `self` holds the sender.
        let _ = self.restored.subscribe().wait_for(|restored| *restored).await;
        std::mem::take(&mut self.lock().restored)
    }

    pub(super) fn is_restored(&self) -> bool {
        *self.restored.borrow()
    }

    /// `rows` of the file, oldest first. Anyone may have written it: lines that make no sense are left out.
    pub(super) fn restore(&self, rows: &[(i64, String)], now: Uptime) {
        let mut state = self.lock();
        let mut ends = Vec::new();
        for (row, lines) in rows {
            let record = |line: &str| {
                let (time, text) = line.split_once(' ')?;
                Some(Record { time: Millis(time.parse().ok()?), text: text.into() })
            };
            state.restored.extend(lines.lines().filter_map(record));
            ends.push((*row, state.restored.len() as u64));
        }
        let first = FIRST - state.restored.len() as u64;
        let chunk = |(row, end): (i64, u64)| Chunk { row, last: (first + end).saturating_sub(1) };
        state.chunks = ends.into_iter().map(chunk).collect();
        let records = state.restored.clone().into_iter().map(|record| (now, record));
        state.waiting.extend((first..).zip(records));
        drop(state);
        self.restored.send_replace(true);
    }

    #[cfg(test)]
    pub fn restore_for_test(&self, rows: &[(i64, String)]) {
        self.restore(rows, Uptime(0));
    }

    /// What is to be written now. At the end, all that waits becomes one row, so that the next run repeats nothing.
    pub(super) fn due(&self, now: Uptime, is_end: bool) -> Option<Changes> {
        let state = self.lock();
        let oldest = state.waiting.first_key_value();
        let first = oldest.map_or(u64::MAX, |(number, _)| *number);
        let is_done = |chunk: &&Chunk| is_end || chunk.last < first;
        let delete: Vec<_> = state.chunks.iter().filter(is_done).map(|chunk| chunk.row).collect();
        let new = state.waiting.range(if is_end { 0 } else { state.written }..);
        let mut changes = Changes { delete, add: String::new(), last: 0 };
        let age = |added: Uptime| now.since(added);
        let outage = oldest.map_or(0, |(_, (added, _))| age(*added));
        let interval = (outage / 10).clamp(MIN_INTERVAL, MAX_INTERVAL);
        if is_end || new.clone().next().is_some_and(|(_, (added, _))| age(*added) >= interval) {
            for (number, (_, Record { time, text })) in new {
                changes.add += &format!("{} {text}\n", time.0);
                changes.last = *number;
            }
        }
        (!changes.delete.is_empty() || !changes.add.is_empty()).then_some(changes)
    }

    /// The changes are in the file; `row` is the added one.
    pub(super) fn confirm(&self, changes: &Changes, row: i64) {
        let mut state = self.lock();
        state.chunks.retain(|chunk| !changes.delete.contains(&chunk.row));
        if !changes.add.is_empty() {
            state.chunks.push(Chunk { row, last: changes.last });
            state.written = state.written.max(changes.last + 1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When what waits is looked at.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// How long the outputs may take at the stop.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_millis(600);

/// Milliseconds from the age limit to `now`.
pub fn oldest_allowed(now: Millis) -> Millis {
    Millis(now.0.saturating_sub(millis(MAX_AGE)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(unsent: &Unsent, number: u64, second: u64) {
        let record =
            Record { time: Millis(second * 1000), text: format!("reading {number}").into() };
        unsent.add(FIRST + number, record, Uptime(second * 1000));
    }

    /// Row by row what the file has after this.
    fn write(unsent: &Unsent, file: &mut BTreeMap<i64, String>, second: u64, is_end: bool) -> bool {
        let Some(changes) = unsent.due(Uptime(second * 1000), is_end) else { return false };
        changes.delete.iter().for_each(|row| drop(file.remove(row)));
        let row = file.last_key_value().map_or(1, |(row, _)| row + 1);
        if !changes.add.is_empty() {
            file.insert(row, changes.add.clone());
        }
        unsent.confirm(&changes, row);
        true
    }

    #[test]
    fn confirmed_readings_are_not_written() {
        let (unsent, mut file) = (Unsent::new("test"), BTreeMap::new());
        for second in 0..1000 {
            add(&unsent, second, second);
            unsent.remove(FIRST + second.saturating_sub(3));
            assert!(!write(&unsent, &mut file, second, false));
        }
    }

    #[test]
    fn long_outage_is_written_rarely_and_loses_a_tenth() {
        let (unsent, mut file) = (Unsent::new("test"), BTreeMap::new());
        let (mut writes, mut in_file) = (0, 0);
        for second in 0..8000 {
            add(&unsent, second, second);
            if second % 5 == 0 && write(&unsent, &mut file, second, false) {
                writes += 1;
                in_file = file.values().map(|rows| rows.lines().count() as u64).sum();
            }
            let missing = second + 1 - in_file;
            assert!(missing <= 12.max(second / 10 + 7).min(307), "{missing} after {second} s");
        }
        assert!((40..80).contains(&writes), "{writes}");
        (0..8000).for_each(|number| unsent.remove(FIRST + number));
        assert!(write(&unsent, &mut file, 8000, false) && file.is_empty());
        assert!(!write(&unsent, &mut file, 8000, false), "nothing is left to do");
    }

    #[tokio::test]
    async fn stop_writes_exactly_what_waits_and_the_next_run_gets_it() {
        let (unsent, mut file) = (Unsent::new("test"), BTreeMap::new());
        unsent.restore(&[], Uptime(0));
        for second in 0..30 {
            add(&unsent, second, second);
            write(&unsent, &mut file, second, false);
        }
        // In the middle of a row that is written.
        (0..4).for_each(|number| unsent.remove(FIRST + number));
        assert!(write(&unsent, &mut file, 30, true));
        let rows: Vec<_> = file.clone().into_iter().collect();
        assert_eq!(rows.len(), 1);

        let next = Unsent::new("test");
        next.restore(&[rows[0].clone(), (9, "nonsense\n5 more".into())], Uptime(0));
        let records = next.restored().await;
        assert_eq!(records.len(), 27);
        assert_eq!((records[0].time, &*records[0].text), (Millis(4000), "reading 4"));
        assert!(next.restored().await.is_empty(), "they are given once");
        add(&next, 0, 40);
        assert!(next.due(Uptime(0), false).is_none(), "they are in the file");
        (1..=26).for_each(|number| next.remove(FIRST - 1 - number));
        assert_eq!(next.due(Uptime(0), false).unwrap().delete, [rows[0].0]);
        next.remove(FIRST - 1);
        assert_eq!(next.due(Uptime(0), false).unwrap().delete, [rows[0].0, 9]);
    }
}
