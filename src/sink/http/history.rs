//! The history as JSON.

use std::collections::HashMap;
use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query as Parameters, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::task::spawn_blocking;

use super::Shared;
use super::api::refuse;
use crate::clock;
use crate::history::{Answer, History, Query, Spread};
use crate::model::catalog::{Quantity, entries};
use crate::model::units::Millis;
use crate::model::{DeviceState, Value};
use crate::raw::raw;

/// How far back the flows of the gateway look, and how close their points are.
const GATEWAY_SPAN: Duration = Duration::from_secs(48 * 3600);
const GATEWAY_STEP: Duration = Duration::from_secs(60);

/// The short names that those flows read, and the keys behind them.
const GATEWAY_NAMES: &[(&str, &str)] = &[
    ("v", "pack_voltage"),
    ("a", "pack_current"),
    ("soc", "soc"),
    ("t1", "temp_1"),
    ("t2", "temp_2"),
    ("tmos", "mos_temp"),
    ("dv", "cell_voltage_diff"),
    ("p", "power"),
];

/// `/api/devices/<id>/history?hours=48&keys=soc,power&step=300`.
pub(super) async fn history(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    Parameters(parameters): Parameters<HashMap<String, String>>,
) -> Response {
    let state = match shared.state(&id) {
        Ok(state) => state,
        Err(refusal) => return refusal,
    };
    let query = match query(&parameters, shared.history.span(), clock::now()) {
        Ok(query) => query,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &error),
    };
    answer(shared.history, state, query, |state, answer| Columns { state, answer }.to_string())
        .await
}

/// The newest reading, whole and in the short names of the gateway.
pub(super) async fn latest(
    State(shared): State<Shared>,
    Path((brand, id)): Path<(String, String)>,
) -> Response {
    match shared.state_of(&brand, &id) {
        Ok(state) => Json(json!({"raw": raw(&state), "metrics": metrics(&state)})).into_response(),
        Err(refusal) => refusal,
    }
}

/// Two days in the short names of the gateway.
pub(super) async fn history48h(
    State(shared): State<Shared>,
    Path((brand, id)): Path<(String, String)>,
) -> Response {
    let state = match shared.state_of(&brand, &id) {
        Ok(state) => state,
        Err(refusal) => return refusal,
    };
    let to = clock::now();
    let from = Millis(to.0.saturating_sub(millis(GATEWAY_SPAN)));
    let keys = GATEWAY_NAMES.iter().map(|(_, key)| (*key).to_owned()).collect();
    let query = Query { from, to, step: Some(GATEWAY_STEP), keys: Some(keys) };
    answer(shared.history, state, query, |_, answer| Rows { answer }.to_string()).await
}

impl Shared {
    #[allow(clippy::result_large_err, reason = "the error is the answer")]
    fn state_of(&self, brand: &str, id: &str) -> Result<DeviceState, Response> {
        let state = self.state(id)?;
        if state.profile.brand == brand {
            return Ok(state);
        }
        let error = format!("{id} is of the type {}, not {brand}", state.profile.brand);
        Err(refuse(StatusCode::NOT_FOUND, &error))
    }
}

/// Days take a while on a small machine, and the lines are not to wait for it.
async fn answer(
    history: History,
    state: DeviceState,
    query: Query,
    text: impl FnOnce(&DeviceState, &Answer) -> String + Send + 'static,
) -> Response {
    let work = move || {
        let answer = history.answer(&state.profile.id, &query)?;
        Some(text(&state, &answer))
    };
    match spawn_blocking(work).await {
        Ok(Some(text)) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        _ => refuse(StatusCode::INTERNAL_SERVER_ERROR, "the history cannot be read"),
    }
}

/// What the parameters ask for, or what is wrong with them.
fn query(
    parameters: &HashMap<String, String>,
    span: Duration,
    to: Millis,
) -> Result<Query, String> {
    let mut query = Query { from: Millis(0), to, step: None, keys: None };
    let mut back = span;
    for (name, text) in parameters {
        match name.as_str() {
            "hours" => {
                let hours: Option<f64> =
                    text.parse().ok().filter(|h| (0.01..=10_000.0).contains(h));
                let hours =
                    hours.ok_or_else(|| format!("hours is a number like 48, not {text}"))?;
                back = Duration::from_secs_f64(hours * 3600.0).min(span);
            }
            "step" => {
                let step: Option<u64> = text.parse().ok().filter(|s| (1..=86_400).contains(s));
                let step = step
                    .ok_or_else(|| format!("step is in whole seconds, 1 to 86400, not {text}"))?;
                query.step = Some(Duration::from_secs(step));
            }
            "keys" => {
                let keys: Vec<String> = text.split(',').map(|key| key.trim().to_owned()).collect();
                if let Some(key) = keys.iter().find(|key| Quantity::of(key).is_none()) {
                    return Err(format!(
                        "no value has the key {key:?}; keys are like soc,pack_voltage"
                    ));
                }
                query.keys = Some(keys);
            }
            _ => return Err(format!("{name} is not known; there are hours, keys and step")),
        }
    }
    query.from = Millis(to.0.saturating_sub(millis(back)));
    Ok(query)
}

/// One number in JSON.
struct Number {
    value: Option<i64>,
    decimals: u32,
}

impl Display for Number {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.value {
            Some(value) => Value::decimal(value, self.decimals).fmt(f),
            None => f.write_str("null"),
        }
    }
}

/// One of the three numbers of a point.
type Part = fn(&Spread) -> i64;

/// Written number by number, because a tree of them would take many times their room.
struct Columns<'a> {
    state: &'a DeviceState,
    answer: &'a Answer,
}

impl Display for Columns<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Answer { step, times, columns } = self.answer;
        let (id, seconds) = (&self.state.profile.id, step.as_secs_f64());
        write!(f, "{{\"id\":\"{id}\",\"step\":{seconds},\"times\":")?;
        list(
            f,
            times.iter().map(|time| Number { value: i64::try_from(time.0).ok(), decimals: 3 }),
        )?;
        f.write_str(",\"series\":{")?;
        for (number, (series, values)) in columns.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            write!(f, "{comma}\"{}\":{{\"unit\":{}", series.key, json!(series.unit))?;
            let parts: [(&str, Part); 3] = [
                ("mean", |spread| spread.mean),
                ("min", |spread| spread.low),
                ("max", |spread| spread.high),
            ];
            for (name, part) in parts {
                write!(f, ",\"{name}\":")?;
                let number = |value: &Option<Spread>| Number {
                    value: value.as_ref().map(part),
                    decimals: series.decimals,
                };
                list(f, values.iter().map(number))?;
            }
            f.write_str("}")?;
        }
        f.write_str("}}")
    }
}

fn list(f: &mut Formatter<'_>, numbers: impl Iterator<Item = Number>) -> fmt::Result {
    f.write_str("[")?;
    for (place, number) in numbers.enumerate() {
        let comma = if place == 0 { "" } else { "," };
        write!(f, "{comma}{number}")?;
    }
    f.write_str("]")
}

/// `[{"ts": 1771097625510, "v": 53.02, ...}, ...]`, as the gateway's flow kept it.
struct Rows<'a> {
    answer: &'a Answer,
}

impl Display for Rows<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let column = |key: &str| self.answer.columns.iter().find(|(series, _)| series.key == key);
        let columns: Vec<_> =
            GATEWAY_NAMES.iter().map(|(name, key)| (*name, column(key))).collect();
        f.write_str("[")?;
        for (row, time) in self.answer.times.iter().enumerate() {
            let comma = if row == 0 { "" } else { "," };
            write!(f, "{comma}{{\"ts\":{}", time.0)?;
            for (name, column) in &columns {
                let value = column.and_then(|(series, values)| {
                    let value = values.get(row).copied().flatten()?;
                    Some(Value::decimal(value.mean, series.decimals))
                });
                write!(f, ",\"{name}\":{}", gateway_number(name, value))?;
            }
            f.write_str("}")?;
        }
        f.write_str("]")
    }
}

/// Those flows know the state of charge as a whole number, and an unknown value as `null`.
fn gateway_number(name: &str, value: Option<Value>) -> serde_json::Value {
    match (name, value.map(|value| value.to_json())) {
        ("soc", Some(value)) => json!(value.as_f64().map(|soc| soc.round() as i64)),
        (_, value) => json!(value),
    }
}

fn metrics(state: &DeviceState) -> serde_json::Value {
    let Some(snapshot) = &state.snapshot else { return serde_json::Value::Null };
    let entries = entries(state);
    let value = |key: &str| entries.iter().find(|entry| entry.key == key).map(|e| e.value.clone());
    let known = GATEWAY_NAMES.iter().map(|(name, key)| (*name, gateway_number(name, value(key))));
    std::iter::once(("ts", json!(snapshot.taken.0))).chain(known).collect()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
