//! Log lines about the connection: one for each change, not one for each attempt.

use std::time::Instant;

use super::Settings;
use super::error::MqttError;

#[derive(Debug, Default)]
pub struct ConnectionLog {
    /// Host and port; empty until the Supervisor has reported them.
    broker: String,
    /// `None` while connected and before the first attempt.
    down_since: Option<Instant>,
    /// The last error; the same one is not logged again.
    error: Option<String>,
    reported_duplicate_client: bool,
}

impl ConnectionLog {
    pub fn connecting(&mut self, settings: &Settings) {
        self.broker = format!("{}:{}", settings.host, settings.port);
    }

    pub fn connected(&mut self, now: Instant) {
        let broker = &self.broker;
        match self.down_since.take() {
            None => tracing::info!("MQTT: connected to {broker}"),
            Some(since) => {
                let seconds = now.saturating_duration_since(since).as_secs();
                tracing::info!("MQTT: reconnected to {broker} after {seconds} s");
            }
        }
        self.error = None;
    }

    pub fn failed(&mut self, error: &MqttError, now: Instant) {
        self.down_since.get_or_insert(now);
        let broker = if self.broker.is_empty() { "broker" } else { &self.broker };
        let text = error.to_string();
        if self.error.as_ref() == Some(&text) {
            tracing::debug!("MQTT: {broker}: {text}");
        } else if error.is_login_refused() {
            tracing::error!("MQTT: {broker}: {text}; retrying every minute");
        } else {
            tracing::warn!("MQTT: {broker}: {text}; retrying");
        }
        self.error = Some(text);
    }

    pub fn duplicate_client(&mut self, client_id: &str) {
        if !self.reported_duplicate_client {
            self.reported_duplicate_client = true;
            tracing::warn!(
                "MQTT: the connection to {} keeps breaking; is another client with the ID \
                 \"{client_id}\" connected? Give each client its own MQTT_CLIENT_ID",
                self.broker
            );
        }
    }
}
