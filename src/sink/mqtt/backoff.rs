//! How long to wait before the next connection. Random numbers and durations are passed in.

use std::time::Duration;

/// A connection that lasted at least this long resets the back-off.
const STABLE: Duration = Duration::from_secs(10);
/// This many short connections in a row are no accident.
const SUSPICIOUS: u32 = 3;

/// Pauses after a refused login, doubled each time.
const FIRST_REFUSAL: Duration = Duration::from_secs(5);
const LAST_REFUSAL: Duration = Duration::from_secs(60);

/// How a connection, or the attempt at one, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionEnd {
    Unreachable,
    LoginRefused,
    /// It was up for this long.
    Lost(Duration),
}

/// The failed attempts so far.
///
/// Retrying is cheap, and users expect values within five seconds of the broker's return, so the
/// steps stay small. A refused login is different: brokers log each one or lock the user out. The
/// first steps are still short, because a broker that starts may refuse before it knows its users.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    failures: u32,
    short_connections: u32,
    refusals: u32,
}

impl Backoff {
    /// Time from the start of the last attempt to the next one. `jitter` is in `0.0..1.0`; it keeps
    /// many clients from reconnecting at the same moment.
    pub fn next(&mut self, end: ConnectionEnd, jitter: f64) -> Duration {
        match end {
            ConnectionEnd::Lost(uptime) if uptime >= STABLE => *self = Backoff::default(),
            ConnectionEnd::Lost(_) => self.short_connections += 1,
            ConnectionEnd::Unreachable | ConnectionEnd::LoginRefused => {}
        }
        if matches!(end, ConnectionEnd::Lost(_)) {
            self.refusals = 0;
        }
        self.failures = self.failures.saturating_add(1);
        match end {
            ConnectionEnd::LoginRefused => {
                self.refusals = self.refusals.saturating_add(1);
                let step = FIRST_REFUSAL.saturating_mul(1 << (self.refusals - 1).min(8));
                step.min(LAST_REFUSAL).mul_f64(1.0 + jitter / 10.0)
            }
            _ => Duration::from_secs(self.failures.min(4).into()).mul_f64(1.0 - jitter / 2.0),
        }
    }

    /// Connections keep ending right after they were accepted, as they do when two clients use the
    /// same client id and the broker disconnects each in turn.
    pub fn suspects_duplicate_client(&self) -> bool {
        self.short_connections >= SUSPICIOUS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(backoff: &mut Backoff, end: ConnectionEnd) -> f64 {
        backoff.next(end, 0.0).as_secs_f64()
    }

    #[test]
    fn steps_grow_to_four_seconds_until_a_stable_connection() {
        let mut backoff = Backoff::default();
        let unreachable = ConnectionEnd::Unreachable;
        let steps: Vec<_> = (0..6).map(|_| seconds(&mut backoff, unreachable)).collect();
        assert_eq!(steps, [1.0, 2.0, 3.0, 4.0, 4.0, 4.0]);
        assert_eq!(seconds(&mut backoff, ConnectionEnd::Lost(STABLE)), 1.0);
    }

    #[test]
    fn refused_login_waits_from_five_seconds_to_a_minute() {
        let mut backoff = Backoff::default();
        let refused = ConnectionEnd::LoginRefused;
        let steps: Vec<_> = (0..6).map(|_| seconds(&mut backoff, refused)).collect();
        assert_eq!(steps, [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]);
        let wait = backoff.next(refused, 0.999);
        assert!(wait < Duration::from_secs(67), "{wait:?}");
        backoff.next(ConnectionEnd::Lost(STABLE), 0.0);
        assert_eq!(seconds(&mut backoff, refused), 5.0);
    }

    #[test]
    fn jitter_only_shortens_the_small_steps() {
        for jitter in [0.0, 0.3, 0.999] {
            let wait = Backoff::default().next(ConnectionEnd::Unreachable, jitter);
            assert!(wait >= Duration::from_millis(500) && wait <= Duration::from_secs(1));
        }
    }

    #[test]
    fn short_connections_in_a_row_suggest_a_duplicate_client() {
        let mut backoff = Backoff::default();
        let short = ConnectionEnd::Lost(Duration::from_millis(200));
        for _ in 0..SUSPICIOUS {
            assert!(!backoff.suspects_duplicate_client());
            backoff.next(short, 0.0);
        }
        assert!(backoff.suspects_duplicate_client());
        backoff.next(ConnectionEnd::Lost(STABLE), 0.0);
        assert!(!backoff.suspects_duplicate_client());
    }
}
