//! Changes of the configured batteries, in the form of the add-on's options. Everything else that
//! the options contain stays as it is.

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Names are those of the variables in lower case.
pub type Options = Map<String, Value>;

/// The options of a single battery that is not in the list `devices`, with their keys in it.
pub type BatteryOptions = Vec<(String, String)>;

/// A battery needs one of these.
const PLACES: [&str; 4] = ["type", "port", "address", "barcode"];
/// The identity of a battery that is not in the list.
const DEFAULT_ID: &str = "bms";
/// Batteries that one request may add; a bus has no more.
const MAX_ADDED: usize = 16;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub(super) enum Change {
    Add {
        /// Elements of `devices`.
        devices: Vec<Options>,
        /// Combines them.
        bank: Option<Bank>,
    },
    Rename {
        id: String,
        name: String,
    },
    Remove {
        id: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bank {
    id: String,
    name: String,
}

/// The batteries as elements of `devices`.
pub(super) fn devices(options: &Options, keys: &BatteryOptions) -> Vec<Options> {
    let listed = list(options, "devices");
    if !listed.is_empty() {
        return listed.iter().filter_map(Value::as_object).cloned().collect();
    }
    single(options, keys).into_iter().collect()
}

/// The battery that is not in the list, as an element of it.
fn single(options: &Options, keys: &BatteryOptions) -> Option<Options> {
    let set = keys.iter().filter_map(|(option, key)| {
        let value = options.get(option).filter(|value| is_set(value))?;
        Some((key.clone(), value.clone()))
    });
    let mut element: Options =
        [("id".to_owned(), json!(DEFAULT_ID))].into_iter().chain(set).collect();
    // A simulated battery needs no place; a name alone is no battery.
    PLACES.iter().any(|key| element.contains_key(*key)).then(|| std::mem::take(&mut element))
}

/// The Supervisor stores an empty text for an option that was deleted in its form.
fn is_set(value: &Value) -> bool {
    !value.is_null() && value.as_str() != Some("")
}

fn list(options: &Options, name: &str) -> Vec<Value> {
    options.get(name).and_then(Value::as_array).cloned().unwrap_or_default()
}

fn is_called(device: &Value, id: &str) -> bool {
    device["id"].as_str() == Some(id)
}

impl Change {
    /// The options afterwards, or why the change is impossible.
    pub(super) fn apply(self, options: &Options, keys: &BatteryOptions) -> Result<Options, String> {
        let mut options = options.clone();
        match self {
            Change::Add { devices, bank } => add(&mut options, keys, devices, bank)?,
            Change::Rename { id, name } => rename(&mut options, keys, &id, name.trim())?,
            Change::Remove { id } => remove(&mut options, keys, &id)?,
        }
        Ok(options)
    }
}

fn add(
    options: &mut Options,
    keys: &BatteryOptions,
    added: Vec<Options>,
    bank: Option<Bank>,
) -> Result<(), String> {
    if added.is_empty() || added.len() > MAX_ADDED {
        return Err(format!("add 1 to {MAX_ADDED} batteries at a time"));
    }
    let members: Vec<_> = added.iter().filter_map(|device| device.get("id")).cloned().collect();
    let mut devices: Vec<Value> = devices(options, keys).into_iter().map(json_object).collect();
    // The list replaces the single battery, which is its first element now.
    forget_single(options, keys);
    devices.extend(added.into_iter().map(json_object));
    options.insert("devices".to_owned(), devices.into());
    if let Some(Bank { id, name }) = bank {
        let mut banks = list(options, "banks");
        banks.push(json!({"id": id, "name": name, "members": members}));
        options.insert("banks".to_owned(), banks.into());
    }
    Ok(())
}

fn json_object(element: Options) -> Value {
    Value::Object(element)
}

fn forget_single(options: &mut Options, keys: &BatteryOptions) {
    for (option, _) in keys {
        options.remove(option);
    }
}

fn rename(
    options: &mut Options,
    keys: &BatteryOptions,
    id: &str,
    name: &str,
) -> Result<(), String> {
    let listed = options.get_mut("devices").and_then(Value::as_array_mut);
    let in_list = listed.into_iter().flatten().find(|device| is_called(device, id));
    let (place, key) = match in_list.and_then(Value::as_object_mut) {
        Some(device) => (device, "name"),
        None => {
            check_single(options, keys, id)?;
            (options, "device_name")
        }
    };
    match name.is_empty() {
        true => place.remove(key),
        false => place.insert(key.to_owned(), name.into()),
    };
    Ok(())
}

fn remove(options: &mut Options, keys: &BatteryOptions, id: &str) -> Result<(), String> {
    let mut devices = list(options, "devices");
    let count = devices.len();
    devices.retain(|device| !is_called(device, id));
    if devices.len() == count {
        check_single(options, keys, id)?;
        forget_single(options, keys);
    } else {
        options.insert("devices".to_owned(), devices.into());
    }
    let mut banks = list(options, "banks");
    for bank in &mut banks {
        if let Some(members) = bank.get_mut("members").and_then(Value::as_array_mut) {
            members.retain(|member| member.as_str() != Some(id));
        }
    }
    banks.retain(|bank| bank["members"].as_array().is_none_or(|members| !members.is_empty()));
    if options.contains_key("banks") {
        options.insert("banks".to_owned(), banks.into());
    }
    Ok(())
}

/// Fails unless the single battery has this identity.
fn check_single(options: &Options, keys: &BatteryOptions, id: &str) -> Result<(), String> {
    let is_listed = !list(options, "devices").is_empty();
    let single = single(options, keys).filter(|single| !is_listed && single["id"] == id);
    single
        .map(drop)
        .ok_or_else(|| format!("no battery with the id {id} is configured; reload the page"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> BatteryOptions {
        let names = ["type", "port", "slave_id", "address", "barcode", "password"];
        let batteries = names.map(|key| (format!("bms_{key}"), key.to_owned()));
        let identity = ["id", "name"].map(|key| (format!("device_{key}"), key.to_owned()));
        batteries.into_iter().chain(identity).collect()
    }

    fn object(value: Value) -> Options {
        value.as_object().unwrap().clone()
    }

    fn changed(options: Value, change: Value) -> Result<Value, String> {
        let change: Change = serde_json::from_value(change).unwrap();
        change.apply(&object(options), &keys()).map(Value::Object)
    }

    #[test]
    fn added_battery_follows_the_others_and_all_else_stays() {
        let options = json!({"banks": [], "devices": [{"id": "a", "port": "/dev/x", "own": 1}],
            "mqtt_password": "!secret broker", "alarm_cell_high": "3.6"});
        let new = json!({"id": "b", "name": "Shed", "address": "C8:47:80:37:02:E8"});
        let mut expected = options.clone();
        expected["devices"].as_array_mut().unwrap().push(new.clone());
        assert_eq!(changed(options, json!({"add": {"devices": [new]}})), Ok(expected));
    }

    #[test]
    fn single_battery_becomes_the_first_of_the_list() {
        let options = json!({"devices": [], "bms_port": "/dev/x", "bms_type": "", "bms_slave_id": 2,
            "device_name": "Rack", "read_interval": 10});
        let change = json!({"add": {"devices": [{"id": "b", "port": "/dev/y"}]}});
        let expected = json!({"read_interval": 10, "devices": [
            {"id": "bms", "port": "/dev/x", "slave_id": 2, "name": "Rack"},
            {"id": "b", "port": "/dev/y"}]});
        assert_eq!(changed(options, change), Ok(expected));
    }

    #[test]
    fn packs_of_a_bus_can_become_a_bank() {
        let change = json!({"add": {"devices": [{"id": "a"}, {"id": "b"}],
            "bank": {"id": "house", "name": "House"}}});
        let expected = json!({"devices": [{"id": "a"}, {"id": "b"}],
            "banks": [{"id": "house", "name": "House", "members": ["a", "b"]}]});
        assert_eq!(changed(json!({}), change), Ok(expected));
        let none = json!({"add": {"devices": []}});
        assert!(changed(json!({}), none).unwrap_err().contains("1 to 16"));
    }

    #[test]
    fn battery_is_renamed_wherever_it_is_configured() {
        let rename = |id: &str, name: &str| json!({"rename": {"id": id, "name": name}});
        let listed = json!({"devices": [{"id": "a", "name": "Old"}], "device_name": "unused"});
        let renamed = json!({"devices": [{"id": "a", "name": "New"}], "device_name": "unused"});
        assert_eq!(changed(listed.clone(), rename("a", " New ")), Ok(renamed));
        let unnamed = json!({"devices": [{"id": "a"}], "device_name": "unused"});
        assert_eq!(changed(listed.clone(), rename("a", "")), Ok(unnamed));
        let single = json!({"bms_address": "X", "device_id": "van"});
        let renamed = json!({"bms_address": "X", "device_id": "van", "device_name": "Van"});
        assert_eq!(changed(single, rename("van", "Van")), Ok(renamed));
        assert!(changed(listed, rename("b", "New")).unwrap_err().contains("the id b"));
    }

    #[test]
    fn removed_battery_leaves_its_banks() {
        let remove = |id: &str| json!({"remove": {"id": id}});
        let options = json!({"devices": [{"id": "a"}, {"id": "b"}], "banks": [
            {"id": "both", "members": ["a", "b"]}, {"id": "alone", "members": ["a"]}]});
        let expected =
            json!({"devices": [{"id": "b"}], "banks": [{"id": "both", "members": ["b"]}]});
        assert_eq!(changed(options.clone(), remove("a")), Ok(expected));
        assert!(changed(options, remove("c")).is_err());
        let single = json!({"bms_port": "/dev/x", "bms_password": "1", "log_level": "INFO"});
        assert_eq!(changed(single.clone(), remove("bms")), Ok(json!({"log_level": "INFO"})));
        assert!(changed(single, remove("a")).is_err());
        assert!(changed(json!({"device_id": "van"}), remove("van")).is_err(), "no battery");
    }
}
