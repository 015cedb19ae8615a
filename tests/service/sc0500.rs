//! A stack behind an SC0500: the environment of the older program, the values of its three tables,
//! and the faults of a console.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bms_reader::model::Value;
use bms_reader::model::units::{DeciCelsius, Millivolts};
use bms_reader::sim::pylontech_sc0500::{BARCODE, StackState};
use serde_json::{Value as Json, json};

use crate::fixture::{Adapter, Packs, PublishedBattery, Service, parse};
use crate::mosquitto::Mosquitto;

const ID: &str = "pylontech_sc0500";
const BASE: &str = "bms/pylontech_sc0500";
/// The valid number of another controller.
const FOREIGN: &str = "PPTAP09999C10427";

/// The `.env` file of the older program.
fn environment(port: &str, broker: &Mosquitto) -> Vec<(&'static str, String)> {
    vec![
        ("SERIAL_PORT", port.to_owned()),
        ("BMS_BARCODE", BARCODE.to_owned()),
        ("MQTT_BROKER", "127.0.0.1".into()),
        ("MQTT_PORT", broker.port().to_string()),
        ("MQTT_USER", "mqtt_user".into()),
        ("MQTT_PASSWORD", "mqtt_password".into()),
        ("HA_DISCOVERY_PREFIX", "homeassistant".into()),
        ("DEVICE_UNIQUE_ID", ID.into()),
        ("DEVICE_NAME", "Pylontech BMS SC0500".into()),
        ("DEBUG_MODE", "false".into()),
    ]
}

fn text(value: impl Into<Value>) -> String {
    value.into().to_string()
}

/// The values of the older program's tables by key.
fn expected(stack: &StackState) -> BTreeMap<String, String> {
    let [base, voltage, current, temperature] = stack.states();
    let status = match base {
        "Charge" => "charging",
        "Dischg" => "discharging",
        _ => "idle",
    };
    let mut all = BTreeMap::from(
        [
            ("pack_voltage", text(stack.voltage())),
            ("pack_current", text(stack.first().current)),
            ("avg_temp", text(stack.first().mosfet)),
            ("remaining_energy", format!("{}.0", stack.energy())),
            ("status", status.to_owned()),
            ("voltage_status", voltage.to_owned()),
            ("current_status", current.to_owned()),
            ("temperature_status", temperature.to_owned()),
            ("error_code", "0".to_owned()),
            ("cycle_count", stack.first().cycles.to_string()),
            ("problem", "OFF".to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    );
    for ((voltage, degrees), number) in stack.cells().zip(1..) {
        all.insert(format!("cell_{number}_voltage"), text(voltage));
        all.insert(format!("cell_{number}_temp"), text(degrees));
        all.insert(format!("cell_{number}_voltage_status"), "Normal".to_owned());
        all.insert(format!("cell_{number}_temp_status"), "Normal".to_owned());
    }
    for (module, index) in stack.modules.iter().zip(0..) {
        let (low, high) = (module.cells.iter().min().unwrap(), module.cells.iter().max().unwrap());
        let key = |key: &str| format!("module_{}_{key}", index + 1);
        all.insert(key("serial_number"), StackState::serial(index));
        all.insert(key("min_cell_voltage"), text(*low));
        all.insert(key("max_cell_voltage"), text(*high));
        let spread = Value::decimal((high.0 - low.0).into(), 3);
        all.insert(key("cell_voltage_diff"), text(spread));
    }
    all
}

fn start(broker: Mosquitto, port: &str, extra: &[(&'static str, &str)]) -> PublishedBattery {
    let mut variables = environment(port, &broker);
    variables.retain(|(name, _)| extra.iter().all(|(other, _)| other != name));
    variables.extend(extra.iter().map(|(name, value)| (*name, (*value).to_owned())));
    PublishedBattery::start(broker, ID, &variables)
}

#[test]
fn sc0500_environment_yields_every_value_of_its_tables() {
    let packs = Packs::stack();
    let broker = Mosquitto::with_login("mqtt_user", "mqtt_password");
    let battery = start(broker, &packs.port, &[]);
    let mqtt = &battery.mqtt;
    mqtt.wait_for(&format!("{BASE}/online"), "true");
    let stack = packs.stack_state();
    let expected = expected(&stack);
    assert_eq!(expected.len(), 11 + 4 * 75 + 4 * 5);
    for (key, value) in &expected {
        mqtt.wait_for(&format!("{BASE}/{key}"), value);
    }
    mqtt.wait_for(&format!("{BASE}/alarms"), "[]");

    let raw = battery.wait_good();
    let info = &raw["status"]["cell_info"];
    let json = |value: Value| value.to_json();
    let column = |get: fn((Millivolts, DeciCelsius)) -> Value| {
        Json::Array(stack.cells().map(|cell| get(cell).to_json()).collect())
    };
    assert_eq!(raw["type"], "pylontech-sc0500");
    assert_eq!(info["total_voltage"], json(stack.voltage().into()));
    assert_eq!(info["current"], json(stack.first().current.into()));
    assert_eq!(info["temp_average"], json(stack.first().mosfet.into()));
    assert_eq!(info["energy_remain"].as_f64(), Some(stack.energy() as f64));
    assert_eq!(info["base_status"], stack.states()[0]);
    assert_eq!(info["voltage_status"], "Normal");
    assert_eq!(info["current_status"], "Normal");
    assert_eq!(info["temperature_status"], "Normal");
    assert_eq!(info["voltages"], column(|cell| cell.0.into()));
    assert_eq!(info["cell_temperatures"], column(|cell| cell.1.into()));
    assert_eq!(info["cell_voltage_status"], json!(["Normal"; 75].to_vec()));
    assert_eq!(info["cell_temperature_status"], json!(["Normal"; 75].to_vec()));
    assert_eq!(
        (&info["error_code"], &info["cycle_count"]),
        (&json!(0), &json!(stack.first().cycles))
    );
    assert_eq!(info["modules"].as_array().map(Vec::len), Some(5));
    assert_eq!(info["modules"][4]["serial_number"], StackState::serial(4));
    assert_eq!(raw["status"]["device_info"]["serial_number"], BARCODE);

    let config = |component: &str, key: &str| -> Json {
        let topic = format!("homeassistant/{component}/{ID}/{key}/config");
        parse(&mqtt.wait_on(&topic))
    };
    let module = config("sensor", "module_2_min_cell_voltage");
    assert_eq!(module["device"]["via_device"], format!("bms_reader_{ID}"));
    assert_eq!(module["device"]["serial_number"], StackState::serial(1));
    assert_eq!(config("sensor", "cell_75_voltage")["enabled_by_default"], false);
    assert_eq!(config("sensor", "avg_temp").get("enabled_by_default"), None);
}

#[test]
fn abnormal_state_word_raises_an_alarm() {
    let packs = Packs::stack();
    packs.set_faults("alarm=cell_undervoltage");
    let battery = start(Mosquitto::start(), &packs.port, &[("READ_INTERVAL", "1")]);
    battery.mqtt.wait_for(&battery.topic("problem"), "ON");
    battery.mqtt.wait_for(&battery.topic("voltage_status"), "Low");
    let topic = battery.topic("alarms");
    battery.mqtt.wait("the alarm", |message| {
        message.topic == topic && message.payload.contains(r#""name":"voltage_status""#)
    });
    packs.set_faults("");
    battery.mqtt.wait_for(&battery.topic("problem"), "OFF");
}

#[test]
fn missing_module_is_removed_from_discovery() {
    let packs = Packs::stack();
    let extra = [("READ_INTERVAL", "1"), ("MQTT_DISCOVERY", "device")];
    let battery = start(Mosquitto::start(), &packs.port, &extra);
    let fifth = format!("homeassistant/device/{ID}/module_5/config");
    battery
        .mqtt
        .wait(&fifth, |message| message.topic == fifth && message.payload.contains("via_device"));
    packs.set_faults("modules=4");
    battery.mqtt.wait_for(&fifth, "");
    battery.mqtt.wait_for(&battery.topic("module_5_min_cell_voltage"), "");
}

const ALL_VALUES_EACH_SECOND: [(&str, &str); 3] =
    [("READ_INTERVAL", "1"), ("BMS_TIMEOUT", "0.5"), ("MQTT_PUBLISH", "all")];

#[test]
fn each_console_fault_has_its_error_and_publishes_no_value() {
    let packs = Packs::stack();
    let battery = start(Mosquitto::start(), &packs.port, &ALL_VALUES_EACH_SECOND);
    battery.wait_good();
    for (fault, kind) in [
        ("cut", "timeout"),
        ("silence", "timeout"),
        ("logout", "auth_failed"),
        ("logout,login", "auth_failed"),
        ("checksum", "bad_frame"),
        ("rtn=04", "auth_failed"),
    ] {
        packs.set_faults(fault);
        battery.mqtt.clear();
        battery.wait_error(kind);
        battery.mqtt.clear();
        let failed = battery.wait_raw("a read", |_| true);
        assert!(!failed["error"].is_null(), "{fault}");
        assert!(failed["error"]["hint"].as_str().is_some_and(|hint| !hint.is_empty()));
        assert_eq!(battery.values(), [], "during {fault}");
        packs.set_faults("");
        battery.mqtt.clear();
        battery.wait_good();
    }
}

#[test]
fn random_console_faults_publish_no_wrong_value() {
    let packs = Packs::stack();
    let battery = start(Mosquitto::start(), &packs.port, &ALL_VALUES_EACH_SECOND);
    battery.wait_good();
    packs.set_faults("echo,noise=0.5,foreign=0.5,cut=0.2,silence=0.1");
    battery.mqtt.clear();
    battery.wait_reads(6);
    let good = expected(&packs.stack_state());
    for (key, value) in battery.values() {
        if let Some(good) = good.get(&key) {
            assert_eq!(value, *good, "{key}");
        }
    }
}

#[test]
fn number_of_another_controller_is_not_sent() {
    let packs = Packs::stack();
    let extra = [("BMS_BARCODE", FOREIGN), ("READ_INTERVAL", "1")];
    let battery = start(Mosquitto::start(), &packs.port, &extra);
    let failed = battery.wait_error("auth_failed");
    let message = failed["error"]["message"].as_str().unwrap();
    assert!(message.contains(BARCODE) && message.contains(FOREIGN), "{message}");
    assert!(message.contains("was not sent"), "{message}");
    assert_eq!(battery.values(), []);
    battery.service.wait_for_log("was not sent");
}

#[test]
fn console_at_another_prompt_is_read_without_failure() {
    let packs = Packs::stack_on_tcp();
    let battery = start(Mosquitto::start(), &packs.port, &[("READ_INTERVAL", "1")]);
    battery.wait_good();
    let mut other = TcpStream::connect(packs.port.strip_prefix("tcp://").unwrap()).unwrap();
    other.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    for _ in 0..3 {
        other.write_all(b"logout\n").unwrap();
        let mut received = Vec::new();
        while !received.ends_with(b"pylon>") {
            let mut byte = [0];
            other.read_exact(&mut byte).unwrap();
            received.extend(byte);
        }
        battery.mqtt.clear();
        let raw = battery.wait_raw("a read", |_| true);
        assert!(raw["error"].is_null(), "{raw}");
    }
}

#[test]
fn replugged_console_is_read_after_a_new_login() {
    let mut adapter = Adapter::to("pylontech-sc0500");
    let battery = start(Mosquitto::start(), &adapter.port, &[("READ_INTERVAL", "1")]);
    battery.wait_good();
    adapter.unplug();
    battery.mqtt.clear();
    battery.wait_error("port_not_found");
    assert_eq!(battery.values(), []);
    adapter.plug_in();
    battery.mqtt.clear();
    let raw = battery.wait_good();
    assert_eq!(raw["status"]["cell_info"]["voltages"].as_array().map(Vec::len), Some(75));
}

#[test]
fn two_stacks_and_three_packs_in_one_process() {
    let (left, right) = (Packs::stack(), Packs::stack());
    right.set_faults("modules=8");
    let rack = Packs::on_terminal(&[1, 2, 3]);
    let stack = |id: &str, packs: &Packs, barcode: Option<&str>| json!({"id": id, "type": "pylontech-sc0500", "port": packs.port, "barcode": barcode, "interval": 1});
    let pack = |address: u8| {
        json!({"id": format!("pack{address}"), "type": "daren", "port": rack.port,
               "slave_id": address, "interval": 1})
    };
    // One with a login, one at the user prompt.
    let devices = json!([
        stack("left", &left, Some(BARCODE)),
        stack("right", &right, None),
        pack(1),
        pack(2),
        pack(3)
    ]);
    let service = Service::start(&[("DEVICES", &devices.to_string())]);
    for (id, cells) in [("left", 75), ("right", 120), ("pack1", 16), ("pack2", 16), ("pack3", 16)] {
        let state = service.wait_state(id, "a good read", |state| state["status"].is_object());
        let voltages = &state["status"]["cell_info"]["voltages"];
        assert_eq!(voltages.as_array().map(Vec::len), Some(cells), "{id}: {state}");
        assert!(state["error"].is_null(), "{id}: {state}");
    }
    let soc = |id: &str| {
        service.get(&format!("/api/devices/{id}")).unwrap().1["status"]["cell_info"]["battery_soc"]
            .clone()
    };
    assert_eq!(soc("left"), Json::Null, "`getpwr` does not contain it");
    assert_eq!(soc("right").as_f64(), Some(f64::from(right.stack_state().percent())));
}
