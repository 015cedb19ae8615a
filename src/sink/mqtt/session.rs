//! What is published on a connection, and in which order.

mod bridge;
mod broker_limits;
mod connection_log;
mod prepare;

use std::convert::Infallible;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::task::JoinSet;
use tokio::time::{self, MissedTickBehavior, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::board::{Board, Updates};
use crate::clock;
use crate::command::{Command, CommandBus, CommandError, ConfigChange};
use crate::model::{DeviceId, DeviceState};
use crate::random::random;
use crate::tasks::Task;

use super::backfill::{Feed, Turn};
use super::battery::{Announcement, PublishedBattery, is_current};
use super::client::{self, Event, MqttClient};
use super::command_reply::reply;
use super::echo::Echo;
use super::error::MqttError;
use super::inbound::{Incoming, MessageParser, RetainedState};
use super::limits::{BIRTH_INTERVAL, LOG_LINES, Rate};
use super::message::Message;
use super::retained_check::RetainedCheck;
use super::topics;
use super::{DISCONNECT_TIMEOUT, PROGRESS_INTERVAL, STEP_LIMIT, Settings};

use bridge::SentBridge;
use prepare::report_refused;

/// Commands that are carried out at the same time.
const MAX_COMMANDS: usize = 16;
/// How often it is checked whether a driver of Venus OS needs a message.
const VICTRON_INTERVAL: Duration = Duration::from_secs(5);

/// Commands that are being carried out; the caller logs errors and publishes replies.
type Replies = JoinSet<Result<Option<Message>, CommandError>>;

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
    /// The last one that was sent.
    echo: Echo,
    /// In the order of the board.
    batteries: Vec<PublishedBattery>,
    /// Limits the log lines about failed read commands.
    failed_reads: Rate,
    file_restored: CancellationToken,
    /// Every retained value has arrived on this connection.
    all_arrived: bool,
    /// `None` unless missed readings are sent later.
    feed: Option<Feed>,
    sent_bridge: SentBridge,
    /// The last settings of the operator, which the broker sends on every connection.
    remote_config: Vec<u8>,
    retained_check: RetainedCheck,
    /// The log has the line about blanks in topics.
    reported_blanks: bool,
    pub task: Task,
}

impl Publisher {
    pub fn new(
        settings: Settings,
        board: Board,
        commands: CommandBus,
        file_restored: CancellationToken,
        task: Task,
    ) -> Self {
        let published = |state: DeviceState| PublishedBattery::new(&settings, &state.profile);
        let batteries = board.states().map(published).collect();
        board.update_broker(|_| {});
        Publisher {
            bridge: topics::bridge_online(&settings.client_id),
            echo: Echo::new(&settings.client_id),
            settings,
            connected_since: None,
            down_since: None,
            board,
            commands,
            batteries,
            failed_reads: Rate::new(LOG_LINES),
            file_restored,
            all_arrived: false,
            feed: None,
            sent_bridge: SentBridge::default(),
            remote_config: Vec::new(),
            retained_check: RetainedCheck::Due(time::Instant::now()),
            reported_blanks: false,
            task,
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
        let progress = self.task.clone();
        let (task, mut client) = client::open(&self.settings, parser, queue_length, progress);
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

    fn parser(&mut self) -> MessageParser {
        let batteries = self.batteries.iter().map(|battery| battery.topics.clone()).collect();
        let announced = self.batteries.iter_mut().map(PublishedBattery::acknowledged);
        let announced = announced.map(|message| message.cloned()).collect();
        MessageParser::new(&self.settings, batteries).with_announced(announced)
    }

    async fn serve(&mut self, client: &mut MqttClient) -> Result<Infallible, MqttError> {
        let devices = self.batteries.iter().map(|battery| battery.id.clone());
        let backfill = self.settings.backfill.clone();
        self.feed = backfill.map(|backfill| Feed::new(backfill, devices));
        let early_commands = self.prepare(client).await?;
        let mut updates = self.publish_all(client).await?;
        let mut replies = Replies::new();
        for command in early_commands {
            self.handle(command, &mut replies, client).await?;
        }
        let (mut republish_at, mut not_before) = (None, time::Instant::now());
        let (file_restored, mut restores) = (self.file_restored.clone(), true);
        self.retained_check.restart(not_before);
        let mut repeat = time::interval(VICTRON_INTERVAL);
        repeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut bridge_due = time::Instant::now() + bridge::INTERVAL;
        loop {
            self.task.progress(STEP_LIMIT);
            tokio::select! {
                () = sleep(PROGRESS_INTERVAL) => {}
                event = client.next() => match event? {
                    // Many programs receive the birth message at the same moment. A node that lost
                    // its network sends the will of an earlier connection when it is back.
                    Event::Incoming(
                        Incoming::Birth | Incoming::OwnOnline { online: false, .. },
                    ) if republish_at.is_none() => {
                        let delay = Duration::from_secs(1).mul_f64(1.0 + 2.0 * random());
                        republish_at = Some(not_before.max(time::Instant::now() + delay));
                    }
                    Event::Incoming(incoming) => self.handle(incoming, &mut replies, client).await?,
                    Event::Subscribed(rejected) if rejected > 0 => self.finish_retained_check(client).await?,
                    Event::Connected(_) | Event::Subscribed(_) => {}
                },
                () = file_restored.cancelled(), if restores => {
                    restores = false;
                    self.restore_energy();
                }
                _ = repeat.tick(), if !self.settings.victron.is_empty() => {
                    self.repeat_victron(client).await?;
                }
                turn = next_turn(&mut self.feed), if self.feed.is_some() => {
                    self.send_missed(turn, client).await?;
                }
                () = sleep_until(bridge_due) => {
                    bridge_due = time::Instant::now() + bridge::INTERVAL;
                    self.publish_bridge(client).await?;
                }
                () = sleep_until(self.retained_check.next().unwrap_or_else(time::Instant::now)),
                    if self.retained_check.next().is_some() =>
                {
                    self.check_retained(client).await?;
                }
                states = updates.next() => self.publish_updates(&states, client).await?,
                Some(Ok(reply)) = replies.join_next(), if !replies.is_empty() => match reply {
                    Ok(reply) => client.publish(reply).await?,
                    Err(error) => self.report_failed_read(&error),
                },
                () = sleep_until(republish_at.unwrap_or_else(time::Instant::now)),
                    if republish_at.is_some() =>
                {
                    republish_at = None;
                    not_before = time::Instant::now() + BIRTH_INTERVAL;
                    self.batteries.iter_mut().for_each(PublishedBattery::invalidate);
                    updates = self.publish_all(client).await?;
                }
            }
        }
    }

    /// Discovery comes first, so that no entity becomes available before it is described. The
    /// program's own `online` comes after all values: until then the broker may retain old ones.
    async fn publish_all(&mut self, client: &MqttClient) -> Result<Updates, MqttError> {
        let mut updates = self.board.updates();
        // All states are ready at once. A board without batteries has none.
        let states = updates.next().now_or_never().unwrap_or_default();
        for (battery, state) in self.batteries.iter_mut().zip(&states) {
            announce(battery, state, &self.settings, &self.bridge, client).await?;
        }
        for battery in &mut self.batteries {
            report(battery, &self.board, &self.settings, client).await?;
        }
        self.publish_bridge(client).await?;
        client.publish([Message::retained(self.bridge.clone(), "true")]).await?;
        for battery in &mut self.batteries {
            publish_alarm_events(battery, &self.board, client).await?;
        }
        self.note_published(client).await?;
        Ok(updates)
    }

    /// Readings that were published live are not missed, once the broker has received them.
    async fn note_published(&mut self, client: &MqttClient) -> Result<(), MqttError> {
        if let Some(feed) = &mut self.feed
            && feed.note(&self.batteries)
        {
            feed.confirm_later(client.delivered().await?);
        }
        Ok(())
    }

    async fn send_missed(&mut self, turn: Turn, client: &MqttClient) -> Result<(), MqttError> {
        let (Turn::Send(mut chunk), Some(feed)) = (turn, &mut self.feed) else {
            return self.note_published(client).await;
        };
        if !client.is_idle() {
            feed.defer();
            return Ok(());
        }
        client.publish(feed.message(&mut chunk, &self.batteries)).await?;
        feed.sent(chunk, client.acknowledged().await?);
        Ok(())
    }

    async fn publish_updates(
        &mut self,
        states: &[DeviceState],
        client: &MqttClient,
    ) -> Result<(), MqttError> {
        for state in states {
            let is_own = |battery: &&mut PublishedBattery| battery.id == state.profile.id;
            let Some(battery) = self.batteries.iter_mut().find(is_own) else { continue };
            if let Some(totals) = state.energy.refused {
                report_refused(battery, totals);
            }
            announce(battery, state, &self.settings, &self.bridge, client).await?;
            report(battery, &self.board, &self.settings, client).await?;
            publish_alarm_events(battery, &self.board, client).await?;
        }
        self.note_published(client).await?;
        Ok(())
    }

    /// The drivers of Venus OS need messages more often than some batteries are read.
    async fn repeat_victron(&mut self, client: &MqttClient) -> Result<(), MqttError> {
        for battery in &mut self.batteries {
            let Some(state) = latest(&self.board, battery) else { continue };
            client.publish(battery.victron(&state, clock::uptime())).await?;
        }
        Ok(())
    }

    async fn handle(
        &mut self,
        incoming: Incoming,
        replies: &mut Replies,
        client: &MqttClient,
    ) -> Result<(), MqttError> {
        match incoming {
            Incoming::Command(index, Command::Configure(change)) if change.sets_energy() => {
                let battery = &self.batteries[index];
                let result = self.set_energy(&battery.id, &change);
                let answer = reply(&battery.topics, &Command::Configure(change), result);
                client.publish(answer.ok().flatten()).await?;
            }
            Incoming::Command(index, command) => {
                let PublishedBattery { id, topics, .. } = &self.batteries[index];
                if replies.len() >= MAX_COMMANDS {
                    let error = CommandError("too many commands are pending, try again".to_owned());
                    match reply(topics, &command, Err(error)) {
                        Ok(reply) => client.publish(reply).await?,
                        Err(error) => self.report_failed_read(&error),
                    }
                    return Ok(());
                }
                let (commands, id, topics) = (self.commands.clone(), id.clone(), topics.clone());
                let carry_out = async move {
                    let result = commands.send(&id, command.clone()).await;
                    reply(&topics, &command, result)
                };
                replies.spawn(carry_out.boxed());
            }
            Incoming::Bridge(command) => self.handle_bridge(command, replies, client).await?,
            Incoming::RemoteConfig(payload) => {
                self.apply_remote_config(payload, replies, client).await?;
            }
            Incoming::InvalidBridge(reply) | Incoming::InvalidCommand(_, reply) => {
                client.publish([reply]).await?;
            }
            Incoming::RetainedCommand(topic) => tracing::warn!(
                "MQTT: ignored a retained command on {topic}; send commands without the retain flag"
            ),
            // From a broker that was slow to deliver its retained messages.
            Incoming::Retained(
                index,
                energy @ (RetainedState::EnergyCharged(_) | RetainedState::EnergyDischarged(_)),
            ) => self.batteries[index].restore(energy),
            Incoming::Echo(payload) if payload == self.echo.payload => {
                self.all_arrived = true;
                self.restore_energy();
            }
            Incoming::OwnOnline { retained: true, .. } => {
                self.finish_retained_check(client).await?;
            }
            Incoming::Birth
            | Incoming::OwnOnline { .. }
            | Incoming::Echo(_)
            | Incoming::Intact(_)
            | Incoming::Retained(..)
            | Incoming::Collected(..) => {}
        }
        Ok(())
    }

    fn set_energy(&self, id: &DeviceId, change: &ConfigChange) -> Result<(), CommandError> {
        let [charged, discharged] = change.energy()?;
        tracing::info!("{id}: energy counters set on request");
        self.board.update(id, |state| state.set_energy(charged, discharged));
        Ok(())
    }

    fn report_failed_read(&mut self, error: &CommandError) {
        if self.failed_reads.admit(clock::uptime()).is_some() {
            tracing::warn!("MQTT: read command failed: {error}");
        }
    }

    /// A clean end suppresses the last will, so `online` is published explicitly.
    async fn disconnect(&mut self, client: &MqttClient) -> Result<(), MqttError> {
        let stops = self.batteries.iter_mut().filter_map(PublishedBattery::stop_victron);
        client.publish(stops).await?;
        client.publish(self.batteries.iter().map(PublishedBattery::offline)).await?;
        client.publish([Message::retained(self.bridge.clone(), "false")]).await?;
        // Closing a socket with unread acknowledgements may discard what is still on its way.
        client.wait_acknowledged().await?;
        self.feed.iter_mut().for_each(Feed::finish);
        client.disconnect().await
    }
}

/// Describes a battery to Home Assistant, as far as that changed.
async fn announce(
    battery: &mut PublishedBattery,
    state: &DeviceState,
    settings: &Settings,
    bridge: &str,
    client: &MqttClient,
) -> Result<(), MqttError> {
    let messages = battery.discovery(state, settings, bridge);
    if messages.is_empty() {
        return Ok(());
    }
    let is_kept = |message: &&Message| message.retain && !message.payload.is_empty();
    let last = messages.iter().rfind(is_kept).cloned();
    let before = battery.announced.take().map(|announced| announced.message);
    client.publish(messages).await?;
    if let Some(last) = last.or(before) {
        battery.announced = Some(Announcement::new(last, client.acknowledged().await?));
    }
    Ok(())
}

/// Publishes the newest state of a battery. On a slow link its values may grow old meanwhile; the
/// rest of them is then left out.
async fn report(
    battery: &mut PublishedBattery,
    board: &Board,
    settings: &Settings,
    client: &MqttClient,
) -> Result<(), MqttError> {
    // The second report is that of a battery without current values.
    for _ in 0..2 {
        let Some(state) = latest(board, battery) else { return Ok(()) };
        let was_current = is_current(&state, clock::uptime());
        let raw_before = battery.raw_attempt;
        let messages = battery.report(&state, settings, clock::uptime()).into_iter();
        let mut complete = true;
        let is_current = |_: &Message| {
            complete = !(was_current && state.is_stale(clock::uptime()));
            complete
        };
        client.publish(messages.take_while(is_current)).await?;
        if complete {
            let has_raw = was_current && battery.raw_attempt != raw_before && !has_failed(&state);
            battery.published = state.snapshot.map(|snapshot| (snapshot.sequence, has_raw));
            return Ok(());
        }
        battery.reset_values();
    }
    Ok(())
}

fn has_failed(state: &DeviceState) -> bool {
    state.attempt.as_ref().is_none_or(|attempt| attempt.fault.is_some())
}

/// Never returns without a feed.
async fn next_turn(feed: &mut Option<Feed>) -> Turn {
    match feed {
        Some(feed) => feed.next().await,
        None => std::future::pending().await,
    }
}

fn latest(board: &Board, battery: &PublishedBattery) -> Option<DeviceState> {
    board.detect_pause(clock::uptime(), clock::now());
    board.latest(&battery.id)
}

/// Events follow `online`, because Home Assistant drops those of an unavailable entity. Events that
/// the broker has not acknowledged are published again on the next connection.
async fn publish_alarm_events(
    battery: &mut PublishedBattery,
    board: &Board,
    client: &MqttClient,
) -> Result<(), MqttError> {
    let current = |state: &DeviceState| is_current(state, clock::uptime());
    let Some(state) = latest(board, battery).filter(current) else { return Ok(()) };
    let events = battery.alarm_events(&state);
    if !events.is_empty() {
        client.publish(events).await?;
        client.wait_acknowledged().await?;
    }
    battery.alarms.mark_published(&state);
    Ok(())
}
