//! What is known of a battery before it has said a word: its name and where it is.

use std::fmt;
use std::ops::RangeInclusive;

use serde::Serialize;

use super::reading::Switch;

/// Time between two reads that may be asked for, in milliseconds.
pub const INTERVAL_MS: RangeInclusive<i64> = 500..=3_600_000;
/// Time for one answer, or for one whole read over Bluetooth.
pub const TIMEOUT_MS: RangeInclusive<i64> = 100..=120_000;
/// Time to look for a Bluetooth device.
pub const SCAN_TIMEOUT_MS: RangeInclusive<i64> = 1000..=60_000;

/// Identity of a battery in topics and unique ids: `[A-Za-z0-9_-]+`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct DeviceId(String);

impl DeviceId {
    /// `None` when the text holds anything but letters, digits, `_` and `-`, or nothing.
    pub fn new(text: &str) -> Option<Self> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        (!text.is_empty() && text.bytes().all(fits)).then(|| DeviceId(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A configured battery as the sinks see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Identity.
    pub id: DeviceId,
    /// What people see.
    pub name: String,
    /// The configured type: `daren`, `simulated`, ...
    pub brand: String,
    /// The brand in words, for the manufacturer field: `Daren`.
    pub title: String,
    /// Serial device or `tcp://host:port`; `None` for Bluetooth.
    pub port: Option<String>,
    /// Address on the bus, or the Bluetooth address.
    pub address: Option<String>,
    /// Bluetooth adapter.
    pub adapter: Option<String>,
    /// Milliseconds between two reads.
    pub interval_ms: u64,
    /// Switches that the operator allowed to be turned.
    pub controls: Vec<Switch>,
}

impl Profile {
    /// A battery without an endpoint, named after its ID.
    pub fn new(id: DeviceId, brand: &str, title: &str) -> Self {
        Profile {
            name: id.to_string(),
            id,
            brand: brand.to_owned(),
            title: title.to_owned(),
            port: None,
            address: None,
            adapter: None,
            interval_ms: 0,
            controls: Vec::new(),
        }
    }
}

/// The six bytes of a Bluetooth address.
pub fn address_bytes(text: &str) -> Option<[u8; 6]> {
    let mut bytes = [0; 6];
    let mut pairs = text.split([':', '-']);
    for byte in &mut bytes {
        let pair = pairs.next().filter(|pair| pair.len() == 2)?;
        // `from_str_radix` would take a sign.
        let digits = pair.bytes().all(|digit| digit.is_ascii_hexdigit());
        *byte = digits.then(|| u8::from_str_radix(pair, 16).ok()).flatten()?;
    }
    pairs.next().is_none().then_some(bytes)
}

#[cfg(test)]
impl Profile {
    /// A battery of no particular interest, at no particular place.
    pub(crate) fn sample(id: &str) -> Self {
        let id = DeviceId::new(id).expect("a valid ID");
        Profile { interval_ms: 30_000, ..Profile::new(id, "daren", "Daren") }
    }
}
