//! What arrives from the broker, in either version of MQTT.

use rumqttc::Packet;

use crate::sink::mqtt::Version;
use crate::sink::mqtt::error::MqttError;
use crate::sink::mqtt::limits::{MAX_INFLIGHT, MAX_PACKET};

#[derive(Debug)]
pub enum Received {
    Packet(Packet),
    TooLarge(TooLarge),
    // Only MQTT 5 has the others.
    /// The answer to the CONNECT.
    Answer(Result<Agreed, MqttError>),
    /// Acknowledges a SUBSCRIBE, or refuses a message, with this packet ID: for each part the reason why it
    /// was refused.
    Reasons(u16, Vec<Option<String>>),
    /// The broker ends the connection for this reason.
    Ended(String),
}

/// A message that was skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TooLarge {
    pub topic: String,
    pub size: usize,
    pub limit: usize,
}

/// What both sides accept on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    pub version: Version,
    /// In bytes.
    pub max_packet: usize,
    /// Messages of QoS 1 that wait for their acknowledgement.
    pub max_inflight: usize,
    /// In seconds, if the broker demands another one than was requested.
    pub keep_alive: Option<u16>,
}

impl Default for Agreed {
    fn default() -> Self {
        let (version, max_packet, max_inflight) = (Version::V311, MAX_PACKET, MAX_INFLIGHT);
        Agreed { version, max_packet, max_inflight, keep_alive: None }
    }
}
