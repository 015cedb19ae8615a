//! Values from several reads and several batteries: energy counters, alarms, banks.

use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::fixture::{Packs, PublishedBattery, Service, borrowed, legacy_environment};
use crate::mosquitto::{Mosquitto, Subscriber};

const BASE: &str = "bms/bms_lifepo4_01";
const FLOWS: [&str; 2] = ["energy_charged", "energy_discharged"];

/// The published values of an energy counter.
fn counters(mqtt: &Subscriber, key: &str) -> Vec<f64> {
    let texts = mqtt.payloads(&format!("{BASE}/{key}"));
    texts.iter().map(|text| text.parse().expect("a number")).collect()
}

fn wait_growth(mqtt: &Subscriber, key: &str, from: f64) {
    mqtt.wait(&format!("more than {from} as {key}"), |message| {
        message.topic == format!("{BASE}/{key}") && message.payload.parse::<f64>().unwrap() > from
    });
}

#[test]
fn energy_counters_continue_from_retained_messages() {
    let broker = Mosquitto::start();
    let packs = Packs::on_terminal(&[1]);
    let power = i64::from(packs.state(1).current.0) * i64::from(packs.state(1).voltage.0);
    assert_ne!(power, 0, "the battery is at rest");
    let (moving, resting) = if power > 0 { (FLOWS[0], FLOWS[1]) } else { (FLOWS[1], FLOWS[0]) };
    broker.publish(&format!("{BASE}/{moving}"), "123.456", true);
    broker.publish(&format!("{BASE}/{resting}"), "7.5", true);
    let mqtt = broker.subscribe();
    mqtt.clear();
    let variables = legacy_environment(&packs.port, &broker);

    let mut service = Service::start(&borrowed(&variables));
    wait_growth(&mqtt, moving, 123.456);
    service.assert_logged(1, "energy counters continue from");
    service.kill();
    let kept = *counters(&mqtt, moving).last().expect("a counter");

    // Only the broker still has the counters.
    let service = Service::start(&borrowed(&variables));
    wait_growth(&mqtt, moving, kept);
    assert!(counters(&mqtt, moving).is_sorted(), "{:?}", counters(&mqtt, moving));
    assert!(counters(&mqtt, moving).iter().all(|kwh| (123.456..124.0).contains(kwh)));
    assert!(counters(&mqtt, resting).iter().all(|kwh| *kwh == 7.5));
    service.assert_logged(1, "energy counters continue from");
}

#[test]
fn impossible_counters_are_reported_once_with_the_remedy() {
    let (broker, packs) = (Mosquitto::start(), Packs::on_terminal(&[1]));
    for key in FLOWS {
        broker.publish(&format!("{BASE}/{key}"), "999999.5", true);
    }
    let variables = legacy_environment(&packs.port, &broker);
    let battery = PublishedBattery::start(broker, "bms_lifepo4_01", &variables);
    battery.wait_reads(3);
    let topic = battery.topic("cmd/config");
    let counters = r#"{"energy_charged_kwh": 1.5, "energy_discharged_kwh": 2.5}"#;
    battery.broker.publish(&topic, counters, false);
    battery.service.wait_for_log("energy counters set on request");
    battery.service.assert_logged(1, "impossible energy counters on the broker");
    battery.service.assert_logged(1, &format!("\"energy_discharged_kwh\": ...}} on {topic}"));
}

#[test]
fn energy_counters_start_at_zero_without_earlier_values() {
    let broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    let packs = Packs::on_terminal(&[1]);
    let service = Service::start(&borrowed(&legacy_environment(&packs.port, &broker)));
    for key in FLOWS {
        mqtt.wait_for(&format!("{BASE}/{key}"), "0.0");
    }
    service.assert_logged(1, "energy counters start at 0: no earlier values on the broker");
    drop(service);

    let without_broker = Service::start(&[("BMS_PORT", &packs.port), ("READ_INTERVAL", "1")]);
    without_broker.wait_for_log("energy counters start at 0: without MQTT");
    without_broker.wait_state("bms", "a counter", |state| {
        state["status"]["cell_info"]["energy_charged"] == 0.0
    });
}

#[test]
fn alarm_sends_one_event_at_its_start_and_one_at_its_end() {
    let broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    let packs = Packs::on_terminal(&[1]);
    let _reader = Service::start(&borrowed(&legacy_environment(&packs.port, &broker)));
    mqtt.wait_for(&format!("{BASE}/alarms"), "[]");
    packs.set_faults("alarm=cell_overvoltage");
    let event = format!("{BASE}/event");
    let started = mqtt.wait_on(&event);
    let event_json: Json = serde_json::from_str(&started.payload).unwrap();
    assert_eq!(
        (&event_json["event_type"], &event_json["name"]),
        (&json!("started"), &json!("cell_overvoltage"))
    );
    assert!(
        event_json["words"].as_str().unwrap().contains(": cell voltage high, now "),
        "{event_json}"
    );
    packs.set_faults("");
    mqtt.wait("the end", |message| message.topic == event && message.payload.contains("ended"));
    mqtt.wait_for(&format!("{BASE}/alarms"), "[]");
    assert_eq!(mqtt.payloads(&event).len(), 2);
    assert!(broker.retained().iter().all(|message| message.topic != event));
}

#[test]
fn configured_thresholds_raise_alarms() {
    let broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    let packs = Packs::on_terminal(&[1]);
    let mut variables = legacy_environment(&packs.port, &broker);
    variables.push(("ALARM_CELL_HIGH", "3.1".into()));
    variables.push(("ALARM_CELL_LOW", "off".into()));
    let _reader = Service::start(&borrowed(&variables));
    let alarms = mqtt.wait("the alarm", |message| {
        message.topic == format!("{BASE}/alarms") && message.payload.contains("limit_cell_high")
    });
    assert!(alarms.payload.contains("V (limit 3.1 V)"), "{}", alarms.payload);
    mqtt.wait_for(&format!("{BASE}/alarm_limit_cell_high"), "ON");
    mqtt.wait_for(&format!("{BASE}/alarm_limit_temp_high"), "OFF");
    mqtt.wait_for(&format!("{BASE}/problem"), "ON");
    assert!(mqtt.payloads(&format!("{BASE}/alarm_limit_cell_low")).is_empty(), "it is off");
}

#[test]
fn bank_publishes_totals_only_when_complete() {
    let broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    let packs = Packs::on_tcp(&[1, 2]);
    let port = format!("tcp://{}", packs.port.trim_start_matches("tcp://"));
    let device = |id: &str, address: u8| json!({"id": id, "type": "daren", "port": port, "slave_id": address, "timeout": 0.3});
    let devices = json!([device("left", 1), device("right", 2)]).to_string();
    let broker_port = broker.port().to_string();
    let banks = json!([{"id": "house", "members": ["left", "right"]}]).to_string();
    let service = Service::start(&[
        ("DEVICES", &devices),
        ("BANKS", &banks),
        ("READ_INTERVAL", "1"),
        ("MQTT_HOST", "127.0.0.1"),
        ("MQTT_PORT", &broker_port),
    ]);
    let milliamps: i32 = [1, 2].map(|address| packs.state(address).current.0).iter().sum();
    let current = bms_reader::model::Value::decimal(milliamps.into(), 3).to_string();
    mqtt.wait_for("bms/house/pack_current", &current);
    mqtt.wait_for("bms/house/members_missing", "none");
    mqtt.wait_for("bms/house/online", "true");
    mqtt.wait_on("bms/house/energy_charged");
    let config = "homeassistant/sensor/house/pack_current/config";
    mqtt.wait_on(config);

    packs.set_faults("silence@2");
    // After three failed reads and 30 s it is offline.
    let missing = |message: &crate::mosquitto::Message| {
        message.topic == "bms/house/members_missing" && message.payload == "right"
    };
    mqtt.wait_up_to(Duration::from_secs(90), missing).expect("right is missing");
    mqtt.wait_for("bms/house/pack_current", "");
    assert_eq!(mqtt.payloads("bms/house/pack_current"), [current.as_str(), "None", ""]);
    service.assert_logged(1, "house: missing: right");
    packs.set_faults("");
    mqtt.wait("the complete bank", |message| {
        message.topic == "bms/house/members_missing"
            && message.payload == "none"
            && !message.retained
    });
    service.wait_for_log("house: complete again");
    mqtt.clear();
    broker.publish("bms/house/cmd/read", "now", false);
    mqtt.wait_on("bms/left/raw");
}
