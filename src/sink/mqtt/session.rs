//! What is published on a connection, and in which order.

use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::task::JoinSet;
use tokio::time::{self, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::board::{Board, Updates};
use crate::command::{CommandBus, CommandError};
use crate::model::{BrokerState, DeviceState, EnergyTotals, Restored};
use crate::random::random;

use super::battery::PublishedBattery;
use super::client::{self, Event, MqttClient};
use super::command_payload::reply;
use super::error::MqttError;
use super::inbound::{Incoming, MessageParser, RetainedState};
use super::message::Message;
use super::topics;
use super::{DISCONNECT_TIMEOUT, Settings};

const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(5);
/// The session continues without retained messages that have not arrived by then.
const RETAINED_TIMEOUT: Duration = Duration::from_secs(3);
/// Commands that are carried out at the same time.
const MAX_COMMANDS: usize = 16;
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// Publishes all batteries of the board; outlasts connections.
pub struct Publisher {
    pub settings: Settings,
    /// When the broker accepted the connection; `None` while there is none.
    pub connected_since: Option<Instant>,
    /// `None` while connected and before the first attempt.
    down_since: Option<Instant>,
    board: Board,
    commands: CommandBus,
    bridge: String,
    /// In the order of the board.
    batteries: Vec<PublishedBattery>,
}

impl Publisher {
    pub fn new(settings: Settings, board: Board, commands: CommandBus) -> Self {
        let published = |state: DeviceState| PublishedBattery::new(&settings, &state.profile);
        let batteries = board.states().map(published).collect();
        board.update_broker(|_| {});
        Publisher {
            bridge: topics::bridge_online(&settings.client_id),
            settings,
            connected_since: None,
            down_since: None,
            board,
            commands,
            batteries,
        }
    }

    /// One connection from start to end; `Ok` when it was ended by `stop`.
    pub async fn run_connection(&mut self, stop: &CancellationToken) -> Result<(), MqttError> {
        let located = stop.run_until_cancelled(self.settings.locate_broker()).await;
        let Some(_) = located.transpose()? else { return Ok(()) };
        let located = stop.run_until_cancelled(self.settings.locate_dashboard()).await;
        let Some(()) = located else { return Ok(()) };
        self.board.update_broker(|broker| {
            broker.address = format!("{}:{}", self.settings.host, self.settings.port);
        });
        let (parser, queue_length) = (self.parser(), self.board.mqtt_queue.clone());
        let (task, mut client) = client::open(&self.settings, parser, queue_length)?;
        let session = async {
            stop.run_until_cancelled(self.serve(&mut client)).await.transpose()?;
            if self.connected_since.is_some() {
                // Nothing can be done about an error at this point.
                let _ = timeout(DISCONNECT_TIMEOUT, self.disconnect(&client)).await;
            }
            Ok(())
        };
        tokio::select! {
            error = task.run() => if stop.is_cancelled() { Ok(()) } else { Err(error) },
            result = session => result,
        }
    }

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
            tracing::error!("MQTT: {broker}: {text}; retrying every minute");
        } else {
            tracing::warn!("MQTT: {broker}: {text}; retrying");
        }
        self.board.update_broker(|broker| {
            broker.connected = false;
            broker.error = Some(text);
        });
    }

    fn report_connected(&mut self) {
        self.connected_since = Some(Instant::now());
        let broker = format!("{}:{}", self.settings.host, self.settings.port);
        match self.down_since.take().map(|since| since.elapsed().as_secs()) {
            None => tracing::info!("MQTT: connected to {broker}"),
            Some(seconds) => tracing::info!("MQTT: reconnected to {broker} after {seconds} s"),
        }
        self.board.update_broker(|broker| {
            broker.connected = true;
            broker.connections += 1;
            broker.error = None;
        });
    }

    fn parser(&self) -> MessageParser {
        let batteries = self.batteries.iter().map(|battery| battery.topics.clone());
        MessageParser::new(&self.settings, batteries.collect())
    }

    async fn serve(&mut self, client: &mut MqttClient) -> Result<Infallible, MqttError> {
        let early_commands = self.prepare(client).await?;
        let mut updates = self.publish_all(client).await?;
        let mut replies = JoinSet::new();
        for command in early_commands {
            self.handle(command, &mut replies, client).await?;
        }
        let mut republish_at = None;
        loop {
            tokio::select! {
                event = client.next() => match event? {
                    // Many programs receive the birth message at the same moment.
                    Event::Incoming(Incoming::Birth) => {
                        let delay = Duration::from_secs(1).mul_f64(1.0 + 2.0 * random());
                        republish_at = Some(time::Instant::now() + delay);
                    }
                    Event::Incoming(incoming) => self.handle(incoming, &mut replies, client).await?,
                    Event::Connected | Event::Subscribed(_) => {}
                },
                states = updates.next() => self.publish_updates(&states, client).await?,
                Some(Ok(reply)) = replies.join_next(), if !replies.is_empty() => {
                    client.publish(reply).await?;
                }
                () = sleep_until(republish_at.unwrap_or_else(time::Instant::now)),
                    if republish_at.is_some() =>
                {
                    republish_at = None;
                    self.batteries.iter_mut().for_each(PublishedBattery::invalidate);
                    updates = self.publish_all(client).await?;
                }
            }
        }
    }

    /// Subscribes and collects what the broker retains. Returns the commands that arrived meanwhile.
    async fn prepare(&mut self, client: &mut MqttClient) -> Result<Vec<Incoming>, MqttError> {
        let mut commands = Vec::new();
        self.batteries.iter_mut().for_each(PublishedBattery::reset);
        let is_connected = |event: &Event| matches!(event, Event::Connected);
        self.receive_until(is_connected, client, &mut commands).await?;
        self.report_connected();

        // Nothing else is in flight: the library may give a subscription the packet id of a message.
        let parser = self.parser();
        let retained = parser.retained_filters();
        client.subscribe([parser.command_filters(), retained.clone()].concat()).await?;
        let is_subscribed = |event: &Event| matches!(event, Event::Subscribed(_));
        timeout(SUBSCRIBE_TIMEOUT, self.receive_until(is_subscribed, client, &mut commands))
            .await
            .unwrap_or(Err(MqttError::NoSubscribeAck))?;

        let echo = topics::echo(&self.settings.client_id);
        let echo = Message { at_least_once: false, ..Message::event(echo, "echo") };
        client.publish([echo]).await?;
        let is_echo = |event: &Event| matches!(event, Event::Incoming(Incoming::Echo));
        let echoed = self.receive_until(is_echo, client, &mut commands);
        let echoed = timeout(RETAINED_TIMEOUT, echoed).await.ok().transpose()?;
        if echoed.is_none() {
            tracing::debug!("MQTT: the broker did not return the echo in time");
        }
        client.unsubscribe(retained).await?;
        self.restore_energy(echoed.is_some());
        Ok(commands)
    }

    async fn receive_until(
        &mut self,
        is_last: impl Fn(&Event) -> bool,
        client: &mut MqttClient,
        commands: &mut Vec<Incoming>,
    ) -> Result<(), MqttError> {
        loop {
            let event = client.next().await?;
            let last = is_last(&event);
            match event {
                Event::Subscribed(rejected) if rejected > 0 => tracing::warn!(
                    "MQTT: the broker rejected {rejected} subscriptions: commands and the removal \
                     of old entities will not work, energy counters start at 0. Check its access \
                     rules"
                ),
                Event::Incoming(Incoming::Retained(index, state)) => {
                    self.batteries[index].restore(state);
                }
                // Everything is about to be published anyway.
                Event::Incoming(Incoming::Birth | Incoming::Echo) => {}
                Event::Incoming(command) if commands.len() < MAX_COMMANDS => commands.push(command),
                Event::Incoming(_) | Event::Connected | Event::Subscribed(_) => {}
            }
            if last {
                return Ok(());
            }
        }
    }

    /// Lets the energy counters continue from the retained values. Until `all_arrived`, a battery
    /// needs both: the missing one may still arrive, and zero would replace it.
    fn restore_energy(&mut self, all_arrived: bool) {
        for battery in &mut self.batteries {
            let (charged, discharged) = (battery.retained_charged, battery.retained_discharged);
            let complete = all_arrived || (charged.is_some() && discharged.is_some());
            if !complete || std::mem::replace(&mut battery.energy_restored, true) {
                continue;
            }
            let found = (charged.is_some() || discharged.is_some()).then(|| EnergyTotals {
                charged: charged.unwrap_or_default(),
                discharged: discharged.unwrap_or_default(),
            });
            let id = &battery.id;
            match self.board.restore(id, found) {
                Some(Restored::Resumed(totals)) => tracing::info!(
                    "{id}: energy counters continue from {totals} (kept by the broker)"
                ),
                Some(Restored::Zero) => tracing::info!(
                    "{id}: energy counters start at 0: no earlier values on the broker"
                ),
                Some(Restored::AlreadyKnown) | None => {}
            }
        }
    }

    /// Discovery comes first, so that no entity becomes available before it is described. The
    /// program's own `online` comes after all values: until then the broker may retain old ones.
    async fn publish_all(&mut self, client: &MqttClient) -> Result<Updates, MqttError> {
        let now = Instant::now();
        let mut updates = self.board.updates();
        // All states are ready at once. A board without batteries has none.
        let states = updates.next().now_or_never().unwrap_or_default();
        for (battery, state) in self.batteries.iter_mut().zip(&states) {
            client.publish(battery.discovery(state, &self.settings, &self.bridge)).await?;
        }
        for (battery, state) in self.batteries.iter_mut().zip(&states) {
            client.publish(battery.report(state, &self.settings, now)).await?;
        }
        client.publish([Message::retained(self.bridge.clone(), "true")]).await?;
        for (battery, state) in self.batteries.iter_mut().zip(&states) {
            publish_alarm_events(battery, state, client).await?;
        }
        Ok(updates)
    }

    async fn publish_updates(
        &mut self,
        states: &[DeviceState],
        client: &MqttClient,
    ) -> Result<(), MqttError> {
        let now = Instant::now();
        for state in states {
            let is_own = |battery: &&mut PublishedBattery| battery.id == state.profile.id;
            let Some(battery) = self.batteries.iter_mut().find(is_own) else { continue };
            client.publish(battery.discovery(state, &self.settings, &self.bridge)).await?;
            client.publish(battery.report(state, &self.settings, now)).await?;
            publish_alarm_events(battery, state, client).await?;
        }
        Ok(())
    }

    async fn handle(
        &mut self,
        incoming: Incoming,
        replies: &mut JoinSet<Option<Message>>,
        client: &MqttClient,
    ) -> Result<(), MqttError> {
        match incoming {
            Incoming::Command(index, command) => {
                let PublishedBattery { id, topics, .. } = &self.batteries[index];
                if replies.len() >= MAX_COMMANDS {
                    let error = CommandError("too many commands are pending, try again".to_owned());
                    return client.publish(reply(topics, &command, Err(error))).await;
                }
                let (commands, id, topics) = (self.commands.clone(), id.clone(), topics.clone());
                let carry_out = async move {
                    let sent = commands.send(&id, command.clone());
                    let late = |_| Err(CommandError(format!("{id}: the command timed out")));
                    let result = timeout(COMMAND_TIMEOUT, sent).await.unwrap_or_else(late);
                    reply(&topics, &command, result)
                };
                replies.spawn(carry_out.boxed());
            }
            Incoming::InvalidCommand(reply) => client.publish([reply]).await?,
            Incoming::RetainedCommand(topic) => tracing::warn!(
                "MQTT: ignored a retained command on {topic}; send commands without the retain flag"
            ),
            // From a broker that was slow to deliver its retained messages.
            Incoming::Retained(
                index,
                energy @ (RetainedState::EnergyCharged(_) | RetainedState::EnergyDischarged(_)),
            ) => self.batteries[index].restore(energy),
            Incoming::Echo => self.restore_energy(true),
            Incoming::Birth | Incoming::Retained(..) | Incoming::Collected(..) => {}
        }
        Ok(())
    }

    /// A clean end suppresses the last will, so `online` is published explicitly.
    async fn disconnect(&self, client: &MqttClient) -> Result<(), MqttError> {
        client.publish(self.batteries.iter().map(PublishedBattery::offline)).await?;
        client.publish([Message::retained(self.bridge.clone(), "false")]).await?;
        // Closing a socket with unread acknowledgements may discard what is still on its way.
        client.wait_acknowledged().await?;
        client.disconnect().await
    }
}

/// Events follow `online`, because Home Assistant drops those of an unavailable entity. Events that
/// the broker has not acknowledged are published again on the next connection.
async fn publish_alarm_events(
    battery: &mut PublishedBattery,
    state: &DeviceState,
    client: &MqttClient,
) -> Result<(), MqttError> {
    let events = battery.alarm_events(state);
    if !events.is_empty() {
        client.publish(events).await?;
        client.wait_acknowledged().await?;
    }
    battery.alarms.mark_published(state);
    Ok(())
}
