//! Bluetooth Low Energy through BlueZ, the Bluetooth service of Linux, over D-Bus.
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
mod pairing;
mod recovery;
mod scan;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

pub use connection::{BleLink, open};
pub(super) use recovery::recovered;

use super::LinkError;

/// Access to the Bluetooth adapters of this machine. Clones share one connection to the system bus
/// and the locks on adapters and batteries, so a process needs a single one.
#[derive(Debug, Clone, Default)]
pub struct Bluetooth {
    bus: Arc<Mutex<Option<Arc<bus::Bus>>>>,
    locks: Arc<locks::Locks>,
}

/// Which battery to connect to, and how long that may take.
#[derive(Debug, Clone)]
pub struct BleConfig {
    pub bluetooth: Bluetooth,
    /// Of the battery, as in `AA:BB:CC:DD:EE:FF`.
    pub address: String,
    /// Name (`hci0`) or address of our adapter; the first that is switched on when not given.
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
    /// Name of the adapter that saw it.
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
