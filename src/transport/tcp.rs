//! An RS485-to-Ethernet bridge.

use super::LinkError;

/// Which bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpConfig {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// An open connection.
#[derive(Debug)]
pub struct TcpLink {}

/// Connects.
pub async fn open(config: &TcpConfig) -> Result<TcpLink, LinkError> {
    Err(LinkError::NotFound { place: config.host.clone() })
}

impl TcpLink {
    /// Sends all bytes.
    pub async fn send(&mut self, _bytes: &[u8]) -> Result<(), LinkError> {
        Ok(())
    }
    /// The next chunk.
    pub async fn receive(&mut self) -> Result<Vec<u8>, LinkError> {
        Ok(vec![])
    }
    pub(super) async fn drain(&mut self) -> Result<(), LinkError> {
        Ok(())
    }
    pub(super) async fn close(self) {}
}
