//! What the keys of `daly.json` mean. Its frames are of three dialects.

use std::collections::BTreeSet;

use bms_reader::model::reading::{SensorLocation, Setting, Switch};
use bms_reader::model::{Alarm, Reading};
use bms_reader::protocol::checksum::crc16_modbus;
use bms_reader::protocol::driver::Medium;
use bms_reader::protocol::{CycleKind, Driver, Options, Step, daly};
use serde_json::Value;

use crate::common::{Vector, play};
use crate::daren::{cell_voltages, probes, scaled};
use crate::{Compared, Role, SimBrand};

pub const BRAND: SimBrand =
    SimBrand { name: "daly", session, role, request: check_request, value, detail, bare };

fn dialect(vector: &Vector) -> &str {
    vector.json["context"]["dialect"].as_str().unwrap()
}

/// By which host byte the board was asked says whether by wire or by an app.
pub fn options(vector: &Vector) -> Options {
    let app = dialect(vector) == "a5" && vector.request.get(1) == Some(&0x80);
    let medium = if app { Medium::Ble } else { Medium::Serial };
    Options { variant: Some(dialect(vector).to_owned()), medium, ..Options::default() }
}

fn driver(vector: &Vector) -> Box<dyn Driver> {
    (daly::INFO.new)(&options(vector))
}

/// What the question of a vector is about: a command, or a register and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    Command(u8),
    Registers(u16, u16),
    Order,
}

fn about(question: &[u8]) -> About {
    match *question {
        [0xA5, _, 0xD9 | 0xDA | 0x21, ..] => About::Order,
        [0xA5, _, command, ..] => About::Command(command),
        [_, 3, high, low, upper, lower, ..] => {
            About::Registers(u16::from_be_bytes([high, low]), u16::from_be_bytes([upper, lower]))
        }
        _ => About::Order,
    }
}

/// Boards of the A5 dialect answer an app and a wire alike.
pub fn is_same_question(one: &Vector, other: &Vector) -> bool {
    about(&one.request) == about(&other.request) && dialect(one) == dialect(other)
}

const NEVER_ASKED: &str = "the driver has no use for it";

fn role(vector: &Vector) -> Role {
    match (dialect(vector), about(&vector.request)) {
        (_, About::Command(0x90 | 0x94 | 0x95))
        | ("d2", About::Registers(0, 62))
        | ("p81", About::Registers(0, 64)) => Role::Required,
        (_, About::Command(0x93 | 0x96 | 0x97 | 0x98))
        | ("d2", About::Registers(0x80 | 0xA9, _))
        | ("p81", About::Registers(0x41 | 0x178, _)) => Role::Optional,
        _ => Role::NeverAsked,
    }
}

fn sum(mut frame: Vec<u8>) -> Vec<u8> {
    frame.push(frame.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte)));
    frame
}

fn closed(mut frame: Vec<u8>) -> Vec<u8> {
    frame.extend(crc16_modbus(&frame).to_le_bytes());
    frame
}

/// The answer under test, a plain one to the other questions of the A5 dialect, and "no such
/// register" to those of the others that may fail.
fn session(vector: &Vector, question: &[u8]) -> Option<Vec<u8>> {
    if question == vector.request {
        return Some(vector.response.clone());
    }
    let context = |key: &str| vector.json["context"][key].as_u64();
    match about(question) {
        About::Command(command) => Some(plain(command, context("cells"), context("ntc"))),
        About::Registers(0, 62) => Some(registers(0xD2, 62, &[(0x31, 16), (0x33, 1)])),
        About::Registers(0, 64) => Some(registers(0x51, 64, &[(0x3C, 16)])),
        About::Registers(..) => {
            let address = if question[0] == 0xD2 { 0xD2 } else { 0x51 };
            Some(closed(vec![address, 0x83, 2]))
        }
        About::Order => None,
    }
}

/// A5: 16 cells and one sensor, where the vector does not say otherwise.
fn plain(command: u8, cells: Option<u64>, sensors: Option<u64>) -> Vec<u8> {
    let frame = |data: [u8; 8]| sum([&[0xA5, 1, command, 8][..], &data].concat());
    let cells = u8::try_from(cells.unwrap_or(16)).unwrap();
    let sensors = u8::try_from(sensors.unwrap_or(1)).unwrap();
    match command {
        0x90 => frame([2, 0x10, 0, 0, 0x75, 0x30, 1, 0xF4]),
        0x94 => frame([cells, sensors, 0, 0, 0, 0, 0, 0]),
        0x95 => (1..=cells.div_ceil(3))
            .flat_map(|number| frame([number, 0x0C, 0xE4, 0x0C, 0xE4, 0x0C, 0xE4, 0]))
            .collect(),
        0x96 => frame([1, 60, 60, 60, 60, 60, 60, 60]),
        _ => frame([0; 8]),
    }
}

fn registers(address: u8, count: u8, set: &[(usize, u16)]) -> Vec<u8> {
    let mut registers = vec![0_u16; count.into()];
    set.iter().for_each(|(register, value)| registers[*register] = *value);
    // Nothing flows.
    registers[if address == 0xD2 { 0x29 } else { 0x39 }] = 30_000;
    let mut frame = vec![address, 3, count * 2];
    frame.extend(registers.iter().flat_map(|register| register.to_be_bytes()));
    closed(frame)
}

fn check_request(vector: &Vector) {
    let expected = &vector.json["expected"];
    let number = |key: &str| expected[key].as_u64();
    for key in expected.as_object().unwrap().keys() {
        match (key.as_str(), &vector.request[..]) {
            ("command", [_, _, command, ..]) => assert_eq!(number(key), Some((*command).into())),
            ("host" | "address", frame) => {
                let at = usize::from(key == "host");
                assert_eq!(number(key), Some(frame[at].into()));
            }
            ("function", [_, function, ..]) => assert_eq!(number(key), Some((*function).into())),
            ("start" | "register", [_, _, high, low, ..]) => {
                assert_eq!(number(key), Some(u16::from_be_bytes([*high, *low]).into()));
            }
            ("count", [_, _, _, _, high, low, ..]) => {
                assert_eq!(number(key), Some(u16::from_be_bytes([*high, *low]).into()));
            }
            // The values of orders, and what the clock of an order to set the charge says.
            ("value" | "fill" | "answer_address" | "datetime" | "soc_pct", _) => {}
            _ => panic!("{}: what is {key}?", vector.id),
        }
    }
    match vector.json["control"].as_bool() {
        Some(true) if vector.id != "a5-control-set-soc-30" => ordered(vector),
        _ => assert_eq!(asks(vector), !is_left_out(vector), "{}", vector.id),
    }
}

/// Questions of other readers that ours has no use for.
fn is_left_out(vector: &Vector) -> bool {
    let ids = ["a5-req-90-fill-aa", "a5-control-set-soc-30", "p81-req-board-2", "p81-req-board-5"];
    let boards = vector.id.starts_with("p81-req-board") && !ids.contains(&vector.id.as_str());
    let unused = match about(&vector.request) {
        About::Command(command) => [0x91, 0x92].contains(&command),
        About::Registers(register, count) => {
            [(0, 80), (0xCC, 2), (0xCF, 1)].contains(&(register, count))
        }
        About::Order => true,
    };
    !boards && (ids.contains(&vector.id.as_str()) || unused)
}

/// Whether the driver asks this question in a session in which everything is answered.
fn asks(vector: &Vector) -> bool {
    let silent = Vector { request: Vec::new(), ..vector.clone() };
    let outcome =
        play(driver(vector).as_mut(), |question| session(&silent, question).into_iter().collect());
    outcome.unwrap().asked.contains(&vector.request)
}

/// The order is given, and only after a question that reads.
fn ordered(vector: &Vector) {
    let expected = &vector.json["expected"];
    let charging = expected["command"] == 0xDA
        || [0xA5, 0x121].map(Value::from).contains(&expected["register"]);
    let switch = if charging { Switch::Charging } else { Switch::Discharging };
    let setting = Setting { switch, on: expected["value"] == 1 };
    let silent = Vector { request: Vec::new(), ..vector.clone() };
    let mut driver = driver(vector);
    driver.start(CycleKind::Write(setting));
    let outcome = play(driver.as_mut(), |question| {
        let answer = match about(question) {
            // The board's own form of a yes.
            About::Order if question[0] == 0xA5 => {
                let state = u8::from(setting.on);
                Some(sum(vec![0xA5, 1, question[2], 8, state, 0, 0, 0, 0, 0, 0, 0]))
            }
            About::Order if question[0] == 0xD2 => Some(question.to_vec()),
            About::Order => Some(closed([&[0x51], &question[1..6]].concat())),
            About::Registers(0x41, _) => Some(registers(0x51, 62, &[])),
            _ => session(&silent, question),
        };
        answer.into_iter().collect()
    });
    let outcome = outcome.unwrap();
    assert_eq!(outcome.asked.len(), 3, "{}", vector.id);
    assert_eq!(outcome.asked[1], vector.request, "{}", vector.id);
    assert!(matches!(outcome.end, Step::Done(_)), "{}: {:?}", vector.id, outcome.end);
    if !vector.response.is_empty() {
        assert_eq!(vector.response, vector.request, "a good write is repeated");
    }
}

fn bare(vector: &Vector) {
    match (dialect(vector), about(&vector.request)) {
        // The long status is read in two pieces, as older boards do not answer it.
        ("d2", About::Registers(0, 80)) => {
            let content = &vector.response[3..vector.response.len() - 2];
            let piece = |first: usize, count: usize| {
                let bytes = &content[2 * first..2 * (first + count)];
                closed([&[0xD2, 3, u8::try_from(bytes.len()).unwrap()][..], bytes].concat())
            };
            let outcome = play(driver(vector).as_mut(), |question| {
                vec![match about(question) {
                    About::Registers(0, 62) => piece(0, 62),
                    About::Registers(0x3E, 9) => piece(0x3E, 9),
                    _ => closed(vec![0xD2, 0x83, 2]),
                }]
            });
            let reading = outcome.unwrap().reading();
            for (key, expected) in vector.json["expected"].as_object().unwrap() {
                let compared = value(vector, key, expected, &reading);
                assert!(!matches!(compared, Compared::UnknownKey), "{}: {key}", vector.id);
            }
        }
        _ => assert!(!asks(vector), "{}: {NEVER_ASKED}", vector.id),
    }
}

fn detail(key: &str, expected: &Value, message: &str) -> Compared {
    let says = |text: String| assert!(message.contains(&text), "{message}: no {text}");
    match key {
        "field" => {
            let field = expected.as_str().unwrap().replace('_', " ");
            says(field.trim_end_matches(" pct").to_owned());
        }
        "code" => says(format!("(code {:02X})", expected.as_u64().unwrap())),
        // Frames of others are skipped, so the message cannot speak of them.
        "got" | "wanted" if message.starts_with("no answer") => {}
        "got" | "wanted" => says(format!("{expected}")),
        "function" => {}
        _ => return Compared::UnknownKey,
    }
    Compared::Yes
}

fn value(vector: &Vector, key: &str, expected: &Value, reading: &Reading) -> Compared {
    let id = &vector.id;
    match about(&vector.request) {
        About::Registers(0x80, _) => return settings(key, expected, reading),
        About::Registers(0xA9 | 0x178, _) => return names(key, expected, reading),
        _ => {}
    }
    let pack = &reading.pack;
    let thousandths = || scaled(expected, 1000.0);
    // An active balancer has no charge to tell and no switches.
    let balancer = id == "d2-16s-balancer-status";
    match key {
        "current_a" | "soc_pct" | "remaining_ah" | "cycles" | "charge_fet_on"
        | "discharge_fet_on"
            if balancer =>
        {
            assert_eq!((pack.soc, pack.current, pack.remaining), (None, None, None));
            assert_eq!((reading.switches.charging, reading.switches.discharging), (None, None));
        }
        "pack_v" => assert_eq!(pack.voltage.map(|v| v.0.into()), thousandths(), "{id}"),
        "current_a" => assert_eq!(pack.current.map(|v| v.0.into()), thousandths(), "{id}"),
        "soc_pct" => assert_eq!(pack.soc.map(|v| v.0.into()), scaled(expected, 100.0), "{id}"),
        "remaining_ah" => assert_eq!(pack.remaining.map(|v| v.0), thousandths(), "{id}"),
        // A5 boards that count elsewhere have a 0 here.
        "cycles" if dialect(vector) == "a5" && expected == 0 => assert_eq!(pack.cycles, None),
        "cycles" => assert_eq!(pack.cycles.map(u64::from), expected.as_u64(), "{id}"),
        "cell_count" => assert_eq!(reading.cells.len() as u64, expected.as_u64().unwrap(), "{id}"),
        "ntc_count" => {
            let sensors = probes(reading, SensorLocation::Cells).len() as u64;
            assert_eq!(sensors, expected.as_u64().unwrap(), "{id}");
        }
        "cell_mv" => {
            let expected: Vec<i64> = serde_json::from_value(expected.clone()).unwrap();
            assert_eq!(cell_voltages(reading), expected, "{id}");
        }
        "temps_c" => {
            let list = expected.as_array().unwrap().iter();
            let tenths = list.map(|value| value.as_f64().and_then(|_| scaled(value, 10.0)));
            assert_eq!(probes(reading, SensorLocation::Cells), tenths.collect::<Vec<_>>(), "{id}");
        }
        "mos_temp_c" => {
            assert_eq!(probes(reading, SensorLocation::Mosfet), [scaled(expected, 10.0)], "{id}");
        }
        "charge_fet_on" => assert_eq!(reading.switches.charging, expected.as_bool(), "{id}"),
        "discharge_fet_on" => assert_eq!(reading.switches.discharging, expected.as_bool(), "{id}"),
        "balancing_cells" => {
            let cells = reading.cells.iter().zip(1_u64..);
            let on = cells.filter(|(cell, _)| cell.balancing == Some(true));
            let on: Vec<u64> = on.map(|(_, number)| number).collect();
            assert_eq!(serde_json::json!(on), *expected, "{id}");
        }
        "balancing" => {
            assert_eq!(reading.states.get("balancing").copied(), expected.as_bool(), "{id}");
        }
        "precharge_on" | "heater_on" | "charger_connected" | "load_connected" => {
            assert_eq!(reading.states.get(key).copied(), expected.as_bool(), "{id}");
        }
        "alarms" | "alarm_flags" => alarms(id, expected, reading),
        "alarm_levels" => assert_eq!(expected, &serde_json::json!({}), "{id}: no level was seen"),
        "fault_code" => assert_eq!(pack.error_code.map(u64::from), expected.as_u64(), "{id}"),
        "alarm_words" | "alarm_bytes_hex" => return Compared::No("their bits are compared"),
        _ if DERIVED.contains(&key) => return Compared::No("it is computed from the cells"),
        _ if NOT_READ.contains(&key) => return Compared::No("no part of a reading"),
        _ => return Compared::UnknownKey,
    }
    Compared::Yes
}

const DERIVED: &[&str] = &[
    "max_cell_mv",
    "min_cell_mv",
    "max_cell",
    "min_cell",
    "avg_cell_mv",
    "delta_cell_mv",
    "max_temp_c",
    "min_temp_c",
    "max_temp_sensor",
    "min_temp_sensor",
    "power_w_raw",
    "state",
];

/// A heartbeat, contacts without a documented meaning, a balance current that most boards leave at
/// 0, the case's temperature of one board, an energy that is 0.
const NOT_READ: &[&str] = &[
    "bms_life",
    "gather_v",
    "frames",
    "io_bits",
    "heartbeat",
    "balance_current_a",
    "balance_current_raw",
    "balance_state",
    "board_temp_c",
    "energy_wh",
];

fn alarms(id: &str, expected: &Value, reading: &Reading) {
    let mut alarms = BTreeSet::new();
    for name in expected.as_array().unwrap() {
        let ours = match name.as_str().unwrap() {
            "soc_low_l2" => Alarm::LowBattery,
            "cell_overvoltage_l1" => Alarm::CellOvervoltageWarning,
            "charge_overtemp_l1" => Alarm::ChargeOvertemperatureWarning,
            "cell_difference_l1" => Alarm::CellDifferenceWarning,
            "charge_overcurrent_l1" => Alarm::ChargeOvercurrentWarning,
            "charge_mos_overtemp" => Alarm::MosOvertemperature,
            "afe_fault" => Alarm::AfeFailure,
            "short_circuit" => Alarm::ShortCircuit,
            state @ ("mos_switched_off_externally" | "parallel_comm_fault") => {
                let state = state.replace("comm_", "communication_");
                assert_eq!(reading.states.get(state.as_str()), Some(&true), "{id}");
                continue;
            }
            other => panic!("{id}: what is {other}?"),
        };
        alarms.insert(ours);
    }
    assert_eq!(reading.alarms.active().collect::<BTreeSet<_>>(), alarms, "{id}");
}

fn settings(key: &str, expected: &Value, reading: &Reading) -> Compared {
    let limits = &reading.limits;
    assert!(reading.received.settings);
    match key {
        "rated_ah" => {
            assert_eq!(reading.pack.design.map(|v| v.0), scaled(expected, 1000.0));
        }
        "cell_high_l2_mv" => {
            assert_eq!(limits.cell_upper.map(|v| v.0.into()), expected.as_i64());
        }
        "cell_low_l2_mv" => {
            assert_eq!(limits.cell_lower.map(|v| v.0.into()), expected.as_i64());
        }
        _ => return Compared::No("no part of a reading"),
    }
    Compared::Yes
}

fn names(key: &str, expected: &Value, reading: &Reading) -> Compared {
    let names = &reading.identity;
    let text = expected.as_str().filter(|text| !text.is_empty());
    match key {
        "software" => assert_eq!(names.software.as_deref(), text),
        "hardware" => assert_eq!(names.hardware.as_deref(), text),
        "serial" => assert_eq!(names.serial.as_deref(), text),
        _ => return Compared::UnknownKey,
    }
    Compared::Yes
}
