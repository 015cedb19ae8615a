//! What requests that start or change something have in common.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::access::IsTrusted;
use super::error::ApiError;
use crate::remedy;

/// The page sends the body at once.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Refuses the request of a client that is not trusted.
pub(super) fn require_trust(request: &Request, what: &str) -> Result<(), ApiError> {
    match request.extensions().get::<IsTrusted>() {
        Some(IsTrusted(true)) => Ok(()),
        _ => Err(ApiError(
            StatusCode::FORBIDDEN,
            format!(
                "{what} works on this machine only, unless {} is set",
                remedy::setting("HTTP_TOKEN")
            ),
        )),
    }
}

pub(super) async fn read_body(request: Request) -> Result<Bytes, ApiError> {
    let body = timeout(BODY_TIMEOUT, Bytes::from_request(request, &())).await;
    body.map_err(|_| ApiError(StatusCode::REQUEST_TIMEOUT, "the request is too slow".to_owned()))?
        .map_err(|error| ApiError(error.status(), error.body_text()))
}

pub(super) async fn read_json<T: DeserializeOwned>(request: Request) -> Result<T, ApiError> {
    parse_json(&read_body(request).await?).map_err(|error| ApiError(StatusCode::BAD_REQUEST, error))
}

pub(super) fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| format!("unexpected JSON: {error}"))
}
