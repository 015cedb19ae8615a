//! Bluetooth Low Energy through BlueZ, the Bluetooth service of Linux, over D-Bus, or through the Bluetooth
//! proxies of ESPHome ([`proxies`], [`proxy`]).
//!
//! One task owns each connection ([`connection`]): dropping a [`BleLink`], or the future of
//! [`open`], leaves the disconnect to that task. That matters because a battery accepts a single
//! connection and BlueZ keeps one that was never ended. Known problems, and what is done about them:
//!
//! - An adapter does one thing at a time, so batteries take turns ([`locks`]).
//! - A call to BlueZ may hang or its reply may get lost, so each call has a limit ([`bus`]); bluer's
//!   own is 120 s.
//! - `notify_io()` is never used, only `notify()`: the file descriptor of the former belongs to one
//!   program, spins at its end and misses what is sent before the subscription is confirmed.
//!
//! After a failed attempt [`recovered`] notices the return of what was missing: BlueZ signals adapters
//! and what any scan sees, and [`lookout`] scans now and then for batteries that were not seen.

mod bus;
mod connect;
mod connection;
mod error;
mod gatt;
mod locks;
mod lookout;
mod operations;
mod pairing;
mod proxies;
mod proxy;
mod proxy_gatt;
mod recovery;
mod scan;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Mutex, oneshot};

pub use connection::BleLink;
pub use proxies::ANY_PROXY;
pub(super) use recovery::recovered;

use super::{LinkError, esphome};

/// Access to the Bluetooth adapters of this machine and to Bluetooth proxies. Clones share one connection
/// to the system bus and to each proxy, and the locks on adapters and batteries, so a process needs a
/// single one.
#[derive(Debug, Clone, Default)]
pub struct Bluetooth {
    bus: Arc<Mutex<Option<Arc<bus::Bus>>>>,
    locks: Arc<locks::Locks>,
    proxies: Arc<proxies::Proxies>,
}

impl Bluetooth {
    /// With these proxies and their names; `None`: as the device calls itself.
    pub fn with_proxies(proxies: Vec<(Option<String>, esphome::Device)>) -> Self {
        let proxies = Arc::new(proxies::Proxies::new(proxies));
        Bluetooth { proxies, ..Bluetooth::default() }
    }

    pub fn proxies(&self) -> impl Iterator<Item = &esphome::Device> {
        self.proxies.devices()
    }

    /// Disconnects from the proxies. Takes a second at most.
    pub async fn close(&self) {
        let closing = self.proxies.devices().map(|device| device.close().boxed());
        futures_util::future::join_all(closing).await;
    }

    /// The state of each proxy, after it has received for this time.
    pub async fn proxy_infos(&self, time: Duration) -> Vec<Result<ProxyInfo, LinkError>> {
        self.proxies.infos(time).await
    }

    /// Whether a battery with this adapter is read through a proxy.
    pub async fn uses_proxy(&self, adapter: Option<&str>) -> bool {
        self.route(adapter, None).await.is_some()
    }

    /// The proxies with this name; `None`: an adapter of this machine. Without a name, an adapter comes
    /// first, unless it did not see this battery, or a proxy is a better choice.
    async fn route(&self, adapter: Option<&str>, battery: Option<&str>) -> Option<Vec<usize>> {
        if self.proxies.is_empty() && adapter != Some(ANY_PROXY) {
            return None;
        }
        let Some(name) = adapter else {
            let adapters = self.adapters().await.unwrap_or_default();
            let adapter = AdapterInfo::choose(&adapters, None).ok();
            let is_local = adapter.is_some_and(|adapter| {
                battery.is_none_or(|battery| self.prefers_adapter(&adapter.name, battery))
            });
            return if is_local { None } else { Some(self.proxies.named(ANY_PROXY).await) };
        };
        let named = self.proxies.named(name).await;
        (!named.is_empty() || name == ANY_PROXY).then_some(named)
    }
}

impl Bluetooth {
    /// Whether this adapter is a better choice for the battery than the proxies.
    fn prefers_adapter(&self, adapter: &str, battery: &str) -> bool {
        self.proxies.keep_listening();
        let address = battery.parse().ok();
        let rssi = address.and_then(|it| self.locks.adapter(adapter).history(it).rssi);
        !self.proxies.is_out_of_reach(battery) && !self.proxies.are_better(battery, rssi)
    }
}

/// Connects to a battery, finds its characteristics and subscribes to them.
///
/// Takes `timeout` at most, plus up to a minute for other batteries on the adapter and a few seconds
/// to disconnect. Dropping the future is safe at any point.
pub async fn open(config: &BleConfig) -> Result<BleLink, LinkError> {
    let (reply, result) = oneshot::channel();
    let route = config.bluetooth.route(config.adapter.as_deref(), Some(&config.address)).await;
    let is_local = route.is_none();
    let task = match route {
        None => connection::run(config.clone(), reply).boxed(),
        Some(proxies) => proxy::run(config.clone(), proxies, reply).boxed(),
    };
    tokio::spawn(task);
    let endpoint = config.address.clone();
    let opened = result
        .await
        .unwrap_or_else(|_| Err(LinkError::Open { endpoint, reason: "its task has ended".into() }));
    let BleConfig { bluetooth: Bluetooth { proxies, .. }, address, .. } = config;
    if config.adapter.is_none() && opened.as_ref().is_err_and(is_missing) {
        // The next attempt goes the other way.
        proxies.set_out_of_reach(address, is_local);
    }
    if config.adapter.is_none() && is_local {
        proxies.note_local(address, opened.is_ok());
    }
    opened
}

/// Whether the battery, or the proxy next to it, is not there.
fn is_missing(error: &LinkError) -> bool {
    match error {
        LinkError::NotSeen { .. } => true,
        LinkError::Esphome { fault, .. } => fault.may_pass(),
        _ => false,
    }
}

/// Which battery to connect to, and how long that may take.
#[derive(Debug, Clone)]
pub struct BleConfig {
    pub bluetooth: Bluetooth,
    /// Of the battery, as in `AA:BB:CC:DD:EE:FF`.
    pub address: String,
    /// Name (`hci0`) or address of our adapter, or name of a proxy; when not given, the first adapter that
    /// is switched on, or any proxy if there is none or it does not see the battery.
    pub adapter: Option<String>,
    /// Time to scan for a battery that BlueZ does not know.
    pub scan_timeout: Duration,
    /// For the whole opening, except the wait for other batteries on the same adapter.
    pub timeout: Duration,
    /// For boards that require pairing.
    pub passkey: Option<Passkey>,
    /// Channels that the battery may have, the usual one first.
    pub channels: Vec<BleChannel>,
}

/// The characteristics that carry the conversation with a battery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BleChannel {
    /// All of them are subscribed to; their notifications form one stream.
    pub notify: Vec<CharacteristicId>,
    /// May belong to another service.
    pub write: CharacteristicId,
    /// Write with response if the characteristic allows both; otherwise without.
    pub prefer_response: bool,
    /// Nothing is ever written, so `write` need not be writable.
    pub read_only: bool,
    /// Written once after subscribing, in this order, where the battery has the characteristic.
    pub greeting: Vec<(CharacteristicId, Vec<u8>)>,
    /// Values to read: sending the number of one reads it, and it is received behind its number and length.
    pub read: Vec<CharacteristicId>,
}

/// The UUIDs of a characteristic and of its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CharacteristicId {
    pub service: u128,
    pub uuid: u128,
}

/// The number of six digits that a board asks for when pairing. Its `Debug` shows no digit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Passkey(u32);

impl Passkey {
    /// `None` unless the text is six digits, as boards show them.
    pub fn parse(text: &str) -> Option<Passkey> {
        let digits = text.len() == 6 && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().ok().map(Passkey)).flatten()
    }
}

impl fmt::Debug for Passkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A device that a scan saw, or that is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BleDevice {
    /// Name of the adapter or proxy that saw it.
    pub adapter: String,
    pub address: String,
    pub name: Option<String>,
    /// Signal strength in dBm; a connected device has none.
    pub rssi: Option<i16>,
    pub services: Vec<u128>,
    /// Advertised manufacturer data, by company identifier.
    pub manufacturer: Vec<(u16, Vec<u8>)>,
    /// A program on this machine is connected to it.
    pub connected: bool,
}

/// A Bluetooth proxy that serves us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyInfo {
    pub name: String,
    /// As errors show it.
    pub endpoint: String,
    /// Of ESPHome.
    pub version: String,
    /// Devices in reach.
    pub devices: usize,
    /// Free connections, and all; `None`: it does not report them.
    pub slots: Option<(u64, u64)>,
}

/// `garage (esphome://10.0.0.7), ESPHome 2026.10.0: 12 devices in reach, 2 of 3 connections free`
impl fmt::Display for ProxyInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ProxyInfo { name, endpoint, version, devices, slots } = self;
        write!(f, "{name} ({endpoint}), ESPHome {version}: {devices} devices in reach")?;
        match slots {
            Some((free, limit)) => write!(f, ", {free} of {limit} connections free"),
            None => Ok(()),
        }
    }
}

/// A Bluetooth adapter of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterInfo {
    /// Name in BlueZ, as in `hci0`.
    pub name: String,
    pub address: String,
    pub powered: bool,
}

impl AdapterInfo {
    /// The adapter of that name or address, or else the first that is switched on.
    pub fn choose<'a>(
        found: &'a [AdapterInfo],
        wanted: Option<&str>,
    ) -> Result<&'a AdapterInfo, LinkError> {
        let is_wanted = |adapter: &&AdapterInfo| {
            wanted.is_none_or(|name| {
                adapter.name == name || adapter.address.eq_ignore_ascii_case(name)
            })
        };
        match found.iter().filter(is_wanted).min_by_key(|adapter| !adapter.powered) {
            Some(adapter) if adapter.powered => Ok(adapter),
            Some(adapter) => Err(LinkError::AdapterOff { adapter: adapter.name.clone() }),
            None => Err(LinkError::NoAdapter { adapter: wanted.map(str::to_owned) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passkey_has_six_digits() {
        assert_eq!(Passkey::parse("012345"), Some(Passkey(12345)));
        for wrong in ["", "12345", "1234567", "12345a", "+12345", "１２３４５６"] {
            assert_eq!(Passkey::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn passkey_debug_shows_no_digit() {
        assert_eq!(format!("{:?}", Passkey(123_456)), "***");
    }
}
