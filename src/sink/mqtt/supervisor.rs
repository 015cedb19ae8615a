//! Home Assistant's Supervisor reports the address of the broker and a login for this app.
//!
//! Source: home-assistant/supervisor, `api/services.py`. `GET /services/mqtt` returns
//! {host, port, ssl, username, password}, 400 when no broker is installed, 403 when the app does not
//! declare the service.

use std::fmt;

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::error::MqttError;
use super::{Settings, Tls};
use crate::model::Secret;
use crate::supervisor::{Supervisor, SupervisorError};

/// The broker that the Supervisor knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SupervisedBroker {
    pub supervisor: Supervisor,
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
        let Some(SupervisedBroker { supervisor, .. }) = &self.supervisor else { return Ok(false) };
        let broker = parse(supervisor.get("/services/mqtt").await)?;
        Ok(self.apply(broker))
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

fn parse(answer: Result<Value, SupervisorError>) -> Result<Broker, MqttError> {
    match answer {
        Ok(data) => Broker::deserialize(&data).map_err(unavailable),
        Err(SupervisorError::Refused { status: StatusCode::BAD_REQUEST, .. }) => {
            Err(MqttError::NoBroker)
        }
        Err(error) => Err(unavailable(error)),
    }
}

fn unavailable(reason: impl fmt::Display) -> MqttError {
    MqttError::Connection(format!("the Supervisor does not report the broker ({reason})"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sink::mqtt::test_data;

    fn refused(status: StatusCode, message: &str) -> String {
        let message = Some(message.to_owned());
        let error = SupervisorError::Refused { status, message };
        parse(Err(error)).err().unwrap().to_string()
    }

    #[test]
    fn broker_without_login_is_accepted() {
        let data = json!({"host": "core-mosquitto", "port": 1883, "protocol": "5"});
        let broker = parse(Ok(data)).ok().unwrap();
        assert_eq!(
            (broker.host.as_str(), broker.port, broker.ssl),
            ("core-mosquitto", 1883, false)
        );
        assert!(broker.username.is_none());
    }

    #[test]
    fn error_response_names_cause_or_remedy() {
        let none = refused(StatusCode::BAD_REQUEST, "Service not enabled");
        assert!(none.contains("Mosquitto broker app"), "{none}");
        let text = refused(StatusCode::FORBIDDEN, "no");
        assert!(text.contains("403") && text.contains("no"), "{text}");
        assert!(parse(Ok(json!({}))).is_err());
    }

    #[test]
    fn certificates_survive_a_broker_without_tls() {
        let tls = Tls { ca_file: Some("/ssl/ca.pem".into()), ..Tls::default() };
        let (url, token) = ("http://supervisor".into(), Secret::new("t"));
        let supervisor =
            Some(SupervisedBroker { supervisor: Supervisor { url, token }, tls: tls.clone() });
        let mut settings = Settings { supervisor, ..test_data::settings() };
        let mut applied = |ssl| {
            let data = json!({"host": "b", "port": 1, "ssl": ssl, "username": "addons",
                "password": "geheim"});
            settings.apply(parse(Ok(data)).ok().unwrap());
            settings.tls.clone()
        };
        let tls_settings = [applied(true), applied(false), applied(true)];
        assert_eq!(tls_settings, [Some(tls.clone()), None, Some(tls)]);
        assert!(!format!("{settings:?}").contains("geheim"));
    }
}
