//! What the commands print when the configuration is wrong or missing.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

/// Runs the program with exactly this environment.
fn run(command: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_bms-reader"));
    program.args(command).env_clear().envs(environment.iter().copied()).output().unwrap()
}

#[test]
fn misspelled_name_is_reported_before_the_error() {
    let devices = r#"[{"id": "a", "type": "jbd", "adress": "AA:BB:CC:DD:EE:FF"}]"#;
    for command in [&[][..], &["read"], &["check"]] {
        let output = run(command, &[("DEVICES", devices)]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        let (warning, error) = (
            text.find("battery 1 of DEVICES (a): adress is unknown"),
            text.find("battery 1 of DEVICES (a): port must be set"),
        );
        assert!(warning.is_some() && warning < error, "{text}");
    }
}

#[test]
fn check_without_a_battery_scans() {
    let output = run(&["check"], &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("no battery is configured"), "{text}");
    // The test machine may have serial ports.
    let ports = ["No serial port found", "BMS_TYPE=auto BMS_PORT="];
    assert!(ports.iter().any(|line| text.contains(line)), "{text}");
    assert!(text.contains("Bluetooth"), "{text}");
    assert_eq!(text.matches("MQTT_HOST").count(), 1, "{text}");
}
