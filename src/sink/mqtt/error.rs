//! Why a connection to the broker did not come about or ended, in our own words.

use std::error::Error;
use std::io;

use rumqttc::{ConnectReturnCode, ConnectionError, StateError};

/// What went wrong. The texts follow the broker's name and a colon.
#[derive(Debug, thiserror::Error)]
pub enum MqttError {
    /// No connection came about.
    #[error("{0}")]
    Unreachable(String),
    /// Home Assistant has no broker.
    #[error("there is none: install the Mosquitto broker app, or set mqtt_host")]
    NoBroker,
    /// A connection came about, and no answer.
    #[error("no answer; is this an MQTT broker?")]
    Silent,
    /// The other side hung up instead of answering.
    #[error("hung up without an answer; does it expect TLS, or none?")]
    HungUp,
    /// The broker does not accept our name or password.
    #[error("log-in refused ({0}); check MQTT_USER and MQTT_PASSWORD")]
    Denied(&'static str),
    /// The broker refuses us for another reason.
    #[error("refuses the connection: {0}")]
    Refused(&'static str),
    /// Certificates do not fit, or a file is missing.
    #[error("TLS: {0}")]
    Tls(String),
    /// A connection that was up ended.
    #[error("{0}")]
    Broken(String),
    /// The broker stopped taking what we send.
    #[error("it takes no more messages")]
    Stuck,
    /// The broker did not confirm our subscriptions.
    #[error("it does not answer our subscriptions")]
    Unconfirmed,
    /// The other end of the connection is gone already.
    #[error("closed")]
    Closed,
}

impl MqttError {
    /// From the library's error; `connected` says whether the broker had let us in.
    pub fn of(error: ConnectionError, connected: bool) -> Self {
        match error {
            ConnectionError::Io(error) => MqttError::of_io(&error, connected),
            ConnectionError::MqttState(StateError::ConnectionAborted) if !connected => {
                MqttError::HungUp
            }
            ConnectionError::MqttState(error) => {
                let trouble = MqttError::of_state(error);
                match trouble {
                    MqttError::Broken(text) if !connected => MqttError::Unreachable(text),
                    other => other,
                }
            }
            ConnectionError::NetworkTimeout => MqttError::Silent,
            ConnectionError::FlushTimeout => MqttError::Stuck,
            ConnectionError::ConnectionRefused(code) => MqttError::of_code(code),
            ConnectionError::NotConnAck(_) => MqttError::Silent,
            ConnectionError::RequestsDone => MqttError::Closed,
            #[cfg(feature = "tls")]
            ConnectionError::Tls(error) => MqttError::of_tls(&error),
        }
    }

    /// From the library's error on a connection that is up.
    pub fn of_state(error: StateError) -> Self {
        match error {
            StateError::ConnectionAborted => {
                MqttError::Broken("it closed the connection".to_owned())
            }
            StateError::AwaitPingResp => MqttError::Broken("it no longer answers".to_owned()),
            other => MqttError::Broken(innermost(&other)),
        }
    }

    fn of_io(error: &io::Error, connected: bool) -> Self {
        let text = error.to_string();
        let text = match error.kind() {
            io::ErrorKind::ConnectionRefused => "connection refused; is the broker running?".into(),
            io::ErrorKind::InvalidData if connected => "it sent nonsense".into(),
            // The standard library has no kind for it.
            _ if text.starts_with("failed to lookup address") => {
                "nobody knows this name; check MQTT_HOST and the name server".into()
            }
            _ => text,
        };
        if connected { MqttError::Broken(text) } else { MqttError::Unreachable(text) }
    }

    /// A broker without TLS takes the first message for nonsense, and hangs up.
    #[cfg(feature = "tls")]
    fn of_tls(error: &(dyn Error + 'static)) -> Self {
        let text = innermost(error);
        let mut plain = text.contains("corrupt message");
        let mut cause = Some(error);
        while let Some(error) = cause {
            let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
            plain |= kind.is_some_and(|kind| HUNG_UP.contains(&kind));
            cause = error.source();
        }
        match plain {
            true => MqttError::Tls(format!(
                "{text}; is this the port for TLS, often 8883? Otherwise MQTT_TLS=false"
            )),
            false => MqttError::Tls(text),
        }
    }

    fn of_code(code: ConnectReturnCode) -> Self {
        match code {
            ConnectReturnCode::BadUserNamePassword => MqttError::Denied("wrong user or password"),
            ConnectReturnCode::NotAuthorized => MqttError::Denied("not authorised"),
            ConnectReturnCode::BadClientId => MqttError::Refused("it dislikes MQTT_CLIENT_ID"),
            ConnectReturnCode::RefusedProtocolVersion => MqttError::Refused("it lacks MQTT 3.1.1"),
            ConnectReturnCode::ServiceUnavailable => MqttError::Refused("service unavailable"),
            ConnectReturnCode::Success => MqttError::Silent,
        }
    }

    /// True when trying again soon is of no use and might do harm.
    pub fn is_denied(&self) -> bool {
        matches!(self, MqttError::Denied(_))
    }
}

/// What the end of a connection looks like that the other side did not want.
#[cfg(feature = "tls")]
const HUNG_UP: &[io::ErrorKind] = &[
    io::ErrorKind::ConnectionReset,
    io::ErrorKind::ConnectionAborted,
    io::ErrorKind::UnexpectedEof,
    io::ErrorKind::BrokenPipe,
];

/// The library wraps a cause up to three times; people need the cause.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_named_and_not_its_wrapping() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let text = MqttError::of(ConnectionError::Io(refused), false).to_string();
        assert_eq!(text, "connection refused; is the broker running?");

        let unknown =
            io::Error::other("failed to lookup address information: Name does not resolve");
        let text = MqttError::of(ConnectionError::Io(unknown), false).to_string();
        assert_eq!(text, "nobody knows this name; check MQTT_HOST and the name server");

        let reset = io::Error::other("reset by peer");
        let wrapped = StateError::Deserialization(rumqttc::mqttbytes::Error::Io(reset));
        let text = MqttError::of(ConnectionError::MqttState(wrapped), true).to_string();
        assert_eq!(text, "reset by peer");
    }

    #[test]
    #[cfg(feature = "tls")]
    fn a_broker_without_tls_is_guessed_and_a_bad_certificate_is_not() {
        let text = |kind| MqttError::of_tls(&io::Error::from(kind)).to_string();
        assert!(text(io::ErrorKind::ConnectionReset).contains("MQTT_TLS=false"));
        assert!(!text(io::ErrorKind::InvalidData).contains("MQTT_TLS=false"));
    }

    #[test]
    fn only_a_refused_login_is_left_to_the_operator() {
        let denied =
            |code| MqttError::of(ConnectionError::ConnectionRefused(code), false).is_denied();
        assert!(denied(ConnectReturnCode::NotAuthorized));
        assert!(denied(ConnectReturnCode::BadUserNamePassword));
        assert!(!denied(ConnectReturnCode::ServiceUnavailable));
    }
}
