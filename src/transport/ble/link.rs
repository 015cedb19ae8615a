//! An open conversation: a handle for the reader, and a task that owns everything behind it.

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bluer::gatt::WriteOp;
use bluer::gatt::remote::Characteristic;
use bluer::{Device, DeviceEvent, DeviceProperty, ErrorKind};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{broadcast, oneshot};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::debug;

use super::bus::{ask, within};
use super::dial::{Attempt, Claim, Dialed};
use super::trouble::Snag;
use super::{BleConfig, LinkError, gatt, radio};

const WRITE_LIMIT: Duration = Duration::from_secs(5);

/// For all of a goodbye; the task that says it has limits of its own.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// Chunks that wait for the reader; then the oldest goes. A stream runs on between two readings.
const CHUNKS: usize = 256;

/// A bluetoothd that dies says nothing, so it is asked now and then.
const CHECK_EVERY: Duration = Duration::from_secs(5);

/// An open connection.
#[derive(Debug)]
pub struct BleLink {
    place: String,
    adapter: String,
    chosen: usize,
    rssi: Arc<AtomicI32>,
    write: Characteristic,
    kind: WriteOp,
    longest: usize,
    chunks: broadcast::Receiver<Vec<u8>>,
    end: Arc<OnceLock<String>>,
    farewell: oneshot::Receiver<()>,
    /// Dropping it sends the task away, with a goodbye.
    wanted: DropGuard,
}

/// The other half, in the task.
struct Tended {
    device: Device,
    dialed: Dialed,
    rssi: Arc<AtomicI32>,
    chunks: broadcast::Sender<Vec<u8>>,
    end: Arc<OnceLock<String>>,
    unwanted: CancellationToken,
}

/// No signal has this strength.
const UNKNOWN: i32 = i32::MIN;

pub(super) async fn open(config: BleConfig) -> Result<BleLink, LinkError> {
    let place = config.address.clone();
    let (answer, result) = oneshot::channel();
    tokio::spawn(converse(config, answer).boxed());
    result
        .await
        .unwrap_or_else(|_| Err(LinkError::Open { place, reason: "its task has ended".into() }))
}

/// From the first step to the goodbye.
async fn converse(config: BleConfig, mut answer: oneshot::Sender<Result<BleLink, LinkError>>) {
    let _alone = tokio::select! {
        biased;
        () = answer.closed() => return,
        alone = radio::alone_with(&config.address) => match alone {
            Ok(alone) => alone,
            Err(error) => {
                let _ = answer.send(Err(error));
                return;
            }
        },
    };
    let mut claim = Claim::default();
    let dialed = tokio::select! {
        biased;
        () = answer.closed() => None,
        dialed = dial(&config, &mut claim) => Some(dialed),
    };
    match dialed {
        None => claim.release().await,
        Some(Err(error)) => {
            claim.release().await;
            let _ = answer.send(Err(error));
        }
        Some(Ok(dialed)) => {
            let (parted, farewell) = oneshot::channel::<()>();
            let (link, tended) = halves(config.address, dialed, farewell);
            // A link that nobody takes is dropped here, which ends the tending at once.
            let _ = answer.send(Ok(link));
            tended.tend().await;
            claim.release().await;
            let _ = parted.send(());
        }
    }
}

async fn dial(config: &BleConfig, claim: &mut Claim) -> Result<Dialed, LinkError> {
    Attempt::new(config, claim)?.dial().await
}

fn halves(place: String, dialed: Dialed, farewell: oneshot::Receiver<()>) -> (BleLink, Tended) {
    let (sender, chunks) = broadcast::channel(CHUNKS);
    let rssi = Arc::new(AtomicI32::new(dialed.rssi.map_or(UNKNOWN, i32::from)));
    let end = Arc::new(OnceLock::new());
    let unwanted = CancellationToken::new();
    let link = BleLink {
        place,
        adapter: dialed.device.adapter_name().into(),
        chosen: dialed.place,
        rssi: Arc::clone(&rssi),
        write: dialed.write.clone(),
        kind: dialed.kind,
        longest: dialed.longest,
        chunks,
        end: Arc::clone(&end),
        farewell,
        wanted: unwanted.clone().drop_guard(),
    };
    let device = dialed.device.clone();
    (link, Tended { device, dialed, rssi, chunks: sender, end, unwanted })
}

impl Tended {
    /// Hands on what the battery says until the link ends or nobody wants it any more.
    async fn tend(mut self) {
        let mut check = interval(CHECK_EVERY);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let why = loop {
            tokio::select! {
                () = self.unwanted.cancelled() => return,
                chunk = self.dialed.notifications.next() => match chunk {
                    Some(chunk) => self.hand_on(chunk),
                    None => break "BlueZ ended the notifications".to_owned(),
                },
                event = self.dialed.events.next() => {
                    // bluer sorts one stream of signals into these two: what it had put into the
                    // notifications before this event was sent before it.
                    while let Some(Some(chunk)) = self.dialed.notifications.next().now_or_never() {
                        self.hand_on(chunk);
                    }
                    match event {
                        Some(DeviceEvent::PropertyChanged(DeviceProperty::Connected(false))) => {
                            break "the battery ended the connection or is out of reach".to_owned();
                        }
                        Some(DeviceEvent::PropertyChanged(DeviceProperty::Rssi(rssi))) => {
                            self.rssi.store(rssi.into(), Ordering::Relaxed);
                        }
                        Some(_) => {}
                        None => break "BlueZ has forgotten the battery".to_owned(),
                    }
                },
                _ = check.tick() => {
                    match ask("looking at the link", self.device.is_connected()).await {
                        Ok(true) => {}
                        Ok(false) => break "the battery is not connected any more".to_owned(),
                        Err(snag) => break snag.reason(),
                    }
                }
            }
        };
        debug!("{}: {why}", self.device.address());
        // Before the sender goes, so that a reader who notices the end finds the reason.
        let _ = self.end.set(why);
    }

    /// An empty notification is legal and carries nothing.
    fn hand_on(&self, chunk: Vec<u8>) {
        if !chunk.is_empty() {
            let _ = self.chunks.send(chunk);
        }
    }
}

impl BleLink {
    /// Index of the place where the conversation was found.
    pub fn place(&self) -> usize {
        self.chosen
    }

    /// Name of the adapter.
    pub fn adapter(&self) -> &str {
        &self.adapter
    }

    /// Strength of the signal in dBm when the battery was last seen in a scan.
    pub fn rssi(&self) -> Option<i16> {
        i16::try_from(self.rssi.load(Ordering::Relaxed)).ok()
    }

    /// Sends all bytes, in pieces that fit the radio's packets.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        let request = gatt::request(self.kind);
        for piece in bytes.chunks(self.longest) {
            if self.end.get().is_some() {
                return Err(self.gone());
            }
            let written = within(WRITE_LIMIT, "writing", self.write.write_ext(piece, &request));
            written.await.map_err(|snag| self.not_sent(&snag))?;
        }
        Ok(())
    }

    fn not_sent(&self, snag: &Snag) -> LinkError {
        let place = self.place.clone();
        match snag {
            Snag::Said(error) if error.kind != ErrorKind::InProgress => {
                LinkError::Gone { place, reason: snag.reason() }
            }
            // The battery or BlueZ does not finish a write.
            _ => LinkError::Stuck { place },
        }
    }

    /// The next chunk, never an empty one. Cancel-safe.
    pub async fn receive(&mut self) -> Result<Vec<u8>, LinkError> {
        loop {
            match self.chunks.recv().await {
                Ok(chunk) => return Ok(chunk),
                Err(broadcast::error::RecvError::Lagged(lost)) => {
                    debug!("{}: {lost} chunks went unread", self.place);
                }
                Err(broadcast::error::RecvError::Closed) => return Err(self.gone()),
            }
        }
    }

    pub(in crate::transport) fn drain(&mut self) -> Result<(), LinkError> {
        for _ in 0..=CHUNKS {
            match self.chunks.try_recv() {
                Ok(_) | Err(broadcast::error::TryRecvError::Lagged(_)) => {}
                Err(broadcast::error::TryRecvError::Empty) => break,
                Err(broadcast::error::TryRecvError::Closed) => return Err(self.gone()),
            }
        }
        Ok(())
    }

    pub(in crate::transport) async fn close(self) {
        let BleLink { wanted, farewell, .. } = self;
        drop(wanted);
        let _ = timeout(CLOSE_LIMIT, farewell).await;
    }

    fn gone(&self) -> LinkError {
        let reason = self.end.get().cloned().unwrap_or_else(|| "its task has ended".into());
        LinkError::Gone { place: self.place.clone(), reason }
    }
}
