//! What a broker cannot do, logged once with the remedy.

use tokio::time::Instant;

use super::Publisher;
use crate::remedy;
use crate::sink::mqtt::client::MqttClient;
use crate::sink::mqtt::error::MqttError;
use crate::sink::mqtt::retained_check::RetainedStep;
use crate::sink::mqtt::topics;

impl Publisher {
    /// The step of the check that is due.
    pub(super) async fn check_retained(&mut self, client: &MqttClient) -> Result<(), MqttError> {
        let filter = topics::bridge_online_filter(&self.settings.client_id);
        if self.retained_check.advance(Instant::now()) == RetainedStep::Subscribe {
            return client.subscribe(vec![filter]).await;
        }
        // A broker that returns nothing has other rules about what this program may read.
        if self.all_arrived {
            tracing::warn!(
                "MQTT: the broker sends no retained messages to subscriptions with wildcards, as \
                 RabbitMQ. Home Assistant gets everything when it starts; let other programs \
                 subscribe to exact topics, and set {} to keep the energy counters",
                remedy::setting("HISTORY_FILE")
            );
        }
        client.unsubscribe(vec![filter]).await
    }

    /// The answer to the subscription has arrived.
    pub(super) async fn finish_retained_check(
        &mut self,
        client: &MqttClient,
    ) -> Result<(), MqttError> {
        if !self.retained_check.finish() {
            return Ok(());
        }
        client.unsubscribe(vec![topics::bridge_online_filter(&self.settings.client_id)]).await
    }

    /// NATS answers a topic with a blank by closing the connection.
    pub fn report_blanks(&mut self, error: &MqttError) {
        if self.reported_blanks || !error.is_closed_by_broker() {
            return;
        }
        let topics = self.batteries.iter().map(|battery| battery.topics.topic(topics::ONLINE));
        let mut topics =
            topics.chain([self.bridge.clone(), self.settings.discovery_prefix.clone()]);
        if let Some(topic) = topics.find(|topic| topic.contains(' ')) {
            self.reported_blanks = true;
            tracing::warn!(
                "MQTT: the broker closed the connection, as NATS does for the blank in \"{topic}\". \
                 Set {}, {} and {} without blanks",
                remedy::setting("MQTT_BASE_TOPIC"),
                remedy::setting("MQTT_TOPIC_PREFIX"),
                remedy::setting("MQTT_CLIENT_ID"),
            );
        }
    }
}
