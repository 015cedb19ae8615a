//! Bluetooth Low Energy through BlueZ, the Bluetooth service of Linux, over D-Bus.
//!
//! One task owns each conversation ([`link`]): whoever drops a [`BleLink`], or stops waiting for
//! [`open`], leaves the goodbye to that task. A battery has one slot, and BlueZ keeps a connection
//! that nobody ended. What goes wrong between the two, and what is done about it:
//!
//! - an adapter does one thing at a time, batteries take turns ([`radio`]);
//! - a call to BlueZ may hang or be lost, so each has a limit of its own ([`bus`]); bluer's is 120 s;
//! - `notify()`, never `notify_io()`: a file descriptor belongs to one program, spins at its end
//!   and misses what comes before the subscription is confirmed.

mod bus;
mod dial;
mod gatt;
mod link;
mod pairing;
mod radio;
mod scan;
mod trouble;

use std::fmt;
use std::time::Duration;

pub use bus::adapters;
pub use link::BleLink;
pub use scan::scan;
pub use trouble::BusFault;

use super::LinkError;

/// Which battery, and how long it may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BleConfig {
    /// Its address, `AA:BB:CC:DD:EE:FF`.
    pub address: String,
    /// Name (`hci0`) or address of our adapter; the first that is switched on when not given.
    pub adapter: Option<String>,
    /// How long to look for a battery that BlueZ does not know.
    pub scan_timeout: Duration,
    /// For all of an opening but the wait for other batteries on the same adapter.
    pub timeout: Duration,
    /// For boards that want to be paired.
    pub passkey: Option<Passkey>,
    /// Where the conversation may be found, the usual place first.
    pub places: Vec<BlePlace>,
}

/// One pair of characteristics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlePlace {
    /// Service.
    pub service: u128,
    /// Characteristic whose notifications are the battery's words.
    pub notify: u128,
    /// Characteristic that takes ours.
    pub write: u128,
}

/// The number of up to six digits that a board asks for when pairing. Never prints itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Passkey(u32);

impl Passkey {
    /// Six digits, as boards show them.
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
pub struct BleFound {
    /// The adapter that saw it.
    pub adapter: String,
    /// Its address.
    pub address: String,
    /// What it calls itself.
    pub name: Option<String>,
    /// Strength of its signal in dBm; a connected device has none.
    pub rssi: Option<i16>,
    /// Services that it advertises.
    pub services: Vec<u128>,
    /// Manufacturer data that it advertises, by company.
    pub manufacturer: Vec<(u16, Vec<u8>)>,
    /// A program of this machine holds a connection to it.
    pub connected: bool,
}

/// A Bluetooth adapter of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterFound {
    /// Name: `hci0`.
    pub name: String,
    /// Its own address.
    pub address: String,
    /// It is switched on.
    pub powered: bool,
}

/// Connects, finds the conversation and listens to it.
///
/// Bounded by itself: by `timeout`, a wait of at most a minute for other batteries on the adapter,
/// and a goodbye of a few seconds. Dropping the future is safe at any point.
pub async fn open(config: &BleConfig) -> Result<BleLink, LinkError> {
    link::open(config.clone()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passkey_has_six_digits_and_prints_none_of_them() {
        assert_eq!(Passkey::parse("012345"), Some(Passkey(12345)));
        for wrong in ["", "12345", "1234567", "12345a", "+12345", "１２３４５６"] {
            assert_eq!(Passkey::parse(wrong), None, "{wrong}");
        }
        assert_eq!(format!("{:?}", Passkey(123_456)), "***");
    }
}
