//! The topics of the program itself.

use std::time::Duration;

use futures_util::FutureExt;
use serde_json::{Map, json};

use super::{Publisher, Replies};
use crate::clock;
use crate::command::payload::accepted;
use crate::command::{Command, CommandBus, ConfigChange};
use crate::model::{DeviceId, Millis};
use crate::sink::mqtt::bridge::{self, BridgeCommand};
use crate::sink::mqtt::client::MqttClient;
use crate::sink::mqtt::command_reply::error_reply;
use crate::sink::mqtt::error::MqttError;
use crate::sink::mqtt::limits::MIN_RUN;
use crate::sink::mqtt::message::Message;
use crate::sink::mqtt::{remote_config, topics};

/// How often it is checked whether the description of the program or the health of its batteries changed.
pub const INTERVAL: Duration = Duration::from_secs(300);
/// The time of day may be set by more than this.
const CLOCK_ERROR_MS: u64 = 10_000;

/// What was published on this connection.
#[derive(Debug, Default)]
pub struct SentBridge {
    started: Millis,
    info: String,
    health: String,
}

impl Publisher {
    pub(super) async fn publish_bridge(&mut self, client: &MqttClient) -> Result<(), MqttError> {
        client.publish(self.changed_bridge()).await
    }

    /// Description and health, as far as they changed.
    fn changed_bridge(&mut self) -> Vec<Message> {
        let running = clock::uptime().since(self.commands.program.started);
        // The time of day may be wrong until NTP has set it.
        let started = Millis(clock::now().0.saturating_sub(running));
        let sent = &mut self.sent_bridge;
        if sent.started.0.abs_diff(started.0) > CLOCK_ERROR_MS {
            sent.started = started;
        }
        let topics = self.batteries.iter();
        let topics = topics.map(|it| (it.id.to_string(), it.topics.base().into())).collect();
        let info = bridge::info(&self.settings, topics, sent.started);
        let connections = self.board.broker().map_or(0, |broker| broker.connections);
        let health = bridge::health(self.board.states(), connections);
        let topics =
            [(topics::INFO, info, &mut sent.info), (topics::HEALTH, health, &mut sent.health)];
        let client_id = &self.settings.client_id;
        let changed = topics.into_iter().filter_map(|(key, payload, sent)| {
            let payload = payload.to_string();
            let topic = format!("{}/{key}", topics::bridge(client_id));
            let message = (*sent != payload).then(|| Message::retained(topic, payload.clone()));
            *sent = payload;
            message
        });
        changed.collect()
    }

    pub(super) async fn handle_bridge(
        &mut self,
        command: BridgeCommand,
        replies: &mut Replies,
        client: &MqttClient,
    ) -> Result<(), MqttError> {
        let program = self.commands.program.clone();
        let base = topics::bridge(&self.settings.client_id);
        let topic = format!("{base}/{}", command.key());
        let accepted = command.accepted().to_string();
        let accepted = Message::event(topics::command_result(&topic), accepted);
        if let BridgeCommand::LogLevel(level) = command {
            (program.set_log_level)(level);
            tracing::warn!("the log level is {level} on request, until the next start");
            return client.publish([accepted]).await;
        }
        let since = clock::uptime().since(program.started);
        if since < MIN_RUN.as_secs() * 1000 {
            let error = format!("started {} s ago, try again in a minute", since / 1000);
            return client.publish([error_reply(&topic, &error)]).await;
        }
        tracing::warn!("restarting on request");
        client.publish([accepted]).await?;
        let Some(supervisor) = self.settings.ingress.clone() else {
            client.wait_acknowledged().await?;
            program.restart();
            return Ok(());
        };
        // An app that ends by itself stays stopped. This request ends when the app does.
        let request = async move {
            let error = supervisor.post("/addons/self/restart", &().into()).await.err();
            let reply = |error| error_reply(&topic, &format!("the Supervisor refuses: {error}"));
            Ok(error.map(reply))
        };
        replies.spawn(request.boxed());
        Ok(())
    }

    /// Applies all of the settings, or nothing. What was removed from them stays until the next start.
    pub(super) async fn apply_remote_config(
        &mut self,
        payload: Vec<u8>,
        replies: &mut Replies,
        client: &MqttClient,
    ) -> Result<(), MqttError> {
        if payload == self.remote_config {
            return Ok(());
        }
        let topic =
            format!("{}/{}", topics::bridge(&self.settings.client_id), topics::REMOTE_CONFIG);
        let changes = if payload.is_empty() {
            Ok(Vec::new())
        } else {
            let states: Vec<_> = self.board.states().collect();
            let profiles: Vec<_> = states.iter().map(|state| &*state.profile).collect();
            remote_config::parse(&payload, &profiles)
        };
        self.remote_config = payload;
        match changes {
            Ok(changes) => {
                tracing::info!("settings of {} batteries from {topic}", changes.len());
                replies.spawn(apply(self.commands.clone(), topic, changes).map(Ok).boxed());
                Ok(())
            }
            Err(error) => {
                tracing::warn!("the settings on {topic} are ignored: {error}");
                client.publish([error_reply(&topic, &error)]).await
            }
        }
    }
}

/// Sends the changes to the lines, and returns the reply.
async fn apply(
    commands: CommandBus,
    topic: String,
    changes: Vec<(DeviceId, ConfigChange)>,
) -> Option<Message> {
    let mut applied = Map::new();
    for (id, change) in changes {
        let command = Command::Configure(change);
        if let Err(error) = commands.send(&id, command.clone()).await {
            let done: Vec<_> = applied.keys().cloned().collect();
            let done = if done.is_empty() { "none".to_owned() } else { done.join(", ") };
            let error = format!("{error}; applied so far: {done}");
            tracing::warn!("the settings on {topic}: {error}");
            return Some(error_reply(&topic, &error));
        }
        let mut fields = accepted(&command);
        fields.as_object_mut().map(|fields| fields.remove("ok"));
        applied.insert(id.to_string(), fields);
    }
    let payload = json!({ "ok": true, "batteries": applied }).to_string();
    Some(Message::event(topics::command_result(&topic), payload))
}
