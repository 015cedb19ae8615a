//! Batteries and banks.

use std::time::Duration;

use super::{TWO, diagnostics, error, errors, load_valid, warnings};
use crate::config::Endpoint;
use crate::model::bank::Wiring;
use crate::protocol;
use crate::protocol::driver::CapacityUnit;
use crate::sim;

#[test]
fn misspelled_name_is_reported_with_the_error_that_it_causes() {
    let check = |pairs: &[(&str, &str)], error: &str, warning: &str| {
        let found = diagnostics(pairs);
        assert!(found.errors[0].to_string().starts_with(error), "{found:#?}");
        assert!(found.warnings.iter().any(|text| text.starts_with(warning)), "{found:#?}");
    };
    check(
        &[("BMS_TYPE", "daren"), ("BMS_PROT", "/dev/ttyUSB0")],
        "BMS_PORT must be set",
        "BMS_PROT is unknown and ignored; did you mean BMS_PORT?",
    );
    check(
        &[("DEVICES", r#"[{"id": "a", "type": "jbd", "adress": "AA:BB:CC:DD:EE:FF"}]"#)],
        "battery 1 of DEVICES (a): port must be set",
        "battery 1 of DEVICES (a): adress is unknown and ignored; did you mean address?",
    );
}

#[test]
fn battery_without_type_or_endpoint_is_a_warning() {
    let [warning] = &warnings(&[("BMS_SLAVE_ID", "2")])[..] else { panic!("one warning") };
    assert!(
        warning.starts_with("BMS_SLAVE_ID without effect, because no battery is configured"),
        "{warning}"
    );
}

#[test]
fn error_about_unknown_type_begins_with_the_probable_one() {
    for (written, meant) in [
        ("darren", "daren"),
        ("xiaoxiang", "jbd"),
        ("jkbms", "jk"),
        ("JK-BMS", "jk"),
        ("Daly BMS", "daly"),
        ("US2000", "pylontech"),
    ] {
        let message = error(&[("BMS_TYPE", written), ("BMS_PORT", "/dev/a")]);
        let start = format!("BMS_TYPE is \"{written}\", but must be a type: did you mean {meant}?");
        assert!(message.starts_with(&start), "{message}");
        assert!(message.ends_with(&format!("; write {meant}")), "{message}");
        assert!(message.len() < 160, "{message}");
    }
    let message = error(&[("BMS_TYPE", "nonsense"), ("BMS_PORT", "/dev/a")]);
    assert!(message.ends_with("; for example: auto"), "{message}");
    assert_eq!(load_valid(&[("BMS_TYPE", "DAREN"), ("BMS_PORT", "/dev/a")]).devices.len(), 1);
}

#[test]
fn barcode_without_type_implies_sc0500() {
    let port = ("BMS_PORT", "/dev/ttyUSB0");
    let config = load_valid(&[port, ("BMS_BARCODE", "pptap02218c10427")]);
    let device = &config.devices[0];
    assert_eq!(device.driver.unwrap().name, "pylontech-sc0500");
    assert_eq!(device.bauds, [115_200]);
    assert_eq!(device.options.barcode.as_deref(), Some("PPTAP02218C10427"));
    assert_eq!(device.options.capacity_unit, CapacityUnit::WattHours);
    assert_eq!(device.options.timeout, Duration::from_secs(5));

    let config =
        load_valid(&[port, ("BMS_TYPE", "pylontech_sc0500"), ("BMS_CAPACITY_UNIT", "MAH")]);
    let device = &config.devices[0];
    assert_eq!((device.driver.unwrap().name, &device.options.barcode), ("pylontech-sc0500", &None));
    assert_eq!(device.options.capacity_unit, CapacityUnit::MilliampHours);
}

#[test]
fn sample_barcode_is_rejected() {
    for (sample, reason) in [
        ("PPTAP01419B15082", "this one is a sample"),
        ("ABCD1234EFGH5678", "this one is a sample"),
        ("YOUR_BMS_SERIAL_NUMBER_HERE", "this one is a sample"),
        ("PPTAP02218C1042", "the 16 letters and digits"),
    ] {
        let message = error(&[("BMS_PORT", "/dev/a"), ("BMS_BARCODE", sample)]);
        assert!(message.starts_with(&format!("BMS_BARCODE is \"{sample}\"")), "{message}");
        assert!(message.contains(reason) && message.contains("reply to `info`"), "{message}");
        let contradicts_itself = message.ends_with(sample);
        assert!(!contradicts_itself, "{message}");
    }
}

#[test]
fn name_without_id_is_suggested_as_id() {
    let message = |name: &str| {
        error(&[("DEVICES", &format!(r#"[{{"name": "{name}", "type": "simulated"}}]"#))])
    };
    let jk1 = message("jk1");
    assert!(jk1.contains("`name` is only the display name"), "{jk1}");
    assert!(jk1.ends_with("; for example: jk1"), "{jk1}");
    assert!(message("Hauptbatterie BMS").ends_with("; for example: bms_main"));
}

#[test]
fn bluetooth_is_not_a_type() {
    let message = error(&[(
        "DEVICES",
        r#"[{"id": "bms_main", "type": "bluetooth", "address": "A5:C2:37:06:1B:C9"}]"#,
    )]);
    assert!(
        message.contains("unset, because battery 1 of DEVICES (bms_main): address is enough"),
        "{message}"
    );
    assert!(message.ends_with("; for example: auto"), "{message}");
}

#[test]
fn environment_of_older_sc0500_program_works() {
    let config = load_valid(&[
        ("SERIAL_PORT", "/dev/ttyUSB0"),
        ("BMS_BARCODE", "PPTAP02218C10427"),
        ("MQTT_BROKER", "192.168.1.100"),
        ("MQTT_PORT", "1883"),
        ("MQTT_USER", "your_mqtt_user"),
        ("MQTT_PASSWORD", "your_super_secret_password"),
        ("HA_DISCOVERY_PREFIX", "homeassistant"),
        ("DEVICE_UNIQUE_ID", "pylontech_sc0500"),
        ("DEVICE_NAME", "Pylontech BMS SC0500"),
        ("DEBUG_MODE", "false"),
    ]);
    let device = &config.devices[0];
    assert_eq!(device.driver.unwrap().name, "pylontech-sc0500");
    assert_eq!(device.profile.id.as_str(), "pylontech_sc0500");
    assert_eq!(device.profile.name, "Pylontech BMS SC0500");
    assert_eq!(config.mqtt.as_ref().map(|mqtt| mqtt.host.as_str()), Some("192.168.1.100"));
}

#[test]
fn simulated_battery_needs_no_port() {
    let config = load_valid(&[("BMS_TYPE", "simulated"), ("BMS_BAUDRATE", "9600")]);
    let device = &config.devices[0];
    assert_eq!(device.endpoint, Endpoint::Simulated);
    assert_eq!(
        (device.driver.unwrap().name, device.profile.brand.as_str()),
        ("daren", "simulated")
    );
    assert_eq!(device.profile.port, None);
    assert_eq!(device.bauds.len(), 1);
    assert!(config.warnings.iter().any(|w| w == "BMS_BAUDRATE has no effect on simulated"));
}

#[test]
fn type_without_simulator_is_refused() {
    let mut refused = 0;
    for info in protocol::drivers() {
        let pairs = [("BMS_TYPE", "simulated"), ("BMS_VARIANT", info.name)];
        if sim::find(info.name).is_some() {
            assert_eq!(load_valid(&pairs).devices[0].driver.unwrap().name, info.name);
        } else {
            let message = error(&pairs);
            let reason = format!("a type that has a simulator, which {} has not", info.name);
            assert!(message.starts_with("BMS_VARIANT") && message.contains(&reason), "{message}");
            refused += 1;
        }
    }
    assert!(refused > 0);
}

#[test]
fn bridge_accepts_ipv6_in_brackets_and_has_one_rate() {
    let config = load_valid(&[("BMS_PORT", "tcp://[fe80::1]:8899"), ("BMS_TIMEOUT", "1.5")]);
    let device = &config.devices[0];
    assert_eq!(device.endpoint, Endpoint::Tcp { address: "[fe80::1]:8899".into() });
    assert_eq!(device.profile.port.as_deref(), Some("tcp://[fe80::1]:8899"));
    assert_eq!(device.bauds.len(), 1);
    assert_eq!(device.options.timeout, Duration::from_millis(1500));
}

#[test]
fn elements_inherit_interval_and_bus_baud_rate() {
    let config = load_valid(&[
        ("READ_INTERVAL", "20"),
        (
            "DEVICES",
            r#"[{"id": "rack", "type": "daren", "port": "/dev/ttyUSB0", "slave_id": 1, "interval": 10},
                {"id": "rack2", "name": "Second rack", "port": "/dev/ttyUSB0", "slave_id": "0x02", "timeout": 1.5,
                 "baudrate": 19200},
                {"id": "demo", "type": "simulated", "port": null}]"#,
        ),
    ]);
    let seen: Vec<_> = config
        .devices
        .iter()
        .map(|d| {
            (d.profile.name.as_str(), d.options.address, d.interval.as_secs(), d.bauds.clone())
        })
        .collect();
    let usual = protocol::daren::INFO.serial.unwrap().bauds;
    assert_eq!(
        seen,
        [
            ("Rack", 1, 10, vec![19_200]),
            ("Second rack", 2, 20, vec![19_200]),
            ("Demo", 1, 20, vec![usual[0]]),
        ]
    );
    assert_eq!(config.devices[1].options.timeout, Duration::from_millis(1500));
}

#[test]
fn errors_name_the_element_and_field() {
    let messages = errors(&[(
        "DEVICES",
        r#"[{"id": "a", "port": "/dev/x", "baudrate": 9600},
            {"id": "a", "port": "/dev/x", "slave_id": 1, "baudrate": 19200},
            {"port": "ttyUSB0"}, {"id": "b b", "port": ["/dev/y"]}, 7,
            {"id": "c", "prot": "/dev/z", "type": "daren"}]"#,
    )]);
    let expected = [
        r#"battery 3 of DEVICES: port is "ttyUSB0", but must be the path of a serial device"#,
        "battery 3 of DEVICES: id must be set",
        "battery 4 of DEVICES (b b): port must be a string",
        r#"battery 4 of DEVICES (b b): id is "b b", but must be letters"#,
        "battery 5 of DEVICES must be a JSON object",
        r#"battery 2 of DEVICES (a): id is "a", but must be an id that no other battery has"#,
        r#"battery 2 of DEVICES (a): slave_id is "1", but must be an address that no other battery on /dev/x has"#,
        r#"battery 2 of DEVICES (a): baudrate is "19200", but must be the same"#,
        "battery 4 of DEVICES (b b): port must be set",
        "battery 6 of DEVICES (c): port must be set: type daren is read over a serial line",
    ];
    for start in expected {
        assert_eq!(
            messages.iter().filter(|m| m.starts_with(start)).count(),
            1,
            "{start}\n{messages:#?}"
        );
    }
    assert_eq!(messages.len(), expected.len(), "{messages:#?}");
}

#[test]
fn taken_address_is_no_example() {
    let devices = r#"[{"id": "a", "type": "daren", "port": "/dev/x"},
                      {"id": "b", "type": "daren", "port": "/dev/x", "slave_id": 1}]"#;
    let message = error(&[("DEVICES", devices)]);
    assert!(message.ends_with("; a has this one; for example: 2"), "{message}");
}

#[test]
fn type_without_addresses_allows_none() {
    let message = error(&[("BMS_PORT", "/dev/a"), ("BMS_TYPE", "jbd"), ("BMS_SLAVE_ID", "2")]);
    let expected = "BMS_SLAVE_ID is \"2\", but must be unset: type jbd has no addresses; for \
                    example: no BMS_SLAVE_ID at all";
    assert_eq!(message, expected);
}

#[test]
fn single_quotes_in_json_are_named() {
    let message = error(&[("DEVICES", "[{'id': 'a', 'port': '/dev/x'}]")]);
    assert!(message.contains(r#"with double quotes (") around names and texts"#), "{message}");
    assert!(!message.contains("column"), "{message}");
}

#[test]
fn json_error_shows_line_and_column_only() {
    let message = error(&[("DEVICES", "[{\"id\": \"a\",\n  \"password\": \"hunter2\" \"port\"}]")]);
    assert!(message.starts_with("DEVICES must be a JSON array of objects"), "{message}");
    assert!(message.contains("line 2 column 25"), "{message}");
    assert!(!message.contains("hunter2"), "{message}");
    assert!(error(&[("DEVICES", "{}")]).starts_with("DEVICES must be a JSON array"));
}

#[test]
fn device_list_overrides_flat_variables() {
    let pairs = [
        ("DEVICES", r#"[{"id": "sim", "type": "simulated", "colour": "red"}]"#),
        ("BMS_PORT", "/dev/ttyUSB0"),
        ("READ_INTERVAL", "5"),
    ];
    assert_eq!(load_valid(&pairs).devices[0].profile.id.as_str(), "sim");
    let warnings = warnings(&pairs);
    assert!(
        warnings.contains(&"BMS_PORT ignored, because DEVICES is set".to_owned()),
        "{warnings:?}"
    );
    assert!(
        warnings.iter().any(|w| w.starts_with("battery 1 of DEVICES (sim): colour is unknown")),
        "{warnings:?}"
    );
}

#[test]
fn enabled_field_is_answered_with_advice() {
    let disabled = r#"[{"id": "sim", "type": "simulated", "enabled": false}]"#;
    let advice = warnings(&[("DEVICES", disabled)]).join("\n");
    assert!(advice.ends_with("to disable a battery, remove it from the list"), "{advice}");
}

#[test]
fn empty_device_list_counts_as_unset() {
    let empty = [("DEVICES", "[]"), ("BMS_PORT", "/dev/ttyUSB0")];
    assert_eq!(load_valid(&empty).devices.len(), 1);
}

#[test]
fn bank_has_members_and_wiring() {
    let banks = r#"[{"id": "house", "members": ["a", "b"]}]"#;
    let config = load_valid(&[("DEVICES", TWO), ("BANKS", banks)]);
    let bank = &config.banks[0];
    assert_eq!((bank.profile.name.as_str(), bank.profile.brand.as_str()), ("House", "bank"));
    assert_eq!(bank.members.iter().map(|id| id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((bank.wiring, bank.profile.interval_ms), (Wiring::Parallel, 30_000));
    let row = r#"[{"id": "row", "wiring": "Series", "members": ["a", "b"]}]"#;
    assert_eq!(load_valid(&[("DEVICES", TWO), ("BANKS", row)]).banks[0].wiring, Wiring::Series);
}

#[test]
fn bank_errors_name_the_field() {
    let star = r#"[{"id": "star", "wiring": "star", "members": ["a"]}]"#;
    let message = error(&[("DEVICES", TWO), ("BANKS", star)]);
    assert!(
        message.starts_with(
            "bank 1 of BANKS (star): wiring is \"star\", but must be parallel or series"
        )
    );
    let messages = errors(&[
        ("DEVICES", TWO),
        (
            "BANKS",
            r#"[{"id": "a", "members": ["a", "a"]}, {"id": "x y", "members": []}, {"id": "z", "member": 1},
                {"id": "q", "members": ["c"]}, {"id": "q", "name": "Q\n", "members": ["b"]}]"#,
        ),
    ]);
    let expected = [
        "bank 1 of BANKS (a): id is \"a\"",
        "bank 1 of BANKS (a): members is \"a\", but must be a list that contains each battery once",
        "bank 2 of BANKS (x y): id is \"x y\"",
        "bank 2 of BANKS (x y): members is \"[]\"",
        "bank 3 of BANKS must be an object with id, name, wiring and members",
        "bank 4 of BANKS (q): members is \"c\", but must be a list of battery ids (a, b)",
        "bank 5 of BANKS (q): id is \"q\", but must be an id that no battery and no other bank has",
        "bank 5 of BANKS (q): name",
    ];
    for start in expected {
        assert_eq!(
            messages.iter().filter(|m| m.starts_with(start)).count(),
            1,
            "{start}\n{messages:#?}"
        );
    }
    assert_eq!(messages.len(), expected.len(), "{messages:#?}");
    assert!(error(&[("BANKS", "[1,")]).starts_with("BANKS is \"[1,\""));
}

#[test]
fn bank_switch_groups_all_batteries() {
    let config = load_valid(&[("DEVICES", TWO), ("BANK", "on")]);
    let bank = &config.banks[0];
    assert_eq!((bank.profile.id.as_str(), bank.profile.name.as_str()), ("bank", "Bank"));
    assert_eq!(bank.members.len(), 2);
    assert!(load_valid(&[("BMS_TYPE", "simulated"), ("BANK", "on")]).banks.is_empty());
    let clash = r#"[{"id": "bank", "type": "simulated"}, {"id": "b", "type": "simulated"}]"#;
    assert!(error(&[("DEVICES", clash), ("BANK", "on")]).starts_with("BANK is \"on\""));
}
