//! What is on its way to the broker, bounded by its size and by time. Pure: times are arguments.
//!
//! The system accepts megabytes for a socket. On a slow or stalled link they would arrive minutes
//! later, and old values would look current. Therefore the broker has to confirm what it received: a
//! PINGREQ follows the data, and its answer confirms everything before it. The amount that may be
//! unconfirmed follows the speed of the link.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::sink::mqtt::error::MqttError;

/// Unconfirmed bytes: a quarter of a minute at 140 bytes/s, and a large pack at once.
const WINDOWS: std::ops::RangeInclusive<u64> = 2048..=65_536;
/// A window that is confirmed faster is doubled, a slower one is halved.
const FAST: Duration = Duration::from_secs(1);
const SLOW: Duration = Duration::from_secs(3);
/// A broker that sends nothing for this long while an answer is due is gone. Any byte counts.
const MAX_SILENCE: Duration = Duration::from_secs(10);
/// A short keep-alive shortens it, but not below this.
const MIN_SILENCE: Duration = Duration::from_secs(2);
/// An answer that takes longer never comes, whatever else the broker sends.
const MAX_DELAY: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Flow {
    keep_alive: Duration,
    /// Messages that may wait for their acknowledgement.
    max_inflight: usize,
    /// Bytes since the start of the connection.
    sent: u64,
    confirmed: u64,
    window: u64,
    /// The unanswered PINGREQ: how much was sent before it, and when.
    marker: Option<(u64, Instant)>,
    last_sent: Instant,
    last_received: Instant,
    /// Packets by their id: their number on this connection, and when they were sent.
    unacknowledged: BTreeMap<u16, (u64, Instant)>,
    last_id: u16,
    last_number: u64,
}

impl Flow {
    pub fn new(keep_alive: Duration, max_inflight: usize, now: Instant) -> Self {
        Flow {
            keep_alive,
            max_inflight,
            sent: 0,
            confirmed: 0,
            window: *WINDOWS.end() / 4,
            marker: None,
            last_sent: now,
            last_received: now,
            unacknowledged: BTreeMap::new(),
            last_id: 0,
            last_number: 0,
        }
    }

    pub fn has_room(&self) -> bool {
        self.sent - self.confirmed < self.window && self.unacknowledged.len() < self.max_inflight
    }

    /// The number of the last packet that the broker acknowledges.
    pub fn last_number(&self) -> u64 {
        self.last_number
    }

    /// Whether the packets up to this number are acknowledged.
    pub fn is_acknowledged(&self, number: u64) -> bool {
        self.unacknowledged.values().all(|(waiting, _)| *waiting > number)
    }

    /// Bytes on this connection.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether the broker has received this many bytes.
    pub fn is_received(&self, bytes: u64) -> bool {
        self.confirmed >= bytes
    }

    pub fn unacknowledged(&self) -> usize {
        self.unacknowledged.len()
    }

    /// A free id for a packet that the broker acknowledges.
    pub fn packet_id(&mut self, now: Instant) -> u16 {
        let next = |id: u16| id.checked_add(1).unwrap_or(1);
        self.last_id = next(self.last_id);
        while self.unacknowledged.contains_key(&self.last_id) {
            self.last_id = next(self.last_id);
        }
        self.last_number += 1;
        self.unacknowledged.insert(self.last_id, (self.last_number, now));
        self.last_id
    }

    pub fn acknowledge(&mut self, id: u16) {
        self.unacknowledged.remove(&id);
    }

    pub fn send(&mut self, bytes: usize, now: Instant) {
        self.sent += bytes as u64;
        self.last_sent = now;
    }

    pub fn receive(&mut self, now: Instant) {
        self.last_received = now;
    }

    /// Whether a PINGREQ has to be sent, which the caller then does.
    pub fn mark_if_due(&mut self, now: Instant) -> bool {
        let unconfirmed = self.sent > self.confirmed;
        let idle = now.duration_since(self.last_sent) >= self.keep_alive / 2;
        let due = self.marker.is_none() && (unconfirmed || idle);
        if due {
            self.marker = Some((self.sent, now));
            self.last_sent = now;
        }
        due
    }

    /// The PINGREQ was answered.
    pub fn confirm(&mut self, now: Instant) {
        let Some((sent, since)) = self.marker.take() else { return };
        self.confirmed = sent;
        let took = now.duration_since(since);
        let window = match took {
            _ if took < FAST => self.window * 2,
            _ if took > SLOW => self.window / 2,
            _ => self.window,
        };
        self.window = window.clamp(*WINDOWS.start(), *WINDOWS.end());
    }

    /// Since when an answer is due.
    fn waiting_since(&self) -> Option<Instant> {
        let marker = self.marker.map(|(_, since)| since);
        self.unacknowledged.values().map(|(_, since)| *since).chain(marker).min()
    }

    fn max_silence(&self) -> Duration {
        (self.keep_alive / 2).clamp(MIN_SILENCE, MAX_SILENCE)
    }

    pub fn check(&self, now: Instant) -> Result<(), MqttError> {
        let Some(since) = self.waiting_since() else { return Ok(()) };
        if now.duration_since(since.max(self.last_received)) >= self.max_silence() {
            return Err(MqttError::Silent);
        }
        if now.duration_since(since) >= MAX_DELAY { Err(MqttError::Stalled) } else { Ok(()) }
    }

    /// When to call [`Flow::mark_if_due`] and [`Flow::check`] again.
    pub fn next_check(&self) -> Instant {
        let silence = |since: Instant| since.max(self.last_received) + self.max_silence();
        let waiting = self.waiting_since().map(|since| silence(since).min(since + MAX_DELAY));
        waiting.unwrap_or(self.last_sent + self.keep_alive / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::mqtt::limits::MAX_INFLIGHT;

    const SECOND: Duration = Duration::from_secs(1);

    fn flow(now: Instant) -> Flow {
        Flow::new(SECOND * 60, MAX_INFLIGHT, now)
    }

    /// A link with this speed in bytes/s: the longest time that a byte is unconfirmed.
    fn longest_delay(speed: u64) -> Duration {
        let mut now = Instant::now();
        let (mut flow, mut longest) = (flow(now), Duration::ZERO);
        for round in 0..50 {
            let mut bytes = 0;
            while flow.has_room() {
                flow.send(100, now);
                bytes += 100;
            }
            assert!(flow.mark_if_due(now) && !flow.mark_if_due(now));
            let took = Duration::from_millis(bytes * 1000 / speed);
            now += took;
            flow.receive(now);
            flow.confirm(now);
            if round > 5 {
                longest = longest.max(took);
            }
        }
        longest
    }

    #[test]
    fn window_follows_the_speed_of_the_link() {
        for speed in [300, 3000, 30_000, 3_000_000] {
            let delay = longest_delay(speed);
            assert!(delay < SECOND * 8, "{delay:?} at {speed} bytes/s");
        }
        assert_eq!(flow_window(3_000_000), *WINDOWS.end());
    }

    fn flow_window(speed: u64) -> u64 {
        let now = Instant::now();
        let mut flow = flow(now);
        for _ in 0..9 {
            flow.send(1000, now);
            flow.mark_if_due(now);
            flow.confirm(now + Duration::from_millis(1_000_000 / speed));
        }
        flow.window
    }

    #[test]
    fn silence_ends_the_connection_and_any_byte_prolongs_it() {
        let start = Instant::now();
        let mut flow = flow(start);
        assert!(flow.check(start + SECOND * 1000).is_ok(), "no answer is due");
        flow.send(10, start);
        flow.mark_if_due(start);
        assert!(flow.check(start + SECOND * 9).is_ok());
        assert!(matches!(flow.check(start + SECOND * 10), Err(MqttError::Silent)));
        flow.receive(start + SECOND * 9);
        assert!(flow.check(start + SECOND * 18).is_ok());
        assert_eq!(flow.next_check(), start + SECOND * 19);
        flow.receive(start + SECOND * 29);
        assert!(matches!(flow.check(start + SECOND * 30), Err(MqttError::Stalled)));
    }

    #[test]
    fn idle_connection_is_probed_within_the_keep_alive() {
        let start = Instant::now();
        let mut flow = flow(start);
        assert_eq!(flow.next_check(), start + SECOND * 30);
        assert!(!flow.mark_if_due(start + SECOND * 29));
        assert!(flow.mark_if_due(start + SECOND * 30));
        flow.confirm(start + SECOND * 31);
        assert!(flow.check(start + SECOND * 50).is_ok());
        assert!(flow.mark_if_due(start + SECOND * 60));
    }

    #[test]
    fn packet_ids_are_free_and_never_zero() {
        let now = Instant::now();
        let mut flow = flow(now);
        let first = flow.packet_id(now);
        for _ in 0..70_000 {
            let id = flow.packet_id(now);
            assert!(id != 0 && id != first);
            flow.acknowledge(id);
        }
        assert!(!flow.is_acknowledged(1) && flow.is_acknowledged(0));
        flow.acknowledge(first);
        assert!(flow.is_acknowledged(flow.last_number()));
    }
}
