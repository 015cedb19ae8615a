//! What BlueZ and the bus say when something fails, in words of [`LinkError`].

use bluer::{Error, ErrorKind, InternalErrorKind};

use super::LinkError;

/// Why Bluetooth cannot be reached at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BusFault {
    /// There is no socket of the system bus.
    Missing,
    /// Nobody listens on the socket.
    Closed,
    /// The socket or the policy of the bus refuses our user.
    Denied,
    /// AppArmor refuses.
    AppArmor,
    /// SELinux refuses.
    SeLinux,
    /// The bus hangs up on us: it does so on users that its machine does not know.
    HungUp,
    /// The bus is there, but the Bluetooth service is not.
    NoBluez,
    /// The Bluetooth service or the bus does not answer.
    Silent,
}

impl BusFault {
    /// Somebody decided that we may not.
    pub fn is_refusal(self) -> bool {
        matches!(self, BusFault::Denied | BusFault::AppArmor | BusFault::SeLinux | BusFault::HungUp)
    }

    /// What a person sees.
    pub(crate) fn words(self) -> &'static str {
        match self {
            BusFault::Missing => "the D-Bus socket is missing",
            BusFault::Closed => "nothing listens on the D-Bus socket",
            BusFault::Denied => "D-Bus refuses access to Bluetooth",
            BusFault::AppArmor => "AppArmor forbids talking to D-Bus",
            BusFault::SeLinux => "SELinux forbids talking to D-Bus",
            BusFault::HungUp => "D-Bus hangs up",
            BusFault::NoBluez => "the Bluetooth service (bluetoothd) is not running",
            BusFault::Silent => "the Bluetooth service does not answer",
        }
    }

    /// What the operator can do.
    pub(crate) fn hint(self) -> &'static str {
        match self {
            BusFault::Missing | BusFault::Closed => {
                "Bluetooth needs the host's D-Bus: in Docker mount it with -v /run/dbus:/run/dbus:ro; \
                 on the host install and start dbus and bluez"
            }
            BusFault::Denied => {
                "the D-Bus policy must let this user call org.bluez: add the user to the group \
                 bluetooth, or run as root"
            }
            BusFault::AppArmor => {
                "in Docker add --security-opt apparmor=unconfined; in the add-on check that its \
                 profile allows D-Bus"
            }
            BusFault::SeLinux => "in Docker add --security-opt label=disable",
            BusFault::HungUp => {
                "D-Bus refuses users that the host does not know: in Docker run as root (user: \
                 \"0:0\") or as 65534:65534"
            }
            BusFault::NoBluez => {
                "install bluez on the host, and start it: systemctl start bluetooth"
            }
            BusFault::Silent => {
                "restart Bluetooth on the host: systemctl restart bluetooth; if that does not \
                 help, unplug the adapter or restart the host"
            }
        }
    }

    /// What an error means for the bus as a whole; `None` when the bus works.
    fn of(name: &str, message: &str) -> Option<BusFault> {
        // Service names that start on demand answer Spawn.*: there is no such unit, or it failed.
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
            // The bus says so of a service that ends while it is asked.
            "NoReply" if message.contains("disconnected from message bus") => BusFault::NoBluez,
            "Disconnected" | "NoReply" => BusFault::HungUp,
            "Timeout" => BusFault::Silent,
            // What the `dbus` crate says itself, for one when the connection is gone.
            "Failed" => BusFault::HungUp,
            _ => return None,
        })
    }
}

/// A step that did not come about.
#[derive(Debug)]
pub(super) enum Snag {
    /// BlueZ or the bus said no.
    Said(Error),
    /// BlueZ did not answer what it knows by heart; what was asked.
    Silent(&'static str),
    /// What takes a device to answer took longer than our limit.
    Late(&'static str),
}

impl Snag {
    pub(super) fn kind(&self) -> Option<&ErrorKind> {
        match self {
            Snag::Said(error) => Some(&error.kind),
            Snag::Silent(_) | Snag::Late(_) => None,
        }
    }

    /// The object is not there (any more).
    pub(super) fn is_missing(&self) -> bool {
        match self.kind() {
            Some(ErrorKind::NotFound | ErrorKind::DoesNotExist) => true,
            Some(ErrorKind::Internal(InternalErrorKind::DBus(name))) => {
                name == "org.freedesktop.DBus.Error.UnknownMethod"
            }
            _ => false,
        }
    }

    /// What this says about the bus; `None` when it is about one device.
    pub(super) fn bus(&self) -> Option<BusFault> {
        match self {
            Snag::Silent(_) => Some(BusFault::Silent),
            Snag::Late(_) => None,
            Snag::Said(error) => match &error.kind {
                ErrorKind::Internal(InternalErrorKind::DBus(name)) => {
                    BusFault::of(name, &error.message)
                }
                ErrorKind::Internal(
                    InternalErrorKind::DBusConnectionLost | InternalErrorKind::JoinError,
                ) => Some(BusFault::HungUp),
                _ => None,
            },
        }
    }

    /// In BlueZ's own words, without the bus names in front.
    pub(super) fn reason(&self) -> String {
        match self {
            Snag::Silent(what) | Snag::Late(what) => format!("{what} took too long"),
            Snag::Said(Error { kind, message }) => match kind {
                _ if !message.is_empty() => message.clone(),
                ErrorKind::Internal(InternalErrorKind::DBus(name)) => name.clone(),
                kind => kind.to_string(),
            },
        }
    }

    /// As an error of a battery at `place`, on the adapter of that name.
    pub(super) fn at(&self, place: &str, adapter: &str) -> LinkError {
        if let Some(fault) = self.bus() {
            return LinkError::NoBus { fault, reason: self.reason() };
        }
        match self.kind() {
            Some(ErrorKind::NotReady) => LinkError::AdapterOff { place: adapter.into() },
            Some(ErrorKind::InProgress | ErrorKind::NotPermitted) => {
                LinkError::Busy { place: place.into() }
            }
            Some(
                ErrorKind::AuthenticationCanceled
                | ErrorKind::AuthenticationFailed
                | ErrorKind::AuthenticationRejected
                | ErrorKind::AuthenticationTimeout
                | ErrorKind::NotAuthorized,
            ) => LinkError::Pairing { place: place.into(), reason: self.reason() },
            _ => LinkError::Open { place: place.into(), reason: self.reason() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(kind: ErrorKind, message: &str) -> Snag {
        Snag::Said(Error { kind, message: message.into() })
    }

    fn bus(name: &str, message: &str) -> Snag {
        let name = format!("org.freedesktop.DBus.Error.{name}");
        said(ErrorKind::Internal(InternalErrorKind::DBus(name)), message)
    }

    /// The words are those of dbus-daemon 1.14, libdbus 1.14 and systemd 252.
    #[test]
    fn each_way_of_being_kept_from_bluetooth_has_its_own_remedy() {
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
                BusFault::HungUp,
            ),
            (
                "NoReply",
                "Message recipient disconnected from message bus without replying",
                BusFault::NoBluez,
            ),
            ("ServiceUnknown", "The name org.bluez was not provided", BusFault::NoBluez),
            ("Spawn.ServiceNotFound", "Unit dbus-org.bluez.service not found.", BusFault::NoBluez),
            ("Timeout", "", BusFault::Silent),
            ("Failed", "Failed to send message", BusFault::HungUp),
        ];
        for (name, message, fault) in cases {
            assert_eq!(bus(name, message).bus(), Some(fault), "{name}: {message}");
        }
        assert_eq!(bus("UnknownObject", "").bus(), None);
        let all = cases.map(|(.., fault)| fault);
        for (index, fault) in all.iter().enumerate() {
            let twin = all[..index].iter().find(|other| other.words() == fault.words());
            assert!(twin.is_none_or(|twin| twin == fault), "{fault:?} and {twin:?}");
            assert!(!fault.hint().is_empty());
        }
    }

    #[test]
    fn an_error_of_one_battery_is_none_of_the_bus() {
        let at = |snag: Snag| snag.at("AA", "hci0");
        let place = || "AA".to_owned();
        assert_eq!(
            at(said(ErrorKind::NotReady, "")),
            LinkError::AdapterOff { place: "hci0".into() }
        );
        assert_eq!(at(said(ErrorKind::InProgress, "")), LinkError::Busy { place: place() });
        let reason = "le-connection-abort-by-local".to_owned();
        assert_eq!(
            at(said(ErrorKind::Failed, &reason)),
            LinkError::Open { place: place(), reason }
        );
        let reason = "connecting took too long".to_owned();
        assert_eq!(at(Snag::Late("connecting")), LinkError::Open { place: place(), reason });
        let refused = at(said(ErrorKind::AuthenticationFailed, "Authentication Failed"));
        assert!(matches!(refused, LinkError::Pairing { .. }), "{refused:?}");
    }
}
