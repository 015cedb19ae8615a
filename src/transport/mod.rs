//! Moving bytes over a serial port, TCP, Bluetooth or memory; knows nothing about batteries.
//!
//! [`Link`] is an enum, not a trait object: the set is closed. Every operation has its own time
//! limit.

pub mod ble;
mod error;
pub mod memory;
pub mod serial;
mod stream;
pub mod tcp;

use std::fmt;
use std::time::Duration;

pub use ble::{BleChannel, BleConfig, BleLink, Bluetooth, CharacteristicId, Passkey};
pub use error::{BusFault, LinkError};
pub use memory::{MemoryLink, MemoryPort};
pub use serial::SerialConfig;
pub use tcp::TcpConfig;

/// A request is shorter than any buffer on the way: what does not accept it within this time is dead.
const WRITE_LIMIT: Duration = Duration::from_secs(5);

/// What a line connects to.
#[derive(Debug, Clone)]
pub enum Endpoint {
    Serial(SerialConfig),
    /// An RS485-to-Ethernet bridge, usually.
    Tcp(TcpConfig),
    Ble(BleConfig),
    /// A simulator in this process.
    Memory(MemoryPort),
}

impl Endpoint {
    /// Opens the link. `baud` applies to serial ports only.
    pub async fn open(&self, baud: u32) -> Result<Link, LinkError> {
        match self {
            Endpoint::Serial(config) => serial::open(config, baud).map(Link::Serial),
            Endpoint::Tcp(config) => tcp::open(config).await.map(Link::Tcp),
            Endpoint::Ble(config) => ble::open(config).await.map(Link::Ble),
            Endpoint::Memory(port) => port.open().map(Link::Memory),
        }
    }
}

/// A path (`/dev/ttyUSB0`), `tcp://10.0.0.5:8899` or a Bluetooth address.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Serial(config) => f.write_str(&config.path),
            Endpoint::Tcp(config) => config.fmt(f),
            Endpoint::Ble(config) => f.write_str(&config.address),
            Endpoint::Memory(port) => port.fmt(f),
        }
    }
}

/// An open connection that carries bytes.
#[derive(Debug)]
pub enum Link {
    Serial(serial::SerialLink),
    Tcp(tcp::TcpLink),
    Ble(BleLink),
    Memory(MemoryLink),
}

/// Evaluates an expression for the link inside a [`Link`].
macro_rules! for_link {
    ($enum:expr, $link:ident => $call:expr) => {
        match $enum {
            Link::Serial($link) => $call,
            Link::Tcp($link) => $call,
            Link::Ble($link) => $call,
            Link::Memory($link) => $call,
        }
    };
}

impl Link {
    /// Sends all bytes or returns an error.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        for_link!(self, link => link.send(bytes).await)
    }

    /// The next chunk. Cancel-safe. Never an empty chunk: the end of the stream is
    /// [`LinkError::Gone`].
    pub async fn receive(&mut self) -> Result<Vec<u8>, LinkError> {
        for_link!(self, link => link.receive().await)
    }

    /// Discards what has arrived before a request. Never waits for more.
    pub fn drain(&mut self) -> Result<(), LinkError> {
        for_link!(self, link => link.drain())
    }

    /// Closes the connection in an orderly way where the other side needs that.
    pub async fn close(self) {
        match self {
            Link::Serial(_) | Link::Memory(_) => {}
            Link::Tcp(link) => link.close().await,
            Link::Ble(link) => link.close().await,
        }
    }
}
