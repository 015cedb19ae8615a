//! What a [`Runner`](super::Runner) remembers from one cycle to the next.

use std::collections::VecDeque;

use crate::model::Reading;

/// Failures after which a request of [`Need::Once`](super::Need::Once), or one of
/// [`Need::Steady`](super::Need::Steady) without any reply, is not repeated in this session.
const MAX_FAILURES: usize = 2;

/// Requests are numbers.
#[derive(Debug, Default)]
pub(in crate::protocol) struct Session {
    /// Content of the replies to [`Need::Once`](super::Need::Once).
    pub(in crate::protocol) known: Reading,
    /// Requests that are answered or given up for the session.
    pub(in crate::protocol) closed: Vec<usize>,
    /// One entry for each failure of an optional request.
    failed: Vec<usize>,
    /// Requests of [`Need::Steady`](super::Need::Steady) that had a reply.
    pub(in crate::protocol) steady: Vec<usize>,
}

impl Session {
    fn failures(&self, query: usize) -> usize {
        self.failed.iter().filter(|&&failed| failed == query).count()
    }

    pub(in crate::protocol) fn note_reply(&mut self, query: usize) {
        if !self.steady.contains(&query) {
            self.steady.push(query);
            self.failed.retain(|failed| *failed != query);
        }
    }

    pub(in crate::protocol) fn note_failure(&mut self, query: usize, refused: bool) {
        self.failed.push(query);
        if refused || self.failures(query) >= MAX_FAILURES {
            self.closed.push(query);
        }
    }

    /// The requests of a plan that are open. Those that failed before come last, so that one without
    /// a reply does not keep the others from being sent.
    pub(in crate::protocol) fn open(&self, plan: &[usize]) -> VecDeque<usize> {
        let mut open: Vec<usize> =
            plan.iter().copied().filter(|query| !self.closed.contains(query)).collect();
        open.sort_by_key(|&query| self.failures(query));
        open.into()
    }
}
