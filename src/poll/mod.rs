//! Polling: one task for each line reads the batteries on it in turn.
//!
//! A *line* is one serial port, Bluetooth device or TCP peer. Several addresses on one RS485 pair
//! are one line, so that a port needs no lock, requests never interleave, and no line suffers from
//! the failure of another.
//!
//! A read passes through these files: `task` waits until a battery is due, `connection` opens the
//! link, `cycle` carries out the steps of the driver, and `battery` publishes the result.

mod alarm_log;
mod backoff;
mod battery;
mod ble;
mod connection;
mod cycle;
mod health;
mod task;

use std::time::Duration;

pub use ble::{BleSettings, ReportedAdapterErrors, advertisement, ble_channels};
pub use cycle::{CycleError, Outcome, cycle};
pub use task::{read_once, run_line};

use crate::capture::Recorder;
use crate::model::{AlarmThresholds, DeviceId};
use crate::protocol::detection::Scope;
use crate::protocol::{DriverInfo, Options};
use crate::transport::LinkConfig;

/// One serial port, Bluetooth device or TCP peer, with the batteries behind it.
#[derive(Debug)]
pub struct Line {
    /// What the line connects to.
    pub endpoint: LinkConfig,
    /// Baud rates to try, the usual one first; more than one only if none was configured.
    pub bauds: Vec<u32>,
    /// Batteries that share the connection; only one if its brand is unknown or on Bluetooth.
    pub members: Vec<LineMember>,
    /// `None` on a serial port or TCP.
    pub ble: Option<BleSettings>,
    /// After the first battery has answered, the others are read only if they answer a quick
    /// question, and have no result otherwise.
    pub probes_first: bool,
    /// Where to capture the traffic.
    pub recorder: Option<Recorder>,
    /// Seconds that pass for the batteries in each second; 1 unless they are simulated.
    pub speed: f64,
}

impl Line {
    /// A line at a fixed baud rate, or without one, that is not captured.
    pub fn new(endpoint: LinkConfig, members: Vec<LineMember>) -> Self {
        Line {
            endpoint,
            bauds: Vec::new(),
            members,
            ble: None,
            probes_first: false,
            recorder: None,
            speed: 1.0,
        }
    }
}

/// A battery on a line.
#[derive(Debug, Clone)]
pub struct LineMember {
    /// Its slot on the board.
    pub id: DeviceId,
    /// `None`: the brand is unknown and has to be searched for.
    pub driver: Option<&'static DriverInfo>,
    /// On a wire: what to search while the battery does not answer, because its brand or its address
    /// is not configured but assumed.
    pub search: Option<Scope>,
    /// Address, password and what else the driver needs. The timeout is that of one reply, or of a
    /// whole read on Bluetooth.
    pub options: Options,
    /// Time from one read to the next.
    pub interval: Duration,
    /// Commands may set its switches.
    pub control: bool,
    /// The operator's alarm thresholds.
    pub thresholds: AlarmThresholds,
}
