//! The batteries, from the flat variables or the elements of `DEVICES`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Device;
use super::brand::Brand;
use super::endpoint::Endpoint;
use super::error::{ConfigError, Reporter};
use super::esphome::{SerialPort, without_key};
use super::rule;
use super::source::resolve;
use super::values::{Spelling, Values, label};
use super::variables::*;
use super::victron;
use crate::model::profile::address_bytes;
use crate::model::units::millis;
use crate::model::{AlarmThresholds, DeviceId, Profile, Secret};
use crate::protocol::barcode::{Barcode, BarcodeError};
use crate::protocol::detection::{Scope, USUAL_ADDRESSES};
use crate::protocol::driver::{CapacityUnit, Medium};
use crate::protocol::{DriverInfo, Options};

/// Written in capitals within a display name.
const ABBREVIATIONS: [&str; 4] = ["bms", "jbd", "jk", "lfp"];

#[derive(Debug, Default)]
pub(super) struct Batteries {
    pub devices: Vec<Device>,
    /// Of all batteries, also of those whose configuration is invalid.
    pub ids: Vec<String>,
}

pub(super) fn all(values: &Values, thresholds: &AlarmThresholds) -> Batteries {
    let elements = elements(values);
    let several = elements.is_some();
    let configured = elements.unwrap_or_else(|| flat(values));
    let mut batteries = Batteries::default();
    let mut built: Vec<(&Values, Device)> = Vec::new();
    for values in &configured {
        // The default ID applies to a single battery only; elsewhere a missing one is an error.
        let id = if several { values.explicit(&DEVICE_ID) } else { values.value(&DEVICE_ID) };
        if let Some(id) = id {
            if batteries.ids.iter().any(|other| other == id) {
                values.reject(&DEVICE_ID, "an id that no other battery has");
            }
            batteries.ids.push(id.to_owned());
        }
        built.extend(battery(values, thresholds).map(|device| (values, device)));
    }
    check_buses(&mut built);
    share_keys(&mut built);
    batteries.devices = built.into_iter().map(|(_, device)| device).collect();
    batteries
}

/// The battery of the flat variables, if they contain its type or endpoint.
fn flat(values: &Values) -> Vec<Values> {
    if values.set_among(&[&BMS_TYPE, &BMS_PORT, &BMS_ADDRESS, &BMS_BARCODE]).is_some() {
        return vec![values.clone()];
    }
    if let Some(names) = values.set_among(of_single_battery()) {
        values.warn(format!(
            "{names} without effect, because no battery is configured: set {}, {} or {}",
            values.name_of(&BMS_PORT),
            values.name_of(&BMS_ADDRESS),
            values.name_of(&BMS_TYPE)
        ));
    }
    Vec::new()
}

/// The elements of `DEVICES`; `None` if it is unset or empty.
fn elements(values: &Values) -> Option<Vec<Values>> {
    if !values.is_set(&DEVICES) {
        return None;
    }
    let list = values.json_array(&DEVICES);
    if list.as_ref().is_some_and(Vec::is_empty) {
        return None;
    }
    if let Some(names) = values.set_among(of_single_battery()) {
        let list = values.name_of(&DEVICES);
        values.warn(format!("{names} ignored, because {list} is set"));
    }
    // An invalid list replaces the flat battery, too.
    let list = list.unwrap_or_default().into_iter().enumerate();
    Some(list.filter_map(|(index, value)| element(index, value, values)).collect())
}

fn element(index: usize, value: Value, program: &Values) -> Option<Values> {
    let list = program.name_of(&DEVICES);
    let Value::Object(fields) = value else {
        let example = r#"{"id": "rack1", "port": "/dev/ttyUSB0"}"#;
        let name = label("battery", index, &list, None);
        program.error(ConfigError::new(name, "a JSON object", example));
        return None;
    };
    let ids = fields.iter().filter(|(key, _)| key.eq_ignore_ascii_case("id"));
    let id = ids.filter_map(|(_, id)| id.as_str()).next();
    let spelling = Spelling::Element(label("battery", index, &list, id).into());
    let mut entries = BTreeMap::new();
    for (key, value) in fields {
        let key = key.to_lowercase();
        let text = match value {
            Value::Null => continue,
            Value::String(text) => text,
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            Value::Array(_) | Value::Object(_) => {
                let (name, allowed) = (spelling.display(&key), "a string, a number, true or false");
                program.error(ConfigError::new(name, allowed, r#""text""#));
                continue;
            }
        };
        entries.insert(key, text);
    }
    let mut values = resolve(entries, spelling, &program.reporter);
    for variable in INHERITED {
        values.inherit(variable, program);
    }
    if let Some(error) = missing_id(&values) {
        values.error(error);
    }
    Some(values)
}

/// Older programs identify a battery by its name.
fn missing_id(values: &Values) -> Option<ConfigError> {
    let reason = "with several batteries each needs its own";
    let Some(name) = values.explicit(&DEVICE_NAME) else {
        return values.missing(&DEVICE_ID, reason);
    };
    let error =
        values.missing(&DEVICE_ID, &format!("{reason}, and `name` is only the display name"))?;
    Some(if DEVICE_ID.rule.accepts(name) { error.with_example(name) } else { error })
}

impl Device {
    /// A battery that is configured by these variables alone; their names are in lower case. `None`
    /// if something is invalid.
    pub fn from_variables(variables: &[(&str, &str)]) -> Option<Device> {
        let entries = variables.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        let values = resolve(entries.collect(), Spelling::Environment, &Reporter::default());
        battery(&values, &AlarmThresholds::default())
    }
}

/// `None` if something is invalid, which has been reported.
fn battery(values: &Values, thresholds: &AlarmThresholds) -> Option<Device> {
    let id = values.value(&DEVICE_ID).and_then(DeviceId::new);
    let brand = Brand::of(values)?;
    let endpoint = endpoint(values, &brand);
    let address = bus_address(values, brand.driver);
    let barcode = barcode(values);
    let variant = variant(values, &brand);
    let (id, endpoint, address) = (id?, endpoint?, address?);
    warn_without_effect(values, &endpoint);
    let interval = values.millis(&READ_INTERVAL)?;
    let is_ble = endpoint.is_ble();
    let timeout = values.millis(&BMS_TIMEOUT).unwrap_or(brand.default_timeout(&endpoint));
    let scan_timeout = values.millis(&BMS_SCAN_TIMEOUT)?;
    let text = |variable| values.explicit(variable).map(str::to_owned);
    Some(Device {
        profile: Profile {
            name: text(&DEVICE_NAME).unwrap_or_else(|| display_name(id.as_str())),
            port: (!brand.simulated && !is_ble).then(|| endpoint.to_string()),
            address: Some(if is_ble { endpoint.to_string() } else { address.to_string() }),
            adapter: text(&BMS_ADAPTER).filter(|_| is_ble),
            interval_ms: millis(interval),
            timeout_ms: millis(timeout),
            scan_timeout_ms: is_ble.then(|| millis(scan_timeout)),
            ..Profile::new(id, brand.name, brand.title)
        },
        driver: brand.driver,
        options: Options {
            address,
            timeout,
            medium: if is_ble { Medium::Ble } else { Medium::Serial },
            mac: address_bytes(&endpoint.to_string()).filter(|_| is_ble),
            name: None,
            password: text(&BMS_PASSWORD).map(Secret::new),
            variant,
            barcode,
            capacity_unit: match values.choice(&BMS_CAPACITY_UNIT) {
                Some("mAh") => CapacityUnit::MilliampHours,
                _ => CapacityUnit::WattHours,
            },
        },
        search: scope(values, &endpoint, &brand),
        bauds: bauds(values, &endpoint, brand.driver),
        endpoint,
        interval,
        control: false,
        scan_timeout,
        keep_connected: values.explicit(&BMS_KEEP_CONNECTED).and_then(rule::boolean),
        thresholds: thresholds.clone(),
        victron: victron::settings(values, interval),
    })
}

/// The dialect of a brand that has several; `auto` accepts the dialects of all brands. For a
/// simulated battery the same variable names the brand to simulate.
fn variant(values: &Values, brand: &Brand) -> Option<String> {
    let variant = values.explicit(&BMS_VARIANT).filter(|_| !brand.simulated)?.to_lowercase();
    let Some(driver) = brand.driver else { return Some(variant) };
    let known = driver.variants;
    if known.contains(&variant.as_str()) {
        return Some(variant);
    }
    if known.is_empty() {
        let name = values.name_of(&BMS_VARIANT);
        values.warn(format!("{name} has no effect: type {} has one dialect", driver.name));
    } else {
        let allowed = format!("one of {} for type {}", known.join(", "), driver.name);
        values.reject(&BMS_VARIANT, allowed);
    }
    None
}

fn endpoint(values: &Values, brand: &Brand) -> Option<Endpoint> {
    if brand.simulated {
        if let Some(names) = values.set_among(&[&BMS_PORT, &BMS_ADDRESS]) {
            values.warn(format!("{names} ignored: a simulated battery needs no hardware"));
        }
        return Some(Endpoint::Simulated);
    }
    let has_serial = brand.driver.is_none_or(|driver| driver.serial.is_some());
    let has_ble = brand.driver.is_none_or(|driver| driver.gatt.is_some());
    let wrong_medium = |variable: &Variable, other: &Variable, medium: &str| {
        let (brand, other, example) = (brand.name, values.name_of(other), other.example);
        let allowed = format!("unset, because type {brand} has no {medium}: set {other}");
        values.invalid(variable, allowed).with_example(format!("{other}={example}"))
    };
    let error = match (values.is_set(&BMS_PORT), values.is_set(&BMS_ADDRESS)) {
        (true, true) => {
            let port = values.name_of(&BMS_PORT);
            let example = without_key(values.explicit(&BMS_PORT).unwrap_or(BMS_PORT.example));
            values
                .invalid(&BMS_ADDRESS, format!("unset, because {port} is set"))
                .with_example(format!("{port}={example} alone"))
        }
        (true, false) if !has_serial => wrong_medium(&BMS_PORT, &BMS_ADDRESS, "port"),
        (false, true) if !has_ble => wrong_medium(&BMS_ADDRESS, &BMS_PORT, "Bluetooth"),
        (true, false) => return Endpoint::parse(values.explicit(&BMS_PORT)?),
        (false, true) => {
            let adapter = values.explicit(&BMS_ADAPTER);
            return Some(Endpoint::ble(values.explicit(&BMS_ADDRESS)?, adapter));
        }
        (false, false) => {
            let (variable, media) = match (has_serial, has_ble) {
                (true, true) => (&BMS_PORT, "a serial line or Bluetooth (set its address instead)"),
                (true, false) => (&BMS_PORT, "a serial line"),
                (false, _) => (&BMS_ADDRESS, "Bluetooth"),
            };
            values.missing(variable, &format!("type {} is read over {media}", brand.name))?
        }
    };
    values.error(error);
    None
}

/// Warns about variables that apply to another kind of endpoint.
fn warn_without_effect(values: &Values, endpoint: &Endpoint) {
    let others: &[&Variable] = match endpoint {
        Endpoint::Ble { .. } => &[&BMS_SLAVE_ID, &BMS_BAUDRATE],
        _ if endpoint.has_baud() => &[&BMS_ADAPTER, &BMS_SCAN_TIMEOUT, &BMS_KEEP_CONNECTED],
        _ => &[&BMS_ADAPTER, &BMS_SCAN_TIMEOUT, &BMS_KEEP_CONNECTED, &BMS_BAUDRATE],
    };
    for variable in others.iter().filter(|variable| values.is_set(variable)) {
        values.warn(format!("{} has no effect on {endpoint}", values.name_of(variable)));
    }
}

fn bus_address(values: &Values, driver: Option<&DriverInfo>) -> Option<u8> {
    let address = values.value(&BMS_SLAVE_ID).and_then(rule::bus_address)?;
    let Some(driver) = driver.filter(|driver| !driver.addresses.contains(&address)) else {
        return Some(address);
    };
    if !values.is_set(&BMS_SLAVE_ID) {
        return Some(driver.default_address());
    }
    let (first, last) = (*driver.addresses.start(), *driver.addresses.end());
    let allowed = match first == last {
        true => format!("unset: type {} has no addresses", driver.name),
        false => format!("a whole number from {first} to {last} for type {}", driver.name),
    };
    let example = match first == last {
        true => format!("no {} at all", values.name_of(&BMS_SLAVE_ID)),
        false => driver.default_address().to_string(),
    };
    values.error(values.invalid(&BMS_SLAVE_ID, allowed).with_example(example));
    None
}

/// What to search on a wire while the battery does not answer. Another type may be at a usual
/// address although one is set; a set address of a set type is not doubted.
fn scope(values: &Values, endpoint: &Endpoint, brand: &Brand) -> Option<Scope> {
    let has_type = brand.driver.is_some() && !brand.assumed;
    let address = values.explicit(&BMS_SLAVE_ID).and_then(rule::bus_address);
    let is_wire = endpoint.has_baud() || matches!(endpoint, Endpoint::Tcp { .. });
    if !is_wire || (has_type && address.is_some()) {
        return None;
    }
    let driver = brand.driver.filter(|_| has_type);
    if driver.is_some_and(|driver| driver.addresses.start() == driver.addresses.end()) {
        return None;
    }
    let fixed = address.is_some_and(|address| !USUAL_ADDRESSES.contains(&address));
    let bauds = Vec::from_iter(values.number(&BMS_BAUDRATE));
    Some(Scope { driver, address, fixed, bauds })
}

/// A sample number is rejected at once: the controller may store the number that it receives.
fn barcode(values: &Values) -> Option<String> {
    match Barcode::parse(values.explicit(&BMS_BARCODE)?) {
        Ok(barcode) => Some(barcode.as_str().to_owned()),
        // The rule of the variable has reported it.
        Err(BarcodeError::Form) => None,
        Err(sample @ BarcodeError::Sample) => {
            let example = format!("no {} at all", values.name_of(&BMS_BARCODE));
            let error = values.invalid(&BMS_BARCODE, sample.to_string());
            values.error(error.with_example(example));
            None
        }
    }
}

/// The rates to try: on a serial port the configured one or the usual ones of the brand. A bridge
/// has its own, so the first one serves for timing only. Empty while the brand is unknown.
fn bauds(values: &Values, endpoint: &Endpoint, driver: Option<&DriverInfo>) -> Vec<u32> {
    let usual = driver.and_then(|driver| driver.serial).map_or(&[][..], |serial| serial.bauds);
    match (endpoint.has_baud(), values.number(&BMS_BAUDRATE)) {
        (true, Some(rate)) => vec![rate],
        (true, None) => usual.to_vec(),
        _ => usual.iter().take(1).copied().collect(),
    }
}

/// Batteries on one line must have different addresses and the same baud rate. A rate that is set
/// for one of them applies to all.
fn check_buses(built: &mut [(&Values, Device)]) {
    for (later, (values, device)) in built.iter().enumerate() {
        let endpoint = &device.endpoint;
        let neighbours =
            built[..later].iter().filter(|(_, other)| other.endpoint.is_same(endpoint));
        let mut neighbours = neighbours.peekable();
        let Some((_, first)) = neighbours.peek() else { continue };
        if endpoint.is_ble() {
            let allowed = format!("another address than that of {}", first.profile.id);
            values.reject(&BMS_ADDRESS, allowed);
            continue;
        }
        if device.driver.is_none() || neighbours.clone().any(|(_, other)| other.driver.is_none()) {
            let allowed = format!(
                "a certain type: {endpoint} has several batteries, and identifying one would disturb the others"
            );
            values.reject(&BMS_TYPE, allowed);
            continue;
        }
        let has_same_address = |other: &Device| other.options.address == device.options.address;
        if let Some((_, other)) = neighbours.clone().find(|(_, other)| has_same_address(other)) {
            let other = &other.profile.id;
            let allowed =
                format!("an address that no other battery on {endpoint} has; {other} has this one");
            let mut error = values.invalid(&BMS_SLAVE_ID, allowed);
            if let Some(free) = free_address(built, device) {
                error = error.with_example(free.to_string());
            }
            values.error(error);
        }
        let explicit = neighbours.find(|(values, _)| values.is_set(&BMS_BAUDRATE));
        let differs = explicit.is_some_and(|(_, other)| other.bauds != device.bauds);
        if differs && values.is_set(&BMS_BAUDRATE) {
            values.reject(&BMS_BAUDRATE, format!("the same for all batteries on {endpoint}"));
        }
    }
    for index in 0..built.len() {
        let explicit = built.iter().find(|(values, other)| {
            values.is_set(&BMS_BAUDRATE) && other.endpoint.is_same(&built[index].1.endpoint)
        });
        if let Some((_, other)) = explicit {
            built[index].1.bauds = other.bauds.clone();
        }
    }
}

/// All ports of an ESPHome device have its key, which has to be set for one of them only.
fn share_keys(built: &mut [(&Values, Device)]) {
    let mut known: Vec<SerialPort> = Vec::new();
    for (values, device) in built.iter() {
        let Endpoint::Esphome(port) = &device.endpoint else { continue };
        match known.iter().find(|other| other.is_same_device(port)) {
            Some(other) if port.key.is_some() && port.key != other.key => {
                let device = port.device();
                values.reject(
                    &BMS_PORT,
                    format!("a port with the same key as the others of {device}"),
                );
            }
            None if port.key.is_some() => known.push(port.clone()),
            _ => {}
        }
    }
    for (_, device) in built {
        if let Endpoint::Esphome(port) = &mut device.endpoint {
            let other = known.iter().find(|other| other.is_same_device(port));
            port.key = other.and_then(|other| other.key.clone());
        }
    }
}

/// The first address of its brand that no battery on its line has.
fn free_address(built: &[(&Values, Device)], device: &Device) -> Option<u8> {
    let is_taken = |address: &u8| {
        let same_line = built.iter().filter(|(_, other)| other.endpoint.is_same(&device.endpoint));
        same_line.map(|(_, other)| other.options.address).any(|taken| taken == *address)
    };
    let mut possible = device.driver?.addresses.clone().filter(|address| *address > 0);
    possible.find(|address| !is_taken(address))
}

/// A display name for an ID: `bms_main` becomes `BMS main`.
pub(super) fn display_name(id: &str) -> String {
    let mut words = Vec::new();
    for word in id.split(['_', '-']).filter(|word| !word.is_empty()) {
        let letters = word.trim_end_matches(|c: char| c.is_ascii_digit());
        let mut word = word.to_owned();
        if ABBREVIATIONS.contains(&letters) {
            word.make_ascii_uppercase();
        } else if let (true, Some(first)) = (words.is_empty(), word.get_mut(..1)) {
            first.make_ascii_uppercase();
        }
        words.push(word);
    }
    if words.is_empty() { id.to_owned() } else { words.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_name_is_derived_from_id() {
        for (id, name) in [
            ("bms", "BMS"),
            ("bms_main", "BMS main"),
            ("jk1", "JK1"),
            ("garage-left", "Garage left"),
            ("house_bms_2", "House BMS 2"),
            ("Rack", "Rack"),
            ("-_", "-_"),
        ] {
            assert_eq!(display_name(id), name);
        }
    }
}
