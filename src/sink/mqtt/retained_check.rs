//! Whether the broker sends retained messages to a subscription with wildcards. RabbitMQ does not, and
//! reports no error.
//!
//! Once per run, the program subscribes with a wildcard to its own `online`, after it was published.

use std::time::Duration;

use tokio::time::Instant;

/// A cluster may store retained messages with a delay.
const DELAY: Duration = Duration::from_secs(5);
/// Far longer than a broker takes that answers at all.
const LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetainedCheck {
    /// The subscription is due at this time.
    Due(Instant),
    /// Subscribed. A message that has not arrived by then is missing.
    Waiting(Instant),
    Done,
}

/// What to do when a step is due.
#[derive(Debug, PartialEq, Eq)]
pub enum RetainedStep {
    Subscribe,
    /// The message is missing.
    Report,
}

impl RetainedCheck {
    /// On a new connection. An unfinished check starts again, because its subscription is gone.
    pub fn restart(&mut self, now: Instant) {
        if *self != RetainedCheck::Done {
            *self = RetainedCheck::Due(now + DELAY);
        }
    }

    /// When the next step is due; `None` once the check is finished.
    pub fn next(self) -> Option<Instant> {
        match self {
            RetainedCheck::Due(time) | RetainedCheck::Waiting(time) => Some(time),
            RetainedCheck::Done => None,
        }
    }

    /// The message has arrived, or the broker rejected the subscription and shows nothing. False when
    /// there is no subscription to end.
    pub fn finish(&mut self) -> bool {
        let waiting = matches!(self, RetainedCheck::Waiting(_));
        if waiting {
            *self = RetainedCheck::Done;
        }
        waiting
    }

    pub fn advance(&mut self, now: Instant) -> RetainedStep {
        if self.finish() {
            return RetainedStep::Report;
        }
        *self = RetainedCheck::Waiting(now + LIMIT);
        RetainedStep::Subscribe
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_message_is_reported_once_per_run() {
        let start = Instant::now();
        let mut check = RetainedCheck::Due(start);
        check.restart(start);
        assert_eq!(check.next(), Some(start + DELAY));
        assert_eq!(check.advance(start), RetainedStep::Subscribe);
        assert_eq!(check.next(), Some(start + LIMIT));
        assert_eq!(check.advance(start), RetainedStep::Report);
        check.restart(start);
        assert_eq!(check.next(), None);
    }

    #[test]
    fn message_that_arrives_ends_the_check() {
        let start = Instant::now();
        let mut check = RetainedCheck::Due(start);
        assert!(!check.finish(), "from an earlier subscription");
        assert_eq!(check.advance(start), RetainedStep::Subscribe);
        assert!(check.finish());
        assert_eq!(check.next(), None);
    }

    #[test]
    fn lost_connection_starts_the_check_again() {
        let start = Instant::now();
        let mut check = RetainedCheck::Due(start);
        check.advance(start);
        check.restart(start);
        assert_eq!(check.advance(start), RetainedStep::Subscribe);
    }
}
