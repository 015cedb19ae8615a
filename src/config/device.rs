//! One battery: which make, where, how often; from the flat variables or an element of `DEVICES`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Device;
use super::fault::{ConfigError, Findings};
use super::nearest::nearest;
use super::place::Place;
use super::rule::{self, SIMULATED, makes};
use super::source::{Spelling, resolve};
use super::values::Values;
use super::variables::{
    BMS_ADDRESS, BMS_BARCODE, BMS_BAUDRATE, BMS_PORT, BMS_SLAVE_ID, BMS_TIMEOUT, BMS_TYPE,
    DEVICE_ID, DEVICE_NAME, DEVICES, Group, READ_INTERVAL, VARIABLES,
};
use crate::model::{DeviceId, Limits, Profile};
use crate::protocol::{self, DriverInfo, Options};

/// Makes that the contract names. Who asks for one before it is there gets an answer that says so.
const PROMISED: [&str; 4] = ["pylontech-sc0500", "jbd", "jk", "daly"];

/// What people write in capitals in the middle of a name.
const ABBREVIATIONS: [&str; 4] = ["bms", "jbd", "jk", "lfp"];

/// The batteries, and the ids of those that are described wrongly, too.
#[derive(Debug, Default)]
pub(super) struct Batteries {
    pub devices: Vec<Device>,
    pub ids: Vec<String>,
}

/// Every battery that somebody described.
pub(super) fn all(values: &Values, limits: &Limits, findings: &mut Findings) -> Batteries {
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
        built.extend(read(values, limits, findings).map(|device| (values, device)));
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
            "{} without effect: no battery is configured, as neither BMS_PORT nor BMS_TYPE is set",
            set.join(", ")
        ));
    }
    Vec::new()
}

/// The variables that describe one battery and nothing else.
fn flat_variables() -> impl Iterator<Item = &'static &'static super::variables::Variable> {
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
    findings.faults.extend(values.missing(&DEVICE_ID, "with several batteries each needs its own"));
    Some(values)
}

/// Which make, and whether it is only played.
struct Make {
    name: &'static str,
    title: &'static str,
    driver: &'static DriverInfo,
    simulated: bool,
}

impl Make {
    fn named(name: &str) -> Option<Make> {
        if name == SIMULATED {
            let driver = &protocol::daren::INFO;
            return Some(Make { name: SIMULATED, title: "Simulated", driver, simulated: true });
        }
        let driver = protocol::find(name)?;
        Some(Make { name: driver.name, title: driver.title, driver, simulated: false })
    }
}

/// One battery; `None` when something about it is wrong, which is then among the findings.
fn read(values: &Values, limits: &Limits, findings: &mut Findings) -> Option<Device> {
    let id = values.text(&DEVICE_ID).and_then(DeviceId::new);
    let make = make(values, findings)?;
    let place = place(values, &make, findings);
    let address = address(values, make.driver, findings);
    let (id, place, address) = (id?, place?, address?);
    let interval = values.millis(&READ_INTERVAL)?;
    let usual = make.driver.serial.map_or(Options::default().timeout, |serial| serial.timeout);
    let name = values.given(&DEVICE_NAME).map_or_else(|| title(id.as_str()), str::to_owned);
    Some(Device {
        profile: Profile {
            id,
            name,
            make: make.name.to_owned(),
            title: make.title.to_owned(),
            port: (!make.simulated).then(|| place.to_string()),
            address: Some(address.to_string()),
            adapter: None,
            interval_ms: u64::try_from(interval.as_millis()).unwrap_or(u64::MAX),
        },
        driver: make.driver,
        options: Options {
            address,
            timeout: values.millis(&BMS_TIMEOUT).unwrap_or(usual),
            ..Options::default()
        },
        bauds: bauds(values, &place, make.driver, findings),
        place,
        interval,
        limits: limits.clone(),
    })
}

fn make(values: &Values, findings: &mut Findings) -> Option<Make> {
    if let Some(text) = values.given(&BMS_TYPE) {
        let name = text.to_lowercase().replace('_', "-");
        let known = Make::named(&name);
        if known.is_none() {
            findings.fault(values.fault(&BMS_TYPE, unknown_make(&name)));
        }
        return known;
    }
    if values.mentions(&BMS_BARCODE) {
        let (name, barcode) = ("pylontech-sc0500", values.name(&BMS_BARCODE));
        let known = Make::named(name);
        if known.is_none() {
            let why = format!("{barcode} alone means {name}, which this version does not know yet");
            findings.faults.extend(values.missing(&BMS_TYPE, &why));
        }
        return known;
    }
    if values.mentions(&BMS_PORT) {
        return Make::named(protocol::daren::INFO.name);
    }
    // There is nothing to go by but the place, and that is missing or on Bluetooth.
    findings.faults.extend(no_port(values, "it says where the battery is"));
    None
}

/// What to say to somebody who asks for a make that is not there.
fn unknown_make(name: &str) -> String {
    if PROMISED.contains(&name) {
        return format!("{}; this version does not know {name} yet", BMS_TYPE.rule);
    }
    match nearest(name, makes()) {
        Some((near, errors)) if errors <= 3 => format!("{} (is {near} meant?)", BMS_TYPE.rule),
        _ => BMS_TYPE.rule.to_string(),
    }
}

fn place(values: &Values, make: &Make, findings: &mut Findings) -> Option<Place> {
    if make.simulated {
        if values.mentions(&BMS_PORT) {
            let port = values.name(&BMS_PORT);
            findings.warn(format!("{port} is ignored: a simulated battery is part of the program"));
        }
        return Some(Place::Simulated);
    }
    let place = values.given(&BMS_PORT).and_then(Place::parse);
    if place.is_none() {
        let why = format!("the type {} is read over a serial line", make.name);
        findings.faults.extend(no_port(values, &why));
    }
    place
}

/// The fault that a battery has no port; a port that was refused is a fault already.
fn no_port(values: &Values, why: &str) -> Option<ConfigError> {
    if values.mentions(&BMS_PORT) || !values.mentions(&BMS_ADDRESS) {
        return values.missing(&BMS_PORT, why);
    }
    let port = values.name(&BMS_PORT);
    let allowed = format!("left out: Bluetooth is not supported by this version yet; set {port}");
    let example = format!("{port}={}", BMS_PORT.example);
    Some(ConfigError { example, ..values.fault(&BMS_ADDRESS, allowed) })
}

fn address(values: &Values, driver: &DriverInfo, findings: &mut Findings) -> Option<u8> {
    let (first, last) = (driver.addresses.start(), driver.addresses.end());
    let address = values.text(&BMS_SLAVE_ID).and_then(rule::bus_address)?;
    if driver.addresses.contains(&address) {
        return Some(address);
    }
    if !values.mentions(&BMS_SLAVE_ID) {
        return Some(*first);
    }
    let allowed = format!("a whole number from {first} to {last} for the type {}", driver.name);
    findings.fault(values.fault(&BMS_SLAVE_ID, allowed));
    None
}

/// The rates to try. Only a serial port of this machine has one that is ours to choose.
fn bauds(values: &Values, place: &Place, driver: &DriverInfo, findings: &mut Findings) -> Vec<u32> {
    let usual = driver.serial.map_or(&[][..], |serial| serial.bauds);
    if let Place::Serial { .. } = place {
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
        let mut neighbours: Vec<&mut (&Values, Device)> = before
            .iter_mut()
            .filter(|(_, other)| other.place == device.place && device.place != Place::Simulated)
            .collect();
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
