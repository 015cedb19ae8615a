//! What is kept for years: the energy of each day, and the alarms.

use std::collections::{BTreeSet, HashMap};

use axum::extract::{Query as Parameters, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value as Json, json};

use super::AppState;
use super::error::ApiError;
use super::history::{json_list, parse_within};
use crate::clock;
use crate::history::Day;
use crate::model::energy::of_one_cycle;
use crate::model::profile::BANK_TYPE;
use crate::model::units::divide_rounded;
use crate::model::{DeviceState, Energy, EnergyTotals, Millis};

const DEFAULT_DAYS: u32 = 31;
/// In milliseconds.
const DAY: u64 = 86_400_000;

/// The energy of each local day, in columns: `/api/energy?days=31`, at most six years.
pub(super) async fn energy(
    State(app): State<AppState>,
    Parameters(parameters): Parameters<HashMap<String, String>>,
) -> Result<Response, ApiError> {
    let mut days = DEFAULT_DAYS;
    for (name, text) in &parameters {
        let error = match (name.as_str(), parse_within(text, 1..=4000)) {
            ("days", Some(count)) => {
                days = count;
                continue;
            }
            ("days", None) => format!("days is a whole number, 1 to 4000, not {text}"),
            _ => format!("unknown parameter {name}; there is only days"),
        };
        return Err(ApiError(StatusCode::BAD_REQUEST, error));
    }
    app.render(Box::new(move |app| Some(energy_json(app, days, clock::now())))).await
}

/// `{"unit": "Wh", "kept": true, "today": "2026-11-30", "days": [...], "house": {...}, "batteries": [{"id": ...,
/// "cycle": 5120.0, "charged": [...], "discharged": [...]}]}`, with null for days without data.
fn energy_json(app: &AppState, count: u32, now: Millis) -> String {
    let (today, _) = app.history.zone.day(now);
    let first = today.saturating_sub(count - 1);
    let mut batteries = Vec::new();
    for state in app.board.states() {
        let mut days = app.history.energy_days(&state.profile.id, first).unwrap_or_default();
        // Counted while the clock was wrong.
        days.retain(|day| day.number <= today);
        batteries.push((state, days));
    }
    let numbers: BTreeSet<u32> =
        batteries.iter().flat_map(|(_, days)| days).map(|day| day.number).collect();
    let (mut house, mut capacity) = (Vec::new(), Some(Energy(0)));
    for (state, days) in &batteries {
        // The energy of a bank is that of its members.
        if state.profile.brand != BANK_TYPE {
            house.extend(days.iter().copied());
            capacity = capacity.zip(cycle(state)).map(|(sum, one)| Energy(sum.0 + one.0));
        }
    }
    house.sort_by_key(|day| day.number);
    let quoted = |number: &u32| format!("{:?}", date(*number));
    let dates: Vec<_> = numbers.iter().map(quoted).collect();
    let list = batteries.iter().map(|(state, days)| {
        let columns = columns(&numbers, days, cycle(state));
        format!("{{\"id\":\"{}\",{columns}}}", state.profile.id)
    });
    format!(
        "{{\"unit\":\"Wh\",\"kept\":{},\"today\":{},\"days\":[{}],\"house\":{{{}}},\"batteries\":[{}]}}",
        app.history.is_kept,
        quoted(&today),
        dates.join(","),
        columns(&numbers, &house, capacity),
        list.collect::<Vec<_>>().join(","),
    )
}

/// `2026-11-30` for a number of days since 1970.
pub(super) fn date(number: u32) -> String {
    Millis(u64::from(number) * DAY).iso8601().chars().take(10).collect()
}

/// The energy of one full charge.
fn cycle(state: &DeviceState) -> Option<Energy> {
    of_one_cycle(&state.snapshot.as_ref()?.reading)
}

/// Both directions for each of the days. `energy` is in their order, and may contain a day several times.
fn columns(numbers: &BTreeSet<u32>, energy: &[Day], cycle: Option<Energy>) -> String {
    let mut rest = energy.iter().peekable();
    let of_day = |number: &u32| {
        let days = std::iter::from_fn(|| rest.next_if(|day| day.number == *number));
        days.map(|day| day.energy).reduce(|sum, energy| sum + energy)
    };
    let totals: Vec<Option<EnergyTotals>> = numbers.iter().map(of_day).collect();
    let list = |get: fn(&EnergyTotals) -> Energy| {
        json_list(totals.iter().map(|totals| totals.as_ref().map(|it| watt_hours(get(it)))))
    };
    let [charged, discharged] = [list(|totals| totals.charged), list(|totals| totals.discharged)];
    let cycle = json_list(std::iter::once(cycle.map(watt_hours)));
    let cycle = cycle.trim_matches(['[', ']']);
    format!("\"cycle\":{cycle},\"charged\":{charged},\"discharged\":{discharged}")
}

/// A decimal with one place.
fn watt_hours(energy: Energy) -> (i64, u32) {
    (divide_rounded(energy.milliwatt_hours().0, 100), 1)
}

/// The newest first.
pub(super) async fn alarms(State(app): State<AppState>) -> Result<Response, ApiError> {
    let render = |app: &AppState| {
        let alarms = app.history.alarms().into_iter().filter_map(|record| {
            let mut alarm: Json = serde_json::from_str(&record.details).ok()?;
            alarm["start"] = record.start.0.into();
            alarm["end"] = record.end.map(|end| end.0).into();
            let duration = record.end.map(|end| end.since(record.start) / 1000);
            alarm["duration_s"] = duration.into();
            Some(alarm)
        });
        Some(json!({"kept": app.history.is_kept, "alarms": alarms.collect::<Vec<_>>()}).to_string())
    };
    app.render(Box::new(render)).await
}
