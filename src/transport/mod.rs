//! Moving bytes; knows nothing of batteries.
//!
//! An enum, not a trait object: the set is closed and a reader sees all of it. Every wait in here
//! has its own limit.

pub mod ble;
pub mod memory;
pub mod serial;
mod stream;
pub mod tcp;

use std::fmt;

pub use ble::{AdapterFound, BleConfig, BleFound, BleLink, BlePlace, BusFault, Passkey};
pub use memory::{MemoryLink, MemoryPort};
pub use serial::{PortFound, SerialConfig};
pub use tcp::TcpConfig;

/// Where a line leads.
#[derive(Debug, Clone)]
pub enum Endpoint {
    /// A serial port of this machine.
    Serial(SerialConfig),
    /// An RS485-to-Ethernet bridge.
    Tcp(TcpConfig),
    /// A battery in reach of a Bluetooth adapter.
    Ble(BleConfig),
    /// A simulator in this process.
    Memory(MemoryPort),
}

impl Endpoint {
    /// Opens the link. `baud` matters for serial ports only.
    pub async fn open(&self, baud: u32) -> Result<Link, LinkError> {
        match self {
            Endpoint::Serial(config) => serial::open(config, baud).map(Link::Serial),
            Endpoint::Tcp(config) => tcp::open(config).await.map(Link::Tcp),
            Endpoint::Ble(config) => ble::open(config).await.map(Link::Ble),
            Endpoint::Memory(port) => port.open().map(Link::Memory),
        }
    }
}

/// What people call the place: `/dev/ttyUSB0`, `tcp://10.0.0.5:8899`, `AA:BB:CC:DD:EE:FF`.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Serial(config) => f.write_str(&config.path),
            Endpoint::Tcp(config) => config.fmt(f),
            Endpoint::Ble(config) => f.write_str(&config.address),
            Endpoint::Memory(port) => write!(f, "{port}"),
        }
    }
}

/// An open connection.
#[derive(Debug)]
pub enum Link {
    /// A serial port.
    Serial(serial::SerialLink),
    /// A TCP connection.
    Tcp(tcp::TcpLink),
    /// A battery on Bluetooth.
    Ble(BleLink),
    /// A simulator in this process.
    Memory(MemoryLink),
}

impl Link {
    /// Sends all bytes.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        match self {
            Link::Serial(link) => link.send(bytes).await,
            Link::Tcp(link) => link.send(bytes).await,
            Link::Ble(link) => link.send(bytes).await,
            Link::Memory(link) => link.send(bytes).await,
        }
    }

    /// The next chunk. Cancel-safe. Never an empty chunk: the end of the stream is
    /// [`LinkError::Gone`].
    pub async fn receive(&mut self) -> Result<Vec<u8>, LinkError> {
        match self {
            Link::Serial(link) => link.receive().await,
            Link::Tcp(link) => link.receive().await,
            Link::Ble(link) => link.receive().await,
            Link::Memory(link) => link.receive().await,
        }
    }

    /// Forgets what arrived before the question. Never waits for more to come.
    pub fn drain(&mut self) -> Result<(), LinkError> {
        match self {
            Link::Serial(link) => link.drain(),
            Link::Tcp(link) => link.drain(),
            Link::Ble(link) => link.drain(),
            Link::Memory(link) => link.drain(),
        }
    }

    /// Says goodbye, where the other side needs one.
    pub async fn close(self) {
        match self {
            Link::Serial(_) | Link::Memory(_) => {}
            Link::Tcp(link) => link.close().await,
            Link::Ble(link) => link.close().await,
        }
    }
}

/// What went wrong with a connection; `place` is the path or address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The device or host does not exist.
    #[error("{place} does not exist")]
    NotFound {
        /// Path or address.
        place: String,
    },
    /// The system refuses access.
    #[error("no permission to open {place}")]
    Denied {
        /// Path or address.
        place: String,
    },
    /// Another program holds it.
    #[error("{place} is in use by another program")]
    Busy {
        /// Path or address.
        place: String,
    },
    /// It is there, but no connection came about.
    #[error("cannot open {place}: {reason}")]
    Open {
        /// Path or address.
        place: String,
        /// The system's words.
        reason: String,
    },
    /// It was open and has gone away.
    #[error("{place} went away: {reason}")]
    Gone {
        /// Path or address.
        place: String,
        /// The system's words.
        reason: String,
    },
    /// It took no bytes in time.
    #[error("{place} takes no data")]
    Stuck {
        /// Path or address.
        place: String,
    },
    /// Bluetooth itself cannot be reached.
    #[error("no Bluetooth: {} ({reason})", fault.words())]
    NoBus {
        /// What is in the way.
        fault: BusFault,
        /// The system's words.
        reason: String,
    },
    /// This machine has no such Bluetooth adapter.
    #[error("{place} is not there")]
    NoAdapter {
        /// The adapter.
        place: String,
    },
    /// The Bluetooth adapter is switched off.
    #[error("the Bluetooth adapter {place} is switched off")]
    AdapterOff {
        /// The adapter.
        place: String,
    },
    /// The adapter works, but this battery is not in reach, or nothing at all.
    #[error("{}", not_seen(place, adapter, *others))]
    NotSeen {
        /// Address of the battery.
        place: String,
        /// The adapter.
        adapter: String,
        /// How many other devices it sees. None: the adapter may be deaf.
        others: usize,
    },
    /// It is connected, but has nothing to talk to.
    #[error("{place} does not offer what this type of battery has")]
    NoService {
        /// Address of the battery.
        place: String,
    },
    /// It wants to be paired, and that failed.
    #[error("pairing with {place} failed: {reason}")]
    Pairing {
        /// Address of the battery.
        place: String,
        /// The system's words.
        reason: String,
    },
}

impl LinkError {
    /// What the operator can do.
    pub fn hint(&self) -> &'static str {
        match self {
            LinkError::NotFound { place } if place.starts_with("tcp://") => {
                "check the name of the bridge and the name server"
            }
            LinkError::NotFound { .. } => {
                "is the adapter plugged in? `bms-reader scan` lists the ports; in Docker pass the \
                 port with --device"
            }
            LinkError::Denied { .. } => {
                "add the user to the group that owns the device (often dialout); in Docker pass \
                 --device, and --group-add with that group"
            }
            LinkError::Busy { place } if is_address(place) => {
                "another program of this host reads it by Bluetooth: only one can; is the \
                 Bluetooth integration of Home Assistant set to this battery, too?"
            }
            LinkError::Busy { .. } => {
                "is another reader running? Only one program can use the port"
            }
            LinkError::Open { place, .. } if place.starts_with("tcp://") => {
                "is the bridge switched on, in TCP server mode, and is the port number right?"
            }
            LinkError::Open { place, .. } if is_address(place) => {
                "is the signal weak, or a phone app connected to the battery? Bring the adapter \
                 closer, away from USB 3 plugs; switch the Bluetooth of the phone off"
            }
            LinkError::Open { place, .. } if place.starts_with("hci") => {
                "the adapter is busy, or it hangs: try again; if that does not help, unplug it and \
                 plug it in again, or `systemctl restart bluetooth` on the host"
            }
            LinkError::Open { .. } => {
                "check that this is the right path; `bms-reader scan` lists the ports"
            }
            LinkError::Gone { place, .. } if place.starts_with("tcp://") => {
                "check the network, and that the bridge allows this connection next to others"
            }
            LinkError::Gone { place, .. } | LinkError::Stuck { place } if is_address(place) => {
                "the radio link is weak, or the battery went to sleep: bring the adapter closer"
            }
            LinkError::Gone { .. } => "check the plug, the cable and the power of the adapter",
            LinkError::Stuck { .. } => {
                "the adapter hangs: unplug it and plug it in again; if it is a bridge, restart it"
            }
            LinkError::NoBus { fault, .. } => fault.hint(),
            LinkError::NoAdapter { .. } => {
                "is the adapter plugged in? `bluetoothctl list` on the host shows those that work"
            }
            LinkError::AdapterOff { .. } => {
                "switch it on: `bluetoothctl power on`, or `rfkill unblock bluetooth`, on the host"
            }
            LinkError::NotSeen { others: 0, .. } => {
                "the adapter hears nothing at all: it may hang (unplug it and plug it in again, or \
                 `systemctl restart bluetooth` on the host), or have no antenna; or no Bluetooth \
                 device is near"
            }
            LinkError::NotSeen { .. } => {
                "is the address right (`bms-reader scan` lists what is in reach), the battery \
                 awake and near enough? While a phone app is connected to it, nobody else sees it"
            }
            LinkError::NoService { .. } => {
                "is the type right? If it is, BlueZ remembers the battery wrongly: on the host \
                 remove it with `bluetoothctl remove ADDRESS`, delete its file under \
                 /var/lib/bluetooth/*/cache, and restart bluetooth"
            }
            LinkError::Pairing { .. } => {
                "check the password: it is the number that the battery's app asks for when pairing"
            }
        }
    }
}

/// `AA:BB:CC:DD:EE:FF`: a place on Bluetooth.
fn is_address(place: &str) -> bool {
    place.len() == 17 && place.bytes().filter(|byte| *byte == b':').count() == 5
}

/// An adapter that sees nothing says the same for each of its batteries.
fn not_seen(place: &str, adapter: &str, others: usize) -> String {
    match others {
        0 => format!("{adapter} sees no Bluetooth device at all"),
        1 => format!("{adapter} does not see {place}, but another device"),
        _ => format!("{adapter} does not see {place}, but {others} other devices"),
    }
}
