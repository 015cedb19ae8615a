//! The MQTT sink against a real broker, seen by a client that stands beside it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "mqtt_sink/broken.rs"]
mod broken;
#[path = "mqtt_sink/encrypted.rs"]
#[cfg(feature = "tls")]
mod encrypted;
#[path = "common/mosquitto.rs"]
mod mosquitto;
#[path = "mqtt_sink/relay.rs"]
mod relay;
#[path = "mqtt_sink/rig.rs"]
mod rig;

use std::time::{Duration, Instant};

use bms_reader::board::Board;
use bms_reader::command::{Command, ConfigChange};
use bms_reader::model::{Alarm, Secret};
use bms_reader::sink::mqtt::Discovery;
use mosquitto::Mosquitto;
use rig::{Rig, pack};

const DEVICE: &str = "homeassistant/device/rack/config";
const BRIDGE: &str = "bms/bridge/bms-reader-rack/online";
const EVENT: &str = "bms/rack/event";
const OURS: &str = r#"{"origin":{"name":"bms-reader"},"state_topic":"x","unique_id":"y"}"#;

#[test]
fn after_connecting_everything_is_said_in_order() {
    let broker = Mosquitto::start();
    let ear = broker.subscribe();
    let rig = Rig::start(&broker);
    rig.read(pack(16));
    ear.wait_for("bms/rack/online", "true");
    ear.wait_for("bms/rack/cell_16_voltage", "3.324");
    ear.wait("the alarms", |it| it.topic == "bms/rack/alarms" && it.payload == "[]");
    ear.wait("the whole reading", |it| it.topic == "bms/rack/raw");

    drop(rig);
    ear.wait_for(BRIDGE, "false");
    ear.clear();
    // With a battery that is online already, all of it belongs to the connection.
    let rig = Rig::prepared(&broker, Discovery::Entity);
    rig.read(pack(16));
    let rig = rig.run();
    ear.wait_for(BRIDGE, "true");
    let at = |what: &str| ear.position(|it| it.topic == what).expect(what);
    let last_config = ear.all().iter().rposition(|it| it.topic.ends_with("/config"));
    assert!(last_config.expect("discovery") < at("bms/rack/meta"), "discovery comes first");
    assert!(at("bms/rack/meta") < at("bms/rack/soc"));
    assert!(at("bms/rack/read_errors") < at("bms/rack/online"));
    assert!(at("bms/rack/online") < at(BRIDGE), "the bridge comes last");
    assert_eq!(ear.on("bms/rack/pack_voltage"), ["53.02"]);
    assert_eq!(ear.on("bms/rack/pack_current"), ["-11.16"]);
    assert_eq!(ear.on("bms/rack/soc"), ["64.0"]);
    assert_eq!(ear.on("bms/rack/alarm_cell_overvoltage"), ["OFF"]);
    drop(rig);
}

#[test]
fn what_is_kept_and_what_is_not() {
    let broker = Mosquitto::start();
    let ear = broker.subscribe();
    let rig = Rig::start(&broker);
    rig.read(pack(16));
    ear.wait_for("bms/rack/online", "true");
    ear.wait("the whole reading", |it| it.topic == "bms/rack/raw");
    ear.wait_for(BRIDGE, "true");
    let kept: Vec<String> = broker.retained().into_iter().map(|it| it.topic).collect();
    for topic in [
        "bms/rack/soc",
        "bms/rack/online",
        "bms/rack/meta",
        "bms/rack/alarms",
        BRIDGE,
        "homeassistant/sensor/rack/soc/config",
        "homeassistant/binary_sensor/rack/connection/config",
        "homeassistant/button/rack/read/config",
    ] {
        assert!(kept.iter().any(|it| it == topic), "{topic} is kept");
    }
    assert!(kept.iter().all(|it| it != "bms/rack/raw" && !it.ends_with("/ping")), "{kept:?}");
}

#[test]
fn a_silent_battery_is_offline_and_has_no_values() {
    let broker = Mosquitto::start();
    let ear = broker.subscribe();
    let rig = Rig::start(&broker);
    ear.wait_for("bms/rack/online", "false");
    rig.fail();
    ear.wait_for("bms/rack/read_errors", "1");
    ear.wait("the failed read", |it| it.topic == "bms/rack/raw");
    assert!(ear.position(|it| it.topic == "bms/rack/soc").is_none());
    let found = |key| ear.position(|it| it.topic.ends_with(&format!("/rack/{key}/config")));
    assert!(found("connection").is_some() && found("read").is_some() && found("soc").is_none());
}

#[test]
fn a_broker_that_comes_back_empty_has_everything_again() {
    let mut broker = Mosquitto::start();
    let ear = broker.subscribe();
    let rig = Rig::start(&broker);
    rig.read(pack(16));
    ear.wait_for("bms/rack/online", "true");
    broker.stop();
    rig.read(pack(15));
    broker.restart();
    let back = Instant::now();
    let ear = broker.subscribe();
    ear.wait_for("bms/rack/online", "true");
    ear.wait_for("bms/rack/cell_15_voltage", "3.323");
    ear.wait_for(BRIDGE, "true");
    // Generous: the promise is five seconds, the machine may be busy.
    assert!(back.elapsed() < Duration::from_secs(10), "{:?}", back.elapsed());
    let kept = broker.retained();
    let has = |topic: &str| kept.iter().any(|it| it.topic == topic && !it.payload.is_empty());
    assert!(has("homeassistant/sensor/rack/cell_15_voltage/config"));
    assert!(has(BRIDGE));
    assert!(!has("bms/rack/cell_16_voltage"));
}

#[test]
fn an_offline_battery_gets_no_old_values_after_a_broker_restart() {
    let mut broker = Mosquitto::start();
    let ear = broker.subscribe();
    let rig = Rig::start(&broker);
    rig.read(pack(16));
    ear.wait_for("bms/rack/online", "true");
    rig.offline();
    ear.wait_for("bms/rack/online", "false");
    assert_eq!(ear.on("bms/rack/soc"), ["64.0"], "the value stays what it was");
    broker.restart();
    let ear = broker.subscribe();
    ear.wait_for("bms/rack/online", "false");
    ear.wait("meta", |it| it.topic == "bms/rack/meta");
    ear.wait("the read errors, which come last", |it| it.topic == "bms/rack/read_errors");
    assert!(ear.position(|it| it.topic == "bms/rack/soc").is_none());
}

#[test]
fn a_killed_program_leaves_its_will() {
    let broker = Mosquitto::start();
    let ear = broker.subscribe();
    let rig = Rig::start(&broker);
    ear.wait_for(BRIDGE, "true");
    rig.kill();
    ear.wait_for(BRIDGE, "false");
}

#[test]
fn a_stopped_program_says_goodbye() {
    let broker = Mosquitto::start();
    let ear = broker.subscribe();
    let rig = Rig::start(&broker);
    rig.read(pack(16));
    ear.wait_for("bms/rack/online", "true");
    ear.clear();
    rig.stop();
    ear.wait_for(BRIDGE, "false");
    assert_eq!(ear.on("bms/rack/online"), ["false"], "said before the bridge's own");
    // Mosquitto's words for an end without a will; it may be a moment late.
    broker.wait_for_log("Client bms-reader-rack disconnected.");
}

#[test]
fn a_frozen_broker_does_not_hold_up_the_stop() {
    let broker = Mosquitto::start();
    let ear = broker.subscribe();
    let rig = Rig::start(&broker);
    rig.read(pack(16));
    ear.wait_for("bms/rack/online", "true");
    broker.freeze();
    for _ in 0..50 {
        rig.read(pack(16));
    }
    let began = Instant::now();
    rig.stop();
    let took = began.elapsed();
    broker.thaw();
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn everything_is_said_again_when_home_assistant_starts() {
    let broker = Mosquitto::start();
    let ear = broker.subscribe();
    let rig = Rig::start(&broker);
    rig.read(pack(16));
    ear.wait_for("bms/rack/online", "true");
    ear.wait_for("bms/rack/cell_16_voltage", "3.324");
    ear.clear();
    broker.publish("homeassistant/status", "online", false);
    ear.wait_for("bms/rack/cell_16_voltage", "3.324");
    ear.wait_for("bms/rack/online", "true");
    let at = |what: &str| ear.position(|it| it.topic == what).expect(what);
    assert!(at("homeassistant/sensor/rack/soc/config") < at("bms/rack/online"));
    drop(rig);
}

#[test]
fn an_alarm_is_told_once_whatever_happens_to_the_connection() {
    let mut broker = Mosquitto::start();
    let ear = broker.subscribe();
    let mut burning = pack(16);
    burning.alarms.note(Alarm::CellOvervoltage, true);
    let rig = Rig::start(&broker);
    rig.read(pack(16));
    ear.wait_for("bms/rack/online", "true");
    rig.read(burning.clone());
    ear.wait("the start", |it| it.topic == EVENT && it.payload.contains("started"));
    ear.wait("its words", |it| it.topic == "bms/rack/alarms" && it.payload.contains("3.324 V"));
    let refreshed = |broker: &Mosquitto, ear: &mosquitto::Subscriber| {
        ear.wait_for("bms/rack/cell_16_voltage", "3.324");
        // Events are the last words of a presentation, which an answer does not interrupt.
        broker.publish("bms/rack/cmd/config", "nonsense", false);
        ear.wait("an answer", |it| it.topic == "bms/rack/cmd/config/result");
    };
    ear.clear();
    broker.publish("homeassistant/status", "online", false);
    refreshed(&broker, &ear);
    assert!(ear.on(EVENT).is_empty(), "Home Assistant started");

    ear.clear();
    drop(rig);
    ear.wait_for(BRIDGE, "false");
    let rig = Rig::prepared(&broker, Discovery::Entity);
    rig.read(burning.clone());
    let rig = rig.run();
    refreshed(&broker, &ear);
    assert!(ear.on(EVENT).is_empty(), "the program started, and the broker remembers");

    broker.restart();
    let ear = broker.subscribe();
    refreshed(&broker, &ear);
    assert!(ear.on(EVENT).is_empty(), "the broker started, and the program remembers");
    rig.read(pack(16));
    ear.wait("the end", |it| it.topic == EVENT && it.payload.contains("ended"));
    drop(rig);
}

#[test]
fn our_leftovers_go_and_those_of_others_stay() {
    let broker = Mosquitto::start();
    let ours = "homeassistant/sensor/rack/cell_17_voltage/config";
    let strangers = [
        ("homeassistant/sensor/rack/other/config", r#"{"origin":{"name":"zigbee2mqtt"}}"#),
        ("homeassistant/sensor/rack/plain/config", r#"{"state_topic":"x"}"#),
        ("homeassistant/sensor/rack9/cell_17_voltage/config", OURS),
    ];
    broker.publish(ours, OURS, true);
    broker.publish("bms/rack/cell_17_voltage", "3.3", true);
    for (topic, payload) in strangers {
        broker.publish(topic, payload, true);
    }
    let ear = broker.subscribe();
    let rig = Rig::start(&broker);
    ear.wait_for("bms/rack/online", "false");
    assert!(broker.retained().iter().any(|it| it.topic == ours), "the battery was not read yet");
    rig.read(pack(16));
    ear.wait_for(ours, "");
    ear.wait_for("bms/rack/cell_17_voltage", "");
    ear.wait_for("bms/rack/online", "true");
    let kept = broker.retained();
    for (topic, _) in strangers {
        assert!(kept.iter().any(|it| it.topic == topic), "{topic} stays");
    }
}

#[test]
fn entities_survive_the_way_to_a_device_and_back() {
    let broker = Mosquitto::start();
    let ear = broker.subscribe();
    let soc = "homeassistant/sensor/rack/soc/config";
    let change = |format| {
        let rig = Rig::prepared(&broker, format);
        rig.read(pack(16));
        let rig = rig.run();
        ear.wait_for("bms/rack/online", "true");
        rig
    };
    drop(change(Discovery::Entity));
    ear.wait_for(BRIDGE, "false");
    ear.clear();

    let rig = change(Discovery::Device);
    let at = |topic: &str, word: &str| {
        let found = |it: &mosquitto::Message| it.topic == topic && it.payload.contains(word);
        ear.position(found).unwrap_or_else(|| panic!("{word} on {topic}"))
    };
    let announced = at(DEVICE, "components");
    let erased = ear.position(|it| it.topic == soc && it.payload.is_empty());
    let erased = erased.expect("the old topic is erased");
    assert!(at(soc, "migrate_discovery") < erased && erased < announced);
    let device = broker.retained().into_iter().find(|it| it.topic == DEVICE).expect("the device");
    assert!(device.payload.contains("\"unique_id\":\"rack_soc\""));
    assert!(broker.retained().iter().all(|it| it.topic != soc));
    drop(rig);
    ear.wait_for(BRIDGE, "false");
    ear.clear();

    let rig = change(Discovery::Entity);
    let erased = ear.position(|it| it.topic == DEVICE && it.payload.is_empty());
    let erased = erased.expect("the device's topic is erased");
    assert!(at(DEVICE, "migrate_discovery") < erased);
    assert!(erased < at(soc, "\"unique_id\":\"rack_soc\""));
    drop(rig);
    ear.wait_for(BRIDGE, "false");
    ear.clear();

    let rig = change(Discovery::Off);
    assert!(broker.retained().iter().all(|it| !it.topic.starts_with("homeassistant/")));
    drop(rig);
}

#[test]
fn commands_reach_the_battery_and_are_answered() {
    let broker = Mosquitto::start();
    let ear = broker.subscribe();
    let mut rig = Rig::start(&broker);
    ear.wait_for(BRIDGE, "true");
    broker.publish("bms/rack/cmd/read", "", false);
    assert_eq!(rig.command(), Command::Read);
    broker.publish("bms/rack/cmd/config", r#"{"poll_interval_s": 10, "adapter": null}"#, false);
    let change = ConfigChange {
        interval: Some(Duration::from_secs(10)),
        adapter: Some(None),
        ..ConfigChange::default()
    };
    assert_eq!(rig.command(), Command::Configure(change));
    let result = "bms/rack/cmd/config/result";
    let good = ear.wait("a result", |it| it.topic == result);
    assert_eq!(good.payload, r#"{"ok":true,"adapter":null,"poll_interval_s":10.0}"#);
    ear.clear();
    broker.publish("bms/rack/cmd/config", r#"{"poll_intervall_s": 10}"#, false);
    let bad = ear.wait("a result", |it| it.topic == result);
    assert!(bad.payload.contains("\"ok\":false") && bad.payload.contains("poll_interval_s"));
    assert!(broker.retained().iter().all(|it| it.topic != result));
}

#[test]
fn a_retained_command_is_not_carried_out() {
    let broker = Mosquitto::start();
    broker.publish("bms/rack/cmd/config", r#"{"paused": true}"#, true);
    broker.publish("bms/rack/cmd/read", "x", true);
    let ear = broker.subscribe();
    let mut rig = Rig::start(&broker);
    ear.wait_for(BRIDGE, "true");
    // The first command to arrive is the one that was sent live.
    broker.publish("bms/rack/cmd/config", r#"{"paused": false}"#, false);
    let change = ConfigChange { paused: Some(false), ..ConfigChange::default() };
    assert_eq!(rig.command(), Command::Configure(change));
}

#[test]
fn a_wrong_password_is_not_tried_again_at_once() {
    let broker = Mosquitto::with_login("reader", "right");
    let mut rig = Rig::prepared(&broker, Discovery::Entity);
    rig.settings.login = Some(("reader".into(), Secret::new("wrong")));
    let rig = rig.run();
    let refusals = || broker.log().matches("disconnected, not authorised").count();
    broker.wait_for_log("disconnected, not authorised");
    rig.wait("the reason", |rig| rig.broker().error.is_some());
    rig.stop();
    assert_eq!(refusals(), 1, "{}", broker.log());

    let mut rig = Rig::prepared(&broker, Discovery::Entity);
    rig.settings.login = Some(("reader".into(), Secret::new("right")));
    let ear = broker.subscribe();
    let rig = rig.run();
    ear.wait_for(BRIDGE, "true");
    rig.stop();
}

#[test]
fn a_broker_that_starts_later_is_found() {
    let mut broker = Mosquitto::prepared();
    let rig = Rig::start(&broker);
    rig.read(pack(16));
    broker.restart();
    let ear = broker.subscribe();
    ear.wait_for("bms/rack/online", "true");
    drop(rig);
}

#[test]
fn an_absent_broker_does_not_hold_up_the_stop() {
    let broker = Mosquitto::prepared();
    let rig = Rig::start(&broker);
    let began = Instant::now();
    rig.stop();
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[test]
fn many_batteries_leave_completely() {
    let broker = Mosquitto::start();
    let ear = broker.subscribe();
    let ids: Vec<String> = (0..20).map(|number| format!("pack{number}")).collect();
    let rig = Rig::with(&broker, Board::new(ids.iter().map(|id| rig::profile(id))), &ids);
    for id in &ids {
        rig.read_one(id, pack(32));
    }
    let rig = rig.run();
    for id in &ids {
        ear.wait_for(&format!("bms/{id}/online"), "true");
        ear.wait_for(&format!("bms/{id}/cell_32_voltage"), "3.34");
    }
    rig.stop();
    for id in &ids {
        ear.wait_for(&format!("bms/{id}/online"), "false");
    }
}

#[test]
fn a_frozen_broker_is_left_and_found_again() {
    let broker = Mosquitto::start();
    let ear = broker.subscribe();
    let mut rig = Rig::prepared(&broker, Discovery::Entity);
    rig.settings.keep_alive = Duration::from_secs(1);
    let rig = rig.run();
    rig.read(pack(16));
    ear.wait_for("bms/rack/online", "true");
    broker.freeze();
    rig.wait("the end of the connection", |rig| !rig.broker().connected);
    let mut changed = pack(16);
    changed.pack.cycles = Some(77);
    rig.read(changed);
    broker.thaw();
    ear.wait_for("bms/rack/cycle_count", "77");
    ear.wait_for(BRIDGE, "true");
    assert!(rig.broker().connections >= 2, "{}", broker.log());
    drop(rig);
}

#[test]
fn two_programs_with_one_client_id_do_not_spin() {
    let broker = Mosquitto::start();
    let began = Instant::now();
    let (first, second) = (Rig::start(&broker), Rig::start(&broker));
    let connections = || broker.log().matches(" as bms-reader-rack ").count();
    first.wait("five connections", |_| connections() >= 5);
    // They throw each other out: pauses of half a second or more twice, then of a second.
    assert!(began.elapsed() >= Duration::from_secs(2), "{}", broker.log());
    drop((first, second));
}
