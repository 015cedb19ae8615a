//! `connections.json` of the JBD program and `jk_ble_gateway.json` of the JK gateway.

use serde_json::{Map, Value, json};

use super::Migration;
use crate::config::variables::DEVICES;
use crate::model::DeviceId;

type Object = Map<String, Value>;

/// Keys of the older programs and the keys of an element of `DEVICES`.
const CONNECTION: &[(&str, &str)] = &[
    ("address", "address"),
    ("timeout", "timeout"),
    ("scan_timeout", "scan_timeout"),
    ("adapter", "adapter"),
];
/// What the JBD program needs and bms-reader does by itself.
const NOT_NEEDED: [&str; 3] = ["name", "auto_reconnect", "notify_characteristics"];
const GATEWAY_DEVICE: &[(&str, &str)] = &[("address", "address"), ("adapter", "adapter")];
const GATEWAY_MQTT: &[(&str, &str)] = &[
    ("host", "MQTT_HOST"),
    ("port", "MQTT_PORT"),
    ("username", "MQTT_USER"),
    ("user", "MQTT_USER"),
    ("password", "MQTT_PASSWORD"),
    ("client_id", "MQTT_CLIENT_ID"),
];
/// Settings of the gateway for all batteries.
const GATEWAY: [&str; 5] = ["mqtt", "devices", "poll_interval_s", "timeout_s", "scan_timeout_s"];

pub(super) fn migrate(object: &Object) -> Result<Migration, String> {
    match (object.get("connections"), object.get("devices"), object.get("mqtt")) {
        (Some(Value::Object(connections)), ..) => Ok(connection_manager(connections)),
        (None, Some(Value::Array(devices)), _) => Ok(gateway(object, devices)),
        (None, None, Some(Value::Object(_))) => Ok(gateway(object, &[])),
        _ => Err("this JSON has neither \"connections\" (connections.json) nor \"devices\" (jk_ble_gateway.json)"
            .to_owned()),
    }
}

fn connection_manager(connections: &Object) -> Migration {
    let mut migration = Migration { program: "JBD over Bluetooth", ..Migration::default() };
    let mut devices = Vec::new();
    for (key, connection) in connections {
        if connection["type"] != "bluetooth" {
            migration
                .note(format!("{key}: its type is not bluetooth; only batteries are taken over"));
            continue;
        }
        if connection["enabled"] == false {
            migration.note(format!("{key}: disabled there; add it to {} to read it", DEVICES.name));
            continue;
        }
        let mut device = element(&mut migration, key, "jbd");
        copy(connection, &["name"].map(|key| (key, key)), &mut device);
        let Some(Value::Object(config)) = connection.get("config") else {
            migration.note(format!("{key}: it has no \"config\" with an address"));
            continue;
        };
        copy(&connection["config"], CONNECTION, &mut device);
        let known =
            |key: &str| NOT_NEEDED.contains(&key) || CONNECTION.iter().any(|row| row.0 == key);
        for unknown in config.keys().filter(|key| !known(key)) {
            migration.note(format!("{key}: {unknown} has no counterpart"));
        }
        devices.push(Value::Object(device));
    }
    if !devices.is_empty() {
        migration.set(DEVICES.name, Value::Array(devices).to_string());
    }
    migration
}

fn gateway(object: &Object, list: &[Value]) -> Migration {
    let mut migration = Migration { program: "JK Bluetooth gateway", ..Migration::default() };
    let mqtt = object.get("mqtt").cloned().unwrap_or_default();
    for (key, variable) in GATEWAY_MQTT {
        if let Some(text) = mqtt.get(key).and_then(text) {
            migration.set(variable, text);
        }
    }
    let base = mqtt.get("base_topic").and_then(text).unwrap_or_else(|| "bms".to_owned());
    migration.set("MQTT_BASE_TOPIC", format!("{}/{{type}}/{{id}}", base.trim_matches('/')));
    if let Some(seconds) = object.get("poll_interval_s").and_then(text) {
        migration.set("READ_INTERVAL", seconds);
    }
    let mut devices = Vec::new();
    for (index, entry) in list.iter().enumerate() {
        let name = entry["name"].as_str().map_or_else(|| format!("jk{}", index + 1), str::to_owned);
        let mut device = element(&mut migration, &name, "jk");
        let whole = Value::Object(object.clone());
        copy(&whole, &[("timeout_s", "timeout"), ("scan_timeout_s", "scan_timeout")], &mut device);
        copy(entry, GATEWAY_DEVICE, &mut device);
        devices.push(Value::Object(device));
    }
    if !devices.is_empty() {
        migration.set(DEVICES.name, Value::Array(devices).to_string());
    }
    for key in object.keys().filter(|key| !GATEWAY.contains(&key.as_str())) {
        migration.note(format!("{key} has no counterpart"));
    }
    migration.note(
        "the REST paths of Node-RED (/jk/<name>/latest) are at port 8099; outside of a container set \
         HTTP_LISTEN=0.0.0.0:8099 to reach them from other machines",
    );
    migration
}

/// A battery with the name that it had, as far as topics can have it.
fn element(migration: &mut Migration, name: &str, brand: &str) -> Object {
    let is_id = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let id: String = name.chars().map(|c| if is_id(c) { c } else { '_' }).collect();
    if id != name || DeviceId::new(&id).is_none() {
        migration.note(format!("{name}: as an id it becomes {id}, and its topics change"));
    }
    match json!({"id": id, "type": brand}) {
        Value::Object(object) => object,
        _ => Object::new(),
    }
}

/// Copies what has a value.
fn copy(from: &Value, keys: &[(&str, &str)], to: &mut Object) {
    for (key, name) in keys {
        let value = from.get(key).filter(|value| text(value).is_some());
        if let Some(value) = value {
            to.insert((*name).to_owned(), value.clone());
        }
    }
}

/// A value as a variable has it; `None` for an empty one.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}
