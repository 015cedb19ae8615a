//! From the discovery messages that the broker retains to those that it should retain: what to
//! publish, in the order that Home Assistant needs.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::Discovery;
use super::discovery::{self, Context, Entity};
use super::message::Message;
use super::seen_quantities::SeenQuantities;

/// The discovery messages of one battery that the broker retains.
#[derive(Debug, Clone, Default)]
pub struct RetainedDiscovery {
    /// By component and key. The payload is `None` when it is unknown or has to be sent again.
    entities: BTreeMap<(String, String), Option<String>>,
    /// The device, and each module of a stack.
    devices: BTreeMap<Option<usize>, RetainedDevice>,
}

#[derive(Debug, Clone)]
struct RetainedDevice {
    /// `None` when it is unknown or has to be sent again.
    payload: Option<String>,
    components: Map<String, Value>,
}

/// The messages of one update, and the keys that lost their entity.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DiscoveryUpdate {
    pub messages: Vec<Message>,
    pub removed_keys: BTreeSet<String>,
}

impl RetainedDiscovery {
    /// An earlier run announced this entity.
    pub fn add_entity(&mut self, component: &str, key: &str) {
        self.entities.insert((component.to_owned(), key.to_owned()), None);
    }

    /// An earlier run announced the device, or one of its modules, with these components.
    pub fn add_device(&mut self, module: Option<usize>, components: Map<String, Value>) {
        self.devices.insert(module, RetainedDevice { payload: None, components });
    }

    /// The next update sends everything again, as Home Assistant expects after its start.
    pub fn invalidate(&mut self) {
        self.entities.values_mut().for_each(|payload| *payload = None);
        self.devices.values_mut().for_each(|device| device.payload = None);
    }

    /// `complete`: the battery was read, so that all its entities are known. Until then nothing is
    /// removed: the entities of a sleeping battery would lose the names and areas that users gave
    /// them.
    pub fn update(
        &mut self,
        format: Discovery,
        context: &Context<'_>,
        seen: &SeenQuantities,
        complete: bool,
    ) -> DiscoveryUpdate {
        let wanted = match format {
            Discovery::Off => Vec::new(),
            _ => discovery::entities(context, seen),
        };
        let update = DiscoveryUpdate::default();
        let mut sync = Sync { context, wanted: &wanted, complete, retained: self, update };
        match format {
            Discovery::Off => {
                sync.remove_entities(|_| true);
                sync.remove_devices(|_| true);
            }
            Discovery::Entity if complete || sync.retained.devices.is_empty() => {
                sync.publish_entities();
            }
            Discovery::Device if complete || sync.retained.entities.is_empty() => {
                sync.publish_devices();
            }
            Discovery::Entity | Discovery::Device => {}
        }
        let mut update = sync.update;
        // Without discovery the values are all there is, so they stay.
        let is_removed = |key: &String| wanted.iter().all(|entity| entity.key != *key);
        update.removed_keys.retain(|key| format != Discovery::Off && is_removed(key));
        update
    }
}

struct Sync<'a> {
    context: &'a Context<'a>,
    wanted: &'a [Entity],
    complete: bool,
    retained: &'a mut RetainedDiscovery,
    update: DiscoveryUpdate,
}

impl Sync<'_> {
    fn publish_entities(&mut self) {
        let topics = self.context.topics;
        let moved = self.retained.devices.keys().map(|module| migrate(topics.device(*module)));
        self.update.messages.extend(moved);
        // Cleared before the entities are announced elsewhere, otherwise Home Assistant logs a
        // conflict for each of them. After `migrate` it keeps the entities.
        self.remove_devices(|_| true);
        for entity in self.wanted {
            let payload = discovery::entity_payload(self.context, entity).to_string();
            let name = (entity.component.to_owned(), entity.key.clone());
            let known = self.retained.entities.get(&name).and_then(Option::as_ref);
            if known != Some(&payload) {
                let topic = topics.entity(entity.component, &entity.key);
                self.update.messages.push(Message::retained(topic, payload.clone()));
                self.retained.entities.insert(name, Some(payload));
            }
        }
        if self.complete {
            let wanted = self.wanted;
            self.remove_entities(|name| !is_wanted(wanted, name));
        }
    }

    fn publish_devices(&mut self) {
        let (topics, wanted) = (self.context.topics, self.wanted);
        // Only entities that come back are migrated; the rest is removed.
        let moved = self.retained.entities.keys().filter(|name| is_wanted(wanted, name));
        let moved = moved.map(|(component, key)| migrate(topics.entity(component, key)));
        self.update.messages.extend(moved);
        self.remove_entities(|_| true);
        let modules: BTreeSet<Option<usize>> = wanted.iter().map(|entity| entity.module).collect();
        for module in &modules {
            self.publish_device(*module);
        }
        if self.complete {
            self.remove_devices(|module| !modules.contains(module));
        }
    }

    fn publish_device(&mut self, module: Option<usize>) {
        let topic = self.context.topics.device(module);
        let wanted = self.wanted.iter().filter(|entity| entity.module == module);
        let mut components: Map<String, Value> =
            wanted.map(|entity| (entity.key.clone(), discovery::component(entity))).collect();
        let (before, mut missing) = match self.retained.devices.remove(&module) {
            Some(device) => (device.payload, device.components),
            None => (None, Map::new()),
        };
        missing.retain(|key, _| !components.contains_key(key));
        if !self.complete {
            components.extend(missing);
        } else if !missing.is_empty() {
            // Home Assistant removes a component in two steps: first the payload has only its
            // platform, then the component is left out.
            let mut reduced = components.clone();
            for (key, component) in missing {
                let platform = component.get("platform").and_then(Value::as_str);
                let platform = discovery::platform_only(platform.unwrap_or("sensor"));
                reduced.insert(key.clone(), Value::Object(platform));
                self.update.removed_keys.insert(key);
            }
            let payload = discovery::device_payload(self.context, module, reduced).to_string();
            self.update.messages.push(Message::retained(topic.clone(), payload));
        }
        let payload = discovery::device_payload(self.context, module, components.clone());
        let payload = payload.to_string();
        if before.as_ref() != Some(&payload) {
            self.update.messages.push(Message::retained(topic, payload.clone()));
        }
        let device = RetainedDevice { payload: Some(payload), components };
        self.retained.devices.insert(module, device);
    }

    fn remove_entities(&mut self, is_removed: impl Fn(&(String, String)) -> bool) {
        let (topics, update) = (self.context.topics, &mut self.update);
        self.retained.entities.retain(|name, _| {
            let removed = is_removed(name);
            if removed {
                update.messages.push(Message::clear(topics.entity(&name.0, &name.1)));
                update.removed_keys.insert(name.1.clone());
            }
            !removed
        });
    }

    /// Modules first: Home Assistant must not lose a device while others refer to it.
    fn remove_devices(&mut self, is_removed: impl Fn(&Option<usize>) -> bool) {
        let modules = self.retained.devices.keys().rev().filter(|module| is_removed(module));
        for module in modules.copied().collect::<Vec<_>>() {
            let Some(device) = self.retained.devices.remove(&module) else { continue };
            self.update.messages.push(Message::clear(self.context.topics.device(module)));
            self.update.removed_keys.extend(device.components.into_iter().map(|(key, _)| key));
        }
    }
}

fn is_wanted(wanted: &[Entity], (component, key): &(String, String)) -> bool {
    wanted.iter().any(|entity| entity.component == component && entity.key == *key)
}

/// Home Assistant detaches the entities announced on this topic, but keeps their names, areas and
/// history for the announcement that follows on another topic.
fn migrate(topic: String) -> Message {
    Message::event(topic, json!({ "migrate_discovery": true }).to_string())
}

#[cfg(test)]
#[path = "discovery_sync_tests.rs"]
mod tests;
