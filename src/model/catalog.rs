//! The table of everything that can be published about a battery. State topics, discovery,
//! metrics and the README's list of keys are all read from it.

use super::alarm::Alarm;
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
    detail("charging_enabled", "Charging enabled", Kind::Flag, 0, |s| {
        Some(Value::Switch(s.reading.switches.charging?))
    }),
    detail("discharging_enabled", "Discharging enabled", Kind::Flag, 0, |s| {
        Some(Value::Switch(s.reading.switches.discharging?))
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

/// One published quantity of one battery: a row, or one member of a family.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The row.
    pub quantity: &'static Quantity,
    /// Key with the member filled in.
    pub key: String,
    /// Name with the member filled in.
    pub name: String,
    /// What is published now.
    pub value: Value,
}

/// Everything that is known of a battery now, in the order of the table, rounded for the edge.
/// An unknown value has no entry.
pub fn entries(state: &DeviceState) -> Vec<Entry> {
    let mut list = Vec::new();
    for quantity in CATALOG {
        let mut push = |key_part: &str, name_part: &str, value: Option<Value>| {
            list.extend(value.map(|value| Entry {
                quantity,
                key: quantity.key.replacen("{}", key_part, 1),
                name: quantity.name.replacen("{}", name_part, 1),
                value: value.rounded(quantity.decimals.into()),
            }));
        };
        let snapshot = state.snapshot.as_deref();
        match (quantity.get, snapshot) {
            (Get::Link(get), _) => push("", "", get(state)),
            (Get::One(get), Some(snapshot)) => push("", "", get(snapshot)),
            (Get::Cell(get) | Get::Probe(get), Some(snapshot)) => {
                for index in 0..snapshot.reading.cells.len().max(snapshot.reading.probes.len()) {
                    let number = (index + 1).to_string();
                    push(&number, &number, get(snapshot, index));
                }
            }
            (Get::Alarm(get), Some(snapshot)) => {
                for (alarm, _) in snapshot.reading.alarms.iter() {
                    push(alarm.name(), alarm.words(), get(snapshot, alarm));
                }
            }
            (_, None) => {}
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Profile;
    use crate::model::derive::derive;
    use crate::model::reading::{Cell, Probe, Reading};
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
}
