//! What to publish about one battery, given what was published before. Pure: the time is passed in
//! and messages are returned.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::model::catalog::Get;
use crate::model::{
    DeviceId, DeviceState, Energy, EnergyTotals, Identity, LinkState, Profile, Uptime, entries,
};
use crate::raw;

use super::alarms::{self, AlarmEvents};
use super::discovery::{CONNECTION, Context};
use super::discovery_sync::{DiscoveryUpdate, RetainedDiscovery};
use super::inbound::RetainedState;
use super::json::object;
use super::message::Message;
use super::publish_filter::{LastSent, is_due};
use super::seen_quantities::SeenQuantities;
use super::topics::{self, Topics};
use super::{Discovery, Settings};

/// Home Assistant's payload for an unknown value (core, `components/mqtt/const.py`).
pub(super) const UNKNOWN: &str = "None";

/// One battery as the broker knows it. What is not in `sent` and `discovery` outlasts connections.
#[derive(Debug)]
pub struct PublishedBattery {
    pub id: DeviceId,
    pub topics: Topics,
    /// Energy counters that an earlier run published; `None` until they arrive.
    pub retained_charged: Option<Energy>,
    pub retained_discharged: Option<Energy>,
    /// Those counters are on the board. From then on the broker retains the values of this run.
    pub energy_restored: bool,
    seen: SeenQuantities,
    /// Keys whose value the broker retains, as far as known.
    retained_values: BTreeSet<String>,
    discovery: RetainedDiscovery,
    /// The last announcement; `None` while one is being sent.
    pub announced: Option<Announcement>,
    /// Refused energy totals that are in the log.
    pub reported_energy: Option<EnergyTotals>,
    sent: Sent,
    /// Number of the last attempt that was published as `raw`.
    raw_attempt: u64,
    pub alarms: AlarmEvents,
}

/// The last message of an announcement. The broker acknowledges it after all that came before.
#[derive(Debug)]
pub struct Announcement {
    pub message: Message,
    /// `None` once it is acknowledged.
    acknowledged: Option<oneshot::Receiver<()>>,
}

impl Announcement {
    pub fn new(message: Message, acknowledged: oneshot::Receiver<()>) -> Self {
        Announcement { message, acknowledged: Some(acknowledged) }
    }
}

/// What was published and need not be repeated.
#[derive(Debug, Default)]
struct Sent {
    discovery: Option<DiscoveryInput>,
    /// Last payload of each topic that is published on change.
    states: BTreeMap<String, String>,
    values: BTreeMap<String, LastSent>,
    /// Number of the last good read whose values were published.
    sequence: u64,
}

/// Everything besides the set of quantities that discovery messages are made of. Comparing it is
/// much cheaper than building the messages: they take 30 times as long as the values of a read.
#[derive(Debug, PartialEq)]
struct DiscoveryInput {
    profile: Arc<Profile>,
    identity: Option<Identity>,
    module_serials: Vec<Option<String>>,
    complete: bool,
}

impl PublishedBattery {
    pub fn new(settings: &Settings, profile: &Profile) -> Self {
        PublishedBattery {
            id: profile.id.clone(),
            topics: Topics::new(&settings.base_topic, &settings.discovery_prefix, profile),
            retained_charged: None,
            retained_discharged: None,
            energy_restored: false,
            seen: SeenQuantities::default(),
            retained_values: BTreeSet::new(),
            discovery: RetainedDiscovery::default(),
            announced: None,
            reported_energy: None,
            sent: Sent::default(),
            raw_attempt: 0,
            alarms: AlarmEvents::default(),
        }
    }

    /// The last message of what the broker has acknowledged; `None` while something is under way.
    pub fn acknowledged(&mut self) -> Option<&Message> {
        let Announcement { message, acknowledged } = self.announced.as_mut()?;
        acknowledged.take_if(|acknowledged| acknowledged.try_recv().is_ok());
        acknowledged.is_none().then_some(message)
    }

    /// For a new connection on which the announcements are still retained.
    pub fn reset_values(&mut self) {
        let discovery = self.sent.discovery.take();
        self.sent = Sent { discovery, ..Sent::default() };
    }

    /// For a new connection: the broker may have lost everything.
    pub fn reset(&mut self) {
        self.discovery = RetainedDiscovery::default();
        self.announced = None;
        self.sent = Sent::default();
    }

    /// Everything will be published again.
    pub fn invalidate(&mut self) {
        self.discovery.invalidate();
        self.announced = None;
        self.sent = Sent::default();
    }

    /// Takes over what an earlier run published.
    pub fn restore(&mut self, state: RetainedState) {
        match state {
            RetainedState::Discovery(target, components) => {
                // Its values may be retained, too. Those without a value in the next read are cleared.
                let sensors = components.iter().filter(|(key, component)| {
                    let platform = component["platform"].as_str();
                    *key != CONNECTION && matches!(platform, Some("sensor" | "binary_sensor"))
                });
                self.retained_values.extend(sensors.map(|(key, _)| key.clone()));
                self.discovery.add(target, components);
            }
            RetainedState::EnergyCharged(energy) => self.retained_charged = Some(energy),
            RetainedState::EnergyDischarged(energy) => self.retained_discharged = Some(energy),
            RetainedState::Alarms(list) => self.alarms.remember(list),
        }
    }

    /// Discovery messages, when the set of entities or their description changed.
    pub fn discovery(
        &mut self,
        state: &DeviceState,
        settings: &Settings,
        bridge: &str,
    ) -> Vec<Message> {
        let changed = self.seen.update(state);
        let snapshot = state.snapshot.as_deref();
        let modules = snapshot.map_or(&[][..], |snapshot| &snapshot.reading.modules);
        let bank = snapshot.and_then(|snapshot| snapshot.derived.bank.as_ref());
        // The battery was read, and a bank had all its members: every quantity was seen.
        let complete = snapshot.is_some() && bank.is_none_or(|bank| bank.missing.is_empty());
        let input = DiscoveryInput {
            profile: state.profile.clone(),
            identity: snapshot.map(|snapshot| snapshot.reading.identity.clone()),
            module_serials: modules.iter().map(|module| module.serial.clone()).collect(),
            complete,
        };
        if !changed && self.sent.discovery.as_ref() == Some(&input) {
            return Vec::new();
        }
        self.sent.discovery = Some(input);
        let context = Context {
            state,
            topics: &self.topics,
            bridge,
            publish: settings.publish,
            dashboard: settings.dashboard.as_deref(),
        };
        let DiscoveryUpdate { mut messages, removed_keys } =
            self.discovery.update(settings.discovery, &context, &self.seen, complete);
        for key in removed_keys {
            self.sent.values.remove(&key);
            self.retained_values.remove(&key);
            messages.push(Message::clear(self.topics.topic(&key)));
        }
        messages
    }

    /// State and values. `online` follows the values when true and precedes them when false, so
    /// that an old value never appears to be current.
    ///
    /// A battery with an old reading is online only if it was before on this connection: reads that
    /// are merely late must not make it offline.
    pub fn report(
        &mut self,
        state: &DeviceState,
        settings: &Settings,
        now: Uptime,
    ) -> Vec<Message> {
        let was_online = self.sent.states.get(&self.topics.topic(topics::ONLINE));
        let was_online = was_online.is_some_and(|payload| payload == "true");
        let is_online = state.link == LinkState::Online && (was_online || !state.is_stale(now));
        let online = self.changed_state(topics::ONLINE, is_online.to_string());
        let (offline, online) = if is_online { (None, online) } else { (online, None) };
        let meta = self.changed_state(topics::META, meta(state).to_string());
        let states = [offline, meta, self.active_alarms(state, now)];
        let values = self.values(state, settings, now);
        let rest = [online, self.raw(state)];
        states.into_iter().flatten().chain(values).chain(rest.into_iter().flatten()).collect()
    }

    /// The alarms of a battery that does not answer are not published again, as they may be over.
    fn active_alarms(&mut self, state: &DeviceState, now: Uptime) -> Option<Message> {
        let snapshot = state.snapshot.as_ref().filter(|_| is_current(state, now))?;
        let derived = &snapshot.derived;
        let has_alarms = !snapshot.reading.alarms.is_empty()
            || !derived.thresholds.is_empty()
            || derived.bank.is_some();
        let list = has_alarms.then(|| json!(alarms::active(state)))?;
        self.changed_state(topics::ALARMS, list.to_string())
    }

    fn changed_state(&mut self, key: &str, payload: String) -> Option<Message> {
        let topic = self.topics.topic(key);
        if self.sent.states.get(&topic) == Some(&payload) {
            return None;
        }
        self.sent.states.insert(topic.clone(), payload.clone());
        Some(Message::retained(topic, payload))
    }

    /// An event for each alarm that started or ended since [`AlarmEvents::mark_published`].
    pub fn alarm_events(&self, state: &DeviceState) -> Vec<Message> {
        let topic = self.topics.topic(topics::EVENT);
        let events = self.alarms.events(state).into_iter();
        events.map(|event| Message::event(topic.clone(), event.to_string())).collect()
    }

    /// The values that are due. The values of a read are published while it is new; those from
    /// before the battery stopped answering are never published again.
    fn values(&mut self, state: &DeviceState, settings: &Settings, now: Uptime) -> Vec<Message> {
        let sequence = state.snapshot.as_ref().map_or(0, |snapshot| snapshot.sequence);
        let is_new = is_current(state, now) && sequence != self.sent.sequence;
        let mut messages = Vec::new();
        let mut present = BTreeSet::new();
        for entry in entries(state) {
            let text = entry.value.to_string();
            let is_current = is_new || matches!(entry.quantity.get, Get::Link(_));
            let last = self.sent.values.get(&entry.key);
            if is_current && is_due(last, &text, now, settings.publish) {
                messages.push(Message::value(self.topics.topic(&entry.key), text.clone()));
                self.sent.values.insert(entry.key.clone(), LastSent { text, at: now });
            }
            present.insert(entry.key);
        }
        if is_new {
            self.sent.sequence = sequence;
            for key in self.retained_values.difference(&present) {
                let topic = self.topics.topic(key);
                if settings.discovery != Discovery::Off {
                    // Home Assistant ignores the empty message and would keep showing the value.
                    messages.push(Message::event(topic.clone(), UNKNOWN));
                }
                messages.push(Message::clear(topic));
                self.sent.values.remove(key);
            }
            self.retained_values = present;
        }
        messages
    }

    /// The complete reading, once for each attempt.
    fn raw(&mut self, state: &DeviceState) -> Option<Message> {
        let number = state.attempt.as_ref().map_or(0, |attempt| attempt.number);
        if number == self.raw_attempt {
            return None;
        }
        self.raw_attempt = number;
        let (topic, payload) = (self.topics.topic(topics::RAW), raw::raw(state).to_string());
        Some(Message { at_least_once: false, ..Message::event(topic, payload) })
    }

    /// For the stop of the program.
    pub fn offline(&self) -> Message {
        Message::retained(self.topics.topic(topics::ONLINE), "false")
    }
}

/// Whether the values may be published.
pub fn is_current(state: &DeviceState, now: Uptime) -> bool {
    state.link == LinkState::Online && !state.is_stale(now)
}

/// Keys are those of the `raw` JSON.
fn meta(state: &DeviceState) -> Value {
    let profile = &*state.profile;
    let identity = state.snapshot.as_ref().map(|snapshot| snapshot.reading.identity.clone());
    let identity = identity.unwrap_or_default();
    Value::Object(object(json!({
        "id": profile.id,
        "name": profile.name,
        "type": profile.brand,
        "port": profile.port,
        "address": profile.address,
        "adapter": profile.adapter,
        "manufacturer": identity.manufacturer,
        "model": identity.model,
        "hw_rev": identity.hardware,
        "sw_rev": identity.software,
        "serial_number": identity.serial,
    })))
}

#[cfg(test)]
#[path = "battery_tests.rs"]
mod tests;
