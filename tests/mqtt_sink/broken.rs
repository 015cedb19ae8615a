//! Connections and brokers that do not do what they should.

use std::time::Duration;

use bms_reader::model::Alarm;
use bms_reader::sink::mqtt::Discovery;

use crate::mosquitto::Mosquitto;
use crate::relay::Relay;
use crate::rig::{Rig, pack};
use crate::{BRIDGE, EVENT};

#[test]
fn an_alarm_that_starts_on_a_dead_connection_is_told_on_the_next() {
    let broker = Mosquitto::start();
    let relay = Relay::to(&broker);
    let ear = broker.subscribe();
    let mut rig = Rig::prepared(&broker, Discovery::Entity);
    rig.settings.port = relay.port();
    rig.settings.keep_alive = Duration::from_secs(1);
    let rig = rig.run();
    rig.read(pack(16));
    ear.wait_for(BRIDGE, "true");
    ear.wait_for("bms/rack/online", "true");
    ear.clear();
    relay.cut();
    let mut burning = pack(16);
    burning.alarms.note(Alarm::CellOvervoltage, true);
    rig.read(burning);
    ear.wait("the start", |it| it.topic == EVENT && it.payload.contains("started"));
    let at = |topic: &str, payload: &str| {
        ear.position(|it| it.topic == topic && it.payload.starts_with(payload)).expect(topic)
    };
    assert!(at(BRIDGE, "true") < at(EVENT, ""), "Home Assistant shows none before that");
    assert_eq!(ear.on(EVENT).len(), 1);
    rig.stop();
}
