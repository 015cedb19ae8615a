//! Home Assistant discovery: the description of each entity, and the two formats in which the
//! descriptions are published.
//!
//! Rules of Home Assistant (core, `components/mqtt`, `components/sensor/const.py`): a device class
//! accepts certain units and state classes only, and a wrong one loses the entity; an unknown key
//! at the top level, in `device` or in `origin` loses the whole device; there is no class for
//! ampere-hours, milliohms and cycles.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::model::catalog::{Category, Get, Kind, Quantity};
use crate::model::{DeviceState, Switch};

use super::Publish;
use super::json::object;
use super::publish_filter::lifetime;
use super::seen_quantities::{SeenQuantities, SeenQuantity};
use super::topics::{self, Topics};

/// Distinguishes our discovery messages from those of other programs.
pub const ORIGIN: &str = "bms-reader";

/// The two types of alarm events.
pub const ALARM_STARTED: &str = "started";
pub const ALARM_ENDED: &str = "ended";

/// Key of the entity that shows the `online` topic. No value has this key.
pub const CONNECTION: &str = "connection";

/// Main values without a name of their own: Home Assistant shows the name of the device class in
/// the user's language.
const NAMED_BY_CLASS: [&str; 4] = ["soc", "pack_voltage", "pack_current", "power"];

/// Everything that the discovery of one battery depends on, besides the set of its quantities.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    pub state: &'a DeviceState,
    pub topics: &'a Topics,
    /// Topic of the program's own availability.
    pub bridge: &'a str,
    pub publish: Publish,
    /// URL of the dashboard.
    pub dashboard: Option<&'a str>,
}

/// One entity, without what all entities of the device share.
#[derive(Debug, Clone, PartialEq)]
pub struct Entity {
    /// `sensor`, `binary_sensor`, `button`, `switch` or `event`.
    pub component: &'static str,
    /// Key in topics and payloads.
    pub key: String,
    /// The module of a stack, counted from 1, whose device it belongs to.
    pub module: Option<usize>,
    pub body: Map<String, Value>,
}

/// All entities of a battery; first those that exist before the first read.
pub fn entities(context: &Context<'_>, seen: &SeenQuantities) -> Vec<Entity> {
    let topic = |key| context.topics.topic(key);
    let connection = json!({
        "name": "Connection",
        "state_topic": topic(topics::ONLINE),
        "payload_on": "true",
        "payload_off": "false",
        "device_class": "connectivity",
        "entity_category": "diagnostic",
    });
    let read_button = json!({
        "name": "Read now",
        "command_topic": topic(topics::READ_COMMAND),
        "payload_press": "read",
        "entity_category": "diagnostic",
        "icon": "mdi:refresh",
    });
    // Its attributes contain alarm and cell. The event types are few and fixed, so that an
    // automation can name them.
    let alarm_event = json!({
        "name": "Alarm",
        "state_topic": topic(topics::EVENT),
        "event_types": [ALARM_STARTED, ALARM_ENDED],
        "icon": "mdi:alert",
    });
    let mut list = vec![
        Entity::new(context, "binary_sensor", CONNECTION, connection).while_running(context),
        Entity::new(context, "button", "read", read_button).while_running(context),
        Entity::new(context, "event", "alarm", alarm_event),
    ];
    let controls = &context.state.profile.controls;
    list.extend(controls.iter().map(|switch| switch_entity(context, *switch)));
    list.extend(seen.0.iter().map(|seen| value_entity(context, seen)));
    list
}

/// The payload of an entity's own topic.
pub fn entity_payload(context: &Context<'_>, entity: &Entity) -> Value {
    let mut payload = entity.body.clone();
    if !payload.contains_key("availability") {
        payload.extend(battery_availability(context));
    }
    payload.insert("device".into(), device(context, entity.module));
    payload.insert("origin".into(), origin());
    Value::Object(payload)
}

/// An entity inside the payload of its device.
pub fn component(entity: &Entity) -> Value {
    let mut component = object(platform(entity.component));
    component.extend(entity.body.clone());
    Value::Object(component)
}

/// Home Assistant removes a component that contains nothing else.
pub fn platform(platform: &str) -> Value {
    json!({ "platform": platform })
}

/// The payload of the topic of the device, or of the device of one of its modules.
pub fn device_payload(
    context: &Context<'_>,
    module: Option<usize>,
    components: Map<String, Value>,
) -> Value {
    let mut payload = object(json!({ "device": device(context, module), "origin": origin() }));
    payload.extend(battery_availability(context));
    payload.insert("components".into(), Value::Object(components));
    Value::Object(payload)
}

/// Each module of a stack is a device of its own below that of the stack, so that modules can be
/// distinguished and assigned to areas. `via_device` works in every version of Home Assistant,
/// `child_devices` does not.
fn device(context: &Context<'_>, module: Option<usize>) -> Value {
    let profile = &context.state.profile;
    let reading = context.state.snapshot.as_ref().map(|snapshot| &snapshot.reading);
    let identity = reading.map(|reading| reading.identity.clone()).unwrap_or_default();
    let id = format!("bms_reader_{}", profile.id);
    let manufacturer = identity.manufacturer.as_ref().unwrap_or(&profile.title);
    let configuration_url = context.dashboard.map(|url| page_url(url, profile.id.as_str()));
    Value::Object(object(match module {
        None => json!({
            "identifiers": [id],
            "name": profile.name,
            "manufacturer": manufacturer,
            "model": identity.model,
            "hw_version": identity.hardware,
            "sw_version": identity.software,
            "serial_number": identity.serial,
            "configuration_url": configuration_url,
        }),
        Some(number) => {
            let index = number.checked_sub(1);
            let serial = index.and_then(|index| reading?.modules.get(index)?.serial.as_ref());
            json!({
                "identifiers": [format!("{id}_module_{number}")],
                "name": format!("{} module {number}", profile.name),
                "manufacturer": manufacturer,
                "via_device": id,
                "serial_number": serial,
                "configuration_url": configuration_url,
            })
        }
    }))
}

/// The page of one battery. A path inside Home Assistant takes no fragment.
fn page_url(dashboard: &str, id: &str) -> String {
    match dashboard.starts_with("http") {
        true => format!("{}/#/{id}", dashboard.trim_end_matches('/')),
        false => dashboard.to_owned(),
    }
}

fn origin() -> Value {
    json!({
        "name": ORIGIN,
        "sw_version": env!("CARGO_PKG_VERSION"),
        "support_url": env!("CARGO_PKG_REPOSITORY"),
    })
}

fn battery_availability(context: &Context<'_>) -> Map<String, Value> {
    availability(&[context.bridge, &context.topics.topic(topics::ONLINE)])
}

/// With two topics the mode has to be `all`: in the default mode the latest message wins.
fn availability(topics: &[&str]) -> Map<String, Value> {
    let entry = |topic: &&str| json!({"topic": topic, "payload_available": "true", "payload_not_available": "false"});
    let list: Vec<Value> = topics.iter().map(entry).collect();
    object(json!({ "availability": list, "availability_mode": "all" }))
}

impl Entity {
    fn new(context: &Context<'_>, component: &'static str, key: &str, body: Value) -> Self {
        let mut fields = ids(context, component, key);
        fields.extend(object(body));
        Entity { component, key: key.to_owned(), module: None, body: fields }
    }

    /// Available whenever the program runs, even while the battery does not answer.
    fn while_running(mut self, context: &Context<'_>) -> Self {
        self.body.extend(availability(&[context.bridge]));
        self
    }
}

/// `object_id` is read by cores before 2025.10, `default_entity_id` by those since; each ignores
/// the other.
fn ids(context: &Context<'_>, component: &str, key: &str) -> Map<String, Value> {
    let id = &context.state.profile.id;
    let entity = id.entity(component, key);
    object(json!({
        "unique_id": format!("{id}_{key}"),
        "object_id": entity.split_once('.').map(|(_, name)| name),
        "default_entity_id": entity,
    }))
}

/// A switch that the operator allowed. It shows the state that the battery reports, not the last
/// command.
fn switch_entity(context: &Context<'_>, switch: Switch) -> Entity {
    let body = json!({
        "name": switch.title(),
        "command_topic": context.topics.topic(&topics::switch_command(switch)),
        "state_topic": context.topics.topic(switch.key()),
        "payload_on": "ON",
        "payload_off": "OFF",
        "optimistic": false,
        "device_class": "switch",
    });
    Entity::new(context, "switch", &format!("{}_switch", switch.name()), body)
}

fn value_entity(context: &Context<'_>, seen: &SeenQuantity) -> Entity {
    let SeenQuantity { key, module, enabled } = *seen;
    let (quantity, name, key) = (key.quantity(), key.name(), &*key.to_string());
    let component = quantity.kind.component();
    let is_named = !NAMED_BY_CLASS.contains(&key);
    let mut body = object(json!({ "name": is_named.then_some(name) }));
    body.extend(ids(context, component, key));
    body.insert("state_topic".into(), json!(context.topics.topic(key)));
    body.extend(presentation(quantity));
    let is_measured = !matches!(quantity.get, Get::Link(_));
    // Home Assistant shows a value that can expire as unavailable until the first message, and a
    // remaining time may be unknown for days.
    let expires = is_measured && quantity.kind != Kind::Remaining;
    body.extend(object(json!({
        "entity_category": (quantity.category == Category::Diagnostic).then_some("diagnostic"),
        "enabled_by_default": (!enabled).then_some(false),
        "expire_after": expires.then(|| expiry(context).as_secs()),
    })));
    let entity = Entity { component, key: key.to_owned(), module, body };
    if is_measured { entity } else { entity.while_running(context) }
}

/// Device class, unit, state class, digits and icon of a quantity.
fn presentation(quantity: &Quantity) -> Map<String, Value> {
    const MEASUREMENT: Option<&str> = Some("measurement");
    const TOTAL: Option<&str> = Some("total_increasing");
    // Always with digits for a number: without them Home Assistant shows volts as integers.
    let (class, state_class, digits) = match quantity.kind {
        Kind::Charge => (Some("battery"), MEASUREMENT, Some(1)),
        Kind::Voltage => (Some("voltage"), MEASUREMENT, Some(3)),
        Kind::Current => (Some("current"), MEASUREMENT, Some(2)),
        Kind::Power => (Some("power"), MEASUREMENT, Some(0)),
        Kind::StoredEnergy => (Some("energy_storage"), MEASUREMENT, Some(0)),
        Kind::Temperature => (Some("temperature"), MEASUREMENT, Some(1)),
        Kind::Duration | Kind::Remaining => (Some("duration"), MEASUREMENT, Some(0)),
        Kind::Energy => (Some("energy"), TOTAL, Some(2)),
        Kind::Signal => (Some("signal_strength"), MEASUREMENT, Some(0)),
        // With the class "battery", Home Assistant would take the state of health for the charge.
        Kind::Share => (None, MEASUREMENT, Some(0)),
        Kind::Capacity | Kind::Resistance => (None, MEASUREMENT, Some(1)),
        Kind::Count => (None, TOTAL, Some(0)),
        Kind::Number => (None, None, Some(0)),
        Kind::Enum(_) => (Some("enum"), None, None),
        Kind::Timestamp => (Some("timestamp"), None, None),
        Kind::Problem => (Some("problem"), None, None),
        Kind::Text | Kind::Flag => (None, None, None),
    };
    let digits = match quantity.key {
        "pack_voltage" => Some(2),
        "soc_spread" => Some(1),
        _ => digits,
    };
    let options = if let Kind::Enum(options) = quantity.kind { Some(options) } else { None };
    // A value is cleared with an empty message. Numbers ignore it; a text would be shown as empty,
    // and a word that is none of its options causes a warning.
    let is_text = matches!(quantity.kind, Kind::Enum(_) | Kind::Text | Kind::Timestamp);
    object(json!({
        "device_class": class,
        "unit_of_measurement": quantity.kind.unit(),
        "state_class": state_class,
        "suggested_display_precision": digits.map(|digits| quantity.kind.decimals().min(digits)),
        "options": options,
        "value_template": is_text.then_some("{{ value or 'None' }}"),
        "icon": icon(quantity),
    }))
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

/// After this time without a message the value becomes unknown. The two availability topics come
/// first, so there is room for a few lost reads and for the slowest refresh.
fn expiry(context: &Context<'_>) -> Duration {
    lifetime(context.state.profile.interval_ms, context.publish)
}

#[cfg(test)]
#[path = "discovery_tests.rs"]
mod tests;
