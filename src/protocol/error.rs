//! What can go wrong in a conversation with a battery.

use crate::model::FaultKind;
use crate::remedy;

/// Why a cycle failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// No complete reply before the deadline.
    #[error("no answer to {query}{}", partial(*.received))]
    Timeout {
        query: String,
        /// Bytes that did arrive.
        received: usize,
    },
    #[error("wrong checksum in the answer to {query}: expected {expected:04X}, got {got:04X}")]
    BadChecksum {
        query: String,
        /// Computed over the frame.
        expected: u32,
        /// Found in the frame.
        got: u32,
    },
    /// A frame with a valid checksum and invalid content, or bytes without any frame.
    #[error("invalid answer to {query}: {reason}")]
    BadFrame {
        query: String,
        /// What is wrong with the content.
        reason: String,
    },
    /// A valid frame of a kind that the driver does not support.
    #[error("unsupported answer to {query}: {reason}")]
    Unsupported { query: String, reason: String },
    /// The battery replied with an error code.
    #[error("the battery refused {query}: {reason} (code {code:02X})")]
    Refused {
        query: String,
        code: u32,
        /// Meaning of the code.
        reason: &'static str,
    },
    #[error("login failed: {reason}")]
    Login {
        /// Why, and what to set instead.
        reason: String,
    },
}

fn partial(received: usize) -> String {
    match received {
        0 => String::new(),
        count => format!(" (received {count} bytes, but no complete answer)"),
    }
}

impl ProtocolError {
    /// The error type that users see.
    pub fn kind(&self) -> FaultKind {
        match self {
            ProtocolError::Timeout { .. } => FaultKind::Timeout,
            ProtocolError::BadChecksum { .. } => FaultKind::BadChecksum,
            ProtocolError::BadFrame { .. } => FaultKind::BadFrame,
            ProtocolError::Unsupported { .. } => FaultKind::UnsupportedFrame,
            ProtocolError::Refused { .. } => FaultKind::BmsError,
            ProtocolError::Login { .. } => FaultKind::AuthFailed,
        }
    }

    /// What the operator can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            ProtocolError::Timeout { received: 0, .. } => remedy::SILENT_BATTERY.text(),
            ProtocolError::Timeout { .. } => {
                "there is other traffic on the line: check the baud rate, the battery's type and \
                 whether another reader uses the bus"
            }
            ProtocolError::BadChecksum { .. } => {
                "the line is noisy: check ground, termination and cable length, and that no other \
                 reader uses the bus"
            }
            ProtocolError::BadFrame { .. } | ProtocolError::Unsupported { .. } => {
                remedy::UNEXPECTED_REPLY.text()
            }
            ProtocolError::Refused { .. } => "check the address and the battery's type",
            ProtocolError::Login { .. } => remedy::WRONG_LOGIN.text(),
        }
    }

    /// How much the error reveals about the cause. A refusal comes from a battery that is awake and
    /// understands the protocol; invalid content reveals more than damage, and damage more than a
    /// timeout.
    fn specificity(&self) -> u8 {
        match self {
            ProtocolError::Timeout { .. } => 0,
            ProtocolError::BadChecksum { .. } => 1,
            ProtocolError::BadFrame { .. } => 2,
            ProtocolError::Unsupported { .. } => 3,
            ProtocolError::Refused { .. } | ProtocolError::Login { .. } => 4,
        }
    }

    /// Of two errors the one to report: the more specific one, otherwise the newer one.
    pub(super) fn more_specific(known: Option<Self>, new: Self) -> Option<Self> {
        Some(known.filter(|known| known.specificity() > new.specificity()).unwrap_or(new))
    }
}

/// Why a frame is not the reply that was asked for, or cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The frame is valid and belongs to another request or battery: the reply may still come.
    #[error("it belongs to another request")]
    Foreign,
    /// The checksum is wrong.
    #[error("wrong checksum")]
    Checksum {
        /// Computed over the frame.
        expected: u32,
        /// Found in the frame.
        got: u32,
    },
    /// The battery replied with an error code.
    #[error("{reason}")]
    Refused {
        code: u32,
        /// Meaning of the code.
        reason: &'static str,
    },
    /// The reply is of a kind that the driver does not support.
    #[error("{0}")]
    Unsupported(String),
    /// The content ends after this many bytes, in the middle of a field.
    #[error("it ends after {0} bytes")]
    TooShort(usize),
    /// The content has a length that no reply to this request has.
    #[error("{0} bytes of data do not fit the request")]
    Length(usize),
    /// The content has the form of a reply to another request.
    #[error("it answers another request")]
    OtherRequest,
    /// A number that cannot be right.
    #[error("{field} is {value}")]
    OutOfRange {
        /// What the number stands for.
        field: &'static str,
        value: i64,
    },
    /// A console printed something else where a number belongs.
    #[error("{field} is `{text}`, which is not a number")]
    NotANumber {
        /// What the number stands for.
        field: String,
        text: String,
    },
    /// The reply has no data.
    #[error("no data in it")]
    Empty,
    /// A required value is missing.
    #[error("it has no {0}")]
    Missing(&'static str),
    #[error("{0}")]
    Invalid(String),
}

impl DecodeError {
    /// The same as the failure of a request.
    pub(in crate::protocol) fn in_answer_to(self, query: impl Into<String>) -> ProtocolError {
        let query = query.into();
        match self {
            DecodeError::Checksum { expected, got } => {
                ProtocolError::BadChecksum { query, expected, got }
            }
            DecodeError::Refused { code, reason } => ProtocolError::Refused { query, code, reason },
            DecodeError::Unsupported(reason) => ProtocolError::Unsupported { query, reason },
            other => ProtocolError::BadFrame { query, reason: other.to_string() },
        }
    }
}

/// A fuzzer cannot guess checksums, so under `fuzz/` every one is right.
pub(super) fn check(expected: impl Into<u32>, got: impl Into<u32>) -> Result<(), DecodeError> {
    let (expected, got) = (expected.into(), got.into());
    let is_right = expected == got || cfg!(fuzzing);
    if is_right { Ok(()) } else { Err(DecodeError::Checksum { expected, got }) }
}
