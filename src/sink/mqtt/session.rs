//! What is said on a connection, and in which order.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use crate::board::Board;
use crate::command::{Command, CommandBus, CommandError};
use crate::model::energy::Energy;
use crate::model::reading::Setting;
use crate::model::{DeviceId, DeviceState, EnergyTotals, Restored, Value};
use crate::random::random;

use super::Settings;
use super::battery::Battery;
use super::client::{self, Event, Link, Pump};
use super::connection_log::ConnectionLog;
use super::error::MqttError;
use super::inbound::{self, Flow, Input, Router};
use super::message::Message;
use super::topics::{self, Topics};

/// The broker has to confirm our subscriptions within this time.
const CONFIRMATION: Duration = Duration::from_secs(5);
/// So long we wait for what the broker keeps; then everything else is said without it.
const LEARNING: Duration = Duration::from_secs(3);
/// Commands that are being carried out at the same time.
const COMMANDS: usize = 16;
/// A line that takes longer to accept a command is not going to.
const COMMAND_LIMIT: Duration = Duration::from_secs(30);

/// What became of a command.
struct Answer {
    battery: usize,
    command: Command,
    result: Result<(), CommandError>,
}

/// One battery with the place where its news appear.
struct Member {
    id: DeviceId,
    slot: watch::Receiver<DeviceState>,
    battery: Battery,
    /// Energy counters that the broker keeps, as far as they have arrived: in and out.
    kept: [Option<Energy>; 2],
    /// They have been handed over. Later the broker keeps what we ourselves have sent.
    restored: bool,
}

/// Says everything about all batteries; lives as long as the program and outlasts connections.
pub struct Publisher {
    settings: Settings,
    board: Board,
    commands: CommandBus,
    bridge: String,
    members: Vec<Member>,
    /// Tells that any slot has changed.
    changes: watch::Receiver<u64>,
    /// Since when the broker has us; `None` when it has not.
    connected: Option<Instant>,
}

impl Publisher {
    /// For all batteries of the board.
    pub fn new(settings: Settings, board: &Board, commands: CommandBus) -> Self {
        let mut members = Vec::new();
        for id in board.devices() {
            let Some(slot) = board.subscribe(id) else { continue };
            let profile = slot.borrow().profile.clone();
            let topics = Topics::new(&settings.base_topic, &settings.discovery_prefix, &profile);
            members.push(Member {
                id: id.clone(),
                slot,
                battery: Battery::new(topics),
                kept: [None; 2],
                restored: false,
            });
        }
        let bridge = topics::bridge_online(&settings.client_id);
        let (board, changes) = (board.clone(), board.changes());
        board.update_broker(|_| {});
        Publisher { settings, board, commands, bridge, members, changes, connected: None }
    }

    /// Makes the two ends of a new connection.
    pub fn open(&self) -> Result<(Pump, Link), MqttError> {
        let settings = &self.settings;
        self.board.update_broker(|broker| {
            broker.address = format!("{}:{}", settings.host, settings.port);
        });
        client::open(settings, self.router(), self.board.mqtt_queue().clone())
    }

    /// Tells on the board why there is no connection.
    pub fn tell_trouble(&self, trouble: &MqttError) {
        self.board.mqtt_queue().set(0);
        self.board.update_broker(|broker| {
            broker.connected = false;
            broker.error = Some(trouble.to_string());
        });
    }

    /// Understands what comes in for our batteries.
    pub fn router(&self) -> Router {
        let batteries = self.members.iter().map(|member| member.battery.topics().clone()).collect();
        let birth = topics::birth(&self.settings.discovery_prefix);
        Router::new(batteries, birth, topics::echo(&self.settings.client_id))
    }

    /// How we connect.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Finds out where the broker is, where only the Supervisor knows; true when that is news.
    pub async fn locate(&mut self) -> Result<bool, MqttError> {
        match self.settings.supervisor.clone() {
            Some(supervisor) => supervisor.locate(&mut self.settings).await,
            None => Ok(false),
        }
    }

    /// Since when the broker has us; forgets it.
    pub fn end_of_connection(&mut self) -> Option<Instant> {
        self.connected.take()
    }

    /// True once the broker has let us in.
    pub fn is_connected(&self) -> bool {
        self.connected.is_some()
    }

    /// Serves a new connection until it ends.
    pub async fn serve(&mut self, link: &mut Link, log: &mut ConnectionLog) -> MqttError {
        match self.converse(link, log).await {
            Err(trouble) => trouble,
        }
    }

    async fn converse(
        &mut self,
        link: &mut Link,
        log: &mut ConnectionLog,
    ) -> Result<Infallible, MqttError> {
        let early = self.set_up(link, log).await?;
        self.present_all(link).await?;

        let mut answers = JoinSet::new();
        for input in early {
            self.obey(input, &mut answers, link).await?;
        }
        let mut birth = None;
        loop {
            tokio::select! {
                event = link.next() => match event? {
                    // Many programs hear of the birth at the same moment.
                    Event::Input(Input::Birth) => {
                        let wait = Duration::from_secs(1).mul_f64(1.0 + 2.0 * random());
                        birth = Some(tokio::time::Instant::now() + wait);
                    }
                    Event::Input(input) => self.obey(input, &mut answers, link).await?,
                    Event::Connected | Event::Subscribed { .. } => {}
                },
                Ok(()) = self.changes.changed() => self.present_news(link).await?,
                Some(Ok(answer)) = answers.join_next(), if !answers.is_empty() => {
                    link.publish(self.answer(answer)).await?;
                }
                () = sleep_until(birth.unwrap_or_else(tokio::time::Instant::now)),
                    if birth.is_some() =>
                {
                    birth = None;
                    self.members.iter_mut().for_each(|member| member.battery.repeat());
                    self.present_all(link).await?;
                }
            }
        }
    }

    /// Subscribes and learns what the broker keeps of us. Returns commands that came meanwhile.
    async fn set_up(
        &mut self,
        link: &mut Link,
        log: &mut ConnectionLog,
    ) -> Result<Vec<Input>, MqttError> {
        let mut early = Vec::new();
        self.members.iter_mut().for_each(|member| member.battery.start_over());
        self.hear_until(link, &mut early, |event| matches!(event, Event::Connected)).await?;
        self.connected = Some(Instant::now());
        log.connected(Instant::now());
        self.board.update_broker(|broker| {
            broker.connected = true;
            broker.connections += 1;
            broker.error = None;
        });

        // Subscriptions go alone: the library may give them the packet id of a waiting message.
        let router = self.router();
        let kept = router.kept();
        let mut filters = router.filters();
        filters.extend(kept.iter().cloned());
        link.subscribe(filters).await?;
        let confirmed = |event: &Event| matches!(event, Event::Subscribed { .. });
        timeout(CONFIRMATION, self.hear_until(link, &mut early, confirmed))
            .await
            .unwrap_or(Err(MqttError::Unconfirmed))?;

        let echo = topics::echo(&self.settings.client_id);
        link.publish([Message { confirmed: false, ..Message::event(echo, "echo") }]).await?;
        let learned = |event: &Event| matches!(event, Event::Input(Input::Echo));
        let everything = match timeout(LEARNING, self.hear_until(link, &mut early, learned)).await {
            Ok(result) => {
                result?;
                true
            }
            Err(_) => {
                tracing::debug!("MQTT: the broker does not send our messages back in time");
                false
            }
        };
        link.unsubscribe(kept).await?;
        self.restore(everything);
        Ok(early)
    }

    /// Lets the energy counters go on from what the broker keeps. Until it has sent `everything`,
    /// only counters that have arrived both are taken: what is missing may still come, and zeros
    /// would replace it.
    fn restore(&mut self, everything: bool) {
        for member in &mut self.members {
            let complete = everything || member.kept.iter().all(Option::is_some);
            if !complete || std::mem::replace(&mut member.restored, true) {
                continue;
            }
            let [charged, discharged] = member.kept.map(Option::unwrap_or_default);
            let found = member.kept.iter().any(Option::is_some);
            let found = found.then_some(EnergyTotals { charged, discharged });
            match self.board.restore(&member.id, found) {
                Some(Restored::Resumed(totals)) => tracing::info!(
                    "{}: the energy counters go on from {} kWh in and {} kWh out, as the broker \
                     kept them",
                    member.id,
                    rounded(totals.charged.kwh()),
                    rounded(totals.discharged.kwh())
                ),
                Some(Restored::Zero) => tracing::info!(
                    "{}: the energy counters start at 0, as the broker keeps none of before",
                    member.id
                ),
                Some(Restored::AlreadyKnown) | None => {}
            }
        }
    }

    async fn hear_until(
        &mut self,
        link: &mut Link,
        early: &mut Vec<Input>,
        is_last: impl Fn(&Event) -> bool,
    ) -> Result<(), MqttError> {
        loop {
            let event = link.next().await?;
            let last = is_last(&event);
            match event {
                Event::Subscribed { refused } if refused > 0 => tracing::warn!(
                    "MQTT: the broker refuses {refused} of our subscriptions; commands and the \
                     removal of old entities will not work, and energy counters start at 0 (see its \
                     access rules)"
                ),
                Event::Input(Input::KeptEntity(index, component, key)) => {
                    self.members[index].battery.found_entity(&component, &key);
                }
                Event::Input(Input::KeptDevice(index, module, components)) => {
                    self.members[index].battery.found_device(module, components);
                }
                Event::Input(Input::KeptTotal(index, flow, energy)) => {
                    self.keep(index, flow, energy);
                }
                Event::Input(Input::KeptAlarms(index, list)) => {
                    self.members[index].battery.remember_alarms(list);
                }
                // Everything is about to be sent anyway.
                Event::Input(Input::Birth | Input::Echo) => {}
                Event::Input(input) if early.len() < COMMANDS => early.push(input),
                Event::Input(_) | Event::Connected | Event::Subscribed { .. } => {}
            }
            if last {
                return Ok(());
            }
        }
    }

    fn keep(&mut self, battery: usize, flow: Flow, energy: Energy) {
        let [charged, discharged] = &mut self.members[battery].kept;
        match flow {
            Flow::In => *charged = Some(energy),
            Flow::Out => *discharged = Some(energy),
        }
    }

    /// Everything. Discovery comes first, so that nothing is shown as available before it is known,
    /// and the program's own `online` last: until then the broker may keep what an earlier
    /// connection has said, and nobody is to take that for present.
    async fn present_all(&mut self, link: &Link) -> Result<(), MqttError> {
        let now = Instant::now();
        let states: Vec<DeviceState> =
            self.members.iter_mut().map(|it| it.slot.borrow_and_update().clone()).collect();
        for (member, state) in self.members.iter_mut().zip(&states) {
            let messages = member.battery.discovery(state, &self.settings, &self.bridge);
            link.publish(messages).await?;
        }
        for (member, state) in self.members.iter_mut().zip(&states) {
            link.publish(member.battery.report(state, &self.settings, now)).await?;
        }
        link.publish([Message::fact(self.bridge.clone(), "true")]).await?;
        for (member, state) in self.members.iter_mut().zip(&states) {
            tell_events(&mut member.battery, state, link).await?;
        }
        Ok(())
    }

    /// What is new on the board.
    async fn present_news(&mut self, link: &Link) -> Result<(), MqttError> {
        let now = Instant::now();
        for member in &mut self.members {
            if !member.slot.has_changed().unwrap_or(false) {
                continue;
            }
            let state = member.slot.borrow_and_update().clone();
            let battery = &mut member.battery;
            link.publish(battery.discovery(&state, &self.settings, &self.bridge)).await?;
            link.publish(battery.report(&state, &self.settings, now)).await?;
            tell_events(battery, &state, link).await?;
        }
        Ok(())
    }

    async fn obey(
        &mut self,
        input: Input,
        answers: &mut JoinSet<Answer>,
        link: &Link,
    ) -> Result<(), MqttError> {
        let (battery, command) = match input {
            Input::Read(index) => (index, Command::Read),
            Input::Configure(index, Ok(change)) => (index, Command::Configure(change)),
            Input::Switch(index, switch, Ok(on)) => {
                (index, Command::Switch(Setting { switch, on }))
            }
            Input::Configure(index, Err(error)) => {
                let topic = self.topics(index).config_result();
                return link.publish([result(topic, &inbound::refused(&error))]).await;
            }
            Input::Switch(index, switch, Err(error)) => {
                let topic = self.topics(index).switch_result(switch);
                return link.publish([result(topic, &inbound::refused(&error))]).await;
            }
            Input::KeptCommand(topic) => {
                tracing::warn!(
                    "MQTT: ignored a command that the broker keeps on {topic}; send commands \
                     without \"retain\""
                );
                return Ok(());
            }
            // A slow broker.
            Input::KeptTotal(index, flow, energy) => {
                self.keep(index, flow, energy);
                return Ok(());
            }
            Input::Echo => {
                self.restore(true);
                return Ok(());
            }
            Input::Birth
            | Input::KeptEntity(..)
            | Input::KeptDevice(..)
            | Input::KeptAlarms(..) => return Ok(()),
        };
        if answers.len() >= COMMANDS {
            let result = Err(CommandError("too many commands are waiting, try again".to_owned()));
            return link.publish(self.answer(Answer { battery, command, result })).await;
        }
        let (commands, id) = (self.commands.clone(), self.members[battery].id.clone());
        answers.spawn(
            async move {
                let sent = timeout(COMMAND_LIMIT, commands.send(&id, command.clone())).await;
                let late = |_| Err(CommandError(format!("{id}: the line does not answer")));
                Answer { battery, command, result: sent.unwrap_or_else(late) }
            }
            .boxed(),
        );
        Ok(())
    }

    fn answer(&self, answer: Answer) -> Option<Message> {
        let topics = self.topics(answer.battery);
        let (topic, accepted) = match answer.command {
            Command::Read => {
                // Nobody waits for an answer to a read: the reading is the answer.
                if let Err(refusal) = answer.result {
                    tracing::warn!("MQTT: no read on command: {refusal}");
                }
                return None;
            }
            Command::Configure(change) => (topics.config_result(), inbound::accepted(&change)),
            Command::Switch(setting) => {
                (topics.switch_result(setting.switch), inbound::switched(setting))
            }
        };
        Some(match answer.result {
            Ok(()) => result(topic, &accepted),
            Err(refusal) => result(topic, &inbound::refused(&refusal.0)),
        })
    }

    fn topics(&self, battery: usize) -> &Topics {
        self.members[battery].battery.topics()
    }

    /// The last words. A clean end suppresses the last will, so they have to be said.
    pub async fn goodbye(&self, link: &Link) -> Result<(), MqttError> {
        let mut words: Vec<_> = self.members.iter().map(|it| it.battery.goodbye()).collect();
        words.push(Message::fact(self.bridge.clone(), "false"));
        link.publish(words).await?;
        // Closing a socket with unread confirmations may destroy what is still on its way.
        link.settle().await?;
        link.disconnect().await
    }
}

/// Events come behind `online`: of an entity that is not available, Home Assistant shows none. Only
/// what the broker has confirmed counts as told; the rest is told at the next connection.
async fn tell_events(
    battery: &mut Battery,
    state: &DeviceState,
    link: &Link,
) -> Result<(), MqttError> {
    let events = battery.events(state);
    if !events.is_empty() {
        link.publish(events).await?;
        link.settle().await?;
    }
    battery.events_told(state);
    Ok(())
}

fn result(topic: String, result: &serde_json::Value) -> Message {
    Message::event(topic, result.to_string())
}

/// Whole watt-hours, as they are published.
fn rounded(kwh: Value) -> Value {
    kwh.rounded(3)
}
