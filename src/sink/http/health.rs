//! The health of the cells of a battery, with a sentence and its parameters.

use std::collections::HashMap;

use axum::extract::{Path, Query as Parameters, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value as Json, json};

use super::AppState;
use super::error::ApiError;
use super::history::parse_within;
use super::records::date;
use crate::clock;
use crate::model::cell_health::{CellTotal, Condition, HealthDay, Total};
use crate::model::health_report::{CellReport, FindingKind, HealthReport, MIN_DAYS};
use crate::model::units::divide_rounded;
use crate::model::{DeviceId, DeviceState, Value};

const DEFAULT_DAYS: u32 = 31;

/// `/api/devices/<id>/health?days=31`, at most a year of days.
pub(super) async fn health(
    State(app): State<AppState>,
    Path(id): Path<String>,
    Parameters(parameters): Parameters<HashMap<String, String>>,
) -> Result<Response, ApiError> {
    let state = app.device_state(&id)?;
    let mut count = DEFAULT_DAYS;
    for (name, text) in &parameters {
        count = match (name.as_str(), parse_within(text, 1..=366)) {
            ("days", Some(count)) => count,
            ("days", None) => {
                let error = format!("days is a whole number, 1 to 366, not {text}");
                return Err(ApiError(StatusCode::BAD_REQUEST, error));
            }
            _ => {
                let error = format!("unknown parameter {name}; there is only days");
                return Err(ApiError(StatusCode::BAD_REQUEST, error));
            }
        };
    }
    app.render(Box::new(move |app| {
        let id = &state.profile.id;
        let days = app.history.health_days(id)?;
        let (today, _) = app.history.zone.day(clock::now());
        let report = HealthReport::new(&days, today, reports_cells(&state));
        Some(to_json(id, app.history.is_kept, &report, &days, today, count).to_string())
    }))
    .await
}

fn reports_cells(state: &DeviceState) -> bool {
    state.snapshot.as_ref().is_none_or(|snapshot| !snapshot.reading.cells.is_empty())
}

/// Values that are not known are absent; columns have null for them.
fn to_json(
    id: &DeviceId,
    is_kept: bool,
    report: &HealthReport,
    days: &[HealthDay],
    today: u32,
    count: u32,
) -> Json {
    let mut json = Map::new();
    let mut put = |name: &str, value: Option<Json>| {
        json.extend(value.map(|value| (name.to_owned(), value)));
    };
    put("id", Some(json!(id)));
    put("kept", Some(is_kept.into()));
    put("since", days.first().map(|day| date(day.number).into()));
    put("days", Some(report.days.into()));
    put("summary", Some(summary(report)));
    put("spread_mv", Some(by_condition(|it| decimal(report.spread[it as usize], 1))));
    put("drift_condition", report.drift_at.map(|it| it.name().into()));
    let cells = (1..).zip(&report.cells).map(|(number, it)| cell(number, it));
    put("cells", Some(cells.collect()));
    put(
        "capacity",
        report.capacity.map(|estimate| {
            object(vec![
                ("estimate", Some(true.into())),
                ("ah", decimal(Some(estimate.capacity.0), 3)),
                ("temperature", decimal(estimate.temperature.map(|it| it.0.into()), 1)),
                ("runs", Some(estimate.runs.into())),
            ])
        }),
    );
    let first = today.saturating_sub(count - 1);
    let shown = days.iter().filter(|day| (first..=today).contains(&day.number));
    put("history", Some(history(&shown.collect::<Vec<_>>())));
    json.into()
}

fn summary(report: &HealthReport) -> Json {
    let finding = report.finding;
    let is_short = finding.kind == FindingKind::NoData;
    object(vec![
        ("code", Some(finding.kind.text().0.into())),
        ("text", Some(report.sentence().into())),
        ("cell", finding.cell.map(Json::from)),
        ("mv", decimal(finding.difference, 1)),
        ("condition", finding.condition.map(|it| it.name().into())),
        ("drift_mv_month", decimal(finding.drift, 1)),
        ("days", is_short.then(|| report.usable_days.into())),
        ("needed", is_short.then(|| MIN_DAYS.into())),
    ])
}

fn cell(number: usize, report: &CellReport) -> Json {
    let hours = report.balanced.map(|seconds| divide_rounded(seconds, 36));
    let deviation = |it: Condition| decimal(report.deviation[it as usize], 1);
    object(vec![
        ("cell", Some(number.into())),
        ("lowest_percent", decimal(report.lowest, 1)),
        ("highest_percent", decimal(report.highest, 1)),
        ("rest_mv", deviation(Condition::Rest)),
        ("full_mv", deviation(Condition::Full)),
        ("empty_mv", deviation(Condition::Empty)),
        ("drift_mv_month", decimal(report.drift, 1)),
        ("balancing_hours", decimal(hours, 2)),
        ("resistance_mohm", decimal(report.resistance.map(|it| it.0.into()), 3)),
    ])
}

/// The values of each day in columns.
fn history(days: &[&HealthDay]) -> Json {
    let column = |get: &dyn Fn(&HealthDay) -> Option<Json>| -> Json {
        days.iter().map(|day| get(day)).collect::<Vec<_>>().into()
    };
    let spread = |day: &HealthDay, it| decimal(mean(day.spread(it) * 10, day.samples(it)), 1);
    let resistances = |day: &HealthDay| {
        let count = day.total(Total::Resistances);
        let of = |cell| decimal(mean(day.cell(cell, CellTotal::Resistance), count), 3);
        (count > 0).then(|| (0..day.cells()).map(of).collect::<Vec<_>>().into())
    };
    let capacity =
        |day: &HealthDay| decimal(mean(day.total(Total::Capacity), day.total(Total::Runs)), 3);
    json!({
        "days": column(&|day| Some(date(day.number).into())),
        "spread_mv": by_condition(|it| Some(column(&|day| spread(day, it)))),
        "capacity_ah": column(&capacity),
        "resistance_mohm": column(&resistances),
    })
}

fn mean(total: i64, count: i64) -> Option<i64> {
    (count > 0).then(|| divide_rounded(total, count))
}

fn decimal(mantissa: Option<i64>, scale: u32) -> Option<Json> {
    mantissa.map(|mantissa| Value::decimal(mantissa, scale).to_json())
}

fn by_condition(get: impl Fn(Condition) -> Option<Json>) -> Json {
    object(Condition::ALL.into_iter().map(|it| (it.name(), get(it))).collect())
}

fn object(fields: Vec<(&str, Option<Json>)>) -> Json {
    let known = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    known.collect::<Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five days of two cells, the second of which is 12 mV lower; the fourth day has an estimate of the capacity.
    fn days() -> Vec<HealthDay> {
        let day = |number: u32| {
            let runs = i32::from(number == 103);
            let battery = [100, 50, 7200, runs, runs * 98_400, runs, runs * 215];
            let [samples, spreads] = [[60, 0, 20], [60 * 12, 0, 20 * 12]];
            let cells =
                [[25, 75, 36, 50 * 700, 3600, 0, 1200], [75, 25, 0, 50 * 900, -3600, 0, -1200]];
            let numbers = battery.into_iter().chain(samples).chain(spreads);
            let numbers = numbers.chain(cells.into_iter().flatten()).collect();
            HealthDay::restore(number, numbers).unwrap()
        };
        (100..105).map(day).collect()
    }

    #[test]
    fn known_values_are_listed() {
        let days = days();
        let report = HealthReport::new(&days, 105, true);
        let found = to_json(&DeviceId::new("a").unwrap(), true, &report, &days, 105, 3);
        let cells = json!([
            {"cell": 1, "lowest_percent": 25.0, "highest_percent": 75.0, "rest_mv": 6.0, "empty_mv": 6.0,
                "balancing_hours": 0.05, "resistance_mohm": 0.7},
            {"cell": 2, "lowest_percent": 75.0, "highest_percent": 25.0, "rest_mv": -6.0, "empty_mv": -6.0,
                "balancing_hours": 0.0, "resistance_mohm": 0.9},
        ]);
        let summary = json!({"code": "uneven", "text": "Cells differ by 12 mV at rest.", "mv": 12.0, "condition": "rest"});
        let resistances = json!([0.7, 0.9]);
        let expected = json!({
            "id": "a", "kept": true, "since": "1970-04-11", "days": 5, "summary": summary,
            "spread_mv": {"rest": 12.0, "empty": 12.0}, "drift_condition": "rest", "cells": cells,
            "capacity": {"estimate": true, "ah": 98.4, "temperature": 21.5, "runs": 1},
            "history": {
                "days": ["1970-04-14", "1970-04-15"],
                "spread_mv": {"rest": [12.0, 12.0], "full": [null, null], "empty": [12.0, 12.0]},
                "capacity_ah": [98.4, null], "resistance_mohm": [resistances, resistances],
            },
        });
        assert_eq!(found, expected);
    }
}
