//! From the discovery messages that the broker retains to those that it should retain: what to
//! publish, in the order that Home Assistant needs.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::{Map, Value, json};

use super::Discovery;
use super::discovery::{self, Context, Entity};
use super::limits::MAX_ANNOUNCED;
use super::message::Message;
use super::seen_quantities::SeenQuantities;
use super::topics::DiscoveryTarget;

/// The discovery messages of one battery that the broker retains. Packed between updates: a battery has a
/// hundred entities, and their names take four times as much memory in a map.
#[derive(Debug, Clone, Default)]
pub struct RetainedDiscovery {
    /// `component/key/` of each entity. No level of a topic contains a slash.
    entities: String,
    /// Of the same entities.
    hashes: Vec<Option<u64>>,
    devices: Targets,
}

type Targets = BTreeMap<DiscoveryTarget, RetainedPayload>;

#[derive(Debug, Clone)]
struct RetainedPayload {
    /// Hash of the text; `None` when it is unknown or has to be sent again. The texts of a battery take
    /// 100 kB.
    hash: Option<u64>,
    /// The described components by their keys, of a device. The topic of an entity says it all.
    components: Option<Box<Map<String, Value>>>,
}

impl RetainedPayload {
    fn keys(self, target: DiscoveryTarget) -> Vec<String> {
        match target {
            DiscoveryTarget::Entity(_, key) => vec![key],
            DiscoveryTarget::Device(_) => {
                self.components.into_iter().flat_map(|it| *it).map(|(key, _)| key).collect()
            }
        }
    }

    fn len(&self) -> usize {
        self.components.as_ref().map_or(1, |components| components.len())
    }
}

/// The messages of one update, and the keys that lost their entity.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DiscoveryUpdate {
    pub messages: Vec<Message>,
    pub removed_keys: BTreeSet<String>,
}

impl RetainedDiscovery {
    /// Adds what an earlier run published.
    pub fn add(&mut self, target: DiscoveryTarget, components: Map<String, Value>) {
        let components = match target {
            DiscoveryTarget::Entity(..) => None,
            DiscoveryTarget::Device(_) => Some(Box::new(components)),
        };
        let payload = RetainedPayload { hash: None, components };
        let devices: usize = self.devices.values().map(RetainedPayload::len).sum();
        if self.hashes.len() + devices + payload.len() <= MAX_ANNOUNCED {
            self.insert(target, payload);
        }
    }

    /// Of two equal targets the last one counts.
    fn insert(&mut self, target: DiscoveryTarget, payload: RetainedPayload) {
        match target {
            DiscoveryTarget::Entity(component, key) => {
                self.entities.extend([&component, "/", &key, "/"]);
                self.hashes.push(payload.hash);
            }
            DiscoveryTarget::Device(_) => drop(self.devices.insert(target, payload)),
        }
    }

    fn unpack(self) -> Targets {
        let mut levels = self.entities.split('/');
        let entities = self.hashes.into_iter().map_while(|hash| {
            let (component, key) = (levels.next()?.to_owned(), levels.next()?.to_owned());
            let payload = RetainedPayload { hash, components: None };
            Some((DiscoveryTarget::Entity(component, key), payload))
        });
        let mut targets = self.devices;
        targets.extend(entities);
        targets
    }

    fn pack(targets: Targets) -> Self {
        let mut packed = RetainedDiscovery::default();
        targets.into_iter().for_each(|(target, payload)| packed.insert(target, payload));
        packed.entities.shrink_to_fit();
        packed.hashes.shrink_to_fit();
        packed
    }

    /// The next update sends everything again, as Home Assistant expects after its start.
    pub fn invalidate(&mut self) {
        self.hashes.fill(None);
        self.devices.values_mut().for_each(|payload| payload.hash = None);
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
        let mut targets = std::mem::take(self).unpack();
        let update = update(&mut targets, format, context, seen, complete);
        *self = RetainedDiscovery::pack(targets);
        update
    }
}

fn update(
    retained: &mut Targets,
    format: Discovery,
    context: &Context<'_>,
    seen: &SeenQuantities,
    complete: bool,
) -> DiscoveryUpdate {
    let entities = match format {
        Discovery::Off => Vec::new(),
        Discovery::Entity | Discovery::Device => discovery::entities(context, seen),
    };
    let is_device = |target: &DiscoveryTarget| matches!(target, DiscoveryTarget::Device(_));
    let is_other_format = |target: &DiscoveryTarget| match format {
        Discovery::Off => true,
        Discovery::Entity => is_device(target),
        Discovery::Device => !is_device(target),
    };
    if format != Discovery::Off && !complete && retained.keys().any(is_other_format) {
        return DiscoveryUpdate::default();
    }
    let (messages, removed_keys) = (Vec::new(), BTreeSet::new());
    let mut sync = Sync { context, retained, messages, removed_keys };
    if format != Discovery::Off {
        sync.migrate(is_other_format, &entities);
    }
    // Before the same entities are announced in the other format, otherwise Home Assistant logs
    // a conflict for each of them. After `migrate` it keeps them.
    sync.remove(is_other_format);
    let target = |entity: &Entity| match format {
        Discovery::Device => DiscoveryTarget::Device(entity.module),
        Discovery::Entity | Discovery::Off => entity_target(entity),
    };
    let targets: BTreeSet<_> = entities.iter().map(target).collect();
    if format == Discovery::Entity {
        entities.iter().for_each(|entity| sync.publish_entity(entity));
    } else {
        let modules: BTreeSet<_> = entities.iter().map(|entity| entity.module).collect();
        modules.into_iter().for_each(|module| sync.publish_device(module, &entities, complete));
    }
    if complete {
        sync.remove(|target| !targets.contains(target));
    }
    let Sync { messages, mut removed_keys, .. } = sync;
    // Without discovery the values are all there is, so they stay.
    let is_removed = |key: &String| entities.iter().all(|entity| entity.key != *key);
    removed_keys.retain(|key| format != Discovery::Off && is_removed(key));
    DiscoveryUpdate { messages, removed_keys }
}

struct Sync<'a> {
    context: &'a Context<'a>,
    retained: &'a mut Targets,
    messages: Vec<Message>,
    removed_keys: BTreeSet<String>,
}

impl Sync<'_> {
    /// Home Assistant detaches the entities announced by these messages, but keeps their names,
    /// areas and history for the announcement that follows on another topic. Entities that do not
    /// come back are removed without this step.
    fn migrate(&mut self, selected: impl Fn(&DiscoveryTarget) -> bool, entities: &[Entity]) {
        let wanted: BTreeSet<_> = entities.iter().map(entity_target).collect();
        let comes_back = |target: &DiscoveryTarget| {
            matches!(target, DiscoveryTarget::Device(_)) || wanted.contains(target)
        };
        for target in self.retained.keys().filter(|target| selected(target) && comes_back(target)) {
            let payload = json!({ "migrate_discovery": true }).to_string();
            self.messages.push(Message::event(self.context.topics.discovery(target), payload));
        }
    }

    /// Modules before their device: Home Assistant must not lose a device that others refer to.
    fn remove(&mut self, selected: impl Fn(&DiscoveryTarget) -> bool) {
        let all = std::mem::take(self.retained).into_iter();
        let (removed, kept): (Vec<_>, Vec<_>) = all.partition(|(target, _)| selected(target));
        self.retained.extend(kept);
        for (target, payload) in removed.into_iter().rev() {
            self.messages.push(Message::clear(self.context.topics.discovery(&target)));
            self.removed_keys.extend(payload.keys(target));
        }
    }

    fn publish_entity(&mut self, entity: &Entity) {
        let payload = discovery::entity_payload(self.context, entity);
        self.publish(entity_target(entity), None, &payload);
    }

    fn publish_device(&mut self, module: Option<usize>, entities: &[Entity], complete: bool) {
        let target = DiscoveryTarget::Device(module);
        let entities = entities.iter().filter(|entity| entity.module == module);
        let mut components: Map<String, Value> =
            entities.map(|entity| (entity.key.clone(), discovery::component(entity))).collect();
        let before = self.retained.get(&target).and_then(|payload| payload.components.as_deref());
        let mut missing = before.cloned().unwrap_or_default();
        missing.retain(|key, _| !components.contains_key(key));
        if !complete {
            components.extend(missing);
        } else if !missing.is_empty() {
            // Home Assistant removes a component in two steps: first the payload has only its
            // platform, then the component is left out.
            let mut reduced = components.clone();
            for (key, component) in missing {
                let platform = component["platform"].as_str().unwrap_or("sensor");
                reduced.insert(key.clone(), discovery::platform(platform));
                self.removed_keys.insert(key);
            }
            let payload = discovery::device_payload(self.context, module, reduced).to_string();
            let topic = self.context.topics.discovery(&target);
            self.messages.push(Message::retained(topic, payload));
        }
        let payload = discovery::device_payload(self.context, module, components.clone());
        self.publish(target, Some(Box::new(components)), &payload);
    }

    fn publish(
        &mut self,
        target: DiscoveryTarget,
        components: Option<Box<Map<String, Value>>>,
        payload: &Value,
    ) {
        let text = payload.to_string();
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let hash = Some(hasher.finish());
        if self.retained.get(&target).is_none_or(|payload| payload.hash != hash) {
            let topic = self.context.topics.discovery(&target);
            self.messages.push(Message::retained(topic, text));
        }
        self.retained.insert(target, RetainedPayload { hash, components });
    }
}

fn entity_target(entity: &Entity) -> DiscoveryTarget {
    DiscoveryTarget::Entity(entity.component.to_owned(), entity.key.clone())
}

#[cfg(test)]
#[path = "discovery_sync_tests.rs"]
mod tests;
