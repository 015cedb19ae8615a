//! Faults of a line: each has its error, and no wrong or repeated value is published.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::fixture::{Adapter, Packs, PublishedBattery, legacy_environment};
use crate::mosquitto::{Message, Mosquitto};

const ID: &str = "bms_lifepo4_01";

/// A battery that publishes all values at every read, so that a repeated old one would be seen.
fn start(port: &str) -> PublishedBattery {
    let broker = Mosquitto::start();
    let mut variables = legacy_environment(port, &broker);
    variables.extend([("MQTT_PUBLISH", "all".to_owned()), ("BMS_TIMEOUT", "0.5".to_owned())]);
    let battery = PublishedBattery::start(broker, ID, &variables);
    battery.wait_good();
    battery
}

#[test]
fn each_fault_has_its_error_and_publishes_no_value() {
    let packs = Packs::on_terminal(&[1, 2]);
    let battery = start(&packs.port);
    for (fault, kind) in [
        ("silence", "timeout"),
        ("checksum", "bad_checksum"),
        ("cut", "timeout"),
        ("foreign,silence", "timeout"),
        ("rtn=04", "bms_error"),
    ] {
        packs.set_faults(fault);
        battery.mqtt.clear();
        let failed = battery.wait_error(kind);
        assert_eq!(failed["got"]["cell_info"], false);
        assert!(failed["error"]["hint"].as_str().is_some_and(|hint| !hint.is_empty()));
        assert!(failed["status"]["last_update"].is_number(), "the last known status stays");
        // From the failed read on, nothing is repeated as if it were fresh.
        battery.mqtt.clear();
        battery.wait_error(kind);
        assert_eq!(battery.values(), [], "during {fault}");

        packs.set_faults("");
        battery.mqtt.clear();
        battery.wait_good();
    }
}

#[test]
fn valid_reply_is_found_among_noise() {
    let packs = Packs::on_terminal(&[1, 2]);
    let battery = start(&packs.port);
    for fault in ["echo", "noise", "foreign"] {
        packs.set_faults(fault);
        for _ in 0..2 {
            battery.mqtt.clear();
            battery.wait_good();
        }
    }
}

#[test]
fn random_faults_publish_no_wrong_value() {
    let packs = Packs::on_terminal(&[1, 2]);
    let battery = start(&packs.port);
    // The first reading has the live values only.
    battery.wait_reads(2);
    let good: BTreeMap<String, String> = battery.values().into_iter().collect();
    assert!(good.len() > 40, "{good:?}");
    packs.set_faults("checksum=0.3,cut=0.2,noise=0.3,foreign=0.3,echo=0.3,silence=0.1");
    battery.mqtt.clear();
    battery.wait_reads(8);
    let is_constant = |key: &str| !key.starts_with("energy_") && !key.starts_with("time_to_");
    for (key, value) in battery.values().into_iter().filter(|(key, _)| is_constant(key)) {
        assert_eq!(good.get(&key), Some(&value), "{key}");
    }
}

#[test]
fn unplugged_adapter_is_offline_until_plugged_in() {
    let mut adapter = Adapter::plugged_in();
    let mut battery = start(&adapter.port);
    battery.mqtt.wait_for(&battery.topic("online"), "true");
    battery.mqtt.clear();
    adapter.unplug();
    let failed = battery.wait_raw("a failed read", |raw| !raw["error"].is_null());
    let kind = failed["error"]["type"].as_str().unwrap();
    assert!(["disconnected", "port_not_found"].contains(&kind), "{kind}");
    battery.wait_error("port_not_found");
    // After three failed reads and 30 s it is offline.
    let online = battery.topic("online");
    let offline = |message: &Message| message.topic == online && message.payload == "false";
    battery.mqtt.wait_up_to(Duration::from_secs(60), offline).expect("offline");
    assert_eq!(battery.values(), [], "nothing old is repeated");
    adapter.plug_in();
    battery.mqtt.wait_for(&online, "true");
    assert!(battery.service.is_running());
    battery.service.assert_logged(1, "open again");
    battery.service.assert_logged(1, "answers again");
    // One for the port, one for offline.
    battery.service.assert_logged(2, "WARN");
}
