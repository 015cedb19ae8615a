//! Protocols whose requests are numbers, so that the program contains the code of the runner once and
//! not once for each brand (0.1 MB).

use std::fmt;

use super::{Framing, Need, Pacing, Progress, RequestReply};
use crate::model::{Reading, Setting};
use crate::protocol::driver::{CycleKind, Side};
use crate::protocol::error::{DecodeError, ProtocolError};

/// Gives every request of a protocol the number of its place in the list.
pub(super) struct Numbered<P: RequestReply> {
    protocol: P,
    queries: Vec<P::Query>,
}

impl<P: RequestReply> Numbered<P> {
    pub(super) fn new(protocol: P) -> Self {
        Numbered { protocol, queries: Vec::new() }
    }
}

/// The numbers of these requests; new ones are added to the known ones.
fn numbers<Q: Copy + PartialEq>(known: &mut Vec<Q>, queries: &[Q]) -> Vec<usize> {
    let number = |query: &Q| {
        known.iter().position(|known| known == query).unwrap_or_else(|| {
            known.push(*query);
            known.len() - 1
        })
    };
    queries.iter().map(number).collect()
}

/// Methods of [`RequestReply`] that take a request, by whether they change the protocol.
macro_rules! numbered {
    (
        fixed { $(fn $get:ident($($arg:ident: $type:ty),*) -> $result:ty;)* }
        changing { $(fn $set:ident($($set_arg:ident: $set_type:ty),*) -> $set_result:ty;)* }
    ) => {
        /// [`RequestReply`] with numbers in place of the requests.
        pub(super) trait NumberedRequests: Send {
            fn plan(&mut self) -> Vec<usize>;
            fn write_plan(&mut self, setting: Setting) -> Vec<usize>;
            fn fallback_plan(&mut self, query: usize, kind: CycleKind) -> Option<Vec<usize>>;
            fn redact(&self, side: Side, bytes: &mut [u8]);
            fn reset(&mut self);
            $(fn $get(&self, query: usize $(, $arg: $type)*) -> $result;)*
            $(fn $set(&mut self, query: usize $(, $set_arg: $set_type)*) -> $set_result;)*
        }

        impl<P: RequestReply> NumberedRequests for Numbered<P> {
            fn plan(&mut self) -> Vec<usize> {
                numbers(&mut self.queries, self.protocol.plan())
            }

            fn write_plan(&mut self, setting: Setting) -> Vec<usize> {
                let plan = self.protocol.write_plan(setting);
                numbers(&mut self.queries, &plan)
            }

            fn fallback_plan(&mut self, query: usize, kind: CycleKind) -> Option<Vec<usize>> {
                let plan = self.protocol.fallback_plan(self.queries[query], kind)?;
                Some(numbers(&mut self.queries, &plan))
            }

            fn redact(&self, side: Side, bytes: &mut [u8]) {
                self.protocol.redact(side, bytes);
            }

            fn reset(&mut self) {
                self.protocol.reset();
            }

            $(fn $get(&self, query: usize $(, $arg: $type)*) -> $result {
                self.protocol.$get(self.queries[query] $(, $arg)*)
            })*

            $(fn $set(&mut self, query: usize $(, $set_arg: $set_type)*) -> $set_result {
                self.protocol.$set(self.queries[query] $(, $set_arg)*)
            })*
        }
    };
}

numbered! {
    fixed {
        fn is_self_describing() -> bool;
        fn need() -> Need;
        fn describe() -> String;
        fn encode() -> Vec<u8>;
        fn frame(buffer: &[u8]) -> Framing;
        fn pacing() -> Pacing;
        fn reply_equals_request() -> bool;
        fn is_due() -> bool;
        fn has_reply() -> bool;
        fn progress() -> Progress;
    }
    changing {
        fn decode(frame: &[u8], into: &mut Reading) -> Result<(), DecodeError>;
        fn is_retryable(error: &ProtocolError) -> bool;
        fn begin() -> ();
        fn accept() -> ();
    }
}

impl fmt::Debug for dyn NumberedRequests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NumberedRequests")
    }
}
