//! The way to an open conversation: find, connect, pair, look, listen.

use std::pin::Pin;
use std::time::Duration;

use bluer::gatt::WriteOp;
use bluer::gatt::remote::Characteristic;
use bluer::{Address, Device, DeviceEvent, ErrorKind};
use futures_util::{Stream, StreamExt};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

use super::bus::{self, Bus, Reached, ask, within};
use super::radio::{Radio, Turn};
use super::scan::{Scan, in_reach};
use super::trouble::Snag;
use super::{BleConfig, LinkError, gatt, pairing};

/// A battery that is not seen keeps the adapter from the others for this long at a time.
const SLICE: Duration = Duration::from_secs(5);

/// For a battery that a scan has just seen, and for one that BlueZ knows from earlier.
const CONNECT_SEEN: Duration = Duration::from_secs(15);
const CONNECT_KNOWN: Duration = Duration::from_secs(8);
const CONNECT_TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(250);

const PAIR_LIMIT: Duration = Duration::from_secs(20);
const RESOLVE_LIMIT: Duration = Duration::from_secs(12);
const SUBSCRIBE_LIMIT: Duration = Duration::from_secs(6);

/// BlueZ takes up to two seconds to end a link.
const PARTING: Duration = Duration::from_secs(2);

/// For BlueZ to say that the link has ended, after it was asked twice if need be.
const FAREWELL: Duration = Duration::from_secs(8);

/// Attempts in a row that reach a battery and fail before BlueZ is made to forget it.
const ROUNDS: u32 = 3;

pub(super) type Events<T> = Pin<Box<dyn Stream<Item = T> + Send>>;

/// An open conversation.
pub(super) struct Dialed {
    pub(super) device: Device,
    pub(super) rssi: Option<i16>,
    pub(super) place: usize,
    pub(super) notifications: Events<Vec<u8>>,
    pub(super) events: Events<DeviceEvent>,
    pub(super) write: Characteristic,
    pub(super) kind: WriteOp,
    pub(super) longest: usize,
}

/// What must be given back, however an attempt ends: dropping the attempt leaves it here.
#[derive(Debug, Default)]
pub(super) struct Claim {
    device: Option<Device>,
    turn: Option<Turn>,
    /// Keeps the connection to the bus until the goodbye.
    bus: Option<Bus>,
}

impl Claim {
    /// Says goodbye, waits until it has arrived, and lets others use the adapter.
    pub(super) async fn release(&mut self) {
        self.hang_up().await;
        (self.turn, self.bus) = (None, None);
    }

    async fn hang_up(&mut self) {
        if let Some(device) = self.device.take() {
            hang_up(&device).await;
        }
    }
}

async fn hang_up(device: &Device) {
    let parting = async {
        loop {
            if let Err(snag) = ask("disconnecting", device.disconnect()).await {
                debug!("{}: no goodbye: {}", device.address(), snag.reason());
            }
            if timeout(PARTING, parted(device)).await.is_ok() {
                return;
            }
        }
    };
    if timeout(FAREWELL, parting).await.is_err() {
        warn!("{}: BlueZ does not end the connection", device.address());
    }
}

/// Waits until the device is not connected, as far as BlueZ knows.
async fn parted(device: &Device) {
    while matches!(ask("looking at the link", device.is_connected()).await, Ok(true)) {
        sleep(PAUSE / 5).await;
    }
}

/// One attempt to open a conversation.
pub(super) struct Attempt<'a> {
    config: &'a BleConfig,
    claim: &'a mut Claim,
    address: Address,
    deadline: Instant,
    /// Found connected, by an earlier run or by another program.
    taken_over: bool,
    rssi: Option<i16>,
    /// Other devices that a scan saw in vain.
    others: usize,
}

/// How an attempt to find a conversation on a connected battery ends.
enum Found {
    Conversation(Box<Dialed>),
    /// The battery has none of the places, as far as BlueZ knows.
    NoPlace,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(config: &'a BleConfig, claim: &'a mut Claim) -> Result<Self, LinkError> {
        let Ok(address) = config.address.parse() else {
            return Err(LinkError::Open {
                place: config.address.clone(),
                reason: "this is not a Bluetooth address".into(),
            });
        };
        let deadline = Instant::now() + config.timeout;
        Ok(Attempt { config, claim, address, deadline, taken_over: false, rssi: None, others: 0 })
    }

    pub(super) async fn dial(mut self) -> Result<Dialed, LinkError> {
        let mut fresh = false;
        loop {
            let reached = bus::adapter(self.config.adapter.as_deref()).await?;
            self.claim.bus = Some(reached.bus.clone());
            let radio = Radio::of(reached.adapter.name());
            let device = self.reach(&reached, &radio).await?;
            let outcome = self.find_conversation(&reached, &device).await;
            let adapter = reached.adapter.name();
            match outcome {
                Ok(Found::Conversation(dialed)) => {
                    radio.learn(self.address, |known| (known.elusive, known.failures) = (false, 0));
                    return Ok(*dialed);
                }
                Ok(Found::NoPlace) if fresh => {
                    return Err(LinkError::NoService { place: self.place() });
                }
                Ok(Found::NoPlace) => self.forget(&reached).await,
                Err(snag) if snag.kind() == Some(&ErrorKind::NotPermitted) => {
                    if self.taken_over {
                        // It is another program's connection, and stays so.
                        self.claim.device = None;
                    }
                    return Err(LinkError::Busy { place: self.place() });
                }
                Err(snag) if self.taken_over && !fresh => {
                    debug!(
                        "{}: the connection found is of no use: {}",
                        self.place(),
                        snag.reason()
                    );
                    self.claim.release().await;
                }
                Err(snag) => {
                    radio.learn(self.address, |known| known.failures += 1);
                    return Err(self.failed(&reached, &snag, adapter).await);
                }
            }
            fresh = true;
        }
    }

    async fn failed(&self, reached: &Reached, snag: &Snag, adapter: &str) -> LinkError {
        if snag.bus().is_some() {
            reached.leave_bus().await;
        }
        snag.at(&self.place(), adapter)
    }

    fn place(&self) -> String {
        self.config.address.clone()
    }

    fn left(&self, limit: Duration) -> Duration {
        limit.min(self.deadline.saturating_duration_since(Instant::now()))
    }

    /// Waits for the others; what that takes is not ours.
    async fn take_turn(&mut self, radio: &Radio) -> Result<(), LinkError> {
        // Let go first: whoever is next in line goes before us.
        self.claim.turn = None;
        let asked = Instant::now();
        let turn = radio.turn(&self.config.address).await;
        self.deadline += asked.elapsed();
        self.claim.turn = Some(turn?);
        Ok(())
    }

    /// The device, connected.
    async fn reach(&mut self, reached: &Reached, radio: &Radio) -> Result<Device, LinkError> {
        let adapter = reached.adapter.name();
        let mut search = self.config.scan_timeout;
        loop {
            self.take_turn(radio).await?;
            match self.reach_in_turn(reached, radio, &mut search).await {
                Ok(Some(device)) => {
                    self.claim.turn = None;
                    return Ok(device);
                }
                Ok(None) if search.is_zero() || self.left(PAUSE).is_zero() => {
                    radio.learn(self.address, |known| known.elusive = true);
                    let (place, others) = (self.place(), self.others);
                    return Err(LinkError::NotSeen { place, adapter: adapter.into(), others });
                }
                Ok(None) => {}
                Err(snag) => return Err(self.failed(reached, &snag, adapter).await),
            }
        }
    }

    /// `None` when it was not seen or not reached this time.
    async fn reach_in_turn(
        &mut self,
        reached: &Reached,
        radio: &Radio,
        search: &mut Duration,
    ) -> Result<Option<Device>, Snag> {
        let device = reached.adapter.device(self.address).map_err(Snag::Said)?;
        let known = radio.known(self.address);
        self.rssi = self.rssi.or(known.rssi);
        let connected = match ask("looking for the device", device.is_connected()).await {
            Ok(connected) => Some(connected),
            Err(snag) if snag.is_missing() => None,
            Err(snag) => return Err(snag),
        };
        if connected == Some(true) {
            debug!("{}: found connected, taking the connection over", self.place());
            (self.taken_over, self.claim.device) = (true, Some(device.clone()));
            return Ok(Some(device));
        }
        self.taken_over = false;
        let mut seen = false;
        if known.failures >= ROUNDS && connected.is_some() {
            debug!("{}: {} attempts failed, BlueZ starts over", self.place(), known.failures);
            radio.learn(self.address, |known| known.failures = 0);
            self.remove(reached).await;
        }
        if connected.is_none() || known.elusive || known.failures >= ROUNDS {
            let Some(rssi) = self.search(reached, &device, search).await? else { return Ok(None) };
            seen = true;
            self.rssi = Some(rssi);
            radio.learn(self.address, |known| known.rssi = Some(rssi));
        }
        match self.connect(&device, if seen { CONNECT_SEEN } else { CONNECT_KNOWN }).await {
            Ok(()) => Ok(Some(device)),
            Err(snag) => {
                self.claim.hang_up().await;
                radio.learn(self.address, |known| known.elusive = true);
                // Nobody has seen it today: a scan tells whether it is there at all.
                let doubtful = !seen && snag.bus().is_none();
                if doubtful || snag.is_missing() { Ok(None) } else { Err(snag) }
            }
        }
    }

    async fn search(
        &mut self,
        reached: &Reached,
        device: &Device,
        search: &mut Duration,
    ) -> Result<Option<i16>, Snag> {
        let begun = Instant::now();
        let until = begun + self.left(SLICE).min(*search);
        let mut scan = Scan::start(reached).await?;
        let seen = scan.see(device, until).await?;
        if seen.is_none() {
            self.others = self.others.max(in_reach(&reached.adapter).await?);
        }
        if scan.is_stale() {
            reached.leave_bus().await;
        }
        scan.stop().await?;
        *search = search.saturating_sub(begun.elapsed());
        Ok(seen)
    }

    async fn connect(&mut self, device: &Device, limit: Duration) -> Result<(), Snag> {
        let mut tries = 0;
        loop {
            tries += 1;
            self.claim.device = Some(device.clone());
            let result = within(self.left(limit), "connecting", device.connect()).await;
            let snag = match result {
                Ok(()) => return Ok(()),
                Err(snag) => snag,
            };
            match snag.kind() {
                Some(ErrorKind::AlreadyConnected) => return Ok(()),
                // An attempt that was left alone, or a link that broke while it was set up.
                Some(
                    ErrorKind::InProgress
                    | ErrorKind::Failed
                    | ErrorKind::ConnectionAttemptFailed
                    | ErrorKind::NotAvailable,
                ) if tries < CONNECT_TRIES && !self.left(PAUSE).is_zero() => {
                    debug!("{}: try {tries}: {}", self.place(), snag.reason());
                    self.claim.hang_up().await;
                    sleep(PAUSE).await;
                }
                _ => return Err(snag),
            }
        }
    }

    async fn find_conversation(
        &mut self,
        reached: &Reached,
        device: &Device,
    ) -> Result<Found, Snag> {
        // Before anything else, so that no end of the link is missed.
        let events = ask("watching the device", device.events()).await?.boxed();
        if let Some(passkey) = self.config.passkey {
            let limit = self.left(PAIR_LIMIT);
            let paired = pairing::pair(&reached.bus, device, passkey);
            within(limit, "pairing", paired).await?;
        }
        let limit = self.left(RESOLVE_LIMIT);
        let offers = within(limit, "reading its services", gatt::offers(device)).await?;
        let Some(chosen) = gatt::choose(&offers, &self.config.places) else {
            return Ok(Found::NoPlace);
        };
        let notify = async move { Ok(chosen.notify.notify().await?.boxed()) };
        let listen = reached.bus.to_the_end(notify);
        let limit = self.left(SUBSCRIBE_LIMIT);
        let notifications = match within(limit, "subscribing", listen).await {
            Ok(notifications) => notifications,
            Err(snag) => {
                if matches!(snag, Snag::Late(_)) {
                    // bluer has one lock for all subscriptions, and that call holds it on.
                    reached.leave_bus().await;
                }
                return Err(snag);
            }
        };
        // A subscription succeeds on a link that has just ended, too.
        if !ask("looking at the link", device.is_connected()).await? {
            return Err(Snag::Late("keeping the link"));
        }
        Ok(Found::Conversation(Box::new(Dialed {
            device: device.clone(),
            rssi: self.rssi,
            place: chosen.place,
            notifications,
            events,
            longest: ask("asking for the MTU", async {
                Ok(gatt::longest_write(&chosen.write).await)
            })
            .await?,
            write: chosen.write,
            kind: chosen.kind,
        })))
    }

    /// Ends the link and makes BlueZ forget the services that it remembers of the device.
    async fn forget(&mut self, reached: &Reached) {
        warn!("{}: BlueZ knows other services of it than needed: asking anew", self.place());
        self.claim.release().await;
        self.remove(reached).await;
    }

    /// A device that a person has paired stays: the pairing would be lost with it.
    async fn remove(&self, reached: &Reached) {
        let removal = async {
            let paired = reached.adapter.device(self.address)?.is_paired().await?;
            if paired && self.config.passkey.is_none() {
                return Ok(());
            }
            reached.adapter.remove_device(self.address).await
        };
        if let Err(snag) = ask("removing the device", removal).await {
            debug!("{}: not removed: {}", self.place(), snag.reason());
        }
    }
}
