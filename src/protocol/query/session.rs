//! What a [`Runner`](super::Runner) remembers from one cycle to the next.

use std::collections::VecDeque;

use crate::model::Reading;

/// Failures after which a question of [`Need::Once`](super::Need::Once), or one of
/// [`Need::Steady`](super::Need::Steady) that was never answered, is not asked again in this
/// session.
const FAILURES: usize = 2;

/// What is remembered from one cycle to the next.
#[derive(Debug)]
pub(in crate::protocol) struct Session<Q> {
    /// What the answers to [`Need::Once`](super::Need::Once) said.
    pub(in crate::protocol) known: Reading,
    /// Questions that are answered or refused: never asked again.
    pub(in crate::protocol) closed: Vec<Q>,
    /// One entry for each failure of a question that may stay without an answer.
    failed: Vec<Q>,
    /// Questions of [`Need::Steady`](super::Need::Steady) that were answered.
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

    pub(in crate::protocol) fn answered(&mut self, query: Q) {
        if !self.steady.contains(&query) {
            self.steady.push(query);
            self.failed.retain(|failed| *failed != query);
        }
    }

    pub(in crate::protocol) fn failure(&mut self, query: Q, refused: bool) {
        self.failed.push(query);
        if refused || self.failures(query) >= FAILURES {
            self.closed.push(query);
        }
    }

    /// The questions that are still open. Those that failed before come last, so that one that is
    /// never answered does not keep the others from being asked.
    pub(in crate::protocol) fn open(&self, plan: &[Q]) -> VecDeque<Q> {
        let mut open: Vec<Q> =
            plan.iter().copied().filter(|query| !self.closed.contains(query)).collect();
        open.sort_by_key(|&query| self.failures(query));
        open.into()
    }
}
