//! The newest readings and metrics, and the health of the program.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::error::ApiError;
use super::limits::MAX_EVENT_CLIENTS;
use super::texts::Form;
use super::{AppState, metrics};
use crate::model::{DeviceId, DeviceState};
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

pub(super) async fn overview(State(app): State<AppState>) -> Response {
    json_response(app.texts.overview().await)
}

pub(super) async fn devices(State(app): State<AppState>) -> Response {
    json_response(app.texts.devices().await)
}

pub(super) async fn device(
    State(app): State<AppState>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    app.battery(&id, Form::Raw).await
}

fn json_response(text: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

pub(super) async fn metrics(State(app): State<AppState>) -> Response {
    let clients = MAX_EVENT_CLIENTS - app.event_permits.available_permits();
    match app.texts.metrics(clients).await {
        Some(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn unknown_device(id: &str) -> ApiError {
    let error = format!("no battery named {id}; /api/devices lists all batteries");
    ApiError(StatusCode::NOT_FOUND, error)
}

impl AppState {
    pub(super) async fn battery(&self, id: &str, form: Form) -> Result<Response, ApiError> {
        let text = match DeviceId::new(id) {
            Some(id) => self.texts.battery(&id, form).await,
            None => None,
        };
        text.map(json_response).ok_or_else(|| unknown_device(id))
    }

    pub(super) fn device_state(&self, id: &str) -> Result<DeviceState, ApiError> {
        let state = DeviceId::new(id).and_then(|id| self.board.latest(&id));
        state.ok_or_else(|| unknown_device(id))
    }
}
