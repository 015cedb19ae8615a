//! Why a connection to the broker failed or ended, in messages for the operator.

use std::borrow::Cow;
use std::io;
use std::net::IpAddr;

use rumqttc::ConnectReturnCode as Code;
use rumqttc::mqttbytes::Error;

use crate::remedy::{self, Remedy};
use crate::tls::TlsError;

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
    Refused(Cow<'static, str>),
    #[error("MQTT 5 is not supported")]
    VersionRefused,
    #[error("the broker ended the connection: {0}")]
    Ended(String),
    #[error(
        "connection refused: the broker does not accept the client ID; set {} to letters, digits, - and _",
        remedy::setting("MQTT_CLIENT_ID")
    )]
    BadClientId,
    #[error("TLS: {0}")]
    Tls(String),
    /// Connecting failed, or an established connection ended.
    #[error("{0}")]
    Connection(String),
    #[error("the broker closed the connection")]
    Aborted,
    #[error("the broker no longer answers")]
    Silent,
    #[error("the broker accepts no more messages")]
    Stalled,
    #[error("the broker sent invalid data ({0})")]
    Invalid(Error),
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
    pub fn new(error: Error, connected: bool) -> Self {
        match error {
            Error::Io(error) => MqttError::from_io(&error, connected),
            error if connected => MqttError::Invalid(error),
            _ => MqttError::NoAnswer,
        }
    }

    fn from_io(error: &io::Error, connected: bool) -> Self {
        let text = error.to_string();
        match error.kind() {
            io::ErrorKind::ConnectionRefused => MqttError::NotListening(&remedy::BROKER_REFUSES),
            io::ErrorKind::UnexpectedEof if !connected => MqttError::HungUp,
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

    pub fn from_code(code: Code) -> Self {
        match code {
            Code::BadUserNamePassword => MqttError::LoginRefused("wrong user or password"),
            Code::NotAuthorized => MqttError::LoginRefused("not authorised"),
            Code::BadClientId => MqttError::BadClientId,
            Code::RefusedProtocolVersion => {
                MqttError::Refused("MQTT 3.1.1 is not supported".into())
            }
            Code::ServiceUnavailable => MqttError::Refused("service unavailable".into()),
            Code::Success => MqttError::NoAnswer,
        }
    }

    /// The broker ended the connection and gave no reason.
    pub fn is_closed_by_broker(&self) -> bool {
        matches!(self, MqttError::HungUp | MqttError::Aborted | MqttError::Connection(_))
    }

    /// Retrying soon does not help and may lock the user out.
    pub fn is_login_refused(&self) -> bool {
        matches!(self, MqttError::LoginRefused(_))
    }
}

/// The connection could not be opened.
impl From<io::Error> for MqttError {
    fn from(error: io::Error) -> Self {
        MqttError::from_io(&error, false)
    }
}

/// The broker could not be greeted.
impl From<Error> for MqttError {
    fn from(error: Error) -> Self {
        MqttError::new(error, false)
    }
}

impl From<TlsError> for MqttError {
    fn from(error: TlsError) -> Self {
        MqttError::Tls(match error {
            TlsError::Settings(text) | TlsError::Handshake(text) => text,
            TlsError::NotSpoken(text) => {
                let off = remedy::assignment("MQTT_TLS", "false");
                format!("{text}; is this the TLS port, usually 8883? Without TLS set {off}")
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Installation;

    #[test]
    fn message_names_the_remedy() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let text = MqttError::from(refused).to_string();
        assert_eq!(text, "connection refused; is the broker running?");

        let unknown =
            io::Error::other("failed to lookup address information: Name does not resolve");
        let text = MqttError::from(unknown).to_string();
        assert_eq!(text, "host name not found; check MQTT_HOST and your DNS");

        let reset = Error::Io(io::Error::other("reset by peer"));
        assert_eq!(MqttError::new(reset, true).to_string(), "reset by peer");
        assert!(matches!(MqttError::new(Error::MalformedPacket, false), MqttError::NoAnswer));
    }

    #[test]
    fn refused_client_id_names_the_setting() {
        let text = MqttError::from_code(Code::BadClientId).to_string();
        assert!(text.ends_with("set MQTT_CLIENT_ID to letters, digits, - and _"), "{text}");
    }

    #[test]
    fn refusal_at_localhost_is_explained() {
        let at = |host: &str| {
            let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
            match MqttError::from(refused).with_host(host) {
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
    fn tls_hint_is_given_for_a_closed_connection_only() {
        let text = |error: TlsError| MqttError::from(error).to_string();
        assert!(text(TlsError::NotSpoken("reset".into())).contains("MQTT_TLS=false"));
        assert_eq!(text(TlsError::Handshake("unknown issuer".into())), "TLS: unknown issuer");
    }

    #[test]
    fn only_credential_errors_are_login_refusals() {
        let refused = |code| MqttError::from_code(code).is_login_refused();
        assert!(refused(Code::NotAuthorized));
        assert!(refused(Code::BadUserNamePassword));
        assert!(!refused(Code::ServiceUnavailable));
    }
}
