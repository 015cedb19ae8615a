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

#[test]
fn impossible_speed_is_refused_with_the_allowed_range() {
    for command in ["demo", "simulate"] {
        for speed in ["-1", "fast", "1e9", "NaN"] {
            let output = run(&[command, &format!("--speed={speed}")], &[]);
            assert_eq!(output.status.code(), Some(2), "{output:?}");
            let text = String::from_utf8(output.stderr).unwrap();
            assert!(text.contains("from 0 (time stands still) to 100000"), "{text}");
        }
    }
}

#[test]
fn demo_does_not_publish_without_a_broker() {
    // Nothing runs at this port, and the name of a real broker is not used.
    let environment = [("MQTT_HOST", "127.0.0.1"), ("MQTT_PORT", "1"), ("HTTP_LISTEN", "off")];
    let output = run(&["demo", "--seconds", "1"], &[&environment[..], &SHORT_PAST].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.starts_with("Dashboard: off (HTTP_LISTEN)\n"), "{text}");
    assert!(!text.contains("Publishing to"), "{text}");
}

/// A past that is simulated quickly.
const SHORT_PAST: [(&str, &str); 1] = [("HISTORY_HOURS", "1")];
