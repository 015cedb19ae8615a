//! Reading and writing characteristics through a Bluetooth proxy.

use super::LinkError;
use crate::transport::EsphomeFault;
use crate::transport::esphome::{Peer, PeerError};

/// The characteristics of a battery behind a proxy.
#[derive(Debug)]
pub(super) struct ProxyGatt {
    pub(super) peer: Peer,
    /// The handle to write to.
    pub(super) write: u64,
    pub(super) with_response: bool,
    /// Handles of the characteristics to read.
    pub(super) read: Vec<u64>,
}

impl ProxyGatt {
    pub(super) fn reads(&self) -> bool {
        !self.read.is_empty()
    }

    pub(super) fn max_write(&self) -> usize {
        self.peer.max_write
    }

    pub(super) async fn write(&self, piece: &[u8], address: &str) -> Result<(), LinkError> {
        let written = self.peer.write(self.write, self.with_response, piece).await;
        written.map_err(|error| lost(error, address))
    }

    pub(super) async fn read(
        &self,
        number: usize,
        address: &str,
    ) -> Result<Option<Vec<u8>>, LinkError> {
        let Some(handle) = self.read.get(number) else { return Ok(None) };
        self.peer.read(*handle).await.map(Some).map_err(|error| lost(error, address))
    }
}

/// An error of an open connection.
fn lost(error: PeerError, address: &str) -> LinkError {
    let endpoint = address.to_owned();
    match error {
        PeerError::TimedOut(_) => LinkError::Stuck { endpoint },
        error if error.needs_pairing() => {
            LinkError::Esphome { endpoint, fault: EsphomeFault::PinRequired }
        }
        error => LinkError::Gone { endpoint, reason: error.to_string() },
    }
}
