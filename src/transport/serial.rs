//! A serial port of this machine.

use super::LinkError;

/// Which port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SerialConfig {
    /// Path of the device.
    pub path: String,
}

/// An open port.
#[derive(Debug)]
pub struct SerialLink {}

/// Opens the port with 8 data bits, no parity, one stop bit.
pub fn open(config: &SerialConfig, _baud: u32) -> Result<SerialLink, LinkError> {
    Err(LinkError::NotFound { place: config.path.clone() })
}

impl SerialLink {
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
}
