//! The status words of Daren's service 42 against `status-bits.json`, bit by bit.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bms_reader::model::{Alarm, Reading};
use bms_reader::protocol::ascii_frame::Frame;
use bms_reader::protocol::daren::{Service, request};
use bms_reader::protocol::{DRIVERS, Step};
use serde_json::Value;

use crate::common::{self, driver, play};
use crate::daren::reply;

/// Alarms, states and unexplained bits as a reading has them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Status {
    alarms: BTreeMap<Alarm, bool>,
    states: BTreeMap<String, bool>,
    unknown: BTreeMap<String, u64>,
    charging: bool,
    discharging: bool,
}

impl Status {
    fn of(reading: &Reading) -> Status {
        let owned = |(name, on): (&&str, &bool)| ((*name).to_owned(), *on);
        Status {
            alarms: reading.alarms.iter().collect(),
            states: reading.states.iter().map(owned).collect(),
            unknown: reading
                .alarms
                .unknown_bits()
                .map(|(w, bits)| (w.to_owned(), bits.into()))
                .collect(),
            charging: reading.switches.charging.unwrap(),
            discharging: reading.switches.discharging.unwrap(),
        }
    }

    pub fn assert_eq(&self, reading: &Reading, id: &str) {
        assert_eq!(&Status::of(reading), self, "{id}");
    }
}

static BITS: LazyLock<Value> = LazyLock::new(|| common::json("status-bits.json")["daren"].clone());

/// What the words of a reply mean by `status-bits.json`. Words that the reply does not have say
/// nothing.
pub fn status(words: &Value) -> Status {
    let mut status = Status::default();
    for word in BITS["words"].as_array().unwrap() {
        let name = word["word"].as_str().unwrap();
        let Some(value) = words[name].as_u64() else { continue };
        let mut unknown = value;
        for bit in word["bits"].as_array().unwrap() {
            let number = bit["bit"].as_u64().unwrap();
            let on = value >> number & 1 == 1;
            let meaning = bit["name"].as_str().unwrap();
            match (bit["class"].as_str().unwrap(), meaning) {
                ("info", _) => continue,
                ("state", "charge_fet_on") => status.charging = on,
                ("state", "discharge_fet_on") => status.discharging = on,
                ("state", _) => *status.states.entry(meaning.to_owned()).or_default() |= on,
                ("protection" | "alarm" | "fault", _) => {
                    *status.alarms.entry(alarm(meaning)).or_default() |= on;
                }
                other => panic!("{other:?}"),
            }
            unknown &= !(1 << number);
        }
        if unknown != 0 {
            status.unknown.insert(name.to_owned(), unknown);
        }
    }
    for mask in BITS["cell_masks"].as_array().unwrap() {
        let name = mask["word"].as_str().unwrap();
        let cells = words["cell_count"].as_u64().unwrap();
        let first = if name.ends_with("_17_32") { 16 } else { 0 };
        let fitted = (1_u64 << cells >> first).saturating_sub(1) & 0xFFFF;
        let Some(value) = words[name].as_u64() else { continue };
        if !name.starts_with("balance") {
            let kind = name.trim_end_matches("_1_16").trim_end_matches("_17_32");
            *status.alarms.entry(alarm(kind)).or_default() |= value & fitted != 0;
        }
        if value & !fitted != 0 {
            status.unknown.insert(name.to_owned(), value & !fitted);
        }
    }
    status
}

/// Our name of a bit: a protection is plain, a warning says so, and one vocabulary serves all
/// makes.
pub fn alarm(name: &str) -> Alarm {
    let ours = match name {
        "overvoltage_protection_repeated_lockout" => "overvoltage_lockout",
        "undervoltage_protection_repeated_lockout" => "undervoltage_lockout",
        "overcurrent_repeated_lockout" => "overcurrent_lockout",
        "discharge_overcurrent_1_protection" => "discharge_overcurrent",
        "charge_fet_failure" => "charge_mos_failure",
        "discharge_fet_failure" => "discharge_mos_failure",
        "afe_chip_failure" => "afe_failure",
        "afe_alarm_pin" => "afe_warning",
        "aerosol_detection" => "aerosol_warning",
        "crystal_oscillator_failure" => "oscillator_failure",
        "fail" => "system_failure",
        other => &other.replace("_protection", "").replace("_alarm", "_warning"),
    };
    Alarm::from_name(ours).unwrap_or_else(|| panic!("{name} has no alarm {ours}"))
}

/// The words and masks of service 42 in their order, with their widths.
const ORDER: [(&str, usize); 17] = [
    ("voltage_status", 2),
    ("current_status", 2),
    ("temperature_status", 2),
    ("alarm_status", 2),
    ("fet_status", 2),
    ("cell_overvoltage_protection_1_16", 2),
    ("cell_undervoltage_protection_1_16", 2),
    ("cell_overvoltage_alarm_1_16", 2),
    ("cell_undervoltage_alarm_1_16", 2),
    ("balance_1_16", 2),
    ("balance_17_32", 2),
    ("cell_overvoltage_protection_17_32", 2),
    ("cell_undervoltage_protection_17_32", 2),
    ("cell_overvoltage_alarm_17_32", 2),
    ("cell_undervoltage_alarm_17_32", 2),
    ("machine_status", 1),
    ("io_status", 2),
];

/// Service 42 of a pack with so many cells, and `words` as its status; the rest is unremarkable.
fn live_reply(cells: u8, words: &Value) -> Vec<u8> {
    let mut info = vec![0, 0x19, 0x00, 0x14, 0xB6, cells];
    info.extend([0x0C, 0xED].repeat(cells.into()));
    info.extend([0; 2 * 3 + 1 + 2 * 3 + 1 + 2 * 3]);
    for (word, width) in ORDER {
        let value = words[word].as_u64().unwrap_or_default();
        info.extend_from_slice(&value.to_be_bytes()[8 - width..]);
    }
    reply(0, info)
}

fn read(answer: &[u8]) -> Reading {
    let live = request(Service::Live, 1, 1);
    let info = DRIVERS.iter().find(|info| info.name == "daren").unwrap();
    let outcome = play(driver(info).as_mut(), |question| {
        if question == live { vec![answer.to_vec()] } else { Vec::new() }
    });
    outcome.unwrap().reading()
}

/// Every bit of every word and mask on its own, and none at all.
#[test]
fn each_status_bit_says_what_the_table_says() {
    for cells in [8, 16, 32] {
        let quiet = ORDER.map(|(word, _)| (word.to_owned(), Value::from(0)));
        let mut quiet: serde_json::Map<String, Value> = quiet.into_iter().collect();
        quiet.insert("cell_count".to_owned(), cells.into());
        let quiet = Value::Object(quiet);
        let reading = read(&live_reply(cells, &quiet));
        assert_eq!(reading.alarms.active().count(), 0);
        status(&quiet).assert_eq(&reading, "quiet");
        for (word, width) in ORDER {
            for bit in 0..width * 8 {
                let mut words = quiet.clone();
                words[word] = (1_u64 << bit).into();
                let reading = read(&live_reply(cells, &words));
                status(&words).assert_eq(&reading, &format!("{word}, bit {bit}, {cells} cells"));
            }
        }
    }
}

/// All lengths: every count of cells, without and with the second part, and longer.
#[test]
fn every_length_of_service_42_is_read() {
    for cells in 1..=32 {
        let words = serde_json::json!({"fet_status": 1, "balance_1_16": 1, "io_status": 1});
        let whole = Frame::parse(&live_reply(cells, &words)).unwrap().info;
        let short = whole.len() - 13;
        for length in short..=whole.len() + 3 {
            let mut info = whole.clone();
            info.resize(length, 0x55);
            let reading = read(&reply(0, info));
            assert_eq!(reading.cells.len(), usize::from(cells));
            assert_eq!(reading.cells[0].balancing, Some(true));
            assert_eq!(reading.switches.charging, Some(true));
            let charger = reading.states.get("charger_online").copied();
            assert_eq!(charger, (length >= whole.len()).then_some(true), "{cells}, {length}");
            let later = reading.cells.get(16).map(|cell| cell.balancing.is_some());
            assert_eq!(later, (cells > 16).then_some(length >= short + 2));
        }
        let cut = reply(0, whole[..short - 1].to_vec());
        let live = request(Service::Live, 1, 1);
        let info = DRIVERS.iter().find(|info| info.name == "daren").unwrap();
        let outcome = play(driver(info).as_mut(), |question| {
            if question == live { vec![cut.clone()] } else { Vec::new() }
        });
        assert!(matches!(outcome.unwrap().end, Step::Failed(_)), "{cells} cells, cut");
    }
}
