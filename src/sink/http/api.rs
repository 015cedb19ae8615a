//! The newest readings and the health of the program as JSON.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::AppState;
use super::error::ApiError;
use super::overview;
use crate::model::{DeviceId, DeviceState};
use crate::raw::raw;
use crate::remedy;

/// Whether this program does its work, not whether a battery or a broker is reachable.
pub(super) async fn healthz(State(app): State<AppState>) -> (StatusCode, Json<Value>) {
    let stalled: Vec<_> = app.tasks.status().into_iter().filter(|task| task.stalled).collect();
    let status = if stalled.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let stalled: Vec<_> = stalled.into_iter().map(|task| task.name).collect();
    let version = env!("CARGO_PKG_VERSION");
    let mut health = json!({"ok": stalled.is_empty(), "version": version, "stalled": stalled});
    if !stalled.is_empty() {
        let (names, remedy) = (stalled.join(", "), remedy::STALLED.text());
        health["error"] = format!("{names} makes no progress; {remedy}").into();
    }
    (status, Json(health))
}

pub(super) async fn overview(State(app): State<AppState>) -> Json<Value> {
    Json(overview::overview(&app.board, &app.history))
}

pub(super) async fn devices(State(app): State<AppState>) -> Json<Value> {
    Json(app.board.states().map(|state| raw(&state)).collect())
}

pub(super) async fn device(
    State(app): State<AppState>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(raw(&app.device_state(&id)?)))
}

impl AppState {
    pub(super) fn device_state(&self, id: &str) -> Result<DeviceState, ApiError> {
        let state = DeviceId::new(id).and_then(|id| self.board.latest(&id));
        state.ok_or_else(|| {
            let error = format!("no battery named {id}; /api/devices lists all batteries");
            ApiError(StatusCode::NOT_FOUND, error)
        })
    }
}
