//! The finished settings as text, where the program cannot change its own.

use serde_json::{Value, json};

use super::options::{BatteryOptions, Options, devices};
use crate::model::Installation;

/// The batteries and banks as lines for the file of each installation: name and text.
pub(super) fn files(
    installation: Installation,
    options: &Options,
    keys: &BatteryOptions,
) -> Vec<(&'static str, String)> {
    let variables = variables(options, keys);
    let lines = || variables.iter().map(|(name, value)| format!("{name}={}\n", env_value(value)));
    match installation {
        Installation::Container => {
            vec![(".env", lines().collect()), ("docker-compose.override.yml", compose(&variables))]
        }
        _ => vec![("bms-reader.env", lines().collect())],
    }
}

/// Variables of a single battery that the list replaces, so that they have to be deleted.
pub(super) fn obsolete(before: &Options, after: &Options, keys: &BatteryOptions) -> Vec<String> {
    let single = variables(after, keys);
    let known = keys.iter().map(|(option, _)| option.as_str()).chain(["devices", "banks"]);
    let gone = known.filter(|option| before.contains_key(*option));
    let names = gone.map(str::to_uppercase);
    names.filter(|name| !single.iter().any(|(other, _)| other == name)).collect()
}

/// One battery needs no list, and lines without brackets are easier to read.
fn variables(options: &Options, keys: &BatteryOptions) -> Vec<(String, String)> {
    let devices = devices(options, keys);
    let banks = options.get("banks").filter(|banks| **banks != json!([]));
    let variable_of = |key: &str| match key {
        "interval" => Some("READ_INTERVAL".to_owned()),
        _ => keys.iter().find(|(_, other)| other == key).map(|(option, _)| option.to_uppercase()),
    };
    if let ([device], None) = (&devices[..], banks) {
        let pairs = device.iter().map(|(key, value)| Some((variable_of(key)?, plain(value))));
        if let Some(pairs) = pairs.collect() {
            return pairs;
        }
    }
    let list = (!devices.is_empty()).then(|| json!(devices));
    let both = [("DEVICES", list.as_ref()), ("BANKS", banks)];
    let set = both.into_iter().filter_map(|(name, value)| Some((name.to_owned(), plain(value?))));
    set.collect()
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Docker, Compose and systemd agree on text without quotes, except for these characters.
fn env_value(value: &str) -> String {
    match value.contains(['\\', '$', '#', '\'']) || value.trim() != value {
        // In JSON an apostrophe has another spelling; elsewhere systemd and Compose need another quote.
        true if value.starts_with('[') => format!("'{}'", value.replace('\'', "\\u0027")),
        true if value.contains('\'') => format!("\"{value}\""),
        true => format!("'{value}'"),
        false => value.to_owned(),
    }
}

fn compose(variables: &[(String, String)]) -> String {
    let mut text = "services:\n  bms-reader:\n    environment:\n".to_owned();
    for (name, value) in variables {
        // Compose replaces `$NAME`, YAML ends the text at an apostrophe.
        let value = value.replace('\'', "''").replace('$', "$$");
        text += &format!("      {name}: '{value}'\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> BatteryOptions {
        let pairs = [
            ("bms_type", "type"),
            ("bms_port", "port"),
            ("device_id", "id"),
            ("device_name", "name"),
        ];
        pairs.map(|(option, key)| (option.to_owned(), key.to_owned())).to_vec()
    }

    fn options(value: Value) -> Options {
        value.as_object().unwrap().clone()
    }

    fn env(value: Value) -> String {
        files(Installation::Host, &options(value), &keys()).remove(0).1
    }

    #[test]
    fn one_battery_is_plain_lines_and_several_are_a_list() {
        let one = json!({"id": "a", "name": "House bank", "type": "jk", "port": "/dev/x", "interval": 10});
        let text =
            "DEVICE_ID=a\nDEVICE_NAME=House bank\nBMS_TYPE=jk\nBMS_PORT=/dev/x\nREAD_INTERVAL=10\n";
        assert_eq!(env(json!({"devices": [one.clone()], "banks": []})), text);
        let list = json!([one, {"id": "b"}]);
        assert_eq!(env(json!({"devices": list.clone()})), format!("DEVICES={list}\n"));
        let banks = json!([{"id": "c", "members": ["a"]}]);
        let text = env(json!({"devices": [{"id": "a"}], "banks": banks.clone()}));
        assert_eq!(text, format!("DEVICES=[{{\"id\":\"a\"}}]\nBANKS={banks}\n"));
        let own = env(json!({"devices": [{"id": "a", "own": 1}]}));
        assert_eq!(own, "DEVICES=[{\"id\":\"a\",\"own\":1}]\n", "a key without a variable");
    }

    #[test]
    fn special_characters_survive_env_files_and_compose() {
        let list = json!([{"id": "a", "name": "Bob's \"$HOME\""}, {"id": "b"}]);
        let [env, compose] =
            &files(Installation::Container, &options(json!({"devices": list})), &keys())[..]
        else {
            panic!("two files");
        };
        let quoted =
            env.1.trim_end().strip_prefix("DEVICES='").unwrap().strip_suffix('\'').unwrap();
        assert!(!quoted.contains('\''), "{quoted}");
        assert_eq!(serde_json::from_str::<Value>(quoted).unwrap(), list);
        let line = compose.1.lines().last().unwrap().trim().strip_prefix("DEVICES: '").unwrap();
        let text = line.strip_suffix('\'').unwrap().replace("''", "'").replace("$$", "$");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), list);
        assert_eq!(env_value("Bob's"), "\"Bob's\"");
        assert_eq!(env_value("No. #1"), "'No. #1'");
    }

    #[test]
    fn variables_that_the_list_replaces_are_named() {
        let before = options(json!({"bms_port": "/dev/x", "device_id": "a", "mqtt_host": "b"}));
        let two = options(json!({"devices": [{"id": "a"}, {"id": "b"}]}));
        assert_eq!(obsolete(&before, &two, &keys()), ["BMS_PORT", "DEVICE_ID"]);
        let one = options(json!({"devices": [{"id": "a", "port": "/dev/y"}]}));
        assert_eq!(obsolete(&before, &one, &keys()), [""; 0]);
        let removed = obsolete(&two, &options(json!({"devices": []})), &keys());
        assert_eq!(removed, ["DEVICES"]);
    }
}
