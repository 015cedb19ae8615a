//! The lines of a capture.

use serde::{Deserialize, Serialize};

use crate::model::DeviceId;
use crate::model::units::Millis;
use crate::protocol::driver::{CapacityUnit, Medium};
use crate::protocol::{CycleKind, Options};

/// One line: when, about which battery, and what happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Wall clock, in milliseconds since 1970.
    pub at: Millis,
    /// Identity of the battery.
    pub device: String,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A conversation begins, with a driver that knows nothing yet.
    Driver(Box<DriverSetup>),
    /// The link is new: the driver forgot its session.
    Reset,
    /// A cycle begins.
    Start {
        #[serde(rename = "ask")]
        kind: CycleKind,
    },
    /// We put these bytes on the line.
    Sent {
        /// In hex.
        hex: String,
    },
    /// These bytes came.
    Received {
        /// In hex.
        hex: String,
    },
    /// The driver was told that its time was over.
    Silence,
    /// The cycle ended without the driver: the link broke, or the time for all was over.
    Broken,
    /// An attempt was booked, with this outcome.
    Attempt {
        /// The `raw` JSON.
        raw: serde_json::Value,
    },
    /// Lines are missing here: they came faster than they could be written.
    Gap {
        /// How many.
        lines: u64,
    },
}

/// Everything that a driver was made of, without secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DriverSetup {
    /// Version of the format.
    pub format: u32,
    /// Version of the program.
    pub program: String,
    /// The driver.
    #[serde(rename = "type")]
    pub brand: String,
    /// Address on the bus.
    pub address: u8,
    /// Time for one answer.
    pub timeout_ms: u64,
    /// By Bluetooth.
    pub radio: bool,
    /// Bluetooth address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<[u8; 6]>,
    /// A password was set; which one stays unsaid.
    #[serde(default)]
    pub password: bool,
    /// Serial number of the controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub barcode: Option<String>,
    /// The console counts in mAh.
    #[serde(default)]
    pub milliamp_hours: bool,
    /// Dialect of a brand that has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// What a replayed driver is given in the place of a password.
const PLACEHOLDER: &str = "000000";

impl DriverSetup {
    /// What the driver `brand` was made of.
    pub fn of(brand: &str, options: &Options) -> Self {
        DriverSetup {
            format: super::FORMAT,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            brand: brand.to_owned(),
            address: options.address,
            timeout_ms: u64::try_from(options.timeout.as_millis()).unwrap_or(u64::MAX),
            radio: options.medium == Medium::Ble,
            mac: options.mac,
            password: options.password.is_some(),
            barcode: options.barcode.clone(),
            milliamp_hours: options.capacity_unit == CapacityUnit::MilliampHours,
            variant: options.variant.clone(),
        }
    }

    /// The same options again, but for the password.
    pub fn options(&self) -> Options {
        Options {
            address: self.address,
            timeout: std::time::Duration::from_millis(self.timeout_ms),
            medium: if self.radio { Medium::Ble } else { Medium::Serial },
            mac: self.mac,
            password: self.password.then(|| crate::model::Secret::new(PLACEHOLDER)),
            barcode: self.barcode.clone(),
            capacity_unit: match self.milliamp_hours {
                true => CapacityUnit::MilliampHours,
                false => CapacityUnit::WattHours,
            },
            variant: self.variant.clone(),
        }
    }
}

impl Entry {
    /// A line about this battery.
    pub fn new(at: Millis, device: &DeviceId, event: Event) -> Self {
        Entry { at, device: device.to_string(), event }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::reading::{Setting, Switch};

    #[test]
    fn cycle_kind_keeps_its_shape() {
        let setting = Setting { switch: Switch::Charging, on: true };
        for (kind, expected) in [
            (CycleKind::Read, json!("read")),
            (CycleKind::Identify, json!("identify")),
            (CycleKind::Write(setting), json!({"switch": {"name": "charging", "on": true}})),
        ] {
            assert_eq!(json!(Event::Start { kind }), json!({"event": "start", "ask": expected}));
        }
    }
}
