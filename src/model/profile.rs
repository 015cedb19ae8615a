//! The configuration of a battery as the sinks see it.

use std::fmt;
use std::ops::RangeInclusive;

use serde::Serialize;

use super::reading::Switch;

/// Allowed interval between two reads, in milliseconds.
pub const INTERVAL_MS: RangeInclusive<i64> = 500..=3_600_000;
/// Allowed timeout of one reply, or of a whole read over Bluetooth.
pub const TIMEOUT_MS: RangeInclusive<i64> = 100..=120_000;
/// Allowed duration of a search for a Bluetooth device.
pub const SCAN_TIMEOUT_MS: RangeInclusive<i64> = 1000..=60_000;

/// Identity of a battery in topics and unique ids: `[A-Za-z0-9_-]+`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct DeviceId(String);

impl DeviceId {
    /// `None` for an empty text and for other characters.
    pub fn new(text: &str) -> Option<Self> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        (!text.is_empty() && text.bytes().all(fits)).then(|| DeviceId(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The entity of a value in Home Assistant, unless its user changes it: `sensor.rack_1_soc`.
    pub fn entity(&self, component: &str, key: &str) -> String {
        let name = format!("{self}_{key}").to_ascii_lowercase().replace('-', "_");
        format!("{component}.{name}")
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    pub id: DeviceId,
    pub name: String,
    /// The configured type: `daren`, `simulated`, ...
    pub brand: String,
    /// The brand in words, for the manufacturer field: `Daren`.
    pub title: String,
    /// Serial device or `tcp://host:port`; `None` for Bluetooth.
    pub port: Option<String>,
    /// Address on the bus, or the Bluetooth address.
    pub address: Option<String>,
    /// Bluetooth adapter; `None` for the default one.
    pub adapter: Option<String>,
    pub interval_ms: u64,
    /// For one reply, or for a whole read over Bluetooth.
    pub timeout_ms: u64,
    /// Longest search for the battery; `None` if it is not read over Bluetooth.
    pub scan_timeout_ms: Option<u64>,
    /// Switches that the operator may turn.
    pub controls: Vec<Switch>,
}

/// The type of a group of batteries.
pub const BANK_TYPE: &str = "bank";

impl Profile {
    /// Whether it is a group of batteries.
    pub fn is_bank(&self) -> bool {
        self.brand == BANK_TYPE
    }

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
            timeout_ms: 0,
            scan_timeout_ms: None,
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
        // `from_str_radix` accepts a sign.
        let digits = pair.bytes().all(|digit| digit.is_ascii_hexdigit());
        *byte = digits.then(|| u8::from_str_radix(pair, 16).ok()).flatten()?;
    }
    pairs.next().is_none().then_some(bytes)
}

#[cfg(test)]
impl Profile {
    pub(crate) fn sample(id: &str) -> Self {
        let id = DeviceId::new(id).expect("a valid ID");
        Profile { interval_ms: 30_000, ..Profile::new(id, "daren", "Daren") }
    }
}
