//! Recorded conversations of Bluetooth batteries, played to the driver of each brand.
//!
//! The expected values are those that another program reads from the same frames (aiobmsble, see
//! `tests/corpus/README.md`). Where a driver differs on purpose, the file gives the reason.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{env, fs};

use bms_reader::model::Reading;
use bms_reader::model::reading::SensorLocation;
use bms_reader::protocol::table::load;
use bms_reader::protocol::{self, DriverInfo, Step, profiles};
use bms_reader::sim::conversation::Conversation;
use serde_json::Value;

/// What modules send between frames.
const JUNK: &[u8] = b"\x00\xFF\x11AT\r\n";

/// One recorded conversation of a brand.
struct Recorded {
    brand: String,
    id: String,
    conversation: Conversation,
    /// Reason by key.
    deviations: Value,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

fn conversations() -> Vec<Recorded> {
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
        let each = Conversation::all(&file).unwrap_or_else(|error| panic!("{brand}: {error}"));
        for (conversation, json) in each.into_iter().zip(file["conversations"].as_array().unwrap())
        {
            let mut deviations = file["deviations"].clone();
            if let Some(own) = json["deviations"].as_object() {
                let all = deviations.as_object().cloned().unwrap_or_default();
                deviations = all.into_iter().chain(own.clone()).collect();
            }
            let id = format!("{brand}: {}", conversation.name.rsplit("::").next().unwrap());
            all.push(Recorded { brand: brand.clone(), id, conversation, deviations });
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

impl Delivery {
    /// The pieces of a notification; `fresh` is the first one after a request.
    fn pieces(self, bytes: &[u8], fresh: bool) -> Vec<Vec<u8>> {
        match self {
            Delivery::Bytes => bytes.iter().map(|byte| vec![*byte]).collect(),
            Delivery::BehindJunk if fresh => vec![JUNK.to_vec(), bytes.to_vec()],
            Delivery::Recorded | Delivery::BehindJunk => vec![bytes.to_vec()],
        }
    }
}

/// The brand, read from its file, so that a changed profile needs no build.
fn brand(name: &str) -> Option<&'static DriverInfo> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/protocol/brands/{name}.yaml"));
    match fs::read_to_string(&path) {
        Ok(text) => {
            Some(profiles::info(load::parse(&text).unwrap_or_else(|e| panic!("{name}: {e}"))))
        }
        Err(_) => protocol::find(name),
    }
}

#[test]
fn recorded_conversations_yield_the_expected_values() {
    let mut failures = Vec::new();
    for recorded in conversations() {
        let Some(info) = brand(&recorded.brand) else { continue };
        let conversation = &recorded.conversation;
        for delivery in [Delivery::Recorded, Delivery::Bytes, Delivery::BehindJunk] {
            let pieces = move |bytes: &[u8], fresh| delivery.pieces(bytes, fresh);
            let differences = match conversation.play(info, &conversation.options, &pieces) {
                Step::Done(_) if conversation.rejected => vec!["a reading".to_owned()],
                Step::Done(reading) => {
                    if env::var_os("SHOW").is_some() && matches!(delivery, Delivery::Recorded) {
                        eprintln!("{}: {reading:#?}", recorded.id);
                    }
                    differences(&recorded, &reading)
                }
                Step::Failed(_) if conversation.rejected || conversation.expected.is_null() => {
                    Vec::new()
                }
                end => vec![format!("{end:?}")],
            };
            if !differences.is_empty() {
                let differences = differences.join("; ");
                failures.push(format!("{} ({delivery:?}): {differences}", recorded.id));
                break;
            }
        }
    }
    assert!(failures.is_empty(), "{} conversations:\n{}", failures.len(), failures.join("\n"));
}

/// The keys whose value differs, without those that differ on purpose.
fn differences(recorded: &Recorded, reading: &Reading) -> Vec<String> {
    let mut differences = Vec::new();
    for (key, expected) in recorded.conversation.expected.as_object().into_iter().flatten() {
        let found = compare(key, expected, reading);
        match (&recorded.deviations[key], found) {
            (Value::Null, Some(found)) => {
                differences.push(format!("{key} is {found}, not {expected}"));
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
