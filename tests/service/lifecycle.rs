//! Stop and kill of the program.

use crate::fixture::{Packs, PublishedBattery, legacy_environment};
use crate::mosquitto::Mosquitto;

const ID: &str = "bms_lifepo4_01";
const PROGRAM_ONLINE: &str = "bms/bridge/bms-reader-bms_lifepo4_01/online";

fn start(packs: &Packs) -> PublishedBattery {
    let broker = Mosquitto::start();
    let variables = legacy_environment(&packs.port, &broker);
    let battery = PublishedBattery::start(broker, ID, &variables);
    battery.mqtt.wait_for(&battery.topic("online"), "true");
    battery.mqtt.wait_for(PROGRAM_ONLINE, "true");
    battery
}

#[test]
fn stop_publishes_offline_and_exits_with_success() {
    let packs = Packs::on_terminal(&[1]);
    let mut battery = start(&packs);
    battery.service.signal("-TERM");
    let status = battery.service.wait_for_exit();
    assert_eq!(status.code(), Some(0), "{}", battery.service.log());
    battery.mqtt.wait_for(&battery.topic("online"), "false");
    battery.mqtt.wait_for(PROGRAM_ONLINE, "false");
}

#[test]
fn broker_publishes_offline_after_a_kill() {
    let packs = Packs::on_terminal(&[1]);
    let mut battery = start(&packs);
    battery.service.kill();
    battery.mqtt.wait_for(PROGRAM_ONLINE, "false");
}

#[test]
fn frozen_broker_delays_neither_reads_nor_the_stop() {
    let packs = Packs::on_terminal(&[1]);
    let mut battery = start(&packs);
    battery.broker.freeze();
    let service = &mut battery.service;
    let first = service.wait_state(ID, "a read", |state| state["error"].is_null());
    let time = first["status"]["last_update"].as_f64().unwrap();
    service.wait_state(ID, "three more reads", |state| {
        state["status"]["last_update"].as_f64().unwrap() > time + 2.5
    });
    service.signal("-TERM");
    assert_eq!(service.wait_for_exit().code(), Some(0));
    battery.broker.resume();
}
