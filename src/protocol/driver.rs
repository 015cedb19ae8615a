//! The contract between a brand's protocol and whoever moves its bytes.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::reading::{Setting, Switch};
use crate::model::{FaultKind, Reading, Secret};

/// One conversation with one battery. Pure: no clock, no IO, no logging.
///
/// The caller obeys [`step`](Driver::step) and reports what happened:
///
/// | step | the caller then calls |
/// |---|---|
/// | `Send` | [`advance`](Driver::advance) when the bytes are written |
/// | `Pause` | `advance` when the time is over |
/// | `Await` | [`receive`](Driver::receive) for each chunk, [`handle_timeout`](Driver::handle_timeout) when the time is over |
/// | `Done`, `Failed` | nothing; [`start`](Driver::start) begins the next cycle |
///
/// An `Await` is one time limit: it goes on over several chunks until `step` returns something
/// other than the same `Await`.
pub trait Driver: Send {
    /// The link is new: forget log-ins, subscriptions and half frames.
    fn reset(&mut self);
    /// Begins a cycle. What a session remembers (logged in, identity known) survives it.
    fn start(&mut self, kind: CycleKind);
    /// What the caller must do now. Calling it twice without input gives the same answer.
    fn step(&mut self) -> Step;
    /// The caller finished a `Send` or a `Pause`.
    fn advance(&mut self);
    /// Bytes that arrived, cut anywhere. Junk, echoes and stale replies are allowed.
    fn receive(&mut self, bytes: &[u8]);
    /// The `Await` ran out.
    fn handle_timeout(&mut self);
    /// Overwrites the secrets in a copy of what one side said, for captures that people pass on.
    /// The last frame may be incomplete; frames that were sound must be sound afterwards, and
    /// damaged ones damaged, so that a replay comes to the same end.
    fn redact(&self, _side: Side, _bytes: &mut [u8]) {}
}

/// Who said something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// We did.
    Reader,
    /// The battery did.
    Battery,
}

/// What a cycle is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CycleKind {
    /// The live values, and the identity once per session.
    Read,
    /// The identity alone, or whatever part of a reading has a meaning by itself: frames that
    /// somebody recorded may hold nothing else.
    Identify,
    /// Turns a switch of [`DriverInfo::controls`] and reads it back: the reading of `Done` says what
    /// the battery made of it. The caller asks for it only where the operator allowed control.
    #[serde(rename = "switch")]
    Write(Setting),
}

/// What the caller must do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Put these bytes on the line.
    Send(Vec<u8>),
    /// Feed me, or tell me about the silence.
    Await(Duration),
    /// Leave the line quiet.
    Pause(Duration),
    /// The cycle ended well.
    Done(Box<Reading>),
    /// The cycle ended badly.
    Failed(ProtocolError),
}

/// What was wrong with the conversation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// Nothing usable came before the deadline.
    #[error("no answer to {query}{}", Partial(*.received))]
    Timeout {
        /// The question.
        query: String,
        /// Bytes that did come, none of them a whole answer.
        received: usize,
    },
    /// A frame arrived damaged.
    #[error("wrong checksum in the answer to {query}: expected {expected:04X}, got {got:04X}")]
    BadChecksum {
        /// The question.
        query: String,
        /// Computed over the frame.
        expected: u32,
        /// Found in the frame.
        got: u32,
    },
    /// A frame with a sound checksum makes no sense, or none could be found.
    #[error("unreadable answer to {query}: {reason}")]
    BadFrame {
        /// The question.
        query: String,
        /// What did not fit.
        reason: String,
    },
    /// A sound frame of a kind that this driver does not know.
    #[error("unsupported answer to {query}: {reason}")]
    Unsupported {
        /// The question.
        query: String,
        /// What is unknown.
        reason: String,
    },
    /// The battery said no.
    #[error("the battery refused {query}: {reason} (code {code:02X})")]
    Refused {
        /// The question.
        query: String,
        /// Its code.
        code: u32,
        /// The code in words.
        reason: &'static str,
    },
    /// A log-in failed.
    #[error("log-in failed: {reason}")]
    Login {
        /// What the battery said.
        reason: String,
    },
}

struct Partial(usize);

impl fmt::Display for Partial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " ({count} bytes came, but no whole answer)"),
        }
    }
}

impl ProtocolError {
    /// The word of the contract.
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

    /// What the operator can do.
    pub fn hint(&self) -> &'static str {
        match self {
            ProtocolError::Timeout { received: 0, .. } => {
                "check that the battery is awake, its type, address and baud rate, and the wiring (A \
                 and B may be swapped); BMS_TYPE=auto finds the type"
            }
            ProtocolError::Timeout { .. } => {
                "something talks on the line: check the baud rate, the battery's type and whether \
                 another reader shares the bus"
            }
            ProtocolError::BadChecksum { .. } => {
                "the line is noisy: check ground, termination and cable length, and that only one \
                 reader is on the bus"
            }
            ProtocolError::BadFrame { .. } | ProtocolError::Unsupported { .. } => {
                "check the battery's type, the baud rate and the wiring; if they are right, report \
                 the frame that LOG_LEVEL=TRACE shows"
            }
            ProtocolError::Refused { .. } => "check the address and the battery's type",
            ProtocolError::Login { .. } => {
                "check BMS_PASSWORD or BMS_BARCODE, whichever this type of battery has"
            }
        }
    }
}

/// What a driver tells the rest of the program about its brand.
#[derive(Debug)]
pub struct DriverInfo {
    /// Configuration value, topic part, file name: `daren`.
    pub name: &'static str,
    /// The brand in words.
    pub title: &'static str,
    /// How it is reached by wire.
    pub serial: Option<SerialDefaults>,
    /// How it is reached by Bluetooth.
    pub gatt: Option<GattProfile>,
    /// By what it is recognised in a Bluetooth scan; any one of them is a hint, none a proof.
    pub matchers: &'static [AdvertisementMatcher],
    /// Addresses that it can have on a bus.
    pub addresses: std::ops::RangeInclusive<u8>,
    /// Switches that [`CycleKind::Write`] can turn.
    pub controls: &'static [Switch],
    /// It takes orders by wire, too, and not by Bluetooth only.
    pub serial_control: bool,
    /// How sure we are that it works: with what it was verified.
    pub verified: &'static str,
    /// A new conversation.
    pub new: fn(&Options) -> Box<dyn Driver>,
}

impl DriverInfo {
    /// The switches that can be turned by this way.
    pub fn controls_on(&self, medium: Medium) -> &'static [Switch] {
        if medium == Medium::Ble || self.serial_control { self.controls } else { &[] }
    }
}

/// Line settings of a brand; always 8 data bits, no parity, one stop bit.
#[derive(Debug, Clone, Copy)]
pub struct SerialDefaults {
    /// Baud rates in use, the usual one first. The others are tried on total silence.
    pub bauds: &'static [u32],
    /// Time for one answer.
    pub timeout: Duration,
}

/// Where a brand keeps its conversation on Bluetooth.
#[derive(Debug, Clone, Copy)]
pub struct GattProfile {
    /// Places to look for it, the usual one first; the first that the battery has is used.
    pub places: &'static [GattChannel],
    /// It sends unasked once it was started, so a link that stays open costs it nothing.
    pub streams: bool,
}

/// One pair of characteristics. They are told apart by what they can do as well as by their UUIDs:
/// some modules have two of the same UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GattChannel {
    /// Service.
    pub service: u128,
    /// Characteristic whose notifications are the battery's words.
    pub notify: u128,
    /// Characteristic that takes ours.
    pub write: u128,
}

/// A UUID from the 16 bits that Bluetooth assigns.
pub const fn uuid16(short: u16) -> u128 {
    const BASE: u128 = 0x0000_0000_0000_1000_8000_0080_5f9b_34fb;
    BASE | (short as u128) << 96
}

/// By what a brand is recognised in a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdvertisementMatcher {
    /// The advertised name begins so, in any case.
    Name(&'static str),
    /// This service is advertised.
    Service(u128),
    /// The address begins so: `C8:47:80`.
    Address(&'static str),
    /// Manufacturer data under this company id.
    Manufacturer(u16),
    /// Manufacturer data: its company id and data together are the address backwards.
    ReversedAddress,
}

/// What carries the conversation. Some brands speak another dialect on each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// Serial port or bridge.
    Serial,
    /// Bluetooth.
    Ble,
}

/// What the operator said about one battery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Address on the bus.
    pub address: u8,
    /// Time for one answer.
    pub timeout: Duration,
    /// What carries the conversation.
    pub medium: Medium,
    /// Bluetooth address, which some handshakes are computed from.
    pub mac: Option<[u8; 6]>,
    /// PIN or password of the battery.
    pub password: Option<Secret>,
    /// Serial number of the battery's controller.
    pub barcode: Option<String>,
    /// In what a console counts charge, where consoles differ.
    pub capacity_unit: CapacityUnit,
    /// RequestReply, where a brand has several and the operator named one.
    pub variant: Option<String>,
}

/// In what a console counts charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CapacityUnit {
    /// As documented.
    #[default]
    WattHours,
    /// As some do.
    MilliampHours,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            address: 1,
            timeout: Duration::from_secs(2),
            medium: Medium::Serial,
            mac: None,
            password: None,
            barcode: None,
            capacity_unit: CapacityUnit::default(),
            variant: None,
        }
    }
}
