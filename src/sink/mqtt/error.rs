//! Why a connection to the broker failed or ended, in messages for the operator.

use std::error::Error;
use std::io;
use std::net::IpAddr;

use rumqttc::{ConnectReturnCode as Code, ConnectionError, StateError};

use crate::remedy::{self, Remedy};

/// The log puts the address of the broker before each message.
#[derive(Debug, thiserror::Error)]
pub enum MqttError {
    #[error("not installed in Home Assistant; install the Mosquitto broker app or set mqtt_host")]
    NoBroker,
    /// The TCP connection is up, but the other side does not speak MQTT.
    #[error("no answer; is this an MQTT broker?")]
    NoAnswer,
    #[error("closed the connection without an answer; {}", remedy::BROKER_HUNG_UP.text())]
    HungUp,
    #[error("connection refused; {}", .0.text())]
    NotListening(&'static Remedy),
    #[error("host name not found; {}", remedy::BROKER_UNKNOWN.text())]
    UnknownHost,
    #[error("login refused ({0}); {login}", login = remedy::BROKER_LOGIN.text())]
    LoginRefused(&'static str),
    #[error("connection refused by the broker: {0}")]
    Refused(&'static str),
    #[error("TLS: {0}")]
    Tls(String),
    /// Connecting failed, or an established connection ended.
    #[error("{0}")]
    Connection(String),
    #[error("the broker accepts no more messages")]
    Stalled,
    #[error("the broker does not answer the subscriptions")]
    NoSubscribeAck,
    #[error("the broker rejected a subscription; check its access rules")]
    SubscriptionRejected,
    /// The other half of the connection has ended, and reports the cause.
    #[error("connection closed")]
    Closed,
}

impl MqttError {
    /// `connected`: the broker had accepted the connection.
    pub fn new(error: ConnectionError, connected: bool) -> Self {
        match error {
            ConnectionError::Io(error) => MqttError::from_io(&error, connected),
            ConnectionError::MqttState(StateError::ConnectionAborted) if !connected => {
                MqttError::HungUp
            }
            ConnectionError::MqttState(error) => error.into(),
            ConnectionError::FlushTimeout => MqttError::Stalled,
            ConnectionError::ConnectionRefused(code) => MqttError::from_code(code),
            ConnectionError::NetworkTimeout | ConnectionError::NotConnAck(_) => MqttError::NoAnswer,
            ConnectionError::RequestsDone => MqttError::Closed,
            #[cfg(feature = "tls")]
            ConnectionError::Tls(error) => MqttError::from_tls(&error),
        }
    }

    fn from_io(error: &io::Error, connected: bool) -> Self {
        let text = error.to_string();
        match error.kind() {
            io::ErrorKind::ConnectionRefused => MqttError::NotListening(&remedy::BROKER_REFUSES),
            io::ErrorKind::InvalidData if connected => {
                MqttError::Connection("the broker sent invalid data".into())
            }
            // The standard library has no kind for it.
            _ if text.starts_with("failed to lookup address") => MqttError::UnknownHost,
            _ => MqttError::Connection(text),
        }
    }

    /// Inside of a container `localhost` is usually a mistake.
    pub fn with_host(self, host: &str) -> Self {
        let is_address = || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        match self {
            MqttError::NotListening(_)
                if host.eq_ignore_ascii_case("localhost") || is_address() =>
            {
                MqttError::NotListening(&remedy::BROKER_ON_LOCALHOST)
            }
            other => other,
        }
    }

    /// A broker without TLS cannot parse the handshake and closes the connection.
    #[cfg(feature = "tls")]
    fn from_tls(error: &(dyn Error + 'static)) -> Self {
        let text = innermost(error);
        let mut errors = causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>());
        let closed = errors.any(|error| CLOSED_BY_PEER.contains(&error.kind()));
        MqttError::Tls(if closed || text.contains("corrupt message") {
            format!("{text}; is this the TLS port, usually 8883? Without TLS set MQTT_TLS=false")
        } else {
            text
        })
    }

    fn from_code(code: Code) -> Self {
        match code {
            Code::BadUserNamePassword => MqttError::LoginRefused("wrong user or password"),
            Code::NotAuthorized => MqttError::LoginRefused("not authorised"),
            Code::BadClientId => MqttError::Refused("MQTT_CLIENT_ID is not accepted"),
            Code::RefusedProtocolVersion => MqttError::Refused("MQTT 3.1.1 is not supported"),
            Code::ServiceUnavailable => MqttError::Refused("service unavailable"),
            Code::Success => MqttError::NoAnswer,
        }
    }

    /// Retrying soon does not help and may lock the user out.
    pub fn is_login_refused(&self) -> bool {
        matches!(self, MqttError::LoginRefused(_))
    }
}

/// An error of an established connection.
impl From<StateError> for MqttError {
    fn from(error: StateError) -> Self {
        MqttError::Connection(match error {
            StateError::ConnectionAborted => "the broker closed the connection".to_owned(),
            StateError::AwaitPingResp => "the broker no longer answers".to_owned(),
            other => innermost(&other),
        })
    }
}

#[cfg(feature = "tls")]
const CLOSED_BY_PEER: &[io::ErrorKind] = &[
    io::ErrorKind::ConnectionReset,
    io::ErrorKind::ConnectionAborted,
    io::ErrorKind::UnexpectedEof,
    io::ErrorKind::BrokenPipe,
];

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// The library wraps the cause up to three times.
fn innermost(error: &(dyn Error + 'static)) -> String {
    causes(error).last().unwrap_or(error).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Installation;

    #[test]
    fn message_is_the_innermost_cause() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let text = MqttError::new(ConnectionError::Io(refused), false).to_string();
        assert_eq!(text, "connection refused; is the broker running?");

        let unknown =
            io::Error::other("failed to lookup address information: Name does not resolve");
        let text = MqttError::new(ConnectionError::Io(unknown), false).to_string();
        assert_eq!(text, "host name not found; check MQTT_HOST and your DNS");

        let reset = io::Error::other("reset by peer");
        let wrapped = StateError::Deserialization(rumqttc::mqttbytes::Error::Io(reset));
        let text = MqttError::new(ConnectionError::MqttState(wrapped), true).to_string();
        assert_eq!(text, "reset by peer");
    }

    #[test]
    fn refusal_at_localhost_is_explained() {
        let at = |host: &str| {
            let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
            match MqttError::new(ConnectionError::Io(refused), false).with_host(host) {
                MqttError::NotListening(remedy) => remedy.at(Installation::Container),
                other => panic!("{other}"),
            }
        };
        for host in ["localhost", "LocalHost", "127.0.0.1", "::1"] {
            assert!(at(host).starts_with("localhost is this container itself"), "{host}");
        }
        assert_eq!(at("broker"), "is the broker running?");
    }

    #[test]
    #[cfg(feature = "tls")]
    fn tls_hint_is_given_for_a_closed_connection_only() {
        let text = |kind| MqttError::from_tls(&io::Error::from(kind)).to_string();
        assert!(text(io::ErrorKind::ConnectionReset).contains("MQTT_TLS=false"));
        assert!(!text(io::ErrorKind::InvalidData).contains("MQTT_TLS=false"));
    }

    #[test]
    fn only_credential_errors_are_login_refusals() {
        let refused = |code| {
            MqttError::new(ConnectionError::ConnectionRefused(code), false).is_login_refused()
        };
        assert!(refused(Code::NotAuthorized));
        assert!(refused(Code::BadUserNamePassword));
        assert!(!refused(Code::ServiceUnavailable));
    }
}
