//! A battery that a Bluetooth proxy is connected to.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::bluetooth::{self as api, Characteristic, ConnectionState};
use super::connection::Connection;
use super::peers::{Awaited, Notice, Reply, Request};

/// Notifications that wait for the reader; more of them are lost.
const NOTICES: usize = 256;
const SERVICES_LIMIT: Duration = Duration::from_secs(10);
/// For one read, write or subscription.
const OPERATION_LIMIT: Duration = Duration::from_secs(5);

/// The values of a descriptor that switch notifications or indications on.
const NOTIFICATIONS_ON: [u8; 2] = [1, 0];
const INDICATIONS_ON: [u8; 2] = [2, 0];

/// GATT errors of a battery that wants to be paired.
const PAIRING_ERRORS: [i32; 2] = [5, 15];
/// The header of a write.
const WRITE_HEADER: u64 = 3;
/// Fits into one packet whatever MTU was negotiated.
const MIN_WRITE: usize = 20;

/// Why something with a battery failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    #[error("{0} took too long")]
    TimedOut(&'static str),
    #[error("{what} failed: {}", gatt_error(*.code))]
    Gatt { what: &'static str, code: i32 },
    /// The proxy is not connected, or no longer.
    #[error("{}", end_reason(*.0))]
    Disconnected(i32),
    /// The connection to the proxy has ended.
    #[error("the connection to the Bluetooth proxy was lost: {0}")]
    ProxyLost(String),
}

impl PeerError {
    pub fn needs_pairing(&self) -> bool {
        matches!(self, PeerError::Gatt { code, .. } if PAIRING_ERRORS.contains(code))
    }
}

/// Sends requests about one battery, one at a time.
#[derive(Debug, Clone)]
pub struct Peer {
    connection: Connection,
    address: u64,
    /// Bytes of one write.
    pub max_write: usize,
}

impl Peer {
    /// Asks the proxy to connect. After an error, [`disconnect`](Self::disconnect) frees the slot.
    pub(super) fn new(connection: Connection, address: u64) -> Self {
        Peer { connection, address, max_write: MIN_WRITE }
    }

    pub async fn connect(
        &mut self,
        address_type: u64,
        limit: Duration,
    ) -> Result<mpsc::Receiver<Notice>, PeerError> {
        let (opens, notices) = mpsc::channel(NOTICES);
        let payload = api::connect(self.address, address_type);
        let request = (api::DEVICE_REQUEST, payload);
        let awaited = (api::CONNECTION, 0);
        let reply = self.call("connecting", request, awaited, Some(opens), limit).await?;
        match reply {
            Reply::Connection(ConnectionState { connected: true, mtu, .. }) => {
                let size = mtu.saturating_sub(WRITE_HEADER).min(512) as usize;
                self.max_write = size.max(MIN_WRITE);
                Ok(notices)
            }
            other => Err(unexpected("connecting", other)),
        }
    }

    /// Ends the connection, or the attempt to connect, and waits until the proxy confirms it.
    pub async fn disconnect(&self, limit: Duration) -> Result<(), PeerError> {
        let request = (api::DEVICE_REQUEST, api::disconnect(self.address));
        // A late report that it is connected is no reply to this.
        let awaited = (api::DEVICE_REQUEST, 0);
        match self.call("disconnecting", request, awaited, None, limit).await {
            Ok(_) | Err(PeerError::Disconnected(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub async fn characteristics(&self) -> Result<Vec<Characteristic>, PeerError> {
        let what = "reading its services";
        let request = (api::SERVICES_REQUEST, api::of_address(self.address));
        let awaited = (api::SERVICES_DONE, 0);
        match self.call(what, request, awaited, None, SERVICES_LIMIT).await? {
            Reply::Services(found) => Ok(found),
            other => Err(unexpected(what, other)),
        }
    }

    /// Switches notifications on, in the proxy and in the battery: the proxy does not write the
    /// descriptor itself.
    pub async fn subscribe(&self, to: &Characteristic) -> Result<(), PeerError> {
        let what = "subscribing";
        let request = (api::NOTIFY, api::notify(self.address, to.handle));
        self.operate(what, request, (api::NOTIFY_REPLY, to.handle)).await?;
        let Some(descriptor) = to.cccd else { return Ok(()) };
        let notifies = to.properties & api::NOTIFIES != 0;
        let value = if notifies { NOTIFICATIONS_ON } else { INDICATIONS_ON };
        let payload = api::write_descriptor(self.address, descriptor, &value);
        let request = (api::WRITE_DESCRIPTOR, payload);
        self.operate(what, request, (api::WRITE_REPLY, descriptor)).await.map(drop)
    }

    /// The proxy confirms a write without response as well.
    pub async fn write(
        &self,
        handle: u64,
        with_response: bool,
        piece: &[u8],
    ) -> Result<(), PeerError> {
        let payload = api::write(self.address, handle, with_response, piece);
        let request = (api::WRITE, payload);
        self.operate("writing", request, (api::WRITE_REPLY, handle)).await.map(drop)
    }

    pub async fn read(&self, handle: u64) -> Result<Vec<u8>, PeerError> {
        let request = (api::READ, api::of_handle(self.address, handle));
        match self.operate("reading", request, (api::READ_REPLY, handle)).await? {
            Reply::Value(value) => Ok(value),
            other => Err(unexpected("reading", other)),
        }
    }

    /// Type and payload of a request, and type and handle of its reply.
    async fn operate(
        &self,
        what: &'static str,
        request: (u64, Vec<u8>),
        awaited: (u64, u64),
    ) -> Result<Reply, PeerError> {
        match self.call(what, request, awaited, None, OPERATION_LIMIT).await? {
            reply @ (Reply::Done | Reply::Value(_)) => Ok(reply),
            other => Err(unexpected(what, other)),
        }
    }

    async fn call(
        &self,
        what: &'static str,
        (kind, payload): (u64, Vec<u8>),
        (awaited, handle): (u64, u64),
        opens: Option<mpsc::Sender<Notice>>,
        limit: Duration,
    ) -> Result<Reply, PeerError> {
        let (done, reply) = oneshot::channel();
        let reply_to = Awaited { kind: awaited, handle, done };
        let request = Request { address: self.address, kind, payload, opens, reply: reply_to };
        let answered = async {
            self.connection.request(request).await.ok()?;
            reply.await.ok()
        };
        match timeout(limit, answered).await {
            Ok(Some(reply)) => Ok(reply),
            Ok(None) if self.connection.is_alive() => Err(PeerError::Disconnected(0)),
            Ok(None) => Err(PeerError::ProxyLost(self.connection.end().to_string())),
            Err(_) => Err(PeerError::TimedOut(what)),
        }
    }
}

fn unexpected(what: &'static str, reply: Reply) -> PeerError {
    match reply {
        Reply::Connection(state) => PeerError::Disconnected(state.error),
        Reply::Failed(code) => PeerError::Gatt { what, code },
        Reply::Services(_) | Reply::Value(_) | Reply::Done => PeerError::TimedOut(what),
    }
}

/// The reason with which a connection to a battery has ended, or was not established.
pub fn end_reason(code: i32) -> String {
    let meaning = match code {
        0 => "the proxy is not connected to it",
        0x08 => "the signal was lost",
        0x13 => "the battery ended the connection",
        0x16 => "the proxy ended the connection",
        0x22 | 0x3E | 0x85 => "the battery does not answer, or its signal is too weak",
        0x100 => "the attempt was cancelled",
        _ => "the connection ended",
    };
    format!("{meaning} (reason {code})")
}

fn gatt_error(code: i32) -> String {
    let meaning = match code {
        -1 => "the battery is not connected",
        1 | 8 => "the proxy has an outdated list of its services",
        2 | 3 => "the battery does not allow it",
        5 | 15 => "the battery wants to be paired",
        13 => "wrong length",
        0x8F => "the proxy is congested",
        _ => "GATT error",
    };
    format!("{meaning} (error {code})")
}
