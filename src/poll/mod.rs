//! Where a driver meets a link: one task owns a line and serves its batteries in turn.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::board::Board;
use crate::command::CommandInbox;
use crate::model::DeviceId;
use crate::protocol::{DriverInfo, Options};
use crate::transport::Endpoint;

/// One serial port, Bluetooth device or TCP peer, with the batteries behind it.
#[derive(Debug)]
pub struct Line {
    /// Where it leads.
    pub endpoint: Endpoint,
    /// Baud rates to try, the first one first; more than one only where none was configured.
    pub bauds: Vec<u32>,
    /// Who answers there.
    pub members: Vec<Member>,
}

/// A battery on a line.
#[derive(Debug, Clone)]
pub struct Member {
    /// Which.
    pub id: DeviceId,
    /// How to talk to it.
    pub driver: &'static DriverInfo,
    /// What the operator said about it.
    pub options: Options,
    /// Time between two reads.
    pub interval: Duration,
}

/// Serves a line until the stop.
pub async fn run_line(_line: Line, _board: Board, _inbox: CommandInbox, stop: CancellationToken) {
    stop.cancelled().await;
}
