//! Switches of the batteries: the same commands as over MQTT, one after the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::AppState;
use super::error::ApiError;
use super::request::{read_json, require_trust};
use crate::command::{Command, CommandBus};
use crate::model::Setting;

/// Shortest time between two commands.
const INTERVAL: Duration = Duration::from_secs(1);

/// The way to the batteries; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Control {
    commands: CommandBus,
    /// When the last command ended. Locked while one is carried out.
    last: Arc<Mutex<Option<Instant>>>,
}

impl Control {
    pub(super) fn new(commands: CommandBus) -> Self {
        Control { commands, last: Arc::default() }
    }
}

/// `POST /api/devices/<id>/switch` with `{"name": "charging", "on": false}`. Answered when the battery has been
/// read back.
pub(super) async fn switch(
    State(app): State<AppState>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    require_trust(&request, "switching")?;
    let profile = app.device_state(&id)?.profile;
    let setting: Setting = read_json(request).await?;
    let busy = || {
        let error = "another switch was just turned; try again in a second".to_owned();
        ApiError(StatusCode::TOO_MANY_REQUESTS, error)
    };
    let mut last = app.control.last.try_lock().map_err(|_| busy())?;
    if last.is_some_and(|last| last.elapsed() < INTERVAL) {
        return Err(busy());
    }
    let result = app.control.commands.send(&profile.id, Command::Switch(setting)).await;
    *last = Some(Instant::now());
    let is_allowed = profile.controls.contains(&setting.switch);
    let status = if is_allowed { StatusCode::BAD_GATEWAY } else { StatusCode::FORBIDDEN };
    result.map_err(|error| ApiError(status, error.0))?;
    Ok(Json(json!({ "ok": true, setting.switch.name(): if setting.on { "ON" } else { "OFF" } })))
}
