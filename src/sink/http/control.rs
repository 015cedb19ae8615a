//! Commands to the batteries: the same as over MQTT, one after the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use serde_json::Value;
use tokio::sync::Mutex;

use super::AppState;
use super::error::ApiError;
use super::request::{parse_json, read_body, require_trust};
use crate::command::payload::{accepted, parse_config};
use crate::command::{Command, CommandBus, CommandError};
use crate::model::Profile;
use crate::remedy;

/// Shortest time between two commands.
const INTERVAL: Duration = Duration::from_secs(1);

/// The way to the batteries; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Control {
    commands: CommandBus,
    pub(super) allow_config: bool,
    /// When the last command ended. Locked while one is carried out.
    last: Arc<Mutex<Option<Instant>>>,
}

impl Control {
    pub(super) fn new(commands: CommandBus, allow_config: bool) -> Self {
        Control { commands, allow_config, last: Arc::default() }
    }
}

/// `POST /api/devices/<id>/switch` with `{"name": "charging", "on": false}`, `/config` with the payload of
/// `cmd/config`, and `/read`. One handler for all, which is less code than three. A switch is answered when it was read
/// back, the others when they are accepted.
pub(super) async fn command(
    State(app): State<AppState>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    require_trust(&request, "control of the batteries")?;
    let profile = app.device_state(&id)?.profile;
    let kind = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    let invalid = |error| ApiError(StatusCode::BAD_REQUEST, error);
    let command = match kind.as_str() {
        "config" if !app.control.allow_config => {
            let on = remedy::assignment("ALLOW_CONFIG", "true");
            let error = format!("settings are locked; set {on} to change them");
            return Err(ApiError(StatusCode::FORBIDDEN, error));
        }
        "config" => Command::Configure(parse_config(&read_body(request).await?).map_err(invalid)?),
        "switch" => Command::Switch(parse_json(&read_body(request).await?).map_err(invalid)?),
        _ => Command::Read,
    };
    let busy = || {
        let error = "another command was just sent; try again in a second".to_owned();
        ApiError(StatusCode::TOO_MANY_REQUESTS, error)
    };
    let mut last = app.control.last.try_lock().map_err(|_| busy())?;
    if last.is_some_and(|last| last.elapsed() < INTERVAL) {
        return Err(busy());
    }
    let result = carry_out(&app, &profile, &command).await;
    *last = Some(Instant::now());
    result.map_err(|error| ApiError(refusal(&profile, &command), error.0))?;
    Ok(Json(accepted(&command)))
}

async fn carry_out(
    app: &AppState,
    profile: &Profile,
    command: &Command,
) -> Result<(), CommandError> {
    let id = &profile.id;
    match command {
        Command::Configure(change) if change.sets_energy() => {
            let [charged, discharged] = change.energy()?;
            tracing::info!("{id}: energy counters set on request");
            app.board.update(id, |state| state.set_energy(charged, discharged));
            Ok(())
        }
        _ => app.control.commands.send(id, command.clone()).await,
    }
}

fn refusal(profile: &Profile, command: &Command) -> StatusCode {
    match command {
        Command::Switch(setting) if profile.controls.contains(&setting.switch) => {
            StatusCode::BAD_GATEWAY
        }
        Command::Switch(_) => StatusCode::FORBIDDEN,
        Command::Read | Command::Configure(_) => StatusCode::CONFLICT,
    }
}
