//! How long a battery counts as online without a good read, and how long its values are current.

use std::time::Duration;

use super::units::{Uptime, millis};

/// Failed reads in a row after which a battery may be offline.
pub const MAX_FAILURES: u32 = 3;
/// A battery with a good read this recent is never offline: on a slow bus, the reads of a battery
/// with a short interval come late.
pub const GRACE_PERIOD: Duration = Duration::from_secs(30);
/// A process that did nothing for this long was stopped, or its machine slept.
pub const MAX_PAUSE: Duration = Duration::from_secs(10);

/// How long a reading stays valid when the next one is due after `interval`.
pub fn reading_lifetime(interval: Duration) -> Duration {
    interval.saturating_mul(MAX_FAILURES).max(GRACE_PERIOD)
}

/// Whether a wait that should have ended after `planned` was interrupted: the process was stopped, or its
/// machine slept.
pub fn is_interrupted(planned: Duration, began: Uptime, now: Uptime) -> bool {
    now.since(began) > millis(planned.saturating_add(MAX_PAUSE))
}

/// Whether a reading is too old to be published, shown or stored as the present state. Both times
/// are on the boot-time clock.
pub fn is_stale(read_at: Uptime, now: Uptime, interval: Duration) -> bool {
    now.since(read_at) > millis(reading_lifetime(interval))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_is_stale_after_three_intervals_and_half_a_minute() {
        let stale = |seconds: u64, interval| {
            is_stale(Uptime(5_000), Uptime(5_000 + seconds * 1000), Duration::from_secs(interval))
        };
        assert!(!stale(30, 1) && stale(31, 1));
        assert!(!stale(180, 60) && stale(181, 60));
        assert!(!is_stale(Uptime(9), Uptime(1), Duration::ZERO));
    }

    #[test]
    fn wait_that_took_ten_seconds_longer_was_interrupted() {
        let interrupted = |seconds: u64| {
            is_interrupted(Duration::from_secs(30), Uptime(5_000), Uptime(5_000 + seconds * 1000))
        };
        assert!(!interrupted(3) && !interrupted(40) && interrupted(41));
        assert!(!is_interrupted(Duration::MAX, Uptime(0), Uptime(u64::MAX)));
    }
}
