//! The table of everything that can be published about a battery. State topics, discovery,
//! metrics and the README's list of keys are all read from it.

use super::alarm::Alarm;
use super::bank::BankSummary;
use super::energy::EnergyTotals;
pub use super::entries::{Entry, entries, intermittent};
use super::reading::SensorLocation;
use super::snapshot::{DeviceState, Snapshot};
use super::thresholds::Threshold;
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
    pub category: Category,
    /// Shown without being asked for.
    pub enabled: bool,
    /// One value, or one for each member.
    pub get: Get,
    /// Whether this battery will know the value, though perhaps not now. Such a quantity is
    /// announced before it has a value, so that nothing comes and goes with the current.
    pub intermittent: fn(&Snapshot) -> bool,
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
    /// A value for each alarm that the brand knows.
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
    /// Kilowatt-hours that have flowed so far.
    Energy,
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
    /// Seconds.
    Remaining,
    /// Counts up for ever.
    Count,
    /// A number that names something.
    Number,
    /// One word out of a list.
    Enum(&'static [&'static str]),
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
            Kind::Energy => "kWh",
            Kind::Capacity => "Ah",
            Kind::Temperature => "°C",
            Kind::Resistance => "mΩ",
            Kind::Duration => "ms",
            Kind::Signal => "dBm",
            Kind::Remaining => "s",
            _ => return None,
        })
    }
}

/// For whom a quantity is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    /// Everybody.
    Primary,
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
    main("energy_charged", "Energy charged", Kind::Energy, 3, |s| Some(energy(s)?.charged.kwh())),
    main("energy_discharged", "Energy discharged", Kind::Energy, 3, |s| {
        Some(energy(s)?.discharged.kwh())
    }),
    main("time_to_full", "Time to full", Kind::Remaining, 0, |s| {
        Some(Value::Integer(s.derived.times.to_full?.into()))
    })
    .intermittent(|s| {
        s.reading.pack.charge_and_current().is_some() && s.reading.pack.full.is_some()
    }),
    main("time_to_empty", "Time to empty", Kind::Remaining, 0, |s| {
        Some(Value::Integer(s.derived.times.to_empty?.into()))
    })
    .intermittent(|s| s.reading.pack.charge_and_current().is_some()),
    detail("cycle_count", "Cycle count", Kind::Count, 0, |s| {
        Some(Value::Integer(s.reading.pack.cycles?.into()))
    }),
    main("status", "Status", Kind::Enum(STATUS_WORDS), 0, |s| {
        Some(Value::Text(s.derived.activity?.name().to_owned()))
    }),
    detail("voltage_status", "Voltage status", Kind::Text, 0, |s| {
        word(&s.reading.pack.console_status.voltage)
    }),
    detail("current_status", "Current status", Kind::Text, 0, |s| {
        word(&s.reading.pack.console_status.current)
    }),
    detail("temperature_status", "Temperature status", Kind::Text, 0, |s| {
        word(&s.reading.pack.console_status.temperature)
    }),
    detail("ambient_temp", "Ambient temperature", Kind::Temperature, 1, |s| {
        probe(s, SensorLocation::Ambient)
    }),
    detail("mos_temp", "MOSFET temperature", Kind::Temperature, 1, |s| {
        probe(s, SensorLocation::Mosfet)
    }),
    detail("min_temp", "Minimum temperature", Kind::Temperature, 1, |s| {
        degrees(s.derived.min_temp)
    }),
    detail("max_temp", "Maximum temperature", Kind::Temperature, 1, |s| {
        degrees(s.derived.max_temp)
    }),
    main("avg_temp", "Average temperature", Kind::Temperature, 1, |s| degrees(s.derived.avg_temp)),
    detail("temp_{}", "Temperature {}", Kind::Temperature, 1, |_| None).each(Get::Probe(
        |s, index| {
            let mut sensors =
                s.reading.probes.iter().filter(|probe| probe.location == SensorLocation::Cells);
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
    detail("min_cell_battery", "Battery with the lowest cell", Kind::Text, 0, |s| {
        Some(Value::Text(bank(s)?.lowest_in.clone()?))
    }),
    detail("max_cell_battery", "Battery with the highest cell", Kind::Text, 0, |s| {
        Some(Value::Text(bank(s)?.highest_in.clone()?))
    }),
    detail("pack_voltage_spread", "Spread between pack voltages", Kind::Voltage, 3, |s| {
        Some(bank(s)?.voltage_spread?.into())
    }),
    detail("soc_spread", "Spread between states of charge", Kind::Share, 2, |s| {
        Some(bank(s)?.soc_spread?.into())
    }),
    detail("members_missing", "Members missing", Kind::Text, 0, |s| {
        Some(Value::Text(list(bank(s)?.missing.iter())))
    }),
    detail("cell_{}_voltage", "Cell {} voltage", Kind::Voltage, 3, |_| None)
        .each(Get::Cell(|s, index| Some(s.reading.cells.get(index)?.voltage?.into()))),
    hidden("cell_{}_temp", "Cell {} temperature", Kind::Temperature, 1, |_| None)
        .each(Get::Cell(|s, index| degrees(s.reading.cells.get(index)?.temperature))),
    hidden("cell_{}_resistance", "Cell {} resistance", Kind::Resistance, 3, |_| None)
        .each(Get::Cell(|s, index| Some(s.reading.cells.get(index)?.resistance?.into()))),
    hidden("cell_{}_voltage_status", "Cell {} voltage status", Kind::Text, 0, |_| None)
        .each(Get::Cell(|s, index| word(&s.reading.cells.get(index)?.voltage_status))),
    hidden("cell_{}_temp_status", "Cell {} temperature status", Kind::Text, 0, |_| None)
        .each(Get::Cell(|s, index| word(&s.reading.cells.get(index)?.temperature_status))),
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
        Some(Value::Text(list(s.balancing_cells()?.iter())))
    }),
    Quantity {
        category: Category::Primary,
        ..detail("problem", "Problem", Kind::Problem, 0, |s| {
            Some(Value::Switch(s.derived.problem?))
        })
    },
    hidden("error_code", "Error code", Kind::Number, 0, |s| {
        Some(Value::Integer(s.reading.pack.error_code?.into()))
    }),
    detail("alarm_{}", "{}", Kind::Problem, 0, |_| None)
        .each(Get::Alarm(|s, alarm| Some(Value::Switch(s.reading.alarms.get(alarm)?)))),
    // Rows of their own and no family: a limit whose value was not read this time must not take
    // its entity along.
    own(Threshold::CellLow, |s| crossed(s, Threshold::CellLow)),
    own(Threshold::CellHigh, |s| crossed(s, Threshold::CellHigh)),
    own(Threshold::CellDelta, |s| crossed(s, Threshold::CellDelta)),
    own(Threshold::TempHigh, |s| crossed(s, Threshold::TempHigh)),
    own(Threshold::TempLow, |s| crossed(s, Threshold::TempLow)),
    own(Threshold::SocLow, |s| crossed(s, Threshold::SocLow)),
    hidden("last_update", "Last update", Kind::Timestamp, 0, |s| {
        Some(Value::Text(s.taken.iso8601()))
    }),
    hidden("rssi", "Signal strength", Kind::Signal, 0, |_| None)
        .each(Get::Link(|state| Some(Value::Integer(state.rssi?.into())))),
    // A bank is put together, not read.
    hidden("read_duration", "Read duration", Kind::Duration, 0, |s| match s.derived.bank {
        Some(_) => None,
        None => Some(Value::Integer(i64::try_from(s.took_ms).ok()?)),
    }),
    hidden("read_errors", "Read errors", Kind::Count, 0, |_| None)
        .each(Get::Link(|state| Some(Value::Integer(i64::try_from(state.counters.errors).ok()?)))),
    hidden("readings_rejected", "Readings rejected", Kind::Count, 0, |_| None).each(Get::Link(
        |state| Some(Value::Integer(i64::try_from(state.counters.rejected).ok()?)),
    )),
];

/// A row that everybody sees.
const fn main(
    key: &'static str,
    name: &'static str,
    kind: Kind,
    decimals: u8,
    get: fn(&Snapshot) -> Option<Value>,
) -> Quantity {
    let (get, intermittent) = (Get::One(get), never as fn(&Snapshot) -> bool);
    Quantity {
        key,
        name,
        kind,
        decimals,
        category: Category::Primary,
        enabled: true,
        get,
        intermittent,
    }
}

/// A diagnostic row that is shown.
const fn detail(
    key: &'static str,
    name: &'static str,
    kind: Kind,
    decimals: u8,
    get: fn(&Snapshot) -> Option<Value>,
) -> Quantity {
    Quantity { category: Category::Diagnostic, ..main(key, name, kind, decimals, get) }
}

/// A diagnostic row that people switch on when they want it.
const fn hidden(
    key: &'static str,
    name: &'static str,
    kind: Kind,
    decimals: u8,
    get: fn(&Snapshot) -> Option<Value>,
) -> Quantity {
    Quantity { enabled: false, ..detail(key, name, kind, decimals, get) }
}

/// The alarm of a limit of ours.
const fn own(limit: Threshold, get: fn(&Snapshot) -> Option<Value>) -> Quantity {
    detail(limit.key(), limit.text(), Kind::Problem, 0, get)
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
                    Get::Alarm(_) => Alarm::from_name(member).is_some(),
                    _ => member.parse::<usize>().is_ok(),
                })
            }
        })
    }

    const fn intermittent(self, intermittent: fn(&Snapshot) -> bool) -> Self {
        Quantity { intermittent, ..self }
    }
}

fn never(_: &Snapshot) -> bool {
    false
}

fn flow(milliwatts: i64) -> Value {
    Milliwatts(milliwatts.max(0)).into()
}

fn degrees(value: Option<DeciCelsius>) -> Option<Value> {
    value.map(Value::from)
}

fn energy(snapshot: &Snapshot) -> Option<&EnergyTotals> {
    snapshot.derived.energy.as_ref()
}

fn bank(snapshot: &Snapshot) -> Option<&BankSummary> {
    snapshot.derived.bank.as_deref()
}

fn crossed(snapshot: &Snapshot, limit: Threshold) -> Option<Value> {
    Some(Value::Switch(snapshot.derived.thresholds.get(&limit)?.active))
}

/// Members of something, for people: a text is never empty.
fn list(members: impl Iterator<Item: ToString>) -> String {
    let members: Vec<String> = members.map(|member| member.to_string()).collect();
    if members.is_empty() { "none".to_owned() } else { members.join(", ") }
}

fn probe(snapshot: &Snapshot, location: SensorLocation) -> Option<Value> {
    degrees(snapshot.reading.probes.iter().find(|probe| probe.location == location)?.value)
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
    /// Numbers (from 1) of the cells that are being balanced; `None` when the brand does not tell.
    pub fn balancing_cells(&self) -> Option<Vec<usize>> {
        let told = self.reading.cells.iter().any(|cell| cell.balancing.is_some());
        let cells = self.reading.cells.iter().enumerate();
        told.then(|| {
            cells.filter(|(_, cell)| cell.balancing == Some(true)).map(|(i, _)| i + 1).collect()
        })
    }
}

#[cfg(test)]
#[path = "catalog_tests.rs"]
mod tests;
