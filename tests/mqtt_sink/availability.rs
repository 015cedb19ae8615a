//! The `online` topics when the program ends.

use std::time::{Duration, Instant};

use bms_reader::model::LinkState;

use crate::BRIDGE;
use crate::fixture::{self, TestSink, pack};
use crate::mosquitto::Mosquitto;

/// The program has two seconds to stop. The sink uses less than one, a busy machine may add to that, and a sink that
/// waits for its broker needs 30.
const STOP_LIMIT: Duration = Duration::from_secs(10);

#[test]
fn last_will_is_published_when_the_program_is_killed() {
    let (_broker, mqtt, sink) = fixture::start();
    mqtt.wait_for(BRIDGE, "true");
    sink.kill();
    mqtt.wait_for(BRIDGE, "false");
}

#[test]
fn stop_publishes_offline_and_disconnects() {
    let (broker, mqtt, sink) = fixture::start_and_read();
    mqtt.clear();
    sink.stop();
    mqtt.wait_for(BRIDGE, "false");
    assert_eq!(mqtt.payloads("bms/rack/online"), ["false"], "published before the bridge's own");
    // Mosquitto's log line for an end without a last will.
    broker.wait_for_log("Client bms-reader-rack disconnected.");
}

/// The sink may be the first task to run after a suspend.
#[test]
fn values_that_grew_old_in_a_suspend_are_offline() {
    let broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    let sink = TestSink::with_batteries(&broker, &["rack"]);
    sink.read_earlier("rack", pack(16), Duration::from_secs(91));
    sink.sleep_for(Duration::from_secs(91));
    let sink = sink.run();
    mqtt.wait_for(BRIDGE, "true");
    assert!(matches!(sink.link("rack"), LinkState::Offline { .. }), "{:?}", sink.link("rack"));
    assert_eq!(mqtt.payloads("bms/rack/online"), ["false"]);
}

#[test]
fn stop_publishes_offline_for_all_batteries() {
    let broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    let ids: Vec<String> = (0..20).map(|number| format!("pack{number}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let sink = TestSink::with_batteries(&broker, &ids);
    for id in &ids {
        sink.read_battery(id, pack(32));
    }
    let sink = sink.run();
    for id in &ids {
        mqtt.wait_for(&format!("bms/{id}/online"), "true");
        mqtt.wait_for(&format!("bms/{id}/cell_32_voltage"), "3.34");
    }
    sink.stop();
    for id in &ids {
        mqtt.wait_for(&format!("bms/{id}/online"), "false");
    }
}

#[test]
fn stop_does_not_wait_for_a_frozen_broker() {
    let (broker, _mqtt, sink) = fixture::start_and_read();
    broker.freeze();
    for _ in 0..50 {
        sink.read(pack(16));
    }
    let start = Instant::now();
    sink.stop();
    let elapsed = start.elapsed();
    broker.resume();
    assert!(elapsed < STOP_LIMIT, "{elapsed:?}");
}

#[test]
fn stop_does_not_wait_for_an_absent_broker() {
    let broker = Mosquitto::not_started();
    let sink = TestSink::start(&broker);
    let start = Instant::now();
    sink.stop();
    assert!(start.elapsed() < STOP_LIMIT);
}

/// A node of a cluster that was cut off sends the will of the old connection after the new one is up.
#[test]
fn late_will_of_an_earlier_connection_is_corrected() {
    let (broker, mqtt, _sink) = fixture::start_and_read();
    mqtt.wait_for(BRIDGE, "true");
    mqtt.clear();
    broker.publish(BRIDGE, "false", true);
    mqtt.wait_for(BRIDGE, "false");
    mqtt.wait_for(BRIDGE, "true");
    mqtt.wait_for("bms/rack/soc", "64.0");
}
