//! Connections that begin and end, in the log and on the board.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Publisher;
use crate::model::BrokerState;
use crate::remedy;
use crate::sink::mqtt::Version;
use crate::sink::mqtt::error::MqttError;

impl Publisher {
    /// Logs and publishes on the board why a connection ended. The same error is logged once.
    pub fn report_error(&mut self, error: &MqttError) {
        self.down_since.get_or_insert_with(Instant::now);
        self.board.mqtt_queue.store(0, Ordering::Relaxed);
        let BrokerState { address, error: last, .. } = self.board.broker().unwrap_or_default();
        // The address is unknown until the Supervisor has reported it.
        let broker = if address.is_empty() { "broker" } else { &address };
        let text = error.to_string();
        if last.as_ref() == Some(&text) {
            tracing::debug!("MQTT: {broker}: {text}");
        } else if error.is_login_refused() {
            tracing::error!("MQTT: {broker}: {text}; retrying up to once a minute");
        } else {
            tracing::warn!("MQTT: {broker}: {text}; retrying");
        }
        self.board.update_broker(|broker| {
            broker.connected = false;
            broker.error = Some(text);
        });
    }

    pub(super) fn report_connected(&mut self, version: Version) {
        self.connected_since = Some(Instant::now());
        let broker = format!("{}:{}", self.settings.host, self.settings.port);
        match self.down_since.take().map(|since| since.elapsed().as_secs()) {
            None => tracing::info!("MQTT: connected to {broker}"),
            Some(seconds) => tracing::info!("MQTT: reconnected to {broker} after {seconds} s"),
        }
        if self.settings.version != version {
            let setting = remedy::assignment("MQTT_VERSION", "3.1.1");
            tracing::warn!(
                "MQTT: the broker does not accept MQTT 5; using 3.1.1 until the next start. To leave \
                 out the attempt, set {setting}"
            );
            // A broker that is only slow to answer must not cost seconds at every connection.
            self.settings.version = version;
        }
        self.board.update_broker(|broker| {
            broker.connected = true;
            broker.connections += 1;
            broker.error = None;
        });
    }
}
