//! Each start and end of an alarm is one event, whatever happens to the connection.

use std::time::Duration;

use bms_reader::model::{Alarm, Reading};
use bms_reader::sink::mqtt::Discovery;

use crate::fixture::{TestSink, pack};
use crate::mosquitto::{Mosquitto, Subscriber};
use crate::proxy::Proxy;
use crate::{BRIDGE, EVENT};

fn pack_with_alarm() -> Reading {
    let mut reading = pack(16);
    reading.alarms.note(Alarm::CellOvervoltage, true);
    reading
}

fn wait_for_event(mqtt: &Subscriber, event_type: &str) {
    mqtt.wait(event_type, |message| message.topic == EVENT && message.payload.contains(event_type));
}

/// Waits until everything is published and handled, including alarm events: they come last, and a
/// command is answered after them.
fn wait_until_published(broker: &Mosquitto, mqtt: &Subscriber) {
    mqtt.wait_for("bms/rack/cell_16_voltage", "3.324");
    broker.publish("bms/rack/cmd/config", "nonsense", false);
    mqtt.wait("a reply", |message| message.topic == "bms/rack/cmd/config/result");
}

/// A sink that has published the start of an alarm, and received the acknowledgement.
fn sink_with_alarm(broker: &Mosquitto, mqtt: &Subscriber) -> TestSink {
    let sink = TestSink::start(broker);
    sink.read(pack(16));
    mqtt.wait_for("bms/rack/online", "true");
    sink.read(pack_with_alarm());
    wait_for_event(mqtt, "started");
    mqtt.wait("the list of alarms", |message| {
        message.topic == "bms/rack/alarms" && message.payload.contains("3.324 V")
    });
    wait_until_published(broker, mqtt);
    mqtt.clear();
    sink
}

#[test]
fn alarm_has_a_start_and_an_end_event() {
    let broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    let sink = sink_with_alarm(&broker, &mqtt);
    sink.read(pack(16));
    wait_for_event(&mqtt, "ended");
}

#[test]
fn home_assistant_start_repeats_no_event() {
    let broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    let _sink = sink_with_alarm(&broker, &mqtt);
    broker.publish("homeassistant/status", "online", false);
    wait_until_published(&broker, &mqtt);
    assert!(mqtt.payloads(EVENT).is_empty());
}

#[test]
fn program_restart_repeats_no_event() {
    let broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    sink_with_alarm(&broker, &mqtt).stop();
    mqtt.wait_for(BRIDGE, "false");
    mqtt.clear();
    let sink = TestSink::with_discovery(&broker, Discovery::Entity);
    sink.read(pack_with_alarm());
    let _sink = sink.run();
    wait_until_published(&broker, &mqtt);
    assert!(mqtt.payloads(EVENT).is_empty(), "the list of alarms is retained");
}

#[test]
fn broker_restart_repeats_no_event() {
    let mut broker = Mosquitto::start();
    let _sink = sink_with_alarm(&broker, &broker.subscribe());
    broker.restart();
    let mqtt = broker.subscribe();
    wait_until_published(&broker, &mqtt);
    assert!(mqtt.payloads(EVENT).is_empty());
}

#[test]
fn event_lost_with_a_dead_connection_is_published_on_the_next() {
    let broker = Mosquitto::start();
    let proxy = Proxy::to(broker.port());
    let mqtt = broker.subscribe();
    let mut sink = TestSink::with_discovery(&broker, Discovery::Entity);
    sink.settings.port = proxy.port();
    sink.settings.keep_alive = Duration::from_secs(1);
    let sink = sink.run();
    sink.read(pack(16));
    mqtt.wait_for(BRIDGE, "true");
    mqtt.wait_for("bms/rack/online", "true");
    mqtt.clear();
    proxy.cut();
    sink.read(pack_with_alarm());
    wait_for_event(&mqtt, "started");
    let bridge = mqtt.position(|message| message.topic == BRIDGE && message.payload == "true");
    let event = mqtt.position(|message| message.topic == EVENT);
    assert!(bridge.expect("online") < event.expect("an event"), "Home Assistant drops others");
    assert_eq!(mqtt.payloads(EVENT).len(), 1);
}
