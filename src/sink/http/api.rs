//! The newest readings and the health of the program as JSON.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Shared;
use super::overview;
use crate::model::{DeviceId, DeviceState};
use crate::raw::raw;

/// Whether this program does its work; never whether a battery or a broker can be reached.
pub(super) async fn healthz(State(shared): State<Shared>) -> Response {
    let stalled = shared.stalls.stalled(&shared.board);
    let status = if stalled.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let version = env!("CARGO_PKG_VERSION");
    let body = json!({"ok": stalled.is_empty(), "version": version, "stalled": stalled});
    (status, Json(body)).into_response()
}

/// Everything that the first page of the dashboard shows.
pub(super) async fn overview(State(shared): State<Shared>) -> Response {
    Json(overview::overview(&shared.board, &shared.history)).into_response()
}

pub(super) async fn devices(State(shared): State<Shared>) -> Response {
    Json(shared.board.states().map(|state| raw(&state)).collect::<Vec<_>>()).into_response()
}

pub(super) async fn device(State(shared): State<Shared>, Path(id): Path<String>) -> Response {
    match shared.state(&id) {
        Ok(state) => Json(raw(&state)).into_response(),
        Err(refusal) => refusal,
    }
}

impl Shared {
    /// The battery of that name, or what to answer where there is none.
    #[allow(clippy::result_large_err, reason = "the error is the answer")]
    pub(super) fn state(&self, id: &str) -> Result<DeviceState, Response> {
        let state = DeviceId::new(id).and_then(|id| self.board.latest(&id));
        state.ok_or_else(|| {
            refuse(
                StatusCode::NOT_FOUND,
                &format!("no battery named {id}; /api/devices lists them"),
            )
        })
    }
}

/// An answer that says what is wrong with the question.
pub(super) fn refuse(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({"error": error}))).into_response()
}
