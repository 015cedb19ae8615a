//! Home Assistant's Supervisor reports the address of the broker and a login for this app.
//!
//! Source: home-assistant/supervisor, `api/services.py`. `GET /services/mqtt` with a bearer token
//! returns `{"result": "ok", "data": {host, port, ssl, username, password}}`, 400 when no broker is
//! installed, 403 when the app does not declare the service.

use std::fmt;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::error::MqttError;
use super::{Settings, Tls};
use crate::model::Secret;

/// Generous: the Supervisor runs on the same machine.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Far more than a host name and a login need.
const MAX_RESPONSE: usize = 64 * 1024;

/// Access to the Supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supervisor {
    pub url: String,
    /// Valid until the app is restarted.
    pub token: Secret,
    /// Used when the reported broker requires TLS.
    pub tls: Tls,
}

#[derive(Deserialize)]
struct Broker {
    host: String,
    port: u16,
    #[serde(default)]
    ssl: bool,
    username: Option<String>,
    password: Option<String>,
}

impl Settings {
    /// Asks the Supervisor, if there is one, for the broker; true when the answer is a new one.
    pub(super) async fn locate_broker(&mut self) -> Result<bool, MqttError> {
        let Some(supervisor) = &self.supervisor else { return Ok(false) };
        let broker = timeout(TIMEOUT, supervisor.request()).await;
        Ok(self.apply(broker.unwrap_or_else(|_| Err(unavailable("no answer")))?))
    }

    fn apply(&mut self, broker: Broker) -> bool {
        let Broker { host, port, ssl, username, password } = broker;
        let password = Secret::new(password.unwrap_or_default());
        let login = username.map(|name| (name, password));
        let changed = self.host != host || self.port != port || self.login != login;
        (self.host, self.port, self.login) = (host, port, login);
        self.tls =
            self.supervisor.as_ref().filter(|_| ssl).map(|supervisor| supervisor.tls.clone());
        changed
    }
}

impl Supervisor {
    async fn request(&self) -> Result<Broker, MqttError> {
        let url = format!("{}/services/mqtt", self.url.trim_end_matches('/'));
        let uri: Uri = url.parse().map_err(unavailable)?;
        let host = uri.host().ok_or_else(|| unavailable("SUPERVISOR_API contains no host"))?;
        let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(80)));
        let stream = TokioIo::new(stream.await.map_err(unavailable)?);
        let (mut sender, connection) = http1::handshake(stream).await.map_err(unavailable)?;
        let request = Request::get(uri.path())
            .header(header::HOST, host)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token.expose()))
            .body(Empty::<Bytes>::new())
            .map_err(unavailable)?;
        // The connection carries the response and ends when its sender is dropped.
        let exchange = async move {
            let response = sender.send_request(request).await.map_err(unavailable)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_RESPONSE).collect().await;
            Ok::<_, MqttError>((status, body.map_err(unavailable)?.to_bytes()))
        };
        // An error of the connection is reported by the exchange as well.
        let (response, _) = tokio::join!(exchange, connection);
        let (status, body) = response?;
        parse(status, &body)
    }
}

fn parse(status: StatusCode, body: &[u8]) -> Result<Broker, MqttError> {
    let response: Value = serde_json::from_slice(body).unwrap_or_default();
    match (status, response["message"].as_str(), Broker::deserialize(&response["data"])) {
        (StatusCode::OK, _, Ok(broker)) => Ok(broker),
        (StatusCode::BAD_REQUEST, ..) => Err(MqttError::NoBroker),
        (_, Some(message), _) => Err(unavailable(format!("{status}, {message}"))),
        _ => Err(unavailable(status)),
    }
}

fn unavailable(reason: impl fmt::Display) -> MqttError {
    MqttError::Connection(format!("the Supervisor does not report the broker ({reason})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::mqtt::test_data;

    fn parsed(status: u16, body: &str) -> Result<Broker, String> {
        let status = StatusCode::from_u16(status).unwrap();
        parse(status, body.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn broker_without_login_is_accepted() {
        let body = r#"{"result":"ok","data":{"host":"core-mosquitto","port":1883,"protocol":"5"}}"#;
        let broker = parsed(200, body).ok().unwrap();
        assert_eq!(
            (broker.host.as_str(), broker.port, broker.ssl),
            ("core-mosquitto", 1883, false)
        );
        assert!(broker.username.is_none());
    }

    #[test]
    fn error_response_names_cause_or_remedy() {
        let none = r#"{"result":"error","message":"Service not enabled"}"#;
        assert!(parsed(400, none).err().unwrap().contains("Mosquitto broker app"));
        let text = parsed(403, r#"{"result":"error","message":"no"}"#).err().unwrap();
        assert!(text.contains("403") && text.contains("no"), "{text}");
        assert!(parsed(200, "<html>").is_err());
        assert!(parsed(200, r#"{"result":"ok","data":{}}"#).is_err());
    }

    #[test]
    fn certificates_survive_a_broker_without_tls() {
        let tls = Tls { ca_file: Some("/ssl/ca.pem".into()), ..Tls::default() };
        let (url, token) = ("http://supervisor".into(), Secret::new("t"));
        let supervisor = Some(Supervisor { url, token, tls: tls.clone() });
        let mut settings = Settings { supervisor, ..test_data::settings() };
        let mut applied = |ssl| {
            let login = r#""username": "addons", "password": "geheim""#;
            let body = format!(r#"{{"data": {{"host": "b", "port": 1, "ssl": {ssl}, {login}}}}}"#);
            settings.apply(parsed(200, &body).ok().unwrap());
            settings.tls.clone()
        };
        let tls_settings = [applied(true), applied(false), applied(true)];
        assert_eq!(tls_settings, [Some(tls.clone()), None, Some(tls)]);
        assert!(!format!("{settings:?}").contains("geheim"));
    }
}
