//! The easy way to write a driver: a list of requests with one framed reply each.
//!
//! A brand implements [`RequestReply`]; [`Runner`] turns it into a [`Driver`]. How a request goes:
//!
//! ```text
//! Pause(gap) -> Send -> Await(timeout) --valid reply--> next request
//!                ^            |  |
//!                |         damaged  timeout -> the request has failed
//!                |            v
//!                +-timeout- Await(settle) --valid reply--> next request
//! ```
//!
//! After a damaged reply the runner keeps receiving for a short while: a valid one may follow the
//! noise, and a request that is repeated too early collides with it. Only then it repeats the
//! request. After a timeout it does not: one silent battery on a shared bus, or a request that a
//! battery does not know, costs the other batteries no more than one timeout per cycle.

mod numbered;
mod runner;
mod session;

use std::fmt::Debug;
use std::time::Duration;

use super::driver::{CycleKind, Side};
use super::error::{DecodeError, ProtocolError};
use crate::model::{Reading, Setting};
pub use runner::Runner;
pub(super) use session::Session;

/// Quiet time before a request where no source asks for more: half-duplex adapters need a moment to
/// turn round. Ten characters at 9600 baud; Modbus requires three and a half.
pub const TURN_ROUND: Duration = Duration::from_millis(10);

/// A brand with a few requests and one framed reply to each.
pub trait RequestReply: Send {
    type Query: Copy + PartialEq + Debug + Send + 'static;
    /// The requests of a cycle, in order, the required ones first: a timeout of an optional one must
    /// not delay or lose the live values.
    fn plan(&self) -> &[Self::Query];
    /// The requests that set a switch and read it back, all of them required; none for a brand
    /// without control.
    fn write_plan(&mut self, _setting: Setting) -> Vec<Self::Query> {
        Vec::new()
    }
    /// Whether a reply identifies its request, so that it can be decoded where nothing else was
    /// recorded ([`CycleKind::Identify`]).
    fn is_self_describing(&self, query: Self::Query) -> bool {
        self.need(query) == Need::Once
    }
    /// What a missing reply means.
    fn need(&self, _query: Self::Query) -> Need {
        Need::Required
    }
    /// The request as people call it, for messages.
    fn describe(&self, _query: Self::Query) -> String {
        "the values that it sends unasked".to_owned()
    }
    /// The bytes of the request; none for a battery that sends unasked.
    fn encode(&self, _query: Self::Query) -> Vec<u8> {
        Vec::new()
    }
    /// What the buffer begins with.
    fn frame(&self, query: Self::Query, buffer: &[u8]) -> Framing;
    /// Decodes one frame. After an error the runner discards `into`, so it may be half filled. It
    /// may be called more than once per frame.
    fn decode(
        &mut self,
        query: Self::Query,
        frame: &[u8],
        into: &mut Reading,
    ) -> Result<(), DecodeError>;
    /// Time limits and pauses of this request.
    fn pacing(&self, query: Self::Query) -> Pacing;
    /// Whether to repeat the request after this reply, perhaps in another form.
    fn is_retryable(&mut self, _query: Self::Query, error: &ProtocolError) -> bool {
        matches!(error, ProtocolError::BadChecksum { .. } | ProtocolError::BadFrame { .. })
    }
    /// Nothing was received, not even a damaged reply. Returns the requests to continue the cycle
    /// with, for a brand whose dialect is not known yet; `None`: the request has failed.
    fn fallback_plan(&mut self, _query: Self::Query, _kind: CycleKind) -> Option<Vec<Self::Query>> {
        None
    }
    /// A valid reply equals the request, so it cannot be distinguished from an echo.
    fn reply_equals_request(&self, _query: Self::Query) -> bool {
        false
    }
    fn redact(&self, _side: Side, _bytes: &mut [u8]) {}
    /// The connection is new: forget what belongs to the session.
    fn reset(&mut self) {}
    /// Whether to send the request in this cycle.
    fn is_due(&self, _query: Self::Query) -> bool {
        true
    }
    /// Whether a request has a reply at all.
    fn has_reply(&self, _query: Self::Query) -> bool {
        true
    }
    /// The request is about to be sent, perhaps again.
    fn begin(&mut self, _query: Self::Query) {}
    /// The frame that was decoded last is part of the reading now.
    fn accept(&mut self, _query: Self::Query) {}
    /// What is still missing after the replies that were decoded.
    fn progress(&self, _query: Self::Query) -> Progress {
        Progress::Complete
    }
}

/// What is missing from the replies to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    Complete,
    /// More replies may follow within this time; silence completes the request.
    Enough(Duration),
    Missing,
}

/// How important a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Need {
    /// Without a reply the cycle fails.
    #[default]
    Required,
    /// Without a reply its fields stay empty.
    Optional,
    /// Optional until the first reply of the session and required from then on: values that come and
    /// go with single lost replies look like something that the battery lost.
    Steady,
    /// Optional, and the reply holds for the whole session: it is part of every later reading.
    Once,
}

/// What a buffer begins with. Every length is at least 1, or nothing happens until more arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    NeedMore,
    /// This many bytes that belong to no frame.
    Junk(usize),
    /// A frame of this many bytes.
    Frame(usize),
    /// This many bytes that look like a frame and are damaged, which decoding them reports. A valid
    /// frame may begin right after the first of them.
    Damaged(usize),
}

impl Framing {
    /// Bytes of a buffer of this length that were searched to find out.
    fn searched(self, available: usize) -> usize {
        match self {
            Framing::NeedMore => available,
            Framing::Junk(count) | Framing::Frame(count) | Framing::Damaged(count) => count,
        }
    }
}

/// Time limits and pauses of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pacing {
    /// Time for one reply.
    pub timeout: Duration,
    /// Quiet time before the request, counted from the last byte on the line.
    pub gap: Duration,
    /// Time to keep receiving after a damaged reply before the request is repeated.
    pub settle: Duration,
    /// Repetitions after a damaged reply.
    pub retries: u8,
}
