//! The values of the catalog for one battery now.

use super::catalog::{CATALOG, Get, Quantity};
use super::device_state::DeviceState;
use super::reading::SensorLocation;
use super::value::Value;

/// With more cells than this, the values of single cells are disabled by default.
const MAX_ENABLED_CELLS: usize = 32;

/// One published value: a row of the catalog, or one member of a family.
#[derive(Debug, Clone)]
pub struct Entry {
    pub quantity: &'static Quantity,
    /// With the member filled in: `cell_3_voltage`.
    pub key: String,
    /// With the member filled in.
    pub name: String,
    pub value: Value,
    /// Number (from 1) of the module of a stack that it belongs to.
    pub module: Option<usize>,
    pub enabled: bool,
}

impl Entry {
    /// The name in a list of several modules.
    pub fn title(&self) -> String {
        match self.module {
            Some(number) => format!("Module {number}: {}", self.name),
            None => self.name.clone(),
        }
    }
}

/// All known values in the order of the catalog, rounded. An unknown value has no entry.
pub fn entries(state: &DeviceState) -> Vec<Entry> {
    let mut list = Vec::new();
    let snapshot = state.snapshot.as_deref();
    let reading = snapshot.map(|snapshot| &snapshot.reading);
    let many_cells = reading.is_some_and(|reading| reading.cells.len() > MAX_ENABLED_CELLS);
    // Its values are those of the pack.
    let one_module = reading.is_some_and(|reading| reading.modules.len() == 1);
    for quantity in CATALOG {
        let is_redundant = match quantity.get {
            Get::Cell(_) => many_cells,
            Get::Module(_) => one_module,
            _ => false,
        };
        let enabled = quantity.enabled && !is_redundant;
        let mut push = |key_part: &str, name_part: &str, module, value: Option<Value>| {
            list.extend(value.map(|value| Entry {
                quantity,
                key: quantity.key.replacen("{}", key_part, 1),
                name: quantity.name.replacen("{}", name_part, 1),
                value: value.rounded(quantity.kind.decimals().into()),
                module,
                enabled,
            }));
        };
        match (quantity.get, snapshot) {
            (Get::Link(get), _) => push("", "", None, get(state)),
            (_, None) => {}
            (Get::One(get), Some(snapshot)) => push("", "", None, get(snapshot)),
            (Get::Cell(get), Some(snapshot)) => {
                for (number, cell) in (1..).zip(&snapshot.reading.cells) {
                    let number = usize::to_string(&number);
                    push(&number, &number, None, get(cell));
                }
            }
            (Get::Probe, Some(snapshot)) => {
                let temperatures = snapshot.reading.probes_at(SensorLocation::Cells);
                for (number, temperature) in (1..).zip(temperatures) {
                    let number = usize::to_string(&number);
                    push(&number, &number, None, temperature.map(Value::from));
                }
            }
            (Get::Module(get), Some(snapshot)) => {
                let modules = snapshot.reading.modules.iter().zip(&snapshot.derived.modules);
                for (number, (module, range)) in (1..).zip(modules) {
                    push(&usize::to_string(&number), "", Some(number), get(module, *range));
                }
            }
            (Get::Threshold(threshold), Some(snapshot)) => {
                let status = snapshot.derived.thresholds.get(&threshold);
                push("", "", None, status.map(|status| status.active.into()));
            }
            (Get::Alarm, Some(snapshot)) => {
                for (alarm, active) in snapshot.reading.alarms.iter() {
                    push(alarm.name(), alarm.text(), None, Some(active.into()));
                }
            }
        }
    }
    list
}

/// Quantities that depend on the direction of the current. They are announced before they have a
/// value, so that no entity comes and goes with the current.
pub fn intermittent(state: &DeviceState) -> impl Iterator<Item = &'static Quantity> {
    let pack = state.snapshot.as_deref().map(|snapshot| &snapshot.reading.pack);
    let pack = pack.filter(|pack| pack.remaining.is_some() && pack.current.is_some());
    let (to_empty, to_full) = (pack.is_some(), pack.is_some_and(|pack| pack.full.is_some()));
    CATALOG.iter().filter(move |quantity| match quantity.key {
        "time_to_full" => to_full,
        "time_to_empty" => to_empty,
        _ => false,
    })
}

#[cfg(test)]
#[path = "entries_tests.rs"]
mod tests;
