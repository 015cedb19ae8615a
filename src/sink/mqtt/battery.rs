//! What is to be said about one battery, given what was said before. Pure: the clock is handed
//! in, and messages come out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Map, Value, json};

use crate::model::catalog::{Get, entries};
use crate::model::reading::Identity;
use crate::model::{DeviceState, LinkState, Profile};
use crate::raw;

use super::alarms::{self, AlarmEvents};
use super::discovery::{CONNECTION, Known, Subject};
use super::discovery_sync::{self, RetainedDiscovery};
use super::message::Message;
use super::publish_filter::{LastSent, is_due};
use super::topics::Topics;
use super::{Discovery, Settings};

/// Home Assistant's word for a value that is not known (core, `components/mqtt/const.py`).
const UNKNOWN: &str = "None";

/// One battery as the broker has heard of it.
#[derive(Debug)]
pub struct Battery {
    topics: Topics,
    /// Entities seen since the start of the program; a new connection does not change them.
    known: Known,
    /// Keys whose value the broker keeps, as far as we know.
    standing: BTreeSet<String>,
    /// Number of the last attempt whose `raw` was sent.
    raw_sent: u64,
    /// What the broker keeps of our announcements.
    announced: RetainedDiscovery,
    /// What shaped the announcement; when it changes, discovery is due.
    shaped_by: Option<Shape>,
    /// Last text on each topic that is sent when it changes.
    facts: BTreeMap<String, String>,
    values: BTreeMap<String, LastSent>,
    /// Number of the last good read whose values were sent.
    sequence: u64,
    /// Alarms that were told; a new connection does not change them.
    alarms: AlarmEvents,
}

/// Everything beside the set of entities that an announcement is made of.
#[derive(Debug, PartialEq)]
struct Shape {
    profile: Arc<Profile>,
    identity: Option<Identity>,
    /// Serial numbers of the modules.
    modules: Vec<Option<String>>,
    /// It was read, and a bank had all its members: the set of entities is what it will be.
    settled: bool,
}

impl Shape {
    fn of(state: &DeviceState) -> Self {
        let reading = state.snapshot.as_ref().map(|snapshot| &snapshot.reading);
        let modules = reading.map_or(&[][..], |reading| &reading.modules);
        Shape {
            profile: state.profile.clone(),
            identity: reading.map(|reading| reading.identity.clone()),
            modules: modules.iter().map(|module| module.serial.clone()).collect(),
            settled: state.snapshot.as_ref().is_some_and(|snapshot| {
                snapshot.derived.bank.as_ref().is_none_or(|bank| bank.missing.is_empty())
            }),
        }
    }
}

impl Battery {
    /// A battery of which the broker has not heard.
    pub fn new(topics: Topics) -> Self {
        Battery {
            topics,
            known: Known::default(),
            standing: BTreeSet::new(),
            raw_sent: 0,
            announced: RetainedDiscovery::default(),
            shaped_by: None,
            facts: BTreeMap::new(),
            values: BTreeMap::new(),
            sequence: 0,
            alarms: AlarmEvents::default(),
        }
    }

    /// Its topics.
    pub fn topics(&self) -> &Topics {
        &self.topics
    }

    /// The connection is new: the broker may have lost everything.
    pub fn start_over(&mut self) {
        self.announced = RetainedDiscovery::default();
        self.repeat();
    }

    /// Everything will be sent again.
    pub fn repeat(&mut self) {
        self.announced.doubt();
        self.shaped_by = None;
        self.facts.clear();
        self.values.clear();
        self.sequence = 0;
    }

    /// The broker keeps our announcement of this entity, and perhaps a value that an earlier run has
    /// sent: if the next read does not bring one, that value goes.
    pub fn found_entity(&mut self, component: &str, key: &str) {
        self.announced.found_entity(component, key);
        self.doubt_value(component, key);
    }

    /// The broker keeps our announcement of the device with these components.
    pub fn found_device(&mut self, module: Option<usize>, components: Map<String, Value>) {
        for (key, component) in &components {
            let platform = component.get("platform").and_then(Value::as_str);
            self.doubt_value(platform.unwrap_or_default(), key);
        }
        self.announced.found_device(module, components);
    }

    fn doubt_value(&mut self, component: &str, key: &str) {
        if matches!(component, "sensor" | "binary_sensor") && key != CONNECTION {
            self.standing.insert(key.to_owned());
        }
    }

    /// Discovery, when the set of entities or their description changed.
    pub fn discovery(
        &mut self,
        state: &DeviceState,
        settings: &Settings,
        bridge: &str,
    ) -> Vec<Message> {
        let grown = self.known.update(state);
        let shape = Shape::of(state);
        if self.shaped_by.as_ref() == Some(&shape) && !grown {
            return Vec::new();
        }
        let settled = shape.settled;
        self.shaped_by = Some(shape);
        let reading = state.snapshot.as_ref().map(|snapshot| &snapshot.reading);
        let subject = Subject {
            profile: &state.profile,
            identity: reading.map(|reading| &reading.identity),
            modules: reading.map_or(&[], |reading| &reading.modules),
            topics: &self.topics,
            bridge,
            publish: settings.publish,
        };
        let known = &self.known;
        let plan =
            discovery_sync::plan(settings.discovery, &subject, known, settled, &mut self.announced);
        let mut messages = plan.messages;
        for key in plan.gone {
            self.values.remove(&key);
            self.standing.remove(&key);
            messages.push(Message::erase(self.topics.value(&key)));
        }
        messages
    }

    /// How it is. Its `online` comes behind the values when it is true and before them when it is
    /// false: nobody is to see an old value as if it were present.
    pub fn report(
        &mut self,
        state: &DeviceState,
        settings: &Settings,
        now: Instant,
    ) -> Vec<Message> {
        let mut messages = Vec::new();
        if state.link != LinkState::Online {
            messages.extend(self.online(state));
        }
        messages.extend(self.facts(state));
        messages.extend(self.values(state, settings, now));
        messages.extend(self.online(state));
        messages.extend(self.raw(state));
        messages
    }

    /// Whether it answers.
    fn online(&mut self, state: &DeviceState) -> Option<Message> {
        let online = state.link == LinkState::Online;
        self.fact(self.topics.online(), online.to_string())
    }

    /// Who it is and what worries it. The worries of a battery that does not answer are not
    /// repeated as if they were fresh.
    fn facts(&mut self, state: &DeviceState) -> Vec<Message> {
        let mut list = vec![(self.topics.meta(), meta(state).to_string())];
        let current = state.snapshot.as_ref().filter(|_| state.link == LinkState::Online);
        let watched = current.is_some_and(|it| {
            let derived = &it.derived;
            !it.reading.alarms.is_empty()
                || !derived.thresholds.is_empty()
                || derived.bank.is_some()
        });
        if watched {
            list.push((self.topics.alarms(), json!(alarms::active(state)).to_string()));
        }
        list.into_iter().filter_map(|(topic, text)| self.fact(topic, text)).collect()
    }

    /// What the broker keeps of the alarms that an earlier run has told.
    pub fn remember_alarms(&mut self, list: Vec<Map<String, Value>>) {
        self.alarms.remember(list);
    }

    /// Alarms that have started or ended since the last ones that were told.
    pub fn events(&self, state: &DeviceState) -> Vec<Message> {
        if !tells_alarms(state) {
            return Vec::new();
        }
        let events = self.alarms.events(state).into_iter();
        events.map(|event| Message::event(self.topics.event(), event.to_string())).collect()
    }

    /// Those events have arrived.
    pub fn events_told(&mut self, state: &DeviceState) {
        if tells_alarms(state) {
            self.alarms.mark_published(state);
        }
    }

    fn fact(&mut self, topic: String, text: String) -> Option<Message> {
        if self.facts.get(&topic) == Some(&text) {
            return None;
        }
        self.facts.insert(topic.clone(), text.clone());
        Some(Message::fact(topic, text))
    }

    /// The values that are due. Those of a read are sent once it is new; what the battery said
    /// before it fell silent is never sent again.
    fn values(&mut self, state: &DeviceState, settings: &Settings, now: Instant) -> Vec<Message> {
        let sequence = state.snapshot.as_ref().map_or(0, |snapshot| snapshot.sequence);
        let fresh = state.link == LinkState::Online && sequence != self.sequence;
        let mut messages = Vec::new();
        let mut present = BTreeSet::new();
        for entry in entries(state) {
            let text = entry.value.to_string();
            let sendable = fresh || matches!(entry.quantity.get, Get::Link(_));
            if sendable && is_due(self.values.get(&entry.key), &text, now, settings.publish) {
                messages.push(Message::value(self.topics.value(&entry.key), text.clone()));
                self.values.insert(entry.key.clone(), LastSent { text, at: now });
            }
            present.insert(entry.key);
        }
        if fresh {
            self.sequence = sequence;
            for key in self.standing.difference(&present) {
                let topic = self.topics.value(key);
                if settings.discovery != Discovery::Off {
                    // Home Assistant ignores the empty message and would go on showing the value.
                    messages.push(Message::event(topic.clone(), UNKNOWN));
                }
                messages.push(Message::erase(topic));
                self.values.remove(key);
            }
            self.standing = present;
        }
        messages
    }

    /// The whole reading, once for each attempt.
    fn raw(&mut self, state: &DeviceState) -> Option<Message> {
        let number = state.attempt.as_ref().map_or(0, |attempt| attempt.number);
        if number == self.raw_sent {
            return None;
        }
        self.raw_sent = number;
        let text = raw::raw(state).to_string();
        Some(Message { confirmed: false, ..Message::event(self.topics.raw(), text) })
    }

    /// The program stops, so nobody knows how the battery is.
    pub fn goodbye(&self) -> Message {
        Message::fact(self.topics.online(), "false")
    }
}

/// It was read a moment ago, so its alarms are those of now.
fn tells_alarms(state: &DeviceState) -> bool {
    state.link == LinkState::Online && state.snapshot.is_some()
}

/// Who and where a battery is; the names are those of the `raw` JSON.
fn meta(state: &DeviceState) -> Value {
    let profile = &*state.profile;
    let identity = state.snapshot.as_ref().map(|snapshot| &snapshot.reading.identity);
    let told = |get: fn(&Identity) -> &Option<String>| identity.and_then(|it| get(it).clone());
    let facts = [
        ("id", Some(profile.id.to_string())),
        ("name", Some(profile.name.clone())),
        ("type", Some(profile.brand.clone())),
        ("port", profile.port.clone()),
        ("address", profile.address.clone()),
        ("adapter", profile.adapter.clone()),
        ("manufacturer", told(|it| &it.manufacturer)),
        ("model", told(|it| &it.model)),
        ("hw_rev", told(|it| &it.hardware)),
        ("sw_rev", told(|it| &it.software)),
        ("serial_number", told(|it| &it.serial)),
    ];
    let facts = facts.into_iter().filter_map(|(key, fact)| Some((key.to_owned(), json!(fact?))));
    Value::Object(facts.collect::<Map<_, _>>())
}

#[cfg(test)]
#[path = "battery_tests.rs"]
mod tests;
