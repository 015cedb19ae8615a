use super::*;
use crate::model::FaultKind;
use crate::protocol::uuid16;
use crate::transport::{BusFault, LinkError};

fn port(path: &str, answer: Option<Answer>) -> Port {
    let device = Some("/dev/ttyUSB0".to_owned());
    Port { found: PortInfo { path: path.to_owned(), device }, answer }
}

fn daren() -> &'static DriverInfo {
    &crate::protocol::daren::INFO
}

fn device(name: &str, guesses: Vec<Guess>) -> Device {
    Device {
        found: BleDevice {
            adapter: "hci0".into(),
            address: "C8:47:80:37:02:E8".into(),
            name: Some(name.into()),
            rssi: Some(-61),
            services: vec![uuid16(0xFFE0), 0x02F0_0000_0000_0000_0000_0000_0000_FE00],
            manufacturer: Vec::new(),
            connected: false,
        },
        guesses,
        answer: None,
    }
}

fn findings(ports: Vec<Port>, devices: Vec<Device>) -> Findings {
    Findings { ports, devices: Ok(devices) }
}

#[test]
fn each_find_has_the_lines_to_copy() {
    let guess = Guess { driver: daren(), likely: true };
    let found =
        findings(vec![port("/dev/serial/by-id/x", None)], vec![device("JK_B2", vec![guess])]);
    let expected = "\
/dev/serial/by-id/x
  is now /dev/ttyUSB0
  environment:  BMS_TYPE=auto BMS_PORT=/dev/serial/by-id/x
  docker run:   --device /dev/serial/by-id/x:/dev/serial/by-id/x -e BMS_TYPE=auto -e BMS_PORT=/dev/serial/by-id/x
  add-on:       bms_type: \"auto\"
                bms_port: \"/dev/serial/by-id/x\"

";
    let text = text::render(&found);
    assert!(text.starts_with(expected), "{text}");
    let expected = "\
C8:47:80:37:02:E8  JK_B2  -61 dBm  at hci0  services ffe0 02f00000-0000-0000-0000-00000000fe00
  looks like Daren
  environment:  BMS_TYPE=daren BMS_ADDRESS=C8:47:80:37:02:E8
  docker run:   -v /run/dbus:/run/dbus:ro -e BMS_TYPE=daren -e BMS_ADDRESS=C8:47:80:37:02:E8
  add-on:       bms_type: \"daren\"
                bms_address: \"C8:47:80:37:02:E8\"

";
    assert!(text.ends_with(expected), "{text}");
}

#[test]
fn a_hint_is_left_to_the_search() {
    let guess = Guess { driver: daren(), likely: false };
    let text = text::render(&findings(vec![], vec![device("x", vec![guess])]));
    assert!(text.contains("perhaps Daren; others advertise the same"), "{text}");
    assert!(text.contains("BMS_TYPE=auto BMS_ADDRESS=C8:47:80:37:02:E8"), "{text}");
    assert!(text.contains("No serial port found"), "{text}");
}

#[test]
fn strangers_are_listed_without_advice_and_cannot_write_on_the_terminal() {
    let found = findings(vec![], vec![device("TV\x1b[31m", vec![])]);
    let text = text::render(&found);
    assert!(text.contains("look like no battery"), "{text}");
    assert!(text.contains("  C8:47:80:37:02:E8  TV [31m  -61 dBm"), "{text}");
    assert!(!text.contains("BMS_ADDRESS"), "{text}");
    assert_eq!(object(&found)["bluetooth"][0].get("environment"), None);
}

#[test]
fn who_answered_is_configured_as_such() {
    let answered = probe::Answered { driver: daren(), model: Some("DR-JC03".into()) };
    let silent = Fault::new(FaultKind::Timeout, "nobody answers", "wake it");
    let found = findings(
        vec![port("/dev/a", Some(Ok(answered))), port("/dev/b", Some(Err(silent)))],
        vec![],
    );
    let text = text::render(&found);
    assert!(text.contains("  answers as Daren, DR-JC03\n"), "{text}");
    assert!(text.contains("BMS_TYPE=daren BMS_PORT=/dev/a"), "{text}");
    assert!(text.contains("  nobody answers\n    wake it\n"), "{text}");
    let object = object(&found);
    assert_eq!(object["serial"][0]["answered"], "daren");
    assert_eq!(object["serial"][0]["environment"]["BMS_TYPE"], "daren");
    assert_eq!(object["serial"][1]["error"]["type"], "timeout");
}

#[test]
fn without_bluetooth_the_rest_is_told_and_the_remedy() {
    let error = LinkError::AdapterOff { adapter: "hci0".into() };
    let fault = CycleError::Link(error).fault();
    let found = Findings { ports: vec![port("/dev/a", None)], devices: Err(fault) };
    let text = text::render(&found);
    assert!(
        text.contains("No Bluetooth: the Bluetooth adapter hci0 is switched off\n  "),
        "{text}"
    );
    let object = object(&found);
    assert_eq!(object["bluetooth"], json!([]));
    assert_eq!(object["bluetooth_error"]["type"], "adapter_not_found");
    assert_eq!(object["serial"][0]["path"], "/dev/a");
}

#[test]
fn a_port_that_is_not_there_has_no_lines() {
    let error = LinkError::NotFound { endpoint: "/dev/ttyUSB9".into() };
    let fault = CycleError::Link(error).fault();
    let found = findings(vec![port("/dev/ttyUSB9", Some(Err(fault)))], vec![]);
    let text = text::render(&found);
    assert!(text.contains("is the adapter plugged in?"), "{text}");
    assert!(!text.contains("BMS_PORT="), "{text}");
    assert_eq!(object(&found)["serial"][0].get("environment"), None);
}

#[test]
fn no_bluetooth_is_said_once() {
    let error = LinkError::NoBus { fault: BusFault::Missing, reason: "no file".into() };
    let found = Findings { ports: vec![], devices: Err(CycleError::Link(error).fault()) };
    let text = text::render(&found).to_lowercase();
    assert_eq!(text.matches("no bluetooth:").count(), 1, "{text}");
}

#[test]
fn a_place_that_is_not_there_is_named() {
    let found = findings(vec![port("/dev/serial/by-id/x", None)], vec![device("JK", vec![])]);
    let wanted = ["/dev/ttyUSB0", "c8:47:80:37:02:e8", "C8:47:80:37:02:E9"].map(String::from);
    assert_eq!(found.missing(&wanted), [&wanted[2]]);
}
