//! What can go wrong with a connection.

/// `endpoint` is a path, a `tcp://` address or a Bluetooth address; `reason` is the system's message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The device or host does not exist.
    #[error("{endpoint} does not exist")]
    NotFound { endpoint: String },
    /// The system denies access.
    #[error("no permission to open {endpoint}")]
    Denied { endpoint: String },
    /// Another program has opened it.
    #[error("{endpoint} is in use by another program")]
    Busy { endpoint: String },
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
            LinkError::NotFound { .. } => {
                "is the adapter plugged in? `bms-reader scan` lists the ports; in Docker pass the \
                 port with --device"
            }
            LinkError::Denied { .. } => {
                "add the user to the group that owns the device (often dialout); in Docker pass \
                 --device, and --group-add with that group"
            }
            LinkError::Busy { endpoint } if is_address(endpoint) => {
                "another program on this host is connected to it by Bluetooth, and only one can be: \
                 does the Bluetooth integration of Home Assistant use this battery?"
            }
            LinkError::Busy { .. } => {
                "is another reader running? Only one program can use the port"
            }
            LinkError::Open { endpoint, .. } if is_tcp(endpoint) => {
                "is the bridge switched on, in TCP server mode, and is the port number right?"
            }
            LinkError::Open { endpoint, .. } if is_address(endpoint) => {
                "is the signal weak, or a phone app connected to the battery? Move the adapter \
                 closer and away from USB 3 plugs; switch off Bluetooth on the phone"
            }
            LinkError::Open { endpoint, .. } if endpoint.starts_with("hci") => {
                "the adapter is busy or hangs: try again; if that does not help, unplug it and plug \
                 it in again, or run `systemctl restart bluetooth` on the host"
            }
            LinkError::Open { .. } => {
                "check that this is the right path; `bms-reader scan` lists the ports"
            }
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
            LinkError::NoAdapter { .. } => {
                "is the adapter plugged in? `bluetoothctl list` on the host shows working adapters"
            }
            LinkError::AdapterOff { .. } => {
                "switch it on: `bluetoothctl power on` or `rfkill unblock bluetooth` on the host"
            }
            LinkError::NotSeen { others: 0, .. } => {
                "the adapter may hang (unplug it and plug it in again, or run `systemctl restart \
                 bluetooth` on the host) or lack an antenna; or no Bluetooth device is near"
            }
            LinkError::NotSeen { .. } => {
                "is the address right (`bms-reader scan` lists the devices in reach), the battery \
                 awake and near enough? While a phone app is connected to it, it is invisible"
            }
            LinkError::NoService { .. } => {
                "is the type right? If it is, the cache of BlueZ is outdated: on the host run \
                 `bluetoothctl remove ADDRESS`, delete its file under /var/lib/bluetooth/*/cache, \
                 and restart bluetooth"
            }
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
    /// As it does for users that its machine does not know.
    #[error("D-Bus closed the connection")]
    HungUp,
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
                "install bluez on the host and start it: systemctl start bluetooth"
            }
            BusFault::Silent => {
                "restart Bluetooth on the host: systemctl restart bluetooth; if that does not \
                 help, unplug the adapter or restart the host"
            }
        }
    }
}

fn is_tcp(endpoint: &str) -> bool {
    endpoint.starts_with("tcp://")
}

/// Whether this looks like `AA:BB:CC:DD:EE:FF`.
fn is_address(endpoint: &str) -> bool {
    endpoint.len() == 17 && endpoint.bytes().filter(|byte| *byte == b':').count() == 5
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
