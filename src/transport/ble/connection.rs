//! An open connection: a handle for the reader, and a task that owns everything behind it.

use std::collections::VecDeque;
use std::time::Duration;

use bluer::{Device, DeviceEvent, DeviceProperty};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{broadcast, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::debug;

use super::bus::is_connected;
use super::connect::{ConnectionGuard, Established, Events, connect};
use super::operations::Operations;
use super::{BleChannel, BleConfig, LinkError};

/// For the task to disconnect; its own limits are shorter.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// Chunks that wait for the reader; more than that replace the oldest. A stream goes on between two
/// readings.
const CHUNKS: usize = 256;

/// A bluetoothd that crashes sends no signal, so the connection is checked from time to time.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// An open connection to a battery.
#[derive(Debug)]
pub struct BleLink {
    address: String,
    name: Option<String>,
    adapter: String,
    operations: Operations,
    /// Values that were read.
    values: VecDeque<Vec<u8>>,
    channels: Vec<BleChannel>,
    chunks: broadcast::Receiver<Vec<u8>>,
    /// Its sender is dropped when the task has disconnected.
    status: watch::Receiver<LinkStatus>,
    /// Ends the task, which then disconnects.
    stop: DropGuard,
}

/// What the task reports to the link.
#[derive(Debug, Default)]
pub(super) struct LinkStatus {
    /// In dBm.
    rssi: Option<i16>,
    /// Why the connection has ended.
    end: Option<String>,
}

/// What a link contains when it is opened.
pub(super) struct Opened {
    pub(super) address: String,
    /// Name that the battery advertises.
    pub(super) name: Option<String>,
    /// Or proxy.
    pub(super) adapter: String,
    /// In dBm.
    pub(super) rssi: Option<i16>,
    pub(super) operations: Operations,
    pub(super) channels: Vec<BleChannel>,
}

/// The side of the task. The link ends when this is dropped.
pub(super) struct LinkTask {
    chunks: broadcast::Sender<Vec<u8>>,
    status: watch::Sender<LinkStatus>,
    stop: CancellationToken,
}

impl BleLink {
    pub(super) fn new(opened: Opened) -> (BleLink, LinkTask) {
        let Opened { address, name, adapter, rssi, operations, channels } = opened;
        let (chunks, receiver) = broadcast::channel(CHUNKS);
        let (status, link_status) = watch::channel(LinkStatus { rssi, end: None });
        let stop = CancellationToken::new();
        let link = BleLink {
            address,
            name,
            adapter,
            operations,
            values: VecDeque::new(),
            channels,
            chunks: receiver,
            status: link_status,
            stop: stop.clone().drop_guard(),
        };
        (link, LinkTask { chunks, status, stop })
    }
}

impl LinkTask {
    /// An empty notification is legal and carries nothing.
    pub(super) fn send(&self, chunk: Vec<u8>) {
        if !chunk.is_empty() {
            let _ = self.chunks.send(chunk);
        }
    }

    /// Forwards until that ends, which it does with a reason, or until the link is dropped.
    pub(super) async fn run(&self, forwarding: impl Future<Output = String>) {
        if let Some(reason) = self.stop.run_until_cancelled(forwarding).await {
            debug!("{reason}");
            self.status.send_modify(|status| status.end = Some(reason));
        }
    }

    /// Ends the stream, after the reason, so that a reader who notices the end finds it. The battery is
    /// free when what is returned is dropped.
    pub(super) fn end(self) -> watch::Sender<LinkStatus> {
        self.status
    }
}

/// The task of one connection, from the first step to the disconnect.
pub(super) async fn run(config: BleConfig, mut reply: oneshot::Sender<Result<BleLink, LinkError>>) {
    let mut guard = ConnectionGuard::default();
    let established = tokio::select! {
        biased;
        () = reply.closed() => None,
        established = connect(&config, &mut guard) => Some(established),
    };
    match established {
        None => guard.release().await,
        Some(Err(error)) => {
            guard.release().await;
            let _ = reply.send(Err(error));
        }
        Some(Ok(established)) => {
            let Established { device, name, rssi, writer, read, channels, .. } = established;
            let Established { notifications, events, .. } = established;
            let (link, task) = BleLink::new(Opened {
                address: config.address,
                name,
                adapter: device.adapter_name().into(),
                rssi,
                operations: Operations::Bluez { writer, read },
                channels,
            });
            // If nothing waits for the link any more, it is dropped here and ends the task at once.
            let _ = reply.send(Ok(link));
            task.run(forward(&device, notifications, events, &task)).await;
            let status = task.end();
            guard.release().await;
            drop(status);
        }
    }
}

/// Forwards notifications until the connection ends. Returns the reason for the end.
async fn forward(
    device: &Device,
    mut notifications: Events<Vec<u8>>,
    mut events: Events<DeviceEvent>,
    task: &LinkTask,
) -> String {
    let mut check = interval(CHECK_INTERVAL);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut event_expected = false;
    loop {
        tokio::select! {
            chunk = notifications.next() => match chunk {
                Some(chunk) => task.send(chunk),
                None => return "BlueZ ended the notifications".to_owned(),
            },
            event = events.next() => {
                // bluer sorts one stream of signals into these two: what it had put into the
                // notifications before this event was sent before it.
                while let Some(Some(chunk)) = notifications.next().now_or_never() {
                    task.send(chunk);
                }
                match event {
                    Some(DeviceEvent::PropertyChanged(DeviceProperty::Connected(false))) => {
                        return "the battery disconnected or is out of reach".to_owned();
                    }
                    Some(DeviceEvent::PropertyChanged(DeviceProperty::Rssi(rssi))) => {
                        task.status.send_modify(|status| status.rssi = Some(rssi));
                    }
                    Some(_) => {}
                    None => return "BlueZ removed the battery".to_owned(),
                }
            }
            _ = check.tick() => match is_connected(device).await {
                Ok(true) => {}
                // The event is on its way, behind chunks that must not get lost.
                Ok(false) if !event_expected => event_expected = true,
                Ok(false) => return "the battery is no longer connected".to_owned(),
                Err(error) => return error.to_string(),
            },
        }
    }
}

impl BleLink {
    /// Name that the battery advertises.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub fn adapter(&self) -> &str {
        &self.adapter
    }

    /// The configured channels that the battery has; the first one is in use.
    pub fn channels(&self) -> &[BleChannel] {
        &self.channels
    }

    /// Signal strength in dBm when a scan last saw the battery.
    pub fn rssi(&self) -> Option<i16> {
        self.status.borrow().rssi
    }

    /// Reads the characteristics with these numbers, which then are received.
    async fn read(&mut self, numbers: &[u8]) -> Result<(), LinkError> {
        self.values.clear();
        for number in numbers {
            self.check_open()?;
            let value = self.operations.read((*number).into(), &self.address).await?;
            let Some(value) = value else { continue };
            let length = u8::try_from(value.len()).unwrap_or(u8::MAX);
            self.values.push_back([&[*number, length], &value[..]].concat());
        }
        Ok(())
    }

    /// Sends all bytes, in pieces that fit into one packet each.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        if self.operations.reads() {
            return self.read(bytes).await;
        }
        for piece in bytes.chunks(self.operations.max_write()) {
            self.check_open()?;
            self.operations.write(piece, &self.address).await?;
        }
        Ok(())
    }

    fn check_open(&self) -> Result<(), LinkError> {
        if self.status.borrow().end.is_some() { Err(self.gone()) } else { Ok(()) }
    }

    /// The next chunk, never an empty one. Cancel-safe.
    pub async fn receive(&mut self) -> Result<Vec<u8>, LinkError> {
        if let Some(value) = self.values.pop_front() {
            return Ok(value);
        }
        loop {
            match self.chunks.recv().await {
                Ok(chunk) => return Ok(chunk),
                Err(broadcast::error::RecvError::Lagged(lost)) => {
                    debug!("{}: {lost} chunks were not read in time", self.address);
                }
                Err(broadcast::error::RecvError::Closed) => return Err(self.gone()),
            }
        }
    }

    pub(in crate::transport) async fn close(self) {
        let BleLink { stop, mut status, .. } = self;
        drop(stop);
        let _ = timeout(CLOSE_LIMIT, status.wait_for(|_| false)).await;
    }

    fn gone(&self) -> LinkError {
        let reason = self.status.borrow().end.clone();
        let reason = reason.unwrap_or_else(|| "its task has ended".into());
        LinkError::Gone { endpoint: self.address.clone(), reason }
    }
}
