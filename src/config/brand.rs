//! The brand of a battery: configured, or inferred from other variables.

use std::time::Duration;

use super::endpoint::Endpoint;
use super::error::ConfigError;
use super::rule::{SIMULATED, brands};
use super::values::Values;
use super::variables::{BMS_ADDRESS, BMS_BARCODE, BMS_PORT, BMS_TYPE, BMS_VARIANT, Variable};
use crate::did_you_mean::closest;
use crate::model::Installation;
use crate::protocol::{self, DriverInfo, ImpliedBy, detection};
use crate::sim;

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
    /// Not configured: another one is searched for if it does not answer.
    pub assumed: bool,
}

const AUTO: Brand = Brand {
    name: detection::AUTO,
    title: "Unknown brand",
    driver: None,
    simulated: false,
    assumed: false,
};

impl Brand {
    fn of_driver(driver: &'static DriverInfo) -> Brand {
        let (name, title) = (driver.name, driver.title);
        Brand { name, title, driver: Some(driver), simulated: false, assumed: false }
    }

    /// A simulated battery; its variant is the brand to simulate.
    fn simulated(values: &Values) -> Option<Brand> {
        let name = values.explicit(&BMS_VARIANT).map(canonical);
        let driver = match &name {
            None => protocol::implied_by(ImpliedBy::Port),
            Some(name) => protocol::find(name),
        };
        let name = name.unwrap_or_default();
        let Some(driver) = driver else {
            values.error(unknown_brand(&name, &BMS_VARIANT, values));
            return None;
        };
        if sim::find(driver.name).is_none() {
            let allowed = format!("a type that has a simulator, which {name} has not");
            values.error(values.invalid(&BMS_VARIANT, allowed).with_example("daren"));
            return None;
        }
        Some(Brand { name: SIMULATED, simulated: true, ..Brand::of_driver(driver) })
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
    pub fn of(values: &Values) -> Option<Brand> {
        let driver = if let Some(text) = values.explicit(&BMS_TYPE) {
            let name = canonical(text);
            if name == SIMULATED {
                return Brand::simulated(values);
            }
            if name == detection::AUTO {
                return Some(AUTO);
            }
            let driver = protocol::find(&name);
            if driver.is_none() {
                values.error(unknown_brand(&name, &BMS_TYPE, values));
            }
            driver
        } else if values.is_set(&BMS_BARCODE) {
            protocol::implied_by(ImpliedBy::Barcode)
        } else if values.is_set(&BMS_PORT) {
            let driver = protocol::implied_by(ImpliedBy::Port)?;
            return Some(Brand { assumed: true, ..Brand::of_driver(driver) });
        } else if values.is_set(&BMS_ADDRESS) {
            return Some(AUTO);
        } else {
            let address = values.name_of(&BMS_ADDRESS);
            let reason =
                format!("it is the port of the battery; for Bluetooth set {address} instead");
            values.require(&BMS_PORT, &reason);
            None
        };
        driver.map(Brand::of_driver)
    }
}

fn canonical(name: &str) -> String {
    name.to_lowercase().replace('_', "-")
}

/// The probable type comes first: the list is long.
fn unknown_brand(name: &str, variable: &Variable, values: &Values) -> ConfigError {
    let list = match values.installation {
        Installation::HomeAssistant => "the documentation of the app lists all types",
        _ => "`bms-reader decode --help` lists all types",
    };
    if BLE_TYPES.contains(&name) {
        let address = values.name_of(&BMS_ADDRESS);
        let allowed = format!("unset, because {address} is enough, or a type ({list})");
        return values.invalid(variable, allowed).with_example(detection::AUTO);
    }
    let near = || closest(name, brands()).filter(|(_, errors)| *errors <= 3).map(|(near, _)| near);
    match protocol::nickname(name).or_else(near) {
        Some(near) => {
            let allowed = format!("a type: did you mean {near}? ({list})");
            values.invalid(variable, allowed).with_correction(near.to_owned())
        }
        None => {
            let allowed = format!("a type, or auto to detect it ({list})");
            values.invalid(variable, allowed).with_example(detection::AUTO)
        }
    }
}
