//! Serial ports (`serial_proxy:`) and Bluetooth (`bluetooth_proxy:`) of ESPHome devices over the native
//! API of ESPHome, version 1.
//!
//! One connection to each device serves all its ports and batteries. It lasts as long as the process: a device
//! without any client restarts after 15 minutes. A task owns it ([`connection`]), and the protocol
//! itself has no IO ([`session`]).
//!
//! Devices drop serial data when their TCP buffer is full, so a port is no more reliable than a
//! serial line.
//!
//! Source: <https://github.com/esphome/esphome>, `components/api/api.proto` of 2026.6 and 2026.10,
//! and programs built from both.

pub mod bluetooth;
mod connection;
pub mod fields;
pub mod frame;
pub mod message;
pub mod noise;
mod peer;
pub mod peers;
mod proxy;
pub mod radio;
pub mod session;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex as SyncMutex};
use std::time::Duration;

use tokio::io::DuplexStream;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, timeout};
use tracing::info;

use self::connection::{Connection, Stream, connect};
use self::message::DeviceInfo;
pub use self::noise::Key;
pub use self::peer::{Peer, PeerError, end_reason};
pub use self::peers::Notice;
pub use self::proxy::Proxy;
use super::esphome_fault::EsphomeFault;
use super::{LinkError, WRITE_LIMIT, tcp};

/// Opening a port takes at most as long as the name server, the connection, four steps of the
/// session and the port, and once more if another port is opened at the same time.
pub const OPEN_LIMIT: Duration = Duration::from_secs(2 * (5 + 5 + 5 * 10));
/// A failed attempt counts for all ports that are opened within this time.
const FAILURE_LIFETIME: Duration = Duration::from_secs(1);

/// A device. Clones share its connection.
#[derive(Debug, Clone)]
pub struct Device(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// `host:port`, an IPv6 address in brackets.
    address: String,
    /// As errors show it.
    endpoint: String,
    key: Option<Key>,
    memory: Option<InMemory>,
    state: Mutex<State>,
    /// When a proxy that was silent was asked for advertisements again, and the pause after that.
    retaken: Mutex<Option<(Instant, Duration)>>,
    /// Batteries that were connected through it.
    used: SyncMutex<BTreeSet<u64>>,
}

/// Connects to a device in this process; `None`: it refuses.
type Dial = dyn Fn() -> Option<DuplexStream> + Send + Sync;
struct InMemory(Arc<Dial>);

impl fmt::Debug for InMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InMemory")
    }
}

#[derive(Debug, Default)]
struct State {
    connected: Option<(Connection, DeviceInfo)>,
    failed: Option<(Instant, LinkError)>,
    /// Its name at the first connection.
    name: Option<String>,
}

impl Device {
    pub fn new(address: String, endpoint: String, key: Option<Key>) -> Self {
        Device::build(address, endpoint, key, None)
    }

    /// A device in this process.
    pub fn in_memory(name: &str, key: Option<Key>, dial: Arc<Dial>) -> Self {
        let endpoint = format!("esphome://{name}");
        Device::build(format!("{name}:0"), endpoint, key, Some(InMemory(dial)))
    }

    fn build(
        address: String,
        endpoint: String,
        key: Option<Key>,
        memory: Option<InMemory>,
    ) -> Self {
        let (state, retaken, used) = Default::default();
        Device(Arc::new(Shared { address, endpoint, key, memory, state, retaken, used }))
    }

    /// `host:port`, an IPv6 address in brackets.
    pub fn address(&self) -> &str {
        &self.0.address
    }

    /// As errors show it.
    pub fn endpoint(&self) -> &str {
        &self.0.endpoint
    }

    /// What it called itself at the first connection.
    pub async fn name(&self) -> Option<String> {
        self.0.state.lock().await.name.clone()
    }

    /// Disconnects, unless a link is open. Takes a second at most.
    pub async fn close(&self) {
        // While it is locked, it is not connected.
        let connected = self.0.state.try_lock().ok().and_then(|mut state| state.connected.take());
        if let Some((connection, _)) = connected {
            connection.close_idle().await;
        }
    }

    /// The present connection, or a new one. `fresh`: whether it is new.
    async fn connection(&self) -> Result<(Connection, DeviceInfo, bool), LinkError> {
        let mut state = self.0.state.lock().await;
        if let Some((connection, info)) = state.connected.as_ref().filter(|it| it.0.is_alive()) {
            return Ok((connection.clone(), info.clone(), false));
        }
        state.connected = None;
        if let Some((at, error)) = &state.failed
            && at.elapsed() < FAILURE_LIFETIME
        {
            return Err(error.clone());
        }
        match self.connect(&mut state.name).await {
            Ok((connection, info)) => {
                state.failed = None;
                state.connected = Some((connection.clone(), info.clone()));
                Ok((connection, info, true))
            }
            Err(error) => {
                state.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn connect(
        &self,
        name: &mut Option<String>,
    ) -> Result<(Connection, DeviceInfo), LinkError> {
        let Shared { address, endpoint, key, memory, .. } = &*self.0;
        let stream: Box<dyn Stream> = match memory {
            None => Box::new(tcp::connect(address, endpoint).await?),
            Some(InMemory(dial)) => Box::new(dial().ok_or_else(|| LinkError::Open {
                endpoint: endpoint.clone(),
                reason: "connection refused".to_owned(),
            })?),
        };
        let result = connect(stream, key.as_ref()).await;
        let found = match &result {
            Ok((_, info)) => Some(&info.name),
            Err((found, _)) => found.as_ref(),
        };
        if let (Some(expected), Some(found)) = (&*name, found)
            && expected != found
        {
            let [expected, found] = [expected, found].map(String::clone);
            return Err(not_open(endpoint, EsphomeFault::OtherDevice { expected, found }));
        }
        let (connection, device) = result.map_err(|(_, fault)| not_open(endpoint, fault))?;
        let silent = match device.ports.is_empty() || device.replies_to_serial_requests() {
            true => "",
            false => "; it does not report a port that another client uses",
        };
        info!("{endpoint}: connected to {}, ESPHome {}{silent}", device.name, device.version);
        *name = Some(device.name.clone());
        Ok((connection, device))
    }
}

/// A serial port of a device.
#[derive(Debug, Clone)]
pub struct EsphomePort {
    pub device: Device,
    /// Name or number; `None`: the only one.
    pub name: Option<String>,
    /// As the user sees it, without the key.
    pub endpoint: String,
}

impl EsphomePort {
    pub async fn open(&self, baud: u32) -> Result<EsphomeLink, LinkError> {
        let endpoint = &self.endpoint;
        loop {
            let (connection, info, fresh) = self.device.connection().await?;
            let Some(port) = info.port(self.name.as_deref()) else {
                let (name, ports) = (self.name.clone(), info.ports);
                return Err(not_open(endpoint, EsphomeFault::NoPort { name, ports }));
            };
            match connection.open(port, baud).await {
                Ok(data) => {
                    let endpoint = endpoint.clone();
                    return Ok(EsphomeLink { endpoint, port, connection, data });
                }
                // It was lost before, and nothing had noticed that.
                Err(_) if !fresh && !connection.is_alive() => {}
                Err(fault) => return Err(not_open(endpoint, fault)),
            }
        }
    }
}

/// An error while a port is opened.
fn not_open(endpoint: &str, fault: EsphomeFault) -> LinkError {
    let endpoint = endpoint.to_owned();
    match fault {
        EsphomeFault::PortBusy => LinkError::Busy { endpoint, program: None },
        EsphomeFault::Silent | EsphomeFault::Closed(_) | EsphomeFault::BadFrame => {
            LinkError::Open { endpoint, reason: fault.to_string() }
        }
        fault => LinkError::Esphome { endpoint, fault },
    }
}

/// An open serial port.
#[derive(Debug)]
pub struct EsphomeLink {
    endpoint: String,
    port: u64,
    connection: Connection,
    data: mpsc::Receiver<Vec<u8>>,
}

impl EsphomeLink {
    /// Returns when the system has accepted the bytes.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        // Twice, because the bytes of another port may be on their way.
        let write = self.connection.write(self.port, bytes.to_vec());
        match timeout(2 * WRITE_LIMIT, write).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.gone()),
            Err(_) => Err(LinkError::Stuck { endpoint: self.endpoint.clone() }),
        }
    }

    /// The next chunk, never an empty one. Cancel-safe.
    pub async fn receive(&mut self) -> Result<Vec<u8>, LinkError> {
        match self.data.recv().await {
            Some(chunk) => Ok(chunk),
            None => Err(self.gone()),
        }
    }

    fn gone(&self) -> LinkError {
        let reason = match self.connection.is_alive() {
            true => EsphomeFault::PortBusy.to_string(),
            false => self.connection.end().to_string(),
        };
        LinkError::Gone { endpoint: self.endpoint.clone(), reason }
    }

    pub(super) async fn close(self) {
        let _ = timeout(WRITE_LIMIT, self.connection.close(self.port)).await;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    /// Recorded handshakes and messages.
    pub fn vectors() -> Value {
        let text = include_str!("../../../tests/vectors/esphome/api.json");
        serde_json::from_str(text).unwrap()
    }

    pub fn hex(value: &Value) -> Vec<u8> {
        let digits = value.as_str().unwrap();
        let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        (0..digits.len()).step_by(2).map(byte).collect()
    }
}
