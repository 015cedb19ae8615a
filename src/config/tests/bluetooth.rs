//! Batteries on Bluetooth, and batteries of unknown type.

use std::time::Duration;

use super::{error, errors, load_valid, warnings};
use crate::config::Endpoint;
use crate::protocol::driver::Medium;
use crate::protocol::{detection, drivers};

const ADDRESS: (&str, &str) = ("BMS_ADDRESS", "c8-47-80-37-02-e8");

#[test]
fn address_alone_configures_a_battery() {
    let config = load_valid(&[ADDRESS]);
    let device = &config.devices[0];
    let endpoint = Endpoint::Ble { address: "C8:47:80:37:02:E8".into(), adapter: None };
    assert_eq!(device.endpoint, endpoint);
    assert_eq!(
        (device.driver.map(|driver| driver.name), device.profile.brand.as_str()),
        (None, detection::AUTO)
    );
    assert_eq!(device.profile.address.as_deref(), Some("C8:47:80:37:02:E8"));
    assert_eq!((&device.profile.port, &device.profile.adapter), (&None, &None));
    assert_eq!(device.options.medium, Medium::Ble);
    assert_eq!(device.options.mac, Some([0xC8, 0x47, 0x80, 0x37, 0x02, 0xE8]));
    assert_eq!(device.options.timeout, Duration::from_secs(20));
    assert_eq!(device.scan_timeout, Duration::from_secs(5));
    assert_eq!(device.keep_connected, None, "depends on the brand");
    assert!(device.bauds.is_empty());
}

#[test]
fn brand_with_another_protocol_over_bluetooth_is_one_type() {
    for (name, brand) in
        [("daren", "daren"), ("daren_ble", "daren"), ("seplos", "seplos"), ("Seplos-V2", "seplos")]
    {
        let config = load_valid(&[ADDRESS, ("BMS_TYPE", name)]);
        let device = &config.devices[0];
        assert_eq!((device.profile.brand.as_str(), device.options.medium), (brand, Medium::Ble));
        let driver = device.driver.unwrap();
        assert!(driver.gatt.is_some() && driver.serial.is_some(), "{name}");
    }
}

#[test]
fn all_bluetooth_variables_are_applied() {
    let config = load_valid(&[
        ADDRESS,
        ("BMS_TYPE", "Auto"),
        ("BMS_ADAPTER", "hci1"),
        ("BMS_SCAN_TIMEOUT", "7.5"),
        ("BMS_TIMEOUT", "30"),
        ("BMS_PASSWORD", "123456"),
        ("BMS_KEEP_CONNECTED", "off"),
        ("BMS_VARIANT", "a5"),
    ]);
    let device = &config.devices[0];
    assert_eq!(device.profile.adapter.as_deref(), Some("hci1"));
    assert_eq!(device.scan_timeout, Duration::from_millis(7500));
    assert_eq!(device.options.timeout, Duration::from_secs(30));
    assert_eq!(device.options.password.as_ref().map(|password| password.expose()), Some("123456"));
    assert_eq!(device.options.variant.as_deref(), Some("a5"));
    assert_eq!(device.keep_connected, Some(false));
    assert!(!format!("{config:?}").contains("123456"));
}

#[test]
fn elements_have_their_own_adapters() {
    let config = load_valid(&[(
        "DEVICES",
        r#"[{"id": "a", "address": "AA:BB:CC:DD:EE:01", "adapter": "hci1", "interval": 10, "keep_connected": true},
            {"id": "b", "type": "auto", "address": "AA:BB:CC:DD:EE:02", "timeout": 20, "scan_timeout": 5},
            {"id": "c", "port": "/dev/ttyUSB0", "slave_id": 2}]"#,
    )]);
    let seen: Vec<_> = config
        .devices
        .iter()
        .map(|device| {
            (device.endpoint.to_string(), device.profile.adapter.as_deref(), device.keep_connected)
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("AA:BB:CC:DD:EE:01".to_owned(), Some("hci1"), Some(true)),
            ("AA:BB:CC:DD:EE:02".to_owned(), None, None),
            ("/dev/ttyUSB0".to_owned(), None, None),
        ]
    );
}

#[test]
fn two_batteries_with_one_address_are_an_error() {
    let message = error(&[(
        "DEVICES",
        r#"[{"id": "a", "address": "AA:BB:CC:DD:EE:01"},
            {"id": "b", "address": "aa-bb-cc-dd-ee-01", "adapter": "hci1"}]"#,
    )]);
    assert!(
        message.starts_with("battery 2 of DEVICES (b): address is \"aa-bb-cc-dd-ee-01\""),
        "{message}"
    );
    assert!(message.contains("another address than that of a"), "{message}");
}

#[test]
fn port_and_address_exclude_each_other() {
    let message = error(&[ADDRESS, ("BMS_PORT", "/dev/ttyUSB0")]);
    assert!(message.starts_with("BMS_ADDRESS is \"c8-47-80-37-02-e8\""), "{message}");
    assert!(message.contains("unset, because BMS_PORT is set"), "{message}");
    assert!(message.ends_with("; for example: BMS_PORT=/dev/ttyUSB0 alone"), "{message}");
}

#[test]
fn malformed_address_is_one_error() {
    for wrong in ["C8:47:80:37:02", "C8:47:80:37:02:EG", "hci0"] {
        let messages = errors(&[("BMS_ADDRESS", wrong)]);
        assert!(messages[0].contains("six pairs of hexadecimal digits"), "{messages:?}");
        assert_eq!(messages.len(), 1, "{messages:?}");
    }
}

#[test]
fn endpoint_must_suit_the_brand() {
    for driver in drivers() {
        if driver.gatt.is_none() {
            let message = error(&[ADDRESS, ("BMS_TYPE", driver.name)]);
            assert!(message.contains("has no Bluetooth: set BMS_PORT"), "{message}");
        }
        if driver.serial.is_none() {
            let message = error(&[("BMS_PORT", "/dev/a"), ("BMS_TYPE", driver.name)]);
            assert!(message.contains("has no port: set BMS_ADDRESS"), "{message}");
        }
    }
}

#[test]
fn missing_endpoint_is_an_error() {
    let message = error(&[("BMS_TYPE", "auto")]);
    assert!(message.starts_with("BMS_PORT must be set"), "{message}");
    assert!(message.contains("or Bluetooth (set its address instead)"), "{message}");
}

#[test]
fn auto_on_a_port_tries_configured_rate_or_all() {
    let device = |pairs: &[(&str, &str)]| load_valid(pairs).devices.remove(0);
    let all = device(&[("BMS_TYPE", "auto"), ("BMS_PORT", "/dev/a")]);
    assert!(all.driver.is_none() && all.bauds.is_empty());
    assert_eq!(all.options.timeout, detection::TIMEOUT);
    assert_eq!(all.options.medium, Medium::Serial);
    let named = [("BMS_TYPE", "auto"), ("BMS_PORT", "/dev/a"), ("BMS_BAUDRATE", "4800")];
    assert_eq!(device(&named).bauds, [4800]);
}

#[test]
fn auto_on_a_shared_port_is_an_error() {
    for (first, second) in [("auto", "daren"), ("daren", "auto")] {
        let devices = format!(
            r#"[{{"id": "a", "port": "/dev/a", "slave_id": 1, "type": "{first}"}},
                {{"id": "b", "port": "/dev/a", "slave_id": 2, "type": "{second}"}}]"#
        );
        let message = error(&[("DEVICES", &devices)]);
        assert!(message.contains("identifying one would disturb the others"), "{message}");
    }
}

#[test]
fn variables_of_other_endpoints_are_warnings() {
    let found = warnings(&[ADDRESS, ("BMS_SLAVE_ID", "2"), ("BMS_BAUDRATE", "9600")]);
    assert_eq!(
        found,
        [
            "BMS_SLAVE_ID has no effect on C8:47:80:37:02:E8",
            "BMS_BAUDRATE has no effect on C8:47:80:37:02:E8"
        ]
    );
    let found = warnings(&[("BMS_PORT", "/dev/a"), ("BMS_ADAPTER", "hci0")]);
    assert_eq!(found, ["BMS_ADAPTER has no effect on /dev/a"]);
    assert_eq!(warnings(&[("BMS_TYPE", "simulated"), ADDRESS]).len(), 1);
}

#[test]
fn type_in_topics_stays_auto_until_configured() {
    let broker = [("MQTT_HOST", "broker"), ("MQTT_BASE_TOPIC", "bms/{type}/{id}"), ADDRESS];
    let [warning] = &warnings(&broker)[..] else { panic!("one warning") };
    assert!(warning.starts_with("bms: {type} in MQTT_BASE_TOPIC stays auto"), "{warning}");
}

#[test]
fn variant_must_be_a_dialect_of_the_type() {
    let port = ("BMS_PORT", "/dev/ttyUSB0");
    let config = load_valid(&[port, ("BMS_TYPE", "daly"), ("BMS_VARIANT", "D2")]);
    assert_eq!(config.devices[0].options.variant.as_deref(), Some("d2"));
    let message = error(&[port, ("BMS_TYPE", "daly"), ("BMS_VARIANT", "modbus")]);
    assert!(message.contains("one of a5, d2, p81"), "{message}");
    let config = load_valid(&[port, ("BMS_TYPE", "daren"), ("BMS_VARIANT", "d2")]);
    assert_eq!(config.devices[0].options.variant, None);
}
