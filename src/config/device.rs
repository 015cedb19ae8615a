//! One battery: which brand, where, how often; from the flat variables or an element of `DEVICES`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Device;
use super::brand::Brand;
use super::endpoint::Endpoint;
use super::fault::{ConfigError, Findings};
use super::rule;
use super::source::{Spelling, resolve};
use super::values::Values;
use super::variables::{
    BMS_ADAPTER, BMS_ADDRESS, BMS_BARCODE, BMS_BAUDRATE, BMS_CAPACITY_UNIT, BMS_KEEP_CONNECTED,
    BMS_PASSWORD, BMS_PORT, BMS_SCAN_TIMEOUT, BMS_SLAVE_ID, BMS_TIMEOUT, BMS_TYPE, BMS_VARIANT,
    DEVICE_ID, DEVICE_NAME, DEVICES, Group, READ_INTERVAL, VARIABLES, Variable,
};
use crate::model::{AlarmThresholds, DeviceId, Profile, Secret};
use crate::protocol::driver::{CapacityUnit, Medium};
use crate::protocol::pylontech_sc0500::{Barcode, BarcodeError};
use crate::protocol::{self, DriverInfo, Options, advertisement};

/// What people write in capitals in the middle of a name.
const ABBREVIATIONS: [&str; 4] = ["bms", "jbd", "jk", "lfp"];

/// The batteries, and the ids of those that are described wrongly, too.
#[derive(Debug, Default)]
pub(super) struct Batteries {
    pub devices: Vec<Device>,
    pub ids: Vec<String>,
}

/// Every battery that somebody described.
pub(super) fn all(
    values: &Values,
    thresholds: &AlarmThresholds,
    findings: &mut Findings,
) -> Batteries {
    let elements = elements(values, findings);
    let several = elements.is_some();
    if several {
        warn_of_flat_variables(values, findings);
    }
    let described = elements.unwrap_or_else(|| flat(values, findings));
    let mut batteries = Batteries::default();
    let mut built: Vec<(&Values, Device)> = Vec::new();
    for values in &described {
        // The default serves a single battery only; elsewhere a missing id is a fault.
        let id = if several { values.given(&DEVICE_ID) } else { values.text(&DEVICE_ID) };
        if let Some(id) = id {
            if batteries.ids.iter().any(|other| other == id) {
                findings.fault(values.fault(&DEVICE_ID, "an id that no other battery has"));
            }
            batteries.ids.push(id.to_owned());
        }
        built.extend(read(values, thresholds, findings).map(|device| (values, device)));
    }
    check_buses(&mut built, findings);
    batteries.devices = built.into_iter().map(|(_, device)| device).collect();
    batteries
}

/// The one battery of the flat variables, if they say what or where it is.
fn flat(values: &Values, findings: &mut Findings) -> Vec<Values> {
    if [&BMS_TYPE, &BMS_PORT, &BMS_ADDRESS, &BMS_BARCODE].into_iter().any(|v| values.mentions(v)) {
        return vec![values.clone()];
    }
    let set = values.set_among(flat_variables());
    if !set.is_empty() {
        findings.warn(format!(
            "{} without effect: no battery is configured, as neither BMS_PORT, BMS_ADDRESS nor BMS_TYPE is \
             set",
            set.join(", ")
        ));
    }
    Vec::new()
}

/// The variables that describe one battery and nothing else.
fn flat_variables() -> impl Iterator<Item = &'static &'static Variable> {
    VARIABLES.iter().filter(|v| v.group == Group::Battery && v.name != READ_INTERVAL.name)
}

fn warn_of_flat_variables(values: &Values, findings: &mut Findings) {
    let set = values.set_among(flat_variables());
    if !set.is_empty() {
        findings.warn(format!("{} ignored, because DEVICES is set", set.join(", ")));
    }
}

/// The elements of `DEVICES`; `None` when it is not set or empty.
fn elements(values: &Values, findings: &mut Findings) -> Option<Vec<Values>> {
    if !values.mentions(&DEVICES) {
        return None;
    }
    // A broken list still stands where the flat battery would; an empty one does not.
    let list = values.list(&DEVICES, findings);
    if list.as_ref().is_some_and(Vec::is_empty) {
        return None;
    }
    let list = list.unwrap_or_default();
    Some(
        list.into_iter().enumerate().filter_map(|(i, v)| element(i, v, values, findings)).collect(),
    )
}

fn element(
    index: usize,
    value: Value,
    program: &Values,
    findings: &mut Findings,
) -> Option<Values> {
    let spelling = Spelling::Element(index);
    let Value::Object(fields) = value else {
        let example = r#"{"id": "rack1", "port": "/dev/ttyUSB0"}"#;
        findings.fault(ConfigError::new(format!("DEVICES[{index}]"), "a JSON object", example));
        return None;
    };
    let mut entries = BTreeMap::new();
    for (key, value) in fields {
        let key = key.to_lowercase();
        let text = match value {
            Value::Null => continue,
            Value::String(text) => text,
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            Value::Array(_) | Value::Object(_) => {
                let allowed = "a text, a number, true or false";
                findings.fault(ConfigError::new(spelling.shown(&key), allowed, r#""text""#));
                continue;
            }
        };
        entries.insert(key, text);
    }
    let mut values = resolve(entries, spelling, findings);
    values.inherit(&READ_INTERVAL, program);
    findings.faults.extend(missing_id(&values));
    Some(values)
}

/// Older programs call a battery's identity its name.
fn missing_id(values: &Values) -> Option<ConfigError> {
    let why = "with several batteries each needs its own";
    let Some(name) = values.given(&DEVICE_NAME) else { return values.missing(&DEVICE_ID, why) };
    let fault =
        values.missing(&DEVICE_ID, &format!("{why}, and `name` is only what people see"))?;
    Some(match DEVICE_ID.rule.admits(name) {
        true => ConfigError { example: name.to_owned(), ..fault },
        false => fault,
    })
}

/// One battery; `None` when something about it is wrong, which is then among the findings.
fn read(values: &Values, thresholds: &AlarmThresholds, findings: &mut Findings) -> Option<Device> {
    let id = values.text(&DEVICE_ID).and_then(DeviceId::new);
    let brand = Brand::of(values, findings)?;
    let place = place(values, &brand, findings);
    let address = address(values, brand.driver, findings);
    let barcode = barcode(values, findings);
    let variant = variant(values, &brand, findings);
    let (id, place, address) = (id?, place?, address?);
    warn_of_the_other_carrier(values, &place, findings);
    let interval = values.millis(&READ_INTERVAL)?;
    let name = values.given(&DEVICE_NAME).map_or_else(|| title(id.as_str()), str::to_owned);
    let radio = matches!(place, Endpoint::Ble { .. });
    Some(Device {
        profile: Profile {
            id,
            name,
            brand: brand.name.to_owned(),
            title: brand.title.to_owned(),
            port: (!brand.simulated && !radio).then(|| place.to_string()),
            address: Some(if radio { place.to_string() } else { address.to_string() }),
            adapter: values.given(&BMS_ADAPTER).filter(|_| radio).map(str::to_owned),
            interval_ms: u64::try_from(interval.as_millis()).unwrap_or(u64::MAX),
            controls: Vec::new(),
        },
        driver: brand.driver,
        options: Options {
            address,
            timeout: values.millis(&BMS_TIMEOUT).unwrap_or_else(|| brand.usual_timeout(&place)),
            medium: if radio { Medium::Ble } else { Medium::Serial },
            mac: advertisement::address_bytes(&place.to_string()).filter(|_| radio),
            password: values.given(&BMS_PASSWORD).map(Secret::new),
            variant,
            barcode,
            capacity_unit: capacity_unit(values),
        },
        bauds: bauds(values, &place, brand.driver, findings),
        place,
        interval,
        control: false,
        scan_timeout: values.millis(&BMS_SCAN_TIMEOUT)?,
        keep_connected: values
            .mentions(&BMS_KEEP_CONNECTED)
            .then(|| values.switch(&BMS_KEEP_CONNECTED)),
        thresholds: thresholds.clone(),
    })
}

/// The dialect, where the brand has several; one that is found out may be of any. For a simulated
/// battery the same variable says what is played.
fn variant(values: &Values, brand: &Brand, findings: &mut Findings) -> Option<String> {
    let said = values.given(&BMS_VARIANT).filter(|_| !brand.simulated)?.to_lowercase();
    let Some(driver) = brand.driver else { return Some(said) };
    let known = protocol::variants(driver);
    if known.contains(&said.as_str()) {
        return Some(said);
    }
    if known.is_empty() {
        let name = values.name(&BMS_VARIANT);
        findings.warn(format!("{name} has no effect: the type {} has one dialect", driver.name));
    } else {
        let allowed = format!("one of {} for the type {}", known.join(", "), driver.name);
        findings.fault(values.fault(&BMS_VARIANT, allowed));
    }
    None
}

fn place(values: &Values, brand: &Brand, findings: &mut Findings) -> Option<Endpoint> {
    let (port, address) = (values.mentions(&BMS_PORT), values.mentions(&BMS_ADDRESS));
    if brand.simulated {
        for place in values.set_among(&[&BMS_PORT, &BMS_ADDRESS]) {
            findings
                .warn(format!("{place} is ignored: a simulated battery is part of the program"));
        }
        return Some(Endpoint::Simulated);
    }
    let serial = brand.driver.is_none_or(|driver| driver.serial.is_some());
    let radio = brand.driver.is_none_or(|driver| driver.gatt.is_some());
    match (port, address) {
        (true, true) => {
            let port = values.name(&BMS_PORT);
            let allowed = format!("left out, as {port} says where the battery is");
            let example = values.given(&BMS_PORT).unwrap_or(BMS_PORT.example);
            findings.fault(ConfigError {
                example: format!("{port}={example} alone"),
                ..values.fault(&BMS_ADDRESS, allowed)
            });
        }
        (true, false) if !serial => {
            let address = values.name(&BMS_ADDRESS);
            let allowed = format!("left out, as {} has no wire: set {address}", brand.name);
            findings.fault(ConfigError {
                example: format!("{address}={}", BMS_ADDRESS.example),
                ..values.fault(&BMS_PORT, allowed)
            });
        }
        (false, true) if !radio => {
            let port = values.name(&BMS_PORT);
            let allowed =
                format!("left out, as {} is not read over Bluetooth: set {port}", brand.name);
            findings.fault(ConfigError {
                example: format!("{port}={}", BMS_PORT.example),
                ..values.fault(&BMS_ADDRESS, allowed)
            });
        }
        (true, false) => return values.given(&BMS_PORT).and_then(Endpoint::parse),
        (false, true) => {
            let adapter = values.given(&BMS_ADAPTER);
            return values.given(&BMS_ADDRESS).map(|address| Endpoint::on_radio(address, adapter));
        }
        (false, false) if serial => {
            let or = if radio { " or, with its address, over Bluetooth" } else { "" };
            let why = format!("the type {} is read over a serial line{or}", brand.name);
            findings.faults.extend(values.missing(&BMS_PORT, &why));
        }
        (false, false) => {
            let why = format!("the type {} is read over Bluetooth", brand.name);
            findings.faults.extend(values.missing(&BMS_ADDRESS, &why));
        }
    }
    None
}

/// What only means something on the other kind of place.
fn warn_of_the_other_carrier(values: &Values, place: &Endpoint, findings: &mut Findings) {
    let without_effect: &[&Variable] = match place {
        Endpoint::Ble { .. } => &[&BMS_SLAVE_ID],
        _ => &[&BMS_ADAPTER, &BMS_SCAN_TIMEOUT, &BMS_KEEP_CONNECTED],
    };
    for variable in without_effect.iter().filter(|variable| values.mentions(variable)) {
        findings.warn(format!("{} has no effect on {place}", values.name(variable)));
    }
}

fn address(values: &Values, driver: Option<&DriverInfo>, findings: &mut Findings) -> Option<u8> {
    let address = values.text(&BMS_SLAVE_ID).and_then(rule::bus_address)?;
    let Some(driver) = driver else { return Some(address) };
    if driver.addresses.contains(&address) {
        return Some(address);
    }
    let (first, last) = (driver.addresses.start(), driver.addresses.end());
    if !values.mentions(&BMS_SLAVE_ID) {
        return Some(*first);
    }
    let allowed = format!("a whole number from {first} to {last} for the type {}", driver.name);
    findings.fault(values.fault(&BMS_SLAVE_ID, allowed));
    None
}

/// The controller's number. One out of a document is refused at once: the controller may store
/// what it is told.
fn barcode(values: &Values, findings: &mut Findings) -> Option<String> {
    match Barcode::parse(values.given(&BMS_BARCODE)?) {
        Ok(barcode) => Some(barcode.as_str().to_owned()),
        // The form is the rule of the variable, which has reported it.
        Err(BarcodeError::Form) => None,
        Err(sample @ BarcodeError::Sample) => {
            let example = format!("no {} at all", values.name(&BMS_BARCODE));
            findings
                .fault(ConfigError { example, ..values.fault(&BMS_BARCODE, sample.to_string()) });
            None
        }
    }
}

fn capacity_unit(values: &Values) -> CapacityUnit {
    match values.choice(&BMS_CAPACITY_UNIT) {
        Some("mAh") => CapacityUnit::MilliampHours,
        _ => CapacityUnit::WattHours,
    }
}

/// The rates to try. Only a serial port of this machine has one that is ours to choose; while the
/// brand is to be found out there are none unless one was named, and each brand brings its own.
fn bauds(
    values: &Values,
    place: &Endpoint,
    driver: Option<&DriverInfo>,
    findings: &mut Findings,
) -> Vec<u32> {
    let usual = driver.and_then(|driver| driver.serial).map_or(&[][..], |serial| serial.bauds);
    if let Endpoint::Serial { .. } = place {
        return values.number(&BMS_BAUDRATE).map_or_else(|| usual.to_vec(), |rate| vec![rate]);
    }
    if values.mentions(&BMS_BAUDRATE) {
        let name = values.name(&BMS_BAUDRATE);
        findings.warn(format!("{name} has no effect on {place}"));
    }
    usual.iter().take(1).copied().collect()
}

/// Batteries on one line must differ in their address and agree on the baud rate. A rate that one
/// of them names counts for all.
fn check_buses(built: &mut [(&Values, Device)], findings: &mut Findings) {
    for later in 1..built.len() {
        let (before, rest) = built.split_at_mut(later);
        let Some((values, device)) = rest.first_mut() else { continue };
        let mut neighbours: Vec<&mut (&Values, Device)> =
            before.iter_mut().filter(|(_, other)| other.place.is_same(&device.place)).collect();
        if let (Endpoint::Ble { .. }, Some(other)) = (&device.place, neighbours.first()) {
            let allowed = format!("another address than that of {}", other.1.profile.id);
            findings.fault(values.fault(&BMS_ADDRESS, allowed));
            continue;
        }
        if !neighbours.is_empty()
            && neighbours.iter().map(|n| n.1.driver).any(|it| it.is_none())
                | device.driver.is_none()
        {
            let allowed = format!(
                "named, as several batteries are on {} and the search would disturb them",
                device.place
            );
            findings.fault(values.fault(&BMS_TYPE, allowed));
            continue;
        }
        if let Some(other) =
            neighbours.iter().find(|n| n.1.options.address == device.options.address)
        {
            let (other, place) = (&other.1.profile.id, &device.place);
            let allowed =
                format!("an address that no other battery on {place} has, and {other} has it");
            findings.fault(values.fault(&BMS_SLAVE_ID, allowed));
        }
        let named = neighbours.iter().find(|(values, _)| values.mentions(&BMS_BAUDRATE));
        match (named.map(|n| n.1.bauds.clone()), values.mentions(&BMS_BAUDRATE)) {
            (Some(rates), true) if rates != device.bauds => {
                let allowed = format!("the same for all batteries on {}", device.place);
                findings.fault(values.fault(&BMS_BAUDRATE, allowed));
            }
            (Some(rates), false) => device.bauds = rates,
            (None, true) => neighbours.iter_mut().for_each(|n| n.1.bauds = device.bauds.clone()),
            _ => {}
        }
    }
}

/// A name for people from an id: `bms_main` gives `BMS main`.
pub(super) fn title(id: &str) -> String {
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
    fn ids_become_names() {
        for (id, name) in [
            ("bms", "BMS"),
            ("bms_main", "BMS main"),
            ("jk1", "JK1"),
            ("garage-left", "Garage left"),
            ("house_bms_2", "House BMS 2"),
            ("Rack", "Rack"),
            ("-_", "-_"),
        ] {
            assert_eq!(title(id), name);
        }
    }
}
