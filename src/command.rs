//! Requests from sinks to lines: read now, change how a battery is asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::model::DeviceId;
use crate::model::reading::Setting;

/// Requests that may wait for one battery; more are refused.
const INBOX: usize = 8;

/// What a sink asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Read this battery at once.
    Read,
    /// Ask it differently until the program ends.
    Configure(ConfigChange),
    /// Turn one of its switches.
    Switch(Setting),
}

/// `cmd/config`: what is `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigChange {
    /// Bluetooth address.
    pub address: Option<String>,
    /// Bluetooth adapter; the inner `None` means the first powered one.
    pub adapter: Option<Option<String>>,
    /// Time between two reads.
    pub interval: Option<Duration>,
    /// Time for one answer.
    pub timeout: Option<Duration>,
    /// Time for a scan.
    pub scan_timeout: Option<Duration>,
    /// Leave the battery alone, or take it up again.
    pub paused: Option<bool>,
}

/// Why a command was not carried out, in words for the person who sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CommandError(pub String);

/// A command on its way, with the place where its answer goes.
#[derive(Debug)]
pub struct Request {
    /// For which battery.
    pub device: DeviceId,
    /// What to do.
    pub command: Command,
    /// `Ok` as soon as the command is accepted (a read is not waited for); for a switch when the
    /// battery was read back and agrees.
    pub reply: oneshot::Sender<Result<(), CommandError>>,
}

impl Request {
    /// Whoever asked has gone away, or was told already that nothing came of it.
    pub fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }
}

/// Where a line finds its commands.
pub type CommandInbox = mpsc::Receiver<Request>;

/// A handle for sending commands; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct CommandBus {
    inboxes: Arc<BTreeMap<DeviceId, mpsc::Sender<Request>>>,
}

impl CommandBus {
    /// A bus with one inbox for each group of batteries that share a line, in the given order.
    pub fn new(lines: &[Vec<DeviceId>]) -> (Self, Vec<CommandInbox>) {
        let mut inboxes = BTreeMap::new();
        let mut receivers = Vec::new();
        for devices in lines {
            let (sender, receiver) = mpsc::channel(INBOX);
            inboxes.extend(devices.iter().map(|device| (device.clone(), sender.clone())));
            receivers.push(receiver);
        }
        (CommandBus { inboxes: Arc::new(inboxes) }, receivers)
    }

    /// Hands a command to the battery's line. Never waits for a place in the queue.
    pub async fn send(&self, device: &DeviceId, command: Command) -> Result<(), CommandError> {
        let refuse = |text: &str| CommandError(format!("{device}: {text}"));
        let inbox = self.inboxes.get(device).ok_or_else(|| refuse("no such battery"))?;
        let (reply, answer) = oneshot::channel();
        let request = Request { device: device.clone(), command, reply };
        inbox.try_send(request).map_err(|_| refuse("too many commands are waiting, try again"))?;
        answer.await.unwrap_or_else(|_| Err(refuse("the program is stopping")))
    }
}
