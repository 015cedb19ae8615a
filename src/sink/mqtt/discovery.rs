//! What Home Assistant is told about a battery: one description for each entity, and the two
//! shapes in which the descriptions travel. Pure.
//!
//! Rules followed here (Home Assistant core, `components/mqtt`, `components/sensor/const.py`):
//! a class accepts certain units and state classes only, and a wrong one loses the entity; at the
//! top level, in `device` and in `origin` an unknown key loses the whole device; there is no class
//! for ampere-hours, milliohms and cycles.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::model::catalog::{CATALOG, Category, Get, Kind, Quantity, entries, intermittent};
use crate::model::reading::{Identity, Module, Switch};
use crate::model::{DeviceState, Profile};

use super::Publish;
use super::topics::Topics;

/// Tells our announcements from those of others.
pub const ORIGIN: &str = "bms-reader";

/// The two types of alarm events.
pub const ALARM_STARTED: &str = "started";
/// See [`ALARM_STARTED`].
pub const ALARM_ENDED: &str = "ended";

/// Key of the entity that shows `online`; no value has it.
pub const CONNECTION: &str = "connection";

/// Main values without a name of their own: Home Assistant then shows the name of the class in
/// the user's language.
const NAMED_BY_CLASS: [&str; 4] = ["soc", "pack_voltage", "pack_current", "power"];

/// A quantity that has an entity.
#[derive(Debug, Clone)]
pub struct Described {
    /// The row of the catalogue.
    pub quantity: &'static Quantity,
    /// Key with the member filled in.
    pub key: String,
    /// Name with the member filled in.
    pub name: String,
    /// The module of a stack that it belongs to, counted from 1.
    pub module: Option<usize>,
    /// Shown without being asked for.
    pub enabled: bool,
}

/// The quantities of one battery that have been seen.
#[derive(Debug, Clone, Default)]
pub struct Known(Vec<Described>);

impl Known {
    /// Takes note of what there is now; true when that changed the set.
    ///
    /// A single quantity that was seen once stays: a value that is only sometimes known must not
    /// come and go as an entity. A family follows the battery (another pack may have fewer cells),
    /// but a family that is missing as a whole was merely not read this time.
    pub fn update(&mut self, state: &DeviceState) -> bool {
        let (entries, dormant) = (entries(state), intermittent(state));
        let mut now: Vec<Described> = entries
            .iter()
            .map(|entry| Described {
                quantity: entry.quantity,
                key: entry.key.clone(),
                name: entry.name.clone(),
                module: entry.module,
                enabled: entry.enabled,
            })
            .collect();
        for quantity in dormant {
            if now.iter().all(|new| !std::ptr::eq(new.quantity, quantity)) {
                let (key, name) = (quantity.key.to_owned(), quantity.name.to_owned());
                now.push(Described {
                    quantity,
                    key,
                    name,
                    module: None,
                    enabled: quantity.enabled,
                });
            }
        }
        let absent = |row: &Quantity| now.iter().all(|new| !std::ptr::eq(new.quantity, row));
        // A module that is gone takes everything along.
        let gone = |module: Option<usize>| {
            module.is_some()
                && now.iter().any(|new| new.module.is_some())
                && now.iter().all(|new| new.module != module)
        };
        let kept = self.0.iter().filter(|old| absent(old.quantity) && !gone(old.module));
        let kept: Vec<_> = kept.cloned().collect();
        now.extend(kept);
        now.sort_by_key(|described| position(described.quantity));
        let changed = !now.iter().map(|new| &new.key).eq(self.0.iter().map(|old| &old.key));
        self.0 = now;
        changed
    }
}

fn position(row: &Quantity) -> usize {
    CATALOG.iter().position(|other| std::ptr::eq(other, row)).unwrap_or(CATALOG.len())
}

/// Everything that shapes the announcement of one battery.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Name and place.
    pub profile: &'a Profile,
    /// Who the battery says it is, once it has said so.
    pub identity: Option<&'a Identity>,
    /// The modules of a stack.
    pub modules: &'a [Module],
    /// Its topics.
    pub topics: &'a Topics,
    /// Topic of the program's own availability.
    pub bridge: &'a str,
    /// How seldom a value may come.
    pub publish: Publish,
}

/// One entity: where it belongs and how it is described, without what the whole device shares.
#[derive(Debug, Clone, PartialEq)]
pub struct Entity {
    /// `sensor`, `binary_sensor`, `button`, `event`.
    pub component: &'static str,
    /// Key in topics and payloads.
    pub key: String,
    /// The module of a stack, counted from 1, whose device it belongs to.
    pub module: Option<usize>,
    /// The description.
    pub body: Map<String, Value>,
}

/// All entities of a battery: the link's own first, they exist before the first read.
pub fn entities(subject: &Subject<'_>, known: &Known) -> Vec<Entity> {
    let mut list = vec![connection(subject), read_button(subject), alarm_event(subject)];
    list.extend(subject.profile.controls.iter().map(|switch| control(subject, *switch)));
    list.extend(known.0.iter().map(|described| value_entity(subject, described)));
    list
}

/// The payload of an entity's own topic.
pub fn entity_payload(subject: &Subject<'_>, entity: &Entity) -> Value {
    let mut payload = entity.body.clone();
    if !payload.contains_key("availability") {
        payload.extend(availability(&[subject.bridge, &subject.topics.online()]));
    }
    payload.insert("device".into(), device(subject, entity.module));
    payload.insert("origin".into(), origin());
    Value::Object(payload)
}

/// What stands for an entity inside the payload of its device.
pub fn component(entity: &Entity) -> Value {
    let mut component = platform_only(entity.component);
    component.extend(entity.body.clone());
    Value::Object(component)
}

/// A component that holds only its platform is removed by Home Assistant.
pub fn platform_only(platform: &str) -> Map<String, Value> {
    object(json!({ "platform": platform }))
}

/// The payload of the topic of the device, or of the device of one of its modules.
pub fn device_payload(
    subject: &Subject<'_>,
    module: Option<usize>,
    components: Map<String, Value>,
) -> Value {
    let mut payload = object(json!({ "device": device(subject, module), "origin": origin() }));
    payload.extend(availability(&[subject.bridge, &subject.topics.online()]));
    payload.insert("components".into(), Value::Object(components));
    Value::Object(payload)
}

fn device(subject: &Subject<'_>, module: Option<usize>) -> Value {
    match module {
        None => whole(subject),
        Some(number) => module_device(subject, number),
    }
}

/// A module is a device of its own under its stack, so that five of them can be told apart and put
/// into areas. `via_device` works in every version of Home Assistant, `child_devices` does not.
fn module_device(subject: &Subject<'_>, number: usize) -> Value {
    let profile = subject.profile;
    let mut device = object(json!({
        "identifiers": [format!("bms_reader_{}_module_{number}", profile.id)],
        "name": format!("{} module {number}", profile.name),
        "manufacturer": maker(subject),
        "via_device": format!("bms_reader_{}", profile.id),
    }));
    let module = number.checked_sub(1).and_then(|index| subject.modules.get(index));
    if let Some(serial) = module.and_then(|module| module.serial.as_ref()) {
        device.insert("serial_number".into(), json!(serial));
    }
    Value::Object(device)
}

fn maker<'a>(subject: &Subject<'a>) -> &'a str {
    let told = subject.identity.and_then(|identity| identity.manufacturer.as_deref());
    told.unwrap_or(&subject.profile.title)
}

fn whole(subject: &Subject<'_>) -> Value {
    let (profile, identity) = (subject.profile, subject.identity);
    let told = |get: fn(&Identity) -> &Option<String>| identity.and_then(|it| get(it).as_deref());
    let mut device = object(json!({
        "identifiers": [format!("bms_reader_{}", profile.id)],
        "name": profile.name,
        "manufacturer": maker(subject),
    }));
    let facts = [
        ("model", told(|it| &it.model)),
        ("hw_version", told(|it| &it.hardware)),
        ("sw_version", told(|it| &it.software)),
        ("serial_number", told(|it| &it.serial)),
    ];
    let facts = facts.into_iter().filter_map(|(key, fact)| Some((key.to_owned(), json!(fact?))));
    device.extend(facts);
    Value::Object(device)
}

fn origin() -> Value {
    json!({
        "name": ORIGIN,
        "sw_version": env!("CARGO_PKG_VERSION"),
        "support_url": env!("CARGO_PKG_REPOSITORY"),
    })
}

/// With two topics the mode has to be `all`: the default follows whichever spoke last.
fn availability(topics: &[&str]) -> Map<String, Value> {
    let watch = |topic: &&str| {
        json!({
            "topic": topic,
            "payload_available": "true",
            "payload_not_available": "false",
        })
    };
    let list: Vec<Value> = topics.iter().map(watch).collect();
    object(json!({ "availability": list, "availability_mode": "all" }))
}

/// Says whether the battery answers, so it must stay available when the battery does not.
fn connection(subject: &Subject<'_>) -> Entity {
    let mut body = identity_of(subject, "binary_sensor", CONNECTION);
    body.extend(object(json!({
        "name": "Connection",
        "state_topic": subject.topics.online(),
        "payload_on": "true",
        "payload_off": "false",
        "device_class": "connectivity",
        "entity_category": "diagnostic",
    })));
    body.extend(availability(&[subject.bridge]));
    Entity { component: "binary_sensor", key: CONNECTION.into(), module: None, body }
}

/// Reads the battery at once, which is most wanted while it does not answer.
fn read_button(subject: &Subject<'_>) -> Entity {
    let mut body = identity_of(subject, "button", "read");
    body.extend(object(json!({
        "name": "Read now",
        "command_topic": subject.topics.read_command(),
        "payload_press": "read",
        "entity_category": "diagnostic",
        "icon": "mdi:refresh",
    })));
    body.extend(availability(&[subject.bridge]));
    Entity { component: "button", key: "read".into(), module: None, body }
}

/// A switch that the operator allowed. It shows what the battery says, never what it was told.
fn control(subject: &Subject<'_>, switch: Switch) -> Entity {
    let key = format!("{}_switch", switch.name());
    let mut body = identity_of(subject, "switch", &key);
    let name = match switch {
        Switch::Charging => "Charging",
        Switch::Discharging => "Discharging",
        Switch::Balancing => "Balancing allowed",
    };
    body.extend(object(json!({
        "name": name,
        "command_topic": subject.topics.switch_command(switch),
        "state_topic": subject.topics.value(switch.key()),
        "payload_on": "ON",
        "payload_off": "OFF",
        "optimistic": false,
        "device_class": "switch",
    })));
    Entity { component: "switch", key, module: None, body }
}

/// Fires once when an alarm starts and once when it ends; which one, and at which cell, is in its
/// attributes. The types are few and fixed, so that an automation can name them.
fn alarm_event(subject: &Subject<'_>) -> Entity {
    let mut body = identity_of(subject, "event", "alarm");
    body.extend(object(json!({
        "name": "Alarm",
        "state_topic": subject.topics.event(),
        "event_types": [ALARM_STARTED, ALARM_ENDED],
        "icon": "mdi:alert",
    })));
    Entity { component: "event", key: "alarm".into(), module: None, body }
}

/// `object_id` is for cores before 2025.10, `default_entity_id` for those since; each ignores the
/// other's key.
fn identity_of(subject: &Subject<'_>, component: &str, key: &str) -> Map<String, Value> {
    let id = &subject.profile.id;
    let slug: String = format!("{id}_{key}")
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
        .collect();
    object(json!({
        "unique_id": format!("{id}_{key}"),
        "object_id": slug,
        "default_entity_id": format!("{component}.{slug}"),
    }))
}

fn value_entity(subject: &Subject<'_>, described: &Described) -> Entity {
    let Described { quantity, key, name, module, enabled } = described;
    let component = match quantity.kind {
        Kind::Flag | Kind::Problem => "binary_sensor",
        _ => "sensor",
    };
    let mut body = Map::new();
    if !NAMED_BY_CLASS.contains(&key.as_str()) {
        body.insert("name".into(), json!(name));
    }
    body.extend(identity_of(subject, component, key));
    body.insert("state_topic".into(), json!(subject.topics.value(key)));
    body.extend(look(quantity));
    if quantity.category == Category::Diagnostic {
        body.insert("entity_category".into(), json!("diagnostic"));
    }
    if !enabled {
        body.insert("enabled_by_default".into(), json!(false));
    }
    if matches!(quantity.get, Get::Link(_)) {
        body.extend(availability(&[subject.bridge]));
    } else if quantity.kind != Kind::Remaining {
        // Home Assistant shows a value that can expire as unavailable until it has come once, and
        // a time may not come for days.
        body.insert("expire_after".into(), json!(expiry(subject).as_secs()));
    }
    Entity { component, key: key.clone(), module: *module, body }
}

/// Class, unit, state class, digits and icon of a quantity.
fn look(quantity: &Quantity) -> Map<String, Value> {
    let (class, state_class) = match quantity.kind {
        Kind::Charge => (Some("battery"), Some("measurement")),
        Kind::Voltage => (Some("voltage"), Some("measurement")),
        Kind::Current => (Some("current"), Some("measurement")),
        Kind::Power => (Some("power"), Some("measurement")),
        Kind::StoredEnergy => (Some("energy_storage"), Some("measurement")),
        Kind::Temperature => (Some("temperature"), Some("measurement")),
        Kind::Duration | Kind::Remaining => (Some("duration"), Some("measurement")),
        Kind::Energy => (Some("energy"), Some("total_increasing")),
        Kind::Signal => (Some("signal_strength"), Some("measurement")),
        // "battery" would make Home Assistant take the state of health for that of charge.
        Kind::Share | Kind::Capacity | Kind::Resistance => (None, Some("measurement")),
        Kind::Count => (None, Some("total_increasing")),
        Kind::Enum(_) => (Some("enum"), None),
        Kind::Timestamp => (Some("timestamp"), None),
        Kind::Problem => (Some("problem"), None),
        Kind::Number | Kind::Text | Kind::Flag => (None, None),
    };
    let mut look = Map::new();
    let mut set = |key: &str, value: Option<Value>| {
        look.extend(value.map(|value| (key.to_owned(), value)));
    };
    set("device_class", class.map(Value::from));
    set("unit_of_measurement", quantity.kind.unit().map(Value::from));
    set("state_class", state_class.map(Value::from));
    set("suggested_display_precision", shown_digits(quantity).map(Value::from));
    if let Kind::Enum(options) = quantity.kind {
        set("options", Some(json!(options)));
    }
    // The empty message that erases a value: numbers ignore it, a text would be shown as empty, and
    // a word that is none of its options is a warning in the log.
    if matches!(quantity.kind, Kind::Enum(_) | Kind::Text | Kind::Timestamp) {
        set("value_template", Some(json!("{{ value or 'None' }}")));
    }
    set("icon", icon(quantity).map(Value::from));
    look
}

/// Digits that people want to see; always said for a number, or Home Assistant shows volts
/// without any.
fn shown_digits(quantity: &Quantity) -> Option<u8> {
    let wanted = match quantity.kind {
        Kind::Voltage if quantity.key == "pack_voltage" => 2,
        Kind::Voltage => 3,
        Kind::Share if quantity.key == "soc_spread" => 1,
        Kind::Current | Kind::Energy => 2,
        Kind::Charge | Kind::Temperature | Kind::Capacity | Kind::Resistance => 1,
        Kind::Share | Kind::Power | Kind::StoredEnergy => 0,
        Kind::Duration | Kind::Remaining | Kind::Signal | Kind::Count | Kind::Number => 0,
        Kind::Enum(_) | Kind::Text | Kind::Timestamp | Kind::Flag | Kind::Problem => return None,
    };
    Some(quantity.decimals.min(wanted))
}

fn icon(quantity: &Quantity) -> Option<&'static str> {
    Some(match (quantity.kind, quantity.key) {
        (_, "soh") => "mdi:battery-heart-variant",
        (_, "cycle_count") => "mdi:battery-sync",
        (_, "charging_enabled") => "mdi:battery-arrow-up",
        (_, "discharging_enabled") => "mdi:battery-arrow-down",
        (_, "balancing" | "balancing_cells") => "mdi:scale-balance",
        (_, "energy_charged") => "mdi:battery-plus",
        (_, "energy_discharged") => "mdi:battery-minus",
        (_, "members_missing") => "mdi:battery-unknown",
        (Kind::Remaining, _) => "mdi:timer-outline",
        (Kind::Capacity, _) => "mdi:battery-medium",
        (Kind::Resistance, _) => "mdi:omega",
        _ => return None,
    })
}

/// When a value counts as unknown. The last of three belts, behind the two availability topics,
/// so it leaves room for a few lost reads and for the slowest refresh.
fn expiry(subject: &Subject<'_>) -> Duration {
    let interval = Duration::from_millis(subject.profile.interval_ms);
    let refresh = match subject.publish {
        Publish::Changes(refresh) => refresh,
        Publish::All => Duration::ZERO,
    };
    (interval * 5).max(Duration::from_secs(120)).max(refresh * 2 + interval)
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

#[cfg(test)]
#[path = "discovery_tests.rs"]
mod tests;
