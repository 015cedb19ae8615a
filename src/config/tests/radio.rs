//! Batteries on Bluetooth, and batteries of which nobody said what they are.

use std::time::Duration;

use super::{fault, faults, good, warnings};
use crate::config::Endpoint;
use crate::protocol::driver::Medium;
use crate::protocol::{DRIVERS, auto};

const ADDRESS: (&str, &str) = ("BMS_ADDRESS", "c8-47-80-37-02-e8");

#[test]
fn an_address_alone_is_enough() {
    let config = good(&[ADDRESS]);
    let device = &config.devices[0];
    let place = Endpoint::Ble { address: "C8:47:80:37:02:E8".into(), adapter: None };
    assert_eq!(device.place, place);
    assert_eq!(
        (device.driver.map(|it| it.name), device.profile.brand.as_str()),
        (None, auto::AUTO)
    );
    assert_eq!(device.profile.address.as_deref(), Some("C8:47:80:37:02:E8"));
    assert_eq!((&device.profile.port, &device.profile.adapter), (&None, &None));
    assert_eq!(device.options.medium, Medium::Ble);
    assert_eq!(device.options.mac, Some([0xC8, 0x47, 0x80, 0x37, 0x02, 0xE8]));
    assert_eq!(device.options.timeout, Duration::from_secs(20));
    assert_eq!(device.scan_timeout, Duration::from_secs(5));
    assert_eq!(device.keep_connected, None, "as suits the brand");
    assert!(device.bauds.is_empty());
}

#[test]
fn everything_that_can_be_said_about_it() {
    let config = good(&[
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
    assert_eq!(device.options.password.as_ref().map(|it| it.expose()), Some("123456"));
    assert_eq!(device.options.variant.as_deref(), Some("a5"));
    assert_eq!(device.keep_connected, Some(false));
    assert!(!format!("{config:?}").contains("123456"));
}

#[test]
fn several_adapters_and_batteries() {
    let config = good(&[(
        "DEVICES",
        r#"[{"id": "a", "address": "AA:BB:CC:DD:EE:01", "adapter": "hci1", "interval": 10, "keep_connected": true},
            {"id": "b", "type": "auto", "address": "AA:BB:CC:DD:EE:02", "timeout": 20, "scan_timeout": 5},
            {"id": "c", "port": "/dev/ttyUSB0", "slave_id": 2}]"#,
    )]);
    let seen: Vec<_> = config
        .devices
        .iter()
        .map(|it| (it.place.to_string(), it.profile.adapter.as_deref(), it.keep_connected))
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
fn one_device_is_one_battery() {
    let message = fault(&[(
        "DEVICES",
        r#"[{"id": "a", "address": "AA:BB:CC:DD:EE:01"},
            {"id": "b", "address": "aa-bb-cc-dd-ee-01", "adapter": "hci1"}]"#,
    )]);
    assert!(message.starts_with("DEVICES[1].address is \"aa-bb-cc-dd-ee-01\""), "{message}");
    assert!(message.contains("another address than that of a"), "{message}");
}

#[test]
fn a_battery_has_one_place() {
    let message = fault(&[ADDRESS, ("BMS_PORT", "/dev/ttyUSB0")]);
    assert!(message.starts_with("BMS_ADDRESS is \"c8-47-80-37-02-e8\""), "{message}");
    assert!(message.contains("left out, as BMS_PORT says where the battery is"), "{message}");
    assert!(message.ends_with("; for example: BMS_PORT=/dev/ttyUSB0 alone"), "{message}");
    for wrong in ["C8:47:80:37:02", "C8:47:80:37:02:EG", "hci0"] {
        let messages = faults(&[("BMS_ADDRESS", wrong)]);
        assert!(messages[0].contains("six pairs of hexadecimal digits"), "{messages:?}");
        assert_eq!(messages.len(), 1, "{messages:?}");
    }
}

#[test]
fn a_brand_is_only_looked_for_where_it_can_be() {
    for driver in DRIVERS {
        if driver.gatt.is_none() {
            let message = fault(&[ADDRESS, ("BMS_TYPE", driver.name)]);
            assert!(message.contains("is not read over Bluetooth: set BMS_PORT"), "{message}");
        }
        if driver.serial.is_none() {
            let message = fault(&[("BMS_PORT", "/dev/a"), ("BMS_TYPE", driver.name)]);
            assert!(message.contains("has no wire: set BMS_ADDRESS"), "{message}");
        }
    }
    let message = fault(&[("BMS_TYPE", "auto")]);
    assert!(message.starts_with("BMS_PORT must be set"), "{message}");
    assert!(message.contains("or, with its address, over Bluetooth"), "{message}");
}

#[test]
fn on_a_port_the_search_has_all_rates_or_the_one_that_was_named() {
    let device = |pairs: &[(&str, &str)]| good(pairs).devices.remove(0);
    let all = device(&[("BMS_TYPE", "auto"), ("BMS_PORT", "/dev/a")]);
    assert!(all.driver.is_none() && all.bauds.is_empty());
    assert_eq!(all.options.timeout, auto::TIMEOUT);
    assert_eq!(all.options.medium, Medium::Serial);
    let named = [("BMS_TYPE", "auto"), ("BMS_PORT", "/dev/a"), ("BMS_BAUDRATE", "4800")];
    assert_eq!(device(&named).bauds, [4800]);
}

#[test]
fn a_search_would_disturb_the_others_on_the_port() {
    for (first, second) in [("auto", "daren"), ("daren", "auto")] {
        let devices = format!(
            r#"[{{"id": "a", "port": "/dev/a", "slave_id": 1, "type": "{first}"}},
                {{"id": "b", "port": "/dev/a", "slave_id": 2, "type": "{second}"}}]"#
        );
        let message = fault(&[("DEVICES", &devices)]);
        assert!(message.contains("the search would disturb them"), "{message}");
    }
}

#[test]
fn what_belongs_to_the_other_kind_of_place_is_told() {
    let told = warnings(&[ADDRESS, ("BMS_SLAVE_ID", "2"), ("BMS_BAUDRATE", "9600")]);
    assert_eq!(
        told,
        [
            "BMS_SLAVE_ID has no effect on C8:47:80:37:02:E8",
            "BMS_BAUDRATE has no effect on C8:47:80:37:02:E8"
        ]
    );
    let told = warnings(&[("BMS_PORT", "/dev/a"), ("BMS_ADAPTER", "hci0")]);
    assert_eq!(told, ["BMS_ADAPTER has no effect on /dev/a"]);
    assert_eq!(warnings(&[("BMS_TYPE", "simulated"), ADDRESS]).len(), 1);
}

#[test]
fn topics_do_not_change_when_the_type_is_found() {
    let broker = [("MQTT_HOST", "broker"), ("MQTT_BASE_TOPIC", "bms/{type}/{id}"), ADDRESS];
    let [told] = &warnings(&broker)[..] else { panic!("one warning") };
    assert!(told.starts_with("bms: {type} in MQTT_BASE_TOPIC stays auto"), "{told}");
}

#[test]
fn a_dialect_is_one_that_the_type_has() {
    let port = ("BMS_PORT", "/dev/ttyUSB0");
    let config = good(&[port, ("BMS_TYPE", "daly"), ("BMS_VARIANT", "D2")]);
    assert_eq!(config.devices[0].options.variant.as_deref(), Some("d2"));
    let message = fault(&[port, ("BMS_TYPE", "daly"), ("BMS_VARIANT", "modbus")]);
    assert!(message.contains("one of a5, d2, p81"), "{message}");
    let config = good(&[port, ("BMS_TYPE", "daren"), ("BMS_VARIANT", "d2")]);
    assert_eq!(config.devices[0].options.variant, None);
}
