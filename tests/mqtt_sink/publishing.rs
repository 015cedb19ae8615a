//! What is published about a battery, and in which order.

use bms_reader::sink::mqtt::Discovery;

use crate::BRIDGE;
use crate::fixture::{self, TestSink, pack};
use crate::mosquitto::Mosquitto;

#[test]
fn read_publishes_values_alarms_and_raw() {
    let (_broker, mqtt, _sink) = fixture::start_and_read();
    mqtt.wait_for("bms/rack/cell_16_voltage", "3.324");
    mqtt.wait_for("bms/rack/alarms", "[]");
    mqtt.wait("the reading", |message| message.topic == "bms/rack/raw");
    assert_eq!(mqtt.payloads("bms/rack/pack_voltage"), ["53.02"]);
    assert_eq!(mqtt.payloads("bms/rack/pack_current"), ["-11.16"]);
    assert_eq!(mqtt.payloads("bms/rack/soc"), ["64.0"]);
    assert_eq!(mqtt.payloads("bms/rack/alarm_cell_overvoltage"), ["OFF"]);
}

#[test]
fn new_connection_publishes_everything_in_order() {
    let broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    let sink = TestSink::with_discovery(&broker, Discovery::Entity);
    // The battery is online before the connection, so all messages belong to the connection.
    sink.read(pack(16));
    let _sink = sink.run();
    mqtt.wait_for(BRIDGE, "true");
    let at = |topic: &str| mqtt.position(|message| message.topic == topic).expect(topic);
    let last_config = mqtt.all().iter().rposition(|message| message.topic.ends_with("/config"));
    assert!(last_config.expect("discovery") < at("bms/rack/meta"), "discovery comes first");
    assert!(at("bms/rack/meta") < at("bms/rack/soc"));
    assert!(at("bms/rack/read_errors") < at("bms/rack/online"));
    assert!(at("bms/rack/online") < at(BRIDGE), "the bridge comes last");
}

#[test]
fn state_is_retained_and_raw_is_not() {
    let (broker, mqtt, _sink) = fixture::start_and_read();
    mqtt.wait("the reading", |message| message.topic == "bms/rack/raw");
    mqtt.wait_for(BRIDGE, "true");
    let retained: Vec<String> =
        broker.retained().into_iter().map(|message| message.topic).collect();
    for topic in [
        "bms/rack/soc",
        "bms/rack/online",
        "bms/rack/meta",
        "bms/rack/alarms",
        BRIDGE,
        "homeassistant/sensor/rack/soc/config",
        "homeassistant/binary_sensor/rack/connection/config",
        "homeassistant/button/rack/read/config",
    ] {
        assert!(retained.iter().any(|other| other == topic), "{topic} is retained");
    }
    let is_transient = |topic: &String| topic == "bms/rack/raw" || topic.ends_with("/ping");
    assert!(!retained.iter().any(is_transient), "{retained:?}");
}

#[test]
fn unread_battery_is_offline_without_values() {
    let (_broker, mqtt, sink) = fixture::start();
    mqtt.wait_for("bms/rack/online", "false");
    sink.fail();
    mqtt.wait_for("bms/rack/read_errors", "1");
    mqtt.wait("the failed read", |message| message.topic == "bms/rack/raw");
    assert!(mqtt.payloads("bms/rack/soc").is_empty());
    let is_announced = |key| {
        let end = format!("/rack/{key}/config");
        mqtt.position(|message| message.topic.ends_with(&end)).is_some()
    };
    assert!(is_announced("connection") && is_announced("read") && !is_announced("soc"));
}
