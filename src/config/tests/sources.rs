//! Names, aliases, secret files and the options of the add-on.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::{TWO, error, errors, load_valid, warnings};

/// A temporary file, removed at the end of the test.
struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str, content: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("bms-reader-{}-{name}", std::process::id()));
        fs::write(&path, content).unwrap();
        TempFile(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn alias_sets_the_documented_variable() {
    let config = load_valid(&[
        ("SERIAL_PORT", "/dev/ttyUSB1"),
        ("MQTT_BROKER", "192.168.1.100"),
        ("HA_DISCOVERY_PREFIX", "ha"),
        ("DEVICE_UNIQUE_ID", "pylontech_sc0500"),
        ("DEVICE_NAME", "Pylontech BMS SC0500"),
        ("BMS_TYPE", "daren"),
    ]);
    assert_eq!(config.devices[0].endpoint.to_string(), "/dev/ttyUSB1");
    assert_eq!(config.devices[0].profile.id.as_str(), "pylontech_sc0500");
    assert_eq!(config.devices[0].profile.name, "Pylontech BMS SC0500");
    let mqtt = config.mqtt.unwrap();
    assert_eq!((mqtt.host.as_str(), mqtt.discovery_prefix.as_str()), ("192.168.1.100", "ha"));
}

#[test]
fn documented_name_overrides_alias_with_a_warning() {
    let both = [("BMS_PORT", "/dev/a"), ("SERIAL_PORT", "/dev/b")];
    assert_eq!(load_valid(&both).devices[0].endpoint.to_string(), "/dev/a");
    assert_eq!(warnings(&both), ["SERIAL_PORT is ignored, because BMS_PORT has another value"]);
    assert!(warnings(&[("BMS_PORT", "/dev/a"), ("SERIAL_PORT", "/dev/a")]).is_empty());
}

#[test]
fn error_in_an_alias_names_the_alias() {
    let message = error(&[("SERIAL_PORT", "ttyUSB0")]);
    assert!(message.starts_with("SERIAL_PORT is \"ttyUSB0\", but must be the path"), "{message}");
    assert!(message.ends_with("write /dev/ttyUSB0"), "{message}");
}

#[test]
fn blanks_are_trimmed_and_empty_is_unset() {
    let config = load_valid(&[
        ("BMS_PORT", "  /dev/ttyUSB0\n"),
        ("BMS_SLAVE_ID", " 0x0A "),
        ("READ_INTERVAL", " 0.5 "),
        ("MQTT_HOST", ""),
        ("DEVICE_ID", "  "),
        ("DEBUG_MODE", " YES "),
    ]);
    let device = &config.devices[0];
    assert_eq!(device.endpoint.to_string(), "/dev/ttyUSB0");
    assert_eq!(device.options.address, 10);
    assert_eq!(device.interval, Duration::from_millis(500));
    assert_eq!(device.profile.id.as_str(), "bms");
    assert_eq!(config.log.filter, "warn,bms_reader=debug");
    assert!(config.mqtt.is_none());
}

/// Docker's `--env-file` passes on what a shell would remove.
#[test]
fn error_mentions_leftover_quotes_and_comments() {
    for (name, value, words) in [
        ("BMS_PORT", r#""/dev/ttyUSB0""#, ", without quotes around it; write /dev/ttyUSB0"),
        ("BMS_TYPE", "'daren'", ", without quotes around it; write daren"),
        ("DEVICES", r#"'[{"id": "a"}]'"#, ", without quotes around it; for example"),
        ("READ_INTERVAL", "30 # seconds", ", without a comment after it; for example: 30"),
        ("BMS_PORT", "192.168.1.40:8899", "; write tcp://192.168.1.40:8899"),
        ("READ_INTERVAL", "2,5", "; write 2.5"),
        ("ALARM_CELL_HIGH", "\"3,65\"", "without quotes around it; write 3.65"),
    ] {
        let message = error(
            &[("BMS_ADDRESS", "C8:47:80:37:02:E8"), (name, value)]
                [usize::from(name == "BMS_PORT")..],
        );
        assert!(message.contains(words), "{message}");
    }
    let json = r#"[{"id": "a", "name": "Rack #1" "type": "daren"}]"#;
    assert!(!error(&[("DEVICES", json)]).contains("comment"));
    assert!(!error(&[("READ_INTERVAL", "\"")]).contains("quotes"));
}

#[test]
fn incomplete_bridge_gets_a_bridge_as_example() {
    let message = error(&[("BMS_PORT", "tcp://127.0.0.1")]);
    assert!(message.ends_with("; for example: tcp://192.168.1.50:8899"), "{message}");
}

#[test]
fn names_are_case_insensitive_and_capitals_win() {
    assert_eq!(load_valid(&[("bms_port", "/dev/a")]).devices[0].endpoint.to_string(), "/dev/a");
    let both = [("bms_port", "/dev/a"), ("BMS_PORT", "/dev/b")];
    assert_eq!(load_valid(&both).devices[0].endpoint.to_string(), "/dev/b");
}

#[test]
fn unknown_name_is_a_warning_with_the_nearest_name() {
    assert_eq!(
        warnings(&[("BMS_PROT", "/dev/x"), ("MQTT_PASSWORT", "hunter2"), ("HISTORY_HOUR", "1")]),
        [
            "BMS_PROT is unknown and ignored; did you mean BMS_PORT?",
            "HISTORY_HOUR is unknown and ignored; did you mean HISTORY_HOURS?",
            "MQTT_PASSWORT is unknown and ignored; did you mean MQTT_PASSWORD?",
        ]
    );
    let warning = |name: &str| warnings(&[(name, "x")]).join("\n");
    for (name, meant) in [
        ("LOGLEVEL", "LOG_LEVEL"),
        ("LOG_LEVL", "LOG_LEVEL"),
        ("INTERVAL", "READ_INTERVAL"),
        ("POLL_INTERVAL", "READ_INTERVAL"),
        ("ALARM_CELL_MAX", "ALARM_CELL_HIGH"),
        ("BMS_MAC", "BMS_ADDRESS"),
        ("MQTT_USERNAME", "MQTT_USER"),
    ] {
        let expected = format!("{name} is unknown and ignored; did you mean {meant}?");
        assert_eq!(warning(name), expected);
    }
    assert!(warning("MQTT_TOPIC").ends_with("did you mean MQTT_BASE_TOPIC?"));
    assert!(warning("MQTT_USER_FILE").ends_with("only secrets may be in a file: set MQTT_USER"));
    assert!(warning("BMS_FOO_BAR").ends_with("is unknown and ignored"));
    assert!(
        warnings(&[("HTTP_PROXY", "x"), ("HA_URL", "x"), ("PATH", "/bin"), ("HOME", "/")])
            .is_empty()
    );
}

#[test]
fn secret_is_read_from_file() {
    let password = TempFile::new("password", b" hunter2 \r\n");
    let login = |pairs: &[(&str, &str)]| {
        let base = [("MQTT_HOST", "broker"), ("MQTT_USER", "me")];
        load_valid(&[&base[..], pairs].concat()).mqtt.unwrap().login.unwrap().1.expose().to_owned()
    };
    assert_eq!(login(&[("MQTT_PASSWORD_FILE", password.path())]), " hunter2 ");
    let both = [("MQTT_PASSWORD_FILE", password.path()), ("MQTT_PASSWORD", "direct")];
    assert_eq!(login(&both), "direct");
    assert!(
        warnings(&both)
            .contains(&"MQTT_PASSWORD_FILE is ignored, because MQTT_PASSWORD is set".to_owned())
    );
    let devices = TempFile::new("devices", TWO.as_bytes());
    assert_eq!(load_valid(&[("DEVICES_FILE", devices.path())]).devices.len(), 2);
}

#[test]
fn unreadable_secret_file_is_an_error() {
    let folder = std::env::temp_dir();
    let missing = folder.join("no-such-secret").display().to_string();
    let message = error(&[("MQTT_PASSWORD_FILE", missing.as_str())]);
    assert!(message.starts_with(&format!("MQTT_PASSWORD_FILE is {missing:?}")), "{message}");
    for secret in ["hunter2", "/hunter2", "hun/ter2", "/hun/ter2", "./hunter2"] {
        let message = error(&[("MQTT_PASSWORD_FILE", secret)]);
        assert!(!message.contains("hunter2") && !message.contains("ter2"), "{message}");
        assert!(message.contains("not the secret itself"), "{message}");
    }
    assert!(message.ends_with("/run/secrets/mqtt_password"), "{message}");
    assert!(error(&[("MQTT_PASSWORD_FILE", "/")]).contains("not a regular file"));
    // It has no end.
    assert!(error(&[("MQTT_PASSWORD_FILE", "/dev/zero")]).contains("not a regular file"));
    let large = TempFile::new("large", &vec![b'x'; (1 << 20) + 1]);
    assert!(error(&[("MQTT_PASSWORD_FILE", large.path())]).contains("larger than 1 MiB"));
    let binary = TempFile::new("binary", &[0xFF, 0xFE]);
    assert!(error(&[("MQTT_PASSWORD_FILE", binary.path())]).contains("readable file"));
    // The flat battery must not silently replace the missing list.
    assert_eq!(errors(&[("DEVICES_FILE", "/nonexistent"), ("BMS_PORT", "/dev/a")]).len(), 1);
}

#[test]
fn environment_overrides_addon_options() {
    let options = TempFile::new(
        "options.json",
        br#"{"mqtt_host": "core-mosquitto", "mqtt_port": 1884, "read_interval": 10.0, "debug_mode": true,
             "device_unique_id": "old", "devices": [], "banks": {}, "bms_port": "/dev/ttyUSB0", "mqtt_user": null,
             "bms_slave_id": 2, "log_format": "", "mqtt_hsot": "x", "unknown_thing": 1, "alarm_cell_low": "off"}"#,
    );
    let file = ("BMS_OPTIONS_FILE", options.path());
    let config =
        load_valid(&[file, ("MQTT_PORT", "1885"), ("DEVICE_ID", "new"), ("MQTT_HOST", " ")]);
    let mqtt = config.mqtt.as_ref().unwrap();
    assert_eq!((mqtt.host.as_str(), mqtt.port, &mqtt.login), ("core-mosquitto", 1885, &None));
    let device = &config.devices[0];
    assert_eq!(device.profile.id.as_str(), "new");
    assert_eq!((device.options.address, device.interval), (2, Duration::from_secs(10)));
    assert_eq!(config.log.filter, "warn,bms_reader=debug");
    assert!(config.warnings.iter().any(|w| w.starts_with("option mqtt_hsot is unknown")));
    assert!(config.warnings.contains(&"option unknown_thing is unknown and ignored".to_owned()));
    assert!(
        !config.warnings.iter().any(|w| w.contains("has another value")),
        "{:?}",
        config.warnings
    );
}

#[test]
fn option_lists_become_json_text() {
    let options = TempFile::new(
        "lists.json",
        br#"{"devices": [{"id": "a", "type": "simulated"}, {"id": "b", "type": "simulated"}], "bank": true}"#,
    );
    let config = load_valid(&[("BMS_OPTIONS_FILE", options.path())]);
    assert_eq!(config.devices.len(), 2);
    assert_eq!(config.banks[0].members.len(), 2);
}

#[test]
fn error_in_options_file_hides_its_content() {
    let options = TempFile::new("broken.json", b"{\"mqtt_password\": \"hunter2\"\n x}");
    let message = error(&[("BMS_OPTIONS_FILE", options.path())]);
    assert!(message.contains("one JSON object (see line 2, column 2)"), "{message}");
    assert!(!message.contains("hunter2"));
    let list = TempFile::new("list.json", b"\"hunter2\"");
    let message = error(&[("BMS_OPTIONS_FILE", list.path())]);
    assert!(
        message.starts_with("BMS_OPTIONS_FILE is") && !message.contains("hunter2"),
        "{message}"
    );
    assert!(error(&[("BMS_OPTIONS_FILE", "/")]).contains("not a regular file"));
}

#[test]
fn error_in_an_option_names_the_option() {
    let options = TempFile::new("invalid.json", br#"{"mqtt_port": 0}"#);
    let message = error(&[("BMS_OPTIONS_FILE", options.path())]);
    assert!(message.starts_with("option mqtt_port is \"0\""), "{message}");
}

/// The users of the add-on know no variables.
#[test]
fn addon_messages_name_options() {
    let options =
        TempFile::new("addon.json", br#"{"devices": [{"id": "a"}], "alarm_cell_high": "3,65"}"#);
    let pairs = [("BMS_OPTIONS_FILE", options.path()), ("SUPERVISOR_TOKEN", "x")];
    let messages = errors(&pairs);
    assert!(messages[0].starts_with("option alarm_cell_high is \"3,65\""), "{messages:?}");
    assert!(messages[0].ends_with("; write 3.65"), "{messages:?}");
    assert!(
        messages[1].starts_with("battery 1 of option devices (a): port must be set"),
        "{messages:?}"
    );
    let options = TempFile::new("addon2.json", br#"{"bms_slave_id": 2}"#);
    let pairs = [("BMS_OPTIONS_FILE", options.path()), ("SUPERVISOR_TOKEN", "x")];
    let warnings = warnings(&pairs).join("\n");
    assert!(
        warnings.contains("set option bms_port, option bms_address or option bms_type"),
        "{warnings}"
    );
}

#[test]
fn control_characters_in_names_are_escaped() {
    let warnings = warnings(&[("BMS_\nX", "1")]);
    assert!(warnings[0].starts_with(r"BMS_\nX is unknown"), "{warnings:?}");
    let message = error(&[("DEVICES", r#"[{"id": "a", "type": "simulated", "x\ny": []}]"#)]);
    assert!(message.starts_with(r"battery 1 of DEVICES (a): x\ny must be"), "{message}");
}
