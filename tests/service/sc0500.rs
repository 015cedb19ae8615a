//! A stack behind an SC0500: the environment block of the older program, every value of its three
//! tables, and what goes wrong on a console.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bms_reader::model::Value;
use bms_reader::sim::pylontech_sc0500::{BARCODE, StackState};
use serde_json::{Value as Json, json};

use crate::fixture::{Adapter, Packs, Service, borrowed};
use crate::mosquitto::{Message, Mosquitto, Subscriber};

const ID: &str = "pylontech_sc0500";
const BASE: &str = "bms/pylontech_sc0500";
/// Well-formed, and the number of another controller.
const FOREIGN: &str = "PPTAP09999C10427";

/// The block of the older program's `.env` file.
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

/// Every value of the older program's tables, by key.
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
            ("pack_current", text(stack.current())),
            ("avg_temp", text(stack.temperature())),
            ("remaining_energy", format!("{}.0", stack.energy())),
            ("status", status.to_owned()),
            ("voltage_status", voltage.to_owned()),
            ("current_status", current.to_owned()),
            ("temperature_status", temperature.to_owned()),
            ("error_code", "0".to_owned()),
            ("cycle_count", stack.cycles().to_string()),
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

fn is_raw(message: &Message) -> bool {
    message.topic == format!("{BASE}/raw")
}

fn parse(message: &Message) -> Json {
    serde_json::from_str(&message.payload).unwrap()
}

fn wait_good(mqtt: &Subscriber) -> Json {
    parse(&mqtt.wait("a good read", |it| is_raw(it) && parse(it)["error"].is_null()))
}

fn wait_error(mqtt: &Subscriber, kind: &str) -> Json {
    parse(&mqtt.wait(kind, |it| is_raw(it) && parse(it)["error"]["type"] == kind))
}

/// All values published so far that belong to the stack itself.
fn values(mqtt: &Subscriber) -> Vec<(String, String)> {
    let of_the_conversation = ["last_update", "read_duration", "read_errors", "readings_rejected"];
    let told = ["online", "raw", "meta", "alarms"];
    let ours = mqtt.all().into_iter().filter_map(|message| {
        let key = message.topic.strip_prefix(BASE)?.strip_prefix('/')?.to_owned();
        Some((key, message.payload))
    });
    ours.filter(|(key, _)| !of_the_conversation.contains(&&**key) && !told.contains(&&**key))
        .collect()
}

#[test]
fn the_older_environment_block_gives_every_value_of_its_tables() {
    let broker = Mosquitto::with_login("mqtt_user", "mqtt_password");
    let mqtt = broker.subscribe();
    let packs = Packs::stack();
    let _reader = Service::start(&borrowed(&environment(&packs.port, &broker)));
    mqtt.wait_for(&format!("{BASE}/online"), "true");
    let stack = packs.stack_state();
    let expected = expected(&stack);
    assert_eq!(expected.len(), 11 + 4 * 75 + 4 * 5);
    for (key, value) in &expected {
        mqtt.wait_for(&format!("{BASE}/{key}"), value);
    }
    mqtt.wait_for(&format!("{BASE}/alarms"), "[]");

    let raw = wait_good(&mqtt);
    let info = &raw["status"]["cell_info"];
    let json = |value: Value| value.to_json();
    let column = |get: fn(
        &(bms_reader::model::units::Millivolts, bms_reader::model::units::DeciCelsius),
    ) -> Value| {
        Json::Array(stack.cells().map(|cell| get(&cell).to_json()).collect())
    };
    assert_eq!(raw["type"], "pylontech-sc0500");
    assert_eq!(info["total_voltage"], json(stack.voltage().into()));
    assert_eq!(info["current"], json(stack.current().into()));
    assert_eq!(info["temp_average"], json(stack.temperature().into()));
    assert_eq!(info["energy_remain"].as_f64(), Some(stack.energy() as f64));
    assert_eq!(info["base_status"], stack.states()[0]);
    assert_eq!(info["voltage_status"], "Normal");
    assert_eq!(info["current_status"], "Normal");
    assert_eq!(info["temperature_status"], "Normal");
    assert_eq!(info["voltages"], column(|cell| cell.0.into()));
    assert_eq!(info["cell_temperatures"], column(|cell| cell.1.into()));
    assert_eq!(info["cell_voltage_status"], json!(["Normal"; 75].to_vec()));
    assert_eq!(info["cell_temperature_status"], json!(["Normal"; 75].to_vec()));
    assert_eq!((&info["error_code"], &info["cycle_count"]), (&json!(0), &json!(stack.cycles())));
    assert_eq!(info["modules"].as_array().map(Vec::len), Some(5));
    assert_eq!(info["modules"][4]["serial_number"], StackState::serial(4));
    assert_eq!(raw["status"]["device_info"]["serial_number"], BARCODE);

    let config = |component: &str, key: &str| -> Json {
        let topic = format!("homeassistant/{component}/{ID}/{key}/config");
        parse(&mqtt.wait(&topic, |it| it.topic == topic))
    };
    let module = config("sensor", "module_2_min_cell_voltage");
    assert_eq!(module["device"]["via_device"], format!("bms_reader_{ID}"));
    assert_eq!(module["device"]["serial_number"], StackState::serial(1));
    assert_eq!(config("sensor", "cell_75_voltage")["enabled_by_default"], false);
    assert_eq!(config("sensor", "avg_temp").get("enabled_by_default"), None);
}

#[test]
fn a_word_of_worry_is_a_problem_that_carries_it() {
    let broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    let packs = Packs::stack();
    packs.set_faults("alarm=cell_undervoltage");
    let mut variables = environment(&packs.port, &broker);
    variables.extend([("READ_INTERVAL", "1".to_owned()), ("MQTT_DISCOVERY", "device".to_owned())]);
    let _reader = Service::start(&borrowed(&variables));
    mqtt.wait_for(&format!("{BASE}/problem"), "ON");
    mqtt.wait_for(&format!("{BASE}/voltage_status"), "Low");
    let topic = format!("{BASE}/alarms");
    mqtt.wait("the alarm in words", |message| {
        message.topic == topic && message.payload.contains("voltage_status is Low")
    });
    // A module less: its device goes.
    let fifth = format!("homeassistant/device/{ID}/module_5/config");
    mqtt.wait(&fifth, |it| it.topic == fifth && it.payload.contains("via_device"));
    packs.set_faults("modules=4");
    mqtt.wait_for(&fifth, "");
    mqtt.wait_for(&format!("{BASE}/problem"), "OFF");
    mqtt.wait_for(&format!("{BASE}/module_5_min_cell_voltage"), "");
}

#[test]
fn each_disturbance_has_its_word_and_no_value_is_wrong() {
    let broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    let packs = Packs::stack();
    let mut variables = environment(&packs.port, &broker);
    for (name, value) in [("READ_INTERVAL", "1"), ("BMS_TIMEOUT", "0.5"), ("MQTT_PUBLISH", "all")] {
        variables.push((name, value.to_owned()));
    }
    let _reader = Service::start(&borrowed(&variables));
    wait_good(&mqtt);
    let good = expected(&packs.stack_state());
    for (fault, kind) in [
        ("cut", "timeout"),
        ("silence", "timeout"),
        ("logout", "auth_failed"),
        ("logout,login", "auth_failed"),
        ("checksum", "bad_frame"),
        ("rtn=04", "auth_failed"),
    ] {
        packs.set_faults(fault);
        mqtt.clear();
        wait_error(&mqtt, kind);
        mqtt.clear();
        let failed = parse(&mqtt.wait("a failed read", is_raw));
        assert!(!failed["error"].is_null(), "{fault}");
        assert!(failed["error"]["hint"].as_str().is_some_and(|hint| !hint.is_empty()));
        assert_eq!(values(&mqtt), [], "during {fault}");
        packs.set_faults("");
        mqtt.clear();
        wait_good(&mqtt);
    }
    packs.set_faults("echo,noise=0.5,foreign=0.5,cut=0.2,silence=0.1");
    mqtt.clear();
    for _ in 0..6 {
        mqtt.wait("a read", is_raw);
        mqtt.forget(is_raw);
    }
    for (key, value) in values(&mqtt) {
        if let Some(good) = good.get(&key) {
            assert_eq!(value, *good, "{key}");
        }
    }
}

#[test]
fn another_controllers_number_is_refused_and_nothing_is_published() {
    let broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    let packs = Packs::stack();
    let mut variables = environment(&packs.port, &broker);
    variables.retain(|(name, _)| *name != "BMS_BARCODE");
    variables.extend([("BMS_BARCODE", FOREIGN.to_owned()), ("READ_INTERVAL", "1".to_owned())]);
    let service = Service::start(&borrowed(&variables));
    let failed = wait_error(&mqtt, "auth_failed");
    let message = failed["error"]["message"].as_str().unwrap();
    assert!(message.contains(BARCODE) && message.contains(FOREIGN), "{message}");
    assert!(message.contains("was not sent"), "{message}");
    assert_eq!(values(&mqtt), []);
    service.wait_for_log("was not sent");
}

#[test]
fn a_console_left_at_another_prompt_is_found_again_without_a_lost_read() {
    let broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    let packs = Packs::stack_on_tcp();
    let mut variables = environment(&packs.port, &broker);
    variables.push(("READ_INTERVAL", "1".to_owned()));
    let _reader = Service::start(&borrowed(&variables));
    wait_good(&mqtt);
    let mut somebody = TcpStream::connect(packs.port.strip_prefix("tcp://").unwrap()).unwrap();
    somebody.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    for _ in 0..3 {
        somebody.write_all(b"logout\n").unwrap();
        let mut received = Vec::new();
        while !received.ends_with(b"pylon>") {
            let mut byte = [0];
            somebody.read_exact(&mut byte).unwrap();
            received.extend(byte);
        }
        mqtt.clear();
        let raw = parse(&mqtt.wait("a read", is_raw));
        assert!(raw["error"].is_null(), "{raw}");
    }
}

#[test]
fn an_unplugged_console_comes_back_with_a_new_log_in() {
    let broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    let mut adapter = Adapter::to("pylontech-sc0500");
    let mut variables = environment(&adapter.port, &broker);
    variables.push(("READ_INTERVAL", "1".to_owned()));
    let _reader = Service::start(&borrowed(&variables));
    wait_good(&mqtt);
    adapter.unplug();
    mqtt.clear();
    wait_error(&mqtt, "port_not_found");
    assert_eq!(values(&mqtt), []);
    adapter.plug_in();
    mqtt.clear();
    let raw = wait_good(&mqtt);
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
    // One with a log-in, one at the user's prompt.
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
    assert_eq!(soc("left"), Json::Null, "`getpwr` does not say it");
    assert_eq!(soc("right").as_f64(), Some(f64::from(right.stack_state().percent())));
}
