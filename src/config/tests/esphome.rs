//! Serial ports of ESPHome devices.

use super::{environment, error, load_valid, warnings};
use crate::config::{Endpoint, redacted};
use crate::model::Secret;

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn port(text: &str) -> String {
    format!("esphome://10.0.0.7/{text}")
}

fn key_of(endpoint: &Endpoint) -> Option<u8> {
    match endpoint {
        Endpoint::Esphome(port) => port.key.as_ref().map(|key| key.0[31]),
        other => panic!("{other}"),
    }
}

#[test]
fn port_has_a_baud_rate_and_its_name_in_the_profile() {
    let port = port(&format!("BMS%20bus?key={KEY}"));
    let variables = [("BMS_TYPE", "jbd"), ("BMS_PORT", &port), ("BMS_BAUDRATE", "19200")];
    let config = load_valid(&variables);
    let device = &config.devices[0];
    assert_eq!(device.bauds, [19_200]);
    assert_eq!(device.profile.port.as_deref(), Some("esphome://10.0.0.7/BMS bus"));
    assert_eq!(key_of(&device.endpoint), Some(31));
    assert_eq!(warnings(&variables), [""; 0]);
    assert!(!format!("{config:?}").contains(KEY));
}

#[test]
fn key_of_one_port_is_that_of_all_ports_of_the_device() {
    let [one, two, three] = [port("one"), port(&format!("two?key={KEY}")), port("one")];
    let other = format!("esphome://10.0.0.8/one?key={}", KEY.replace("h8", "h9"));
    let devices = |ports: &[&str]| {
        let element = |(id, port): (usize, &&str)| {
            format!(r#"{{"id": "b{id}", "type": "daren", "port": "{port}", "slave_id": {id}}}"#)
        };
        let elements: Vec<_> = ports.iter().enumerate().map(element).collect();
        format!("[{}]", elements.join(", "))
    };
    let config = load_valid(&[("DEVICES", &devices(&[&one, &two, &three, &other]))]);
    let keys: Vec<_> = config.devices.iter().map(|device| key_of(&device.endpoint)).collect();
    assert_eq!(keys, [Some(31), Some(31), Some(31), Some(31)]);
    assert_eq!(config.devices[0].endpoint, config.devices[2].endpoint);
    let different = port(&format!("one?key={}", KEY.replace("AAEC", "BAEC")));
    let message = error(&[("DEVICES", &devices(&[&two, &different]))]);
    assert!(message.contains("the same key as the others of esphome://10.0.0.7"), "{message}");
    assert!(!message.contains("BAEC"), "{message}");
}

#[test]
fn key_is_in_no_error_and_no_report() {
    let digits = KEY.trim_end_matches('=');
    for invalid in [
        port(&format!("x?key={digits}")),
        port(&format!("x?psk={KEY}")),
        format!("\"{}\"", port(&format!("x?key={KEY}"))),
    ] {
        let message = error(&[("BMS_TYPE", "jbd"), ("BMS_PORT", &invalid)]);
        assert!(!message.contains(digits) && message.contains("esphome://"), "{message}");
    }
    let port = port(&format!("BMS%20bus?key={KEY}"));
    let both = [("BMS_TYPE", "jbd"), ("BMS_PORT", &port), ("BMS_ADDRESS", "C8:47:80:37:02:E8")];
    assert!(!error(&both).contains(digits));
    let devices = format!(r#"[{{"id": "a", "Port": "{port}"}}]"#);
    for variables in [[("BMS_PORT", &port)], [("DEVICES", &devices)]] {
        let config = redacted(environment(&variables.map(|(name, text)| (name, text.as_str()))));
        let shown = format!("{:?}", config.values);
        assert!(!shown.contains(digits) && shown.contains("BMS%20bus?***"), "{shown}");
        assert!(config.secrets.contains(&Secret::new(KEY)));
    }
}
