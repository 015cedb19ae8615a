//! The set-up page: looks for batteries, reads one for a test, and adds, renames or removes the
//! configured ones. In the Home Assistant add-on it writes the add-on's own options; elsewhere it
//! shows the finished settings. It clears what the broker retains about a battery that is not configured
//! any more. It can change nothing else.

mod files;
mod options;
mod requests;

use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::Mutex;

pub use options::{BatteryOptions, Options};
use options::{Change, devices};
pub(super) use requests::{change, forget, login, search, state, stop, test};

use super::error::ApiError;
use super::overview;
use crate::board::Board;
use crate::model::{DeviceState, Installation, Snapshot};
use crate::setup::{Found, Pack, Setup, Test};
use crate::supervisor::{Supervisor, SupervisorError};

/// A type of battery that can be configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrandChoice {
    pub name: &'static str,
    pub title: &'static str,
    pub by_wire: bool,
    pub by_bluetooth: bool,
}

/// What the page can change, and how.
#[derive(Debug, Clone)]
pub struct SetupSettings {
    pub installation: Installation,
    /// Writes the options of the add-on.
    pub supervisor: Option<Supervisor>,
    /// The present configuration in the form of the add-on's options; passwords are masked.
    pub options: Options,
    pub battery_options: BatteryOptions,
    pub brands: Vec<BrandChoice>,
    /// What is wrong with changed options.
    pub check: fn(&Options) -> Vec<String>,
}

/// The settings, and the way to the task that searches and tests.
#[derive(Debug, Clone)]
pub(super) struct SetupPage {
    settings: Arc<SetupSettings>,
    setup: Setup,
    /// Changes read and write the options, so they take turns.
    changes: Arc<Mutex<()>>,
}

impl SetupPage {
    pub(super) fn new(settings: SetupSettings, setup: Setup) -> Self {
        SetupPage { settings: Arc::new(settings), setup, changes: Arc::default() }
    }

    /// Everything that the page shows. A client that is not trusted learns what was found, because the
    /// program looks for batteries by itself while none is configured, but sees no settings.
    fn to_json(&self, board: &Board, is_trusted: bool, has_token: bool) -> Value {
        let state = self.setup.state();
        let states: Vec<DeviceState> = board.states().collect();
        let settings = &self.settings;
        let configured = if is_trusted {
            devices(&settings.options, &settings.battery_options)
        } else {
            Vec::new()
        };
        let brand = |brand: &BrandChoice| json!({"type": brand.name, "title": brand.title, "wire": brand.by_wire, "bluetooth": brand.by_bluetooth});
        json!({
            "installation": match settings.installation {
                Installation::HomeAssistant => "home_assistant",
                Installation::Container => "container",
                Installation::Host => "host",
            },
            "trusted": is_trusted,
            "token": has_token,
            "searching": state.searching,
            "found": state.found.iter().map(|found| found_json(found, &states)).collect::<Vec<_>>(),
            "bluetooth_error": state.bluetooth_error,
            "test": state.test.as_ref().filter(|_| is_trusted).map(test_json),
            "batteries": configured.iter().map(configured_json).collect::<Vec<_>>(),
            "brands": settings.brands.iter().map(brand).collect::<Vec<_>>(),
        })
    }

    /// Carries out a change, or returns the text for the user to do so.
    async fn change(&self, change: Change) -> Result<Value, ApiError> {
        let refused = |error| ApiError(StatusCode::UNPROCESSABLE_ENTITY, error);
        let Ok(_turn) = self.changes.try_lock() else {
            return Err(ApiError(StatusCode::CONFLICT, "another change is in progress".to_owned()));
        };
        let settings = &self.settings;
        let keys = &settings.battery_options;
        let before = match &settings.supervisor {
            Some(supervisor) => stored_options(supervisor).await.map_err(unavailable)?,
            None => settings.options.clone(),
        };
        let after = change.apply(&before, keys).map_err(refused)?;
        let errors = (settings.check)(&after);
        if !errors.is_empty() {
            return Err(refused(errors.join("; ")));
        }
        let Some(supervisor) = &settings.supervisor else {
            let file = |(name, text)| json!({"name": name, "text": text});
            let files = files::files(settings.installation, &after, keys).into_iter().map(file);
            return Ok(json!({
                "files": files.collect::<Vec<_>>(),
                "obsolete": files::obsolete(&before, &after, keys),
            }));
        };
        let body = json!({"options": after});
        supervisor.post("/addons/self/options", &body).await.map_err(unavailable)?;
        match supervisor.post("/addons/self/restart", &json!({})).await {
            // The Supervisor answers after the restart, which this process does not see.
            Ok(_) | Err(SupervisorError::Unreachable(_)) => Ok(json!({"restarting": true})),
            Err(error) => Err(ApiError(
                StatusCode::BAD_GATEWAY,
                format!(
                    "saved, but not in force: the Supervisor does not restart the app ({error}); restart it yourself"
                ),
            )),
        }
    }
}

/// What the user has set, and the defaults of the add-on. Every add-on may ask for its own and change
/// them, without any permission in its manifest (home-assistant/supervisor,
/// `api/middleware/security.py`).
async fn stored_options(supervisor: &Supervisor) -> Result<Options, SupervisorError> {
    let mut info = supervisor.get("/addons/self/info").await?;
    match info["options"].take() {
        Value::Object(options) => Ok(options),
        _ => Err(SupervisorError::Unreachable("its answer contains no options".to_owned())),
    }
}

fn unavailable(error: SupervisorError) -> ApiError {
    let message = format!("nothing was changed: the Supervisor refuses the options ({error})");
    ApiError(StatusCode::BAD_GATEWAY, message)
}

fn found_json(found: &Found, states: &[DeviceState]) -> Value {
    let user = states.iter().find(|state| uses(state, found)).map(|state| &state.profile.name);
    json!({
        "address": found.address, "name": found.name, "adapter": found.adapter, "rssi": found.rssi,
        "type": found.brand.as_ref().map(|brand| brand.0),
        "title": found.brand.as_ref().map(|brand| &brand.1),
        "likely": found.likely, "used_by": user,
    })
}

/// Whether a configured battery is at this place.
fn uses(state: &DeviceState, found: &Found) -> bool {
    let place = if found.is_port() { &state.profile.port } else { &state.profile.address };
    place.as_ref().is_some_and(|place| {
        place.eq_ignore_ascii_case(&found.address)
            || (found.is_port() && Some(place) == found.name.as_ref())
    })
}

fn configured_json(device: &Options) -> Value {
    let place = ["port", "address"].iter().find_map(|key| device.get(*key));
    json!({"id": device.get("id"), "name": device.get("name"), "place": place})
}

fn test_json(test: &Test) -> Value {
    let target = &test.target;
    json!({
        "port": target.port, "address": target.address, "adapter": target.adapter,
        "seconds": test.begin.elapsed().as_secs(),
        "running": test.running,
        "fault": test.fault,
        "packs": test.packs.iter().map(pack_json).collect::<Vec<_>>(),
    })
}

fn pack_json(pack: &Pack) -> Value {
    let snapshot = pack.state.snapshot.as_deref();
    let model = |snapshot: &Snapshot| snapshot.reading.identity.model.clone();
    json!({
        "type": pack.brand, "title": pack.title, "slave_id": pack.slave_id,
        "model": snapshot.and_then(model),
        "cells": snapshot.map(|snapshot| snapshot.reading.cells.len()),
        "values": overview::values(&pack.state),
    })
}
