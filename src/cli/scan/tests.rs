use super::*;
use crate::model::{DeviceState, FaultKind, Profile};
use crate::protocol::{DriverInfo, uuid16};
use crate::transport::{EsphomeFault, LinkError};

fn port(path: &str, probe: Option<ProbeResult>) -> FoundPort {
    let device = Some("/dev/ttyUSB0".to_owned());
    FoundPort { found: PortInfo { path: path.to_owned(), device }, probe }
}

fn identified(address: u8) -> Identified {
    let (driver, state) = (daren(), DeviceState::new(Profile::sample("bms")));
    Identified { driver, model: Some("DR-JC03".into()), address: Some(address), state }
}

fn daren() -> &'static DriverInfo {
    &crate::protocol::daren::INFO
}

fn device(name: &str, guesses: Vec<Guess>) -> FoundDevice {
    FoundDevice {
        found: BleDevice {
            adapter: "hci0".into(),
            address: "C8:47:80:37:02:E8".into(),
            name: Some(name.into()),
            rssi: Some(-61),
            services: vec![uuid16(0xFFE0), 0x02F0_0000_0000_0000_0000_0000_0000_FE00],
            manufacturer: Vec::new(),
            connected: false,
        },
        by_proxy: false,
        guesses,
        probe: None,
    }
}

fn result(ports: Vec<FoundPort>, devices: Vec<FoundDevice>) -> ScanResult {
    ScanResult { ports, proxies: Vec::new(), devices: Ok(devices) }
}

#[test]
fn proxy_is_listed_and_a_battery_behind_it_needs_no_dbus() {
    let guess = Guess { driver: daren(), likely: true };
    let mut found = result(Vec::new(), vec![device("JK_B2", vec![guess])]);
    let devices = found.devices.as_mut().unwrap();
    (devices[0].by_proxy, devices[0].found.adapter) = (true, "garage".into());
    let info = ProxyInfo {
        name: "garage".into(),
        endpoint: "esphome://10.0.0.7".into(),
        version: "2026.10.0".into(),
        devices: 12,
        slots: Some((2, 3)),
    };
    let fault = EsphomeFault::ProxyBusy;
    let error = LinkError::Esphome { endpoint: "esphome://10.0.0.8".into(), fault };
    found.proxies = vec![Ok(info), Err(CycleError::Link(error).fault())];
    let text = text::render(&found);
    for expected in [
        "Bluetooth proxy garage (esphome://10.0.0.7), ESPHome 2026.10.0: 12 devices in reach, 2 of 3 \
         connections free\n",
        "Bluetooth proxy esphome://10.0.0.8: the Bluetooth proxy is used by another program",
        "docker run:   -e BMS_TYPE=daren -e BMS_ADDRESS=C8:47:80:37:02:E8 -e BMS_ADAPTER=proxies\n",
    ] {
        assert!(text.contains(expected), "{text}");
    }
    let json = found.to_json();
    assert_eq!(
        (&json["proxies"][0]["devices"], &json["proxies"][0]["connections"]),
        (&12.into(), &3.into())
    );
    assert_eq!(json["proxies"][1]["error"]["type"], "port_busy");
}

#[test]
fn port_and_device_have_lines_to_copy() {
    let guess = Guess { driver: daren(), likely: true };
    let found = result(vec![port("/dev/serial/by-id/x", None)], vec![device("JK_B2", vec![guess])]);
    let expected = "\
/dev/serial/by-id/x
  currently /dev/ttyUSB0
  environment:  BMS_TYPE=auto BMS_PORT=/dev/serial/by-id/x
  docker run:   --device /dev/serial/by-id/x:/dev/serial/by-id/x -e BMS_TYPE=auto -e BMS_PORT=/dev/serial/by-id/x
  add-on:       bms_type: \"auto\"
                bms_port: \"/dev/serial/by-id/x\"

";
    let text = text::render(&found);
    assert!(text.starts_with(expected), "{text}");
    let expected = "\
C8:47:80:37:02:E8  JK_B2  -61 dBm  at hci0  services ffe0 02f00000-0000-0000-0000-00000000fe00
  probably Daren
  environment:  BMS_TYPE=daren BMS_ADDRESS=C8:47:80:37:02:E8
  docker run:   -v /run/dbus:/run/dbus:ro -e BMS_TYPE=daren -e BMS_ADDRESS=C8:47:80:37:02:E8
  add-on:       bms_type: \"daren\"
                bms_address: \"C8:47:80:37:02:E8\"

";
    assert!(text.ends_with(expected), "{text}");
}

#[test]
fn possible_brand_is_left_to_auto() {
    let guess = Guess { driver: daren(), likely: false };
    let text = text::render(&result(vec![], vec![device("x", vec![guess])]));
    assert!(text.contains("possibly Daren; other devices advertise the same"), "{text}");
    assert!(text.contains("BMS_TYPE=auto BMS_ADDRESS=C8:47:80:37:02:E8"), "{text}");
    assert!(text.contains("No serial port found"), "{text}");
}

#[test]
fn other_devices_are_listed_without_settings() {
    let found = result(vec![], vec![device("TV\x1b[31m", vec![])]);
    let text = text::render(&found);
    assert!(text.contains("match no supported battery"), "{text}");
    assert!(text.contains("  C8:47:80:37:02:E8  TV [31m  -61 dBm"), "{text}");
    assert!(!text.contains("BMS_ADDRESS"), "{text}");
    assert_eq!(found.to_json()["bluetooth"][0].get("environment"), None);
}

#[test]
fn identified_battery_is_configured_by_its_type() {
    let identified = identified(1);
    let silent = Fault::new(FaultKind::Timeout, "no answer", "wake it");
    let found = result(
        vec![port("/dev/a", Some(Ok(vec![identified]))), port("/dev/b", Some(Err(silent)))],
        vec![],
    );
    let text = text::render(&found);
    assert!(text.contains("  identified as Daren, DR-JC03\n"), "{text}");
    assert!(text.contains("BMS_TYPE=daren BMS_PORT=/dev/a"), "{text}");
    assert!(text.contains("  no answer\n    wake it\n"), "{text}");
    let json = found.to_json();
    assert_eq!(json["serial"][0]["answered"], "daren");
    assert_eq!(json["serial"][0]["environment"]["BMS_TYPE"], "daren");
    assert_eq!(json["serial"][1]["error"]["type"], "timeout");
}

#[test]
fn missing_bluetooth_is_reported_with_a_remedy() {
    let error = LinkError::AdapterOff { adapter: "hci0".into() };
    let fault = CycleError::Link(error).fault();
    let found =
        ScanResult { devices: Err(fault), ..result(vec![port("/dev/a", None)], Vec::new()) };
    let text = text::render(&found);
    assert!(
        text.contains("Bluetooth is not available: the Bluetooth adapter hci0 is switched off\n  "),
        "{text}"
    );
    let json = found.to_json();
    assert_eq!(json["bluetooth"], json!([]));
    assert_eq!(json["bluetooth_error"]["type"], "adapter_not_found");
    assert_eq!(json["serial"][0]["path"], "/dev/a");
}

#[test]
fn missing_port_has_no_lines() {
    let error = LinkError::NotFound { endpoint: "/dev/ttyUSB9".into() };
    let fault = CycleError::Link(error).fault();
    let found = result(vec![port("/dev/ttyUSB9", Some(Err(fault)))], vec![]);
    let text = text::render(&found);
    assert!(text.contains("is the adapter plugged in?"), "{text}");
    assert!(!text.contains("BMS_PORT="), "{text}");
    assert_eq!(found.to_json()["serial"][0].get("environment"), None);
}

#[test]
fn missing_target_is_reported() {
    let found = result(vec![port("/dev/serial/by-id/x", None)], vec![device("JK", vec![])]);
    let targets = ["/dev/ttyUSB0", "c8:47:80:37:02:e8", "C8:47:80:37:02:E9"].map(String::from);
    assert_eq!(found.missing(&targets), [&targets[2]]);
}

#[test]
fn several_packs_have_devices_and_a_bank() {
    let packs = [1, 2, 5].map(identified).to_vec();
    let found = result(vec![port("/dev/a", Some(Ok(packs)))], vec![]);
    let text = text::render(&found);
    assert!(text.contains("  3 packs found\n    address 1: Daren, DR-JC03\n"), "{text}");
    let json = found.to_json();
    let environment = &json["serial"][0]["environment"];
    let devices: Value = serde_json::from_str(environment["DEVICES"].as_str().unwrap()).unwrap();
    let last = json!({"id": "pack5", "type": "daren", "port": "/dev/a", "slave_id": 5});
    assert_eq!((devices.as_array().unwrap().len(), &devices[2]), (3, &last));
    assert!(text.contains(&format!("DEVICES='{}'", environment["DEVICES"].as_str().unwrap())));
    let banks: Value = serde_json::from_str(environment["BANKS"].as_str().unwrap()).unwrap();
    assert_eq!(banks[0]["members"], json!(["pack1", "pack2", "pack5"]));
    assert_eq!(json["serial"][0]["packs"][1]["address"], 2);
}

#[test]
fn bridge_needs_no_device_in_docker() {
    let pack = vec![identified(1)];
    let found = result(vec![port("tcp://10.0.0.5:8899", Some(Ok(pack)))], vec![]);
    let text = text::render(&found);
    let line = "  docker run:   -e BMS_TYPE=daren -e BMS_PORT=tcp://10.0.0.5:8899\n";
    assert!(text.contains(line), "{text}");
    assert!(!text.contains("--device"), "{text}");
}

#[test]
fn key_of_an_esphome_device_is_a_placeholder() {
    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let path = format!("esphome://10.0.0.7/BMS%20bus?key={KEY}");
    for packs in [vec![identified(1)], [1, 2].map(identified).to_vec()] {
        let found = result(vec![port(&path, Some(Ok(packs)))], vec![]);
        let text = text::render(&found);
        let json = found.to_json().to_string();
        assert!(!text.contains(KEY) && !json.contains(KEY), "{text}{json}");
        assert!(text.contains("esphome://10.0.0.7/BMS%20bus?key=KEY"), "{text}");
        assert!(text.contains("  KEY: `key:` under `api: encryption:`"), "{text}");
    }
    let found = result(vec![port(&path, None)], vec![]);
    let text = text::render(&found);
    let line = "-e BMS_PORT='esphome://10.0.0.7/BMS%20bus?key=KEY'\n";
    assert!(text.contains(line), "{text}");
    assert!(!text::render(&result(vec![port("/dev/a", None)], vec![])).contains("KEY"));
}

#[test]
fn brands_that_read_one_pack_are_all_named() {
    let other = Identified { driver: &crate::protocol::seplos::INFO, model: None, ..identified(1) };
    let probe = |packs: &[&Identified]| Some(Ok(packs.iter().map(|it| (*it).clone()).collect()));
    let found = result(vec![port("/dev/a", probe(&[&identified(1), &other]))], vec![]);
    let text = text::render(&found);
    assert!(text.contains("  identified as Daren, DR-JC03 or Seplos V2\n"), "{text}");
    assert!(text.contains("  answers several brands: "), "{text}");
    let json = found.to_json();
    assert_eq!(json["serial"][0]["environment"]["BMS_TYPE"], "daren");
    let types = [&json["serial"][0]["packs"][0]["type"], &json["serial"][0]["packs"][1]["type"]];
    assert_eq!(types, ["daren", "seplos"]);

    // The configuration allows each address once.
    let packs = probe(&[&identified(1), &other, &identified(2)]);
    let found = result(vec![port("/dev/a", packs)], vec![]);
    let text = text::render(&found);
    assert!(
        text.contains("  2 packs found\n    address 1: Daren, DR-JC03 or Seplos V2\n"),
        "{text}"
    );
    let json = found.to_json();
    let devices = json["serial"][0]["environment"]["DEVICES"].as_str().unwrap();
    let devices: Value = serde_json::from_str(devices).unwrap();
    assert_eq!((devices.as_array().unwrap().len(), &devices[1]["id"]), (2, &json!("pack2")));
}

#[test]
fn two_likely_brands_are_left_to_auto() {
    let likely = |driver| Guess { driver, likely: true };
    let guesses = vec![likely(daren()), likely(&crate::protocol::seplos::INFO)];
    let text = text::render(&result(vec![], vec![device("x", guesses)]));
    assert!(text.contains("  probably Daren or Seplos V2\n"), "{text}");
    assert!(text.contains("BMS_TYPE=auto BMS_ADDRESS="), "{text}");
}

#[test]
fn unusual_address_is_part_of_the_settings() {
    let found = result(vec![port("/dev/a", Some(Ok(vec![identified(0)])))], vec![]);
    assert_eq!(found.to_json()["serial"][0]["environment"]["BMS_SLAVE_ID"], "0");
}
