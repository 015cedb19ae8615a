//! The lines that the server has not confirmed, oldest first.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tracing::warn;

use crate::board::OutputCounts;
use crate::clock;
use crate::history::unsent::{self, MAX_BYTES, OVERHEAD, Record, Unsent};
use crate::model::Millis;
use crate::remedy;

/// In bytes. A slow network carries it within the time of a request.
const MAX_BATCH: usize = 128 * 1024;

#[derive(Debug, Default)]
pub struct Queue {
    waiting: Mutex<Waiting>,
    added: Notify,
    pub counts: Arc<OutputCounts>,
    /// Keeps them over a restart.
    unsent: Option<Arc<Unsent>>,
}

#[derive(Debug)]
struct Waiting {
    lines: VecDeque<Record>,
    /// Number of the first of them; each line has a number.
    first: u64,
    /// Lines that the server has refused.
    refused: VecDeque<Refused>,
    /// Of all lines.
    bytes: usize,
    /// Lines make room for others since the queue was empty.
    is_full: bool,
}

#[derive(Debug)]
struct Refused {
    number: u64,
    line: Arc<str>,
    /// Lines that the server had taken until then.
    written: u64,
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
    pub fn new(unsent: Option<Arc<Unsent>>) -> Self {
        Queue { unsent, ..Queue::default() }
    }

    /// Waits for the lines that the last run could not send, and adds them. Call it before the first batch.
    pub async fn restore(&self) {
        let Some(unsent) = &self.unsent else { return };
        for record in unsent.restored().await.into_iter().rev() {
            let mut waiting = self.lock();
            waiting.bytes += record.text.len() + OVERHEAD;
            waiting.first -= 1;
            waiting.lines.push_front(record);
        }
        self.limit(clock::now());
    }

    /// The oldest lines make room for it.
    pub fn add(&self, second: u64, line: String, now: Millis) {
        let mut waiting = self.lock();
        waiting.bytes += line.len() + OVERHEAD;
        let record = Record { time: Millis(second * 1000), text: line.into() };
        if let Some(unsent) = &self.unsent {
            let number = waiting.first + waiting.lines.len() as u64;
            unsent.add(number, record.clone(), clock::uptime());
        }
        waiting.lines.push_back(record);
        drop(waiting);
        self.limit(now);
        self.added.notify_one();
    }

    /// Drops the oldest lines if there are too many, and those that are too old.
    fn limit(&self, now: Millis) {
        let mut waiting = self.lock();
        let oldest = unsent::oldest_allowed(now);
        let mut dropped = 0;
        loop {
            let is_over = waiting.bytes > MAX_BYTES;
            let is_old = waiting.lines.front().is_some_and(|line| line.time < oldest);
            let refused = if is_over { waiting.pop_refused() } else { None };
            let number = match refused {
                Some(refused) => refused.number,
                None if is_over || is_old => match waiting.pop() {
                    Some((number, _)) => number,
                    None => break,
                },
                None => break,
            };
            self.forget(number);
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
    }

    /// This line is not needed any more.
    fn forget(&self, number: u64) {
        self.unsent.iter().for_each(|unsent| unsent.remove(number));
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
            true => (true, waiting.refused.iter().map(|it| &it.line).take(1).collect()),
            false => (false, waiting.lines.iter().map(|it| &it.text).take(limit).collect()),
        };
        let lines: Vec<&Arc<str>> = lines;
        let mut batch = Batch { first: waiting.first, count: 0, body: String::new(), is_retry };
        for line in lines {
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
            true => waiting.pop_retried(batch).iter().for_each(|it| self.forget(it.number)),
            false => {
                // Some may have made room meanwhile.
                while waiting.first < end
                    && let Some((number, _)) = waiting.pop()
                {
                    self.forget(number);
                }
            }
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
        let refused = match batch.is_retry {
            true => waiting.pop_retried(batch)?,
            false if waiting.first == batch.first => {
                let (number, line) = waiting.pop()?;
                Refused { number, line, written }
            }
            false => return None,
        };
        let is_dropped = refused.written < written;
        let dropped = is_dropped.then(|| self.counts.dropped.fetch_add(1, Relaxed) + 1);
        match is_dropped {
            true => self.forget(refused.number),
            false => {
                waiting.bytes += refused.line.len() + OVERHEAD;
                waiting.refused.push_back(refused);
            }
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

impl Default for Waiting {
    fn default() -> Self {
        let (lines, refused) = Default::default();
        Waiting { lines, first: unsent::FIRST, refused, bytes: 0, is_full: false }
    }
}

impl Waiting {
    fn len(&self) -> usize {
        self.lines.len() + self.refused.len()
    }

    /// Removes the first line that was not refused. Returns it with its number.
    fn pop(&mut self) -> Option<(u64, Arc<str>)> {
        let line = self.lines.pop_front()?.text;
        self.bytes -= line.len() + OVERHEAD;
        self.first += 1;
        Some((self.first - 1, line))
    }

    fn pop_refused(&mut self) -> Option<Refused> {
        let refused = self.refused.pop_front()?;
        self.bytes -= refused.line.len() + OVERHEAD;
        Some(refused)
    }

    /// Removes the line of this batch, unless it has made room.
    fn pop_retried(&mut self, batch: &Batch) -> Option<Refused> {
        let line = &self.refused.front()?.line;
        if batch.body.trim_end() == &**line { self.pop_refused() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::unsent::FIRST;

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
        assert_eq!((batch.first, batch.count, batch.body.lines().count()), (FIRST, 3, 3));
        // While the request was on its way, two of its lines made room.
        add(&queue, 0, length);
        add(&queue, second, length);
        assert_eq!(counts(&queue), (2, room as u64));
        queue.remove(&batch);
        assert_eq!((queue.first(), counts(&queue).1), (FIRST + 3, room as u64 - 1));
        // A batch is bounded by its size, too.
        assert_eq!(queue.batch(1000).unwrap().count, MAX_BATCH / (length + 1));
        let memory: usize = queue.lock().lines.iter().map(|it| it.text.len() + OVERHEAD).sum();
        assert_eq!(queue.lock().bytes, memory);
    }

    #[test]
    fn old_lines_are_dropped() {
        let (queue, second) = (Queue::default(), NOW.0 / 1000);
        // The clock was not set yet.
        queue.add(5, "early".into(), Millis(5000));
        add(&queue, second - unsent::MAX_AGE.as_secs(), 10);
        assert_eq!(counts(&queue), (1, 1));
        queue.remove(&queue.batch(9).unwrap());
        assert_eq!((queue.first(), counts(&queue)), (FIRST + 2, (1, 0)));
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
