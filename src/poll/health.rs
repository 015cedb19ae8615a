//! When a battery is online, when it is due, and which changes are logged. Pure:
//! the time is an argument.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::{FaultKind, staleness};

/// Decides when failed reads amount to "offline".
#[derive(Debug)]
pub struct Health {
    /// Failed reads since the last good one.
    consecutive: u32,
    /// The last good read, or the start.
    last_success: Instant,
    has_answered: bool,
    /// `None` until decided for the first time.
    online: Option<bool>,
    /// Kinds of failures that are in the log since the last good read.
    reported: Vec<FaultKind>,
}

/// What an attempt changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthChange {
    None,
    /// The first good read since the start.
    First,
    /// The first good read after this many failed ones in this time.
    Recovered(u32, Duration),
    /// A kind of failure that is new since the last good read.
    Failing,
    /// The battery counts as offline from now on, after this many failed reads.
    Offline(u32),
}

impl Health {
    pub fn new(now: Instant) -> Self {
        Health {
            consecutive: 0,
            last_success: now,
            has_answered: false,
            online: None,
            reported: Vec::new(),
        }
    }

    pub fn is_offline(&self) -> bool {
        self.online == Some(false)
    }

    pub fn succeed(&mut self, now: Instant) -> HealthChange {
        let change = match (self.has_answered, self.online, self.reported.is_empty()) {
            (false, ..) => HealthChange::First,
            (true, Some(true), true) => HealthChange::None,
            _ => HealthChange::Recovered(self.consecutive, now - self.last_success),
        };
        *self = Health { has_answered: true, online: Some(true), ..Health::new(now) };
        change
    }

    /// Counts a failed read. The first failure of a battery that is online is not reported.
    pub fn fail(&mut self, kind: FaultKind, now: Instant) -> HealthChange {
        self.consecutive = self.consecutive.saturating_add(1);
        let often = self.consecutive >= staleness::MAX_FAILURES;
        let late = often && now - self.last_success >= staleness::GRACE_PERIOD;
        if late && !self.is_offline() {
            self.online = Some(false);
            self.reported.push(kind);
            return HealthChange::Offline(self.consecutive);
        }
        let reportable = self.consecutive > 1 || self.online != Some(true);
        if reportable && !self.reported.contains(&kind) {
            self.reported.push(kind);
            return HealthChange::Failing;
        }
        HealthChange::None
    }

    pub fn pause(&mut self) {
        self.online = Some(false);
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
        assert_eq!(health.succeed(start), HealthChange::First);
        assert_eq!(health.fail(FaultKind::Timeout, start + SECOND), HealthChange::None);
        assert_eq!(health.fail(FaultKind::Timeout, start + SECOND * 2), HealthChange::Failing);
        assert_eq!(health.fail(FaultKind::Timeout, start + SECOND * 29), HealthChange::None);
        assert!(!health.is_offline());
        assert_eq!(health.fail(FaultKind::Timeout, start + SECOND * 30), HealthChange::Offline(4));
        assert_eq!(health.fail(FaultKind::Timeout, start + SECOND * 31), HealthChange::None);
        assert!(health.is_offline());
        assert_eq!(health.succeed(start + SECOND * 40), HealthChange::Recovered(5, SECOND * 40));
        assert_eq!(health.consecutive, 0);

        let slow = start + SECOND * 40;
        assert_eq!(health.fail(FaultKind::Timeout, slow + SECOND * 60), HealthChange::None);
        assert_eq!(health.fail(FaultKind::Timeout, slow + SECOND * 120), HealthChange::Failing);
        assert!(!health.is_offline());
    }

    #[test]
    fn single_failures_never_add_up_to_offline() {
        let start = Instant::now();
        let mut health = Health::new(start);
        for minute in 0..100 {
            let now = start + SECOND * 60 * minute;
            health.succeed(now);
            assert_eq!(health.fail(FaultKind::BadChecksum, now + SECOND * 31), HealthChange::None);
        }
        assert!(!health.is_offline());
    }

    #[test]
    fn each_kind_of_failure_is_reported_once_per_outage() {
        let start = Instant::now();
        let mut health = Health::new(start);
        for answer in [HealthChange::First, HealthChange::Recovered(5, Duration::ZERO)] {
            health.fail(FaultKind::Disconnected, start);
            assert_eq!(health.fail(FaultKind::Timeout, start), HealthChange::Failing);
            assert_eq!(health.fail(FaultKind::BadChecksum, start), HealthChange::Failing);
            assert_eq!(health.fail(FaultKind::Timeout, start), HealthChange::None);
            assert_eq!(health.fail(FaultKind::BadChecksum, start), HealthChange::None);
            assert_eq!(health.succeed(start), answer);
            assert_eq!(health.succeed(start), HealthChange::None);
        }
    }

    #[test]
    fn late_cycle_is_skipped_and_the_schedule_is_kept() {
        let due = Instant::now();
        assert_eq!(next_due(due, SECOND * 10, due + SECOND), due + SECOND * 10);
        assert_eq!(next_due(due, SECOND * 10, due + SECOND * 25), due + SECOND * 30);
        assert_eq!(next_due(due, SECOND * 10, due + SECOND * 10), due + SECOND * 20);
    }
}
