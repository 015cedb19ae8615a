//! What the keys of `pylontech.json`, `pace.json` and `seplos.json` mean.

use std::sync::LazyLock;

use bms_reader::model::Reading;
use bms_reader::model::reading::SensorLocation;
use bms_reader::protocol::ascii_frame::{self, Frame};
use bms_reader::protocol::{CycleKind, DriverInfo, Options, find};
use serde_json::Value;

use crate::ascii_status::{self, Family};
use crate::common::{self, Vector, play, unhex, vectors};
use crate::daren::{cell_voltages, probes, scaled};
use crate::{Compared, Role, SimBrand};

const fn brand(name: &'static str) -> SimBrand {
    SimBrand { name, session, role, request: check_request, value, detail, bare }
}

pub const PYLONTECH: SimBrand = brand("pylontech");
pub const PACE: SimBrand = brand("pace");
pub const SEPLOS: SimBrand = brand("seplos");

/// EG4 has a layout of its own (version 20, CID1 4A), which the driver does not read.
const EG4: &str = "pace-v20-eg4";

fn dialect(vector: &Vector) -> &str {
    vector.json["dialect"].as_str().unwrap()
}

pub fn family(vector: &Vector) -> Family {
    match dialect(vector) {
        "pylon-low-voltage" => Family::Pylontech,
        "pace-v25" | EG4 => Family::Pace,
        "seplos-v2" => Family::Seplos,
        other => panic!("{other}"),
    }
}

fn info(vector: &Vector) -> &'static DriverInfo {
    find(family(vector).name()).unwrap()
}

/// What is needed of a brand again and again.
struct Known {
    /// All questions of a cycle in which everything but the live values is refused.
    questions: Vec<Vec<u8>>,
    /// The payload of a good answer to the live question.
    live: Vec<u8>,
}

fn known(family: Family) -> &'static Known {
    static KNOWN: LazyLock<[Known; 3]> = LazyLock::new(|| Family::ALL.map(Known::of));
    let index = Family::ALL.iter().position(|other| *other == family).unwrap();
    &KNOWN[index]
}

impl Known {
    fn of(family: Family) -> Known {
        let good = vectors(family.name()).into_iter().find(|v| v.kind == "response").unwrap();
        let live = Frame::parse(&good.response).unwrap().info;
        let info = find(family.name()).unwrap();
        let outcome = play((info.new)(&common::usual(info)).as_mut(), |question| {
            vec![plain(question, &live)]
        });
        Known { questions: outcome.unwrap().asked, live }
    }
}

/// A good answer to the live question, and "no such service" to the rest.
fn otherwise(family: Family, question: &[u8]) -> Vec<u8> {
    plain(question, &known(family).live)
}

fn plain(question: &[u8], live: &[u8]) -> Vec<u8> {
    let frame = Frame::parse(question).unwrap();
    if frame.cid2 == 0x42 { reply(&frame, 0, live.to_vec()) } else { reply(&frame, 4, Vec::new()) }
}

/// An answer to this question.
pub fn reply(question: &Frame, code: u8, info: Vec<u8>) -> Vec<u8> {
    Frame { cid2: code, info, ..question.clone() }.encode()
}

fn asked(vector: &Vector) -> Frame {
    Frame::parse(&vector.request).expect(&vector.id)
}

/// A question to all modules of a group, of which Pylontech's driver makes use.
fn of_group(vector: &Vector) -> bool {
    let asked = asked(vector);
    dialect(vector) == "pylon-low-voltage" && asked.cid2 == 0x42 && asked.info == [0xFF]
}

fn role(vector: &Vector) -> Role {
    let questions = &known(family(vector)).questions;
    if vector.request == questions[0] || of_group(vector) {
        Role::Required
    } else if questions.contains(&vector.request) {
        Role::Optional
    } else {
        Role::NeverAsked
    }
}

fn session(vector: &Vector, question: &[u8]) -> Option<Vec<u8>> {
    if question == vector.request {
        return Some(vector.response.clone());
    }
    let frame = Frame::parse(question).unwrap();
    if of_group(vector) && frame.cid2 == 0x42 {
        return Some(reply(&frame, 6, Vec::new()));
    }
    Some(otherwise(family(vector), question))
}

fn check_request(vector: &Vector) {
    let frame = asked(vector);
    assert_eq!(frame.encode(), vector.request, "{}", vector.id);
    for (key, expected) in vector.json["expected"].as_object().unwrap() {
        let number = expected.as_u64().unwrap_or_default();
        match key.as_str() {
            "ver" => assert_eq!(u64::from(frame.version), number),
            "adr" | "address" => assert_eq!(u64::from(frame.address), number),
            "cid1" => assert_eq!(u64::from(frame.cid1), number),
            "cid2" => assert_eq!(u64::from(frame.cid2), number),
            "info_hex" | "info" => assert_eq!(frame.info, unhex(expected.as_str().unwrap())),
            _ => panic!("{}: what is {key}?", vector.id),
        }
    }
    let Some(never) = never_asked(vector) else { return asks(vector, &frame) };
    assert!(!never.is_empty());
}

/// Why the driver never asks the question of this vector.
fn never_asked(vector: &Vector) -> Option<&'static str> {
    Some(match vector.id.as_str() {
        "pylon-req-console-switch" => "it switches the line to another protocol",
        "pylon-req-4F-protocol-version" => "the version of the protocol changes nothing",
        "pylon-req-44-all" => "asked only of a battery that refuses its own address",
        "pace25-req-42-all" => "packs are asked one by one",
        "pace25-req-90-pack-count" => "packs are asked one by one",
        _ if dialect(vector) == EG4 => "another layout",
        _ => return None,
    })
}

/// The driver for the battery at this address asks exactly this.
fn asks(vector: &Vector, frame: &Frame) {
    let options = Options { address: frame.address, ..Options::default() };
    let mut driver = (info(vector).new)(&options);
    driver.start(CycleKind::Read);
    let family = family(vector);
    let asked = play(driver.as_mut(), |question| vec![otherwise(family, question)]).unwrap().asked;
    assert!(asked.contains(&vector.request), "{} is not asked", vector.id);
}

fn bare(vector: &Vector) {
    let frame = Frame::parse(&vector.response);
    match vector.id.as_str() {
        // A module at an address that is not the one of the others.
        "pylon-42-doc28" => {
            let mut driver = (info(vector).new)(&Options { address: 1, ..Options::default() });
            let outcome =
                play(driver.as_mut(), |asked| session(vector, asked).into_iter().collect());
            let reading = outcome.unwrap().reading();
            for (key, expected) in vector.json["expected"].as_object().unwrap() {
                let compared = value(vector, key, expected, &reading);
                assert!(!matches!(compared, Compared::UnknownKey), "{key}");
            }
        }
        "seplos2-93-refused" => {
            let error = &vector.json["expected_error"];
            let code = frame.unwrap().cid2;
            assert_eq!(error["rtn"], code);
            let name = error["name"].as_str().unwrap().replace('_', " ");
            assert_eq!(ascii_frame::refusal(code), name);
        }
        "seplos2-4F-empty-ok" => {
            let frame = frame.unwrap();
            assert_eq!(vector.json["expected"]["ver"], frame.version);
            assert_eq!(frame.info, [0_u8; 0]);
        }
        // Not ours to read; but none of it may be taken for an answer to a question of ours.
        _ if dialect(vector) == EG4 || vector.id.starts_with("pace25-42-two-packs") => {
            let frame = frame.unwrap();
            let info = info(vector);
            let outcome = play((info.new)(&common::usual(info)).as_mut(), |question| {
                let Frame { address, .. } = Frame::parse(question).unwrap();
                vec![Frame { address, ..frame.clone() }.encode()]
            });
            outcome.unwrap().error();
        }
        // A damaged answer to an optional question: that it changes nothing says the runner.
        id => panic!("{id} is neither asked nor explained"),
    }
}

fn detail(key: &str, expected: &Value, message: &str) -> Compared {
    let says = |text: String| assert!(message.contains(&text), "{message}: no {text}");
    let number = expected.as_u64().unwrap_or_default();
    match key {
        "name" => says(format!(": {} (", expected.as_str().unwrap().replace('_', " "))),
        "rtn" => says(format!("(code {number:02X})")),
        // A frame of another address is skipped, so the message cannot speak of it.
        "got" | "want" if message.starts_with("no answer") => {}
        "got" if number > 0xFF => says(format!("got {number:04X}")),
        "want" if number > 0xFF => says(format!("expected {number:04X}")),
        "got" => says(format!("class {number:02X}")),
        "want" => says(format!("instead of {number:02X}")),
        _ => return Compared::UnknownKey,
    }
    Compared::Yes
}

fn value(vector: &Vector, key: &str, expected: &Value, reading: &Reading) -> Compared {
    match (asked(vector).cid2, key) {
        (0x42, "modules") => group(vector, expected),
        (0x42, _) => return live(vector, key, expected, reading),
        (0x44, _) => return ascii_status::value(vector, key, expected, reading),
        (0x47, _) => return limits(key, expected, reading),
        (0x92, _) => return management(vector, key, expected, reading),
        _ => return identity(key, expected, reading),
    }
    Compared::Yes
}

/// Every module of a group is read by a driver of its own from the answer of the first one.
fn group(vector: &Vector, modules: &Value) {
    for (address, module) in (2..).zip(modules.as_array().unwrap()) {
        let mut driver = (info(vector).new)(&Options { address, ..Options::default() });
        let outcome =
            play(driver.as_mut(), |question| session(vector, question).into_iter().collect());
        let reading = outcome.unwrap().reading();
        for (key, expected) in module.as_object().unwrap() {
            let compared = live(vector, key, expected, &reading);
            assert!(matches!(compared, Compared::Yes | Compared::No(_)), "what is {key}?");
        }
    }
    let beyond = 2 + u8::try_from(modules.as_array().unwrap().len()).unwrap();
    let mut driver = (info(vector).new)(&Options { address: beyond, ..Options::default() });
    let outcome = play(driver.as_mut(), |question| session(vector, question).into_iter().collect());
    // The refusal of its own address is the more telling error; in the next cycle there is none.
    assert!(outcome.unwrap().error().to_string().contains("(code 06)"));
    driver.start(CycleKind::Read);
    let outcome = play(driver.as_mut(), |question| session(vector, question).into_iter().collect());
    let error = outcome.unwrap().error().to_string();
    assert!(error.contains("modules and ours would be number"), "{error}");
}

fn live(vector: &Vector, key: &str, expected: &Value, reading: &Reading) -> Compared {
    let (id, pack) = (&vector.id, &reading.pack);
    let thousandths = scaled_or_none(expected, 1000.0);
    let tenths = |value: &Value| scaled(value, 10.0);
    let list = || expected.as_array().unwrap().iter();
    match key {
        "cell_count" => assert_eq!(Some(reading.cells.len() as u64), expected.as_u64(), "{id}"),
        "cell_voltages_mv" => {
            let expected: Vec<i64> = serde_json::from_value(expected.clone()).unwrap();
            assert_eq!(cell_voltages(reading), expected, "{id}");
        }
        "temp_count" => assert_eq!(reading.probes.len() as u64, expected.as_u64().unwrap(), "{id}"),
        "temp_bms_c" | "temp_mos_c" => {
            assert_eq!(probes(reading, SensorLocation::Mosfet), [tenths(expected)], "{id}");
        }
        "temp_ambient_c" => {
            assert_eq!(probes(reading, SensorLocation::Ambient), [tenths(expected)], "{id}")
        }
        "temp_cells_c" => {
            let expected: Vec<_> = list().map(tenths).collect();
            assert_eq!(probes(reading, SensorLocation::Cells), expected, "{id}");
        }
        // With the offset of that reader, which is 0.1 K smaller.
        "temps_c_2730" => {
            let all = reading.probes.iter().map(|probe| probe.value.map(|v| i64::from(v.0)));
            let expected: Vec<_> = list().map(|t| tenths(t).map(|t| t - 1)).collect();
            assert_eq!(all.collect::<Vec<_>>(), expected, "{id}");
            assert_eq!(probes(reading, SensorLocation::Mosfet), [expected[4]]);
            assert_eq!(probes(reading, SensorLocation::Ambient), [expected[5]]);
        }
        "current_a" => assert_eq!(pack.current.map(|v| v.0.into()), thousandths, "{id}"),
        "voltage_v" => assert_eq!(pack.voltage.map(|v| v.0.into()), thousandths, "{id}"),
        "remaining_capacity_ah" => assert_eq!(pack.remaining.map(|v| v.0), thousandths, "{id}"),
        "total_capacity_ah" | "full_capacity_ah" | "capacity_ah" => {
            assert_eq!(pack.full.map(|v| v.0), thousandths, "{id}");
        }
        "design_capacity_ah" | "rated_capacity_ah" => {
            assert_eq!(pack.design.map(|v| v.0), thousandths, "{id}");
        }
        "cycle_count" => assert_eq!(pack.cycles.map(u64::from), expected.as_u64(), "{id}"),
        "soc_pct" => assert_eq!(pack.soc.map(|v| v.0.into()), scaled(expected, 100.0), "{id}"),
        "soh_pct" => assert_eq!(pack.soh.map(|v| v.0.into()), scaled(expected, 100.0), "{id}"),
        "infoflag" | "dataflag" => return Compared::No("what has changed since the last question"),
        "command_value" | "bus_id" | "group" | "module_count" => {
            return Compared::No("the head; groups are compared module by module");
        }
        "user_defined" => return Compared::No("it tells the layout"),
        "port_voltage_v" => return Compared::No("the pack's own voltage is published"),
        "reserved_bytes" => return Compared::No("nothing is in them"),
        _ => return Compared::UnknownKey,
    }
    Compared::Yes
}

fn scaled_or_none(value: &Value, unit: f64) -> Option<i64> {
    if value.is_number() { scaled(value, unit) } else { None }
}

fn limits(key: &str, expected: &Value, reading: &Reading) -> Compared {
    let limits = &reading.limits;
    let expected = scaled(expected, 1000.0);
    let is = |limit: Option<bms_reader::model::units::Millivolts>| {
        assert_eq!(limit.map(|v| v.0.into()), expected, "{key}");
    };
    assert!(reading.received.settings);
    match key {
        "cell_high_v" => is(limits.cell_upper),
        "cell_under_v" => is(limits.cell_lower),
        "module_high_v" => is(limits.pack_upper),
        "module_under_v" => is(limits.pack_lower),
        "infoflag" => return Compared::No("what has changed since the last question"),
        "cell_low_v" | "module_low_v" => return Compared::No("where it warns"),
        _ if key.starts_with("charge_") || key.starts_with("discharge_") => {
            return Compared::No("a reading has no field for it");
        }
        _ => return Compared::UnknownKey,
    }
    Compared::Yes
}

fn management(vector: &Vector, key: &str, expected: &Value, reading: &Reading) -> Compared {
    let limits = &reading.limits;
    let thousandths = scaled_or_none(expected, 1000.0);
    match key {
        "charge_voltage_limit_v" => {
            assert_eq!(limits.charge_voltage.map(|v| v.0.into()), thousandths);
        }
        "discharge_voltage_limit_v" => {
            assert_eq!(limits.discharge_voltage.map(|v| v.0.into()), thousandths);
        }
        "charge_current_limit_a" => {
            assert_eq!(limits.charge_current.map(|v| v.0.into()), thousandths);
        }
        "discharge_current_limit_a" => {
            assert_eq!(limits.discharge_current.map(|v| v.0.into()), thousandths);
        }
        "command_value" => return Compared::No("the address"),
        "status_raw" => return Compared::No("its bits are compared"),
        _ => {
            let state = reading.states.get(key);
            assert_eq!(state.copied(), expected.as_bool(), "{}: {key}", vector.id);
        }
    }
    Compared::Yes
}

fn identity(key: &str, expected: &Value, reading: &Reading) -> Compared {
    let names = &reading.identity;
    let text = expected.as_str();
    assert!(reading.received.device_info && reading.received.cell_info);
    match key {
        "serial" => assert_eq!(names.serial.as_deref(), text),
        "hardware" => assert_eq!(names.hardware.as_deref(), text),
        "device_name" => assert_eq!(names.model.as_deref(), text),
        "software_version" => assert_eq!(names.software.as_deref(), text),
        "manufacturer" => assert_eq!(names.manufacturer.as_deref(), text),
        "main_version_hex" => {
            let version = unhex(text.unwrap()).iter().map(u8::to_string).collect::<Vec<_>>();
            assert_eq!(names.software, Some(version.join(".")));
        }
        "manufacturer_version_hex" => return Compared::No("the program's own version says more"),
        "command_value" => return Compared::No("the address"),
        _ => return Compared::UnknownKey,
    }
    Compared::Yes
}

/// A cycle of the battery of the recorded frames in which service 44 (or another one) answers so.
pub fn read(family: Family, cid2: u8, info: &[u8]) -> Reading {
    let driver_info = find(family.name()).unwrap();
    let mut driver = (driver_info.new)(&common::usual(driver_info));
    let outcome = play(driver.as_mut(), |question| {
        let frame = Frame::parse(question).unwrap();
        let answer = if frame.cid2 == cid2 {
            reply(&frame, 0, info.to_vec())
        } else {
            otherwise(family, question)
        };
        vec![answer]
    });
    outcome.unwrap().reading()
}
