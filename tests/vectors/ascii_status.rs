//! Service 44 of Pylontech, PACE and Seplos against `status-bits.json`, bit by bit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use bms_reader::model::{Alarm, Reading};
use serde_json::Value;

use crate::Compared;
use crate::ascii_family::{family, read};
use crate::common::{self, Vector};

/// Which of the brands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Pylontech,
    Pace,
    Seplos,
}

static BITS: LazyLock<Value> = LazyLock::new(|| common::json("status-bits.json"));

impl Family {
    pub const ALL: [Family; 3] = [Family::Pylontech, Family::Pace, Family::Seplos];

    pub fn name(self) -> &'static str {
        match self {
            Family::Pylontech => "pylontech",
            Family::Pace => "pace",
            Family::Seplos => "seplos",
        }
    }

    fn words(self) -> &'static [Value] {
        let brand = match self {
            Family::Pylontech => "pylon_low_voltage",
            Family::Pace => "pace_v25",
            Family::Seplos => "seplos_v2",
        };
        BITS[brand]["words"].as_array().unwrap()
    }

    /// Service 44 of a pack with so many cells and four or six sensors at which nothing is wrong,
    /// and where each word of the table stands in it.
    fn quiet(self, cells: u8) -> (Vec<u8>, BTreeMap<&'static str, usize>) {
        let (sensors, tail): (u8, &[&str]) = match self {
            Family::Pylontech => {
                (5, &["", "", "", "status1", "status2", "status3", "status4", "status5"])
            }
            Family::Pace => (
                6,
                &[
                    "",
                    "",
                    "",
                    "protect_status_1",
                    "protect_status_2",
                    "system_status",
                    "configuration_status",
                    "fault_status",
                    "",
                    "",
                    "warning_status_1",
                    "warning_status_2",
                ],
            ),
            Family::Seplos => (
                6,
                &[
                    "",
                    "",
                    "20 events",
                    "",
                    "voltage_alarm",
                    "temperature_alarm",
                    "",
                    "current_alarm",
                    "capacity_alarm",
                    "switch_status",
                ],
            ),
        };
        let second = if self == Family::Pylontech { 2 } else { 1 };
        let mut info = vec![0, second, cells];
        info.extend(vec![0; cells.into()]);
        info.push(sensors);
        info.extend(vec![0; sensors.into()]);
        let mut places = BTreeMap::new();
        for word in tail {
            if !word.is_empty() {
                places.insert(*word, info.len());
            }
            info.push(if *word == "20 events" { 20 } else { 0 });
        }
        if self == Family::Seplos {
            info.extend([0; 13]);
        }
        (info, places)
    }
}

/// Our name of a bit: a protection is plain, a warning says so, and one vocabulary serves all
/// makes.
fn alarm(name: &str, class: &str) -> Alarm {
    let mut ours = name.replace("_protection", "").replace("module_", "pack_");
    if ours.starts_with("cell_") && ours.ends_with("_error") {
        ours = "cell_failure".to_owned();
    }
    for (theirs, word) in [
        ("high_voltage", "overvoltage"),
        ("low_voltage", "undervoltage"),
        ("high_temperature", "overtemperature"),
        ("low_temperature", "undertemperature"),
        ("environment_", "ambient_"),
        ("_mosfet_fault", "_mos_failure"),
        ("_fault", "_failure"),
        ("terminals_reversed", "reverse_connection"),
        ("low_power", "low_soc"),
    ] {
        ours = ours.replace(theirs, word);
    }
    ours = match ours.as_str() {
        "charge_current" => "charge_overcurrent".to_owned(),
        "discharge_current" => "discharge_overcurrent".to_owned(),
        "low_soc" if class == "protection" => "low_battery".to_owned(),
        _ => ours,
    };
    if class == "alarm" && !ours.ends_with("_warning") {
        ours += "_warning";
    }
    Alarm::from_name(&ours).unwrap_or_else(|| panic!("{name} has no alarm {ours}"))
}

fn active(reading: &Reading) -> BTreeSet<Alarm> {
    reading.alarms.active().collect()
}

/// Every bit of the table on its own raises what it should, and nothing else.
#[test]
fn each_status_bit_says_what_the_table_says() {
    for family in Family::ALL {
        let (quiet, places) = family.quiet(16);
        let calm = read(family, 0x44, &quiet);
        assert_eq!(active(&calm), BTreeSet::new());
        assert!(!calm.alarms.is_empty());
        let mut compared = 0;
        for word in family.words() {
            let name = word["word"].as_str().unwrap();
            if name == "management_status" {
                continue;
            }
            for bit in 0..8 {
                let mut info = quiet.clone();
                info[places[name]] |= 1 << bit;
                let reading = read(family, 0x44, &info);
                let row = word["bits"].as_array().unwrap().iter().find(|row| row["bit"] == bit);
                check(&reading, &calm, row, &format!("{family:?}, {name}, bit {bit}"));
                compared += 1;
            }
        }
        assert!(compared >= 40, "{family:?}: {compared}");
    }
}

fn check(reading: &Reading, calm: &Reading, row: Option<&Value>, what: &str) {
    let word = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    let Some(row) = row else { return };
    let (name, class) = (word(row, "name"), word(row, "class"));
    match (class.as_str(), name.as_str()) {
        ("protection" | "fault" | "alarm", _) => {
            assert_eq!(active(reading), BTreeSet::from([alarm(&name, &class)]), "{what}");
        }
        ("state", "charge_mosfet_on" | "charge_fet_on") => {
            assert_eq!(calm.switches.charging, Some(false), "{what}");
            assert_eq!(reading.switches.charging, Some(true), "{what}");
        }
        ("state", "discharge_mosfet_on" | "discharge_fet_on") => {
            assert_eq!(calm.switches.discharging, Some(false), "{what}");
            assert_eq!(reading.switches.discharging, Some(true), "{what}");
        }
        ("state", _) => {
            assert_eq!(calm.states.get(name.as_str()), Some(&false), "{what}");
            assert_eq!(reading.states.get(name.as_str()), Some(&true), "{what}");
        }
        ("info", _) => assert_eq!(active(reading), BTreeSet::new(), "{what}"),
        other => panic!("{other:?}"),
    }
}

/// A bit of a cell that the pack does not have is no failure of one that it has.
#[test]
fn bits_of_cells_that_are_not_fitted_are_kept_apart() {
    let (mut info, places) = Family::Pylontech.quiet(15);
    info[places["status5"]] = 0x80;
    let reading = read(Family::Pylontech, 0x44, &info);
    assert_eq!(active(&reading), BTreeSet::new());
    assert_eq!(reading.alarms.unknown_bits().collect::<Vec<_>>(), [("status4_5", 0x8000)]);
    info[places["status5"]] = 0x40;
    let reading = read(Family::Pylontech, 0x44, &info);
    assert_eq!(active(&reading), BTreeSet::from([Alarm::CellFailure]));
}

/// The seven states of the 92 that tell a charger what to do.
#[test]
fn management_bits_say_what_the_table_says() {
    let words = Family::Pylontech.words();
    let word = words.iter().find(|word| word["word"] == "management_status").unwrap();
    for row in word["bits"].as_array().unwrap() {
        let status = 1_u8 << row["bit"].as_u64().unwrap();
        let info = [2, 0x6E, 0xF0, 0x5A, 0xA0, 0x02, 0x2B, 0xFD, 0xD5, status];
        let reading = read(Family::Pylontech, 0x92, &info);
        let on = reading.states.iter().filter(|(_, on)| **on).map(|(name, _)| *name);
        assert_eq!(on.collect::<Vec<_>>(), [row["name"].as_str().unwrap()]);
    }
}

/// Keys of a vector of service 44.
pub fn value(vector: &Vector, key: &str, expected: &Value, reading: &Reading) -> Compared {
    let family = family(vector);
    let id = &vector.id;
    let bytes = || serde_json::from_value::<Vec<u8>>(expected.clone()).unwrap();
    match key {
        // Which of the cells it was, the reading does not keep.
        "cell_states" => {
            let [below, above] = match family {
                Family::Pylontech => [Alarm::CellUndervoltage, Alarm::CellOvervoltage],
                _ => [Alarm::CellUndervoltageWarning, Alarm::CellOvervoltageWarning],
            };
            assert!(!bytes().contains(&1) || reading.alarms.get(below) == Some(true), "{id}");
            assert!(!bytes().contains(&2) || reading.alarms.get(above) == Some(true), "{id}");
        }
        "temp_states" => {
            let hot = if family == Family::Pylontech {
                Alarm::CellOvertemperature
            } else {
                Alarm::CellOvertemperatureWarning
            };
            assert_eq!(reading.alarms.get(hot), Some(bytes().contains(&2)), "{id}");
        }
        "active" => {
            for name in expected.as_array().unwrap() {
                let name = name.as_str().unwrap();
                let state = reading.states.get(name).copied().unwrap_or_default();
                let class = if name.ends_with("_fault") { "fault" } else { "protection" };
                let raised = || reading.alarms.get(alarm(name, class)) == Some(true);
                assert!(state || raised(), "{id}: {name}");
            }
            let quiet = expected.as_array().unwrap().is_empty();
            assert_eq!(quiet, reading.alarms.active().next().is_none(), "{id}");
        }
        "cell_error" => {
            let failed = !expected.as_array().unwrap().is_empty();
            assert_eq!(reading.alarms.get(Alarm::CellFailure), Some(failed), "{id}");
        }
        "system_bits" | "switch_bits" => {
            let names: Vec<&str> =
                expected.as_array().unwrap().iter().flat_map(Value::as_str).collect();
            let on = |name: &str| names.iter().any(|it| it.starts_with(name));
            assert_eq!(reading.switches.charging, Some(on("charge_")), "{id}");
            assert_eq!(reading.switches.discharging, Some(on("discharge_")), "{id}");
        }
        "charge_mosfet_on" => assert_eq!(reading.switches.charging, expected.as_bool(), "{id}"),
        "discharge_mosfet_on" => {
            assert_eq!(reading.switches.discharging, expected.as_bool(), "{id}");
        }
        "using_module_power" => {
            let state = reading.states.get("using_battery_module_power");
            assert_eq!(state.copied(), expected.as_bool(), "{id}");
        }
        "effective_discharge_current" => {
            assert_eq!(reading.states.get(key).copied(), expected.as_bool(), "{id}");
        }
        "balance_word" => {
            let cells = reading.cells.iter().enumerate();
            let mask: u64 =
                cells.map(|(bit, cell)| u64::from(cell.balancing.unwrap()) << bit).sum();
            assert_eq!(Some(mask), expected.as_u64(), "{id}");
        }
        "module_voltage_state" => {
            let low = reading.alarms.get(Alarm::PackUndervoltage);
            assert_eq!(low, Some(expected == 1), "{id}");
        }
        _ if key.starts_with("status") || key.starts_with("protect") => return WORDS,
        "system" | "control" | "fault" | "warning1" | "warning2" | "events" => return WORDS,
        "charge_current_state"
        | "discharge_current_state"
        | "current_state"
        | "pack_voltage_state" => assert_eq!(expected, 0, "{id}"),
        "infoflag" | "dataflag" | "bus_id" | "group" | "command_value" | "lenid"
        | "event_count" | "cell_count" => return Compared::No("the head and the counts"),
        _ => return Compared::UnknownKey,
    }
    Compared::Yes
}

const WORDS: Compared = Compared::No("each bit is compared above, and `active` with the reading");
