//! The MQTT broker, and devices found while no battery is configured.

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrokerState {
    /// `host:port`; empty before the first connection attempt.
    pub address: String,
    pub connected: bool,
    /// Successful connections so far.
    pub connections: u64,
    /// Why there is no connection, for people.
    pub error: Option<String>,
}

/// A port or Bluetooth device that may be a battery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoveredDevice {
    /// Path of the port or address of the Bluetooth device.
    pub address: String,
    pub description: String,
    /// Lines for the environment: `BMS_PORT=/dev/ttyUSB0`.
    pub settings: Vec<String>,
}
