//! What the keys of `daren.json` mean.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use bms_reader::model::reading::SensorLocation;
use bms_reader::model::units::Milliwatts;
use bms_reader::model::{Alarm, Reading};
use bms_reader::protocol::ascii_frame::{self, Frame};
use bms_reader::protocol::daren::{CID1, Service, VERSION, request};
use serde_json::Value;

use crate::common::{Vector, unhex, vectors};
use crate::daren_status::{alarm, status};
use crate::{Compared, Role, SimBrand};

pub const BRAND: SimBrand =
    SimBrand { name: "daren", session, role, request: check_request, value, detail, bare };

/// All questions of the driver.
const SERVICES: [Service; 5] = [
    Service::Live,
    Service::Nameplate,
    Service::Manufacturer,
    Service::Capacities,
    Service::Parameters,
];

fn service(vector: &Vector) -> Option<Service> {
    SERVICES.into_iter().find(|&service| request(service, 1, 1) == vector.request)
}

fn role(vector: &Vector) -> Role {
    match service(vector) {
        Some(Service::Live) => Role::Required,
        Some(_) => Role::Optional,
        None => Role::NeverAsked,
    }
}

static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let all = vectors("daren");
    all.into_iter().find(|v| v.id == "daren-resp-42-16s-idle").unwrap().response
});

/// The answer under test, a good one to the live question, and "no such service" to the rest.
fn session(vector: &Vector, question: &[u8]) -> Option<Vec<u8>> {
    if question == vector.request {
        return Some(vector.response.clone());
    }
    if question == request(Service::Live, 1, 1) {
        return Some(GOOD.clone());
    }
    Some(reply(4, Vec::new()))
}

pub fn reply(code: u8, info: Vec<u8>) -> Vec<u8> {
    Frame { version: VERSION, address: 1, cid1: CID1, cid2: code, info }.encode()
}

fn check_request(vector: &Vector) {
    let frame = Frame::parse(&vector.request).expect(&vector.id);
    assert_eq!(frame.encode(), vector.request, "{}", vector.id);
    let length = ascii_frame::length_field(u16::try_from(frame.info.len() * 2).unwrap());
    let covered = &vector.request[1..vector.request.len() - 5];
    for (key, expected) in vector.json["expected"].as_object().unwrap() {
        let number = expected.as_u64().unwrap_or_default();
        match key.as_str() {
            "ver" => assert_eq!(u64::from(frame.version), number),
            "adr" => assert_eq!(u64::from(frame.address), number),
            "cid1" => assert_eq!(u64::from(frame.cid1), number),
            "cid2" => assert_eq!(u64::from(frame.cid2), number),
            "lenid" => assert_eq!(frame.info.len() * 2, usize::try_from(number).unwrap()),
            "checksum" => assert_eq!(u64::from(ascii_frame::checksum(covered)), number),
            "info_hex" => assert_eq!(frame.info, unhex(expected.as_str().unwrap())),
            "length_field" => assert_eq!(format!("{length:04X}"), expected.as_str().unwrap()),
            _ => panic!("{}: what is {key}?", vector.id),
        }
    }
    // The driver's own encoder; 4D, 4F and 83 are never asked.
    let ours = SERVICES.map(|service| {
        let group = *frame.info.first().unwrap_or(&frame.address);
        request(service, frame.address, group)
    });
    let asked = ours.contains(&vector.request);
    assert_eq!(asked, !matches!(frame.cid2, 0x4D | 0x4F | 0x83), "{}", vector.id);
}

fn bare(vector: &Vector) {
    let expected = &vector.json["expected"];
    match vector.kind.as_str() {
        "length-field" => {
            let lenid = u16::try_from(expected["lenid"].as_u64().unwrap()).unwrap();
            let field = format!("{:04X}", ascii_frame::length_field(lenid));
            assert_eq!(field, expected["length_field"].as_str().unwrap());
        }
        "checksum" => {
            let frame = &vector.request;
            let sum = ascii_frame::checksum(&frame[1..frame.len() - 5]);
            assert_eq!(u64::from(sum), expected["checksum"].as_u64().unwrap());
            assert_eq!(u64::from(sum.wrapping_neg()), expected["sum"].as_u64().unwrap());
            assert!(Frame::parse(frame).is_ok());
        }
        "response" => {
            let frame = Frame::parse(&vector.response).expect(&vector.id);
            assert_eq!((frame.cid1, frame.cid2), (CID1, 0));
        }
        "bad" => {
            let error = Frame::parse(&vector.response).expect_err(&vector.id);
            let error = error.in_answer_to(vector.id.clone());
            let details = vector.json["expected_error"].as_object().unwrap();
            for (key, expected) in details.iter().filter(|(key, _)| *key != "kind") {
                assert!(matches!(detail(key, expected, &error.to_string()), Compared::Yes));
            }
        }
        kind => panic!("{kind}"),
    }
}

fn detail(key: &str, expected: &Value, message: &str) -> Compared {
    let says = |text: String| assert!(message.contains(&text), "{message}: no {text}");
    let number = expected.as_u64().unwrap_or_default();
    match key {
        "name" => says(format!(": {} (", expected.as_str().unwrap().replace('_', " "))),
        "field" => says(expected.as_str().unwrap().replace('_', " ")),
        "value" => says(format!("is {number}")),
        "lenid" => says(format!("promises {number} ")),
        "present_info_chars" => says(format!("has {number}")),
        "rtn" => says(format!("(code {number:02X})")),
        "want_nibble" => says(format!("expected {number:X}")),
        // A frame of another address is skipped, so the message cannot speak of it.
        "got" | "want" if message.starts_with("no answer") => {}
        "got" | "want" => says(format!("{number:02X}")),
        _ => return Compared::UnknownKey,
    }
    Compared::Yes
}

fn value(vector: &Vector, key: &str, expected: &Value, reading: &Reading) -> Compared {
    match service(vector) {
        Some(Service::Live) => live(vector, key, expected, reading),
        _ => identity(service(vector), key, expected, reading),
    }
}

/// A number of the vector in the model's small unit.
pub fn scaled(expected: &Value, unit: f64) -> Option<i64> {
    #[allow(clippy::cast_possible_truncation)]
    let exact = (expected.as_f64().expect("a number") * unit).round() as i64;
    Some(exact)
}

pub fn probes(reading: &Reading, location: SensorLocation) -> Vec<Option<i64>> {
    let of_place = reading.probes.iter().filter(|probe| probe.location == location);
    of_place.map(|probe| probe.value.map(|value| value.0.into())).collect()
}

pub fn cell_voltages(reading: &Reading) -> Vec<i64> {
    reading.cells.iter().map(|cell| cell.voltage.unwrap().0.into()).collect()
}

fn live(vector: &Vector, key: &str, expected: &Value, reading: &Reading) -> Compared {
    let (id, pack) = (&vector.id, &reading.pack);
    let tenth = |value: &Value| scaled(value, 10.0);
    match key {
        "soc_pct" => assert_eq!(pack.soc.map(|v| v.0.into()), scaled(expected, 100.0), "{id}"),
        "soh_pct" => assert_eq!(pack.soh.map(|v| v.0.into()), scaled(expected, 100.0), "{id}"),
        "pack_voltage_v" => {
            assert_eq!(pack.voltage.map(|v| v.0.into()), scaled(expected, 1000.0), "{id}");
        }
        "current_a" => {
            assert_eq!(pack.current.map(|v| v.0.into()), scaled(expected, 1000.0), "{id}");
        }
        "full_capacity_ah" => assert_eq!(pack.full.map(|v| v.0), scaled(expected, 1000.0), "{id}"),
        "remaining_capacity_ah" => {
            assert_eq!(pack.remaining.map(|v| v.0), scaled(expected, 1000.0), "{id}");
        }
        "cycle_count" => assert_eq!(pack.cycles.map(u64::from), expected.as_u64(), "{id}"),
        "cell_count" => assert_eq!(Some(reading.cells.len() as u64), expected.as_u64(), "{id}"),
        "cell_voltages_mv" => {
            let expected: Vec<i64> = serde_json::from_value(expected.clone()).unwrap();
            assert_eq!(cell_voltages(reading), expected, "{id}");
        }
        "temp_ambient_c" => {
            assert_eq!(probes(reading, SensorLocation::Ambient), [tenth(expected)], "{id}")
        }
        "temp_pack_c" => {
            assert_eq!(probes(reading, SensorLocation::Average), [tenth(expected)], "{id}")
        }
        "temp_mos_c" => {
            assert_eq!(probes(reading, SensorLocation::Mosfet), [tenth(expected)], "{id}")
        }
        "temp_sensor_count" => {
            let count = probes(reading, SensorLocation::Cells).len() as u64;
            assert_eq!(Some(count), expected.as_u64(), "{id}");
        }
        "temp_sensors_c" => {
            let expected: Vec<_> = expected.as_array().unwrap().iter().map(tenth).collect();
            assert_eq!(probes(reading, SensorLocation::Cells), expected, "{id}");
        }
        "balance_1_16" => assert_eq!(balance(reading, 0), expected.as_u64(), "{id}"),
        "balance_17_32" => {
            assert_eq!(balance(reading, 16).unwrap_or_default(), expected.as_u64().unwrap());
        }
        // All words and masks together, once.
        "fet_status" => status(&vector.json["expected"]).assert_eq(reading, id),
        "derived" => derived(expected, reading),
        "flags" => flags(expected, reading),
        _ if key.ends_with("_status") || key.starts_with("cell_") => {
            assert!(vector.json["expected"]["fet_status"].is_u64(), "{id}: {key} is not compared");
        }
        "dataflag" => return Compared::No("the documents disagree on the change flags"),
        "internal_resistance_raw" => return Compared::No("its unit is not documented"),
        "user_custom" => return Compared::No("it counts nothing on most boards"),
        "unparsed_bytes" => return Compared::No("longer answers are accepted"),
        "soc_scale" | "accept" => return Compared::No("a remark"),
        "frames_to_skip" => return Compared::No("that the right one is found says it"),
        _ => return Compared::UnknownKey,
    }
    Compared::Yes
}

/// The balance mask as the reading tells it; `None` when the cells do not exist.
fn balance(reading: &Reading, first: usize) -> Option<u64> {
    let cells = reading.cells.get(first..)?.iter().take(16);
    let mask = cells.enumerate().map(|(bit, cell)| u64::from(cell.balancing.unwrap()) << bit);
    Some(mask.sum())
}

fn derived(expected: &Value, reading: &Reading) {
    let cells = cell_voltages(reading);
    let (min, max) = (*cells.iter().min().unwrap(), *cells.iter().max().unwrap());
    let power = Milliwatts::product(reading.pack.voltage.unwrap(), reading.pack.current.unwrap());
    for (key, expected) in expected.as_object().unwrap() {
        let expected = scaled(expected, 1000.0).unwrap();
        match key.as_str() {
            "cell_min_v" => assert_eq!(min, expected),
            "cell_max_v" => assert_eq!(max, expected),
            "cell_delta_v" => assert_eq!(max - min, expected),
            "cell_sum_v" => assert_eq!(cells.iter().sum::<i64>(), expected),
            // Rounded to 0.01 W there.
            "power_w" => assert!((power.0 - expected).abs() <= 5, "{power:?}, {expected}"),
            _ => panic!("what is {key}?"),
        }
    }
}

fn flags(expected: &Value, reading: &Reading) {
    for (key, expected) in expected.as_object().unwrap() {
        match key.as_str() {
            "charging" | "discharging" => {
                assert_eq!(reading.states.get(key.as_str()).copied(), expected.as_bool(), "{key}");
            }
            "charge_fet_on" => assert_eq!(reading.switches.charging, expected.as_bool()),
            "discharge_fet_on" => assert_eq!(reading.switches.discharging, expected.as_bool()),
            "balancing_cells" => {
                let cells = reading.cells.iter().zip(1_u64..);
                let on = cells.filter(|(cell, _)| cell.balancing == Some(true));
                let on: Vec<u64> = on.map(|(_, number)| number).collect();
                assert_eq!(serde_json::json!(on), *expected);
            }
            "active_alarms" | "active" => {
                let names = expected.as_array().unwrap().iter();
                let expected: BTreeSet<Alarm> =
                    names.map(|name| alarm(name.as_str().unwrap())).collect();
                assert_eq!(reading.alarms.active().collect::<BTreeSet<_>>(), expected);
            }
            _ => panic!("what is {key}?"),
        }
    }
}

fn identity(service: Option<Service>, key: &str, expected: &Value, reading: &Reading) -> Compared {
    let text = || expected.as_str().filter(|text| !text.is_empty());
    let names = &reading.identity;
    assert!(reading.received.cell_info);
    assert_eq!(reading.received.settings, service == Some(Service::Parameters));
    let named = matches!(service, Some(Service::Nameplate | Service::Manufacturer));
    assert_eq!(reading.received.device_info, named);
    match (service, key) {
        (Some(Service::Manufacturer), "hardware_type") => {
            assert_eq!(names.hardware.as_deref(), text());
        }
        (Some(Service::Manufacturer), "project_code") => {
            assert_eq!(names.model.as_deref(), text());
        }
        (Some(Service::Manufacturer), "software_version") => {
            assert_eq!(names.software.as_deref(), text());
        }
        (Some(Service::Nameplate), "pack_sn") => assert_eq!(names.serial.as_deref(), text()),
        (Some(Service::Nameplate), "product_id") => assert_eq!(names.model.as_deref(), text()),
        (Some(Service::Nameplate), "manufacturer") => {
            assert_eq!(names.manufacturer.as_deref(), text());
        }
        // The first of the two bar codes that is programmed.
        (Some(Service::Parameters), "product_barcode") if text().is_none() => {}
        (Some(Service::Parameters), "product_barcode") => {
            assert_eq!(names.serial.as_deref(), text());
        }
        (Some(Service::Parameters), "bms_barcode") => assert!(names.serial.is_some()),
        (Some(Service::Capacities), "design_capacity_ah") => {
            assert_eq!(reading.pack.design.map(|v| v.0), scaled(expected, 1000.0));
        }
        (Some(Service::Capacities), "remaining_capacity_ah" | "full_capacity_ah") => {
            return Compared::No("the live answer has them too, and newer");
        }
        _ if NOT_READ.contains(&key) => return Compared::No("no part of a reading"),
        _ => return Compared::UnknownKey,
    }
    Compared::Yes
}

/// Codes of versions and products that name the board less well than others; limits; counters
/// whose unit is disputed; the head of service B0, which the decoder checks; and the "design"
/// capacity of service 47, which is the learned one (see the decoder).
const NOT_READ: &[&str] = &[
    "product_code",
    "boot_version",
    "extra_hex",
    "born_date",
    "bms_id",
    "dataflag",
    "cell_v_upper_mv",
    "cell_v_lower_mv",
    "temp_upper_c",
    "temp_lower_c",
    "charge_current_upper_a",
    "pack_v_upper_raw",
    "pack_v_lower_raw",
    "number_of_cells",
    "charge_current_limit_a",
    "design_capacity_ah",
    "history_interval_raw",
    "balanced_mode_raw",
    "echo_cid2",
    "group",
    "operation",
    "module",
    "function_id",
    "function_len",
    "total_charge_ah",
    "total_discharge_ah",
    "total_charge_kwh_raw",
    "total_discharge_kwh_raw",
];
