//! Opening a connection: find the device, connect, pair, read its services, subscribe.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bluer::gatt::remote::Characteristic;
use bluer::{Address, Device, DeviceEvent, ErrorKind};
use futures_util::stream::{self, Stream, StreamExt, select_all};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

use super::bus::{AdapterHandle, Bus, call_quick, call_within, is_connected, unless_missing};
use super::error::BleError;
use super::gatt::{self, Writer};
use super::locks::{DeviceHistory, Permit};
use super::scan::{Scan, count_in_reach};
use super::{BleChannel, BleConfig, LinkError, pairing};

/// A battery that is not seen holds the adapter for this long at a time.
const SCAN_SLICE: Duration = Duration::from_secs(5);

/// For a battery that a scan has just seen, and for one that BlueZ knows from earlier.
const CONNECT_SEEN_LIMIT: Duration = Duration::from_secs(15);
const CONNECT_KNOWN_LIMIT: Duration = Duration::from_secs(8);
const CONNECT_TRIES: u32 = 3;
const RETRY_PAUSE: Duration = Duration::from_millis(250);

const PAIR_LIMIT: Duration = Duration::from_secs(20);
const RESOLVE_LIMIT: Duration = Duration::from_secs(12);
const SUBSCRIBE_LIMIT: Duration = Duration::from_secs(6);
const GREETING_LIMIT: Duration = Duration::from_secs(2);

/// BlueZ takes up to two seconds to end a connection; after that it is asked again.
const DISCONNECT_RETRY: Duration = Duration::from_secs(2);
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(8);
const DISCONNECT_POLL: Duration = Duration::from_millis(50);

/// Consecutive attempts that reach a battery and fail before the device is removed from BlueZ.
const FAILURES_BEFORE_REMOVAL: u32 = 3;

pub(super) type Events<T> = Pin<Box<dyn Stream<Item = T> + Send>>;

/// An open connection with its subscriptions.
pub(super) struct Established {
    pub(super) device: Device,
    /// Name that it advertises.
    pub(super) name: Option<String>,
    /// In dBm, when a scan last saw the battery.
    pub(super) rssi: Option<i16>,
    pub(super) notifications: Events<Vec<u8>>,
    pub(super) events: Events<DeviceEvent>,
    pub(super) writer: Writer,
    /// Characteristics to read.
    pub(super) read: Vec<Characteristic>,
    /// The configured channels that the battery has; the first one is in use.
    pub(super) channels: Vec<BleChannel>,
}

/// What has to be released, however an attempt ends: it outlives an attempt that is dropped.
#[derive(Debug, Default)]
pub(super) struct ConnectionGuard {
    /// The battery is ours until this is dropped, after the disconnect.
    battery: Option<Permit>,
    device: Option<Device>,
    adapter: Option<Permit>,
    /// Keeps the connection to the bus open until the battery is disconnected.
    bus: Option<Arc<Bus>>,
}

impl ConnectionGuard {
    /// Disconnects, waits until BlueZ has confirmed it, and lets others use the adapter.
    pub(super) async fn release(&mut self) {
        self.disconnect().await;
        (self.adapter, self.bus) = (None, None);
    }

    async fn disconnect(&mut self) {
        let Some(device) = self.device.take() else { return };
        let disconnected = async {
            loop {
                if let Err(error) = call_quick("disconnecting", device.disconnect()).await {
                    debug!("{}: disconnect failed: {error}", device.address());
                }
                if timeout(DISCONNECT_RETRY, wait_disconnected(&device)).await.is_ok() {
                    return;
                }
            }
        };
        if timeout(DISCONNECT_TIMEOUT, disconnected).await.is_err() {
            warn!("{}: BlueZ does not end the connection", device.address());
        }
    }
}

async fn wait_disconnected(device: &Device) {
    while matches!(is_connected(device).await, Ok(true)) {
        sleep(DISCONNECT_POLL).await;
    }
}

/// Opens a connection as soon as our previous one to the same battery has ended.
pub(super) async fn connect(
    config: &BleConfig,
    guard: &mut ConnectionGuard,
) -> Result<Established, LinkError> {
    guard.battery = Some(config.bluetooth.locks.lock_battery(&config.address).await?);
    let address = config.address.parse().map_err(|_| LinkError::Open {
        endpoint: config.address.clone(),
        reason: "this is not a Bluetooth address".into(),
    })?;
    let attempt = Attempt {
        config,
        guard,
        address,
        deadline: Instant::now() + config.timeout,
        scan_time: config.scan_timeout,
        adopted: false,
        rssi: None,
        others: 0,
    };
    attempt.run().await
}

struct Attempt<'a> {
    config: &'a BleConfig,
    guard: &'a mut ConnectionGuard,
    address: Address,
    deadline: Instant,
    /// What is left of the time for scanning.
    scan_time: Duration,
    /// The battery was connected already, by an earlier run or by another program.
    adopted: bool,
    rssi: Option<i16>,
    /// Devices that were in reach while the battery was not.
    others: usize,
}

impl Attempt<'_> {
    async fn run(mut self) -> Result<Established, LinkError> {
        let config = self.config;
        let endpoint = || config.address.clone();
        let mut retried = false;
        loop {
            let adapter = config.bluetooth.adapter(config.adapter.as_deref()).await?;
            self.guard.bus = Some(adapter.bus.clone());
            let device = self.reach(&adapter).await?;
            match self.open_channel(&adapter, &device).await {
                Ok(Some(established)) => {
                    adapter.lock.note_connected(self.address);
                    return Ok(established);
                }
                Ok(None) if retried => return Err(LinkError::NoService { endpoint: endpoint() }),
                Ok(None) => {
                    warn!(
                        "{}: BlueZ lists other services than this battery type has, reading them \
                         again",
                        self.address
                    );
                    self.guard.release().await;
                    self.remove(&adapter).await;
                }
                Err(error) if error.kind() == Some(&ErrorKind::NotPermitted) => {
                    if self.adopted {
                        // The connection belongs to another program: leave it open.
                        self.guard.device = None;
                    }
                    return Err(LinkError::Busy { endpoint: endpoint(), program: None });
                }
                Err(error) if self.adopted && !retried => {
                    debug!("{}: the existing connection is unusable: {error}", self.address);
                    self.guard.release().await;
                }
                Err(error) => {
                    adapter.lock.update(self.address, |history| history.failures += 1);
                    return Err(adapter.link_error(&error, &config.address).await);
                }
            }
            retried = true;
        }
    }

    /// What is left of the time, but no more than `limit`.
    fn remaining(&self, limit: Duration) -> Duration {
        limit.min(self.deadline.saturating_duration_since(Instant::now()))
    }

    /// Connects, in one turn at the adapter after the other.
    async fn reach(&mut self, adapter: &AdapterHandle) -> Result<Device, LinkError> {
        loop {
            // Released first, so that the next in line comes before us.
            self.guard.adapter = None;
            let asked = Instant::now();
            let permit = adapter.lock.acquire(&self.config.address).await?;
            // Waiting for other batteries does not count against our own time.
            self.deadline += asked.elapsed();
            self.guard.adapter = Some(permit);
            match self.reach_in_turn(adapter).await {
                Ok(Some(device)) => {
                    self.guard.adapter = None;
                    return Ok(device);
                }
                Ok(None) if self.scan_time.is_zero() || self.remaining(RETRY_PAUSE).is_zero() => {
                    adapter.lock.note_unseen(self.address);
                    return Err(LinkError::NotSeen {
                        endpoint: self.config.address.clone(),
                        adapter: adapter.name().into(),
                        others: self.others,
                    });
                }
                Ok(None) => {}
                Err(error) => return Err(adapter.link_error(&error, &self.config.address).await),
            }
        }
    }

    /// `None` when the battery was not seen or not reached this time.
    async fn reach_in_turn(&mut self, adapter: &AdapterHandle) -> Result<Option<Device>, BleError> {
        let device = adapter.adapter.device(self.address)?;
        let history = adapter.lock.history(self.address);
        self.rssi = self.rssi.or(history.rssi);
        let connected = unless_missing(is_connected(&device).await)?;
        let known = connected.is_some();
        self.adopted = connected == Some(true);
        if self.adopted {
            debug!("{}: already connected, using that connection", self.address);
            self.guard.device = Some(device.clone());
            return Ok(Some(device));
        }
        let start_over = history.failures >= FAILURES_BEFORE_REMOVAL;
        if start_over && known {
            let failures = history.failures;
            debug!("{}: {failures} attempts failed, removing it from BlueZ", self.address);
            adapter.lock.update(self.address, |history| history.failures = 0);
            self.remove(adapter).await;
        }
        let scan_first = !known || history.unreached || start_over || self.compares(&history);
        if scan_first && !self.scan(adapter, &device).await? {
            return Ok(None);
        }
        let limit = if scan_first { CONNECT_SEEN_LIMIT } else { CONNECT_KNOWN_LIMIT };
        let Err(error) = self.connect(&device, limit).await else { return Ok(Some(device)) };
        self.guard.disconnect().await;
        adapter.lock.update(self.address, |history| history.unreached = true);
        // Without a scan it is unknown whether the battery is in reach at all: scan next time.
        let try_scan = !scan_first && error.bus_fault().is_none();
        if try_scan || error.is_missing() { Ok(None) } else { Err(error) }
    }

    /// Whether the signal has to be measured, to compare it with that at the proxies.
    fn compares(&self, history: &DeviceHistory) -> bool {
        let BleConfig { bluetooth, adapter, address, .. } = self.config;
        history.rssi.is_none() && adapter.is_none() && bluetooth.proxies.are_in_reach(address)
    }

    /// Whether a scan of one slice sees the battery.
    async fn scan(&mut self, adapter: &AdapterHandle, device: &Device) -> Result<bool, BleError> {
        let started = Instant::now();
        let until = started + self.remaining(SCAN_SLICE).min(self.scan_time);
        let mut scan = Scan::start(adapter).await?;
        let seen = scan.wait_for(device, until).await?;
        if seen.is_none() {
            self.others = self.others.max(count_in_reach(&adapter.adapter).await?);
        }
        scan.stop().await?;
        self.scan_time = self.scan_time.saturating_sub(started.elapsed());
        if seen.is_some() {
            self.rssi = seen;
            adapter.lock.update(self.address, |history| history.rssi = seen);
        }
        Ok(seen.is_some())
    }

    async fn connect(&mut self, device: &Device, limit: Duration) -> Result<(), BleError> {
        let mut tries = 0;
        loop {
            tries += 1;
            self.guard.device = Some(device.clone());
            let result = call_within(self.remaining(limit), "connecting", device.connect()).await;
            let Err(error) = result else { return Ok(()) };
            match error.kind() {
                Some(ErrorKind::AlreadyConnected) => return Ok(()),
                // A pending attempt that was abandoned, or a connection that broke during set-up.
                Some(
                    ErrorKind::InProgress
                    | ErrorKind::Failed
                    | ErrorKind::ConnectionAttemptFailed
                    | ErrorKind::NotAvailable,
                ) if tries < CONNECT_TRIES && !self.remaining(RETRY_PAUSE).is_zero() => {
                    debug!("{}: try {tries}: {error}", self.address);
                    self.guard.disconnect().await;
                    sleep(RETRY_PAUSE).await;
                }
                _ => return Err(error),
            }
        }
    }

    /// Subscribes to a channel of the connected battery. `None`: it has none of the configured
    /// ones, according to BlueZ.
    async fn open_channel(
        &mut self,
        adapter: &AdapterHandle,
        device: &Device,
    ) -> Result<Option<Established>, BleError> {
        // Before anything else, so that the end of the connection is not missed.
        let events = call_quick("watching the device", device.events()).await?.boxed();
        if let Some(passkey) = self.config.passkey {
            let paired = pairing::pair(&adapter.bus, device, passkey);
            call_within(self.remaining(PAIR_LIMIT), "pairing", paired).await?;
        }
        let listed = gatt::characteristics(device);
        let limit = self.remaining(RESOLVE_LIMIT);
        let candidates = call_within(limit, "reading its services", listed).await?;
        let Some(channel) = gatt::choose(&candidates, &self.config.channels) else {
            return Ok(None);
        };
        let mut notifications = Vec::new();
        for characteristic in channel.notify {
            notifications.push(self.subscribe(adapter, characteristic).await?);
        }
        if notifications.is_empty() {
            // An empty list would be over at once.
            notifications.push(stream::pending().boxed());
        }
        for (to, op, bytes) in channel.greeting {
            self.greet(Writer::new(to, op).await, &bytes).await;
        }
        // Subscribing also succeeds on a connection that has just ended.
        if !is_connected(device).await? {
            return Err(BleError::bluez(ErrorKind::Failed, "the connection ended at once"));
        }
        let writer = async { Ok(Writer::new(channel.write, channel.op).await) };
        Ok(Some(Established {
            device: device.clone(),
            name: call_quick("reading its name", device.name()).await.ok().flatten(),
            rssi: self.rssi,
            notifications: select_all(notifications).boxed(),
            events,
            read: channel.read,
            channels: gatt::existing(&candidates, &self.config.channels),
            writer: call_quick("reading the MTU", writer).await?,
        }))
    }

    /// A module may refuse a greeting and answer requests all the same.
    async fn greet(&self, writer: Writer, bytes: &[u8]) {
        for piece in writer.pieces(bytes) {
            let limit = self.remaining(GREETING_LIMIT);
            if let Err(error) = call_within(limit, "greeting", writer.write(piece)).await {
                debug!("{}: the greeting was not accepted: {error}", self.address);
            }
        }
    }

    async fn subscribe(
        &self,
        adapter: &AdapterHandle,
        characteristic: Characteristic,
    ) -> Result<Events<Vec<u8>>, BleError> {
        let notify = async move { Ok(characteristic.notify().await?.boxed()) };
        let limit = self.remaining(SUBSCRIBE_LIMIT);
        let subscribed = call_within(limit, "subscribing", adapter.bus.detached(notify)).await;
        if matches!(subscribed, Err(BleError::TimedOut(_))) {
            // bluer has one lock for all subscriptions, and the pending call still holds it.
            adapter.bluetooth.abandon(&adapter.bus).await;
        }
        subscribed
    }

    /// Makes BlueZ forget the device and the services that it has cached. A device that the user
    /// has paired stays, or the pairing would be lost.
    async fn remove(&self, adapter: &AdapterHandle) {
        let removal = async {
            let paired = adapter.adapter.device(self.address)?.is_paired().await?;
            if paired && self.config.passkey.is_none() {
                return Ok(());
            }
            adapter.adapter.remove_device(self.address).await
        };
        if let Err(error) = call_quick("removing the device", removal).await {
            debug!("{}: not removed: {error}", self.address);
        }
    }
}
