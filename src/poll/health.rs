//! Whether a battery counts as online, when a port is tried again, what is worth a line in the
//! log. Pure: the time is an argument.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::{FaultKind, LinkState};
use crate::random::random;

/// Counts failures in a row and decides when they amount to "offline".
#[derive(Debug)]
pub struct Health {
    consecutive: u32,
    /// The last good read, or the start.
    good: Instant,
    /// It has answered since the start.
    heard: bool,
    online: Option<bool>,
    told: Vec<FaultKind>,
}

/// What an attempt changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing that people need to know.
    None,
    /// The first good read since the start.
    First,
    /// It answers again, after so many failed reads and this long.
    Back(u32, Duration),
    /// It fails in a way that was not told yet in this outage.
    Failing,
    /// It counts as offline from now on.
    Offline,
}

impl Health {
    /// Nothing is known yet.
    pub fn new(now: Instant) -> Self {
        Health { consecutive: 0, good: now, heard: false, online: None, told: Vec::new() }
    }

    /// Failed reads since the last good one.
    pub fn consecutive(&self) -> u32 {
        self.consecutive
    }

    /// `None` until it is decided for the first time.
    pub fn online(&self) -> Option<bool> {
        self.online
    }

    /// A good read.
    pub fn succeed(&mut self, now: Instant) -> Change {
        let change = match (self.heard, self.online, self.told.is_empty()) {
            (false, ..) => Change::First,
            (true, Some(true), true) => Change::None,
            _ => Change::Back(self.consecutive, now - self.good),
        };
        *self = Health { heard: true, online: Some(true), ..Health::new(now) };
        change
    }

    /// A failed read. One lost answer on a battery that is online is not worth a word; the second
    /// in a row is.
    pub fn fail(&mut self, kind: FaultKind, now: Instant) -> Change {
        self.consecutive = self.consecutive.saturating_add(1);
        let often = self.consecutive >= LinkState::FAILURES;
        let late = often && now - self.good >= LinkState::GRACE;
        if late && self.online != Some(false) {
            self.online = Some(false);
            self.told.push(kind);
            return Change::Offline;
        }
        let worth_a_word = self.consecutive > 1 || self.online != Some(true);
        if worth_a_word && !self.told.contains(&kind) {
            self.told.push(kind);
            return Change::Failing;
        }
        Change::None
    }

    /// Taken out of service on purpose.
    pub fn pause(&mut self) {
        self.online = Some(false);
    }
}

/// Growing pauses between tries, with jitter so that many lines do not knock together.
#[derive(Debug, Clone)]
pub struct Backoff {
    pauses: &'static [Duration],
    tries: usize,
}

impl Backoff {
    /// These pauses, one after the other; the last one from then on.
    pub fn new(pauses: &'static [Duration]) -> Self {
        Backoff { pauses, tries: 0 }
    }

    /// The next pause: between three quarters and the whole of the nominal one.
    pub fn pause(&mut self) -> Duration {
        let last = self.pauses.last().copied().unwrap_or_default();
        let nominal = self.pauses.get(self.tries).copied().unwrap_or(last);
        self.tries = self.tries.saturating_add(1);
        nominal.mul_f64(0.75 + 0.25 * random())
    }

    /// Pauses since all was well.
    pub fn tries(&self) -> usize {
        self.tries
    }

    /// All is well again.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

/// The next time a battery is due: whole intervals after the last one, in the future. A late cycle
/// is skipped, never queued.
pub fn next_due(due: Instant, interval: Duration, now: Instant) -> Instant {
    let next = due + interval;
    if next > now {
        return next;
    }
    let behind = (now - due).as_nanos() % interval.as_nanos().max(1);
    now + interval.saturating_sub(Duration::from_nanos(u64::try_from(behind).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn offline_needs_three_failures_and_thirty_seconds() {
        let start = Instant::now();
        let mut health = Health::new(start);
        assert_eq!(health.succeed(start), Change::First);
        assert_eq!(health.fail(FaultKind::Timeout, start + SECOND), Change::None);
        assert_eq!(health.fail(FaultKind::Timeout, start + SECOND * 2), Change::Failing);
        assert_eq!(health.fail(FaultKind::Timeout, start + SECOND * 29), Change::None);
        assert_eq!(health.online(), Some(true));
        assert_eq!(health.fail(FaultKind::Timeout, start + SECOND * 30), Change::Offline);
        assert_eq!(health.fail(FaultKind::Timeout, start + SECOND * 31), Change::None);
        assert_eq!(health.online(), Some(false));
        assert_eq!(health.succeed(start + SECOND * 40), Change::Back(5, SECOND * 40));
        assert_eq!(health.consecutive(), 0);

        let slow = start + SECOND * 40;
        assert_eq!(health.fail(FaultKind::Timeout, slow + SECOND * 60), Change::None);
        assert_eq!(health.fail(FaultKind::Timeout, slow + SECOND * 120), Change::Failing);
        assert_eq!(health.online(), Some(true));
    }

    #[test]
    fn failures_that_are_not_in_a_row_never_add_up() {
        let start = Instant::now();
        let mut health = Health::new(start);
        for minute in 0..100 {
            let now = start + SECOND * 60 * minute;
            assert_ne!(health.succeed(now), Change::Offline);
            assert_eq!(health.fail(FaultKind::BadChecksum, now + SECOND * 31), Change::None);
        }
        assert_eq!(health.online(), Some(true));
    }

    #[test]
    fn each_kind_of_failure_is_told_once_in_an_outage() {
        let start = Instant::now();
        let mut health = Health::new(start);
        for answer in [Change::First, Change::Back(5, Duration::ZERO)] {
            health.fail(FaultKind::Disconnected, start);
            assert_eq!(health.fail(FaultKind::Timeout, start), Change::Failing);
            assert_eq!(health.fail(FaultKind::BadChecksum, start), Change::Failing);
            assert_eq!(health.fail(FaultKind::Timeout, start), Change::None);
            assert_eq!(health.fail(FaultKind::BadChecksum, start), Change::None);
            assert_eq!(health.succeed(start), answer);
            assert_eq!(health.succeed(start), Change::None);
        }
    }

    #[test]
    fn pauses_grow_to_the_longest_and_start_over() {
        const PAUSES: &[Duration] = &[SECOND, Duration::from_secs(5), Duration::from_secs(60)];
        let mut backoff = Backoff::new(PAUSES);
        let pauses: Vec<_> = (0..40).map(|_| backoff.pause()).collect();
        for (tries, pause) in pauses.iter().enumerate() {
            let nominal = PAUSES[tries.min(2)];
            assert!(*pause <= nominal && *pause >= nominal.mul_f64(0.75), "{tries}: {pause:?}");
        }
        assert_eq!(backoff.tries(), 40);
        assert!(pauses[20..].windows(2).any(|pair| pair[0] != pair[1]), "no jitter");
        backoff.reset();
        assert!(backoff.pause() <= SECOND);
    }

    #[test]
    fn late_cycles_are_skipped_and_the_beat_is_kept() {
        let due = Instant::now();
        assert_eq!(next_due(due, SECOND * 10, due + SECOND), due + SECOND * 10);
        assert_eq!(next_due(due, SECOND * 10, due + SECOND * 25), due + SECOND * 30);
        assert_eq!(next_due(due, SECOND * 10, due + SECOND * 10), due + SECOND * 20);
    }
}
