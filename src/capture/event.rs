//! The lines of a capture.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{Millis, Secret};
use crate::protocol::driver::{CapacityUnit, Medium};
use crate::protocol::{CycleKind, Options};

/// Version of the format.
pub const FORMAT: u32 = 1;

/// The password of a replayed driver.
const PLACEHOLDER: &str = "000000";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub at: Millis,
    /// Id of the battery.
    pub device: String,
    #[serde(flatten)]
    pub event: Event,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Driver(Box<DriverSetup>),
    /// The connection is new, and the driver was reset.
    Reset,
    Start {
        #[serde(rename = "ask")]
        kind: CycleKind,
    },
    Sent {
        hex: String,
    },
    Received {
        hex: String,
    },
    /// The driver's timeout expired.
    Silence,
    /// The cycle was ended by a lost connection or by its time limit.
    Broken,
    /// The result of an attempt.
    Attempt {
        raw: serde_json::Value,
    },
    /// Lines are missing because the disk was too slow.
    Gap {
        lines: u64,
    },
}

/// The options of a driver, without the password.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DriverSetup {
    pub format: u32,
    /// Version of the program.
    pub program: String,
    #[serde(rename = "type")]
    pub brand: String,
    pub address: u8,
    pub timeout_ms: u64,
    #[serde(rename = "radio")]
    pub ble: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<[u8; 6]>,
    /// Name in the advertisement, from which some brands compute a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether a password was set.
    #[serde(default)]
    pub password: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub barcode: Option<String>,
    /// The console counts in mAh instead of Wh.
    #[serde(default)]
    pub milliamp_hours: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl DriverSetup {
    pub fn new(brand: &str, options: &Options) -> Self {
        DriverSetup {
            format: FORMAT,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            brand: brand.to_owned(),
            address: options.address,
            timeout_ms: u64::try_from(options.timeout.as_millis()).unwrap_or(u64::MAX),
            ble: options.medium == Medium::Ble,
            mac: options.mac,
            name: options.name.clone(),
            password: options.password.is_some(),
            barcode: options.barcode.clone(),
            milliamp_hours: options.capacity_unit == CapacityUnit::MilliampHours,
            variant: options.variant.clone(),
        }
    }

    pub fn options(&self) -> Options {
        Options {
            address: self.address,
            timeout: Duration::from_millis(self.timeout_ms),
            medium: if self.ble { Medium::Ble } else { Medium::Serial },
            mac: self.mac,
            name: self.name.clone(),
            password: self.password.then(|| Secret::new(PLACEHOLDER)),
            barcode: self.barcode.clone(),
            capacity_unit: match self.milliamp_hours {
                true => CapacityUnit::MilliampHours,
                false => CapacityUnit::WattHours,
            },
            variant: self.variant.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{Setting, Switch};

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
