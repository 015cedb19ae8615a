//! An open connection: a handle for the reader, and a task that owns everything behind it.

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bluer::{Device, DeviceEvent, DeviceProperty, ErrorKind};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{broadcast, oneshot};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::debug;

use super::bus::{call_within, is_connected};
use super::connect::{ConnectionGuard, Established, Events, connect};
use super::error::BleError;
use super::gatt::Writer;
use super::{BleConfig, LinkError};
use crate::transport::WRITE_LIMIT;

/// For the task to disconnect; its own limits are shorter.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// Chunks that wait for the reader; more than that replace the oldest. A stream goes on between two
/// readings.
const CHUNKS: usize = 256;

/// A bluetoothd that crashes sends no signal, so the connection is checked from time to time.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// No signal has this strength.
const UNKNOWN_RSSI: i32 = i32::MIN;

/// An open connection to a battery.
#[derive(Debug)]
pub struct BleLink {
    address: String,
    adapter: String,
    writer: Writer,
    chunks: broadcast::Receiver<Vec<u8>>,
    status: Arc<LinkStatus>,
    /// Its sender is dropped when the task has disconnected.
    closed: oneshot::Receiver<()>,
    /// Ends the task, which then disconnects.
    stop: DropGuard,
}

/// What the task reports to the link.
#[derive(Debug)]
struct LinkStatus {
    /// In dBm, or [`UNKNOWN_RSSI`].
    rssi: AtomicI32,
    /// Why the connection has ended.
    end: OnceLock<String>,
}

struct ConnectionTask {
    device: Device,
    notifications: Events<Vec<u8>>,
    events: Events<DeviceEvent>,
    chunks: broadcast::Sender<Vec<u8>>,
    status: Arc<LinkStatus>,
    stop: CancellationToken,
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
    let (_disconnected, closed) = oneshot::channel();
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
            let (link, task) = split(config.address, established, closed);
            // If nothing waits for the link any more, it is dropped here and ends the task at once.
            let _ = reply.send(Ok(link));
            task.run().await;
            guard.release().await;
        }
    }
}

fn split(
    address: String,
    established: Established,
    closed: oneshot::Receiver<()>,
) -> (BleLink, ConnectionTask) {
    let Established { device, rssi, writer, notifications, events } = established;
    let (sender, chunks) = broadcast::channel(CHUNKS);
    let rssi = rssi.map_or(UNKNOWN_RSSI, i32::from);
    let status = Arc::new(LinkStatus { rssi: rssi.into(), end: OnceLock::new() });
    let stop = CancellationToken::new();
    let link = BleLink {
        address,
        adapter: device.adapter_name().into(),
        writer,
        chunks,
        status: Arc::clone(&status),
        closed,
        stop: stop.clone().drop_guard(),
    };
    (link, ConnectionTask { device, notifications, events, chunks: sender, status, stop })
}

impl ConnectionTask {
    /// Forwards notifications until the connection ends or the link is dropped.
    async fn run(mut self) {
        let mut check = interval(CHECK_INTERVAL);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut event_expected = false;
        let reason = loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                chunk = self.notifications.next() => match chunk {
                    Some(chunk) => self.forward(chunk),
                    None => break "BlueZ ended the notifications".to_owned(),
                },
                event = self.events.next() => {
                    // bluer sorts one stream of signals into these two: what it had put into the
                    // notifications before this event was sent before it.
                    while let Some(Some(chunk)) = self.notifications.next().now_or_never() {
                        self.forward(chunk);
                    }
                    if let Some(reason) = self.handle(event) {
                        break reason.to_owned();
                    }
                }
                _ = check.tick() => match is_connected(&self.device).await {
                    Ok(true) => {}
                    // The event is on its way, behind chunks that must not get lost.
                    Ok(false) if !event_expected => event_expected = true,
                    Ok(false) => break "the battery is no longer connected".to_owned(),
                    Err(error) => break error.reason(),
                },
            }
        };
        debug!("{}: {reason}", self.device.address());
        // Before the sender is dropped, so that a reader who notices the end finds the reason.
        let _ = self.status.end.set(reason);
    }

    /// An empty notification is legal and carries nothing.
    fn forward(&self, chunk: Vec<u8>) {
        if !chunk.is_empty() {
            let _ = self.chunks.send(chunk);
        }
    }

    /// Returns the reason if this event ends the connection.
    fn handle(&self, event: Option<DeviceEvent>) -> Option<&'static str> {
        match event {
            Some(DeviceEvent::PropertyChanged(DeviceProperty::Connected(false))) => {
                return Some("the battery disconnected or is out of reach");
            }
            Some(DeviceEvent::PropertyChanged(DeviceProperty::Rssi(rssi))) => {
                self.status.rssi.store(rssi.into(), Ordering::Relaxed);
            }
            Some(_) => {}
            None => return Some("BlueZ removed the battery"),
        }
        None
    }
}

impl BleLink {
    pub fn adapter(&self) -> &str {
        &self.adapter
    }

    /// Signal strength in dBm when a scan last saw the battery.
    pub fn rssi(&self) -> Option<i16> {
        i16::try_from(self.status.rssi.load(Ordering::Relaxed)).ok()
    }

    /// Sends all bytes, in pieces that fit into one packet each.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        for piece in self.writer.pieces(bytes) {
            if self.status.end.get().is_some() {
                return Err(self.gone());
            }
            let written = call_within(WRITE_LIMIT, "writing", self.writer.write(piece));
            written.await.map_err(|error| self.write_error(&error))?;
        }
        Ok(())
    }

    fn write_error(&self, error: &BleError) -> LinkError {
        let endpoint = self.address.clone();
        match error {
            BleError::Bluez(bluez) if bluez.kind != ErrorKind::InProgress => {
                LinkError::Gone { endpoint, reason: error.reason() }
            }
            // The battery or BlueZ does not finish a write.
            _ => LinkError::Stuck { endpoint },
        }
    }

    /// The next chunk, never an empty one. Cancel-safe.
    pub async fn receive(&mut self) -> Result<Vec<u8>, LinkError> {
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
        let BleLink { stop, closed, .. } = self;
        drop(stop);
        let _ = timeout(CLOSE_LIMIT, closed).await;
    }

    fn gone(&self) -> LinkError {
        let reason = self.status.end.get().cloned().unwrap_or_else(|| "its task has ended".into());
        LinkError::Gone { endpoint: self.address.clone(), reason }
    }
}
