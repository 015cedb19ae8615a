//! What becomes of several reads and several batteries: energy, alarms, banks.

use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::mosquitto::{Mosquitto, Subscriber};
use crate::rig::{Packs, Reader, borrowed, seed_environment};

const BASE: &str = "bms/bms_lifepo4_01";
const FLOWS: [&str; 2] = ["energy_charged", "energy_discharged"];

/// The counters that were published, in their order.
fn counters(ear: &Subscriber, key: &str) -> Vec<f64> {
    let texts = ear.on(&format!("{BASE}/{key}"));
    texts.iter().map(|text| text.parse().expect("a number")).collect()
}

fn wait_growth(ear: &Subscriber, key: &str, from: f64) {
    ear.wait(&format!("more than {from} as {key}"), |it| {
        it.topic == format!("{BASE}/{key}") && it.payload.parse::<f64>().unwrap() > from
    });
}

#[test]
fn energy_goes_on_from_nothing_but_the_retained_messages() {
    let broker = Mosquitto::start();
    let packs = Packs::on_terminal(&[1]);
    let power = i64::from(packs.state(1).current.0) * i64::from(packs.state(1).voltage.0);
    assert_ne!(power, 0, "a battery at rest shows nothing");
    let (moving, resting) = if power > 0 { (FLOWS[0], FLOWS[1]) } else { (FLOWS[1], FLOWS[0]) };
    broker.publish(&format!("{BASE}/{moving}"), "123.456", true);
    broker.publish(&format!("{BASE}/{resting}"), "7.5", true);
    let ear = broker.subscribe();
    ear.clear();
    let variables = seed_environment(&packs.port, &broker);

    let mut reader = Reader::start(&borrowed(&variables));
    wait_growth(&ear, moving, 123.456);
    assert_eq!(reader.logged("energy counters continue from"), 1, "{}", reader.log());
    reader.kill();
    let kept = *counters(&ear, moving).last().expect("a counter");

    // Nothing of the program is left but what the broker keeps.
    let reader = Reader::start(&borrowed(&variables));
    wait_growth(&ear, moving, kept);
    assert!(counters(&ear, moving).is_sorted(), "{:?}", counters(&ear, moving));
    assert!(counters(&ear, moving).iter().all(|kwh| (123.456..124.0).contains(kwh)));
    assert!(counters(&ear, resting).iter().all(|kwh| *kwh == 7.5));
    assert_eq!(reader.logged("energy counters continue from"), 1, "{}", reader.log());
}

#[test]
fn energy_starts_at_zero_where_nobody_kept_it_and_the_log_says_so() {
    let broker = Mosquitto::start();
    let ear = broker.subscribe();
    let packs = Packs::on_terminal(&[1]);
    let reader = Reader::start(&borrowed(&seed_environment(&packs.port, &broker)));
    for key in FLOWS {
        ear.wait_for(&format!("{BASE}/{key}"), "0.0");
    }
    assert_eq!(
        reader.logged("energy counters start at 0: no earlier values on the broker"),
        1,
        "{}",
        reader.log()
    );
    drop(reader);

    let alone = Reader::start(&[("BMS_PORT", &packs.port), ("READ_INTERVAL", "1")]);
    alone.wait_log("energy counters start at 0: without MQTT");
    alone.wait_state("bms", "a counter", |it| it["status"]["cell_info"]["energy_charged"] == 0.0);
}

#[test]
fn an_alarm_fires_one_event_when_it_starts_and_one_when_it_ends() {
    let broker = Mosquitto::start();
    let ear = broker.subscribe();
    let packs = Packs::on_terminal(&[1]);
    let _reader = Reader::start(&borrowed(&seed_environment(&packs.port, &broker)));
    ear.wait_for(&format!("{BASE}/alarms"), "[]");
    packs.suffer("alarm=cell_overvoltage");
    let event = format!("{BASE}/event");
    let started = ear.wait("the start", |it| it.topic == event);
    let told: Json = serde_json::from_str(&started.payload).unwrap();
    assert_eq!(
        (&told["event_type"], &told["name"]),
        (&json!("started"), &json!("cell_overvoltage"))
    );
    assert!(told["words"].as_str().unwrap().starts_with("Cell overvoltage: cell "), "{told}");
    packs.suffer("");
    ear.wait("the end", |it| it.topic == event && it.payload.contains("ended"));
    ear.wait_for(&format!("{BASE}/alarms"), "[]");
    assert_eq!(ear.on(&event).len(), 2);
    assert!(broker.retained().iter().all(|it| it.topic != event));
}

#[test]
fn limits_of_ours_are_alarms_like_those_of_the_battery() {
    let broker = Mosquitto::start();
    let ear = broker.subscribe();
    let packs = Packs::on_terminal(&[1]);
    let mut variables = seed_environment(&packs.port, &broker);
    variables.push(("ALARM_CELL_HIGH", "3.1".into()));
    variables.push(("ALARM_CELL_LOW", "off".into()));
    let _reader = Reader::start(&borrowed(&variables));
    let alarms = ear.wait("the alarm", |it| {
        it.topic == format!("{BASE}/alarms") && it.payload.contains("limit_cell_high")
    });
    assert!(alarms.payload.contains("V, limit 3.1 V"), "{}", alarms.payload);
    ear.wait_for(&format!("{BASE}/alarm_limit_cell_high"), "ON");
    ear.wait_for(&format!("{BASE}/alarm_limit_temp_high"), "OFF");
    ear.wait_for(&format!("{BASE}/problem"), "ON");
    assert!(ear.on(&format!("{BASE}/alarm_limit_cell_low")).is_empty(), "it is off");
}

#[test]
fn a_bank_is_one_more_battery_and_never_a_smaller_one() {
    let broker = Mosquitto::start();
    let ear = broker.subscribe();
    let packs = Packs::on_tcp(&[1, 2]);
    let port = format!("tcp://{}", packs.port.trim_start_matches("tcp://"));
    let device = |id: &str, address: u8| json!({"id": id, "type": "daren", "port": port, "slave_id": address, "timeout": 0.3});
    let devices = json!([device("left", 1), device("right", 2)]).to_string();
    let broker_port = broker.port().to_string();
    let banks = json!([{"id": "house", "members": ["left", "right"]}]).to_string();
    let reader = Reader::start(&[
        ("DEVICES", &devices),
        ("BANKS", &banks),
        ("READ_INTERVAL", "1"),
        ("MQTT_HOST", "127.0.0.1"),
        ("MQTT_PORT", &broker_port),
    ]);
    let milliamps: i32 = [1, 2].map(|address| packs.state(address).current.0).iter().sum();
    let current = bms_reader::model::Value::decimal(milliamps.into(), 3).to_string();
    ear.wait_for("bms/house/pack_current", &current);
    ear.wait_for("bms/house/members_missing", "none");
    ear.wait_for("bms/house/online", "true");
    ear.wait("its energy", |it| it.topic == "bms/house/energy_charged");
    let config = "homeassistant/sensor/house/pack_current/config";
    ear.wait("its announcement", |it| it.topic == config);

    packs.suffer("silence@2");
    // Three failures and thirty seconds.
    let missing = |it: &crate::mosquitto::Heard| {
        it.topic == "bms/house/members_missing" && it.payload == "right"
    };
    ear.wait_up_to(Duration::from_secs(90), missing).expect("right is missing");
    ear.wait_for("bms/house/pack_current", "");
    assert_eq!(ear.on("bms/house/pack_current"), [current.as_str(), "None", ""]);
    assert_eq!(reader.logged("house: missing: right"), 1, "{}", reader.log());
    packs.suffer("");
    ear.wait("it is complete again", |it| {
        it.topic == "bms/house/members_missing" && it.payload == "none" && !it.retained
    });
    reader.wait_log("house: complete again");
    ear.clear();
    broker.publish("bms/house/cmd/read", "now", false);
    ear.wait("a read of a member", |it| it.topic == "bms/left/raw");
}
