//! The table of everything that can be published about a battery. Topics, discovery, metrics and
//! the list of keys in the README come from it.

use std::collections::HashMap;
use std::sync::LazyLock;

use Get::{Cell as PerCell, Link, Module as PerModule, One};
use Kind::*;

use super::derived::BankSummary;
use super::device_state::DeviceState;
use super::reading::{Cell, Module, SensorLocation};
use super::snapshot::Snapshot;
use super::thresholds::Threshold;
use super::units::{Millivolts, Milliwatts, Unit};
use super::value::Value;

/// A single quantity, or a family of them (one per cell).
#[derive(Debug)]
pub struct Quantity {
    /// In topics, JSON and metrics; `{}` stands for the member of a family.
    pub key: &'static str,
    /// For people; `{}` as in the key.
    pub name: &'static str,
    pub kind: Kind,
    pub category: Category,
    /// Enabled in Home Assistant by default.
    pub enabled: bool,
    pub get: Get,
    /// Lowest and highest value that any battery can have, in whole units; others are damage.
    pub possible: Option<(i64, i64)>,
}

/// Lowest and highest cell voltage.
type CellRange = Option<(Millivolts, Millivolts)>;

/// Where the values of a row come from.
#[derive(Debug, Clone, Copy)]
pub enum Get {
    One(fn(&Snapshot) -> Option<Value>),
    Cell(fn(&Cell) -> Option<Value>),
    /// The numbered temperature sensors.
    Probe,
    /// The modules of a stack. The second argument is the lowest and the highest cell voltage. In
    /// Home Assistant a module is a device, so the name of the row does not repeat its number.
    Module(fn(&Module, CellRange) -> Option<Value>),
    /// The alarms that the battery reports.
    Alarm,
    Threshold(Threshold),
    /// Known without a good read: about the connection, or from the history.
    Link(fn(&DeviceState) -> Option<Value>),
}

/// Decides unit, precision and the class in Home Assistant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The state of charge.
    Charge,
    Share,
    Voltage,
    Current,
    Power,
    StoredEnergy,
    Energy,
    Capacity,
    Temperature,
    Resistance,
    Duration,
    Signal,
    Remaining,
    Count,
    /// A number that identifies something.
    Number,
    /// One of these words.
    Enum(&'static [&'static str]),
    Text,
    Timestamp,
    Flag,
    /// A flag that is on when something is wrong.
    Problem,
}

impl Kind {
    /// Unit, and at most this many decimal places.
    const fn format(self) -> (Option<&'static str>, u8) {
        match self {
            Charge | Share => (Some("%"), 2),
            Voltage => (Some("V"), 3),
            Current => (Some("A"), 3),
            Power => (Some("W"), 1),
            StoredEnergy => (Some("Wh"), 1),
            Energy => (Some("kWh"), 3),
            Capacity => (Some("Ah"), 3),
            Temperature => (Some("°C"), 1),
            Resistance => (Some("mΩ"), 3),
            Duration => (Some("ms"), 0),
            Signal => (Some("dBm"), 0),
            Remaining => (Some("s"), 0),
            Count | Number | Enum(_) | Text | Timestamp | Flag | Problem => (None, 0),
        }
    }

    /// What rows of this kind have as `possible`, unless they say otherwise.
    const fn possible(self) -> Option<(i64, i64)> {
        match self {
            // Some gauges count a little beyond full.
            Charge => Some((0, 120)),
            // A new battery may have more than its nominal capacity.
            Share => Some((0, 200)),
            // Up to the largest high-voltage stack.
            Voltage => Some((-2, 1500)),
            // 20 kA would melt any terminal.
            Current => Some((-20_000, 20_000)),
            Power => Some((-30_000_000, 30_000_000)),
            StoredEnergy => Some((0, 10_000_000)),
            Energy => Some((0, 1_000_000_000)),
            Capacity => Some((0, 100_000)),
            // No electronics work beyond it. A disconnected sensor reads absolute zero.
            Temperature => Some((-60, 200)),
            Resistance => Some((0, 100_000)),
            Duration | Signal | Remaining | Count | Number | Enum(_) | Text | Timestamp | Flag
            | Problem => None,
        }
    }

    /// In Home Assistant.
    pub fn component(self) -> &'static str {
        if matches!(self, Flag | Problem) { "binary_sensor" } else { "sensor" }
    }

    pub fn unit(self) -> Option<&'static str> {
        self.format().0
    }

    pub fn decimals(self) -> u8 {
        self.format().1
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    Primary,
    Diagnostic,
}

const ACTIVITIES: &[&str] = &["charging", "discharging", "idle"];

/// In the order in which quantities are listed everywhere. With 16 cells at most 45 of them are
/// enabled in Home Assistant (`tests/driver_properties/entities.rs`): those that people look at every
/// day, and the cells. Not what only repeats others: one power in two directions, single temperature
/// sensors beside their extremes, single alarms beside `problem` and the event.
#[rustfmt::skip]
pub static CATALOG: &[Quantity] = &[
    main("soc", "State of charge", Charge, One(|s| value(s.reading.pack.soc))),
    detail("soh", "State of health", Share, One(|s| value(s.reading.pack.soh))),
    main("pack_voltage", "Pack voltage", Voltage, One(|s| value(s.reading.pack.voltage))),
    main("pack_current", "Pack current", Current, One(|s| value(s.reading.pack.current))),
    main("power", "Power", Power, One(|s| value(s.derived.power))),
    extra("charge_power", "Charge power", Power, One(|s| one_way(s.derived.power?.0))).within(0, 30_000_000),
    extra("discharge_power", "Discharge power", Power, One(|s| one_way(-s.derived.power?.0))).within(0, 30_000_000),
    main("remaining_capacity", "Remaining capacity", Capacity, One(|s| value(s.reading.pack.remaining))),
    detail("full_capacity", "Full capacity", Capacity, One(|s| value(s.reading.pack.full))),
    hidden("design_capacity", "Design capacity", Capacity, One(|s| value(s.reading.pack.design))),
    main("remaining_energy", "Remaining energy", StoredEnergy, One(|s| value(s.reading.pack.remaining_energy))),
    main("energy_charged", "Energy charged", Energy, One(|s| Some(s.derived.energy?.charged.kwh()))),
    main("energy_discharged", "Energy discharged", Energy, One(|s| Some(s.derived.energy?.discharged.kwh()))),
    main("time_to_full", "Time to full", Remaining, One(|s| s.derived.times.to_full.map(Value::integer))),
    main("time_to_empty", "Time to empty", Remaining, One(|s| s.derived.times.to_empty.map(Value::integer))),
    detail("cycle_count", "Cycle count", Count, One(|s| s.reading.pack.cycles.map(Value::integer))).within(0, 100_000),
    main("status", "Status", Enum(ACTIVITIES), One(|s| s.derived.activity.map(|it| it.name().to_owned().into()))),
    detail("voltage_status", "Voltage status", Text, One(|s| text(&s.reading.pack.console_status.voltage))),
    detail("current_status", "Current status", Text, One(|s| text(&s.reading.pack.console_status.current))),
    detail("temperature_status", "Temperature status", Text, One(|s| text(&s.reading.pack.console_status.temperature))),
    detail("ambient_temp", "Ambient temperature", Temperature, One(|s| probe(s, SensorLocation::Ambient))),
    detail("mos_temp", "MOSFET temperature", Temperature, One(|s| probe(s, SensorLocation::Mosfet))),
    detail("min_temp", "Minimum temperature", Temperature, One(|s| value(s.derived.min_temp))),
    detail("max_temp", "Maximum temperature", Temperature, One(|s| value(s.derived.max_temp))),
    main("avg_temp", "Average temperature", Temperature, One(|s| value(s.derived.avg_temp))),
    hidden("temp_{}", "Temperature {}", Temperature, Get::Probe),
    main("min_cell_voltage", "Minimum cell voltage", Voltage, One(|s| voltage(s.derived.lowest_cell))).of_cell(),
    main("max_cell_voltage", "Maximum cell voltage", Voltage, One(|s| voltage(s.derived.highest_cell))).of_cell(),
    main("cell_voltage_diff", "Cell voltage difference", Voltage, One(|s| value(s.derived.cell_voltage_diff()))),
    hidden("min_cell", "Lowest cell", Number, One(|s| number(s.derived.lowest_cell))),
    hidden("max_cell", "Highest cell", Number, One(|s| number(s.derived.highest_cell))),
    hidden("cell_spread_full", "Cell spread at full", Voltage, Link(|d| value(d.health.spread_full))),
    hidden("cell_spread_rest", "Cell spread at rest", Voltage, Link(|d| value(d.health.spread_rest))),
    hidden("weakest_cell", "Weakest cell", Number, Link(|d| d.health.weakest_cell.map(Value::integer))),
    hidden("estimated_capacity", "Estimated capacity", Capacity, Link(|d| value(d.health.capacity))),
    detail("min_cell_battery", "Battery with the lowest cell", Text, One(|s| text(&bank(s)?.lowest_in))),
    detail("max_cell_battery", "Battery with the highest cell", Text, One(|s| text(&bank(s)?.highest_in))),
    detail("pack_voltage_spread", "Spread between pack voltages", Voltage, One(|s| value(bank(s)?.voltage_spread))),
    detail("soc_spread", "Spread between states of charge", Share, One(|s| value(bank(s)?.soc_spread))),
    detail("members_missing", "Members missing", Text, One(|s| value(Some(list(bank(s)?.missing.iter()))))),
    detail("cell_{}_voltage", "Cell {} voltage", Voltage, PerCell(|c| value(c.voltage))).of_cell(),
    hidden("cell_{}_temp", "Cell {} temperature", Temperature, PerCell(|c| value(c.temperature))),
    hidden("cell_{}_resistance", "Cell {} resistance", Resistance, PerCell(|c| value(c.resistance))),
    hidden("cell_{}_voltage_status", "Cell {} voltage status", Text, PerCell(|c| text(&c.voltage_status))),
    hidden("cell_{}_temp_status", "Cell {} temperature status", Text, PerCell(|c| text(&c.temperature_status))),
    detail("module_{}_serial_number", "Serial number", Text, PerModule(|module, _| text(&module.serial))),
    main("module_{}_min_cell_voltage", "Minimum cell voltage", Voltage, PerModule(|_, range| value(range.map(|range| range.0)))).of_cell(),
    main("module_{}_max_cell_voltage", "Maximum cell voltage", Voltage, PerModule(|_, range| value(range.map(|range| range.1)))).of_cell(),
    main("module_{}_cell_voltage_diff", "Cell voltage difference", Voltage, PerModule(|_, range| value(range.map(difference)))),
    hidden("charge_voltage_limit", "Charge voltage limit", Voltage, One(|s| value(s.reading.limits.charge_voltage))),
    hidden("discharge_voltage_limit", "Discharge voltage limit", Voltage, One(|s| value(s.reading.limits.discharge_voltage))),
    hidden("charge_current_limit", "Charge current limit", Current, One(|s| value(s.reading.limits.charge_current))),
    hidden("discharge_current_limit", "Discharge current limit", Current, One(|s| value(s.reading.limits.discharge_current))),
    hidden("cell_voltage_upper_limit", "Upper limit of the cell voltage", Voltage, One(|s| value(s.reading.limits.cell_upper))).of_cell(),
    hidden("cell_voltage_lower_limit", "Lower limit of the cell voltage", Voltage, One(|s| value(s.reading.limits.cell_lower))).of_cell(),
    hidden("pack_voltage_upper_limit", "Upper limit of the pack voltage", Voltage, One(|s| value(s.reading.limits.pack_upper))),
    hidden("pack_voltage_lower_limit", "Lower limit of the pack voltage", Voltage, One(|s| value(s.reading.limits.pack_lower))),
    detail("charging_enabled", "Charging enabled", Flag, One(|s| value(s.reading.switches.charging))),
    detail("discharging_enabled", "Discharging enabled", Flag, One(|s| value(s.reading.switches.discharging))),
    detail("balancing_enabled", "Balancing enabled", Flag, One(|s| value(s.reading.switches.balancing))),
    detail("balancing", "Balancing", Flag, One(|s| value(s.is_balancing()))),
    hidden("balancing_cells", "Balancing cells", Text, One(|s| value(s.balancing_cells().map(|cells| list(cells.iter()))))),
    Quantity { category: Category::Primary, ..detail("problem", "Problem", Problem, One(|s| value(s.derived.problem))) },
    hidden("error_code", "Error code", Number, One(|s| s.reading.pack.error_code.map(Value::integer))),
    hidden("alarm_{}", "{}", Problem, Get::Alarm),
    // No family, so that a threshold whose value was not read this time keeps its entity.
    threshold("alarm_limit_cell_low", Threshold::CellLow),
    threshold("alarm_limit_cell_high", Threshold::CellHigh),
    threshold("alarm_limit_cell_delta", Threshold::CellDelta),
    threshold("alarm_limit_temp_high", Threshold::TempHigh),
    threshold("alarm_limit_temp_low", Threshold::TempLow),
    threshold("alarm_limit_soc_low", Threshold::SocLow),
    hidden("last_update", "Last update", Timestamp, One(|s| value(Some(s.taken.iso8601())))),
    hidden("rssi", "Signal strength", Signal, Link(|d| d.rssi.map(Value::integer))),
    // A bank is not read.
    hidden("read_duration", "Read duration", Duration, One(|s| s.derived.bank.is_none().then(|| Value::integer(s.took_ms)))),
    hidden("read_errors", "Read errors", Count, Link(|d| Some(Value::integer(d.counters.errors)))),
    hidden("readings_rejected", "Readings rejected", Count, Link(|d| Some(Value::integer(d.counters.rejected)))),
];

const fn main(key: &'static str, name: &'static str, kind: Kind, get: Get) -> Quantity {
    let possible = kind.possible();
    Quantity { key, name, kind, category: Category::Primary, enabled: true, get, possible }
}

/// A main value that follows from others.
const fn extra(key: &'static str, name: &'static str, kind: Kind, get: Get) -> Quantity {
    Quantity { enabled: false, ..main(key, name, kind, get) }
}

const fn detail(key: &'static str, name: &'static str, kind: Kind, get: Get) -> Quantity {
    Quantity { category: Category::Diagnostic, ..main(key, name, kind, get) }
}

const fn hidden(key: &'static str, name: &'static str, kind: Kind, get: Get) -> Quantity {
    Quantity { enabled: false, ..detail(key, name, kind, get) }
}

const fn threshold(key: &'static str, threshold: Threshold) -> Quantity {
    hidden(key, threshold.text(), Problem, Get::Threshold(threshold))
}

impl Quantity {
    const fn within(self, low: i64, high: i64) -> Quantity {
        Quantity { possible: Some((low, high)), ..self }
    }

    /// From a reversed cell to the 16 V of a block of eight lead cells that is measured as one.
    const fn of_cell(self) -> Quantity {
        self.within(-2, 16)
    }

    /// Whether any battery can have this value.
    pub fn is_possible<T: Unit>(&self, value: T) -> bool {
        let unit = 10_i64.pow(T::SCALE);
        let fits = |(low, high)| (low * unit..=high * unit).contains(&value.to_i64());
        self.possible.is_none_or(fits)
    }

    /// The row with this key, in which `{}` stands for the member.
    pub fn row(key: &str) -> Option<&'static Quantity> {
        static ROWS: LazyLock<HashMap<&str, &Quantity>> =
            LazyLock::new(|| CATALOG.iter().map(|quantity| (quantity.key, quantity)).collect());
        ROWS.get(key).copied()
    }
}

fn value(value: Option<impl Into<Value>>) -> Option<Value> {
    value.map(Into::into)
}

fn text(text: &Option<String>) -> Option<Value> {
    text.clone().map(Value::Text)
}

/// The power in one direction, never negative.
fn one_way(milliwatts: i64) -> Option<Value> {
    Some(Milliwatts(milliwatts.max(0)).into())
}

fn voltage(cell: Option<(usize, Millivolts)>) -> Option<Value> {
    Some(cell?.1.into())
}

fn number(cell: Option<(usize, Millivolts)>) -> Option<Value> {
    Some(Value::integer(cell?.0))
}

fn difference((low, high): (Millivolts, Millivolts)) -> Millivolts {
    Millivolts(high.0.saturating_sub(low.0))
}

fn probe(snapshot: &Snapshot, location: SensorLocation) -> Option<Value> {
    value(snapshot.reading.probes_at(location).next()?)
}

fn bank(snapshot: &Snapshot) -> Option<&BankSummary> {
    snapshot.derived.bank.as_deref()
}

/// A list for people, which is never empty.
fn list(members: impl Iterator<Item: ToString>) -> String {
    let members: Vec<String> = members.map(|member| member.to_string()).collect();
    if members.is_empty() { "none".to_owned() } else { members.join(", ") }
}

#[cfg(test)]
#[path = "catalog_tests.rs"]
mod tests;
