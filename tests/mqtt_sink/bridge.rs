//! The topics of the program itself.

use std::time::Duration;

use bms_reader::clock;
use bms_reader::command::{Command, ConfigChange};
use bms_reader::model::Uptime;
use serde_json::{Value, json};

use crate::BRIDGE;
use crate::fixture::{self, LOG_LEVELS, TestSink, pack};
use crate::mosquitto::Mosquitto;

const INFO: &str = "bms/bridge/bms-reader-rack/info";
const HEALTH: &str = "bms/bridge/bms-reader-rack/health";
const LOG_LEVEL: &str = "bms/bridge/bms-reader-rack/cmd/log_level";
const RESTART: &str = "bms/bridge/bms-reader-rack/cmd/restart";

fn retained(broker: &Mosquitto, topic: &str) -> Value {
    let found = broker.retained().into_iter().find(|message| message.topic == topic);
    serde_json::from_str(&found.expect(topic).payload).expect("JSON")
}

#[test]
fn info_and_health_are_retained_after_connecting() {
    let broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    let sink = TestSink::with_batteries(&broker, &["rack"]);
    sink.read(pack(16));
    sink.fail();
    let _sink = sink.run();
    mqtt.wait_for(BRIDGE, "true");
    assert_eq!(mqtt.payloads(INFO).len(), 1);
    assert_eq!(mqtt.payloads(HEALTH).len(), 1);
    let info = retained(&broker, INFO);
    assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(info["batteries"], json!({ "rack": "bms/rack" }));
    let health = &retained(&broker, HEALTH);
    assert_eq!(health["connections"], 1);
    let rack = &health["batteries"]["rack"];
    assert_eq!(rack["reads"], 1);
    assert_eq!(rack["errors"], json!({ "timeout": 1 }));
    assert_eq!(rack["online"], true);
    assert!(rack["last_read"].as_str().expect("a time").starts_with("2026-02-14T"), "{rack}");
}

#[test]
fn log_level_is_changed_and_answered() {
    let (broker, mqtt, _sink) = fixture::start();
    mqtt.wait_for(BRIDGE, "true");
    broker.publish(LOG_LEVEL, "loud", false);
    let result = format!("{LOG_LEVEL}/result");
    let error = mqtt.wait_on(&result).payload;
    assert!(error.contains(r#""ok":false"#) && error.contains("trace"), "{error}");
    broker.publish(LOG_LEVEL, "DEBUG", false);
    mqtt.wait_for(&result, r#"{"ok":true,"log_level":"debug"}"#);
    assert_eq!(*LOG_LEVELS.lock().expect("no panic"), ["debug"]);
}

#[test]
fn restart_command_ends_the_program_cleanly() {
    let (broker, mqtt, sink) = fixture::start_and_read();
    mqtt.wait_for(BRIDGE, "true");
    mqtt.clear();
    broker.publish(RESTART, "", false);
    mqtt.wait_for(&format!("{RESTART}/result"), r#"{"ok":true}"#);
    mqtt.wait_for("bms/rack/online", "false");
    mqtt.wait_for(BRIDGE, "false");
    assert!(sink.program().is_restart_requested());
}

#[test]
fn retained_restart_command_is_ignored() {
    let broker = Mosquitto::start();
    broker.publish(RESTART, "x", true);
    broker.publish(LOG_LEVEL, "debug", true);
    let mqtt = broker.subscribe();
    let sink = TestSink::start(&broker);
    mqtt.wait_for(BRIDGE, "true");
    broker.publish(LOG_LEVEL, "trace", false);
    mqtt.wait_on(&format!("{LOG_LEVEL}/result"));
    assert_eq!(*LOG_LEVELS.lock().expect("no panic"), ["trace"]);
    assert!(!sink.program().is_restart_requested());
}

#[test]
fn restart_command_is_refused_right_after_the_start() {
    let broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    let mut sink = TestSink::with_batteries(&broker, &["rack"]);
    sink.program_mut().started = Uptime(clock::uptime().0 - 20_000);
    let sink = sink.run();
    mqtt.wait_for(BRIDGE, "true");
    broker.publish(RESTART, "", false);
    let reply = mqtt.wait_on(&format!("{RESTART}/result")).payload;
    assert!(reply.contains("started 2") && reply.contains(r#""ok":false"#), "{reply}");
    assert!(!sink.program().is_restart_requested());
}

#[test]
fn program_commands_need_allow_config() {
    let broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    let mut sink = TestSink::with_batteries(&broker, &["rack"]);
    sink.settings.allow_config = false;
    let sink = sink.run();
    mqtt.wait_for(BRIDGE, "true");
    for command in [RESTART, LOG_LEVEL] {
        broker.publish(command, "debug", false);
        let reply = mqtt.wait_on(&format!("{command}/result")).payload;
        assert!(reply.contains("ALLOW_CONFIG"), "{reply}");
    }
    assert!(!sink.program().is_restart_requested());
    assert!(LOG_LEVELS.lock().expect("no panic").is_empty());
}

#[test]
fn flood_of_program_commands_is_limited() {
    let (broker, mqtt, sink) = fixture::start();
    mqtt.wait_for(BRIDGE, "true");
    broker.publish_many(LOG_LEVEL, "debug", 5000);
    broker.publish("bms/rack/cmd/config", "nonsense", false);
    mqtt.wait_on("bms/rack/cmd/config/result");
    let changes = LOG_LEVELS.lock().expect("no panic").len();
    assert!((10..40).contains(&changes), "{changes}");
    assert_eq!(sink.broker_state().connections, 1);
}

const REMOTE_CONFIG: &str = "bms/bridge/bms-reader-rack/config";

fn sink_with_remote_config(broker: &Mosquitto) -> TestSink {
    let mut sink = TestSink::with_batteries(broker, &["rack"]);
    sink.settings.remote_config = true;
    sink.run()
}

#[test]
fn retained_settings_are_applied_once_and_acknowledged() {
    let broker = Mosquitto::start();
    broker.publish(REMOTE_CONFIG, r#"{"rack": {"poll_interval_s": 10}}"#, true);
    let mqtt = broker.subscribe();
    let mut sink = sink_with_remote_config(&broker);
    let change = |seconds| ConfigChange {
        interval: Some(Duration::from_secs(seconds)),
        ..ConfigChange::default()
    };
    assert_eq!(sink.accept_command(), Command::Configure(change(10)));
    let result = format!("{REMOTE_CONFIG}/result");
    mqtt.wait_for(&result, r#"{"ok":true,"batteries":{"rack":{"poll_interval_s":10.0}}}"#);
    // The same settings again, as on every connection, and then others.
    broker.publish(REMOTE_CONFIG, r#"{"rack": {"poll_interval_s": 10}}"#, true);
    broker.publish(REMOTE_CONFIG, r#"{"rack": {"poll_interval_s": 20}}"#, true);
    assert_eq!(sink.accept_command(), Command::Configure(change(20)));
}

#[test]
fn invalid_settings_change_nothing() {
    let broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    let mut sink = sink_with_remote_config(&broker);
    mqtt.wait_for(BRIDGE, "true");
    let result = format!("{REMOTE_CONFIG}/result");
    let wrong = r#"{"rack": {"poll_interval_s": 10}, "shed": {"paused": true}}"#;
    broker.publish(REMOTE_CONFIG, wrong, true);
    let reply = mqtt.wait_on(&result).payload;
    assert!(reply.contains(r#""ok":false"#) && reply.contains("shed"), "{reply}");
    broker.publish("bms/rack/cmd/read", "", false);
    assert_eq!(sink.accept_command(), Command::Read, "the first to arrive");
}

#[test]
fn retained_settings_need_the_variable() {
    let broker = Mosquitto::start();
    broker.publish(REMOTE_CONFIG, r#"{"rack": {"poll_interval_s": 10}}"#, true);
    let mqtt = broker.subscribe();
    let mut sink = TestSink::start(&broker);
    mqtt.wait_for(BRIDGE, "true");
    broker.publish(REMOTE_CONFIG, r#"{"rack": {"poll_interval_s": 20}}"#, false);
    broker.publish("bms/rack/cmd/read", "", false);
    assert_eq!(sink.accept_command(), Command::Read, "the first to arrive");
    assert!(mqtt.payloads(&format!("{REMOTE_CONFIG}/result")).is_empty());
}
