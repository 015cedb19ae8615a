//! Whole configurations through [`load`]; each rule on its own is tested beside its code.

mod battery;
mod bluetooth;
mod esphome;
mod program;
mod proxies;
mod sources;

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::variables::VARIABLES;
use super::{Config, Diagnostics, Endpoint, load};
use crate::model::Secret;
use crate::model::units::Millivolts;
use crate::sink::mqtt::{Discovery, Publish};

/// An environment without the options file of this machine.
fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let nowhere = ("BMS_OPTIONS_FILE", "/nonexistent/options.json");
    [nowhere].iter().chain(pairs).map(|(n, v)| (n.to_string(), v.to_string())).collect()
}

fn load_valid(pairs: &[(&str, &str)]) -> Config {
    load(environment(pairs)).unwrap_or_else(|diagnostics| panic!("{diagnostics:#?}"))
}

fn diagnostics(pairs: &[(&str, &str)]) -> Diagnostics {
    load(environment(pairs)).expect_err("invalid configuration")
}

fn errors(pairs: &[(&str, &str)]) -> Vec<String> {
    diagnostics(pairs).errors.iter().map(ToString::to_string).collect()
}

fn error(pairs: &[(&str, &str)]) -> String {
    let mut all = errors(pairs);
    assert_eq!(all.len(), 1, "{all:#?}");
    all.remove(0)
}

/// Without the warnings about the missing options file and the missing broker.
fn warnings(pairs: &[(&str, &str)]) -> Vec<String> {
    let ours = |warning: &String| {
        !warning.contains("BMS_OPTIONS_FILE: ") && !warning.contains("nothing is published")
    };
    load_valid(pairs).warnings.into_iter().filter(ours).collect()
}

/// Two batteries without hardware.
const TWO: &str = r#"[{"id": "a", "type": "simulated"}, {"id": "b", "type": "simulated"}]"#;

#[test]
fn empty_environment_is_valid() {
    let config = load_valid(&[]);
    assert!(config.devices.is_empty() && config.banks.is_empty() && config.mqtt.is_none());
    let listen = config.http.map(|http| http.listen);
    assert_eq!(listen, Some("127.0.0.1:8099".parse().unwrap()));
    assert_eq!(config.history.span, Duration::from_secs(48 * 3600));
    assert_eq!(config.log.filter, "warn,bms_reader=info");
    assert!(!config.log.json && !config.allow_control);
    assert!(config.warnings.iter().any(|warning| warning.starts_with("MQTT_HOST is not set")));
}

#[test]
fn flat_variables_configure_one_battery() {
    let config = load_valid(&[
        ("BMS_PORT", "/dev/ttyUSB0"),
        ("BMS_SLAVE_ID", "1"),
        ("READ_INTERVAL", "30"),
        ("MQTT_HOST", "10.4.8.213"),
        ("MQTT_PORT", "1883"),
        ("MQTT_USER", "mqtt_user"),
        ("MQTT_PASSWORD", "mqtt_password"),
        ("MQTT_TOPIC_PREFIX", "homeassistant"),
        ("DEVICE_ID", "bms_lifepo4_01"),
        ("DEBUG_MODE", "false"),
    ]);
    let device = &config.devices[0];
    assert_eq!(device.endpoint, Endpoint::Serial { path: "/dev/ttyUSB0".into() });
    assert_eq!(device.driver.unwrap().name, "daren");
    assert_eq!(device.options.address, 1);
    assert_eq!(device.interval, Duration::from_secs(30));
    assert_eq!(device.profile.interval_ms, 30_000);
    assert_eq!(device.profile.id.as_str(), "bms_lifepo4_01");
    assert_eq!(device.profile.port.as_deref(), Some("/dev/ttyUSB0"));
    assert_eq!(device.profile.address.as_deref(), Some("1"));
    assert_eq!(device.thresholds.cell_high, Some(Millivolts(3650)));
    assert_eq!(device.thresholds.soc_low, None);
    assert!(device.bauds.len() > 1, "without BMS_BAUDRATE all usual rates are tried");
    let mqtt = config.mqtt.as_ref().unwrap();
    assert_eq!((mqtt.host.as_str(), mqtt.port), ("10.4.8.213", 1883));
    assert_eq!(mqtt.login, Some(("mqtt_user".into(), Secret::new("mqtt_password"))));
    assert_eq!(mqtt.client_id, "bms-reader-bms_lifepo4_01");
    assert_eq!(mqtt.base_topic, "bms/{id}");
    assert_eq!(mqtt.discovery_prefix, "homeassistant");
    assert_eq!(mqtt.discovery, Discovery::Entity);
    assert_eq!(mqtt.publish, Publish::Changes(Duration::from_secs(300)));
    assert_eq!(mqtt.keep_alive, Duration::from_secs(20));
    assert!(mqtt.tls.is_none());
}

#[test]
fn all_errors_are_reported_at_once() {
    let messages = errors(&[
        ("BMS_PORT", "/dev/ttyUSB0"),
        ("BMS_SLAVE_ID", "99"),
        ("READ_INTERVAL", "0"),
        ("MQTT_HOST", "mqtt://broker:1883"),
        ("MQTT_PORT", "70000"),
        ("LOG_LEVEL", "loud"),
    ]);
    assert_eq!(messages.len(), 5, "{messages:#?}");
    let names = ["BMS_SLAVE_ID", "READ_INTERVAL", "MQTT_HOST", "MQTT_PORT", "LOG_LEVEL"];
    for name in names {
        assert_eq!(messages.iter().filter(|m| m.starts_with(name)).count(), 1, "{name}");
    }
    assert!(messages.iter().any(|m| m.contains("0 to 15 for type daren")), "{messages:#?}");
    assert!(messages.iter().any(|m| m.contains("without mqtt://")), "{messages:#?}");
}

#[test]
fn secret_is_never_shown() {
    let pairs = [
        ("MQTT_HOST", "broker"),
        ("MQTT_USER", "me"),
        ("MQTT_PASSWORD", "hunter2"),
        ("BMS_PASSWORD", "hunter2"),
        ("MQTT_PASSWORT", "hunter2"),
        ("BMS_TYPE", "simulated"),
    ];
    let config = load_valid(&pairs);
    let shown = format!("{config:?} {config:#?} {:?}", config.warnings);
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("***") && shown.contains("\"me\""), "{shown}");
    let broken = r#"[{"id": "a", "type": "x", "password": "hunter2"}, {"id": 1, "password": {"x": "hunter2"}}]"#;
    let messages = errors(&[
        ("DEVICES", broken),
        ("MQTT_HOST", "mqtt://me:hunter2@broker"),
        ("MQTT_PORT", "hunter2@1"),
        ("MQTT_PASSWORD", "hunter2"),
    ]);
    assert!(
        messages.len() >= 5 && messages.iter().all(|m| !m.contains("hunter2")),
        "{messages:#?}"
    );
}

/// Known names, near misses and arbitrary text.
fn name() -> impl Strategy<Value = String> {
    let known = prop::sample::select(VARIABLES).prop_map(|variable| variable.name.to_owned());
    prop_oneof![4 => known, 1 => "(BMS|MQTT|HA|ALARM)_[A-Z_]{0,12}", 1 => ".{0,12}"]
}

/// Valid values, nearly valid ones and arbitrary text.
fn value() -> impl Strategy<Value = String> {
    let examples = prop::sample::select(VARIABLES).prop_map(|variable| variable.example.to_owned());
    let number = any::<f64>().prop_map(|number| number.to_string());
    let json = r#"\[(\{("(id|port|type|slave_id|members|ä)": ?("[a-z/]{0,5}"|-?[0-9]{1,3}|null|\[\])){0,1}\},?){0,3}\]?"#;
    prop_oneof![3 => examples, 1 => number, 1 => json, 1 => "tcp://.{0,10}", 1 => "[0-9+x.-]{0,25}", 1 => "\\PC{0,90}"]
}

proptest! {
    #[test]
    fn arbitrary_environment_never_panics(pairs in prop::collection::btree_map(name(), value(), 0..12)) {
        let mut environment = environment(&[]);
        // The options file must stay absent.
        environment.extend(pairs.into_iter().filter(|(name, _)| name.to_uppercase() != "BMS_OPTIONS_FILE"));
        match load(environment) {
            Ok(config) => {
                let shown = format!("{config:?}");
                prop_assert!(shown.starts_with("Config"));
            }
            Err(diagnostics) => {
                prop_assert!(!diagnostics.errors.is_empty());
                for error in diagnostics.errors {
                    prop_assert!(!error.to_string().contains('\n'), "{error}");
                }
            }
        }
    }
}
