//! The contract between the protocol of a battery and the code that moves its bytes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::ProtocolError;
use crate::model::{Reading, Secret, Setting};

/// One conversation with one battery. Pure: no clock, no IO, no logging.
///
/// The caller does what [`step`](Driver::step) returns and reports the result:
///
/// | step | the caller then calls |
/// |---|---|
/// | `Send` | [`advance`](Driver::advance) when the bytes are written |
/// | `Pause` | `advance` when the time is over |
/// | `Await` | [`receive`](Driver::receive) for each chunk, [`handle_timeout`](Driver::handle_timeout) when the time is over |
/// | `Done`, `Failed` | nothing; [`start`](Driver::start) begins the next cycle |
///
/// An `Await` is one time limit: it spans several chunks until `step` returns something other than
/// the same `Await`.
pub trait Driver: Send {
    /// The connection is new: forget logins, subscriptions and partial frames.
    fn reset(&mut self);
    /// Begins a cycle. What belongs to the session (logged in, identity known) is kept.
    fn start(&mut self, kind: CycleKind);
    /// What the caller must do now. Without input in between, a second call returns the same.
    fn step(&mut self) -> Step;
    /// The caller finished a `Send` or a `Pause`.
    fn advance(&mut self);
    /// Received bytes, cut anywhere. Junk, echoes and stale replies are allowed.
    fn receive(&mut self, bytes: &[u8]);
    /// The time limit of an `Await` is over.
    fn handle_timeout(&mut self);
    /// Overwrites the secrets in a copy of the bytes that one side sent, for captures that people
    /// share. The last frame may be incomplete. Valid frames stay valid and damaged ones stay
    /// damaged, so that a replay ends in the same way.
    fn redact(&self, _side: Side, _bytes: &mut [u8]) {}
}

/// Who sent some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Reader,
    Battery,
}

/// What a cycle is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CycleKind {
    /// The live values, and once per session the identity.
    Read,
    /// The identity, or any other part of a reading whose reply is self-describing: a recording may
    /// contain nothing else.
    Identify,
    /// Sets one of [`DriverInfo::controls`](super::DriverInfo::controls) and reads it back: the
    /// reading of `Done` has the state that the battery reports afterwards. Callers start it only
    /// where the operator allowed control.
    #[serde(rename = "switch")]
    Write(Setting),
}

/// What the caller must do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Send(Vec<u8>),
    /// Pass on what is received within this time.
    Await(Duration),
    Pause(Pause),
    Done(Box<Reading>),
    Failed(ProtocolError),
}

/// How long to leave the line alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// Until nothing was sent or received for this time, which may be over already.
    Quiet(Duration),
    /// This time, whatever happened before.
    Full(Duration),
}

impl Pause {
    /// The same for `limit` at most.
    pub fn min(self, limit: Duration) -> Self {
        match self {
            Pause::Quiet(time) => Pause::Quiet(time.min(limit)),
            Pause::Full(time) => Pause::Full(time.min(limit)),
        }
    }
}

/// What carries the bytes. Some brands use a different dialect on each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// A serial port, or a bridge to one.
    Serial,
    Ble,
}

/// Settings of one battery that its driver depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Address on the bus.
    pub address: u8,
    /// Time limit for one reply.
    pub timeout: Duration,
    /// What carries the bytes.
    pub medium: Medium,
    /// Bluetooth address, which some handshakes are computed from.
    pub mac: Option<[u8; 6]>,
    /// Name that it advertises over Bluetooth, which some keys are computed from.
    pub name: Option<String>,
    /// PIN or password of the battery.
    pub password: Option<Secret>,
    /// Serial number of the battery's controller.
    pub barcode: Option<String>,
    /// Unit in which a console counts charge.
    pub capacity_unit: CapacityUnit,
    /// One of [`DriverInfo::variants`](super::DriverInfo::variants), where the operator knows it.
    pub variant: Option<String>,
}

/// Unit in which a console counts charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CapacityUnit {
    #[default]
    WattHours,
    /// As some consoles do.
    MilliampHours,
}

/// Time for a reply over Bluetooth, of most batteries.
pub(super) const BLE_TIMEOUT: Duration = Duration::from_secs(5);

impl Options {
    /// Time limit for one reply of a brand that has Bluetooth only.
    pub(super) fn ble_timeout(&self) -> Duration {
        self.timeout.min(BLE_TIMEOUT)
    }
}

impl Default for Options {
    fn default() -> Self {
        Options {
            address: 1,
            timeout: Duration::from_secs(2),
            medium: Medium::Serial,
            mac: None,
            name: None,
            password: None,
            barcode: None,
            capacity_unit: CapacityUnit::default(),
            variant: None,
        }
    }
}
