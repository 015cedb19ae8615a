//! What the keys of `jbd.json` mean. What is different over Bluetooth is in `tests/jbd_radio.rs`.

use bms_reader::model::reading::SensorLocation;
use bms_reader::model::{Alarm, Reading};
use bms_reader::protocol::jbd::{checksum, order, request, scramble};
use serde_json::{Value, json};

use crate::common::{Vector, unhex};
use crate::{Compared, Role, SimBrand};

pub const BRAND: SimBrand =
    SimBrand { name: "jbd", session, role, request: check_request, value, detail, bare };

const BASIC: u8 = 0x03;
const CELLS: u8 = 0x04;

fn role(vector: &Vector) -> Role {
    match vector.request[..] {
        [0xDD, 0xA5, BASIC | CELLS, ..] => Role::Required,
        [0xDD, 0xA5, 0x05 | 0xAA, ..] => Role::Optional,
        _ => Role::NeverAsked,
    }
}

/// An answer of a board.
fn reply(register: u8, status: u8, data: &[u8]) -> Vec<u8> {
    let mut frame = vec![0xDD, register, status, u8::try_from(data.len()).unwrap()];
    frame.extend_from_slice(data);
    frame.extend_from_slice(&checksum(&frame[2..]).to_be_bytes());
    frame.push(0x77);
    frame
}

/// The answer under test, good ones to the questions that need one, and a no to the rest.
pub fn session(vector: &Vector, question: &[u8]) -> Option<Vec<u8>> {
    if question == vector.request {
        return Some(vector.response.clone());
    }
    Some(match question[2] {
        BASIC => {
            let mut data = [0; 23];
            data[21] = 4;
            reply(BASIC, 0, &data)
        }
        CELLS => {
            let count = vector.json["expected"]["cell_count"].as_u64().unwrap_or(4);
            reply(CELLS, 0, &[0x0C, 0xE4].repeat(usize::try_from(count).unwrap()))
        }
        register => reply(register, 0x80, &[]),
    })
}

fn check_request(vector: &Vector) {
    let expected = &vector.json["expected"];
    let register = u8::try_from(expected["register"].as_u64().unwrap()).unwrap();
    let ours = match expected["writes"].as_bool().unwrap() {
        true => {
            let on = |key: &str| expected[key].as_bool().unwrap();
            assert_eq!(register, 0xE1);
            order(on("charging"), on("discharging"))
        }
        false => request(register),
    };
    assert_eq!(ours, vector.request, "{}", vector.id);
}

fn bare(vector: &Vector) {
    let expected = &vector.json["expected"];
    if let Some(covered) = expected["covered_hex"].as_str() {
        assert_eq!(u64::from(checksum(&unhex(covered))), expected["checksum"].as_u64().unwrap());
        let frame = &vector.request;
        let [high, low, 0x77] = frame[frame.len() - 3..] else { panic!("{}", vector.id) };
        assert_eq!(checksum(&unhex(covered)).to_be_bytes(), [high, low], "{}", vector.id);
        return;
    }
    if expected["auth_command"].is_u64() {
        return handshake(vector, expected);
    }
    // Orders, and registers of limits and passwords, which are never asked: their frames are whole.
    let (register, answer) = (vector.request[2], &vector.response);
    let data = expected["data_hex"].as_str().map(unhex).unwrap_or_default();
    let code = &vector.json["expected_error"]["code"];
    let status = u8::try_from(code.as_u64().unwrap_or_default()).unwrap();
    assert_eq!(*answer, reply(register, status, &data), "{}", vector.id);
}

fn handshake(vector: &Vector, expected: &Value) {
    for frame in [&vector.request, &vector.response] {
        let (check, covered) = frame[2..].split_last().unwrap();
        let sum = covered.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        assert_eq!((frame[..2].to_vec(), sum), (vec![0xFF, 0xAA], *check), "{}", vector.id);
        assert_eq!(u64::from(frame[2]), expected["auth_command"].as_u64().unwrap());
    }
    let said = ["result", "random"].iter().find_map(|key| expected[key].as_u64());
    if vector.request[2] == 0x18 {
        let (password, mac, random) = secrets(vector);
        assert_eq!(vector.request[4..10], scramble(password, mac, random), "{}", vector.id);
        assert_eq!(said, expected["random"].as_u64().and(Some(vector.response[4].into())));
    } else if vector.request[2] != 0x1D {
        assert_eq!(said, Some(vector.response[4].into()), "{}", vector.id);
    }
}

/// Password, address and random byte of a recorded handshake.
fn secrets(vector: &Vector) -> ([u8; 6], [u8; 6], u8) {
    let expected = &vector.json["expected"];
    let password = expected["password"].as_str().unwrap().as_bytes();
    let mac = unhex(&expected["mac"].as_str().unwrap().replace(':', ""));
    let random = u8::try_from(expected["random"].as_u64().unwrap()).unwrap();
    (password.try_into().unwrap(), mac.try_into().unwrap(), random)
}

fn detail(key: &str, expected: &Value, message: &str) -> Compared {
    let says = |text: String| assert!(message.contains(&text), "{message}: no {text}");
    let number = expected.as_u64().unwrap_or_default();
    match key {
        "code" => says(format!("(code {number:02X})")),
        "end" => says(format!("ends with {number:02X} ")),
        "bytes" => says(format!("{number} bytes ")),
        "over_bluetooth" => return Compared::No("tests/jbd_radio.rs does"),
        _ => return Compared::UnknownKey,
    }
    Compared::Yes
}

fn value(vector: &Vector, key: &str, expected: &Value, reading: &Reading) -> Compared {
    let (id, pack) = (&vector.id, &reading.pack);
    let tens = expected.as_i64().map(|hundredths| hundredths * 10);
    match key {
        "pack_cv" => assert_eq!(pack.voltage.map(|v| v.0.into()), tens, "{id}"),
        "current_ca" => assert_eq!(pack.current.map(|v| v.0.into()), tens, "{id}"),
        "remaining_cah" => assert_eq!(pack.remaining.map(|v| v.0), tens, "{id}"),
        "nominal_cah" => assert_eq!(pack.design.map(|v| v.0), tens, "{id}"),
        "cycles" => assert_eq!(pack.cycles.map(i64::from), expected.as_i64(), "{id}"),
        "mfg_date" => {
            assert_eq!(reading.identity.manufactured.as_deref(), expected.as_str(), "{id}")
        }
        "balancing_cells" => assert_eq!(balancing(reading), *expected, "{id}"),
        "protection_bits" => assert_eq!(protections(reading), *expected, "{id}"),
        "version" => assert_eq!(reading.identity.software.as_deref(), expected.as_str(), "{id}"),
        "soc_pct" => {
            assert_eq!(
                pack.soc.map(|v| i64::from(v.0)),
                expected.as_i64().map(|v| v * 100),
                "{id}"
            );
        }
        "charge_fet_on" => assert_eq!(reading.switches.charging, expected.as_bool(), "{id}"),
        "discharge_fet_on" => assert_eq!(reading.switches.discharging, expected.as_bool(), "{id}"),
        "temps_dc" => {
            let probes =
                reading.probes.iter().filter(|probe| probe.location == SensorLocation::Cells);
            let values: Vec<_> = probes.map(|probe| probe.value.map(|value| value.0)).collect();
            assert_eq!(json!(values), *expected, "{id}");
        }
        "ext" => extension(expected, reading, id),
        "cell_mv" => {
            let values: Vec<_> = reading.cells.iter().map(|cell| cell.voltage.unwrap().0).collect();
            assert_eq!(json!(values), *expected, "{id}");
        }
        "name" => {
            assert_eq!(reading.identity.model.as_deref(), expected.as_str(), "{id}");
            assert!(reading.received.device_info);
        }
        "counts" => {
            let counted = COUNTERS.map(|name| reading.counters[name]);
            assert_eq!(json!(counted), *expected, "{id}");
        }
        "register" => assert_eq!(expected.as_u64(), Some(vector.request[2].into()), "{id}"),
        "status" => assert_eq!(expected.as_u64(), Some(0), "{id}"),
        "balance_mask" | "protection" | "fet" => return Compared::No("its bits are compared"),
        "cell_count" => assert_eq!(Some(reading.cells.len() as u64), expected.as_u64(), "{id}"),
        "ntc_count" => return Compared::No("the temperatures are counted"),
        "frames" => return Compared::No("that the right one is found says it"),
        _ => return Compared::UnknownKey,
    }
    Compared::Yes
}

const COUNTERS: [&str; 12] = [
    "short_circuit",
    "charge_overcurrent",
    "discharge_overcurrent",
    "cell_overvoltage",
    "cell_undervoltage",
    "charge_overtemperature",
    "charge_undertemperature",
    "discharge_overtemperature",
    "discharge_undertemperature",
    "pack_overvoltage",
    "pack_undervoltage",
    "restarts",
];

const PROTECTIONS: [Alarm; 13] = [
    Alarm::CellOvervoltage,
    Alarm::CellUndervoltage,
    Alarm::PackOvervoltage,
    Alarm::PackUndervoltage,
    Alarm::ChargeOvertemperature,
    Alarm::ChargeUndertemperature,
    Alarm::DischargeOvertemperature,
    Alarm::DischargeUndertemperature,
    Alarm::ChargeOvercurrent,
    Alarm::DischargeOvercurrent,
    Alarm::ShortCircuit,
    Alarm::AfeFailure,
    Alarm::MosSoftwareLock,
];

fn protections(reading: &Reading) -> Value {
    assert_eq!(reading.alarms.iter().count(), PROTECTIONS.len());
    assert_eq!(reading.alarms.unknown_bits().count(), 0);
    let bits = PROTECTIONS.iter().enumerate();
    let set = bits.filter(|(_, alarm)| reading.alarms.get(**alarm) == Some(true));
    json!(set.map(|(bit, _)| bit).collect::<Vec<_>>())
}

fn balancing(reading: &Reading) -> Value {
    let cells = reading.cells.iter().zip(1..);
    let balanced = cells.filter(|(cell, _)| cell.balancing.expect("it is told for every cell"));
    json!(balanced.map(|(_, number)| number).collect::<Vec<_>>())
}

fn extension(expected: &Value, reading: &Reading, id: &str) {
    for (key, expected) in expected.as_object().unwrap() {
        let tens = expected.as_i64().map(|hundredths| hundredths * 10);
        match key.as_str() {
            "full_charge_cah" => assert_eq!(reading.pack.full.map(|v| v.0), tens, "{id}"),
            "remaining_cah" => assert_eq!(reading.pack.remaining.map(|v| v.0), tens, "{id}"),
            // Not read as long as nobody has seen another value.
            "humidity_pct" | "alarm" | "balance_current_ma" => assert_eq!(tens, Some(0), "{id}"),
            _ => panic!("{id}: what is {key}?"),
        }
    }
}
