//! Connections that end, and brokers that come and go.

use std::time::{Duration, Instant};

use bms_reader::model::Secret;
use bms_reader::sink::mqtt::Discovery;

use crate::BRIDGE;
use crate::fixture::{TestSink, pack};
use crate::mosquitto::Mosquitto;

#[test]
fn restarted_broker_receives_everything_again() {
    let mut broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    let sink = TestSink::start(&broker);
    sink.read(pack(16));
    mqtt.wait_for("bms/rack/online", "true");
    broker.stop();
    sink.read(pack(15));
    broker.restart();
    let mqtt = broker.subscribe();
    mqtt.wait_for("bms/rack/online", "true");
    mqtt.wait_for("bms/rack/cell_15_voltage", "3.323");
    mqtt.wait_for(BRIDGE, "true");
    let retained = broker.retained();
    let has = |topic: &str| retained.iter().any(|m| m.topic == topic && !m.payload.is_empty());
    assert!(has("homeassistant/sensor/rack/cell_15_voltage/config"));
    assert!(has(BRIDGE));
    assert!(!has("bms/rack/cell_16_voltage"));
}

#[test]
fn restarted_broker_receives_no_values_of_an_offline_battery() {
    let mut broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    let sink = TestSink::start(&broker);
    sink.read(pack(16));
    mqtt.wait_for("bms/rack/online", "true");
    sink.set_offline();
    mqtt.wait_for("bms/rack/online", "false");
    assert_eq!(mqtt.payloads("bms/rack/soc"), ["64.0"], "the value is not cleared");
    broker.restart();
    let mqtt = broker.subscribe();
    // The bridge is published after all values.
    mqtt.wait_for(BRIDGE, "true");
    assert_eq!(mqtt.payloads("bms/rack/online"), ["false"]);
    assert!(!mqtt.payloads("bms/rack/meta").is_empty());
    assert!(!mqtt.payloads("bms/rack/read_errors").is_empty());
    assert!(mqtt.payloads("bms/rack/soc").is_empty());
}

#[test]
fn broker_that_starts_later_is_found() {
    let mut broker = Mosquitto::not_started();
    let sink = TestSink::start(&broker);
    sink.read(pack(16));
    broker.restart();
    broker.subscribe().wait_for("bms/rack/online", "true");
}

#[test]
fn frozen_broker_is_abandoned_and_reconnected() {
    let broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    let mut sink = TestSink::with_discovery(&broker, Discovery::Entity);
    sink.settings.keep_alive = Duration::from_secs(1);
    let sink = sink.run();
    sink.read(pack(16));
    mqtt.wait_for("bms/rack/online", "true");
    broker.freeze();
    sink.wait_until("a disconnect", |sink| !sink.broker_state().connected);
    let mut changed = pack(16);
    changed.pack.cycles = Some(77);
    sink.read(changed);
    broker.resume();
    mqtt.wait_for("bms/rack/cycle_count", "77");
    mqtt.wait_for(BRIDGE, "true");
    assert!(sink.broker_state().connections >= 2, "{}", broker.log());
}

#[test]
fn refused_login_is_not_retried_at_once() {
    let broker = Mosquitto::with_login("reader", "right");
    let mut sink = TestSink::with_discovery(&broker, Discovery::Entity);
    sink.settings.login = Some(("reader".into(), Secret::new("wrong")));
    let sink = sink.run();
    broker.wait_for_log("disconnected, not authorised");
    sink.wait_until("an error", |sink| sink.broker_state().error.is_some());
    sink.stop();
    let refusals = broker.log().matches("disconnected, not authorised").count();
    assert_eq!(refusals, 1, "{}", broker.log());
}

#[test]
fn correct_login_is_accepted() {
    let broker = Mosquitto::with_login("reader", "right");
    let mut sink = TestSink::with_discovery(&broker, Discovery::Entity);
    sink.settings.login = Some(("reader".into(), Secret::new("right")));
    let mqtt = broker.subscribe();
    let _sink = sink.run();
    mqtt.wait_for(BRIDGE, "true");
}

#[test]
fn duplicate_client_ids_do_not_reconnect_in_a_tight_loop() {
    let broker = Mosquitto::start();
    let start = Instant::now();
    let (first, _second) = (TestSink::start(&broker), TestSink::start(&broker));
    let connections = || broker.log().matches(" as bms-reader-rack ").count();
    first.wait_until("five connections", |_| connections() >= 5);
    // Each disconnects the other: two pauses of at least half a second, then one of a second.
    assert!(start.elapsed() >= Duration::from_secs(2), "{}", broker.log());
}
