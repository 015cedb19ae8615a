//! What the commands say to people whose configuration is wrong, or not there yet.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

/// The program with this environment and no other.
fn run(command: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_bms-reader"));
    program.args(command).env_clear().envs(environment.iter().copied()).output().unwrap()
}

#[test]
fn a_mistyped_name_is_told_before_the_fault_that_it_led_to() {
    let devices = r#"[{"id": "a", "type": "jbd", "adress": "AA:BB:CC:DD:EE:FF"}]"#;
    for command in [&[][..], &["read"], &["check"]] {
        let output = run(command, &[("DEVICES", devices)]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        let (warning, fault) =
            (said.find("DEVICES[0].adress is not known"), said.find("DEVICES[0].port must be set"));
        assert!(warning.is_some() && warning < fault, "{said}");
    }
}

#[test]
fn check_without_a_battery_looks_around() {
    let output = run(&["check"], &[]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("no battery is configured"), "{said}");
    let ports = ["No serial port found", "BMS_TYPE=auto BMS_PORT="];
    assert!(ports.iter().any(|words| said.contains(words)), "{said}");
    assert!(said.contains("Bluetooth"), "{said}");
    assert_eq!(said.matches("MQTT_HOST").count(), 1, "{said}");
}
