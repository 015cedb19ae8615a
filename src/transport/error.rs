//! What can go wrong with a connection.

use super::esphome_fault::EsphomeFault;
use crate::remedy;

/// `endpoint` is a path, a `tcp://` or `esphome://` address or a Bluetooth address; `reason` is the system's message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The device or host does not exist.
    #[error("{endpoint} does not exist")]
    NotFound { endpoint: String },
    /// The system denies access. `group`: the one that may open it, where it is known.
    #[error("no permission to open {endpoint}{}", in_brackets(group.as_deref()))]
    Denied { endpoint: String, group: Option<String> },
    /// Another program has opened it. `program`: its name and number, where they are known.
    #[error("{endpoint} is in use by another program{}", in_brackets(program.as_deref()))]
    Busy { endpoint: String, program: Option<String> },
    /// It exists, but the connection could not be opened.
    #[error("cannot open {endpoint}: {reason}")]
    Open { endpoint: String, reason: String },
    /// The connection was open and has ended.
    #[error("{endpoint} went away: {reason}")]
    Gone { endpoint: String, reason: String },
    /// It accepted no bytes in time.
    #[error("{endpoint} accepts no data")]
    Stuck { endpoint: String },
    /// Bluetooth as a whole is not available.
    #[error("{fault} ({reason})")]
    NoBus { fault: BusFault, reason: String },
    /// `adapter` is the configured one; `None`: there is no adapter at all.
    #[error("{} not found", adapter_or_any(adapter.as_deref()))]
    NoAdapter { adapter: Option<String> },
    #[error("the Bluetooth adapter {adapter} is switched off")]
    AdapterOff { adapter: String },
    /// The adapter works, but the battery is not in reach. `others` counts the devices that are; 0
    /// may also mean that the adapter does not work after all.
    #[error("{}", not_seen(endpoint, adapter, *others))]
    NotSeen { endpoint: String, adapter: String, others: usize },
    /// The battery is connected, but lacks the characteristics of its type.
    #[error("{endpoint} lacks the Bluetooth service of this battery type")]
    NoService { endpoint: String },
    /// An ESPHome device does not serve us.
    #[error("{endpoint}: {fault}")]
    Esphome { endpoint: String, fault: EsphomeFault },
    /// The battery requires pairing, and that failed.
    #[error("pairing with {endpoint} failed: {reason}")]
    Pairing { endpoint: String, reason: String },
}

impl LinkError {
    /// What the operator can do.
    pub fn hint(&self) -> &'static str {
        match self {
            LinkError::NotFound { endpoint } if is_tcp(endpoint) => {
                "check the host name of the bridge and your DNS"
            }
            LinkError::NotFound { endpoint } if is_esphome(endpoint) => {
                "check the host name and your DNS; names that end with .local are not resolved here, so \
                 write the IP address"
            }
            LinkError::NotFound { .. } => remedy::PORT_MISSING.text(),
            LinkError::Denied { .. } => remedy::PORT_DENIED.text(),
            LinkError::Busy { endpoint, .. } if is_address(endpoint) => remedy::BATTERY_BUSY.text(),
            LinkError::Busy { endpoint, .. } if is_esphome(endpoint) => {
                EsphomeFault::PortBusy.hint()
            }
            LinkError::Busy { .. } => remedy::PORT_BUSY.text(),
            LinkError::Open { endpoint, .. } if is_tcp(endpoint) => {
                "is the bridge switched on, in TCP server mode, and is the port number right?"
            }
            LinkError::Open { endpoint, .. } | LinkError::Gone { endpoint, .. }
                if is_esphome(endpoint) =>
            {
                EsphomeFault::Silent.hint()
            }
            LinkError::Open { endpoint, .. } if is_address(endpoint) => {
                "is the signal weak, or a phone app connected to the battery? Move the adapter \
                 closer and away from USB 3 plugs; switch off Bluetooth on the phone"
            }
            LinkError::Open { endpoint, .. } if endpoint.starts_with("hci") => {
                remedy::ADAPTER_HANGS.text()
            }
            LinkError::Open { .. } => remedy::WRONG_PORT.text(),
            LinkError::Gone { endpoint, .. } if is_tcp(endpoint) => {
                "check the network, and that the bridge allows several connections"
            }
            LinkError::Gone { endpoint, .. } | LinkError::Stuck { endpoint }
                if is_address(endpoint) =>
            {
                "the signal is weak, or the battery is asleep: move the adapter closer"
            }
            LinkError::Gone { .. } => "check the plug, the cable and the power of the adapter",
            LinkError::Stuck { .. } => {
                "the adapter hangs: unplug it and plug it in again; if it is a bridge, restart it"
            }
            LinkError::NoBus { fault, .. } => fault.hint(),
            LinkError::Esphome { fault, .. } => fault.hint(),
            LinkError::NoAdapter { .. } => remedy::ADAPTER_MISSING.text(),
            LinkError::AdapterOff { .. } => remedy::ADAPTER_OFF.text(),
            LinkError::NotSeen { others: 0, .. } => remedy::NOTHING_IN_RANGE.text(),
            LinkError::NotSeen { .. } => remedy::BATTERY_OUT_OF_RANGE.text(),
            LinkError::NoService { .. } => remedy::NO_SERVICE.text(),
            LinkError::Pairing { .. } => {
                "check the password: it is the number that the battery's app asks for when pairing"
            }
        }
    }
}

/// Why Bluetooth is not available at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BusFault {
    #[error("the D-Bus socket is missing")]
    Missing,
    #[error("nothing listens on the D-Bus socket")]
    Closed,
    /// By the permissions of the socket or the policy of the bus.
    #[error("D-Bus refuses access to Bluetooth")]
    Denied,
    #[error("AppArmor forbids access to D-Bus")]
    AppArmor,
    #[error("SELinux forbids access to D-Bus")]
    SeLinux,
    /// Instead of a login, as D-Bus does with users that its machine does not know.
    #[error("D-Bus closed the connection")]
    HungUp,
    /// It worked before.
    #[error("the connection to D-Bus was lost")]
    Lost,
    #[error("the Bluetooth service (bluetoothd) is not running")]
    NoBluez,
    #[error("the Bluetooth service does not answer")]
    Silent,
}

impl BusFault {
    /// Access was denied on purpose.
    pub fn is_refusal(self) -> bool {
        matches!(self, BusFault::Denied | BusFault::AppArmor | BusFault::SeLinux | BusFault::HungUp)
    }

    fn hint(self) -> &'static str {
        let remedy = match self {
            BusFault::Missing | BusFault::Closed => &remedy::NO_DBUS,
            BusFault::Denied => &remedy::DBUS_DENIED,
            BusFault::AppArmor => &remedy::APPARMOR,
            BusFault::SeLinux => &remedy::SELINUX,
            BusFault::HungUp => &remedy::UNKNOWN_USER,
            BusFault::Lost => {
                return "it is opened again; if this happens often, look into the log of D-Bus";
            }
            BusFault::NoBluez => &remedy::NO_BLUEZ,
            BusFault::Silent => &remedy::BLUEZ_SILENT,
        };
        remedy.text()
    }
}

fn is_tcp(endpoint: &str) -> bool {
    endpoint.starts_with("tcp://")
}

fn is_esphome(endpoint: &str) -> bool {
    endpoint.starts_with("esphome://")
}

/// Whether this looks like `AA:BB:CC:DD:EE:FF`.
fn is_address(endpoint: &str) -> bool {
    endpoint.len() == 17 && endpoint.bytes().filter(|byte| *byte == b':').count() == 5
}

fn in_brackets(detail: Option<&str>) -> String {
    detail.map(|detail| format!(" ({detail})")).unwrap_or_default()
}

fn adapter_or_any(adapter: Option<&str>) -> String {
    adapter.map_or("Bluetooth adapter".into(), |name| format!("Bluetooth adapter {name}"))
}

/// An adapter that sees nothing has one message for all its batteries.
fn not_seen(endpoint: &str, adapter: &str, others: usize) -> String {
    match others {
        0 => format!("{adapter} sees no Bluetooth device at all"),
        1 => format!("{adapter} does not see {endpoint}, but another device"),
        _ => format!("{adapter} does not see {endpoint}, but {others} other devices"),
    }
}
