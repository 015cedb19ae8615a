//! Recorded conversations of Bluetooth batteries, played to the driver of each brand.
//!
//! The expected values are those that another program reads from the same frames (aiobmsble, see
//! `tests/corpus/README.md`). Where a driver differs on purpose, the file gives the reason.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{env, fs};

use bms_reader::model::Reading;
use bms_reader::model::reading::SensorLocation;
use bms_reader::protocol::driver::Medium;
use bms_reader::protocol::table::load;
use bms_reader::protocol::{self, CycleKind, Driver, DriverInfo, Options, Step};
use serde_json::Value;

/// Cycles after which a driver knows everything that a conversation contains.
const CYCLES: usize = 4;
/// More steps than any cycle has.
const MAX_STEPS: usize = 4000;

/// What modules send between frames.
const JUNK: &[u8] = b"\x00\xFF\x11AT\r\n";

/// One recorded conversation.
struct Conversation {
    brand: String,
    id: String,
    events: Vec<Event>,
    expected: Value,
    /// Reason by key.
    deviations: Value,
    /// The frames are damaged, and a driver must refuse them.
    rejected: bool,
}

#[derive(Clone)]
enum Event {
    Write(Vec<u8>),
    Notify(Vec<u8>),
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

fn conversations() -> Vec<Conversation> {
    let only = env::var("CORPUS").ok();
    let mut files: Vec<_> = fs::read_dir(folder()).unwrap().map(|it| it.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|it| it == "json"));
    files.sort();
    let mut all = Vec::new();
    for path in files {
        let brand = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if only.as_ref().is_some_and(|only| !only.split(',').any(|name| name == brand)) {
            continue;
        }
        let file: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        for json in file["conversations"].as_array().unwrap() {
            let each = json["conversation"].as_array().unwrap().iter();
            let bytes = |it: &Value| common::vectors::unhex(it.as_str().unwrap());
            let event = |event: &Value| {
                let write = event.get("write").map(|it| Event::Write(bytes(it)));
                write.or_else(|| event.get("notify").map(|it| Event::Notify(bytes(it))))
            };
            let id = json["test"].as_str().unwrap();
            let mut deviations = file["deviations"].clone();
            if let Some(own) = json["deviations"].as_object() {
                let all = deviations.as_object().cloned().unwrap_or_default();
                deviations = all.into_iter().chain(own.clone()).collect();
            }
            all.push(Conversation {
                brand: brand.clone(),
                id: format!("{brand}: {}", id.rsplit("::").next().unwrap()),
                events: each.filter_map(event).collect(),
                expected: json["expected"].clone(),
                deviations,
                rejected: json["rejected"].is_string(),
            });
        }
    }
    all
}

/// How the notifications of a conversation are delivered.
#[derive(Debug, Clone, Copy)]
enum Delivery {
    Recorded,
    Bytes,
    BehindJunk,
}

/// The battery side of a conversation.
struct Battery<'a> {
    events: &'a [Event],
    used: Vec<bool>,
    /// Index of the next notification.
    next: usize,
    delivery: Delivery,
    /// Nothing was delivered since the last request.
    fresh: bool,
    /// Notifications in this cycle.
    delivered: usize,
}

impl<'a> Battery<'a> {
    fn new(events: &'a [Event], delivery: Delivery) -> Self {
        Battery {
            events,
            used: vec![false; events.len()],
            next: 0,
            delivery,
            fresh: true,
            delivered: 0,
        }
    }

    /// Goes to the recorded request; an unknown one has no answer.
    fn receive(&mut self, request: &[u8]) {
        let same =
            |at: &usize| matches!(&self.events[*at], Event::Write(bytes) if bytes == request);
        let all: Vec<usize> = (0..self.events.len()).filter(same).collect();
        let at = all.iter().find(|at| !self.used[**at]).or(all.last()).copied();
        self.fresh = true;
        // What a battery sent before the request may arrive after it.
        if let Some(at) = at.filter(|at| !self.used[*at] && self.next < *at) {
            let between = &self.events[self.next..at];
            if between.iter().all(|event| matches!(event, Event::Notify(_))) {
                self.used[at] = true;
                return;
            }
        }
        self.next = at.map_or(self.events.len(), |at| at + 1);
        if let Some(at) = at {
            self.used[at] = true;
        }
    }

    /// The next notification, in pieces.
    fn notification(&mut self) -> Option<Vec<Vec<u8>>> {
        while matches!(self.events.get(self.next), Some(Event::Write(_))) && self.used[self.next] {
            self.next += 1;
        }
        let Some(Event::Notify(bytes)) = self.events.get(self.next) else { return None };
        self.next += 1;
        self.delivered += 1;
        let fresh = std::mem::take(&mut self.fresh);
        Some(match self.delivery {
            Delivery::Recorded => vec![bytes.clone()],
            Delivery::Bytes => bytes.iter().map(|byte| vec![*byte]).collect(),
            Delivery::BehindJunk if fresh => vec![JUNK.to_vec(), bytes.clone()],
            Delivery::BehindJunk => vec![bytes.clone()],
        })
    }
}

fn cycle(driver: &mut dyn Driver, battery: &mut Battery) -> Step {
    driver.start(CycleKind::Read);
    for _ in 0..MAX_STEPS {
        match driver.step() {
            Step::Send(bytes) => {
                battery.receive(&bytes);
                driver.advance();
            }
            Step::Pause(_) => driver.advance(),
            Step::Await(_) => match battery.notification() {
                Some(pieces) => pieces.iter().for_each(|piece| driver.receive(piece)),
                None => driver.handle_timeout(),
            },
            end => return end,
        }
    }
    panic!("the cycle does not end");
}

fn read(info: &DriverInfo, conversation: &Conversation, delivery: Delivery) -> Step {
    let mac = Some([0x11, 0x22, 0x33, 0x44, 0x55, 0x66]);
    let options = Options { medium: Medium::Ble, mac, ..Options::default() };
    let mut driver = info.driver(&options);
    let mut battery = Battery::new(&conversation.events, delivery);
    let mut end = cycle(driver.as_mut(), &mut battery);
    for _ in 1..CYCLES {
        battery.delivered = 0;
        let next = cycle(driver.as_mut(), &mut battery);
        // The frames of a stream are used up, perhaps in the middle of a reading.
        let streams = info.gatt.is_some_and(|gatt| gatt.streams);
        let is_cut = streams && matches!((&end, &next), (Step::Done(_), Step::Failed(_)));
        if battery.delivered == 0 || is_cut {
            break;
        }
        end = next;
    }
    end
}

/// The brand, from its file where the program is not built anew for each change of a profile.
fn brand(name: &str) -> Option<&'static DriverInfo> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/protocol/brands/{name}.yaml"));
    match fs::read_to_string(&path) {
        Ok(text) => Some(load::info(load::parse(&text).unwrap_or_else(|e| panic!("{name}: {e}")))),
        Err(_) => protocol::find(name),
    }
}

#[test]
fn recorded_conversations_yield_the_expected_values() {
    let mut failures = Vec::new();
    for conversation in conversations() {
        let Some(info) = brand(&conversation.brand) else { continue };
        for delivery in [Delivery::Recorded, Delivery::Bytes, Delivery::BehindJunk] {
            let differences = match read(info, &conversation, delivery) {
                Step::Done(_) if conversation.rejected => vec!["a reading".to_owned()],
                Step::Done(reading) => {
                    if env::var_os("SHOW").is_some() && matches!(delivery, Delivery::Recorded) {
                        eprintln!("{}: {reading:#?}", conversation.id);
                    }
                    differences(&conversation, &reading)
                }
                Step::Failed(_) if conversation.rejected || conversation.expected.is_null() => {
                    Vec::new()
                }
                end => vec![format!("{end:?}")],
            };
            if !differences.is_empty() {
                failures.push(format!(
                    "{} ({delivery:?}): {}",
                    conversation.id,
                    differences.join("; ")
                ));
                break;
            }
        }
    }
    assert!(failures.is_empty(), "{} conversations:\n{}", failures.len(), failures.join("\n"));
}

/// The keys whose value differs, without those that differ on purpose.
fn differences(conversation: &Conversation, reading: &Reading) -> Vec<String> {
    let mut differences = Vec::new();
    for (key, expected) in conversation.expected.as_object().into_iter().flatten() {
        let found = compare(key, expected, reading);
        match (&conversation.deviations[key], found) {
            (Value::Null, Some(found)) => {
                differences.push(format!("{key} is {found}, not {expected}"))
            }
            (Value::String(_), None) => differences.push(format!("{key} does not deviate")),
            _ => {}
        }
    }
    differences
}

/// The value in the reading where it differs from the expected one.
fn compare(key: &str, expected: &Value, reading: &Reading) -> Option<String> {
    let (pack, cells) = (&reading.pack, &reading.cells);
    let near = |found: Option<f64>, tolerance: f64| match (expected.as_f64(), found) {
        (Some(expected), Some(found)) if (expected - found).abs() <= tolerance => None,
        (_, found) => Some(format!("{found:?}")),
    };
    let flag = |found: Option<bool>| match (expected, found) {
        (Value::Bool(expected), Some(found)) if *expected == found => None,
        (_, found) => Some(format!("{found:?}")),
    };
    let milli = |value: i64| value as f64 / 1000.0;
    let cell_sum = cells.iter().filter_map(|cell| cell.voltage).map(|it| i64::from(it.0)).sum();
    let voltage = pack.voltage.map_or(cell_sum, |voltage| voltage.0.into());
    match key {
        "voltage" => near(Some(milli(voltage)), 0.0051),
        "current" => near(pack.current.map(|it| milli(it.0.into())), 0.0051),
        "battery_level" => near(pack.soc.map(|it| f64::from(it.0) / 100.0), 0.51),
        "battery_health" => near(pack.soh.map(|it| f64::from(it.0) / 100.0), 0.51),
        "cycle_charge" => near(pack.remaining.map(|it| milli(it.0)), 0.0051),
        "design_capacity" => near(pack.design.map(|it| milli(it.0)), 1.0),
        "cycles" => near(pack.cycles.map(f64::from), 0.0),
        "cell_count" => near(Some(cells.len() as f64), 0.0),
        "pack_count" => near(Some(reading.modules.len() as f64), 0.0),
        "chrg_mosfet" => flag(reading.switches.charging),
        "dischrg_mosfet" => flag(reading.switches.discharging),
        "heater" => flag(reading.states.get("heater_on").copied()),
        "balancer" => {
            let on = cells.iter().any(|cell| cell.balancing == Some(true));
            let on = on || reading.states.get("balancing") == Some(&true);
            let expected = expected.as_bool().unwrap_or(expected.as_u64() != Some(0));
            (expected != on).then(|| format!("{on}"))
        }
        "problem_code" => {
            let on = reading.alarms.any_active()
                || reading.alarms.unknown_bits().next().is_some()
                || pack.error_code.is_some_and(|code| code != 0);
            ((expected.as_u64() != Some(0)) != on).then(|| format!("{on}"))
        }
        "cell_voltages" => {
            let found: Vec<f64> = cells
                .iter()
                .filter_map(|cell| cell.voltage)
                .map(|voltage| milli(voltage.0.into()))
                .collect();
            let expected: Vec<f64> =
                expected.as_array().unwrap().iter().map(|it| it.as_f64().unwrap()).collect();
            let same = expected.len() == found.len()
                && expected.iter().zip(&found).all(|(one, other)| (one - other).abs() < 0.00051);
            (!same).then(|| format!("{found:?}"))
        }
        "temp_values" => temperatures(expected, reading),
        _ => None,
    }
}

/// Every expected temperature is there, at the expected kind of place.
fn temperatures(expected: &Value, reading: &Reading) -> Option<String> {
    let mut found: Vec<(f64, SensorLocation)> = reading
        .probes
        .iter()
        .filter_map(|probe| Some((f64::from(probe.value?.0) / 10.0, probe.location)))
        .collect();
    let all = format!("{found:?}");
    let mut missing = BTreeSet::new();
    for pair in expected.as_array().unwrap() {
        let value = pair[0].as_f64().unwrap();
        let location = match pair[1].as_str().unwrap_or_default() {
            "MOSFET" | "PCB" => Some(SensorLocation::Mosfet),
            "AMBIENT" => Some(SensorLocation::Ambient),
            "CELL" => Some(SensorLocation::Cells),
            _ => None,
        };
        let fits = |(other, place): &(f64, SensorLocation)| {
            (other - value).abs() < 0.11 && location.is_none_or(|location| location == *place)
        };
        match found.iter().position(fits) {
            Some(at) => drop(found.remove(at)),
            None => drop(missing.insert(pair.to_string())),
        }
    }
    (!missing.is_empty()).then(|| format!("{all} without {missing:?}"))
}
