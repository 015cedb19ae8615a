//! The events that wait for one service.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::event::Event;
use crate::model::Millis;

/// While the service is away, the oldest events make room for new ones.
const MAX_WAITING: usize = 50;
/// Older ones are of no use any more.
const MAX_AGE_MS: u64 = 24 * 3_600_000;

#[derive(Debug, Default)]
pub struct Outbox {
    waiting: Mutex<Waiting>,
    added: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Event>,
    /// Number of the first one; each event has a number.
    first: u64,
    /// Events that were dropped since the last message.
    left_out: u64,
}

/// The events of the next message.
#[derive(Debug)]
pub struct Batch {
    pub events: Vec<Event>,
    pub left_out: u64,
    /// Number of the event after the last one.
    end: u64,
}

impl Outbox {
    /// Returns how many events were dropped.
    pub fn add(&self, event: Event) -> u64 {
        let mut waiting = self.lock();
        waiting.events.push_back(event);
        let excess = waiting.events.len().saturating_sub(MAX_WAITING);
        let dropped = waiting.drop_first(excess);
        drop(waiting);
        self.added.notify_one();
        dropped
    }

    /// Waits until there is an event.
    pub async fn wait(&self) {
        while self.lock().events.is_empty() {
            self.added.notified().await;
        }
    }

    /// At most this many events, which stay in the outbox.
    pub fn batch(&self, limit: usize) -> Batch {
        let waiting = self.lock();
        let events: Vec<Event> = waiting.events.iter().take(limit).cloned().collect();
        let end = waiting.first + events.len() as u64;
        Batch { events, left_out: waiting.left_out, end }
    }

    /// The batch was delivered.
    pub fn remove(&self, batch: &Batch) {
        let mut waiting = self.lock();
        let left_out = waiting.left_out;
        let count = batch.end.saturating_sub(waiting.first);
        waiting.drop_first(usize::try_from(count).unwrap_or_default());
        waiting.left_out = left_out.saturating_sub(batch.left_out);
    }

    /// The batch will not be delivered. Returns how many events were dropped.
    pub fn discard(&self, batch: &Batch) -> u64 {
        let mut waiting = self.lock();
        let count = batch.end.saturating_sub(waiting.first);
        waiting.drop_first(usize::try_from(count).unwrap_or_default())
    }

    /// Drops events that are too old. Returns how many.
    pub fn expire(&self, now: Millis) -> u64 {
        let mut waiting = self.lock();
        let is_old = |event: &&Event| now.since(event.time) > MAX_AGE_MS;
        let count = waiting.events.iter().take_while(is_old).count();
        waiting.drop_first(count)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn drop_first(&mut self, count: usize) -> u64 {
        let count = self.events.drain(..count.min(self.events.len())).count() as u64;
        self.first += count;
        self.left_out += count;
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::notify::event::{EventKind, Level};

    fn event(number: u64) -> Event {
        Event::new(EventKind::Test, Level::Info, Millis(number), "")
    }

    fn times(batch: &Batch) -> Vec<u64> {
        batch.events.iter().map(|event| event.time.0).collect()
    }

    #[test]
    fn oldest_events_make_room_and_are_counted() {
        let outbox = Outbox::default();
        let dropped: u64 = (0..60).map(|number| outbox.add(event(number))).sum();
        assert_eq!(dropped, 10);
        let batch = outbox.batch(3);
        assert_eq!((times(&batch), batch.left_out), (vec![10, 11, 12], 10));
        // While the message was on its way, two of its events made room.
        outbox.add(event(60));
        outbox.add(event(61));
        outbox.remove(&batch);
        let batch = outbox.batch(100);
        assert_eq!((times(&batch)[0], batch.events.len(), batch.left_out), (13, 49, 2));
        outbox.remove(&batch);
        assert_eq!(outbox.batch(100).events.len(), 0);
        assert_eq!(outbox.batch(100).left_out, 0);
    }

    #[test]
    fn discarded_and_expired_events_are_counted() {
        let outbox = Outbox::default();
        (0..4).for_each(|number| {
            outbox.add(event(number * MAX_AGE_MS));
        });
        assert_eq!(outbox.discard(&outbox.batch(1)), 1);
        assert_eq!(outbox.expire(Millis(2 * MAX_AGE_MS + 1)), 1);
        let batch = outbox.batch(9);
        assert_eq!((batch.events.len(), batch.left_out), (2, 2));
    }

    #[tokio::test]
    async fn waits_for_an_event() {
        let outbox = Outbox::default();
        let wait = outbox.wait();
        tokio::pin!(wait);
        assert!(futures_util::poll!(&mut wait).is_pending());
        outbox.add(event(1));
        wait.await;
    }
}
