//! The example of access rules in `docker/mosquitto.acl`.

use std::process::{Command as Process, Stdio};

use bms_reader::command::Command;
use bms_reader::model::Secret;

use crate::BRIDGE;
use crate::fixture::{LOG_LEVELS, TestSink, pack};
use crate::mosquitto::Mosquitto;

const PASSWORD: &str = "right";

/// With the users of the example, and `tester`, who may do everything.
fn broker() -> Mosquitto {
    let mut broker = Mosquitto::with_login("tester", PASSWORD);
    let passwords = broker.folder().join("passwords");
    for user in ["bms", "homeassistant", "fleet", "viewer"] {
        let mut process = Process::new("mosquitto_passwd");
        process.arg("-b").arg(&passwords).args([user, PASSWORD]).stderr(Stdio::null());
        assert!(process.status().expect("mosquitto_passwd starts").success());
    }
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/docker/mosquitto.acl");
    let rules = std::fs::read_to_string(example).expect("the example");
    let file = broker.folder().join("rules");
    std::fs::write(&file, format!("{rules}\nuser tester\ntopic readwrite #\n")).expect("a file");
    broker.configure(&format!(
        "allow_anonymous false\npassword_file {}\nacl_file {}\n",
        passwords.display(),
        file.display()
    ));
    broker.restart();
    broker
}

fn publish_as(user: &str, broker: &Mosquitto, topic: &str, payload: &str) {
    let mut process = Process::new("mosquitto_pub");
    process.args(["-h", "127.0.0.1", "-p", &broker.port().to_string(), "-u", user, "-P", PASSWORD]);
    process.args(["-q", "1", "-t", topic, "-m", payload]).stderr(Stdio::null());
    // Mosquitto acknowledges what it drops.
    assert!(process.status().expect("mosquitto_pub starts").success());
}

#[test]
fn example_rules_allow_the_program_and_stop_others() {
    let broker = broker();
    broker.publish("bms/rack/energy_charged", "5.0", true);
    let mqtt = broker.subscribe();
    let mut sink = TestSink::with_batteries(&broker, &["rack"]);
    sink.settings.login = Some(("bms".into(), Secret::new(PASSWORD)));
    let mut sink = sink.run();
    sink.read(pack(16));
    mqtt.wait_for("bms/rack/online", "true");
    mqtt.wait_for("bms/rack/soc", "64.0");
    mqtt.wait_for(BRIDGE, "true");
    mqtt.wait_on("homeassistant/sensor/rack/soc/config");
    assert!(sink.energy_before_start("rack").is_some(), "the retained counter is readable");

    publish_as("viewer", &broker, "bms/rack/cmd/config", r#"{"paused": true}"#);
    publish_as("viewer", &broker, "bms/rack/soc", "1.0");
    publish_as("homeassistant", &broker, "bms/rack/soc", "2.0");
    publish_as("homeassistant", &broker, "bms/rack/cmd/read", "read");
    assert_eq!(sink.accept_command(), Command::Read, "the first to arrive");
    assert_eq!(mqtt.payloads("bms/rack/soc"), ["64.0"]);
    let level = "bms/bridge/bms-reader-rack/cmd/log_level";
    for (user, payload) in [("viewer", "trace"), ("homeassistant", "error"), ("fleet", "debug")] {
        publish_as(user, &broker, level, payload);
    }
    mqtt.wait_on(&format!("{level}/result"));
    assert_eq!(*LOG_LEVELS.lock().expect("no panic"), ["debug"]);
    mqtt.clear();
    publish_as("homeassistant", &broker, "homeassistant/status", "online");
    mqtt.wait_for("bms/rack/soc", "64.0");
}
