//! A brand that does not exist, from a file to the broker.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;

use crate::fixture::{PublishedBattery, objects, program, run};
use crate::mosquitto::Mosquitto;

/// The example of `docs/profiles.md`.
fn nova() -> String {
    let docs = include_str!("../../docs/profiles.md");
    let block = docs.split("\n```yaml\n").nth(2).unwrap();
    block.split("```").next().unwrap().to_owned()
}

/// A folder with profiles: one is good, one is not, and one replaces a built-in type.
fn folder(name: &str) -> PathBuf {
    let name = format!("bms-reader-{name}-{}", std::process::id());
    let path = std::env::temp_dir().join(name);
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("nova.yaml"), nova()).unwrap();
    fs::write(path.join("broken.yaml"), nova().replace("scale: 0.01", "scael: 0.01")).unwrap();
    fs::write(path.join("tdt.yaml"), nova().replace("name: nova", "name: tdt")).unwrap();
    path
}

/// A bridge to a battery that replies as in the documentation, and knows nothing of profiles.
fn battery() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut request = [0; 5];
            while stream.read_exact(&mut request).is_ok() {
                let reply: &[u8] = match request {
                    [0x5A, 0xA5, 1, 0, 0] => {
                        b"\x5A\xA5\x01\x0E\x05\x2E\xFF\x06\x18\xB0\x27\x10\x3F\x03\x00\x00\x00\xD7\x5E"
                    }
                    [0x5A, 0xA5, 2, 0, 1] => b"\x5A\xA5\x02\x08\x0C\xF3\x0C\xF4\x0C\xF2\x0C\xF3\x05",
                    _ => panic!("unexpected request {request:02X?}"),
                };
                stream.write_all(reply).unwrap();
            }
        }
    });
    format!("tcp://{address}")
}

#[test]
fn battery_with_a_profile_reaches_the_broker() {
    let (folder, broker) = (folder("profiles"), Mosquitto::start());
    let variables = [
        ("BMS_PROFILES", folder.display().to_string()),
        ("BMS_TYPE", "nova".to_owned()),
        ("BMS_PORT", battery()),
        ("READ_INTERVAL", "1".to_owned()),
        ("DEVICE_ID", "boat".to_owned()),
        ("MQTT_HOST", "127.0.0.1".to_owned()),
        ("MQTT_PORT", broker.port().to_string()),
        ("MQTT_USER", "mqtt_user".to_owned()),
        ("MQTT_PASSWORD", "mqtt_password".to_owned()),
    ];
    let battery = PublishedBattery::start(broker, "boat", &variables);
    battery.wait_good();
    for (key, value) in [
        ("pack_voltage", "13.26"),
        ("pack_current", "-2.5"),
        ("soc", "63.0"),
        ("remaining_capacity", "63.2"),
        ("cell_2_voltage", "3.316"),
        ("temp_1", "21.5"),
        ("charging_enabled", "ON"),
        ("alarm_cell_overvoltage", "OFF"),
    ] {
        let topic = battery.topic(key);
        let message = battery.mqtt.wait(key, |message| message.topic == topic);
        assert_eq!(message.payload, value, "{key}");
    }
    battery.mqtt.wait_for(&battery.topic("online"), "true");
    let service = &battery.service;
    service.wait_for_log("tdt.yaml replaces the built-in type tdt");
    service.wait_for_log("broken.yaml is ignored: line 13, column ");
    service.wait_for_log("there is no key `scael` here; did you mean `scale`?");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn simulated_battery_of_a_profile_is_read() {
    let folder = folder("simulated");
    let path = folder.display().to_string();
    let variables =
        [("BMS_PROFILES", path.as_str()), ("BMS_TYPE", "simulated"), ("BMS_VARIANT", "nova")];
    let output = run(&["read"], &variables, "");
    let readings = objects(&output);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(readings[0]["error"].is_null(), "{readings:?} {errors}");
    assert!(readings[0]["status"]["cell_info"]["battery_soc"].is_number(), "{readings:?}");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn profile_replaces_the_simulator_of_its_brand() {
    // One of data, and two of code; `jk` has a simulator for serial lines.
    for name in ["tdt", "daren", "jk"] {
        let folder = folder(&format!("replaced-{name}"));
        let profile = nova().replace("name: nova", &format!("name: {name}"));
        fs::write(folder.join("nova.yaml"), profile).unwrap();
        let path = folder.display().to_string();
        let profiles = ("BMS_PROFILES", path.as_str());
        let simulate = ["simulate", "--type", name, "--tcp", "127.0.0.1:0"];
        let mut command = program(&[profiles]);
        let mut simulator =
            command.args(simulate).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut port = String::new();
        BufReader::new(simulator.stdout.take().unwrap()).read_line(&mut port).unwrap();
        let variables = [profiles, ("BMS_TYPE", name), ("BMS_PORT", port.trim())];
        let output = run(&["read"], &variables, "");
        simulator.kill().unwrap();
        simulator.wait().unwrap();
        let readings = objects(&output);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(readings[0]["error"].is_null(), "{name}: {readings:?} {errors}");
        assert!(readings[0]["status"]["cell_info"]["battery_soc"].is_number(), "{readings:?}");
        fs::remove_dir_all(folder).unwrap();
    }
}

#[test]
fn type_of_an_invalid_profile_is_unknown() {
    let folder = folder("invalid");
    fs::remove_file(folder.join("nova.yaml")).unwrap();
    let path = folder.display().to_string();
    let variables = [("BMS_PROFILES", path.as_str()), ("BMS_TYPE", "nova"), ("BMS_PORT", "/dev/x")];
    let output = run(&["read"], &variables, "");
    let errors = String::from_utf8_lossy(&output.stderr);
    // The broken file would have the name, too.
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.contains("broken.yaml is ignored: line 13"), "{errors}");
    assert!(errors.contains("BMS_TYPE is \"nova\", but must be a type"), "{errors}");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn missing_folder_is_an_error_except_in_the_addon() {
    let variables = [("BMS_PROFILES", "/nonexistent/profiles"), ("BMS_TYPE", "simulated")];
    let output = run(&["read"], &variables, "");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.contains("BMS_PROFILES is \"/nonexistent/profiles\", but must be"), "{errors}");
    let output = run(&["read"], &[("SUPERVISOR_TOKEN", "x"), ("BMS_TYPE", "simulated")], "");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}
