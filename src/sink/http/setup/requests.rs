//! The requests of the set-up page.

use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};

use super::options::Change;
use crate::model::{DeviceId, Secret};
use crate::setup::{Job, Refusal, Target};
use crate::sink::http::AppState;
use crate::sink::http::access::{Guard, IsTrusted};
use crate::sink::http::error::ApiError;
use crate::sink::http::request::{read_json, require_trust};

pub(in crate::sink::http) async fn state(
    State(app): State<AppState>,
    Extension(IsTrusted(is_trusted)): Extension<IsTrusted>,
) -> Json<Value> {
    let mut json = app.setup.to_json(&app.board, is_trusted, app.guard.has_token());
    json["config"] = app.control.allow_config.into();
    Json(json)
}

pub(in crate::sink::http) async fn search(
    State(app): State<AppState>,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    require_trust(&request, "set-up")?;
    app.start(Job::Search).await
}

/// The battery to test; `type` and `slave_id` are found out if they are missing.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TestRequest {
    port: Option<String>,
    address: Option<String>,
    adapter: Option<String>,
    r#type: Option<String>,
    slave_id: Option<u8>,
    password: Option<String>,
}

pub(in crate::sink::http) async fn test(
    State(app): State<AppState>,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    require_trust(&request, "set-up")?;
    let TestRequest { port, address, adapter, r#type, slave_id, password } =
        read_json(request).await?;
    let target = Target {
        port,
        address,
        adapter,
        brand: r#type,
        slave_id,
        password: password.map(Secret::new),
    };
    app.start(Job::Test(target)).await
}

pub(in crate::sink::http) async fn stop(
    State(app): State<AppState>,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    require_trust(&request, "set-up")?;
    app.setup.setup.stop();
    Ok(Json(json!({})))
}

pub(in crate::sink::http) async fn change(
    State(app): State<AppState>,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    require_trust(&request, "set-up")?;
    let change: Change = read_json(request).await?;
    let stop = app.stop.clone();
    tokio::select! {
        result = app.setup.change(change) => result.map(Json),
        // The restart has begun.
        () = stop.cancelled() => Ok(Json(json!({"restarting": true}))),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Forget {
    id: String,
}

/// Removes a battery that is not configured any more from the broker.
pub(in crate::sink::http) async fn forget(
    State(app): State<AppState>,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    require_trust(&request, "set-up")?;
    let Forget { id } = read_json(request).await?;
    let id = DeviceId::new(&id).ok_or_else(|| {
        let message = "an ID consists of letters, digits, _ and -, as in the topics";
        ApiError(StatusCode::UNPROCESSABLE_ENTITY, message.to_owned())
    })?;
    let topics = app.setup.setup.forget(id).await.map_err(refused)?;
    Ok(Json(json!({"topics": topics})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    token: String,
}

/// Keeps the token in a cookie.
pub(in crate::sink::http) async fn login(
    State(app): State<AppState>,
    request: Request,
) -> Result<impl IntoResponse, ApiError> {
    let Login { token } = read_json(request).await?;
    match app.guard.accepts(&token).await {
        true => Ok(([(header::SET_COOKIE, Guard::cookie(&token))], Json(json!({})))),
        false => Err(ApiError(StatusCode::UNAUTHORIZED, "wrong password".to_owned())),
    }
}

impl AppState {
    async fn start(&self, job: Job) -> Result<Json<Value>, ApiError> {
        self.setup.setup.start(job).await.map_err(refused)?;
        Ok(Json(json!({})))
    }
}

fn refused(error: Refusal) -> ApiError {
    let status = match error {
        Refusal::Busy => StatusCode::CONFLICT,
        Refusal::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
    };
    ApiError(status, error.to_string())
}
