//! What to publish about one battery, given what was published before. Pure: the time is passed in
//! and messages are returned.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::model::catalog::Get;
use crate::model::{
    DeviceId, DeviceState, Energy, EnergyTotals, Entry, EntryKey, Identity, LinkState, Profile,
    Shared, Uptime, entries,
};
use crate::raw;

use super::alarms::AlarmEvents;
use super::discovery::{CONNECTION, Context};
use super::discovery_sync::{DiscoveryUpdate, RetainedDiscovery};
use super::inbound::RetainedState;
use super::json::object;
use super::message::Message;
use super::publish_filter::{LastSent, is_due, lifetime};
use super::seen_quantities::SeenQuantities;
use super::topics::{self, Topics};
use super::victron::Feed;
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
    /// Keys of the last read, whose values the broker retains, in the order of the catalogue.
    present: Vec<EntryKey>,
    /// Keys whose values it may retain from an earlier run; empty after the first read.
    restored: BTreeSet<String>,
    discovery: RetainedDiscovery,
    /// The last announcement; `None` while one is being sent.
    pub announced: Option<Announcement>,
    /// Refused energy totals that are in the log.
    pub reported_energy: Option<EnergyTotals>,
    sent: Sent,
    /// Number of the last attempt that was published as `raw`.
    pub raw_attempt: u64,
    /// The last reading that was published on this connection, and whether `raw` had it.
    pub published: Option<(u64, bool)>,
    pub alarms: AlarmEvents,
    /// `None` unless a driver of Venus OS reads this battery.
    victron: Option<Feed>,
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
    states: BTreeMap<&'static str, String>,
    /// What `meta` was made of.
    meta: Option<(Arc<Profile>, Option<Shared<Identity>>)>,
    /// In the order of the catalogue.
    values: Vec<(EntryKey, LastSent)>,
    /// Number of the last good read whose values were published.
    sequence: u64,
}

/// Everything besides the set of quantities that discovery messages are made of. Comparing it is
/// much cheaper than building the messages: they take 30 times as long as the values of a read.
#[derive(Debug)]
struct DiscoveryInput {
    profile: Arc<Profile>,
    identity: Option<Shared<Identity>>,
    module_serials: Vec<Option<String>>,
    complete: bool,
}

impl PublishedBattery {
    pub fn new(settings: &Settings, profile: &Profile) -> Self {
        let topics = Topics::new(&settings.base_topic, &settings.discovery_prefix, profile);
        let victron = settings.victron.get(&profile.id).cloned();
        PublishedBattery {
            id: profile.id.clone(),
            victron: victron.map(|settings| Feed::new(settings, &topics)),
            topics,
            retained_charged: None,
            retained_discharged: None,
            energy_restored: false,
            seen: SeenQuantities::default(),
            present: Vec::new(),
            restored: BTreeSet::new(),
            discovery: RetainedDiscovery::default(),
            announced: None,
            reported_energy: None,
            sent: Sent::default(),
            raw_attempt: 0,
            published: None,
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
        self.published = None;
        self.victron.iter_mut().for_each(Feed::reset);
    }

    /// For a new connection: the broker may have lost everything.
    pub fn reset(&mut self) {
        self.discovery = RetainedDiscovery::default();
        self.announced = None;
        self.sent = Sent::default();
        self.published = None;
        self.victron.iter_mut().for_each(Feed::reset);
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
                self.restored.extend(sensors.map(|(key, _)| key.clone()));
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
        let identity = snapshot.map(|snapshot| &snapshot.reading.identity);
        let serials = || modules.iter().map(|module| &module.serial);
        let is_same = |sent: &DiscoveryInput| {
            sent.complete == complete
                && sent.profile == state.profile
                && sent.identity.as_ref() == identity
                && sent.module_serials.iter().eq(serials())
        };
        if !changed && self.sent.discovery.as_ref().is_some_and(is_same) {
            return Vec::new();
        }
        self.sent.discovery = Some(DiscoveryInput {
            profile: state.profile.clone(),
            identity: identity.cloned(),
            module_serials: serials().cloned().collect(),
            complete,
        });
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
            self.restored.remove(&key);
            if let Some(key) = EntryKey::parse(&key) {
                self.sent.values.retain(|(sent, _)| *sent != key);
                self.present.retain(|present| *present != key);
            }
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
        let was_online = self.sent.states.get(topics::ONLINE);
        let was_online = was_online.is_some_and(|payload| payload == "true");
        let is_online = state.link == LinkState::Online && (was_online || !state.is_stale(now));
        let online = self.changed_state(topics::ONLINE, if is_online { "true" } else { "false" });
        let (offline, online) = if is_online { (None, online) } else { (online, None) };
        let states = [offline, self.meta(state), self.active_alarms(state, now)];
        let values = self.values(state, settings, now);
        let rest = [online, self.raw(state), self.victron(state, now)];
        states.into_iter().flatten().chain(values).chain(rest.into_iter().flatten()).collect()
    }

    /// The alarms of a battery that does not answer are not published again, as they may be over.
    fn active_alarms(&mut self, state: &DeviceState, now: Uptime) -> Option<Message> {
        let snapshot = state.snapshot.as_ref().filter(|_| is_current(state, now))?;
        let derived = &snapshot.derived;
        let has_alarms = !snapshot.reading.alarms.is_empty()
            || !derived.thresholds.is_empty()
            || derived.bank.is_some();
        let list = has_alarms.then(|| serde_json::to_string(&state.active_alarms()).ok())?;
        self.changed_state(topics::ALARMS, &list?)
    }

    fn meta(&mut self, state: &DeviceState) -> Option<Message> {
        let identity = state.snapshot.as_ref().map(|snapshot| &snapshot.reading.identity);
        let input = self.sent.meta.as_ref();
        if input
            .is_some_and(|(profile, sent)| *profile == state.profile && sent.as_ref() == identity)
        {
            return None;
        }
        self.sent.meta = Some((state.profile.clone(), identity.cloned()));
        self.changed_state(topics::META, &meta(state).to_string())
    }

    fn changed_state(&mut self, key: &'static str, payload: &str) -> Option<Message> {
        if self.sent.states.get(key).is_some_and(|sent| sent == payload) {
            return None;
        }
        self.sent.states.insert(key, payload.to_owned());
        Some(Message::retained(self.topics.topic(key), payload))
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
        let mut present = Vec::with_capacity(self.present.len());
        let lifetime_s = lifetime(state.profile.interval_ms, settings.publish).as_secs() as u32;
        let sent = &mut self.sent.values;
        let mut index = 0;
        for Entry { key, value, .. } in entries(state) {
            present.push(key);
            // Both lists have the same order.
            index += sent[index..].iter().take_while(|(sent, _)| *sent < key).count();
            let last = sent.get_mut(index).filter(|(sent, _)| *sent == key);
            // The broker may retain more than the history file, whose last write was a minute ago.
            if !self.energy_restored && is_energy(key.quantity().key) {
                continue;
            }
            let is_current = is_new || matches!(key.quantity().get, Get::Link(_));
            let is_due = is_due(last.as_ref().map(|(_, last)| last), &value, now, settings.publish);
            if is_current && is_due {
                let payload = topics::text(12, format_args!("{value}"));
                // The counters of the broker are the memory of this program.
                let lifetime_s = if is_energy(key.quantity().key) { 0 } else { lifetime_s };
                let message = Message::value(self.topics.value(key), payload);
                messages.push(Message { lifetime_s, ..message });
                let value = LastSent { value, at: now };
                match last {
                    Some((_, last)) => *last = value,
                    None => sent.insert(index, (key, value)),
                }
            }
        }
        if is_new {
            self.sent.sequence = sequence;
            self.clear_missing(&present, settings, &mut messages);
            self.present = present;
        }
        messages
    }

    /// Values that the broker retains although this read does not contain them.
    fn clear_missing(
        &mut self,
        read: &[EntryKey],
        settings: &Settings,
        messages: &mut Vec<Message>,
    ) {
        if self.present == read && self.restored.is_empty() {
            return;
        }
        let is_missing = |key: &EntryKey| read.binary_search(key).is_err();
        let missing = self.present.iter().copied().filter(is_missing);
        let mut topics: Vec<_> = missing.map(|key| self.topics.value(key)).collect();
        self.sent
            .values
            .retain(|(sent, _)| !is_missing(sent) || self.present.binary_search(sent).is_err());
        let restored = std::mem::take(&mut self.restored).into_iter();
        let restored =
            restored.filter(|key| EntryKey::parse(key).is_none_or(|key| is_missing(&key)));
        topics.extend(restored.map(|key| self.topics.topic(&key)));
        for topic in topics {
            if settings.discovery != Discovery::Off {
                // Home Assistant ignores the empty message and would keep showing the value.
                messages.push(Message::event(topic.clone(), UNKNOWN));
            }
            messages.push(Message::clear(topic));
        }
    }

    /// The complete reading, once for each attempt.
    fn raw(&mut self, state: &DeviceState) -> Option<Message> {
        let number = state.attempt.as_ref().map_or(0, |attempt| attempt.number);
        if number == self.raw_attempt {
            return None;
        }
        self.raw_attempt = number;
        let (topic, payload) = (self.topics.topic(topics::RAW), raw::text(state));
        Some(Message { at_least_once: false, ..Message::event(topic, payload) })
    }

    /// What a driver of Venus OS gets now.
    pub fn victron(&mut self, state: &DeviceState, now: Uptime) -> Option<Message> {
        self.victron.as_mut()?.update(state, is_current(state, now), now)
    }

    /// For the stop of the program: no charger may rely on a battery that is not read any more.
    pub fn stop_victron(&mut self) -> Option<Message> {
        self.victron.as_mut()?.stop()
    }

    /// For the stop of the program.
    pub fn offline(&self) -> Message {
        Message::retained(self.topics.topic(topics::ONLINE), "false")
    }
}

fn is_energy(key: &str) -> bool {
    [topics::ENERGY_CHARGED, topics::ENERGY_DISCHARGED].contains(&key)
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
