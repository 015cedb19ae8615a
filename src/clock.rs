//! The time of day. Rooms that compute are handed it; they never ask.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::model::units::Millis;

/// As the system knows it: a Raspberry Pi starts in the past, until it has asked the network.
pub fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
