//! The connection to the MQTT broker.

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
