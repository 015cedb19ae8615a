//! Moving bytes over a serial port, TCP, ESPHome, Bluetooth or memory; knows nothing about batteries.
//!
//! The kinds of [`Link`] are an enum, not a trait object: the set is closed. Every operation has its
//! own time limit.

pub mod ble;
mod error;
pub mod esphome;
mod esphome_fault;
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
use tokio::time::Instant;

pub use ble::{BleChannel, BleConfig, BleLink, Bluetooth, CharacteristicId, Passkey};
pub use error::{BusFault, LinkError};
pub use esphome::{EsphomeLink, EsphomePort};
pub use esphome_fault::EsphomeFault;
pub use memory::{MemoryLink, MemoryPort};

/// A request is shorter than any buffer on the way: what does not accept it within this time is dead.
const WRITE_LIMIT: Duration = Duration::from_secs(5);

/// Chunks that `drain` discards at most, so that a line that sends without end cannot block it. Not
/// less than a link in memory or over Bluetooth holds.
const DRAIN_CHUNKS: usize = 256;

/// The pause on a line on which a request had no reply that came sooner after the last byte. No source
/// knows a battery that needs a longer one than its driver requests.
const CAREFUL_PAUSE: Duration = Duration::from_millis(100);

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
    /// A serial port of an ESPHome device.
    Esphome(EsphomePort),
    Ble(BleConfig),
    /// A simulator in this process.
    Memory(MemoryPort),
}

impl LinkConfig {
    /// Opens the link. `baud` applies to serial ports only, here or of another device.
    pub async fn open(&self, baud: u32) -> Result<Link, LinkError> {
        Ok(match self {
            LinkConfig::Serial { path } => {
                Link { baud: Some(baud), ..Link::from(serial::open(path, baud)?) }
            }
            LinkConfig::Tcp { address } => tcp::open(address).await?.into(),
            LinkConfig::Esphome(port) => {
                Link { baud: Some(baud), ..Link::from(port.open(baud).await?) }
            }
            LinkConfig::Ble(config) => ble::open(config).await?.into(),
            LinkConfig::Memory(port) => port.open()?.into(),
        })
    }

    /// Whether replies also need the time of a network.
    pub fn is_remote(&self) -> bool {
        matches!(self, LinkConfig::Tcp { .. } | LinkConfig::Esphome(_))
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

/// A path (`/dev/ttyUSB0`), `tcp://10.0.0.5:8899`, `esphome://10.0.0.7/BMS bus` or a Bluetooth address.
impl fmt::Display for LinkConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkConfig::Serial { path } => f.write_str(path),
            LinkConfig::Tcp { address } => write!(f, "tcp://{address}"),
            LinkConfig::Esphome(port) => f.write_str(&port.endpoint),
            LinkConfig::Ble(config) => f.write_str(&config.address),
            LinkConfig::Memory(port) => port.fmt(f),
        }
    }
}

/// An open connection that carries bytes.
#[derive(Debug)]
pub struct Link {
    channel: Channel,
    /// Baud rate of a serial port, on which bytes leave later than they are written.
    baud: Option<u32>,
    /// When the last byte passed in either direction; `None`: none since the link was opened.
    last_byte: Option<Instant>,
    /// A request was sent less than [`CAREFUL_PAUSE`] after the last byte, and nothing was received
    /// since.
    unanswered: bool,
    /// Shortest pause, whatever is asked for.
    min_pause: Duration,
}

#[derive(Debug)]
enum Channel {
    Serial(serial::SerialLink),
    Tcp(tcp::TcpLink),
    Esphome(EsphomeLink),
    Ble(BleLink),
    Memory(MemoryLink),
}

/// Evaluates an expression for the link inside a [`Channel`].
macro_rules! for_link {
    ($enum:expr, $link:ident => $call:expr) => {
        match $enum {
            Channel::Serial($link) => $call,
            Channel::Tcp($link) => $call,
            Channel::Esphome($link) => $call,
            Channel::Ble($link) => $call,
            Channel::Memory($link) => $call,
        }
    };
}

/// Links of each kind.
macro_rules! links {
    ($($link:ty => $channel:ident),*) => {
        $(impl From<$link> for Link {
            fn from(link: $link) -> Self {
                let channel = Channel::$channel(link);
                let min_pause = Duration::ZERO;
                Link { channel, baud: None, last_byte: None, unanswered: false, min_pause }
            }
        })*
    };
}

links! {
    serial::SerialLink => Serial,
    tcp::TcpLink => Tcp,
    EsphomeLink => Esphome,
    BleLink => Ble,
    MemoryLink => Memory
}

impl Link {
    /// The link over Bluetooth, if it is one.
    pub fn ble(&self) -> Option<&BleLink> {
        match &self.channel {
            Channel::Ble(link) => Some(link),
            _ => None,
        }
    }

    /// Sends all bytes or returns an error.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        for_link!(&mut self.channel, link => link.send(bytes).await)?;
        let now = Instant::now();
        self.unanswered = self.last_byte.is_some_and(|last| now < last + CAREFUL_PAUSE);
        let baud = self.baud.map_or(u64::MAX, |baud| u64::from(baud.max(1)));
        // Ten bits a byte, with start and stop bit.
        let on_the_wire = Duration::from_nanos(bytes.len() as u64 * 10_000_000_000 / baud);
        self.last_byte = Some(now + on_the_wire);
        Ok(())
    }

    /// The next chunk. Cancel-safe. Never an empty chunk: the end of the stream is
    /// [`LinkError::Gone`].
    pub async fn receive(&mut self) -> Result<Vec<u8>, LinkError> {
        let chunk = for_link!(&mut self.channel, link => link.receive().await)?;
        self.last_byte = Some(Instant::now());
        self.unanswered = false;
        Ok(chunk)
    }

    /// When the line will have been quiet for `pause`, if nothing is received until then; `None`:
    /// it has been since the link was opened.
    ///
    /// A request without a reply may have come too soon after the last byte, so from then on pauses
    /// are at least [`CAREFUL_PAUSE`].
    pub fn quiet_at(&mut self, pause: Duration) -> Option<Instant> {
        if self.unanswered {
            self.min_pause = CAREFUL_PAUSE;
        }
        Some(self.last_byte? + pause.max(self.min_pause))
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
        match self.channel {
            Channel::Serial(_) | Channel::Memory(_) => {}
            Channel::Tcp(link) => link.close().await,
            Channel::Esphome(link) => link.close().await,
            Channel::Ble(link) => link.close().await,
        }
    }
}
