//! What users of the older container rely on: their environment block, topics and values.

use std::time::Duration;

use bms_reader::model::Value;
use serde_json::Value as Json;

use crate::fixture::{Packs, Service, borrowed, legacy_environment};
use crate::mosquitto::Mosquitto;

const BASE: &str = "bms/bms_lifepo4_01";
const KEYS: [&str; 11] = [
    "soc",
    "pack_voltage",
    "pack_current",
    "remaining_capacity",
    "full_capacity",
    "cycle_count",
    "ambient_temp",
    "mos_temp",
    "min_cell_voltage",
    "max_cell_voltage",
    "cell_voltage_diff",
];

fn text(value: impl Into<Value>) -> String {
    value.into().to_string()
}

#[test]
fn the_old_environment_block_gives_the_old_topics_and_more() {
    let broker = Mosquitto::with_login("mqtt_user", "mqtt_password");
    let mqtt = broker.subscribe();
    let packs = Packs::on_terminal(&[1]);
    let mut service = Service::start(&borrowed(&legacy_environment(&packs.port, &broker)));
    mqtt.wait_for(&format!("{BASE}/online"), "true");

    let pack = packs.state(1);
    let low = pack.cells.iter().min().copied().unwrap();
    let high = pack.cells.iter().max().copied().unwrap();
    let expected = [
        text(pack.soc),
        text(pack.voltage),
        text(pack.current),
        text(pack.remaining),
        text(pack.full),
        pack.cycles.to_string(),
        text(pack.ambient),
        text(pack.mosfet),
        text(low),
        text(high),
        text(Value::decimal((high.0 - low.0).into(), 3)),
    ];
    for (key, value) in KEYS.iter().zip(&expected) {
        mqtt.wait_for(&format!("{BASE}/{key}"), value);
        let topic = format!("homeassistant/sensor/bms_lifepo4_01/{key}/config");
        let config = mqtt.wait(&topic, |it| it.topic == topic);
        let config: Json = serde_json::from_str(&config.payload).unwrap();
        assert_eq!(config["state_topic"], format!("{BASE}/{key}"));
        assert_eq!(config["unique_id"], format!("bms_lifepo4_01_{key}"));
        assert_eq!(config["availability_mode"], "all");
    }

    for (index, cell) in pack.cells.iter().enumerate() {
        mqtt.wait_for(&format!("{BASE}/cell_{}_voltage", index + 1), &text(*cell));
    }
    for (index, sensor) in pack.sensors.iter().enumerate() {
        mqtt.wait_for(&format!("{BASE}/temp_{}", index + 1), &text(*sensor));
    }
    mqtt.wait_for(&format!("{BASE}/charging_enabled"), "ON");
    mqtt.wait_for(&format!("{BASE}/discharging_enabled"), "ON");
    mqtt.wait_for(&format!("{BASE}/alarm_cell_overvoltage"), "OFF");
    mqtt.wait_for(&format!("{BASE}/alarms"), "[]");
    mqtt.wait_for(&format!("{BASE}/problem"), "OFF");
    mqtt.wait("the meta data", |it| {
        it.topic == format!("{BASE}/meta") && it.payload.contains("serial_number")
    });

    packs.set_faults("alarm=cell_overvoltage");
    mqtt.wait_for(&format!("{BASE}/alarm_cell_overvoltage"), "ON");
    mqtt.wait("the alarm in words", |it| {
        it.topic == format!("{BASE}/alarms") && it.payload.contains(r#""name":"cell_overvoltage""#)
    });
    mqtt.wait_for(&format!("{BASE}/problem"), "ON");

    // Another cell count: the entities that are gone are removed.
    packs.set_faults("cells=15");
    mqtt.wait_for("homeassistant/sensor/bms_lifepo4_01/cell_16_voltage/config", "");
    assert!(service.is_running());
    assert!(!service.log().contains("mqtt_password"), "{}", service.log());
}

#[test]
fn a_stop_says_goodbye_and_ends_with_success() {
    let broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    let packs = Packs::on_terminal(&[1]);
    let mut service = Service::start(&borrowed(&legacy_environment(&packs.port, &broker)));
    mqtt.wait_for(&format!("{BASE}/online"), "true");
    service.signal("-TERM");
    let status = service.wait_for_exit();
    assert_eq!(status.code(), Some(0), "{}", service.log());
    mqtt.wait_for(&format!("{BASE}/online"), "false");
    mqtt.wait_for("bms/bridge/bms-reader-bms_lifepo4_01/online", "false");
}

#[test]
fn a_killed_program_is_reported_by_the_brokers_will() {
    let broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    let packs = Packs::on_terminal(&[1]);
    let mut service = Service::start(&borrowed(&legacy_environment(&packs.port, &broker)));
    mqtt.wait_for(&format!("{BASE}/online"), "true");
    mqtt.wait_for("bms/bridge/bms-reader-bms_lifepo4_01/online", "true");
    service.kill();
    mqtt.wait_for("bms/bridge/bms-reader-bms_lifepo4_01/online", "false");
}

#[test]
fn a_frozen_broker_holds_up_neither_reads_nor_the_stop() {
    let broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    let packs = Packs::on_terminal(&[1]);
    let mut service = Service::start(&borrowed(&legacy_environment(&packs.port, &broker)));
    mqtt.wait_for(&format!("{BASE}/online"), "true");
    broker.freeze();
    let first = service.wait_state("bms_lifepo4_01", "a read", |state| state["error"].is_null());
    let time = first["status"]["last_update"].as_f64().unwrap();
    service.wait_state("bms_lifepo4_01", "three more reads", |state| {
        state["status"]["last_update"].as_f64().unwrap() > time + 2.5
    });
    service.signal("-TERM");
    let status = service.wait_for_exit();
    assert_eq!(status.code(), Some(0));
    broker.thaw();
}
