//! What a [`Runner`](super::Runner) remembers from one cycle to the next.

use std::collections::VecDeque;

use crate::model::Reading;

/// Failures after which a request of [`Need::Once`](super::Need::Once), or one of
/// [`Need::Steady`](super::Need::Steady) without any reply, is not repeated in this session.
const MAX_FAILURES: usize = 2;

#[derive(Debug)]
pub(in crate::protocol) struct Session<Q> {
    /// Content of the replies to [`Need::Once`](super::Need::Once).
    pub(in crate::protocol) known: Reading,
    /// Requests that are answered or given up for the session.
    pub(in crate::protocol) closed: Vec<Q>,
    /// One entry for each failure of an optional request.
    failed: Vec<Q>,
    /// Requests of [`Need::Steady`](super::Need::Steady) that had a reply.
    pub(in crate::protocol) steady: Vec<Q>,
}

impl<Q> Default for Session<Q> {
    fn default() -> Self {
        Session {
            known: Reading::default(),
            closed: Vec::new(),
            failed: Vec::new(),
            steady: Vec::new(),
        }
    }
}

impl<Q: Copy + PartialEq> Session<Q> {
    fn failures(&self, query: Q) -> usize {
        self.failed.iter().filter(|&&failed| failed == query).count()
    }

    pub(in crate::protocol) fn note_reply(&mut self, query: Q) {
        if !self.steady.contains(&query) {
            self.steady.push(query);
            self.failed.retain(|failed| *failed != query);
        }
    }

    pub(in crate::protocol) fn note_failure(&mut self, query: Q, refused: bool) {
        self.failed.push(query);
        if refused || self.failures(query) >= MAX_FAILURES {
            self.closed.push(query);
        }
    }

    /// The requests of a plan that are open. Those that failed before come last, so that one without
    /// a reply does not keep the others from being sent.
    pub(in crate::protocol) fn open(&self, plan: &[Q]) -> VecDeque<Q> {
        let mut open: Vec<Q> =
            plan.iter().copied().filter(|query| !self.closed.contains(query)).collect();
        open.sort_by_key(|&query| self.failures(query));
        open.into()
    }
}
