//! Commands from sinks to lines, and to the program itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::model::{DeviceId, Energy, Setting, Uptime};

pub mod payload;

/// Commands that may wait for one line; more are refused.
const INBOX: usize = 8;
/// The request of a command that took longer is abandoned.
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Read,
    /// In force until the program ends.
    Configure(ConfigChange),
    Switch(Setting),
}

/// `cmd/config`: a field that is `None` stays unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigChange {
    pub address: Option<String>,
    /// Bluetooth adapter; the inner `None` selects the first powered one.
    pub adapter: Option<Option<String>>,
    pub interval: Option<Duration>,
    /// For one reply, or for a whole read over Bluetooth.
    pub timeout: Option<Duration>,
    pub scan_timeout: Option<Duration>,
    pub paused: Option<bool>,
    /// New totals of the energy counters.
    pub energy_charged: Option<Energy>,
    pub energy_discharged: Option<Energy>,
}

impl ConfigChange {
    pub fn sets_energy(&self) -> bool {
        self.energy_charged.is_some() || self.energy_discharged.is_some()
    }

    /// The totals of energy to set, which the board has, and not the line.
    pub fn energy(&self) -> Result<[Option<Energy>; 2], CommandError> {
        let ConfigChange { energy_charged, energy_discharged, .. } = *self;
        let rest = ConfigChange { energy_charged: None, energy_discharged: None, ..self.clone() };
        if rest != ConfigChange::default() {
            let reason = "set energy counters and other fields in separate messages";
            return Err(CommandError(reason.to_owned()));
        }
        Ok([energy_charged, energy_discharged])
    }
}

/// Why a command was not carried out, for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CommandError(pub String);

#[derive(Debug)]
pub struct Request {
    pub device: DeviceId,
    pub command: Command,
    /// Answered when a read or a change is accepted, and when a switch has been read back.
    pub reply: oneshot::Sender<Result<(), CommandError>>,
}

impl Request {
    /// The sender no longer waits for the reply, because it has gone or its time is up.
    pub fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }
}

/// The requests to one line.
///
/// A queue allocates 32 places at once, so they contain pointers.
pub type CommandInbox = mpsc::Receiver<Box<Request>>;

/// Sends commands to the lines; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct CommandBus {
    inboxes: Arc<BTreeMap<DeviceId, mpsc::Sender<Box<Request>>>>,
    pub program: ProgramControl,
}

/// What sinks may request from the program.
#[derive(Debug, Clone)]
pub struct ProgramControl {
    /// When it started, on the boot-time clock.
    pub started: Uptime,
    /// Applies until the program ends.
    pub set_log_level: fn(&'static str),
    /// Cancelled to end the program cleanly.
    pub stop: CancellationToken,
    restart: Arc<AtomicBool>,
}

impl Default for ProgramControl {
    fn default() -> Self {
        let (started, stop, restart) = Default::default();
        ProgramControl { started, set_log_level: |_| {}, stop, restart }
    }
}

impl ProgramControl {
    /// Ends the program with the exit code that makes Docker and systemd start it again.
    pub fn restart(&self) {
        self.restart.store(true, Ordering::Relaxed);
        self.stop.cancel();
    }

    pub fn is_restart_requested(&self) -> bool {
        self.restart.load(Ordering::Relaxed)
    }
}

impl CommandBus {
    /// Takes the batteries of each line and returns the inboxes in the same order.
    pub fn new(lines: &[Vec<DeviceId>]) -> (Self, Vec<CommandInbox>) {
        let mut inboxes = BTreeMap::new();
        let mut receivers = Vec::new();
        for devices in lines {
            let (sender, receiver) = mpsc::channel(INBOX);
            inboxes.extend(devices.iter().map(|device| (device.clone(), sender.clone())));
            receivers.push(receiver);
        }
        (CommandBus { inboxes: Arc::new(inboxes), program: ProgramControl::default() }, receivers)
    }

    /// Waits for the reply, at most half a minute, but never for a free place in the inbox.
    pub async fn send(&self, device: &DeviceId, command: Command) -> Result<(), CommandError> {
        let error = |text: &str| CommandError(format!("{device}: {text}"));
        let inbox = self.inboxes.get(device).ok_or_else(|| error("no such battery"))?;
        let (reply, answer) = oneshot::channel();
        let request = Box::new(Request { device: device.clone(), command, reply });
        inbox.try_send(request).map_err(|_| error("too many commands are waiting, try again"))?;
        match timeout(TIMEOUT, answer).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(error("interrupted, try again"))),
            Err(_) => Err(error("the command timed out")),
        }
    }
}
