//! From what the broker keeps to what it shall keep: the messages that lead there, in the order
//! Home Assistant needs. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::Discovery;
use super::discovery::{self, Entity, Known, Subject};
use super::message::Message;

/// What the broker keeps of our announcements of one battery.
#[derive(Debug, Clone, Default)]
pub struct RetainedDiscovery {
    /// Component and key, with the payload where we know it.
    entities: BTreeMap<(String, String), Option<String>>,
    /// The payload of the device's topic, and of the topic of each module of a stack.
    devices: BTreeMap<Option<usize>, Device>,
}

#[derive(Debug, Clone)]
struct Device {
    /// `None`: unknown, or to be sent again.
    payload: Option<String>,
    components: Map<String, Value>,
}

impl RetainedDiscovery {
    /// The broker keeps an announcement of this entity.
    pub fn found_entity(&mut self, component: &str, key: &str) {
        self.entities.insert((component.to_owned(), key.to_owned()), None);
    }

    /// The broker keeps an announcement of the device, or of one of its modules, with these
    /// components.
    pub fn found_device(&mut self, module: Option<usize>, components: Map<String, Value>) {
        self.devices.insert(module, Device { payload: None, components });
    }

    /// Everything will be sent again, as Home Assistant wishes after its start.
    pub fn doubt(&mut self) {
        self.entities.values_mut().for_each(|payload| *payload = None);
        self.devices.values_mut().for_each(|device| device.payload = None);
    }
}

/// The messages of one change, and the keys that have lost their entity.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In this order.
    pub messages: Vec<Message>,
    /// Their values are of no use to anybody any more.
    pub gone: BTreeSet<String>,
}

/// Brings the broker up to date.
///
/// `settled` says that the battery was read, so that all its entities are known. Before that
/// nothing is taken away: after a restart beside a sleeping battery its entities would be lost
/// together with the names and areas that people gave them.
pub fn plan(
    format: Discovery,
    subject: &Subject<'_>,
    known: &Known,
    settled: bool,
    announced: &mut RetainedDiscovery,
) -> Plan {
    let wanted = match format {
        Discovery::Off => Vec::new(),
        _ => discovery::entities(subject, known),
    };
    let mut plan = Plan::default();
    match format {
        Discovery::Off => {
            remove_entities(subject, announced, &mut plan, |_| true);
            remove_devices(subject, announced, &mut plan, |_| true);
        }
        Discovery::Entity => {
            if !announced.devices.is_empty() && !settled {
                return plan;
            }
            by_entity(subject, &wanted, settled, announced, &mut plan);
        }
        Discovery::Device => {
            if !announced.entities.is_empty() && !settled {
                return plan;
            }
            by_device(subject, &wanted, settled, announced, &mut plan);
        }
    }
    // Without discovery the values are all there is, and they stay.
    plan.gone.retain(|key| format != Discovery::Off && wanted.iter().all(|e| e.key != *key));
    plan
}

fn by_entity(
    subject: &Subject<'_>,
    wanted: &[Entity],
    settled: bool,
    announced: &mut RetainedDiscovery,
    plan: &mut Plan,
) {
    let moving = announced.devices.keys().map(|module| migrate(subject.topics.device(*module)));
    plan.messages.extend(moving);
    // Cleared before the entities are announced elsewhere, or Home Assistant warns of a conflict
    // for each of them. It has let go of them already, so it drops none.
    remove_devices(subject, announced, plan, |_| true);
    for entity in wanted {
        let payload = discovery::entity_payload(subject, entity).to_string();
        let name = (entity.component.to_owned(), entity.key.clone());
        let known = announced.entities.get(&name);
        if known.is_none_or(|known| known.as_ref() != Some(&payload)) {
            let topic = subject.topics.entity(entity.component, &entity.key);
            plan.messages.push(Message::fact(topic, payload.clone()));
            announced.entities.insert(name, Some(payload));
        }
    }
    if settled {
        let is_wanted = |name: &(String, String)| {
            wanted.iter().any(|entity| entity.component == name.0 && entity.key == name.1)
        };
        remove_entities(subject, announced, plan, |name| !is_wanted(name));
    }
}

fn by_device(
    subject: &Subject<'_>,
    wanted: &[Entity],
    settled: bool,
    announced: &mut RetainedDiscovery,
    plan: &mut Plan,
) {
    // Only what comes back is kept by Home Assistant; the rest is simply removed.
    let comes_back = |(component, key): &(String, String)| {
        wanted.iter().any(|entity| entity.component == component && entity.key == *key)
    };
    let moving = announced.entities.keys().filter(|name| comes_back(name));
    let topics = moving.map(|(component, key)| subject.topics.entity(component, key));
    plan.messages.extend(topics.map(migrate));
    remove_entities(subject, announced, plan, |_| true);

    let modules: BTreeSet<Option<usize>> = wanted.iter().map(|entity| entity.module).collect();
    for module in &modules {
        let own: Vec<_> = wanted.iter().filter(|entity| entity.module == *module).collect();
        one_device(subject, *module, &own, settled, announced, plan);
    }
    if settled {
        remove_devices(subject, announced, plan, |module| !modules.contains(module));
    }
}

fn one_device(
    subject: &Subject<'_>,
    module: Option<usize>,
    wanted: &[&Entity],
    settled: bool,
    announced: &mut RetainedDiscovery,
    plan: &mut Plan,
) {
    let topic = subject.topics.device(module);
    let mut components: Map<String, Value> =
        wanted.iter().map(|e| (e.key.clone(), discovery::component(e))).collect();
    let before = announced.devices.remove(&module);
    let kept = before.as_ref().map(|device| device.components.clone()).unwrap_or_default();
    let missing: Vec<_> = kept.into_iter().filter(|(k, _)| !components.contains_key(k)).collect();
    if settled && !missing.is_empty() {
        // A component goes in two steps: first nothing but its platform, then not even that.
        let mut farewell = components.clone();
        for (key, component) in missing {
            let platform = component.get("platform").and_then(Value::as_str).unwrap_or("sensor");
            farewell.insert(key.clone(), Value::Object(discovery::platform_only(platform)));
            plan.gone.insert(key);
        }
        let payload = discovery::device_payload(subject, module, farewell).to_string();
        plan.messages.push(Message::fact(topic.clone(), payload));
    } else {
        components.extend(missing);
    }
    let payload = discovery::device_payload(subject, module, components.clone()).to_string();
    if before.and_then(|device| device.payload).as_ref() != Some(&payload) {
        plan.messages.push(Message::fact(topic, payload.clone()));
    }
    announced.devices.insert(module, Device { payload: Some(payload), components });
}

/// Home Assistant lets go of what was announced here, but keeps its names, areas and history for
/// the announcement that follows elsewhere.
fn migrate(topic: String) -> Message {
    Message::event(topic, json!({ "migrate_discovery": true }).to_string())
}

fn remove_entities(
    subject: &Subject<'_>,
    announced: &mut RetainedDiscovery,
    plan: &mut Plan,
    goes: impl Fn(&(String, String)) -> bool,
) {
    announced.entities.retain(|name, _| {
        let stays = !goes(name);
        if !stays {
            plan.messages.push(Message::erase(subject.topics.entity(&name.0, &name.1)));
            plan.gone.insert(name.1.clone());
        }
        stays
    });
}

/// The modules first: a device must not vanish while others are announced under it.
fn remove_devices(
    subject: &Subject<'_>,
    announced: &mut RetainedDiscovery,
    plan: &mut Plan,
    goes: impl Fn(&Option<usize>) -> bool,
) {
    let gone: Vec<_> =
        announced.devices.keys().rev().filter(|module| goes(module)).copied().collect();
    for module in gone {
        let Some(device) = announced.devices.remove(&module) else { continue };
        plan.messages.push(Message::erase(subject.topics.device(module)));
        plan.gone.extend(device.components.into_iter().map(|(key, _)| key));
    }
}

#[cfg(test)]
#[path = "discovery_sync_tests.rs"]
mod tests;
