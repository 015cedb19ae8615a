//! The time of day, and a clock for ages. Modules that only compute take them as arguments.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

use crate::model::units::{Millis, Uptime, millis};

/// The system time, which is in the past on a Raspberry Pi until NTP has set it.
pub fn now() -> Millis {
    Millis(millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()))
}

/// It also counts the time in suspend, during which `Instant` stands still, and it cannot be set.
const AGE_CLOCK: ClockId = ClockId::CLOCK_BOOTTIME;

/// Time since the machine was booted, for ages and lifetimes.
pub fn uptime() -> Uptime {
    // Cannot fail: Linux has this clock since 2.6.39.
    let time = clock_gettime(AGE_CLOCK).map(Duration::from);
    Uptime(millis(time.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn uptime_is_that_of_the_kernel() {
        let seconds = |text: &str| text.split_once('.').and_then(|(whole, _)| whole.parse().ok());
        let before: u64 = seconds(&std::fs::read_to_string("/proc/uptime").unwrap()).unwrap();
        let between = uptime().0 / 1000;
        let after: u64 = seconds(&std::fs::read_to_string("/proc/uptime").unwrap()).unwrap();
        assert!((before..=after).contains(&between), "{before} {between} {after}");
    }

    /// In a namespace whose clock of all time since the boot is a day ahead of the one that stands
    /// still in suspend. Only there do they differ on a machine that never slept.
    #[test]
    fn uptime_counts_the_time_in_suspend() {
        const DAY: &str = "86400";
        let difference = || {
            let seconds = |id| clock_gettime(id).map(|time| time.tv_sec()).unwrap();
            seconds(ClockId::CLOCK_BOOTTIME) - seconds(ClockId::CLOCK_MONOTONIC)
        };
        if difference() > 60 {
            return uptime_is_that_of_the_kernel();
        }
        let namespace = |program: &std::path::Path| {
            let mut command = Command::new("unshare");
            command.args(["--map-root-user", "--time", "--boottime", DAY]).arg(program);
            command
        };
        if !namespace("true".as_ref()).status().is_ok_and(|status| status.success()) {
            assert_eq!(AGE_CLOCK, ClockId::CLOCK_BOOTTIME);
            return;
        }
        let mut test = namespace(&std::env::current_exe().unwrap());
        let output = test.args(["--exact", "clock::tests::uptime_counts_the_time_in_suspend"]);
        let output = output.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}
