//! What users of the older container rely on: its environment, topics and values.

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
fn legacy_environment_yields_the_legacy_topics() {
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
        let config = mqtt.wait_on(&topic);
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
    mqtt.wait("the meta data", |message| {
        message.topic == format!("{BASE}/meta") && message.payload.contains("serial_number")
    });

    packs.set_faults("alarm=cell_overvoltage");
    mqtt.wait_for(&format!("{BASE}/alarm_cell_overvoltage"), "ON");
    mqtt.wait("the alarm", |message| {
        message.topic == format!("{BASE}/alarms")
            && message.payload.contains(r#""name":"cell_overvoltage""#)
    });
    mqtt.wait_for(&format!("{BASE}/problem"), "ON");

    // With fewer cells, the entities of the others are removed.
    packs.set_faults("cells=15");
    mqtt.wait_for("homeassistant/sensor/bms_lifepo4_01/cell_16_voltage/config", "");
    assert!(service.is_running());
    assert!(!service.log().contains("mqtt_password"), "{}", service.log());
}
