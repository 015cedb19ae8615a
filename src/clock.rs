//! The time of day, and a clock for ages. Modules that only compute take them as arguments.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

use crate::model::units::{Millis, Uptime, millis};

/// The system time, which is in the past on a Raspberry Pi until NTP has set it.
pub fn now() -> Millis {
    Millis(millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()))
}

/// Time since the machine was booted, for ages and lifetimes.
///
/// It also counts the time in suspend, during which `Instant` stands still, and it cannot be set.
pub fn uptime() -> Uptime {
    // Cannot fail: Linux has this clock since 2.6.39.
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from);
    Uptime(millis(time.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_is_that_of_the_kernel() {
        let seconds = |text: &str| text.split_once('.').and_then(|(whole, _)| whole.parse().ok());
        let before: u64 = seconds(&std::fs::read_to_string("/proc/uptime").unwrap()).unwrap();
        let between = uptime().0 / 1000;
        let after: u64 = seconds(&std::fs::read_to_string("/proc/uptime").unwrap()).unwrap();
        assert!((before..=after).contains(&between), "{before} {between} {after}");
    }
}
