//! Errors of BlueZ and of the bus, and their meaning as a [`LinkError`].

use bluer::{Error, ErrorKind, InternalErrorKind};

use crate::transport::{BusFault, LinkError};

/// Why a step of a connection or of a scan failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum BleError {
    /// BlueZ or the bus returned an error.
    #[error("{}", reason(.0))]
    Bluez(#[from] Error),
    /// BlueZ did not answer a call that needs no device. Contains what the call does.
    #[error("{0} took too long")]
    NoReply(&'static str),
    /// A call that needs a device took longer than our limit. Contains what the call does.
    #[error("{0} took too long")]
    TimedOut(&'static str),
}

/// The message of BlueZ, or the name of the error if there is none.
fn reason(error: &Error) -> String {
    match &error.kind {
        _ if !error.message.is_empty() => error.message.clone(),
        ErrorKind::Internal(InternalErrorKind::DBus(name)) => name.clone(),
        kind => kind.to_string(),
    }
}

impl BleError {
    /// An error that BlueZ did not report as such.
    pub(super) fn bluez(kind: ErrorKind, message: &str) -> BleError {
        BleError::Bluez(Error { kind, message: message.to_owned() })
    }

    pub(super) fn kind(&self) -> Option<&ErrorKind> {
        match self {
            BleError::Bluez(error) => Some(&error.kind),
            BleError::NoReply(_) | BleError::TimedOut(_) => None,
        }
    }

    /// The D-Bus object does not exist or no longer does.
    pub(super) fn is_missing(&self) -> bool {
        match self.kind() {
            Some(ErrorKind::NotFound | ErrorKind::DoesNotExist) => true,
            Some(ErrorKind::Internal(InternalErrorKind::DBus(name))) => {
                name == "org.freedesktop.DBus.Error.UnknownMethod"
            }
            _ => false,
        }
    }

    /// What the error means for the bus; `None` when it concerns a single device.
    pub(super) fn bus_fault(&self) -> Option<BusFault> {
        match self {
            BleError::NoReply(_) => Some(BusFault::Silent),
            BleError::Bluez(Error { kind: ErrorKind::Internal(kind), message }) => match kind {
                InternalErrorKind::DBus(name) => bus_fault(name, message),
                InternalErrorKind::DBusConnectionLost | InternalErrorKind::JoinError => {
                    Some(BusFault::Lost)
                }
                _ => None,
            },
            BleError::Bluez(_) | BleError::TimedOut(_) => None,
        }
    }

    /// The error as one of `endpoint`, a battery on `adapter` or the adapter itself.
    pub(super) fn link_error(&self, endpoint: &str, adapter: &str) -> LinkError {
        let (endpoint, reason) = (endpoint.to_owned(), self.to_string());
        if let Some(fault) = self.bus_fault() {
            return LinkError::NoBus { fault, reason };
        }
        match self.kind() {
            Some(ErrorKind::NotReady) => LinkError::AdapterOff { adapter: adapter.to_owned() },
            Some(ErrorKind::InProgress | ErrorKind::NotPermitted) => {
                LinkError::Busy { endpoint, program: None }
            }
            Some(
                ErrorKind::AuthenticationCanceled
                | ErrorKind::AuthenticationFailed
                | ErrorKind::AuthenticationRejected
                | ErrorKind::AuthenticationTimeout
                | ErrorKind::NotAuthorized,
            ) => LinkError::Pairing { endpoint, reason },
            _ => LinkError::Open { endpoint, reason },
        }
    }
}

/// What an error of D-Bus means for the bus as a whole; `None` when the bus works.
fn bus_fault(name: &str, message: &str) -> Option<BusFault> {
    // Errors of services that start on demand: there is no such unit, or it failed to start.
    if name.starts_with("org.freedesktop.DBus.Error.Spawn.") {
        return Some(BusFault::NoBluez);
    }
    Some(match name.strip_prefix("org.freedesktop.DBus.Error.")? {
        "FileNotFound" => BusFault::Missing,
        "NoServer" | "BadAddress" => BusFault::Closed,
        "AccessDenied" | "AuthFailed" if message.contains("AppArmor") => BusFault::AppArmor,
        "AccessDenied" | "AuthFailed" if message.contains("SELinux") => BusFault::SeLinux,
        "AccessDenied" | "AuthFailed" => BusFault::Denied,
        "ServiceUnknown" | "NameHasNoOwner" => BusFault::NoBluez,
        // A service that ends during a call.
        "NoReply" if message.contains("disconnected from message bus") => BusFault::NoBluez,
        "Disconnected" | "NoReply" => BusFault::Lost,
        "Timeout" => BusFault::Silent,
        // From the `dbus` crate itself, for example when the connection is lost.
        "Failed" => BusFault::Lost,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dbus(name: &str, message: &str) -> BleError {
        let name = format!("org.freedesktop.DBus.Error.{name}");
        BleError::bluez(ErrorKind::Internal(InternalErrorKind::DBus(name)), message)
    }

    /// The messages are those of dbus-daemon 1.14, libdbus 1.14 and systemd 252.
    #[test]
    fn dbus_errors_map_to_bus_faults() {
        let cases = [
            (
                "FileNotFound",
                "Failed to connect to socket /run/dbus/system_bus_socket",
                BusFault::Missing,
            ),
            ("NoServer", "Failed to connect to socket: Connection refused", BusFault::Closed),
            (
                "AccessDenied",
                "An AppArmor policy prevents this sender from sending this message to this recipient",
                BusFault::AppArmor,
            ),
            (
                "AccessDenied",
                "An SELinux policy prevents this sender from sending this message to this recipient",
                BusFault::SeLinux,
            ),
            ("AccessDenied", "Rejected send message, 2 matched rules", BusFault::Denied),
            (
                "NoReply",
                "Did not receive a reply. Possible causes include: the remote application did not \
                 send a reply",
                BusFault::Lost,
            ),
            (
                "NoReply",
                "Message recipient disconnected from message bus without replying",
                BusFault::NoBluez,
            ),
            ("ServiceUnknown", "The name org.bluez was not provided", BusFault::NoBluez),
            ("Spawn.ServiceNotFound", "Unit dbus-org.bluez.service not found.", BusFault::NoBluez),
            ("Timeout", "", BusFault::Silent),
            ("Failed", "Failed to send message", BusFault::Lost),
        ];
        for (name, message, fault) in cases {
            assert_eq!(dbus(name, message).bus_fault(), Some(fault), "{name}: {message}");
        }
        assert_eq!(dbus("UnknownObject", "").bus_fault(), None);
    }

    #[test]
    fn device_errors_are_not_bus_faults() {
        let link_error = |error: BleError| error.link_error("AA", "hci0");
        let endpoint = || "AA".to_owned();
        let off = LinkError::AdapterOff { adapter: "hci0".into() };
        assert_eq!(link_error(BleError::bluez(ErrorKind::NotReady, "")), off);
        let busy = LinkError::Busy { endpoint: endpoint(), program: None };
        assert_eq!(link_error(BleError::bluez(ErrorKind::InProgress, "")), busy);
        let reason = "le-connection-abort-by-local".to_owned();
        let aborted = BleError::bluez(ErrorKind::Failed, &reason);
        assert_eq!(link_error(aborted), LinkError::Open { endpoint: endpoint(), reason });
        let reason = "connecting took too long".to_owned();
        let late = BleError::TimedOut("connecting");
        assert_eq!(link_error(late), LinkError::Open { endpoint: endpoint(), reason });
        let refused =
            link_error(BleError::bluez(ErrorKind::AuthenticationFailed, "Authentication Failed"));
        assert!(matches!(refused, LinkError::Pairing { .. }), "{refused:?}");
    }
}
