//! Requests to Home Assistant's Supervisor, which runs this program as an app (add-on).
//!
//! Source: home-assistant/supervisor, `api/`. An answer is `{"result": "ok", "data": ...}`, or
//! `{"result": "error", "message": ...}` with an error status.

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::model::Secret;

/// Generous: the Supervisor runs on the same machine.
const TIMEOUT: Duration = Duration::from_secs(10);
/// In bytes. The description of an app with its documentation and translations is the largest.
const MAX_RESPONSE: usize = 1024 * 1024;

/// Access to the Supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supervisor {
    pub url: String,
    /// Valid until the app is restarted.
    pub token: Secret,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SupervisorError {
    #[error("{0}")]
    Unreachable(String),
    #[error("{status}{}", .message.as_ref().map(|text| format!(", {text}")).unwrap_or_default())]
    Refused { status: StatusCode, message: Option<String> },
}

impl Supervisor {
    /// The `data` of the answer.
    pub async fn get(&self, path: &str) -> Result<Value, SupervisorError> {
        self.limited(Method::GET, path, Bytes::new()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, SupervisorError> {
        self.limited(Method::POST, path, body.to_string().into()).await
    }

    async fn limited(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Value, SupervisorError> {
        let exchange = timeout(TIMEOUT, self.request(method, path, body)).await;
        let (status, body) = exchange.unwrap_or_else(|_| Err(unreachable("no answer")))?;
        parse(status, &body)
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), SupervisorError> {
        let url = format!("{}{path}", self.url.trim_end_matches('/'));
        let uri: Uri = url.parse().map_err(unreachable)?;
        let host =
            uri.host().ok_or_else(|| unreachable("the URL of the Supervisor contains no host"))?;
        let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(80)));
        let stream = TokioIo::new(stream.await.map_err(unreachable)?);
        let (mut sender, connection) = http1::handshake(stream).await.map_err(unreachable)?;
        let request = Request::builder()
            .method(method)
            .uri(uri.path())
            .header(header::HOST, host)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token.expose()))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(unreachable)?;
        // The connection carries the response and ends when its sender is dropped.
        let exchange = async move {
            let response = sender.send_request(request).await.map_err(unreachable)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_RESPONSE).collect().await;
            Ok((status, body.map_err(unreachable)?.to_bytes()))
        };
        // An error of the connection is reported by the exchange as well.
        let (response, _) = tokio::join!(exchange, connection);
        response
    }
}

fn parse(status: StatusCode, body: &[u8]) -> Result<Value, SupervisorError> {
    let mut response: Value = serde_json::from_slice(body).unwrap_or_default();
    if status == StatusCode::OK && response["result"] != "error" && response.is_object() {
        return Ok(response["data"].take());
    }
    let message = response["message"].as_str().map(str::to_owned);
    Err(SupervisorError::Refused { status, message })
}

fn unreachable(reason: impl std::fmt::Display) -> SupervisorError {
    SupervisorError::Unreachable(reason.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(status: u16, body: &str) -> Result<Value, String> {
        let status = StatusCode::from_u16(status).unwrap();
        parse(status, body.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn answer_is_data_or_an_error_with_status_and_message() {
        assert_eq!(parsed(200, r#"{"result":"ok","data":{"a":1}}"#), Ok(json!({"a": 1})));
        let refused = parsed(403, r#"{"result":"error","message":"no"}"#);
        assert_eq!(refused, Err("403 Forbidden, no".to_owned()));
        assert_eq!(parsed(200, "<html>"), Err("200 OK".to_owned()));
        assert_eq!(parsed(200, r#"{"result":"error"}"#), Err("200 OK".to_owned()));
    }
}
