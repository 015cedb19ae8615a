//! The easy way to write a driver: a list of questions with one framed answer each.

use std::fmt::Debug;
use std::time::Duration;

use super::driver::ProtocolError;
use crate::model::Reading;

/// A make that asks a few questions and gets one framed answer to each.
pub trait Dialect: Send {
    /// A question.
    type Query: Copy + PartialEq + Debug + Send + 'static;
    /// The questions of this cycle, in order.
    fn plan(&self) -> Vec<Self::Query>;
    /// A required question that stays unanswered fails the cycle; an optional one leaves its
    /// fields empty.
    fn required(&self, query: Self::Query) -> bool;
    /// The bytes of the question.
    fn encode(&self, query: Self::Query) -> Vec<u8>;
    /// Where does the first frame in `buffer` end?
    fn frame(&self, query: Self::Query, buffer: &[u8]) -> Framing;
    /// Takes one frame apart.
    fn decode(
        &mut self,
        query: Self::Query,
        frame: &[u8],
        into: &mut Reading,
    ) -> Result<(), ProtocolError>;
    /// Limits and pauses.
    fn pacing(&self) -> Pacing;
}

/// What the front of a buffer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Not a whole frame yet.
    NeedMore,
    /// So many bytes belong to no frame of ours.
    Junk(usize),
    /// A frame of so many bytes.
    Frame(usize),
}

/// Limits and pauses of a make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pacing {
    /// Time for one answer.
    pub timeout: Duration,
    /// Quiet time before each question.
    pub gap: Duration,
    /// Further tries after a damaged answer. Silence is not tried again within a cycle, so that
    /// one silent battery costs the others on its bus no more than one time-out.
    pub retries: u8,
}
