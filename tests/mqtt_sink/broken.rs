//! Connections and brokers that do not do what they should.

use std::time::Duration;

use bms_reader::board::Board;
use bms_reader::model::energy::Energy;
use bms_reader::model::{Alarm, EnergyTotals};
use bms_reader::sink::mqtt::Discovery;

use crate::mosquitto::Mosquitto;
use crate::relay::Relay;
use crate::rig::{self, Rig, pack};
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

fn kwh(charged: &str, discharged: &str) -> Option<EnergyTotals> {
    let energy = |text| Energy::from_kwh(text).expect("a number");
    Some(EnergyTotals { charged: energy(charged), discharged: energy(discharged) })
}

/// What a broker keeps of two batteries; of a third one it keeps nothing.
fn three_batteries(broker: &Mosquitto) -> Rig {
    broker.publish("bms/a/energy_charged", "5.0", true);
    broker.publish("bms/a/energy_discharged", "3.0", true);
    broker.publish("bms/b/energy_charged", "7.0", true);
    let ids = ["a", "b", "c"].map(str::to_owned);
    Rig::with(broker, Board::new(ids.iter().map(|id| rig::profile(id))), &ids)
}

#[test]
fn energy_counters_wait_for_a_broker_that_is_slow_to_say_what_it_keeps() {
    let broker = Mosquitto::start();
    let relay = Relay::to(&broker);
    let ear = broker.subscribe();
    let mut rig = three_batteries(&broker);
    rig.settings.port = relay.port();
    relay.hold_echo(true);
    let rig = rig.run();
    ear.wait_for(BRIDGE, "true");
    assert_eq!((rig.before("b"), rig.before("c")), (None, None), "nobody knows yet");
    relay.hold_echo(false);
    rig.wait("the counters", |rig| rig.before("c").is_some());
    let before = ["a", "b", "c"].map(|id| rig.before(id));
    assert_eq!(before, [kwh("5.0", "3.0"), kwh("7.0", "0.0"), kwh("0.0", "0.0")]);
    rig.stop();
}

#[test]
fn without_an_echo_only_complete_energy_counters_are_taken() {
    let mut broker = Mosquitto::prepared();
    let rules = broker.folder().join("rules");
    std::fs::write(&rules, "topic readwrite #\ntopic deny bms/bridge/+/ping\n").expect("a file");
    broker.configure(&format!("allow_anonymous true\nacl_file {}\n", rules.display()));
    broker.restart();
    let ear = broker.subscribe();
    let rig = three_batteries(&broker).run();
    ear.wait_for(BRIDGE, "true");
    let before = ["a", "b", "c"].map(|id| rig.before(id));
    assert_eq!(before, [kwh("5.0", "3.0"), None, None]);
    rig.stop();
}
