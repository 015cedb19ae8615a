//! Reading and writing characteristics of an open connection, with BlueZ or a Bluetooth proxy.

use std::time::Duration;

use bluer::ErrorKind;
use bluer::gatt::remote::Characteristic;

use super::LinkError;
use super::bus::call_within;
use super::error::BleError;
use super::gatt::Writer;
use super::proxy_gatt::ProxyGatt;
use crate::transport::WRITE_LIMIT;

/// For a value to be read.
const READ_LIMIT: Duration = Duration::from_secs(5);

/// The characteristics of a battery that are used.
#[derive(Debug)]
pub(super) enum Operations {
    Bluez {
        writer: Writer,
        /// To read.
        read: Vec<Characteristic>,
    },
    Proxy(ProxyGatt),
}

impl Operations {
    /// Whether values are read instead of notified.
    pub(super) fn reads(&self) -> bool {
        match self {
            Operations::Bluez { read, .. } => !read.is_empty(),
            Operations::Proxy(gatt) => gatt.reads(),
        }
    }

    /// Bytes that fit into one packet.
    pub(super) fn max_write(&self) -> usize {
        match self {
            Operations::Bluez { writer, .. } => writer.max_write,
            Operations::Proxy(gatt) => gatt.max_write(),
        }
    }

    /// Writes one piece to the battery with this address.
    pub(super) async fn write(&self, piece: &[u8], address: &str) -> Result<(), LinkError> {
        let endpoint = || address.to_owned();
        let writer = match self {
            Operations::Bluez { writer, .. } => writer,
            Operations::Proxy(gatt) => return gatt.write(piece, address).await,
        };
        let written = call_within(WRITE_LIMIT, "writing", writer.write(piece)).await;
        written.map_err(|error| match &error {
            BleError::Bluez(bluez) if bluez.kind != ErrorKind::InProgress => {
                LinkError::Gone { endpoint: endpoint(), reason: error.to_string() }
            }
            // The battery or BlueZ does not finish a write.
            _ => LinkError::Stuck { endpoint: endpoint() },
        })
    }

    /// The value of the characteristic with this number; `None` if there is none.
    pub(super) async fn read(
        &self,
        number: usize,
        address: &str,
    ) -> Result<Option<Vec<u8>>, LinkError> {
        let read = match self {
            Operations::Bluez { read, .. } => read,
            Operations::Proxy(gatt) => return gatt.read(number, address).await,
        };
        let Some(characteristic) = read.get(number) else { return Ok(None) };
        let value = call_within(READ_LIMIT, "reading", characteristic.read()).await;
        let endpoint = address.to_owned();
        value.map(Some).map_err(|error| match &error {
            BleError::Bluez(bluez) if is_unpaired(bluez) => {
                let reason = "it answers only programs that are paired with it".to_owned();
                LinkError::Pairing { endpoint, reason }
            }
            BleError::Bluez(_) => LinkError::Gone { endpoint, reason: error.to_string() },
            _ => LinkError::Stuck { endpoint },
        })
    }
}

/// The battery does not answer without a pairing. Victron's devices send the error 0E then.
fn is_unpaired(error: &bluer::Error) -> bool {
    matches!(error.kind, ErrorKind::NotPermitted | ErrorKind::NotAuthorized)
        || error.message.to_lowercase().contains("0x0e")
}
