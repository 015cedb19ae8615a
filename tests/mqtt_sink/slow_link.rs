//! Links that carry a few kilobytes per second, or stop doing so.

use std::time::Duration;

use bms_reader::model::reading::Reading;
use bms_reader::model::units::CentiPercent;
use bms_reader::sink::mqtt::Discovery;

use crate::BRIDGE;
use crate::fixture::{TestSink, pack};
use crate::mosquitto::Mosquitto;
use crate::proxy::Proxy;

/// A sink whose every connection passes the proxy.
fn sink(proxy: &Proxy, broker: &Mosquitto, ids: &[&str]) -> TestSink {
    let mut sink = TestSink::with_batteries(broker, ids);
    sink.settings.port = proxy.port();
    sink.settings.discovery = Discovery::Entity;
    sink
}

fn with_soc(soc: i32) -> Reading {
    let mut reading = pack(16);
    reading.pack.soc = Some(CentiPercent(soc * 100));
    reading
}

#[test]
fn slow_link_is_not_taken_for_a_dead_one() {
    let broker = Mosquitto::start();
    let proxy = Proxy::to(broker.port());
    let mqtt = broker.subscribe();
    // Discovery alone takes several times the longest silence.
    proxy.throttle(12_000);
    let ids = ["a", "b", "c", "d", "e", "f", "g"];
    let mut sink = sink(&proxy, &broker, &ids);
    sink.settings.keep_alive = Duration::from_secs(5);
    for id in ids {
        sink.read_battery(id, pack(32));
    }
    let sink = sink.run();
    mqtt.wait_up_to(Duration::from_secs(120), |message| {
        message.topic == BRIDGE && message.payload == "true"
    })
    .expect("the sink comes online");
    assert_eq!(sink.broker_state().connections, 1, "{}", broker.log());
    assert!(proxy.upstream() > 120_000, "{}", proxy.upstream());
}

#[test]
fn discovery_is_not_repeated_after_a_reconnect() {
    let broker = Mosquitto::start();
    let proxy = Proxy::to(broker.port());
    let mqtt = broker.subscribe();
    let sink = sink(&proxy, &broker, &["rack", "shed"]).run();
    for id in ["rack", "shed"] {
        sink.read_battery(id, pack(16));
        mqtt.wait_for(&format!("bms/{id}/online"), "true");
    }
    mqtt.wait_for(BRIDGE, "true");
    // Let the announcements of both be acknowledged: each read is published after them.
    sink.read(with_soc(11));
    mqtt.wait_for("bms/rack/soc", "11.0");
    mqtt.clear();
    // Somebody deletes what one battery has announced last.
    let retained = broker.retained();
    let shed = retained
        .iter()
        .rfind(|m| m.topic.starts_with("homeassistant/") && m.topic.contains("/shed/"));
    assert!(shed.is_some());
    let topics: Vec<_> = retained
        .iter()
        .filter(|m| m.topic.contains("/shed/") && m.topic.ends_with("/config"))
        .collect();
    for message in &topics {
        broker.publish(&message.topic, "", true);
    }
    mqtt.clear();
    proxy.drop_connections();
    mqtt.wait_for(BRIDGE, "false");
    mqtt.wait_for(BRIDGE, "true");
    let repeated = |id: &str| {
        let part = format!("/{id}/");
        let is_config = |m: &crate::mosquitto::Message| {
            m.topic.contains(&part) && m.topic.ends_with("/config") && !m.payload.is_empty()
        };
        mqtt.all().iter().filter(|message| is_config(message)).count()
    };
    assert_eq!(repeated("rack"), 0, "the broker still has them");
    assert!(repeated("shed") >= topics.len(), "the broker has lost them");
    mqtt.wait_for("bms/rack/soc", "11.0");
}

#[test]
fn stalled_link_delivers_no_old_values() {
    let broker = Mosquitto::start();
    let proxy = Proxy::to(broker.port());
    let mqtt = broker.subscribe();
    let mut sink = sink(&proxy, &broker, &["rack"]);
    // Far more than the limit.
    sink.settings.keep_alive = Duration::from_secs(60);
    let sink = sink.run();
    sink.read(with_soc(50));
    mqtt.wait_for("bms/rack/soc", "50.0");
    mqtt.wait_for(BRIDGE, "true");
    proxy.stall(true);
    for soc in 51..=99 {
        sink.read(with_soc(soc));
    }
    sink.wait_until("a disconnect", |sink| !sink.broker_state().connected);
    sink.read(with_soc(100));
    proxy.stall(false);
    mqtt.wait_for("bms/rack/soc", "100.0");
    let late = mqtt.payloads("bms/rack/soc");
    // The proxy itself may hold what was sent before the link stalled.
    assert!(late.len() <= 10, "{late:?}");
}
