//! Commands and their replies.

use std::time::Duration;

use bms_reader::command::{Command, ConfigChange};

use crate::BRIDGE;
use crate::fixture::TestSink;
use crate::mosquitto::Mosquitto;

const CONFIG: &str = "bms/rack/cmd/config";
const RESULT: &str = "bms/rack/cmd/config/result";

#[test]
fn read_command_reaches_the_battery() {
    let broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    let mut sink = TestSink::start(&broker);
    mqtt.wait_for(BRIDGE, "true");
    broker.publish("bms/rack/cmd/read", "", false);
    assert_eq!(sink.accept_command(), Command::Read);
}

#[test]
fn config_command_is_applied_and_answered() {
    let broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    let mut sink = TestSink::start(&broker);
    mqtt.wait_for(BRIDGE, "true");
    broker.publish(CONFIG, r#"{"poll_interval_s": 10, "adapter": null}"#, false);
    let change = ConfigChange {
        interval: Some(Duration::from_secs(10)),
        adapter: Some(None),
        ..ConfigChange::default()
    };
    assert_eq!(sink.accept_command(), Command::Configure(change));
    mqtt.wait_for(RESULT, r#"{"ok":true,"adapter":null,"poll_interval_s":10.0}"#);
    assert!(broker.retained().iter().all(|message| message.topic != RESULT));
}

#[test]
fn invalid_config_command_is_answered_with_an_error() {
    let broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    let _sink = TestSink::start(&broker);
    mqtt.wait_for(BRIDGE, "true");
    broker.publish(CONFIG, r#"{"poll_intervall_s": 10}"#, false);
    let reply = mqtt.wait("a reply", |message| message.topic == RESULT).payload;
    assert!(reply.contains("\"ok\":false") && reply.contains("poll_interval_s"), "{reply}");
}

#[test]
fn retained_command_is_ignored() {
    let broker = Mosquitto::start();
    broker.publish(CONFIG, r#"{"paused": true}"#, true);
    broker.publish("bms/rack/cmd/read", "x", true);
    let mqtt = broker.subscribe();
    let mut sink = TestSink::start(&broker);
    mqtt.wait_for(BRIDGE, "true");
    broker.publish(CONFIG, r#"{"paused": false}"#, false);
    let change = ConfigChange { paused: Some(false), ..ConfigChange::default() };
    assert_eq!(sink.accept_command(), Command::Configure(change), "the first to arrive");
}
