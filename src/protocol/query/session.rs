//! What a [`Runner`](super::Runner) remembers from one cycle to the next.

use std::collections::VecDeque;

use crate::model::Reading;

/// Failures after which a request of [`Need::Once`](super::Need::Once), or one of
/// [`Need::Steady`](super::Need::Steady) without any reply, is given up.
const MAX_FAILURES: usize = 2;

/// After as many failed cycles in a row a request that once had a reply is optional again.
const MAX_STEADY_FAILURES: usize = 20;

/// After as many cycles what was given up is tried again, because noise may have been the reason.
const CYCLES_GIVEN_UP: usize = 100;
/// The same for what was refused, which takes no timeout.
const CYCLES_REFUSED: usize = 10;

/// Requests are numbers.
#[derive(Debug, Default)]
pub(in crate::protocol) struct Session {
    /// Content of the replies to [`Need::Once`](super::Need::Once).
    pub(in crate::protocol) known: Reading,
    /// Requests of [`Need::Once`](super::Need::Once) that had a reply.
    pub(in crate::protocol) closed: Vec<usize>,
    /// Requests, and how many cycles do without them.
    given_up: Vec<(usize, usize)>,
    /// One entry for each failure of an optional request.
    failed: Vec<usize>,
    /// Requests of [`Need::Steady`](super::Need::Steady) that had a reply, and how many cycles in a row
    /// have failed because of each since then.
    steady: Vec<(usize, usize)>,
}

impl Session {
    fn failures(&self, query: usize) -> usize {
        self.failed.iter().filter(|&&failed| failed == query).count()
    }

    /// For a new connection. Probably it leads to the same battery, so what had a reply stays required.
    pub(in crate::protocol) fn renew(&mut self) {
        let steady = std::mem::take(&mut self.steady);
        *self = Session { steady, ..Session::default() };
    }

    pub(in crate::protocol) fn is_steady(&self, query: usize) -> bool {
        self.steady.iter().any(|(it, _)| *it == query)
    }

    pub(in crate::protocol) fn note_reply(&mut self, query: usize) {
        match self.steady.iter_mut().find(|(it, _)| *it == query) {
            Some((_, failures)) => *failures = 0,
            None => {
                self.steady.push((query, 0));
                self.failed.retain(|failed| *failed != query);
            }
        }
    }

    /// A cycle has failed because of this request. The battery may be another one.
    pub(in crate::protocol) fn note_steady_failure(&mut self, query: usize) {
        self.steady.retain_mut(|(it, failures)| {
            *failures += usize::from(*it == query);
            *failures < MAX_STEADY_FAILURES
        });
    }

    pub(in crate::protocol) fn note_failure(&mut self, query: usize, refused: bool) {
        if self.failures(query) < MAX_FAILURES {
            self.failed.push(query);
        }
        if refused {
            self.given_up.push((query, CYCLES_REFUSED));
        } else if self.failures(query) >= MAX_FAILURES {
            self.given_up.push((query, CYCLES_GIVEN_UP));
        }
    }

    /// The requests of a plan that are open. Those that failed before come last, so that one without
    /// a reply does not keep the others from being sent.
    pub(in crate::protocol) fn open(&mut self, plan: &[usize]) -> VecDeque<usize> {
        let is_open = |query: &usize| {
            !self.closed.contains(query) && !self.given_up.iter().any(|(it, _)| it == query)
        };
        let mut open: Vec<usize> = plan.iter().copied().filter(is_open).collect();
        self.given_up.retain_mut(|(_, cycles)| {
            *cycles -= 1;
            *cycles > 0
        });
        open.sort_by_key(|&query| self.failures(query));
        open.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_up_request_is_tried_again() {
        let mut session = Session::default();
        session.note_failure(1, true);
        for _ in 0..CYCLES_REFUSED {
            assert_eq!(session.open(&[0, 1]), [0]);
        }
        assert_eq!(session.open(&[0, 1]), [0, 1]);
        session.note_failure(1, false);
        for _ in 0..CYCLES_GIVEN_UP {
            assert_eq!(session.open(&[0, 1]), [0], "its second failure");
        }
        assert_eq!(session.open(&[0, 1]), [0, 1]);
    }

    #[test]
    fn failures_take_no_more_memory_with_time() {
        let mut session = Session::default();
        for _ in 0..10 * CYCLES_GIVEN_UP {
            if session.open(&[1]).contains(&1) {
                session.note_failure(1, false);
            }
        }
        assert!(session.failed.len() + session.given_up.len() <= MAX_FAILURES + 1);
    }

    #[test]
    fn what_had_a_reply_stays_required_over_a_reconnect() {
        let mut session = Session::default();
        session.note_reply(1);
        session.renew();
        for _ in 1..MAX_STEADY_FAILURES {
            session.note_steady_failure(1);
        }
        assert!(session.is_steady(1));
        session.note_reply(1);
        for _ in 1..MAX_STEADY_FAILURES {
            session.note_steady_failure(1);
        }
        assert!(session.is_steady(1), "a reply starts again");
        session.note_steady_failure(1);
        assert!(!session.is_steady(1), "another battery");
    }
}
