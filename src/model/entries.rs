//! What the table says about one battery now.

use super::catalog::{CATALOG, Get, Quantity};
use super::snapshot::DeviceState;
use super::value::Value;

/// A stack with more cells than this would flood whoever has not asked for each of them.
const CELLS_SHOWN: usize = 32;

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
    /// The module of a stack that it belongs to, counted from 1.
    pub module: Option<usize>,
    /// Shown without being asked for.
    pub enabled: bool,
}

impl Entry {
    /// Its name where entries of several modules stand side by side.
    pub fn title(&self) -> String {
        match self.module {
            Some(number) => format!("Module {number}: {}", self.name),
            None => self.name.clone(),
        }
    }
}

/// Everything that is known of a battery now, in the order of the table, rounded for the edge.
/// An unknown value has no entry.
pub fn entries(state: &DeviceState) -> Vec<Entry> {
    let mut list = Vec::new();
    let snapshot = state.snapshot.as_deref();
    let flood = snapshot.is_some_and(|snapshot| snapshot.reading.cells.len() > CELLS_SHOWN);
    for quantity in CATALOG {
        let enabled = quantity.enabled && !(flood && matches!(quantity.get, Get::Cell(_)));
        let mut push = |key_part: &str, name_part: &str, module, value: Option<Value>| {
            list.extend(value.map(|value| Entry {
                quantity,
                key: quantity.key.replacen("{}", key_part, 1),
                name: quantity.name.replacen("{}", name_part, 1),
                value: value.rounded(quantity.decimals.into()),
                module,
                enabled,
            }));
        };
        match (quantity.get, snapshot) {
            (Get::Link(get), _) => push("", "", None, get(state)),
            (Get::One(get), Some(snapshot)) => push("", "", None, get(snapshot)),
            (Get::Cell(get) | Get::Probe(get), Some(snapshot)) => {
                for index in 0..snapshot.reading.cells.len().max(snapshot.reading.probes.len()) {
                    let number = (index + 1).to_string();
                    push(&number, &number, None, get(snapshot, index));
                }
            }
            (Get::Module(get), Some(snapshot)) => {
                for index in 0..snapshot.reading.modules.len() {
                    let number = index + 1;
                    push(&number.to_string(), "", Some(number), get(snapshot, index));
                }
            }
            (Get::Alarm(get), Some(snapshot)) => {
                for (alarm, _) in snapshot.reading.alarms.iter() {
                    push(alarm.name(), alarm.text(), None, get(snapshot, alarm));
                }
            }
            (_, None) => {}
        }
    }
    list
}

/// The quantities that this battery will know at times.
pub fn intermittent(state: &DeviceState) -> impl Iterator<Item = &'static Quantity> {
    let snapshot = state.snapshot.as_deref();
    CATALOG.iter().filter(move |row| snapshot.is_some_and(|snapshot| (row.intermittent)(snapshot)))
}
