//! Readings that the broker may have missed follow on a topic of their own, with the time of the read.
//!
//! ```text
//! board ──new readings──▶ rows ◀──removed── confirmed live by the broker
//!                          └──chunks, one at a time──▶ client ⇄ broker
//! ```
//!
//! A row leaves when the broker has confirmed its reading, live or in a chunk. Chunks are small and wait while live
//! values are queued.

mod feed;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use futures_util::FutureExt;
use tokio::sync::Notify;
use tracing::{info, warn};

use crate::board::{Board, OutputCounts, Updates};
use crate::clock;
use crate::history::unsent::{FIRST, MAX_BYTES, OVERHEAD, Record, Unsent, oldest_allowed};
use crate::model::{DeviceId, DeviceState, LinkState, Millis, Value, entries};
use crate::remedy;

pub use feed::{Feed, Turn};

/// Of a chunk, unless a single reading is larger.
const MAX_ROWS: usize = 100;

/// Which readings are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Those that the broker has not confirmed live.
    Missed,
    All,
    /// All, in the format of a gateway of ThingsBoard.
    ThingsBoard,
}

/// What outlasts connections.
#[derive(Debug)]
pub struct Backfill {
    mode: Mode,
    rows: Mutex<Rows>,
    added: Notify,
    counts: Arc<OutputCounts>,
    /// Keeps the rows over a restart.
    pub unsent: OnceLock<Arc<Unsent>>,
}

#[derive(Debug)]
struct Rows {
    /// By number, which is the order of the reads of each battery.
    waiting: BTreeMap<u64, Row>,
    next: u64,
    bytes: usize,
    /// Number of the last reading of each battery.
    sequences: BTreeMap<DeviceId, u64>,
    /// The rows of the last run are there.
    is_restored: bool,
    /// Rows make room for others since there were none.
    is_full: bool,
}

#[derive(Debug)]
struct Row {
    /// Of the reading; 0 if it is of an earlier run.
    sequence: u64,
    /// The text is the id of the battery and the JSON.
    record: Record,
}

/// Rows of one battery that are sent together.
#[derive(Debug, PartialEq)]
struct Chunk {
    device: String,
    rows: String,
    numbers: Vec<u64>,
}

impl Backfill {
    pub fn new(mode: Mode) -> Self {
        let rows = Rows {
            waiting: BTreeMap::new(),
            next: FIRST,
            bytes: 0,
            sequences: BTreeMap::new(),
            is_restored: false,
            is_full: false,
        };
        Backfill {
            mode,
            rows: Mutex::new(rows),
            added: Notify::new(),
            counts: Arc::default(),
            unsent: OnceLock::new(),
        }
    }

    /// Collects readings while `publish` runs.
    pub async fn run(&self, board: &Board, publish: impl Future<Output = ()>) {
        // A second run after a panic finds it set.
        let _ = board.outputs.backfill.set(self.counts.clone());
        let mut updates = board.updates();
        let collect = async { tokio::join!(self.collect(&mut updates), self.restore(board)) };
        tokio::select! {
            biased;
            _ = collect => {}
            () = publish => {}
        }
        // The last readings, if they are not collected yet.
        self.add(&updates.next().now_or_never().unwrap_or_default());
        let Some(unsent) = self.unsent.get() else {
            let waiting = self.lock().waiting.len();
            if waiting > 0 {
                let setting = remedy::setting("HISTORY_FILE");
                warn!("MQTT: {waiting} missed readings are lost at the stop; {setting} keeps them");
            }
            return;
        };
        unsent.closed.cancel();
    }

    /// Never returns.
    async fn collect(&self, updates: &mut Updates) {
        loop {
            self.add(&updates.next().await);
        }
    }

    async fn restore(&self, board: &Board) {
        let records = match self.unsent.get() {
            Some(unsent) => unsent.restored().await,
            None => Vec::new(),
        };
        if !records.is_empty() {
            info!("MQTT: {} missed readings of the last run follow", records.len());
        }
        let mut rows = self.lock();
        let first = FIRST - records.len() as u64;
        for (number, record) in (first..).zip(records) {
            let device = record.text.split_once(' ').map_or("", |(device, _)| device);
            if board.devices().all(|known| known.as_str() != device) {
                self.forget(number);
                continue;
            }
            rows.bytes += record.text.len() + OVERHEAD;
            rows.waiting.insert(number, Row { sequence: 0, record });
        }
        rows.is_restored = true;
        self.limit(&mut rows, clock::now());
        drop(rows);
        self.added.notify_one();
    }

    fn add(&self, states: &[DeviceState]) {
        for state in states {
            let Some(snapshot) = state.snapshot.as_deref() else { continue };
            if state.link != LinkState::Online || state.is_stale(clock::uptime()) {
                continue;
            }
            let mut rows = self.lock();
            let (id, sequence) = (&state.profile.id, snapshot.sequence);
            if rows.sequences.insert(id.clone(), sequence) == Some(sequence) {
                continue;
            }
            let record = Record { time: snapshot.taken, text: row(state, snapshot.taken).into() };
            rows.bytes += record.text.len() + OVERHEAD;
            let number = rows.next;
            rows.next += 1;
            if let Some(unsent) = self.unsent.get() {
                unsent.add(number, record.clone(), clock::uptime());
            }
            rows.waiting.insert(number, Row { sequence, record });
            self.limit(&mut rows, clock::now());
            drop(rows);
            self.added.notify_one();
        }
    }

    /// The oldest rows make room for others.
    fn limit(&self, rows: &mut Rows, now: Millis) {
        let oldest = oldest_allowed(now);
        let mut dropped = 0;
        while let Some(first) = rows.waiting.first_entry()
            && (rows.bytes > MAX_BYTES || first.get().record.time < oldest)
        {
            let number = *first.key();
            self.remove(rows, number);
            dropped += 1;
        }
        if dropped > 0 && !std::mem::replace(&mut rows.is_full, true) {
            warn!(
                "MQTT: missed readings are lost: {} wait for the broker, and the oldest make room",
                rows.waiting.len()
            );
        }
        self.counts.dropped.fetch_add(dropped, Relaxed);
        self.count(rows);
    }

    fn remove(&self, rows: &mut Rows, number: u64) -> Option<()> {
        let row = rows.waiting.remove(&number)?;
        rows.bytes -= row.record.text.len() + OVERHEAD;
        self.forget(number);
        Some(())
    }

    fn forget(&self, number: u64) {
        self.unsent.get().iter().for_each(|unsent| unsent.remove(number));
    }

    fn count(&self, rows: &mut Rows) {
        rows.is_full &= !rows.waiting.is_empty();
        self.counts.waiting.store(rows.waiting.len() as u64, Relaxed);
    }

    /// The broker has confirmed a chunk.
    fn confirm(&self, numbers: &[u64]) {
        let mut rows = self.lock();
        for number in numbers {
            let sent = self.remove(&mut rows, *number).is_some();
            self.counts.written.fetch_add(u64::from(sent), Relaxed);
        }
        self.count(&mut rows);
    }

    /// The broker has confirmed this reading live.
    fn confirm_live(&self, device: &str, sequence: u64) {
        let mut rows = self.lock();
        let is_it = |row: &Row| row.sequence == sequence && row.device() == device;
        // One of the last.
        let found =
            rows.waiting.iter().rev().find(|(_, row)| is_it(row)).map(|(number, _)| *number);
        found.and_then(|number| self.remove(&mut rows, number));
        self.count(&mut rows);
    }

    /// The oldest rows of a battery that may be sent; `None` if there are none.
    fn chunk(&self, max_bytes: usize, is_due: impl Fn(&str, u64) -> bool) -> Option<Chunk> {
        let rows = self.lock();
        let mut chunk: Option<Chunk> = None;
        for (number, row) in rows.waiting.iter().filter(|_| rows.is_restored) {
            let Some((device, text)) = row.record.text.split_once(' ') else { continue };
            let is_due = is_due(device, row.sequence);
            match &mut chunk {
                None if is_due => {
                    let (device, rows) = (device.to_owned(), text.to_owned());
                    chunk = Some(Chunk { device, rows, numbers: vec![*number] });
                }
                Some(chunk) if chunk.device == device => {
                    let size = chunk.rows.len() + text.len();
                    if !is_due || size >= max_bytes || chunk.numbers.len() >= MAX_ROWS {
                        break;
                    }
                    chunk.rows.push(',');
                    chunk.rows.push_str(text);
                    chunk.numbers.push(*number);
                }
                _ => {}
            }
        }
        chunk
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Row {
    fn device(&self) -> &str {
        self.record.text.split_once(' ').map_or("", |(device, _)| device)
    }
}

/// The id of the battery, and its numbers and flags as an element of ThingsBoard's array.
fn row(state: &DeviceState, taken: Millis) -> String {
    let mut text = format!("{} {{\"ts\":{},\"values\":{{", state.profile.id, taken.0);
    let head = text.len();
    for entry in entries(state) {
        let value = match entry.value {
            Value::Text(_) => continue,
            Value::Switch(on) => on.to_string(),
            number => number.to_string(),
        };
        let separator = if text.len() == head { "" } else { "," };
        text += &format!("{separator}\"{}\":{value}", entry.key);
    }
    text + "}}"
}

#[cfg(test)]
mod tests;
