//! Moving bytes over a serial port, TCP, Bluetooth or memory; knows nothing about batteries.
//!
//! [`Link`] is an enum, not a trait object: the set is closed. Every operation has its own time
//! limit.

pub mod ble;
mod error;
pub mod memory;
mod owner;
pub mod serial;
mod stream;
pub mod tcp;

use std::fmt;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::task::{JoinSet, unconstrained};

pub use ble::{BleChannel, BleConfig, BleLink, Bluetooth, CharacteristicId, Passkey};
pub use error::{BusFault, LinkError};
pub use memory::{MemoryLink, MemoryPort};

/// A request is shorter than any buffer on the way: what does not accept it within this time is dead.
const WRITE_LIMIT: Duration = Duration::from_secs(5);

/// Chunks that `drain` discards at most, so that a line that sends without end cannot block it. Not
/// less than a link in memory or over Bluetooth holds.
const DRAIN_CHUNKS: usize = 256;

/// Completes when it makes sense to try again before a back-off is over, because what was missing has
/// returned. It may be wrong, and it knows nothing about the back-off: the caller has to limit how
/// often it listens.
pub type RetrySignal = Shared<BoxFuture<'static, ()>>;

/// What a link connects to.
#[derive(Debug, Clone)]
pub enum LinkConfig {
    Serial {
        path: String,
    },
    /// Usually an RS485-to-Ethernet bridge. `address` is `host:port`, an IPv6 address in brackets.
    Tcp {
        address: String,
    },
    Ble(BleConfig),
    /// A simulator in this process.
    Memory(MemoryPort),
}

impl LinkConfig {
    /// Opens the link. `baud` applies to serial ports only.
    pub async fn open(&self, baud: u32) -> Result<Link, LinkError> {
        match self {
            LinkConfig::Serial { path } => serial::open(path, baud).map(Link::Serial),
            LinkConfig::Tcp { address } => tcp::open(address).await.map(Link::Tcp),
            LinkConfig::Ble(config) => ble::open(config).await.map(Link::Ble),
            LinkConfig::Memory(port) => port.open().map(Link::Memory),
        }
    }

    /// Signals when it makes sense to try again after this error. `None`: only trying reveals it, which
    /// costs little where there is no signal.
    pub fn retry_signal(&self, error: &LinkError) -> Option<RetrySignal> {
        let signal = match self {
            // In a task, because it holds locks that the next attempt needs: waiting for it may end
            // at any moment, but it must not stop between two steps.
            LinkConfig::Ble(config) => {
                let mut task = JoinSet::new();
                task.spawn(ble::recovered(config.clone(), error.clone()).boxed());
                async move {
                    task.join_next().await;
                }
                .boxed()
            }
            LinkConfig::Memory(port) if matches!(error, LinkError::Busy { .. }) => {
                port.clone().accepted().boxed()
            }
            _ => return None,
        };
        Some(signal.shared())
    }
}

/// A path (`/dev/ttyUSB0`), `tcp://10.0.0.5:8899` or a Bluetooth address.
impl fmt::Display for LinkConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkConfig::Serial { path } => f.write_str(path),
            LinkConfig::Tcp { address } => write!(f, "tcp://{address}"),
            LinkConfig::Ble(config) => f.write_str(&config.address),
            LinkConfig::Memory(port) => port.fmt(f),
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
        for _ in 0..DRAIN_CHUNKS {
            // Without a budget: Tokio's would end after half of these chunks.
            match unconstrained(self.receive()).now_or_never() {
                Some(chunk) => drop(chunk?),
                None => break,
            }
        }
        Ok(())
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
