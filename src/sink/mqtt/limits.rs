//! The limits of everything that arrives from the broker: size, number and rate.
//!
//! Anyone who may publish at the broker can retain any message on any topic that this program
//! subscribes to, and can publish as fast as the network allows. Whatever exceeds a limit is dropped
//! with one line in the log, and nothing else changes.

use std::time::Duration;

use super::topics;
use crate::model::Uptime;

/// Longest outgoing packet in bytes: several times the `raw` of the largest known stack.
pub const MAX_PACKET: usize = 1024 * 1024;
/// Longest incoming packet other than a message: the acknowledgement of all subscriptions.
pub const MAX_CONTROL_PACKET: usize = 64 * 1024;

/// Longest properties of a message of MQTT 5 in bytes.
pub const MAX_PROPERTIES: usize = 4096;
/// Own messages that wait for their acknowledgement.
pub const MAX_INFLIGHT: usize = 200;

/// Longest payloads in bytes.
/// The discovery of a device with 400 cells takes half of it.
pub const MAX_ANNOUNCEMENT: usize = 256 * 1024;
/// Far more than all fields of `cmd/config` need.
pub const MAX_COMMAND: usize = 4096;
/// Settings of all batteries.
pub const MAX_REMOTE_CONFIG: usize = 64 * 1024;
pub const MAX_ALARM_LIST: usize = 64 * 1024;
/// Counters, birth message and echo.
pub const MAX_SHORT: usize = 64;

/// Retained messages of one battery that are read after connecting, in bytes.
pub const MAX_RETAINED: usize = 1024 * 1024;
/// All retained messages that `remove` looks at, in bytes.
pub const MAX_COLLECTED: usize = 32 * 1024 * 1024;
/// Entities of one battery that earlier runs announced.
pub const MAX_ANNOUNCED: usize = 4096;
/// Alarms of one battery in the retained list.
pub const MAX_ALARMS: usize = 256;
/// Length of a text in that list.
pub const MAX_ALARM_TEXT: usize = 512;

/// How often something may happen: this many times at once, then once per interval.
#[derive(Debug, Clone, Copy)]
pub struct RateLimit {
    pub burst: u32,
    pub interval: Duration,
}

/// Forced reads of one battery. Each takes time on a bus that other batteries share.
pub const READS: RateLimit = RateLimit { burst: 5, interval: Duration::from_secs(2) };
/// Other commands of one battery, or of the program itself, valid or not. Each has a reply.
pub const COMMANDS: RateLimit = RateLimit { burst: 10, interval: Duration::from_secs(1) };
/// The program runs this long before a command may restart it.
pub const MIN_RUN: Duration = Duration::from_secs(60);
/// Lines of one kind in the log.
pub const LOG_LINES: RateLimit = RateLimit { burst: 3, interval: Duration::from_secs(60) };
/// Complete publications because Home Assistant reports its start.
pub const BIRTH_INTERVAL: Duration = Duration::from_secs(10);

/// The longest payload of a topic below the base topic of a battery.
pub fn max_payload(key: &str) -> usize {
    match key {
        topics::ALARMS => MAX_ALARM_LIST,
        topics::ENERGY_CHARGED | topics::ENERGY_DISCHARGED => MAX_SHORT,
        _ => MAX_COMMAND,
    }
}

/// Counts down a [`RateLimit`].
#[derive(Debug, Clone)]
pub struct Rate {
    limit: RateLimit,
    /// Refills with time, up to the whole burst.
    credit: Duration,
    last: Uptime,
    /// How many were refused in a row.
    refused: u64,
}

impl Rate {
    pub fn new(limit: RateLimit) -> Self {
        let credit = limit.interval * limit.burst;
        Rate { limit, credit, last: Uptime(0), refused: 0 }
    }

    /// The number of those that were refused since the last one; `None` when this one is refused, too.
    pub fn admit(&mut self, now: Uptime) -> Option<u64> {
        let RateLimit { burst, interval } = self.limit;
        let refill = Duration::from_millis(now.since(self.last));
        self.last = now;
        let credit = self.credit.saturating_add(refill).min(interval * burst);
        let rest = credit.checked_sub(interval);
        self.credit = rest.unwrap_or(credit);
        match rest {
            Some(_) => Some(std::mem::take(&mut self.refused)),
            None => {
                self.refused += 1;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_is_admitted_and_then_one_per_interval() {
        let limit = RateLimit { burst: 3, interval: Duration::from_secs(2) };
        let mut rate = Rate::new(limit);
        let start = 1_000_000;
        let mut admitted = |ms: u64| rate.admit(Uptime(start + ms));
        assert_eq!([0, 1, 2, 3].map(&mut admitted), [Some(0), Some(0), Some(0), None]);
        assert_eq!([1000, 2000, 2001, 3999].map(&mut admitted), [None, Some(2), None, None]);
        assert_eq!(admitted(4000), Some(2));
        assert_eq!([60_000; 4].map(&mut admitted), [Some(0), Some(0), Some(0), None]);
    }

    #[test]
    fn flood_is_limited_however_long_it_lasts() {
        let mut rate = Rate::new(READS);
        let admitted = (0..60_000).filter(|ms| rate.admit(Uptime(1_000_000 + ms)).is_some());
        assert_eq!(admitted.count(), 5 + 29);
    }
}
