//! The time of day. Modules that only compute take it as an argument.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::model::units::{Millis, millis};

/// The system time, which is in the past on a Raspberry Pi until NTP has set it.
pub fn now() -> Millis {
    Millis(millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()))
}
