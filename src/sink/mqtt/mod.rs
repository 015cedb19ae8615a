//! MQTT with Home Assistant discovery.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::board::Board;
use crate::command::CommandBus;

/// Everything the operator can say about the broker and what is published there.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User name and password.
    pub login: Option<(String, String)>,
    /// Our name at the broker.
    pub client_id: String,
    /// Longest silence on the connection.
    pub keep_alive: Duration,
    /// `None`: plain text.
    pub tls: Option<Tls>,
    /// Template of a battery's base topic, with `{id}` and `{type}`.
    pub base_topic: String,
    /// Home Assistant's discovery prefix.
    pub discovery_prefix: String,
    /// How entities are announced.
    pub discovery: Discovery,
    /// What is sent when a value did not move.
    pub publish: Publish,
}

/// How the connection is secured. The files are read at each connection, so renewed ones count.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// PEM file with further roots beside the bundled ones.
    pub ca_file: Option<String>,
    /// PEM files with our certificate and key.
    pub client_files: Option<(String, String)>,
    /// Take any certificate.
    pub insecure: bool,
}

/// How entities are announced to Home Assistant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discovery {
    /// One topic for each entity.
    Entity,
    /// One topic for each device (Home Assistant 2024.11 or newer).
    Device,
    /// Not at all.
    Off,
}

/// When a value is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publish {
    /// When it moved, and again after this time.
    Changes(Duration),
    /// At every read.
    All,
}

/// Publishes until the stop, then says goodbye.
pub async fn run(
    _settings: Settings,
    _board: Board,
    _commands: CommandBus,
    stop: CancellationToken,
) {
    stop.cancelled().await;
}
