//! How long to wait before the next connection. Pure: random numbers and clocks come from outside.

use std::time::Duration;

/// A connection that lived at least this long was a good one.
const STABLE: Duration = Duration::from_secs(10);
/// So many short lives in a row are no accident.
const SUSPICIOUS: u32 = 3;

/// How a connection ended, or why none came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Nobody there, or nobody who speaks MQTT.
    Unreachable,
    /// The broker does not want us; only the operator can change that.
    Denied,
    /// It was up for so long.
    Lost(Duration),
}

/// Remembers how it went so far.
///
/// Trying costs next to nothing, and people expect their values within five seconds after their
/// broker is back, so the steps stay small. A refused log-in is different: brokers write each one
/// into their log or lock the user out.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    failures: u32,
    short_lives: u32,
}

impl Backoff {
    /// Time from the start of the last try to the next one. `chance` lies in `0.0..1.0`; it keeps
    /// a house full of clients from coming back in step.
    pub fn next(&mut self, ending: Ending, chance: f64) -> Duration {
        match ending {
            Ending::Lost(lived) if lived >= STABLE => *self = Backoff::default(),
            Ending::Lost(_) => self.short_lives += 1,
            Ending::Unreachable | Ending::Denied => {}
        }
        self.failures = self.failures.saturating_add(1);
        match ending {
            Ending::Denied => Duration::from_secs(60).mul_f64(1.0 + chance / 10.0),
            _ => Duration::from_secs(self.failures.min(4).into()).mul_f64(1.0 - chance / 2.0),
        }
    }

    /// Whether connections break again and again right after they came about, as they do when two
    /// programs use one client id and throw each other out.
    pub fn suspects_rival(&self) -> bool {
        self.short_lives >= SUSPICIOUS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(backoff: &mut Backoff, ending: Ending) -> f64 {
        backoff.next(ending, 0.0).as_secs_f64()
    }

    #[test]
    fn steps_grow_to_four_seconds_and_start_again_after_a_stable_connection() {
        let mut backoff = Backoff::default();
        let steps: Vec<_> = (0..6).map(|_| seconds(&mut backoff, Ending::Unreachable)).collect();
        assert_eq!(steps, [1.0, 2.0, 3.0, 4.0, 4.0, 4.0]);
        assert_eq!(seconds(&mut backoff, Ending::Lost(STABLE)), 1.0);
    }

    #[test]
    fn a_refused_login_is_left_alone_for_a_minute() {
        let mut backoff = Backoff::default();
        for chance in [0.0, 0.5, 0.999] {
            let wait = backoff.next(Ending::Denied, chance);
            assert!(wait >= Duration::from_secs(60) && wait < Duration::from_secs(67), "{wait:?}");
        }
    }

    #[test]
    fn chance_only_shortens_the_small_steps() {
        for chance in [0.0, 0.3, 0.999] {
            let wait = Backoff::default().next(Ending::Unreachable, chance);
            assert!(wait >= Duration::from_millis(500) && wait <= Duration::from_secs(1));
        }
    }

    #[test]
    fn short_lives_in_a_row_are_suspicious() {
        let mut backoff = Backoff::default();
        let short = Ending::Lost(Duration::from_millis(200));
        for _ in 0..SUSPICIOUS {
            assert!(!backoff.suspects_rival());
            backoff.next(short, 0.0);
        }
        assert!(backoff.suspects_rival());
        backoff.next(Ending::Lost(STABLE), 0.0);
        assert!(!backoff.suspects_rival());
    }
}
