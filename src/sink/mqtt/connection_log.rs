//! What the log says about the connection: one line for each change, not one for each try.

use std::time::Instant;

use super::Settings;
use super::error::MqttError;

/// Remembers what was said.
#[derive(Debug, Default)]
pub struct ConnectionLog {
    broker: String,
    /// Since when there is no connection; `None` while there is one or before the first try.
    down_since: Option<Instant>,
    /// The last complaint; the same one is not repeated.
    complaint: Option<String>,
    rival_named: bool,
}

impl ConnectionLog {
    /// The next words are about this broker.
    pub fn heads_for(&mut self, settings: &Settings) {
        self.broker = format!("{}:{}", settings.host, settings.port);
    }

    /// The broker let us in.
    pub fn connected(&mut self, now: Instant) {
        let broker = &self.broker;
        match self.down_since.take() {
            None => tracing::info!("MQTT: connected to {broker}"),
            Some(since) => {
                let seconds = now.saturating_duration_since(since).as_secs();
                tracing::info!("MQTT: connected to {broker} again after {seconds} s");
            }
        }
        self.complaint = None;
    }

    /// A connection ended or did not come about.
    pub fn trouble(&mut self, trouble: &MqttError, now: Instant) {
        self.down_since.get_or_insert(now);
        // Before the Supervisor has named it, the broker has no name.
        let broker = if self.broker.is_empty() { "broker" } else { &self.broker };
        let text = trouble.to_string();
        if self.complaint.as_ref() == Some(&text) {
            tracing::debug!("MQTT: {broker}: {text}");
        } else if trouble.is_denied() {
            tracing::error!("MQTT: {broker}: {text}; trying again every minute");
        } else {
            tracing::warn!("MQTT: {broker}: {text}; trying again");
        }
        self.complaint = Some(text);
    }

    /// Connections break again and again right after they came about.
    pub fn rival(&mut self, client_id: &str) {
        if !self.rival_named {
            self.rival_named = true;
            tracing::warn!(
                "MQTT: the connection to {} breaks again and again; is another client with the \
                 id \"{client_id}\" connected? Give each its own MQTT_CLIENT_ID",
                self.broker
            );
        }
    }
}
