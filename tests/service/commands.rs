//! Commands over MQTT.

use crate::fixture::{Packs, PublishedBattery, legacy_environment, parse};
use crate::mosquitto::Mosquitto;

const ID: &str = "bms_lifepo4_01";

#[test]
fn mqtt_commands_are_executed_and_answered() {
    let packs = Packs::on_terminal(&[1]);
    let broker = Mosquitto::start();
    let mut variables = legacy_environment(&packs.port, &broker);
    variables.push(("READ_INTERVAL", "3600".to_owned()));
    let battery = PublishedBattery::start(broker, ID, &variables);
    battery.wait_good();
    battery.mqtt.clear();
    battery.broker.publish(&battery.topic("cmd/read"), "now", false);
    battery.wait_good();

    let result = battery.topic("cmd/config/result");
    let configure = |payload: &str| {
        battery.mqtt.clear();
        battery.broker.publish(&battery.topic("cmd/config"), payload, false);
        parse(&battery.mqtt.wait_on(&result))
    };
    assert_eq!(configure(r#"{"poll_interval_s": 1}"#)["ok"], true);
    battery.wait_good();
    let refused = configure(r#"{"adapter": "hci1"}"#);
    assert_eq!(refused["ok"], false);
    assert!(refused["error"].as_str().unwrap().contains("Bluetooth"), "{refused}");
    assert_eq!(configure("nonsense")["ok"], false);

    assert_eq!(configure(r#"{"paused": true}"#)["ok"], true);
    battery.mqtt.wait_for(&battery.topic("online"), "false");
    assert_eq!(configure(r#"{"paused": false}"#)["ok"], true);
    battery.mqtt.wait_for(&battery.topic("online"), "true");
    battery.service.wait_state(ID, "a good read", |state| state["error"].is_null());
}
