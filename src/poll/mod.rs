//! Where a driver meets a link: one task owns a line and serves its batteries in turn.
//!
//! A *line* is one serial port, Bluetooth device or TCP peer. Several addresses on one RS485 pair
//! are one line, so there are no locks round a port, no interleaved requests, and two lines never
//! share a failure.

mod alarms;
mod configure;
mod control;
mod exchange;
mod health;
mod line;
mod radio;
mod search;
mod served;
mod wire;

use std::time::Duration;

pub use exchange::{CycleError, Outcome, cycle};
pub use line::{read_once, run_line};
pub use radio::{BleSettings, ReportedAdapterErrors, advertisement, answer_limit, places};

use crate::capture::Recorder;
use crate::model::{AlarmThresholds, DeviceId};
use crate::protocol::{DriverInfo, Options};
use crate::transport::Endpoint;

/// One serial port, Bluetooth device or TCP peer, with the batteries behind it.
#[derive(Debug)]
pub struct Line {
    /// Where it leads.
    pub endpoint: Endpoint,
    /// Baud rates to try, the usual one first; more than one only where none was configured.
    pub bauds: Vec<u32>,
    /// Who answers there.
    pub members: Vec<Member>,
    /// How the battery is served where it is on Bluetooth.
    pub radio: Option<BleSettings>,
    /// Where everything that is said is written down.
    pub recorder: Option<Recorder>,
}

/// A battery on a line.
#[derive(Debug, Clone)]
pub struct Member {
    /// Which.
    pub id: DeviceId,
    /// How to talk to it; `None`: that is to be found out.
    pub driver: Option<&'static DriverInfo>,
    /// What the operator said about it.
    pub options: Options,
    /// Time between two reads.
    pub interval: Duration,
    /// Its switches may be turned on request.
    pub control: bool,
    /// Own alarm limits.
    pub thresholds: AlarmThresholds,
}
