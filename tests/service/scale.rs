//! A long outage of the broker, and many batteries.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::fixture::{Packs, Service, borrowed, legacy_environment};
use crate::mosquitto::Mosquitto;

const ID: &str = "bms_lifepo4_01";
const BASE: &str = "bms/bms_lifepo4_01";
/// By how much the memory of a process may grow without a leak.
const SLACK: u64 = 1 << 20;

#[test]
fn restarted_broker_gets_everything_again() {
    let mut broker = Mosquitto::start();
    let packs = Packs::on_terminal(&[1]);
    let service = Service::start(&borrowed(&legacy_environment(&packs.port, &broker)));
    let mqtt = broker.subscribe();
    mqtt.wait_for(&format!("{BASE}/online"), "true");
    drop(mqtt);
    let last_update = |state: &Json| state["status"]["last_update"].as_f64().unwrap_or_default();
    let before = last_update(&service.wait_state(ID, "a state", |state| state["error"].is_null()));
    let memory = service.memory();
    broker.stop();
    service.wait_state(ID, "reads go on", |state| last_update(state) > before + 10.0);
    assert!(service.memory() < memory + SLACK, "from {memory} to {} bytes", service.memory());

    broker.restart();
    let mqtt = broker.subscribe();
    let topic = "homeassistant/sensor/bms_lifepo4_01/soc/config";
    mqtt.wait_on(topic);
    mqtt.wait_for(&format!("{BASE}/online"), "true");
    mqtt.wait_for("bms/bridge/bms-reader-bms_lifepo4_01/online", "true");
    mqtt.wait_on(&format!("{BASE}/cell_16_voltage"));
    let lines = service.logged("MQTT:");
    assert_eq!(lines, 3 + service.logged("refused"), "few lines in the log:\n{}", service.log());
}

#[test]
fn sixteen_packs_on_one_bus_are_read() {
    let broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    let addresses: Vec<u8> = (0..16).collect();
    let packs = Packs::on_terminal(&addresses);
    let devices: Vec<_> = addresses
        .iter()
        .map(|address| {
            json!({"id": format!("pack{address}"), "type": "daren", "port": packs.port,
                   "slave_id": address, "interval": 5})
        })
        .collect();
    let service = Service::start(&[
        ("DEVICES", &json!(devices).to_string()),
        ("MQTT_HOST", "127.0.0.1"),
        ("MQTT_PORT", &broker.port().to_string()),
    ]);
    for address in addresses {
        let soc = bms_reader::model::Value::from(packs.state(address).soc).to_string();
        let wanted = format!("bms/pack{address}/soc");
        let limit = Duration::from_secs(60);
        mqtt.wait_up_to(limit, |message| message.topic == wanted && message.payload == soc)
            .unwrap_or_else(|| panic!("{wanted} did not come:\n{}", service.log()));
    }
    let (status, all) = service.get("/api/devices").unwrap();
    assert_eq!((status, all.as_array().unwrap().len()), (200, 16));
    assert!(all.as_array().unwrap().iter().all(|state| state["error"].is_null()), "{all}");
}

#[test]
fn sixty_four_lines_run_in_one_process() {
    let packs: Vec<Packs> = (0..64).map(|_| Packs::on_tcp(&[1])).collect();
    let devices: Vec<_> = packs
        .iter()
        .enumerate()
        .map(|(number, packs)| {
            json!({"id": format!("line{number}"), "type": "daren", "port": packs.port,
                   "slave_id": 1, "interval": 2})
        })
        .collect();
    let service = Service::start(&[("DEVICES", &json!(devices).to_string())]);
    let ids: BTreeSet<String> = (0..64).map(|number| format!("line{number}")).collect();
    let updates = |after: f64| -> f64 {
        let states = ids.iter().map(|id| {
            service.wait_state(id, "a newer read", |state| {
                state["status"]["last_update"].as_f64().is_some_and(|time| time > after)
            })
        });
        states.map(|s| s["status"]["last_update"].as_f64().unwrap()).fold(0.0, f64::max)
    };
    let first = updates(0.0);
    let second = updates(first);
    updates(second);
    let (_, all) = service.get("/api/devices").unwrap();
    assert!(all.as_array().unwrap().iter().all(|state| state["error"].is_null()), "{all}");
    println!("64 lines in {} KiB", service.memory() / 1024);
}
