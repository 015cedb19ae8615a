//! Readings and history with the short names that flows of a Node-RED gateway use.

use std::collections::HashMap;
use std::iter;

use serde_json::{Value as Json, json};

use crate::history::Answer;
use crate::model::{DeviceState, Millis, Value, entries};
use crate::raw::raw;

/// The short names and their keys.
const NAMES: &[(&str, &str)] = &[
    ("v", "pack_voltage"),
    ("a", "pack_current"),
    ("soc", "soc"),
    ("t1", "temp_1"),
    ("t2", "temp_2"),
    ("tmos", "mos_temp"),
    ("dv", "cell_voltage_diff"),
    ("p", "power"),
];

/// The keys that have a short name.
pub(super) fn keys() -> impl Iterator<Item = &'static str> {
    NAMES.iter().map(|(_, key)| *key)
}

/// The newest reading, complete and with the short names.
pub(super) fn latest(state: &DeviceState) -> Json {
    json!({"raw": raw(state), "metrics": newest_row(state)})
}

/// A list of [`row_at`].
pub(super) fn rows(answer: &Answer) -> String {
    let columns = answer.columns.iter().map(|column| (column.0.to_string(), column));
    let columns: HashMap<_, _> = columns.collect();
    let row = |(index, time): (usize, &Millis)| {
        let value = |key: &str| {
            let (series, points) = columns.get(key)?;
            let point = points.get(index)?.as_ref()?;
            Some(Value::decimal(point.mean, series.quantity().kind.decimals().into()))
        };
        row_at(*time, value).to_string()
    };
    let rows: Vec<String> = answer.times.iter().enumerate().map(row).collect();
    format!("[{}]", rows.join(","))
}

/// The row of the newest reading; null before the first one.
fn newest_row(state: &DeviceState) -> Option<Json> {
    let values = entries(state).into_iter().map(|entry| (entry.key.to_string(), entry.value));
    let values: HashMap<_, _> = values.collect();
    Some(row_at(state.snapshot.as_ref()?.taken, |key| values.get(key).cloned()))
}

/// `{"ts": 1771097625510, "v": 53.02, ...}`, as the gateway's flow stored it: the state of charge as
/// a whole number, and null for an unknown value.
fn row_at(time: Millis, value: impl Fn(&str) -> Option<Value>) -> Json {
    let number = |key: &str| {
        let number = value(key)?.to_json();
        if key == "soc" { Some(json!(number.as_f64()?.round() as i64)) } else { Some(number) }
    };
    let fields = NAMES.iter().map(|(name, key)| (*name, json!(number(key))));
    iter::once(("ts", json!(time.0))).chain(fields).collect()
}
