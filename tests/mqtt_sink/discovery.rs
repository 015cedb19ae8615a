//! Home Assistant discovery messages on the broker.

use bms_reader::sink::mqtt::Discovery;

use crate::fixture::{self, TestSink, pack};
use crate::mosquitto::{Mosquitto, Subscriber};
use crate::{BRIDGE, DEVICE};

const SOC: &str = "homeassistant/sensor/rack/soc/config";
const OWN: &str = r#"{"origin":{"name":"bms-reader"},"state_topic":"x","unique_id":"y"}"#;

#[test]
fn home_assistant_start_publishes_everything_again() {
    let (broker, mqtt, _sink) = fixture::start_and_read();
    mqtt.wait_for("bms/rack/cell_16_voltage", "3.324");
    mqtt.clear();
    broker.publish("homeassistant/status", "online", false);
    mqtt.wait_for("bms/rack/cell_16_voltage", "3.324");
    mqtt.wait_for("bms/rack/online", "true");
    let at = |topic: &str| mqtt.position(|message| message.topic == topic).expect(topic);
    assert!(at(SOC) < at("bms/rack/online"));
}

#[test]
fn own_old_entities_are_cleared_and_foreign_ones_kept() {
    let broker = Mosquitto::start();
    let own = "homeassistant/sensor/rack/cell_17_voltage/config";
    let foreign = [
        ("homeassistant/sensor/rack/other/config", r#"{"origin":{"name":"zigbee2mqtt"}}"#),
        ("homeassistant/sensor/rack/plain/config", r#"{"state_topic":"x"}"#),
        ("homeassistant/sensor/rack9/cell_17_voltage/config", OWN),
    ];
    broker.publish(own, OWN, true);
    broker.publish("bms/rack/cell_17_voltage", "3.3", true);
    for (topic, payload) in foreign {
        broker.publish(topic, payload, true);
    }
    let mqtt = broker.subscribe();
    let sink = TestSink::start(&broker);
    mqtt.wait_for("bms/rack/online", "false");
    assert!(is_retained(&broker, own), "kept until the battery is read");
    sink.read(pack(16));
    mqtt.wait_for(own, "");
    mqtt.wait_for("bms/rack/cell_17_voltage", "");
    mqtt.wait_for("bms/rack/online", "true");
    for (topic, _) in foreign {
        assert!(is_retained(&broker, topic), "{topic}");
    }
}

fn is_retained(broker: &Mosquitto, topic: &str) -> bool {
    broker.retained().iter().any(|message| message.topic == topic)
}

fn run(broker: &Mosquitto, mqtt: &Subscriber, format: Discovery) -> TestSink {
    let sink = TestSink::with_discovery(broker, format);
    sink.read(pack(16));
    let sink = sink.run();
    mqtt.wait_for(BRIDGE, "true");
    sink
}

/// Runs the sink with one format, stops it, and runs it with another.
fn change_format(broker: &Mosquitto, mqtt: &Subscriber, from: Discovery, to: Discovery) {
    run(broker, mqtt, from).stop();
    mqtt.wait_for(BRIDGE, "false");
    mqtt.clear();
    run(broker, mqtt, to).stop();
}

fn position(mqtt: &Subscriber, topic: &str, text: &str) -> usize {
    let found = mqtt.position(|message| message.topic == topic && message.payload.contains(text));
    found.unwrap_or_else(|| panic!("no {text} on {topic}"))
}

fn position_of_clear(mqtt: &Subscriber, topic: &str) -> usize {
    let found = mqtt.position(|message| message.topic == topic && message.payload.is_empty());
    found.unwrap_or_else(|| panic!("{topic} is not cleared"))
}

#[test]
fn entities_migrate_to_a_device() {
    let broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    change_format(&broker, &mqtt, Discovery::Entity, Discovery::Device);
    let cleared = position_of_clear(&mqtt, SOC);
    assert!(position(&mqtt, SOC, "migrate_discovery") < cleared);
    assert!(cleared < position(&mqtt, DEVICE, "components"));
    let retained = broker.retained();
    let device = retained.iter().find(|message| message.topic == DEVICE).expect("the device");
    assert!(device.payload.contains("\"unique_id\":\"rack_soc\""));
    assert!(!is_retained(&broker, SOC));
}

#[test]
fn device_migrates_to_entities() {
    let broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    change_format(&broker, &mqtt, Discovery::Device, Discovery::Entity);
    let cleared = position_of_clear(&mqtt, DEVICE);
    assert!(position(&mqtt, DEVICE, "migrate_discovery") < cleared);
    assert!(cleared < position(&mqtt, SOC, "\"unique_id\":\"rack_soc\""));
}

#[test]
fn discovery_off_clears_all_entities() {
    let broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    change_format(&broker, &mqtt, Discovery::Entity, Discovery::Off);
    let retained = broker.retained();
    assert!(retained.iter().all(|message| !message.topic.starts_with("homeassistant/")));
}
