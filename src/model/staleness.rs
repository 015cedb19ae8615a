//! How long a battery counts as online without a good read.

use std::time::Duration;

/// Failed reads in a row after which a battery may be offline.
pub const MAX_FAILURES: u32 = 3;
/// A battery with a good read this recent is never offline: on a slow bus, the reads of a battery
/// with a short interval come late.
pub const GRACE_PERIOD: Duration = Duration::from_secs(30);

/// How long a reading stays valid when the next one is due after `interval`.
pub fn reading_lifetime(interval: Duration) -> Duration {
    interval.saturating_mul(MAX_FAILURES).max(GRACE_PERIOD)
}
