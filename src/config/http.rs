//! The HTTP server, and the configuration as its set-up page shows and changes it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::error::Reporter;
use super::redacted::redacted;
use super::rule;
use super::source::{option_entries, resolve};
use super::values::{Spelling, Values};
use super::variables::*;
use super::{build, service};
use crate::model::Secret;
use crate::protocol::{DriverInfo, drivers};
use crate::sink::http::{Access, BatteryOptions, BrandChoice, Options, Settings, SetupSettings};

/// `None` if it is off.
pub(super) fn settings(values: &Values, options: Options) -> Option<Settings> {
    let listen = values.value(&HTTP_LISTEN).and_then(rule::listen).flatten()?;
    let home_assistant = values.is_set(&SUPERVISOR_TOKEN);
    let token = values.explicit(&HTTP_TOKEN).map(Secret::new);
    if token.is_none() && !home_assistant && !listen.ip().is_loopback() {
        let [token, address] = [&HTTP_TOKEN, &HTTP_LISTEN].map(|variable| values.name_of(variable));
        values.warn(format!(
            "the whole network can read the page at {listen}: set {token} to a password, or \
             {address} to 127.0.0.1:{}",
            listen.port()
        ));
    }
    let mut hosts = values.explicit(&HTTP_ALLOWED_HOSTS).and_then(rule::hosts).unwrap_or_default();
    hosts.extend(values.explicit(&HTTP_URL).and_then(rule::url_host));
    let access = Access { home_assistant, token, allowed_hosts: hosts };
    let allow_config = values.is_on(&ALLOW_CONFIG);
    Some(Settings { listen, access, allow_config, setup: setup(values, options) })
}

fn setup(values: &Values, options: Options) -> SetupSettings {
    SetupSettings {
        installation: values.installation,
        supervisor: service::supervisor(values),
        options,
        battery_options: battery_options(),
        brands: brands(),
        check,
    }
}

/// What is set, in the form of the add-on's options. Passwords of batteries are masked; the other
/// secrets are left out, because a mask is no valid value of theirs.
pub(super) fn options(environment: BTreeMap<String, String>) -> Options {
    let lists = [DEVICES.name, BANKS.name];
    let value = |name: &str, text: String| match lists.contains(&name) {
        true => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        false => Value::String(text),
    };
    let is_masked = |name: &str| {
        let variable = VARIABLES.iter().find(|variable| variable.name == name);
        variable.is_some_and(|variable| variable.secret && variable.key().is_none())
    };
    let values = redacted(environment).values.into_iter();
    let values = values.filter(|(name, _)| lists.contains(name) || !is_masked(name));
    values.map(|(name, text)| (name.to_lowercase(), value(name, text))).collect()
}

/// The options that apply to a single battery alone, and their keys in `devices`. Identity and name
/// come first, as people write them.
fn battery_options() -> BatteryOptions {
    let mut options: BatteryOptions = of_single_battery()
        .filter_map(|variable| Some((variable.name.to_lowercase(), variable.key()?)))
        .collect();
    options.sort_by_key(|(option, _)| !option.starts_with("device_"));
    options
}

fn brands() -> Vec<BrandChoice> {
    let choice = |info: &&'static DriverInfo| BrandChoice {
        name: info.name,
        title: info.title,
        by_wire: info.serial.is_some(),
        by_bluetooth: info.gatt.is_some(),
    };
    drivers().iter().map(choice).collect()
}

/// The errors of a start with these options alone.
fn check(options: &Options) -> Vec<String> {
    let reporter = Reporter::default();
    let entries = option_entries(options.clone());
    let values = resolve(entries, Spelling::Options, &reporter);
    let errors = build(&values, Options::new(), &reporter).err().map(|found| found.errors);
    errors.unwrap_or_default().iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn options_contain_what_is_set_without_secrets() {
        let variables = [
            ("DEVICES", r#"[{"id": "a", "port": "/dev/x", "password": "123456"}]"#),
            ("MQTT_PASSWORD", "hunter2"),
            ("READ_INTERVAL", "10"),
        ];
        let environment = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let expected = json!({"devices": [{"id": "a", "port": "/dev/x", "password": "***"}],
            "read_interval": "10"});
        let mut options = Value::Object(options(environment.into()));
        options.sort_all_objects();
        assert_eq!(options, expected);
    }

    #[test]
    fn check_reports_all_errors_of_changed_options() {
        let of = |options: Value| check(options.as_object().unwrap());
        let a = json!({"id": "a", "type": "daren", "port": "/dev/x"});
        assert_eq!(of(json!({"devices": [a], "banks": [], "read_interval": 30})), [""; 0]);
        let twice = of(json!({"devices": [a, a], "banks": [{"id": "b", "members": ["c"]}]}));
        assert!(twice.iter().any(|error| error.contains("no other battery has")), "{twice:?}");
        assert!(twice.iter().any(|error| error.contains("option banks")), "{twice:?}");
    }

    #[test]
    fn battery_options_begin_with_the_identity() {
        let options = battery_options();
        assert_eq!(options[0], ("device_id".to_owned(), "id".to_owned()));
        assert!(options.contains(&("bms_slave_id".to_owned(), "slave_id".to_owned())));
        assert!(!options.iter().any(|(_, key)| key == "interval"), "it applies to all batteries");
    }
}
