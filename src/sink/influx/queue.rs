//! The lines that the server has not confirmed, oldest first.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tracing::warn;

use crate::board::InfluxCounts;
use crate::model::Millis;
use crate::remedy;

/// In bytes; half a day to a day of one battery that is read every 30 seconds.
const MAX_BYTES: usize = 4 << 20;
/// Memory of a line besides its text, in bytes.
const OVERHEAD: usize = 64;
const MAX_AGE: Duration = Duration::from_secs(7 * 86_400);
/// In bytes. A slow network carries it within the time of a request.
const MAX_BATCH: usize = 128 * 1024;

#[derive(Debug, Default)]
pub struct Queue {
    waiting: Mutex<Waiting>,
    added: Notify,
    pub counts: Arc<InfluxCounts>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// With the second of each.
    lines: VecDeque<(u64, Box<str>)>,
    /// Number of the first of them; each line has a number.
    first: u64,
    /// Lines that the server has refused, each with the number of lines that it had taken until then.
    refused: VecDeque<(u64, Box<str>)>,
    /// Of all lines.
    bytes: usize,
    /// Lines make room for others since the queue was empty.
    is_full: bool,
}

/// The lines of a request, which stay in the queue.
#[derive(Debug)]
pub struct Batch {
    /// Number of the first line.
    pub first: u64,
    pub count: usize,
    pub body: String,
    /// It is a line that was refused before.
    pub is_retry: bool,
}

impl Queue {
    /// The oldest lines make room for it.
    pub fn add(&self, second: u64, line: String, now: Millis) {
        let mut waiting = self.lock();
        waiting.bytes += line.len() + OVERHEAD;
        waiting.lines.push_back((second, line.into()));
        let oldest = now.before(MAX_AGE).0 / 1000;
        let mut dropped = 0;
        while (waiting.bytes > MAX_BYTES && waiting.pop_refused().is_some())
            || ((waiting.bytes > MAX_BYTES
                || waiting.lines.front().is_some_and(|it| it.0 < oldest))
                && waiting.pop().is_some())
        {
            dropped += 1;
        }
        if dropped > 0 && !std::mem::replace(&mut waiting.is_full, true) {
            warn!(
                "influx: readings are lost: {} wait for the server, and the oldest make room; set {} to keep \
                 those of a longer time",
                waiting.len(),
                remedy::assignment("INFLUX_INTERVAL", "60")
            );
        }
        self.counts.dropped.fetch_add(dropped, Relaxed);
        self.update_counts(&mut waiting);
        drop(waiting);
        self.added.notify_one();
    }

    /// Waits until there is a line.
    pub async fn wait(&self) {
        while self.len() == 0 {
            self.added.notified().await;
        }
    }

    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Number of the first line that was not refused; that of the next one if there is none.
    pub fn first(&self) -> u64 {
        self.lock().first
    }

    /// At most this many lines, and at least one; `None` if there are none. A line that was refused is sent alone,
    /// after the others.
    pub fn batch(&self, limit: usize) -> Option<Batch> {
        let waiting = self.lock();
        let (is_retry, lines) = match waiting.lines.is_empty() {
            true => (true, waiting.refused.iter().take(1)),
            false => (false, waiting.lines.iter().take(limit)),
        };
        let mut batch = Batch { first: waiting.first, count: 0, body: String::new(), is_retry };
        for (_, line) in lines {
            if batch.count > 0 && batch.body.len() + line.len() >= MAX_BATCH {
                break;
            }
            batch.body.push_str(line);
            batch.body.push('\n');
            batch.count += 1;
        }
        (batch.count > 0).then_some(batch)
    }

    /// The server has the lines.
    pub fn remove(&self, batch: &Batch) {
        let mut waiting = self.lock();
        let end = batch.first + batch.count as u64;
        match batch.is_retry {
            true => drop(waiting.pop_retried(batch)),
            // Some may have made room meanwhile.
            false => while waiting.first < end && waiting.pop().is_some() {},
        }
        self.counts.written.fetch_add(batch.count as u64, Relaxed);
        self.update_counts(&mut waiting);
    }

    /// The server has refused the only line of the batch. It is dropped if the server has taken others since it
    /// was refused first; until then a setting may be the reason. Returns the number of lines dropped so far if
    /// it is.
    pub fn refuse(&self, batch: &Batch) -> Option<u64> {
        let written = self.counts.written.load(Relaxed);
        let mut waiting = self.lock();
        let (before, line) = match batch.is_retry {
            true => waiting.pop_retried(batch)?,
            false if waiting.first == batch.first => (written, waiting.pop()?),
            false => return None,
        };
        let dropped = (before < written).then(|| self.counts.dropped.fetch_add(1, Relaxed) + 1);
        if dropped.is_none() {
            waiting.bytes += line.len() + OVERHEAD;
            waiting.refused.push_back((before, line));
        }
        self.update_counts(&mut waiting);
        dropped
    }

    fn update_counts(&self, waiting: &mut Waiting) {
        waiting.is_full &= waiting.len() > 0;
        self.counts.waiting.store(waiting.len() as u64, Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn len(&self) -> usize {
        self.lines.len() + self.refused.len()
    }

    /// Removes the first line that was not refused.
    fn pop(&mut self) -> Option<Box<str>> {
        let (_, line) = self.lines.pop_front()?;
        self.bytes -= line.len() + OVERHEAD;
        self.first += 1;
        Some(line)
    }

    fn pop_refused(&mut self) -> Option<(u64, Box<str>)> {
        let refused = self.refused.pop_front()?;
        self.bytes -= refused.1.len() + OVERHEAD;
        Some(refused)
    }

    /// Removes the line of this batch, unless it has made room.
    fn pop_retried(&mut self, batch: &Batch) -> Option<(u64, Box<str>)> {
        let (_, line) = self.refused.front()?;
        if batch.body.trim_end() == &**line { self.pop_refused() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1_771_097_625_000);

    fn add(queue: &Queue, second: u64, length: usize) {
        queue.add(second, "x".repeat(length), NOW);
    }

    fn counts(queue: &Queue) -> (u64, u64) {
        (queue.counts.dropped.load(Relaxed), queue.counts.waiting.load(Relaxed))
    }

    #[test]
    fn oldest_lines_make_room_and_are_counted() {
        let (queue, second, length) = (Queue::default(), NOW.0 / 1000, 1000);
        let room = MAX_BYTES / (length + OVERHEAD);
        (0..room as u64).for_each(|number| add(&queue, second + number, length));
        assert_eq!(counts(&queue), (0, room as u64));
        let batch = queue.batch(3).unwrap();
        assert_eq!((batch.first, batch.count, batch.body.lines().count()), (0, 3, 3));
        // While the request was on its way, two of its lines made room.
        add(&queue, 0, length);
        add(&queue, second, length);
        assert_eq!(counts(&queue), (2, room as u64));
        queue.remove(&batch);
        assert_eq!((queue.first(), counts(&queue).1), (3, room as u64 - 1));
        // A batch is bounded by its size, too.
        assert_eq!(queue.batch(1000).unwrap().count, MAX_BATCH / (length + 1));
        let memory: usize = queue.lock().lines.iter().map(|(_, line)| line.len() + OVERHEAD).sum();
        assert_eq!(queue.lock().bytes, memory);
    }

    #[test]
    fn old_lines_are_dropped() {
        let (queue, second) = (Queue::default(), NOW.0 / 1000);
        // The clock was not set yet.
        queue.add(5, "early".into(), Millis(5000));
        add(&queue, second - MAX_AGE.as_secs(), 10);
        assert_eq!(counts(&queue), (1, 1));
        queue.remove(&queue.batch(9).unwrap());
        assert_eq!((queue.first(), counts(&queue)), (2, (1, 0)));
        assert!(queue.batch(9).is_none());
    }

    #[test]
    fn refused_line_is_dropped_once_others_are_taken() {
        let (queue, second) = (Queue::default(), NOW.0 / 1000);
        add(&queue, second, 10);
        // Nothing is taken: a setting may be wrong.
        for number in 0..3 {
            let batch = queue.batch(9).unwrap();
            assert_eq!((batch.is_retry, queue.refuse(&batch)), (number > 0, None));
        }
        add(&queue, second + 1, 10);
        let other = queue.batch(9).unwrap();
        assert_eq!((other.count, other.is_retry), (1, false), "it does not block the others");
        queue.remove(&other);
        assert_eq!(queue.refuse(&queue.batch(9).unwrap()), Some(1));
        assert_eq!((queue.batch(9).is_none(), counts(&queue)), (true, (1, 0)));
        assert_eq!(queue.lock().bytes, 0);
    }

    #[test]
    fn a_single_line_is_a_batch_whatever_its_size() {
        let queue = Queue::default();
        add(&queue, NOW.0 / 1000, MAX_BATCH * 2);
        add(&queue, NOW.0 / 1000, 1);
        assert_eq!(queue.batch(9).unwrap().count, 1);
    }

    #[tokio::test]
    async fn waits_for_a_line() {
        let queue = Queue::default();
        let wait = queue.wait();
        tokio::pin!(wait);
        assert!(futures_util::poll!(&mut wait).is_pending());
        add(&queue, NOW.0 / 1000, 1);
        wait.await;
    }
}
