//! Which brand a battery is: what the operator said, or what follows from the rest.

use std::time::Duration;

use super::endpoint::Endpoint;
use super::fault::{ConfigError, Findings};
use super::rule::{SIMULATED, brands};
use super::values::Values;
use super::variables::{BMS_ADDRESS, BMS_BARCODE, BMS_PORT, BMS_TYPE, BMS_VARIANT};
use crate::did_you_mean::closest;
use crate::protocol::{self, DriverInfo, auto};

/// Time for one whole read over Bluetooth.
const WHOLE_READ: Duration = Duration::from_secs(20);

/// Words for a battery that is reached by Bluetooth, whatever its brand.
const RADIO: [&str; 2] = ["bluetooth", "ble"];

/// Which brand, and whether it is only played.
pub(super) struct Brand {
    pub name: &'static str,
    pub title: &'static str,
    /// `None`: to be found out.
    pub driver: Option<&'static DriverInfo>,
    pub simulated: bool,
}

impl Brand {
    fn named(name: &str) -> Option<Brand> {
        if name == auto::AUTO {
            let (name, title) = (auto::AUTO, "Unknown brand");
            return Some(Brand { name, title, driver: None, simulated: false });
        }
        let driver = protocol::find(name)?;
        let (name, title) = (driver.name, driver.title);
        Some(Brand { name, title, driver: Some(driver), simulated: false })
    }

    /// A simulated battery; its variant is the brand that is played.
    fn played(values: &Values, findings: &mut Findings) -> Option<Brand> {
        let driver = match values.given(&BMS_VARIANT) {
            None => Some(&protocol::daren::INFO),
            Some(name) => protocol::find(&name.to_lowercase().replace('_', "-")),
        };
        if driver.is_none() {
            let allowed = format!("for a simulated battery {}", BMS_TYPE.rule);
            findings.fault(values.fault(&BMS_VARIANT, allowed));
        }
        let title = driver?.title;
        Some(Brand { name: SIMULATED, title, driver, simulated: true })
    }

    /// Time for one answer on a wire, for one whole read on Bluetooth.
    pub fn usual_timeout(&self, place: &Endpoint) -> Duration {
        let serial = self.driver.and_then(|driver| driver.serial);
        match place {
            Endpoint::Ble { .. } => WHOLE_READ,
            _ => serial.map_or(auto::TIMEOUT, |serial| serial.timeout),
        }
    }

    /// What the operator said, or what follows from the rest; `None` is among the findings.
    pub fn of(values: &Values, findings: &mut Findings) -> Option<Brand> {
        if let Some(text) = values.given(&BMS_TYPE) {
            let name = text.to_lowercase().replace('_', "-");
            if name == SIMULATED {
                return Brand::played(values, findings);
            }
            let known = Brand::named(&name);
            if known.is_none() {
                findings.fault(unknown_brand(&name, values));
            }
            return known;
        }
        if values.mentions(&BMS_BARCODE) {
            let (name, barcode) = ("pylontech-sc0500", values.name(&BMS_BARCODE));
            let known = Brand::named(name);
            if known.is_none() {
                let why =
                    format!("{barcode} alone means {name}, which this version does not know yet");
                findings.faults.extend(values.missing(&BMS_TYPE, &why));
            }
            return known;
        }
        if values.mentions(&BMS_PORT) {
            return Brand::named(protocol::daren::INFO.name);
        }
        if values.mentions(&BMS_ADDRESS) {
            return Brand::named(auto::AUTO);
        }
        // There is nothing to go by.
        let why = format!("it says where the battery is, or {} does", values.name(&BMS_ADDRESS));
        findings.faults.extend(values.missing(&BMS_PORT, &why));
        None
    }
}

/// What to say to somebody who asks for a brand that is not there.
fn unknown_brand(name: &str, values: &Values) -> ConfigError {
    let brands_known = &BMS_TYPE.rule;
    // Older programs say here how the battery is reached.
    if RADIO.contains(&name) {
        let address = values.name(&BMS_ADDRESS);
        let allowed = format!("left out, as {address} is enough, or {brands_known}");
        let example = protocol::jbd::INFO.name.to_owned();
        return ConfigError { example, ..values.fault(&BMS_TYPE, allowed) };
    }
    let allowed = match closest(name, brands()) {
        Some((near, errors)) if errors <= 3 => format!("{brands_known} (is {near} meant?)"),
        _ => brands_known.to_string(),
    };
    values.fault(&BMS_TYPE, allowed)
}
