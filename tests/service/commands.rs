//! Commands over MQTT, and messages of others on their topics.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::fixture::{Packs, PublishedBattery, Service, legacy_environment, parse};
use crate::mosquitto::Mosquitto;
use crate::proxy::Proxy;

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

#[test]
fn too_large_message_is_named_with_its_limit() {
    let (packs, broker) = (Packs::on_terminal(&[1]), Mosquitto::start());
    let command = format!("bms/{ID}/cmd/read");
    let topics = [("homeassistant/status", 64), (&command, 4096)];
    for (topic, _) in topics {
        broker.publish_large(topic, &"x".repeat(1_100_000));
    }
    let variables = legacy_environment(&packs.port, &broker);
    let battery = PublishedBattery::start(broker, ID, &variables);
    battery.mqtt.wait_for(&battery.topic("online"), "true");
    let log = &battery.service;
    for (topic, limit) in topics {
        log.assert_logged(1, &format!("of 1100000 bytes on {topic}: at most {limit} bytes"));
    }
    // A lost connection would lead to the hint that another client has the same ID.
    log.assert_logged(1, "MQTT: connected to");
    assert_eq!(log.logged("connected") + log.logged("another client"), 1, "{}", log.log());
}

#[test]
fn flood_of_commands_is_bounded_on_the_bus_and_in_the_log() {
    const ADDRESSES: [u8; 3] = [1, 2, 3];
    /// Without a limit the bus carries more reads in this time than the limit allows.
    const FLOOD: Duration = Duration::from_secs(15);
    let (packs, broker) = (Packs::on_tcp(&ADDRESSES), Mosquitto::start());
    let bus = Proxy::to(packs.port.rsplit(':').next().unwrap().parse().unwrap());
    let port = format!("tcp://127.0.0.1:{}", bus.port());
    let devices = ADDRESSES.map(|address| {
        json!({"id": format!("pack{address}"), "type": "daren", "port": port,
               "slave_id": address, "interval": 3600, "timeout": 5})
    });
    let mqtt = broker.subscribe();
    let service = Service::start(&[
        ("DEVICES", &json!(devices).to_string()),
        ("MQTT_HOST", "127.0.0.1"),
        ("MQTT_PORT", &broker.port().to_string()),
    ]);
    for address in ADDRESSES {
        mqtt.wait_for(&format!("bms/pack{address}/online"), "true");
    }
    // What one read sends to the bus.
    let first = bus.upstream();
    broker.publish("bms/pack1/cmd/read", "", false);
    let reads = |state: &serde_json::Value| state["batteries"][0]["reads"].as_u64();
    service.wait_json("/api/overview", "a read", |state| reads(state) == Some(2));
    let (began, before) = (Instant::now(), bus.upstream());
    while began.elapsed() < FLOOD {
        for address in ADDRESSES {
            broker.publish_many(&format!("bms/pack{address}/cmd/read"), "x", 2000);
        }
    }
    for address in ADDRESSES {
        broker.publish(&format!("bms/pack{address}/cmd/config"), "{\"paused\": false}", false);
        mqtt.wait_on(&format!("bms/pack{address}/cmd/config/result"));
    }
    let sent = (bus.upstream() - before) as f64 / (before - first) as f64;
    let (lines, seconds) = (service.logged(" WARN "), began.elapsed().as_secs_f64());
    // Five at once and one every two seconds for each battery, and one that waited for its turn.
    let allowed = ADDRESSES.len() as f64 * (5.0 + 1.0 + seconds / 2.0);
    assert!((3.0..=allowed).contains(&sent), "{sent} of {allowed} reads in {seconds} s");
    // Three of a kind at once and one per minute: refusals of each battery, overflow, failed reads.
    let allowed = (ADDRESSES.len() + 2) as f64 * (3.0 + 1.0 + seconds / 60.0);
    assert!((1.0..=allowed).contains(&(lines as f64)), "{lines} lines:\n{}", service.log());
}
