//! What is known around the batteries: the broker, and what was found where none is configured.

/// How the connection to the broker stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrokerState {
    /// `host:port`; empty until it is known.
    pub address: String,
    /// It has let us in, and the connection stands.
    pub connected: bool,
    /// Times that it let us in.
    pub connections: u64,
    /// Why there is no connection, in words for people.
    pub error: Option<String>,
}

/// A place where a battery may be, with what its user would have to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoveredDevice {
    /// Path of a port, or the address of a Bluetooth device.
    pub address: String,
    /// What it looks like, in words.
    pub description: String,
    /// The lines for the environment: `BMS_PORT=/dev/ttyUSB0`.
    pub settings: Vec<String>,
}
