//! What the keys of `jk.json` mean.

use std::sync::LazyLock;

use bms_reader::model::Reading;
use bms_reader::model::reading::{SensorLocation, Switch};
use bms_reader::protocol::driver::Medium;
use bms_reader::protocol::jk::pb::{self, Topic};
use bms_reader::protocol::jk::record::{Kind, Reassembly, Word};
use bms_reader::protocol::jk::{Command, INFO, Layout, order, request, ttl};
use bms_reader::protocol::{CycleKind, Driver, Options, Step};
use serde_json::Value;

use crate::common::{Delivery, Vector, play, vectors};
use crate::jk_wires::{session_on_wire, tags};
use crate::{Compared, Role, SimBrand};

pub const BRAND: SimBrand =
    SimBrand { name: "jk", session, role, request: check_request, value, detail, bare };

const NOISE: &[u8] = b"AT\r\n";

fn is_bluetooth(vector: &Vector) -> bool {
    vector.json["transport"] == "ble"
}

/// Who read the battery of this vector, and how.
pub fn options(vector: &Vector) -> Options {
    let wire = |variant: &str, address| Options {
        variant: Some(variant.into()),
        address,
        ..Options::default()
    };
    match vector.json["transport"].as_str() {
        Some("uart-ttl") => wire("ttl", 1),
        Some("rs485-pb") => wire("pb", vector.request[0]),
        _ => Options { medium: Medium::Ble, ..Options::default() },
    }
}

fn driver(vector: &Vector) -> Box<dyn Driver> {
    (INFO.new)(&options(vector))
}

fn is_bad(vector: &Vector) -> bool {
    vector.kind == "bad"
}

/// Which question of Bluetooth a vector answers. The padding of a recorded one is random, and
/// streams that were made from recorded ones have none.
fn command(vector: &Vector) -> Option<Command> {
    match vector.request.get(4) {
        Some(0x97) => Some(Command::Device),
        Some(0x96) | None => Some(Command::Stream),
        Some(_) => None,
    }
}

fn role(vector: &Vector) -> Role {
    let live = || pb::trigger(Topic::Live, vector.request[0]);
    match vector.json["transport"].as_str().unwrap() {
        "uart-ttl" => Role::Required,
        "rs485-pb" if vector.request == live() => Role::Required,
        "rs485-pb" => Role::Optional,
        _ => match command(vector) {
            None => Role::NeverAsked,
            Some(Command::Device) => Role::Optional,
            Some(Command::Stream) => Role::Required,
        },
    }
}

/// Records and acknowledgements of a stream.
fn words(stream: &[u8]) -> Vec<Word> {
    let mut reassembly = Reassembly::default();
    let mut words = Vec::new();
    for &byte in stream {
        reassembly.push(byte);
        words.extend(std::iter::from_fn(|| reassembly.next_word()));
    }
    words
}

fn kinds(stream: &[u8]) -> Vec<Kind> {
    let kind = |word| if let Word::Record(record) = word { Some(record.kind()) } else { None };
    words(stream).into_iter().filter_map(kind).collect()
}

static ALL: LazyLock<Vec<Vector>> = LazyLock::new(|| vectors("jk"));

pub fn recorded(id: &str) -> Option<Vec<u8>> {
    ALL.iter().find(|vector| vector.id == id).map(|vector| vector.response.clone())
}

/// The answer under test, and around it what a board needs for a whole cycle: the device
/// information of the same board, and live values where the answer has none.
fn session(vector: &Vector, question: &[u8]) -> Option<Vec<u8>> {
    if !is_bluetooth(vector) {
        return session_on_wire(vector, question);
    }
    let asked = match question {
        asked if asked == request(Command::Device) => Command::Device,
        _ => Command::Stream,
    };
    let live = || recorded("jk02_24s_b1a20s15p_v10_cell").unwrap();
    match (asked, command(vector)) {
        (Command::Device, Some(Command::Device)) => Some(vector.response.clone()),
        (Command::Device, _) => {
            let board = vector.id.split("_cell").next().unwrap_or(&vector.id);
            recorded(&format!("{board}_devinfo"))
        }
        (Command::Stream, Some(Command::Stream)) => {
            let complete = is_bad(vector) || kinds(&vector.response).contains(&Kind::Cells);
            let rest = if complete { Vec::new() } else { live() };
            Some([vector.response.clone(), rest].concat())
        }
        (Command::Stream, _) => Some(live()),
    }
}

fn check_request(vector: &Vector) {
    let expected = &vector.json["expected"];
    if let Some(topic) = expected["topic"].as_str() {
        let topic = match topic {
            "live" => Topic::Live,
            "settings" => Topic::Settings,
            _ => Topic::Device,
        };
        let address = u8::try_from(expected["address"].as_u64().unwrap()).unwrap();
        assert_eq!(pb::trigger(topic, address), vector.request, "{}", vector.id);
        return;
    }
    if vector.json["transport"] == "uart-ttl" {
        assert_eq!(ttl::request(), vector.request, "{}", vector.id);
        return;
    }
    let made = match (expected["command"].as_str(), expected["switch"].as_str()) {
        (Some("device"), _) => Some(request(Command::Device)),
        (Some("stream"), _) => Some(request(Command::Stream)),
        (_, Some(switch)) => {
            let layout = match vector.json["protocol"].as_str().unwrap() {
                "JK04" => Layout::Jk04,
                "JK02_24S" => Layout::Cells24,
                _ => Layout::Cells32,
            };
            let switch = match switch {
                "charging" => Switch::Charging,
                "discharging" => Switch::Discharging,
                _ => Switch::Balancing,
            };
            order(layout, switch, expected["on"].as_bool().unwrap())
        }
        _ => panic!("{expected}"),
    };
    assert_eq!(made.as_ref(), Some(&vector.request), "{}", vector.id);
}

/// The logbook is never asked for.
fn bare(vector: &Vector) {
    assert_eq!(kinds(&vector.response), [Kind::Logbook], "{}", vector.id);
}

fn detail(key: &str, _expected: &Value, _message: &str) -> Compared {
    match key {
        "frames" | "acks" => Compared::No("counted below"),
        _ => Compared::UnknownKey,
    }
}

/// What is found in each stream, good or bad.
#[test]
fn records_and_acknowledgements_are_counted() {
    let mut counted = 0;
    for vector in ALL.iter().filter(|vector| is_bluetooth(vector)) {
        let expected = if is_bad(vector) { "expected_error" } else { "expected" };
        let expected = &vector.json[expected];
        let words = words(&vector.response);
        let records: Vec<_> = words
            .iter()
            .filter_map(|word| if let Word::Record(record) = word { Some(record) } else { None })
            .collect();
        let acknowledged = words.iter().filter(|word| **word == Word::Acknowledged).count();
        let codes: Vec<u8> = records.iter().map(|record| code(record.kind())).collect();
        let counters: Vec<u8> = records.iter().map(|record| record.counter()).collect();
        let mut compare = |key: &str, found: Value| {
            if !expected[key].is_null() {
                assert_eq!(expected[key], found, "{}: {key}", vector.id);
                counted += 1;
            }
        };
        compare("acks", acknowledged.into());
        compare("frames", records.len().into());
        compare("frame_types", codes.into());
        compare("counters", counters.clone().into());
        if let [counter] = counters[..] {
            compare("counter", counter.into());
        }
    }
    assert!(counted > 80, "{counted} compared");
}

fn code(kind: Kind) -> u8 {
    match kind {
        Kind::Settings => 1,
        Kind::Cells => 2,
        Kind::Device => 3,
        Kind::Logbook => 5,
    }
}

/// In the pieces in which it was recorded, and in pieces of any length with the noise of the
/// module between them: the reading is the same.
#[test]
fn pieces_and_noise_change_nothing() {
    for vector in ALL.iter().filter(|v| is_bluetooth(v) && v.kind != "bad" && v.kind != "request") {
        let reading = |cut: &dyn Fn(&[u8]) -> Vec<Vec<u8>>| {
            let outcome = play(driver(vector).as_mut(), |question| {
                session(vector, question).map(|stream| cut(&stream)).unwrap_or_default()
            });
            outcome.unwrap().reading()
        };
        let whole = reading(&|stream| vec![stream.to_vec()]);
        let noisy = |pieces: Vec<Vec<u8>>| {
            pieces.into_iter().flat_map(|piece| [NOISE.to_vec(), piece, NOISE.to_vec()]).collect()
        };
        let as_recorded = |stream: &[u8]| {
            let mut rest = stream;
            let mut pieces = Vec::new();
            for piece in vector.pieces.iter().filter(|_| stream.starts_with(&vector.response)) {
                let (now, later) = rest.split_at(piece.len());
                pieces.push(now.to_vec());
                rest = later;
            }
            pieces.push(rest.to_vec());
            pieces
        };
        assert_eq!(reading(&as_recorded), whole, "{}", vector.id);
        assert_eq!(reading(&|stream| noisy(as_recorded(stream))), whole, "{}", vector.id);
        for seed in 1..=16 {
            let cut = |stream: &[u8]| Delivery::Cut(seed).chunks(&[], stream);
            assert_eq!(reading(&|stream| noisy(cut(stream))), whole, "{}", vector.id);
        }
    }
}

/// A capture may hold a single record: it is what `decode` is given.
#[test]
fn a_lone_record_says_what_it_can() {
    let alone = |id: &str, ask| {
        let vector = ALL.iter().find(|vector| vector.id == id).unwrap();
        let mut once = Some(vec![vector.response.clone()]);
        let mut driver = driver(vector);
        driver.start(ask);
        play(driver.as_mut(), |_| once.take().unwrap_or_default()).unwrap().end
    };
    let done = |step| if let Step::Done(reading) = step { *reading } else { panic!("{step:?}") };
    let live = done(alone("jk02_32s_pb2a16s20p_v15_cell", CycleKind::Read));
    assert!(live.received.cell_info && !live.received.device_info);
    let device = done(alone("jk02_32s_pb2a16s20p_v15_devinfo", CycleKind::Identify));
    assert_eq!(device.identity.model.as_deref(), Some("JK_PB2A16S20P"));
    let settings = done(alone("jk02_32s_pb2a16s20p_v15_settings", CycleKind::Identify));
    assert!(settings.received.settings && settings.pack.design.is_some());
}

fn value(vector: &Vector, key: &str, expected: &Value, reading: &Reading) -> Compared {
    if vector.json["transport"] == "uart-ttl" {
        return tags(vector, key, expected, reading);
    }
    if key.starts_with("ack_") {
        return Compared::No("an answer that somebody else acknowledges is none");
    }
    match vector.json["expected"]["frame"].as_str() {
        Some("device_info") => device(key, expected, reading),
        Some("settings") => settings(vector, key, expected, reading),
        Some("cell_info") => live(vector, key, expected, reading),
        _ => match key {
            "frames" | "acks" | "frame_types" | "counters" => Compared::No("counted above"),
            "cell" => {
                for (key, value) in expected.as_object().unwrap() {
                    let inner = Vector {
                        json: serde_json::json!({"expected": expected}),
                        ..vector.clone()
                    };
                    let compared = live(&inner, key, value, reading);
                    assert!(!matches!(compared, Compared::UnknownKey), "what is {key}?");
                }
                Compared::Yes
            }
            _ => Compared::UnknownKey,
        },
    }
}

fn device(key: &str, expected: &Value, reading: &Reading) -> Compared {
    let names = &reading.identity;
    let text = expected.as_str().filter(|text| !text.is_empty());
    match key {
        "vendor_id" => assert_eq!(names.model.as_deref(), text),
        "hw_version" => assert_eq!(names.hardware.as_deref(), text),
        "sw_version" => assert_eq!(names.software.as_deref(), text),
        "serial" => assert_eq!(names.serial.as_deref(), text),
        "device_passcode" | "passcode" | "setup_passcode" => {
            let fields = [&names.model, &names.hardware, &names.software, &names.serial];
            let shown = |text: &str| fields.iter().any(|field| field.as_deref() == Some(text));
            assert!(text.is_none_or(|passcode| !shown(passcode)));
        }
        "frame" => assert!(reading.received.device_info),
        "counter" | "acks" => return Compared::No("counted above"),
        "device_name" | "mfg_date" | "uptime_s" | "power_on_count" | "user_data" | "user_data2"
        | "uart1_protocol" | "can_protocol" | "rcv_time_dh" | "rfv_time_dh" => {
            return Compared::No("no part of a reading");
        }
        _ => return Compared::UnknownKey,
    }
    Compared::Yes
}

fn settings(vector: &Vector, key: &str, expected: &Value, reading: &Reading) -> Compared {
    let state = |name: &str| reading.states.get(name).copied();
    match key {
        "nominal_capacity_mah" => {
            assert_eq!(reading.pack.design.map(|design| design.0), expected.as_i64());
        }
        "charge_switch" | "discharge_switch" => assert_eq!(state(key), expected.as_bool()),
        "balance_switch" | "balancer_on" => {
            assert_eq!(reading.switches.balancing, expected.as_bool(), "{}", vector.id);
        }
        "frame" => assert!(reading.received.settings),
        "counter" | "acks" => return Compared::No("counted above"),
        _ if LIMITS.contains(&key) => return Compared::No("no part of a reading"),
        _ => return Compared::UnknownKey,
    }
    Compared::Yes
}

/// Limits and modes of the board, which a reading has no place for.
const LIMITS: &[&str] = &[
    "smart_sleep_mv",
    "cell_uvp_mv",
    "cell_uvpr_mv",
    "cell_ovp_mv",
    "cell_ovpr_mv",
    "balance_trigger_mv",
    "balance_start_mv",
    "soc100_mv",
    "soc0_mv",
    "rcv_mv",
    "rfv_mv",
    "power_off_mv",
    "vref_mv",
    "cell_count",
    "max_charge_ma",
    "charge_ocp_delay_s",
    "charge_ocp_release_s",
    "max_discharge_ma",
    "discharge_ocp_delay_s",
    "discharge_ocp_release_s",
    "scp_release_s",
    "scp_delay_us",
    "max_balance_current_ma",
    "charge_otp_dc",
    "charge_otpr_dc",
    "discharge_otp_dc",
    "discharge_otpr_dc",
    "charge_utp_dc",
    "charge_utpr_dc",
    "mos_otp_dc",
    "mos_otpr_dc",
    "control_bits",
    "device_address",
    "precharge_s",
    "heating_enabled",
    "float_mode_enabled",
];

fn live(vector: &Vector, key: &str, expected: &Value, reading: &Reading) -> Compared {
    let (id, pack) = (&vector.id, &reading.pack);
    let number = expected.as_i64();
    let state = |name: &str| reading.states.get(name).copied();
    match key {
        "pack_mv" => assert_eq!(pack.voltage.map(|v| v.0.into()), number, "{id}"),
        "current_ma" => assert_eq!(pack.current.map(|v| v.0.into()), number, "{id}"),
        "soc_pct" => assert_eq!(pack.soc.map(|v| i64::from(v.0) / 100), number, "{id}"),
        "soh_pct" => assert_eq!(pack.soh.map(|v| i64::from(v.0) / 100), number, "{id}"),
        "remaining_mah" => assert_eq!(pack.remaining.map(|v| v.0), number, "{id}"),
        "full_mah" => assert_eq!(pack.full.map(|v| v.0), number, "{id}"),
        "cycles" => assert_eq!(pack.cycles.map(i64::from), number, "{id}"),
        "cell_count" => assert_eq!(Some(reading.cells.len() as u64), expected.as_u64(), "{id}"),
        "cell_mv" => {
            let cells = reading.cells.iter().map(|cell| cell.voltage.unwrap().0);
            assert_eq!(Value::from(cells.collect::<Vec<_>>()), *expected, "{id}");
        }
        "wire_res_mohm" => {
            let cells = reading.cells.iter().map(|cell| cell.resistance.unwrap().0 / 1000);
            assert_eq!(Value::from(cells.collect::<Vec<_>>()), *expected, "{id}");
        }
        "charge_mos_on" => assert_eq!(reading.switches.charging, expected.as_bool(), "{id}"),
        "discharge_mos_on" => assert_eq!(reading.switches.discharging, expected.as_bool(), "{id}"),
        "heating_on" => assert_eq!(state("heating"), expected.as_bool(), "{id}"),
        "precharge_on" => assert_eq!(state("precharging"), expected.as_bool(), "{id}"),
        "charger_plugged" => assert_eq!(state(key), expected.as_bool(), "{id}"),
        "emergency_s" => assert_eq!(state("emergency"), Some(number != Some(0)), "{id}"),
        "error_bits" => {
            let bits = expected.as_array().unwrap().len();
            assert_eq!(reading.alarms.active().count(), bits, "{id}");
            assert_eq!(reading.alarms.unknown_bits().count(), 0, "{id}");
        }
        "balance_state" => balancing(vector, expected, reading),
        "temps_dc" => temperatures(vector, expected, reading),
        "frame" => assert!(reading.received.cell_info),
        "counter" | "acks" => return Compared::No("counted above"),
        "cell_max_index" | "cell_min_index" | "temp_sensor_mask" | "cell_mask" => {
            return Compared::No("with the cells and sensors that they speak of");
        }
        "errors" => return Compared::No("as error_bits"),
        "power_abs_mw" | "cell_avg_mv" | "cell_delta_mv" => return Compared::No("derived"),
        "balance_current_ma" | "cycle_capacity_mah" | "runtime_s" | "wire_res_warn_mask"
        | "heat_current_ma" => return Compared::No("no part of a reading"),
        _ => return Compared::UnknownKey,
    }
    Compared::Yes
}

/// The cell that the board names: the lowest while it charges one, the highest while it discharges
/// one.
fn balancing(vector: &Vector, state: &Value, reading: &Reading) {
    let expected = &vector.json["expected"];
    let cell = match state.as_u64().unwrap() {
        0 => None,
        1 => expected["cell_min_index"].as_u64(),
        _ => expected["cell_max_index"].as_u64(),
    };
    for (index, found) in (0..).zip(&reading.cells) {
        assert_eq!(found.balancing, Some(cell == Some(index)), "{}", vector.id);
    }
}

fn temperatures(vector: &Vector, expected: &Value, reading: &Reading) {
    let fitted = vector.json["expected"]["temp_sensor_mask"].as_u64().unwrap();
    let at = |key: &str, bit: u8| expected[key].as_i64().filter(|_| fitted & 1 << bit != 0);
    let found = |place| {
        let probes = reading.probes.iter().filter(move |probe| probe.location == place);
        probes.map(|probe| probe.value.map(|value| i64::from(value.0))).collect::<Vec<_>>()
    };
    assert_eq!(found(SensorLocation::Mosfet), [at("mos", 0)], "{}", vector.id);
    let mut sensors = vec![at("t1", 1), at("t2", 2)];
    // Boards that cannot have T4 and T5 send zeros in their place.
    let zeros = expected["t4"] == 0 && expected["t5"] == 0;
    if expected["mos_copy"].is_i64() && !zeros {
        sensors.extend([at("t4", 4), at("t5", 5)]);
    }
    assert_eq!(found(SensorLocation::Cells), sensors, "{}", vector.id);
}
