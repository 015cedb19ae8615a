//! Home Assistant's Supervisor knows the broker: where it is, and a login for this app.
//!
//! The answer is that of home-assistant/supervisor, `api/services.py`: `GET /services/mqtt` with a
//! bearer token gives `{"result": "ok", "data": {host, port, ssl, username, password}}`, 400 when
//! no broker is installed, 403 when the app did not declare the service.

use std::fmt;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::error::MqttError;
use super::{Settings, Tls};
use crate::model::Secret;

/// The Supervisor is on the same machine.
const PATIENCE: Duration = Duration::from_secs(10);
/// Far more than a host name and a login need.
const LARGEST_ANSWER: usize = 64 * 1024;

/// Where to ask for the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supervisor {
    /// `http://supervisor`
    pub url: String,
    /// What proves who we are; made anew at each start of the app.
    pub token: Secret,
    /// How to encrypt when it says that the broker wants that.
    pub tls: Tls,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    message: String,
    data: Option<Broker>,
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

impl Supervisor {
    /// Writes the broker that the Supervisor names into the settings; true when that is news.
    pub(super) async fn locate(&self, settings: &mut Settings) -> Result<bool, MqttError> {
        let asked = timeout(PATIENCE, self.ask()).await;
        let broker = asked.unwrap_or_else(|_| Err(unreachable("it does not answer")))?;
        Ok(self.adopt(broker, settings))
    }

    fn adopt(&self, broker: Broker, settings: &mut Settings) -> bool {
        let password = Secret::new(broker.password.unwrap_or_default());
        let login = broker.username.map(|name| (name, password));
        let tls = broker.ssl.then(|| self.tls.clone());
        let is_news =
            settings.host != broker.host || settings.port != broker.port || settings.login != login;
        (settings.host, settings.port) = (broker.host, broker.port);
        (settings.login, settings.tls) = (login, tls);
        is_news
    }

    async fn ask(&self) -> Result<Broker, MqttError> {
        let url = format!("{}/services/mqtt", self.url.trim_end_matches('/'));
        let uri: Uri = url.parse().map_err(unreachable)?;
        let host = uri.host().ok_or_else(|| unreachable("SUPERVISOR_API names no host"))?;
        let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(80)));
        let stream = TokioIo::new(stream.await.map_err(unreachable)?);
        let (mut sender, connection) = http1::handshake(stream).await.map_err(unreachable)?;
        let request = Request::get(uri.path())
            .header(header::HOST, host)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token.expose()))
            .body(Empty::<Bytes>::new())
            .map_err(unreachable)?;
        // The connection ends when its sender is gone, and carries the answer until then.
        let exchange = async move {
            let response = sender.send_request(request).await.map_err(unreachable)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LARGEST_ANSWER).collect().await;
            Ok::<_, MqttError>((status, body.map_err(unreachable)?.to_bytes()))
        };
        // What hinders the connection hinders the exchange, which tells it.
        let (answer, _) = tokio::join!(exchange, connection);
        let (status, body) = answer?;
        understand(status, &body)
    }
}

fn understand(status: StatusCode, body: &[u8]) -> Result<Broker, MqttError> {
    let answer = serde_json::from_slice::<Answer>(body).ok();
    match (status, answer) {
        (StatusCode::OK, Some(Answer { data: Some(broker), .. })) => Ok(broker),
        (StatusCode::BAD_REQUEST, _) => Err(MqttError::NoBroker),
        (_, Some(answer)) if !answer.message.is_empty() => {
            Err(unreachable(format!("{status}, {}", answer.message)))
        }
        _ => Err(unreachable(status)),
    }
}

fn unreachable(reason: impl fmt::Display) -> MqttError {
    MqttError::Unreachable(format!("the Supervisor does not name the broker ({reason})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::mqtt::test_data;

    fn answer(status: u16, body: &str) -> Result<Broker, String> {
        let status = StatusCode::from_u16(status).unwrap();
        understand(status, body.as_bytes()).map_err(|trouble| trouble.to_string())
    }

    #[test]
    fn a_broker_may_want_no_login() {
        let body = r#"{"result":"ok","data":{"host":"core-mosquitto","port":1883,"protocol":"5"}}"#;
        let broker = answer(200, body).ok().unwrap();
        assert_eq!(
            (broker.host.as_str(), broker.port, broker.ssl),
            ("core-mosquitto", 1883, false)
        );
        assert!(broker.username.is_none());
    }

    #[test]
    fn each_refusal_says_what_to_do_or_what_happened() {
        let none = r#"{"result":"error","message":"Service not enabled"}"#;
        assert!(answer(400, none).err().unwrap().contains("Mosquitto broker app"));
        let text = answer(403, r#"{"result":"error","message":"no"}"#).err().unwrap();
        assert!(text.contains("403") && text.contains("no"), "{text}");
        assert!(answer(200, "<html>").is_err());
        assert!(answer(200, r#"{"result":"ok","data":{}}"#).is_err());
    }

    #[test]
    fn a_broker_that_is_plain_for_a_while_does_not_cost_the_certificates() {
        let tls = Tls { ca_file: Some("/ssl/ca.pem".into()), ..Tls::default() };
        let (url, token) = ("http://supervisor".into(), Secret::new("t"));
        let supervisor = Supervisor { url, token, tls: tls.clone() };
        let mut settings = test_data::settings();
        let mut told = |ssl| {
            let login = r#""username": "addons", "password": "geheim""#;
            let body = format!(r#"{{"data": {{"host": "b", "port": 1, "ssl": {ssl}, {login}}}}}"#);
            supervisor.adopt(answer(200, &body).ok().unwrap(), &mut settings);
            settings.tls.clone()
        };
        assert_eq!([told(true), told(false), told(true)], [Some(tls.clone()), None, Some(tls)]);
        assert!(!format!("{settings:?}").contains("geheim"));
    }
}
