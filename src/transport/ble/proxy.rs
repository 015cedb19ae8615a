//! A connection through a Bluetooth proxy: an ESP32 with ESPHome that is near the battery.
//!
//! As with BlueZ, one task owns each connection, from the first step to the disconnect.

use std::time::Duration;

use bluer::gatt::{CharacteristicFlags, WriteOp};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

use super::connection::{BleLink, Opened};
use super::gatt::{self, Candidate};
use super::locks::Permit;
use super::operations::Operations;
use super::proxies::{self, parse_address, unreachable};
use super::proxy_gatt::ProxyGatt;
use super::{BleChannel, BleConfig, CharacteristicId, LinkError};
use crate::transport::EsphomeFault;
use crate::transport::esphome::bluetooth::{self as api, Characteristic};
use crate::transport::esphome::radio::Radio;
use crate::transport::esphome::{Notice, Peer, PeerError, end_reason};

/// A connect may take as long as this; the proxy's own limit is about half a minute.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
const DISCONNECT_LIMIT: Duration = Duration::from_secs(5);
/// While the proxy tries to connect, it ends only after the attempt.
const CANCEL_LIMIT: Duration = Duration::from_secs(10);
/// A battery is not ready for the next connection at once.
const SETTLE: Duration = Duration::from_millis(250);
/// The longest wait for another battery to release its connection.
const SLOT_LIMIT: Duration = Duration::from_secs(10);

/// What has to be released, however an attempt ends.
#[derive(Debug, Default)]
struct Claim {
    /// The battery is ours until this is dropped, after the disconnect.
    battery: Option<Permit>,
    /// Present while the proxy may be connected to the battery, or may try to connect.
    peer: Option<(Peer, Duration)>,
    /// The proxy connects to one battery at a time.
    proxy: Option<Permit>,
}

impl Claim {
    async fn release(&mut self) {
        let Some((peer, limit)) = self.peer.take() else { return };
        match peer.disconnect(limit).await {
            Ok(()) => sleep(SETTLE).await,
            Err(PeerError::ProxyLost(_)) => {}
            Err(error) => warn!("the Bluetooth proxy does not end a connection: {error}"),
        }
        self.proxy = None;
    }
}

struct Established {
    opened: Opened,
    notices: mpsc::Receiver<Notice>,
}

/// The task of one connection through one of these proxies.
pub(super) async fn run(
    config: BleConfig,
    wanted: Vec<usize>,
    mut reply: oneshot::Sender<Result<BleLink, LinkError>>,
) {
    let mut claim = Claim::default();
    let established = tokio::select! {
        biased;
        () = reply.closed() => None,
        established = connect(&config, &wanted, &mut claim) => Some(established),
    };
    match established {
        None => claim.release().await,
        Some(Err(error)) => {
            claim.release().await;
            drop(claim);
            let _ = reply.send(Err(error));
        }
        Some(Ok(Established { opened, mut notices })) => {
            let (link, task) = BleLink::new(opened);
            // If nothing waits for the link any more, it is dropped here and ends the task at once.
            let _ = reply.send(Ok(link));
            let forwarding = async {
                loop {
                    match notices.recv().await {
                        Some(Ok(chunk)) => task.send(chunk),
                        Some(Err(code)) => return end_reason(code),
                        None => return "the connection to the Bluetooth proxy was lost".to_owned(),
                    }
                }
            };
            task.run(forwarding).await;
            let status = task.end();
            claim.release().await;
            drop(claim);
            drop(status);
        }
    }
}

async fn connect(
    config: &BleConfig,
    wanted: &[usize],
    claim: &mut Claim,
) -> Result<Established, LinkError> {
    let bluetooth = &config.bluetooth;
    claim.battery = Some(bluetooth.locks.lock_battery(&config.address).await?);
    let address = parse_address(&config.address).ok_or_else(|| LinkError::Open {
        endpoint: config.address.clone(),
        reason: "this is not a Bluetooth address".into(),
    })?;
    let candidate = bluetooth.proxies.find(config, wanted, address).await?;
    let mut attempt = Attempt { config, candidate, address, deadline: Instant::now() };
    let permit = bluetooth.locks.adapter(bluetooth.proxies.endpoint(attempt.candidate.index));
    claim.proxy = Some(permit.acquire(&config.address).await?);
    // Waiting for other batteries does not count against our own time.
    attempt.deadline = Instant::now() + config.timeout;
    let index = attempt.candidate.index;
    match attempt.run(claim).await {
        Ok(established) => {
            bluetooth.proxies.note_connected(index, address);
            Ok(established)
        }
        Err(error) => {
            bluetooth.proxies.note_failure(index, address);
            Err(error)
        }
    }
}

struct Attempt<'a> {
    config: &'a BleConfig,
    candidate: proxies::Candidate,
    address: u64,
    deadline: Instant,
}

impl Attempt<'_> {
    /// What is left of the time, but no more than `limit`.
    fn remaining(&self, limit: Duration) -> Duration {
        limit.min(self.deadline.saturating_duration_since(Instant::now()))
    }

    async fn run(&self, claim: &mut Claim) -> Result<Established, LinkError> {
        self.wait_for_slot().await?;
        let mut peer = self.candidate.proxy.peer(self.address);
        claim.peer = Some((peer.clone(), CANCEL_LIMIT));
        let limit = self.remaining(CONNECT_LIMIT);
        let address_type = self.candidate.received.address_type;
        let connected = peer.connect(address_type, limit).await;
        let notices = connected.map_err(|error| self.not_connected(error))?;
        claim.peer = Some((peer.clone(), DISCONNECT_LIMIT));
        claim.proxy = None;
        let limit = self.remaining(Duration::MAX);
        let opened = timeout(limit, self.open_channel(peer)).await;
        let opened = opened.unwrap_or(Err(PeerError::TimedOut("opening the connection")));
        let opened = opened.map_err(|error| self.failed(error))?;
        let no_service = || LinkError::NoService { endpoint: self.config.address.clone() };
        Ok(Established { opened: opened.ok_or_else(no_service)?, notices })
    }

    async fn wait_for_slot(&self) -> Result<(), LinkError> {
        let mut radio = self.candidate.proxy.radio();
        if !radio.borrow().has_slot() {
            self.candidate.proxy.refresh_slots().await;
        }
        let slot = radio.wait_for(Radio::has_slot);
        match timeout(self.remaining(SLOT_LIMIT), slot).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(self.proxy_failed(unreachable(&self.candidate.proxy))),
            Err(_) => Err(self.no_slot()),
        }
    }

    fn proxy_failed(&self, fault: EsphomeFault) -> LinkError {
        self.config.bluetooth.proxies.failed(self.candidate.index, fault)
    }

    fn no_slot(&self) -> LinkError {
        let radio = self.candidate.proxy.radio();
        let limit = radio.borrow().slots.as_ref().map_or(0, |slots| slots.limit);
        self.proxy_failed(EsphomeFault::NoSlot(limit))
    }

    /// A connect without a free slot fails without an error number.
    fn not_connected(&self, error: PeerError) -> LinkError {
        let radio = self.candidate.proxy.radio();
        let is_full = !radio.borrow().has_slot();
        match error {
            PeerError::Disconnected(0) if is_full => self.no_slot(),
            error => self.failed(error),
        }
    }

    fn failed(&self, error: PeerError) -> LinkError {
        let endpoint = self.config.address.clone();
        match error {
            PeerError::ProxyLost(reason) => self.proxy_failed(EsphomeFault::Unreachable(reason)),
            error if error.needs_pairing() => {
                LinkError::Esphome { endpoint, fault: EsphomeFault::PinRequired }
            }
            error => {
                let (name, rssi) = (&self.candidate.name, self.candidate.received.rssi);
                let reason = format!("{error}; through the Bluetooth proxy {name}, {rssi} dBm");
                LinkError::Open { endpoint, reason }
            }
        }
    }

    /// Subscribes to a channel of the connected battery. `None`: it has none of the configured ones.
    async fn open_channel(&self, peer: Peer) -> Result<Option<Opened>, PeerError> {
        let found = peer.characteristics().await?;
        let candidates: Vec<_> = found.into_iter().map(candidate).collect();
        let Some(channel) = gatt::choose(&candidates, &self.config.channels) else {
            return Ok(None);
        };
        for characteristic in &channel.notify {
            peer.subscribe(characteristic).await?;
        }
        for (to, op, bytes) in &channel.greeting {
            for piece in bytes.chunks(peer.max_write) {
                // A module may refuse a greeting and answer requests all the same.
                let with_response = *op == WriteOp::Request;
                if let Err(error) = peer.write(to.handle, with_response, piece).await {
                    debug!("{}: the greeting was not accepted: {error}", self.config.address);
                }
            }
        }
        let channels: Vec<BleChannel> = gatt::existing(&candidates, &self.config.channels);
        let received = &self.candidate.received;
        Ok(Some(Opened {
            address: self.config.address.clone(),
            name: received.advertised.name.clone(),
            adapter: self.candidate.name.clone(),
            rssi: Some(received.rssi),
            operations: Operations::Proxy(ProxyGatt {
                peer,
                write: channel.write.handle,
                with_response: channel.op == WriteOp::Request,
                read: channel.read.iter().map(|it| it.handle).collect(),
            }),
            channels,
        }))
    }
}

fn candidate(characteristic: Characteristic) -> Candidate<Characteristic> {
    let can = |bit| characteristic.properties & bit != 0;
    let flags = CharacteristicFlags {
        read: can(api::READABLE),
        write: can(api::WRITABLE),
        write_without_response: can(api::WRITABLE_WITHOUT_RESPONSE),
        notify: can(api::NOTIFIES),
        indicate: can(api::INDICATES),
        ..CharacteristicFlags::default()
    };
    let Characteristic { service, uuid, .. } = characteristic;
    Candidate { id: CharacteristicId { service, uuid }, flags, characteristic }
}
