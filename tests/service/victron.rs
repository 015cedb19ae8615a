//! What the drivers of Venus OS get, of every type of battery.

use std::thread;
use std::time::{Duration, Instant};

use bms_reader::protocol::drivers;
use bms_reader::sim;
use serde_json::{Value, json};

use crate::fixture::{Packs, Service, parse};
use crate::mosquitto::Mosquitto;
use crate::schema::violations;

const LIMIT: Duration = Duration::from_secs(120);

fn schema(name: &str) -> Value {
    let path = format!("{}/tests/schemas/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Every type that can be simulated.
fn types() -> Vec<&'static str> {
    let names = drivers().iter().map(|info| info.name);
    names.filter(|name| sim::find(name).is_some()).collect()
}

/// A service with one simulated battery of every type.
fn every_type(broker: &Mosquitto, format: &str) -> Service {
    let devices: Vec<Value> = types()
        .iter()
        .map(|name| json!({"id": name, "type": "simulated", "variant": name}))
        .collect();
    Service::start(&[
        ("DEVICES", &json!(devices).to_string()),
        ("VICTRON", format),
        ("READ_INTERVAL", "5"),
        ("MQTT_HOST", "127.0.0.1"),
        ("MQTT_PORT", &broker.port().to_string()),
    ])
}

/// Checks a message of every type that has what the driver requires. Returns the number of the others, each
/// of which has a reason in the log.
fn check_every_type(format: &str, key: &str, schema_name: &str) -> usize {
    let broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    let service = every_type(&broker, format);
    let schema = schema(schema_name);
    assert!(types().len() > 40);
    let refused = types().into_iter().filter(|name| {
        let topic = format!("bms/{name}/{key}");
        let reason = format!("{name}: VICTRON: the battery does not report its");
        let deadline = Instant::now() + LIMIT;
        while mqtt.payloads(&topic).is_empty() && service.logged(&reason) == 0 {
            assert!(Instant::now() < deadline, "no {topic}, no reason:\n{}", service.log());
            thread::sleep(Duration::from_millis(50));
        }
        let message = mqtt.wait_up_to(Duration::ZERO, |message| message.topic == topic);
        if let Some(message) = &message {
            assert!(!message.retained, "{topic}");
            let payload = parse(message);
            assert_eq!(violations(&schema, &payload), [""; 0], "{topic}: {payload}");
        }
        message.is_none()
    });
    refused.count()
}

#[test]
fn every_type_fits_the_schema_of_dbus_mqtt_battery_or_is_refused() {
    let refused = check_every_type("true", "victron", "dbus-mqtt-battery");
    assert!(refused <= 5, "{refused}");
}

#[test]
fn every_type_fits_the_schema_of_dbus_serialbattery_or_is_refused() {
    let refused = check_every_type("serialbattery", "victron_serialbattery", "generic-mqtt");
    assert!(refused < types().len() - 10, "{refused}");
}

/// The last message of a battery that is lost, and of a program that stops.
#[test]
fn chargers_stop_when_the_battery_is_lost_and_when_the_program_ends() {
    let broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    let packs = Packs::on_tcp(&[1]);
    let mut service = Service::start(&[
        ("BMS_PORT", &packs.port),
        ("BMS_TYPE", "daren"),
        ("BMS_TIMEOUT", "0.2"),
        ("DEVICE_ID", "rack"),
        ("READ_INTERVAL", "1"),
        ("VICTRON", "true"),
        ("VICTRON_CHARGE_CURRENT", "80"),
        ("MQTT_HOST", "127.0.0.1"),
        ("MQTT_PORT", &broker.port().to_string()),
    ]);
    let limit = |payload: &Value| payload["Info"]["MaxChargeCurrent"].as_f64();
    let wait = |wanted: f64| {
        let found = mqtt.wait_up_to(LIMIT, |message| {
            message.topic == "bms/rack/victron" && limit(&parse(message)) == Some(wanted)
        });
        parse(&found.unwrap_or_else(|| panic!("no limit of {wanted} A")))
    };
    let running = wait(80.0);
    assert_eq!(running["Alarms"]["BmsCable"], 0);
    packs.set_faults("silence");
    let lost = wait(0.0);
    assert_eq!(lost["Alarms"]["BmsCable"], 2);
    assert_eq!(lost["Io"]["AllowToCharge"], 0);
    assert_eq!(lost["Soc"], running["Soc"]);
    mqtt.wait_for("bms/rack/online", "false");
    mqtt.clear();
    packs.set_faults("");
    wait(80.0);
    mqtt.clear();
    service.signal("-TERM");
    service.wait_for_exit();
    wait(0.0);
}
