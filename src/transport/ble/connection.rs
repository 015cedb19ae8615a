//! An open connection: a handle for the reader, and a task that owns everything behind it.

use std::collections::VecDeque;
use std::time::Duration;

use bluer::gatt::remote::Characteristic;
use bluer::{Device, DeviceEvent, DeviceProperty, ErrorKind};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{broadcast, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::debug;

use super::bus::{call_within, is_connected};
use super::connect::{ConnectionGuard, Established, Events, connect};
use super::error::BleError;
use super::gatt::Writer;
use super::{BleChannel, BleConfig, LinkError};
use crate::transport::WRITE_LIMIT;

/// For the task to disconnect; its own limits are shorter.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// Chunks that wait for the reader; more than that replace the oldest. A stream goes on between two
/// readings.
const CHUNKS: usize = 256;

/// A bluetoothd that crashes sends no signal, so the connection is checked from time to time.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// For a value to be read.
const READ_LIMIT: Duration = Duration::from_secs(5);

/// An open connection to a battery.
#[derive(Debug)]
pub struct BleLink {
    address: String,
    name: Option<String>,
    adapter: String,
    writer: Writer,
    /// Characteristics to read, and the values that were read.
    read: Vec<Characteristic>,
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
struct LinkStatus {
    /// In dBm.
    rssi: Option<i16>,
    /// Why the connection has ended.
    end: Option<String>,
}

/// Connects to a battery, finds its characteristics and subscribes to them.
///
/// Takes `timeout` at most, plus up to a minute for other batteries on the adapter and a few seconds
/// to disconnect. Dropping the future is safe at any point.
pub async fn open(config: &BleConfig) -> Result<BleLink, LinkError> {
    let endpoint = config.address.clone();
    let (reply, result) = oneshot::channel();
    tokio::spawn(run(config.clone(), reply).boxed());
    result
        .await
        .unwrap_or_else(|_| Err(LinkError::Open { endpoint, reason: "its task has ended".into() }))
}

/// The task of one connection, from the first step to the disconnect.
async fn run(config: BleConfig, mut reply: oneshot::Sender<Result<BleLink, LinkError>>) {
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
            let (chunks, receiver) = broadcast::channel(CHUNKS);
            let (status, link_status) = watch::channel(LinkStatus { rssi, end: None });
            let stop = CancellationToken::new();
            // If nothing waits for the link any more, it is dropped here and ends the task at once.
            let _ = reply.send(Ok(BleLink {
                address: config.address,
                name,
                adapter: device.adapter_name().into(),
                writer,
                read,
                values: VecDeque::new(),
                channels,
                chunks: receiver,
                status: link_status,
                stop: stop.clone().drop_guard(),
            }));
            let forwarding = forward(&device, notifications, events, &chunks, &status);
            if let Some(reason) = stop.run_until_cancelled(forwarding).await {
                debug!("{}: {reason}", device.address());
                status.send_modify(|status| status.end = Some(reason));
            }
            // After the reason, so that a reader who notices the end finds it.
            drop(chunks);
            guard.release().await;
        }
    }
}

/// Forwards notifications until the connection ends. Returns the reason for the end.
async fn forward(
    device: &Device,
    mut notifications: Events<Vec<u8>>,
    mut events: Events<DeviceEvent>,
    chunks: &broadcast::Sender<Vec<u8>>,
    status: &watch::Sender<LinkStatus>,
) -> String {
    // An empty notification is legal and carries nothing.
    let send = |chunk: Vec<u8>| (!chunk.is_empty()).then(|| chunks.send(chunk));
    let mut check = interval(CHECK_INTERVAL);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut event_expected = false;
    loop {
        tokio::select! {
            chunk = notifications.next() => match chunk {
                Some(chunk) => drop(send(chunk)),
                None => return "BlueZ ended the notifications".to_owned(),
            },
            event = events.next() => {
                // bluer sorts one stream of signals into these two: what it had put into the
                // notifications before this event was sent before it.
                while let Some(Some(chunk)) = notifications.next().now_or_never() {
                    send(chunk);
                }
                match event {
                    Some(DeviceEvent::PropertyChanged(DeviceProperty::Connected(false))) => {
                        return "the battery disconnected or is out of reach".to_owned();
                    }
                    Some(DeviceEvent::PropertyChanged(DeviceProperty::Rssi(rssi))) => {
                        status.send_modify(|status| status.rssi = Some(rssi));
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
            let Some(characteristic) = self.read.get(usize::from(*number)) else { continue };
            if self.status.borrow().end.is_some() {
                return Err(self.gone());
            }
            let value = call_within(READ_LIMIT, "reading", characteristic.read()).await;
            let endpoint = self.address.clone();
            let value = value.map_err(|error| match &error {
                BleError::Bluez(bluez) if is_unpaired(bluez) => {
                    let reason = "it answers only programs that are paired with it".to_owned();
                    LinkError::Pairing { endpoint, reason }
                }
                BleError::Bluez(_) => LinkError::Gone { endpoint, reason: error.to_string() },
                _ => LinkError::Stuck { endpoint },
            })?;
            let length = u8::try_from(value.len()).unwrap_or(u8::MAX);
            self.values.push_back([&[*number, length], &value[..]].concat());
        }
        Ok(())
    }

    /// Sends all bytes, in pieces that fit into one packet each.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        if !self.read.is_empty() {
            return self.read(bytes).await;
        }
        for piece in self.writer.pieces(bytes) {
            if self.status.borrow().end.is_some() {
                return Err(self.gone());
            }
            let written = call_within(WRITE_LIMIT, "writing", self.writer.write(piece)).await;
            let endpoint = || self.address.clone();
            written.map_err(|error| match &error {
                BleError::Bluez(bluez) if bluez.kind != ErrorKind::InProgress => {
                    LinkError::Gone { endpoint: endpoint(), reason: error.to_string() }
                }
                // The battery or BlueZ does not finish a write.
                _ => LinkError::Stuck { endpoint: endpoint() },
            })?;
        }
        Ok(())
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

/// The battery does not answer without a pairing. Victron's devices send the error 0E then.
fn is_unpaired(error: &bluer::Error) -> bool {
    matches!(error.kind, ErrorKind::NotPermitted | ErrorKind::NotAuthorized)
        || error.message.to_lowercase().contains("0x0e")
}
