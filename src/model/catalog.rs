//! The table of everything that can be published about a battery. State topics, discovery,
//! metrics and the README's list of keys are all read from it.

use super::alarm::Alarm;
pub use super::entries::{Entry, entries};
use super::reading::Place;
use super::snapshot::{DeviceState, Snapshot};
use super::units::{DeciCelsius, Millivolts, Milliwatts};
use super::value::Value;

/// One row of the table: a single quantity, or a family of them (one for each cell).
#[derive(Debug)]
pub struct Quantity {
    /// Key in topics, JSON and metrics; `{}` stands for the member of a family.
    pub key: &'static str,
    /// What people see; `{}` as in the key.
    pub name: &'static str,
    /// What it is, which decides class, unit and look.
    pub kind: Kind,
    /// At most so many digits behind the point.
    pub decimals: u8,
    /// Measured values are for everybody, diagnostics for those who look closer.
    pub audience: Audience,
    /// Shown without being asked for.
    pub enabled: bool,
    /// One value, or one for each member.
    pub get: Get,
}

/// Where a row's values come from.
#[derive(Debug, Clone, Copy)]
pub enum Get {
    /// One value of a snapshot.
    One(fn(&Snapshot) -> Option<Value>),
    /// A value for each cell; the argument counts from 0.
    Cell(fn(&Snapshot, usize) -> Option<Value>),
    /// A value for each cell sensor; the argument counts from 0.
    Probe(fn(&Snapshot, usize) -> Option<Value>),
    /// A value for each module of a stack; the argument counts from 0. In Home Assistant a module is
    /// a device of its own, so the name of the row does not repeat which one it is.
    Module(fn(&Snapshot, usize) -> Option<Value>),
    /// A value for each alarm that the make knows.
    Alarm(fn(&Snapshot, Alarm) -> Option<Value>),
    /// Something about the conversation, not about the battery: known without a good read.
    Link(fn(&DeviceState) -> Option<Value>),
}

/// What a quantity is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// State of charge in %: Home Assistant's "battery".
    Charge,
    /// Another share in %.
    Share,
    /// Volts.
    Voltage,
    /// Amperes.
    Current,
    /// Watts.
    Power,
    /// Watt-hours that are stored now.
    StoredEnergy,
    /// Ampere-hours.
    Capacity,
    /// Degrees Celsius.
    Temperature,
    /// Milliohms.
    Resistance,
    /// Milliseconds.
    Duration,
    /// Strength of a radio signal in dBm.
    Signal,
    /// Counts up for ever.
    Count,
    /// A number that names something.
    Number,
    /// One word out of a list.
    Words(&'static [&'static str]),
    /// Free text.
    Text,
    /// A moment.
    Timestamp,
    /// On or off.
    Flag,
    /// On means trouble.
    Problem,
}

impl Kind {
    /// Unit in which the value is published; `None` where it has none.
    pub fn unit(self) -> Option<&'static str> {
        Some(match self {
            Kind::Charge | Kind::Share => "%",
            Kind::Voltage => "V",
            Kind::Current => "A",
            Kind::Power => "W",
            Kind::StoredEnergy => "Wh",
            Kind::Capacity => "Ah",
            Kind::Temperature => "°C",
            Kind::Resistance => "mΩ",
            Kind::Duration => "ms",
            Kind::Signal => "dBm",
            _ => return None,
        })
    }
}

/// For whom a quantity is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Everybody.
    User,
    /// Those who look closer.
    Diagnostic,
}

const STATUS_WORDS: &[&str] = &["charging", "discharging", "idle"];

/// The table. Its order is the order in which things are listed everywhere.
pub static CATALOG: &[Quantity] = &[
    main("soc", "State of charge", Kind::Charge, 2, |s| Some(s.reading.pack.soc?.into())),
    detail("soh", "State of health", Kind::Share, 2, |s| Some(s.reading.pack.soh?.into())),
    main("pack_voltage", "Pack voltage", Kind::Voltage, 3, |s| {
        Some(s.reading.pack.voltage?.into())
    }),
    main("pack_current", "Pack current", Kind::Current, 3, |s| {
        Some(s.reading.pack.current?.into())
    }),
    main("power", "Power", Kind::Power, 1, |s| Some(s.derived.power?.into())),
    main("charge_power", "Charge power", Kind::Power, 1, |s| Some(flow(s.derived.power?.0))),
    main("discharge_power", "Discharge power", Kind::Power, 1, |s| Some(flow(-s.derived.power?.0))),
    main("remaining_capacity", "Remaining capacity", Kind::Capacity, 3, |s| {
        Some(s.reading.pack.remaining?.into())
    }),
    detail("full_capacity", "Full capacity", Kind::Capacity, 3, |s| {
        Some(s.reading.pack.full?.into())
    }),
    hidden("design_capacity", "Design capacity", Kind::Capacity, 3, |s| {
        Some(s.reading.pack.design?.into())
    }),
    main("remaining_energy", "Remaining energy", Kind::StoredEnergy, 1, |s| {
        Some(s.reading.pack.remaining_energy?.into())
    }),
    detail("cycle_count", "Cycle count", Kind::Count, 0, |s| {
        Some(Value::Integer(s.reading.pack.cycles?.into()))
    }),
    main("status", "Status", Kind::Words(STATUS_WORDS), 0, |s| {
        Some(Value::Text(s.derived.activity?.name().to_owned()))
    }),
    detail("voltage_status", "Voltage status", Kind::Text, 0, |s| {
        word(&s.reading.pack.words.voltage)
    }),
    detail("current_status", "Current status", Kind::Text, 0, |s| {
        word(&s.reading.pack.words.current)
    }),
    detail("temperature_status", "Temperature status", Kind::Text, 0, |s| {
        word(&s.reading.pack.words.temperature)
    }),
    detail("ambient_temp", "Ambient temperature", Kind::Temperature, 1, |s| {
        probe(s, Place::Ambient)
    }),
    detail("mos_temp", "MOSFET temperature", Kind::Temperature, 1, |s| probe(s, Place::Mosfet)),
    detail("min_temp", "Minimum temperature", Kind::Temperature, 1, |s| {
        degrees(s.derived.min_temp)
    }),
    detail("max_temp", "Maximum temperature", Kind::Temperature, 1, |s| {
        degrees(s.derived.max_temp)
    }),
    main("avg_temp", "Average temperature", Kind::Temperature, 1, |s| degrees(s.derived.avg_temp)),
    detail("temp_{}", "Temperature {}", Kind::Temperature, 1, |_| None).each(Get::Probe(
        |s, index| {
            let mut sensors = s.reading.probes.iter().filter(|probe| probe.place == Place::Cells);
            degrees(sensors.nth(index)?.value)
        },
    )),
    main("min_cell_voltage", "Minimum cell voltage", Kind::Voltage, 3, |s| {
        Some(s.derived.lowest_cell?.1.into())
    }),
    main("max_cell_voltage", "Maximum cell voltage", Kind::Voltage, 3, |s| {
        Some(s.derived.highest_cell?.1.into())
    }),
    main("cell_voltage_diff", "Cell voltage difference", Kind::Voltage, 3, |s| {
        let spread = s.derived.highest_cell?.1.0 - s.derived.lowest_cell?.1.0;
        Some(Millivolts(spread).into())
    }),
    hidden("min_cell", "Lowest cell", Kind::Number, 0, |s| number(s.derived.lowest_cell)),
    hidden("max_cell", "Highest cell", Kind::Number, 0, |s| number(s.derived.highest_cell)),
    detail("cell_{}_voltage", "Cell {} voltage", Kind::Voltage, 3, |_| None)
        .each(Get::Cell(|s, index| Some(s.reading.cells.get(index)?.voltage?.into()))),
    hidden("cell_{}_temp", "Cell {} temperature", Kind::Temperature, 1, |_| None)
        .each(Get::Cell(|s, index| degrees(s.reading.cells.get(index)?.temperature))),
    hidden("cell_{}_resistance", "Cell {} resistance", Kind::Resistance, 3, |_| None)
        .each(Get::Cell(|s, index| Some(s.reading.cells.get(index)?.resistance?.into()))),
    hidden("cell_{}_voltage_status", "Cell {} voltage status", Kind::Text, 0, |_| None)
        .each(Get::Cell(|s, index| word(&s.reading.cells.get(index)?.voltage_word))),
    hidden("cell_{}_temp_status", "Cell {} temperature status", Kind::Text, 0, |_| None)
        .each(Get::Cell(|s, index| word(&s.reading.cells.get(index)?.temperature_word))),
    detail("module_{}_serial_number", "Serial number", Kind::Text, 0, |_| None)
        .each(Get::Module(|s, index| word(&s.reading.modules.get(index)?.serial))),
    main("module_{}_min_cell_voltage", "Minimum cell voltage", Kind::Voltage, 3, |_| None)
        .each(Get::Module(|s, index| Some(module_range(s, index)?.0.into()))),
    main("module_{}_max_cell_voltage", "Maximum cell voltage", Kind::Voltage, 3, |_| None)
        .each(Get::Module(|s, index| Some(module_range(s, index)?.1.into()))),
    main("module_{}_cell_voltage_diff", "Cell voltage difference", Kind::Voltage, 3, |_| None)
        .each(Get::Module(|s, index| {
            let (low, high) = module_range(s, index)?;
            Some(Millivolts(high.0 - low.0).into())
        })),
    hidden("charge_voltage_limit", "Charge voltage limit", Kind::Voltage, 3, |s| {
        Some(s.reading.limits.charge_voltage?.into())
    }),
    hidden("discharge_voltage_limit", "Discharge voltage limit", Kind::Voltage, 3, |s| {
        Some(s.reading.limits.discharge_voltage?.into())
    }),
    hidden("charge_current_limit", "Charge current limit", Kind::Current, 3, |s| {
        Some(s.reading.limits.charge_current?.into())
    }),
    hidden("discharge_current_limit", "Discharge current limit", Kind::Current, 3, |s| {
        Some(s.reading.limits.discharge_current?.into())
    }),
    hidden("cell_voltage_upper_limit", "Upper limit of the cell voltage", Kind::Voltage, 3, |s| {
        Some(s.reading.limits.cell_upper?.into())
    }),
    hidden("cell_voltage_lower_limit", "Lower limit of the cell voltage", Kind::Voltage, 3, |s| {
        Some(s.reading.limits.cell_lower?.into())
    }),
    hidden("pack_voltage_upper_limit", "Upper limit of the pack voltage", Kind::Voltage, 3, |s| {
        Some(s.reading.limits.pack_upper?.into())
    }),
    hidden("pack_voltage_lower_limit", "Lower limit of the pack voltage", Kind::Voltage, 3, |s| {
        Some(s.reading.limits.pack_lower?.into())
    }),
    detail("charging_enabled", "Charging enabled", Kind::Flag, 0, |s| {
        Some(Value::Switch(s.reading.switches.charging?))
    }),
    detail("discharging_enabled", "Discharging enabled", Kind::Flag, 0, |s| {
        Some(Value::Switch(s.reading.switches.discharging?))
    }),
    detail("balancing_enabled", "Balancing enabled", Kind::Flag, 0, |s| {
        Some(Value::Switch(s.reading.switches.balancing?))
    }),
    detail("balancing", "Balancing", Kind::Flag, 0, |s| {
        Some(Value::Switch(!s.balancing_cells()?.is_empty()))
    }),
    hidden("balancing_cells", "Balancing cells", Kind::Text, 0, |s| {
        let cells: Vec<String> = s.balancing_cells()?.iter().map(ToString::to_string).collect();
        Some(Value::Text(if cells.is_empty() { "none".to_owned() } else { cells.join(", ") }))
    }),
    Quantity {
        audience: Audience::User,
        ..detail("problem", "Problem", Kind::Problem, 0, |s| {
            Some(Value::Switch(s.derived.problem?))
        })
    },
    hidden("error_code", "Error code", Kind::Number, 0, |s| {
        Some(Value::Integer(s.reading.pack.error_code?.into()))
    }),
    detail("alarm_{}", "{}", Kind::Problem, 0, |_| None)
        .each(Get::Alarm(|s, alarm| Some(Value::Switch(s.reading.alarms.get(alarm)?)))),
    hidden("last_update", "Last update", Kind::Timestamp, 0, |s| {
        Some(Value::Text(s.taken.iso8601()))
    }),
    hidden("rssi", "Signal strength", Kind::Signal, 0, |_| None)
        .each(Get::Link(|state| Some(Value::Integer(state.rssi?.into())))),
    hidden("read_duration", "Read duration", Kind::Duration, 0, |s| {
        Some(Value::Integer(i64::try_from(s.took_ms).ok()?))
    }),
    hidden("read_errors", "Read errors", Kind::Count, 0, |_| None)
        .each(Get::Link(|state| Some(Value::Integer(i64::try_from(state.counters.errors).ok()?)))),
];

/// A row that everybody sees.
const fn main(
    key: &'static str,
    name: &'static str,
    kind: Kind,
    decimals: u8,
    get: fn(&Snapshot) -> Option<Value>,
) -> Quantity {
    let get = Get::One(get);
    Quantity { key, name, kind, decimals, audience: Audience::User, enabled: true, get }
}

/// A diagnostic row that is shown.
const fn detail(
    key: &'static str,
    name: &'static str,
    kind: Kind,
    decimals: u8,
    get: fn(&Snapshot) -> Option<Value>,
) -> Quantity {
    let get = Get::One(get);
    Quantity { key, name, kind, decimals, audience: Audience::Diagnostic, enabled: true, get }
}

/// A diagnostic row that people switch on when they want it.
const fn hidden(
    key: &'static str,
    name: &'static str,
    kind: Kind,
    decimals: u8,
    get: fn(&Snapshot) -> Option<Value>,
) -> Quantity {
    let get = Get::One(get);
    Quantity { key, name, kind, decimals, audience: Audience::Diagnostic, enabled: false, get }
}

impl Quantity {
    const fn each(self, get: Get) -> Self {
        Quantity { get, ..self }
    }

    /// The row of a key with its member filled in: `cell_3_voltage`.
    pub fn of(key: &str) -> Option<&'static Quantity> {
        CATALOG.iter().find(|quantity| match quantity.key.split_once("{}") {
            None => quantity.key == key,
            Some((before, after)) => {
                let rest = key.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
                rest.is_some_and(|member| match quantity.get {
                    Get::Alarm(_) => Alarm::named(member).is_some(),
                    _ => member.parse::<usize>().is_ok(),
                })
            }
        })
    }
}

fn flow(milliwatts: i64) -> Value {
    Milliwatts(milliwatts.max(0)).into()
}

fn degrees(value: Option<DeciCelsius>) -> Option<Value> {
    value.map(Value::from)
}

fn probe(snapshot: &Snapshot, place: Place) -> Option<Value> {
    degrees(snapshot.reading.probes.iter().find(|probe| probe.place == place)?.value)
}

fn word(word: &Option<String>) -> Option<Value> {
    word.clone().map(Value::Text)
}

fn module_range(snapshot: &Snapshot, index: usize) -> Option<(Millivolts, Millivolts)> {
    *snapshot.derived.modules.get(index)?
}

fn number(cell: Option<(usize, Millivolts)>) -> Option<Value> {
    Some(Value::Integer(i64::try_from(cell?.0).ok()?))
}

impl Snapshot {
    /// Numbers (from 1) of the cells that are being balanced; `None` when the make does not tell.
    pub fn balancing_cells(&self) -> Option<Vec<usize>> {
        let told = self.reading.cells.iter().any(|cell| cell.balancing.is_some());
        let cells = self.reading.cells.iter().enumerate();
        told.then(|| {
            cells.filter(|(_, cell)| cell.balancing == Some(true)).map(|(i, _)| i + 1).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Profile;
    use crate::model::derive::derive;
    use crate::model::reading::{Cell, Module, Probe, Reading};
    use crate::model::units::{CentiPercent, Milliamps, Millis};

    fn state(reading: Reading) -> DeviceState {
        let mut state = DeviceState::new(Profile::sample("b"));
        let id = state.profile.id.clone();
        let derived = derive(&reading);
        let taken = Millis(1_771_097_625_510);
        let snapshot = Snapshot { device: id, sequence: 1, taken, took_ms: 250, reading, derived };
        state.snapshot = Some(std::sync::Arc::new(snapshot));
        state
    }

    fn texts(state: &DeviceState) -> Vec<(String, String)> {
        entries(state).into_iter().map(|entry| (entry.key, entry.value.to_string())).collect()
    }

    #[test]
    fn unknown_values_have_no_entry() {
        let keys: Vec<_> =
            texts(&state(Reading::default())).into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["last_update", "read_duration", "read_errors"]);
    }

    #[test]
    fn families_are_numbered_from_one_and_keep_gaps() {
        let cells = vec![Cell::of(Millivolts(3309)), Cell::default(), Cell::of(Millivolts(3326))];
        let probes = vec![
            Probe { place: Place::Mosfet, value: Some(DeciCelsius(210)) },
            Probe { place: Place::Cells, value: None },
            Probe { place: Place::Cells, value: Some(DeciCelsius(-5)) },
        ];
        let mut reading = Reading { cells, probes, ..Reading::default() };
        reading.alarms.note(Alarm::CellOvervoltage, true);
        let texts = texts(&state(reading));
        for (key, text) in [
            ("cell_1_voltage", "3.309"),
            ("cell_3_voltage", "3.326"),
            ("temp_2", "-0.5"),
            ("mos_temp", "21.0"),
            ("min_cell", "1"),
            ("cell_voltage_diff", "0.017"),
            ("alarm_cell_overvoltage", "ON"),
            ("problem", "ON"),
        ] {
            assert!(texts.contains(&(key.into(), text.into())), "{key} is {text} in {texts:?}");
        }
        for key in ["cell_2_voltage", "temp_1", "cell_1_temp", "balancing"] {
            assert!(texts.iter().all(|(other, _)| other != key), "{key} is unknown");
        }
    }

    #[test]
    fn many_cells_are_there_for_those_who_ask() {
        let shown = |cells: usize| {
            let cells = vec![Cell::of(Millivolts(3300)); cells];
            let modules = vec![Module { cells: 0..2, ..Module::default() }];
            let all = entries(&state(Reading { cells, modules, ..Reading::default() }));
            let enabled = |key: &str| all.iter().find(|entry| entry.key == key).unwrap().enabled;
            let module = all.iter().find(|entry| entry.key == "module_1_min_cell_voltage").unwrap();
            assert_eq!(module.module, Some(1));
            assert!(enabled("min_cell_voltage") && module.enabled);
            enabled("cell_2_voltage")
        };
        assert!(shown(32));
        assert!(!shown(33));
    }

    #[test]
    fn power_is_split_without_minus_signs() {
        let mut reading = Reading::default();
        reading.pack.voltage = Some(Millivolts(53_020));
        reading.pack.current = Some(Milliamps(-11_160));
        reading.pack.soc = Some(CentiPercent(6400));
        let texts = texts(&state(reading));
        for (key, text) in [
            ("power", "-591.7"),
            ("charge_power", "0.0"),
            ("discharge_power", "591.7"),
            ("soc", "64.0"),
        ] {
            assert!(texts.contains(&(key.into(), text.into())), "{key} is {text} in {texts:?}");
        }
    }

    #[test]
    fn keys_and_names_are_unique() {
        let mut keys: Vec<_> = CATALOG.iter().map(|quantity| quantity.key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), CATALOG.len());
    }
    #[test]
    fn a_key_leads_to_its_row() {
        for (key, row) in [
            ("soc", Some("soc")),
            ("cell_12_voltage", Some("cell_{}_voltage")),
            ("cell_12_temp", Some("cell_{}_temp")),
            ("temp_3", Some("temp_{}")),
            ("alarm_cell_overvoltage", Some("alarm_{}")),
            ("alarm_unheard_of", None),
            ("cell_x_voltage", None),
            ("temp_", None),
            ("", None),
        ] {
            assert_eq!(Quantity::of(key).map(|quantity| quantity.key), row, "{key}");
        }
    }
}
