//! The brand of a battery: configured, or inferred from other variables.

use std::time::Duration;

use super::endpoint::Endpoint;
use super::error::{ConfigError, Diagnostics};
use super::rule::{SIMULATED, brands};
use super::values::Values;
use super::variables::{BMS_ADDRESS, BMS_BARCODE, BMS_PORT, BMS_TYPE, BMS_VARIANT};
use crate::did_you_mean::closest;
use crate::protocol::{self, DriverInfo, ImpliedBy, detection};

/// Timeout of a whole read over Bluetooth.
const BLE_TIMEOUT: Duration = Duration::from_secs(20);

/// What older programs accept as the type of any battery on Bluetooth.
const BLE_TYPES: [&str; 2] = ["bluetooth", "ble"];

pub(super) struct Brand {
    pub name: &'static str,
    pub title: &'static str,
    /// `None`: to be identified.
    pub driver: Option<&'static DriverInfo>,
    pub simulated: bool,
}

impl Brand {
    fn find(name: &str) -> Option<Brand> {
        if name == detection::AUTO {
            let (name, title) = (detection::AUTO, "Unknown brand");
            return Some(Brand { name, title, driver: None, simulated: false });
        }
        let driver = protocol::find(name)?;
        let (name, title) = (driver.name, driver.title);
        Some(Brand { name, title, driver: Some(driver), simulated: false })
    }

    fn implied_by(variable: ImpliedBy) -> Option<Brand> {
        protocol::implied_by(variable).and_then(|driver| Brand::find(driver.name))
    }

    /// A simulated battery; its variant is the brand to simulate.
    fn simulated(values: &Values, diagnostics: &mut Diagnostics) -> Option<Brand> {
        let driver = match values.explicit(&BMS_VARIANT) {
            None => protocol::implied_by(ImpliedBy::Port),
            Some(name) => protocol::find(&canonical(name)),
        };
        if driver.is_none() {
            let allowed = format!("for a simulated battery {}", BMS_TYPE.rule);
            diagnostics.errors.push(values.invalid(&BMS_VARIANT, allowed));
        }
        let title = driver?.title;
        Some(Brand { name: SIMULATED, title, driver, simulated: true })
    }

    /// The default timeout: of one answer on a serial line, of a whole read over Bluetooth.
    pub fn default_timeout(&self, endpoint: &Endpoint) -> Duration {
        let serial = self.driver.and_then(|driver| driver.serial);
        match endpoint {
            Endpoint::Ble { .. } => BLE_TIMEOUT,
            _ => serial.map_or(detection::TIMEOUT, |serial| serial.timeout),
        }
    }

    /// `None` if the brand is invalid or unknown, which has been reported.
    pub fn of(values: &Values, diagnostics: &mut Diagnostics) -> Option<Brand> {
        if let Some(text) = values.explicit(&BMS_TYPE) {
            let name = canonical(text);
            if name == SIMULATED {
                return Brand::simulated(values, diagnostics);
            }
            let brand = Brand::find(&name);
            if brand.is_none() {
                diagnostics.errors.push(unknown_brand(&name, values));
            }
            return brand;
        }
        if values.is_set(&BMS_BARCODE) {
            return Brand::implied_by(ImpliedBy::Barcode);
        }
        if values.is_set(&BMS_PORT) {
            return Brand::implied_by(ImpliedBy::Port);
        }
        if values.is_set(&BMS_ADDRESS) {
            return Brand::find(detection::AUTO);
        }
        let address = values.name_of(&BMS_ADDRESS);
        let reason = format!("it is the port of the battery; for Bluetooth set {address} instead");
        diagnostics.errors.extend(values.missing(&BMS_PORT, &reason));
        None
    }
}

fn canonical(name: &str) -> String {
    name.to_lowercase().replace('_', "-")
}

fn unknown_brand(name: &str, values: &Values) -> ConfigError {
    let known = &BMS_TYPE.rule;
    if BLE_TYPES.contains(&name) {
        let address = values.name_of(&BMS_ADDRESS);
        let allowed = format!("unset, because {address} is enough, or {known}");
        return values.invalid(&BMS_TYPE, allowed).with_example(detection::AUTO);
    }
    let allowed = match closest(name, brands()) {
        Some((near, errors)) if errors <= 3 => format!("{known} (did you mean {near}?)"),
        _ => known.to_string(),
    };
    values.invalid(&BMS_TYPE, allowed)
}
