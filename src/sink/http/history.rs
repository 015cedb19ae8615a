//! The history as JSON.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use axum::extract::{Path, Query as Parameters, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::task::spawn_blocking;

use super::error::ApiError;
use super::texts::{Form, detached};
use super::{AppState, gateway};
use crate::clock;
use crate::history::{Answer, History, Query, Spread};
use crate::model::units::millis;
use crate::model::{DeviceId, DeviceState, EntryKey, Millis, Value};

/// Range and resolution that flows of the gateway expect.
const GATEWAY_RANGE: Duration = Duration::from_secs(48 * 3600);
const GATEWAY_STEP: Duration = Duration::from_secs(60);

/// Renders an answer in a thread of its own. `None`: it cannot be read.
type Render = Box<dyn FnOnce(&AppState) -> Option<String> + Send>;

/// One list of values per key: `/api/devices/<id>/history?hours=48&keys=soc,power&step=300`.
pub(super) async fn history(
    State(app): State<AppState>,
    Path(id): Path<String>,
    Parameters(parameters): Parameters<HashMap<String, String>>,
) -> Result<Response, ApiError> {
    let state = app.device_state(&id)?;
    let query = parse_query(&parameters, &app.history, clock::now())
        .map_err(|error| ApiError(StatusCode::BAD_REQUEST, error))?;
    app.respond(state, query, columns).await
}

/// The same as a table: `/api/devices/<id>/history.csv?from=1796000000&to=1796086400&keys=soc`.
pub(super) async fn csv(
    app: State<AppState>,
    id: Path<String>,
    parameters: Parameters<HashMap<String, String>>,
) -> Result<Response, ApiError> {
    let state = app.device_state(&id)?;
    let query = parse_query(&parameters, &app.history, clock::now())
        .map_err(|error| ApiError(StatusCode::BAD_REQUEST, error))?;
    let State(app) = app;
    let mut response = app.respond(state, query, |_, answer| table(answer)).await?;
    let content_type = HeaderValue::from_static("text/csv; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    Ok(response)
}

/// The newest reading, complete and with the gateway's short names.
pub(super) async fn latest(
    State(app): State<AppState>,
    Path((brand, id)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    app.device_state_of(&brand, &id)?;
    app.battery(&id, Form::Latest).await
}

/// Two days with the gateway's short names.
pub(super) async fn history48h(
    State(app): State<AppState>,
    Path((brand, id)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let state = app.device_state_of(&brand, &id)?;
    let to = clock::now();
    let keys = gateway::keys().filter_map(EntryKey::parse).collect();
    let query =
        Query { from: to.before(GATEWAY_RANGE), to, step: Some(GATEWAY_STEP), keys: Some(keys) };
    app.respond(state, query, |_, answer| gateway::rows(answer)).await
}

impl AppState {
    fn device_state_of(&self, brand: &str, id: &str) -> Result<DeviceState, ApiError> {
        let state = self.device_state(id)?;
        if state.profile.brand == brand {
            return Ok(state);
        }
        let error = format!("{id} is of the type {}, not {brand}", state.profile.brand);
        Err(ApiError(StatusCode::NOT_FOUND, error))
    }

    async fn respond(
        self,
        state: DeviceState,
        query: Query,
        to_json: fn(&DeviceId, &Answer) -> String,
    ) -> Result<Response, ApiError> {
        let answer = move |app: &AppState| {
            let id = &state.profile.id;
            Some(to_json(id, &app.history.answer(id, &query)?))
        };
        self.render(Box::new(answer)).await
    }

    /// Answering takes a while on a small machine, and must not block the other tasks.
    pub(super) async fn render(self, render: Render) -> Result<Response, ApiError> {
        let permit = self.query_permits.clone().acquire_owned().await;
        let answer = move || (render(&self).map(|text| detached(&text)), permit);
        // The permit is returned when the thread has ended its work, so that the next query reuses it.
        let answered = spawn_blocking(answer).await;
        let text = answered.ok().and_then(|(text, _permit)| text).ok_or_else(|| {
            ApiError(StatusCode::INTERNAL_SERVER_ERROR, "the history cannot be read".to_owned())
        })?;
        Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
    }
}

fn parse_query(
    parameters: &HashMap<String, String>,
    history: &History,
    now: Millis,
) -> Result<Query, String> {
    let (from, to) = (now.before(history.span), now);
    let mut query = Query { from, to, step: None, keys: None };
    for (name, text) in parameters {
        match name.as_str() {
            "hours" => {
                let hours = parse_within(text, 0.01..=10_000.0)
                    .ok_or_else(|| format!("hours is a number like 48, not {text}"))?;
                let range = Duration::from_secs_f64(hours * 3600.0).min(history.range());
                query.from = now.before(range);
            }
            "step" => {
                let step = parse_within(text, 1..=86_400)
                    .ok_or_else(|| format!("step is in whole seconds, 1 to 86400, not {text}"))?;
                query.step = Some(Duration::from_secs(step));
            }
            "keys" => {
                let keys =
                    text.split(',').map(str::trim).map(parse_key).collect::<Result<_, _>>()?;
                query.keys = Some(keys);
            }
            "from" | "to" => {
                let seconds = parse_within(text, 0.0..=1e11).ok_or_else(|| {
                    format!("{name} is in seconds since 1970, like 1796000000, not {text}")
                })?;
                let time = Millis(millis(Duration::from_secs_f64(seconds)));
                match name.as_str() {
                    "from" => query.from = time.max(now.before(history.range())),
                    _ => query.to = time,
                }
            }
            _ => {
                return Err(format!(
                    "unknown parameter {name}; there are hours, from, to, keys and step"
                ));
            }
        }
    }
    if parameters.contains_key("from") && parameters.contains_key("hours") {
        return Err("write hours or from, not both".to_owned());
    }
    Ok(query)
}

pub(super) fn parse_within<T: FromStr + PartialOrd>(
    text: &str,
    range: RangeInclusive<T>,
) -> Option<T> {
    text.parse().ok().filter(|number| range.contains(number))
}

/// `{"id": ..., "step": 300, "oldest": ..., "times": [...], "series": {"soc": {"unit": "%", "mean": [...], ...}}}`.
fn columns(id: &DeviceId, answer: &Answer) -> String {
    let seconds = |time: &Millis| Some((i64::try_from(time.0).ok()?, 3));
    let times = json_list(answer.times.iter().map(seconds));
    let oldest = json_list(answer.oldest.iter().map(seconds));
    let oldest = if oldest == "[]" { "null" } else { oldest.trim_matches(['[', ']']) };
    let series = answer.columns.iter().map(|(series, points)| {
        let numbers = |number: fn(&Spread) -> i64| {
            let points = points.iter().map(Option::as_ref);
            json_list(points.map(|point| Some((number(point?), decimals(*series)))))
        };
        let [mean, min, max] =
            [numbers(|point| point.mean), numbers(|point| point.low), numbers(|point| point.high)];
        let (key, unit) = (series.to_string(), json!(series.quantity().kind.unit()));
        format!("\"{key}\":{{\"unit\":{unit},\"mean\":{mean},\"min\":{min},\"max\":{max}}}")
    });
    let (step, series) = (answer.step.as_secs_f64(), series.collect::<Vec<_>>().join(","));
    format!(
        "{{\"id\":\"{id}\",\"step\":{step},\"oldest\":{oldest},\"times\":{times},\"series\":{{{series}}}}}"
    )
}

/// Times in UTC, and three columns for each series. RFC 4180 has the line ends.
fn table(answer: &Answer) -> String {
    let mut text = "time".to_owned();
    for (series, _) in &answer.columns {
        let unit = series.quantity().kind.unit().unwrap_or_default();
        text += &format!(",{series} ({unit}),{series}_min,{series}_max");
    }
    text += "\r\n";
    for (row, time) in answer.times.iter().enumerate() {
        text += &time.iso8601();
        for (series, points) in &answer.columns {
            match points.get(row).copied().flatten() {
                Some(Spread { mean, low, high }) => {
                    let [mean, low, high] =
                        [mean, low, high].map(|number| Value::decimal(number, decimals(*series)));
                    text += &format!(",{mean},{low},{high}");
                }
                None => text += ",,,",
            }
        }
        text += "\r\n";
    }
    text
}

/// Decimal places of the values of a series.
fn decimals(series: EntryKey) -> u32 {
    series.quantity().kind.decimals().into()
}

/// Text, list by list: a tree of JSON values for all keys would take many times the memory.
pub(super) fn json_list(decimals: impl Iterator<Item = Option<(i64, u32)>>) -> String {
    let text = |(mantissa, scale)| Value::decimal(mantissa, scale).to_string();
    let texts = decimals.map(|decimal| decimal.map_or_else(|| "null".to_owned(), text));
    format!("[{}]", texts.collect::<Vec<_>>().join(","))
}

fn parse_key(key: &str) -> Result<EntryKey, String> {
    EntryKey::parse(key)
        .ok_or_else(|| format!("unknown key {key:?}; keys are like soc,pack_voltage"))
}
