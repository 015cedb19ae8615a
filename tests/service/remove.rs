//! `remove` with a real broker.

use std::process::Output;

use serde_json::json;

use crate::fixture::{Service, run};
use crate::mosquitto::Mosquitto;

/// Publishes a stack and a pack, stops, and returns the broker.
fn broker_with_two_batteries(discovery: &str) -> Mosquitto {
    let broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    let mut service = service(&broker, discovery);
    for id in ["old", "new"] {
        mqtt.wait_for(&format!("bms/{id}/online"), "true");
        mqtt.wait_on(&format!("bms/{id}/energy_charged"));
    }
    service.signal("-TERM");
    service.wait_for_exit();
    broker
}

fn service(broker: &Mosquitto, discovery: &str) -> Service {
    let stack = json!({"id": "old", "type": "simulated", "variant": "pylontech-sc0500"});
    let devices = json!([stack, {"id": "new", "type": "simulated"}]).to_string();
    let port = broker.port().to_string();
    Service::start(&[
        ("DEVICES", &devices),
        ("MQTT_HOST", "127.0.0.1"),
        ("MQTT_PORT", &port),
        ("MQTT_DISCOVERY", discovery),
    ])
}

fn remove(broker: &Mosquitto, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let port = broker.port().to_string();
    let broker = [("MQTT_HOST", "127.0.0.1"), ("MQTT_PORT", port.as_str())];
    run(&[&["remove"], arguments].concat(), &[&broker, variables].concat(), "")
}

fn topics(broker: &Mosquitto) -> Vec<String> {
    broker.retained().into_iter().map(|message| message.topic).collect()
}

fn is_of(topic: &str, id: &str) -> bool {
    topic.split('/').any(|level| level == id)
}

#[test]
fn removed_battery_leaves_nothing_and_the_other_one_everything() {
    for discovery in ["entity", "device"] {
        let broker = broker_with_two_batteries(discovery);
        broker.publish("bms/old/cmd/read", "1", true);
        broker.publish("bms/old/notes", "of another program", true);
        let before = topics(&broker);
        let (old, others): (Vec<_>, Vec<_>) =
            before.iter().partition(|topic| is_of(topic, "old") && !topic.ends_with("/notes"));
        assert!(old.iter().any(|topic| topic.starts_with("homeassistant/")), "{old:?}");
        let output = remove(&broker, &["old"], &[]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{text}");
        let mut listed: Vec<_> = text.lines().collect();
        let summary = listed.pop().unwrap();
        assert_eq!(summary, format!("Removed old: {} retained topics", old.len()));
        listed.sort_unstable();
        let mut expected: Vec<_> = old.iter().map(|topic| topic.as_str()).collect();
        expected.sort_unstable();
        assert_eq!(listed, expected);
        let mut left = topics(&broker);
        left.sort();
        let mut others: Vec<_> = others.into_iter().cloned().collect();
        others.sort();
        assert_eq!(left, others, "{discovery}");

        let output = remove(&broker, &["old"], &[]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("retains nothing about old. Its batteries: new"), "{text}");
    }
}

#[test]
fn configured_battery_is_removed_with_yes_only() {
    let broker = broker_with_two_batteries("entity");
    let before = topics(&broker).len();
    let configured = [("BMS_TYPE", "simulated"), ("DEVICE_ID", "old")];
    let output = remove(&broker, &["old"], &configured);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("old is configured here") && error.contains("--yes"), "{error}");
    assert_eq!(topics(&broker).len(), before);
    assert_eq!(remove(&broker, &["old", "--yes"], &configured).status.code(), Some(0));
    assert!(!topics(&broker).iter().any(|topic| is_of(topic, "old")));
}

#[test]
fn online_battery_is_not_removed() {
    let broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    let _service = service(&broker, "entity");
    mqtt.wait_for("bms/old/online", "true");
    let output = remove(&broker, &["old"], &[]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("old is online"), "{error}");
    assert!(topics(&broker).contains(&"bms/old/online".to_owned()));
}

#[test]
fn unreachable_broker_is_an_error() {
    let broker = Mosquitto::not_started();
    let output = remove(&broker, &["old"], &[]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("connection refused; "), "{error}");
    let output = run(&["remove", "old"], &[], "");
    assert_eq!(output.status.code(), Some(2));
    let output = remove(&broker, &["a/b"], &[]);
    assert_eq!(output.status.code(), Some(2));
}
