//! The values of the catalog for one battery now.

use std::fmt;

use super::alarm::Alarm;
use super::catalog::{CATALOG, Get, Quantity};
use super::device_state::DeviceState;
use super::reading::SensorLocation;
use super::value::Value;

/// With more cells than this, the values of single cells are disabled by default.
const MAX_ENABLED_CELLS: usize = 32;

/// Identifies a value of a battery: a row of the catalog, or one member of a family. Its text is the
/// key in topics and JSON: `cell_3_voltage`. The order is that of the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryKey {
    row: u16,
    member: Member,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Member {
    /// The row is no family.
    Only,
    /// From 1.
    Number(u16),
    Alarm(Alarm),
}

impl EntryKey {
    /// The reverse of its text.
    pub fn parse(key: &str) -> Option<EntryKey> {
        (0..).zip(CATALOG).find_map(|(row, quantity)| {
            let member = match quantity.key.split_once("{}") {
                None => (quantity.key == key).then_some(Member::Only)?,
                Some((before, after)) => {
                    let member = key.strip_prefix(before)?.strip_suffix(after)?;
                    match quantity.get {
                        Get::Alarm => Member::Alarm(Alarm::from_name(member)?),
                        _ => Member::Number(member.parse().ok()?),
                    }
                }
            };
            Some(EntryKey { row, member })
        })
    }

    /// A quantity that is no family.
    fn single(key: &str) -> Option<EntryKey> {
        let row = CATALOG.iter().position(|quantity| quantity.key == key)?;
        Some(EntryKey { row: u16::try_from(row).ok()?, member: Member::Only })
    }

    /// Index in the catalog, which the members of a family share.
    pub fn row(self) -> usize {
        self.row.into()
    }

    pub fn quantity(self) -> &'static Quantity {
        // A key is made from a row of the catalog.
        &CATALOG[self.row()]
    }

    /// For people, with the member filled in.
    pub fn name(self) -> String {
        let name = self.quantity().name;
        match self.member {
            Member::Number(number) => name.replacen("{}", &number.to_string(), 1),
            Member::Alarm(alarm) => name.replacen("{}", alarm.text(), 1),
            Member::Only => name.to_owned(),
        }
    }
}

impl fmt::Display for EntryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.quantity().key;
        // One character is found faster than `{}`, and a key is written for each published value.
        let (before, after) = key.split_once('{').unwrap_or((key, ""));
        f.write_str(before)?;
        match self.member {
            Member::Only => {}
            Member::Number(number) => number.fmt(f)?,
            Member::Alarm(alarm) => f.write_str(alarm.name())?,
        }
        f.write_str(after.strip_prefix('}').unwrap_or(after))
    }
}

#[derive(Debug, Clone)]
pub struct Entry {
    pub key: EntryKey,
    pub value: Value,
    /// Number (from 1) of the module of a stack that it belongs to.
    pub module: Option<usize>,
    pub enabled: bool,
}

impl Entry {
    pub fn quantity(&self) -> &'static Quantity {
        self.key.quantity()
    }

    /// The name in a list of several modules.
    pub fn title(&self) -> String {
        match self.module {
            Some(number) => format!("Module {number}: {}", self.key.name()),
            None => self.key.name(),
        }
    }
}

/// All known values in the order of the catalog, rounded. An unknown value has no entry.
pub fn entries(state: &DeviceState) -> Vec<Entry> {
    let mut list = Vec::with_capacity(CATALOG.len());
    let snapshot = state.snapshot.as_deref();
    let reading = snapshot.map(|snapshot| &snapshot.reading);
    let many_cells = reading.is_some_and(|reading| reading.cells.len() > MAX_ENABLED_CELLS);
    // Its values are those of the pack.
    let one_module = reading.is_some_and(|reading| reading.modules.len() == 1);
    for (row, quantity) in (0..).zip(CATALOG) {
        let is_redundant = match quantity.get {
            Get::Cell(_) => many_cells,
            Get::Module(_) => one_module,
            _ => false,
        };
        let enabled = quantity.enabled && !is_redundant;
        let mut push = |member, module, value: Option<Value>| {
            let key = EntryKey { row, member };
            let rounded = |value: Value| value.rounded(quantity.kind.decimals().into());
            list.extend(value.map(|value| Entry { key, value: rounded(value), module, enabled }));
        };
        match (quantity.get, snapshot) {
            (Get::Link(get), _) => push(Member::Only, None, get(state)),
            (_, None) => {}
            (Get::One(get), Some(snapshot)) => push(Member::Only, None, get(snapshot)),
            (Get::Cell(get), Some(snapshot)) => {
                for (number, cell) in (1..).zip(&snapshot.reading.cells) {
                    push(Member::Number(number), None, get(cell));
                }
            }
            (Get::Probe, Some(snapshot)) => {
                let temperatures = snapshot.reading.probes_at(SensorLocation::Cells);
                for (number, temperature) in (1..).zip(temperatures) {
                    push(Member::Number(number), None, temperature.map(Value::from));
                }
            }
            (Get::Module(get), Some(snapshot)) => {
                let modules = snapshot.reading.modules.iter().zip(&snapshot.derived.modules);
                for (number, (module, range)) in (1..).zip(modules) {
                    push(Member::Number(number), Some(number.into()), get(module, *range));
                }
            }
            (Get::Threshold(threshold), Some(snapshot)) => {
                let status = snapshot.derived.thresholds.get(&threshold);
                push(Member::Only, None, status.map(|status| status.active.into()));
            }
            (Get::Alarm, Some(snapshot)) => {
                for (alarm, active) in snapshot.reading.alarms.iter() {
                    push(Member::Alarm(alarm), None, Some(active.into()));
                }
            }
        }
    }
    list
}

/// Quantities that depend on the direction of the current. They are announced before they have a
/// value, so that no entity comes and goes with the current.
pub fn intermittent(state: &DeviceState) -> impl Iterator<Item = EntryKey> {
    let pack = state.snapshot.as_deref().map(|snapshot| &snapshot.reading.pack);
    let pack = pack.filter(|pack| pack.remaining.is_some() && pack.current.is_some());
    let (to_empty, to_full) = (pack.is_some(), pack.is_some_and(|pack| pack.full.is_some()));
    let keys = [("time_to_full", to_full), ("time_to_empty", to_empty)];
    keys.into_iter().filter(|(_, known)| *known).filter_map(|(key, _)| EntryKey::single(key))
}

#[cfg(test)]
#[path = "entries_tests.rs"]
mod tests;
