use super::*;

fn settings(text: &str) -> Vec<String> {
    let migration = migrate(text).unwrap();
    let errors = errors(&migration);
    assert!(errors.is_empty(), "{errors:?}");
    migration.settings.iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn notes(text: &str) -> Vec<String> {
    migrate(text).unwrap().notes
}

const CONFIG_PY: &str = r#"
class BMSConfig:
    PORT = "/dev/ttyUSB0"  # Your port
    BMS_ADDRESS = 0x01
    BAUDRATE = 9600
    TIMEOUT: float = 2.0
    RETRIES = 3

class MQTTConfig:
    BROKER_HOST = '192.168.1.100'
    BROKER_PORT = 1883
    USERNAME = None
    PASSWORD = os.getenv("PASSWORD")
    DEVICE_ID = "bms_lifepo4_01"

class AppConfig:
    READ_INTERVAL = 30
    LOG_LEVEL = "INFO"
"#;

#[test]
fn config_py_becomes_variables() {
    assert_eq!(
        settings(CONFIG_PY),
        [
            "BMS_PORT=/dev/ttyUSB0",
            "BMS_SLAVE_ID=0x01",
            "BMS_BAUDRATE=9600",
            "BMS_TIMEOUT=2.0",
            "MQTT_HOST=192.168.1.100",
            "MQTT_PORT=1883",
            "DEVICE_ID=bms_lifepo4_01",
            "READ_INTERVAL=30",
            "LOG_LEVEL=INFO",
        ]
    );
    assert_eq!(
        notes(CONFIG_PY),
        [
            "line 7: BMSConfig.RETRIES has no counterpart",
            "line 13: MQTTConfig.PASSWORD is computed; set MQTT_PASSWORD yourself",
        ]
    );
}

#[test]
fn port_of_another_system_is_named() {
    for port in ["/dev/tty.usbserial-110", "COM3"] {
        let notes = notes(&format!("BMS_PORT={port}"));
        assert!(notes.iter().any(|note| note.contains("bms-reader scan")), "{notes:?}");
    }
}

#[test]
fn env_file_keeps_its_values_under_the_documented_names() {
    let text = "# comment\nSERIAL_PORT=/dev/ttyUSB0\nBMS_BARCODE=\"H4800A1B2C3D4E5F\" # mine\n\
                MQTT_BROKER=192.168.1.100\nMQTT_PASSWORD=a#b\nHA_DISCOVERY_PREFIX=homeassistant\n\
                DEVICE_UNIQUE_ID=pylontech_sc0500\nDEVICE_NAME=Pylontech BMS SC0500\nEMPTY=\nTZ=UTC\nPUID=1000\n";
    assert_eq!(
        settings(text),
        [
            "BMS_PORT=/dev/ttyUSB0",
            "BMS_BARCODE=H4800A1B2C3D4E5F",
            "MQTT_HOST=192.168.1.100",
            "MQTT_PASSWORD=a#b",
            "MQTT_TOPIC_PREFIX=homeassistant",
            "DEVICE_ID=pylontech_sc0500",
            "DEVICE_NAME=Pylontech BMS SC0500",
            "TZ=UTC",
        ]
    );
    assert_eq!(notes(text), ["line 11: PUID has no counterpart"]);
}

/// One block in four spellings.
#[test]
fn environment_of_a_container_is_read_from_every_form() {
    let expected = ["BMS_PORT=/dev/ttyUSB0", "BMS_SLAVE_ID=1", "MQTT_HOST=10.4.8.213"];
    for text in [
        "docker run -d --privileged -e BMS_PORT=/dev/ttyUSB0 -e \"BMS_SLAVE_ID=1\" -e 'MQTT_HOST=10.4.8.213' image:1",
        "sudo docker run -d \\\n  -v /dev:/dev \\\n  -e BMS_PORT=/dev/ttyUSB0 \\\n  --env BMS_SLAVE_ID=1 \\\n  \
         -e \"MQTT_HOST=10.4.8.213\" \\\n  image:1.0.4",
        "services:\n  bms:\n    image: a:1\n    environment:\n      - BMS_PORT=/dev/ttyUSB0\n      - \"BMS_SLAVE_ID=1\"\n      \
         - MQTT_HOST=10.4.8.213\n",
        "services:\n  bms:\n    environment:\n      BMS_PORT: /dev/ttyUSB0\n      BMS_SLAVE_ID: \"1\"\n      \
         MQTT_HOST: 10.4.8.213\n",
        "[Service]\nEnvironment=BMS_PORT=/dev/ttyUSB0\nEnvironment=\"BMS_SLAVE_ID=1\"\n\
         Environment=MQTT_HOST=10.4.8.213\n",
    ] {
        let settings = settings(text);
        assert_eq!(settings, expected, "{text}");
    }
}

#[test]
fn reference_to_another_variable_is_not_copied() {
    let text = "BMS_PORT=/dev/ttyUSB0\nMQTT_PASSWORD=${PASSWORD}\n";
    assert_eq!(settings(text), ["BMS_PORT=/dev/ttyUSB0"]);
    assert_eq!(
        notes(text),
        ["line 2: MQTT_PASSWORD refers to another variable; set it to its value"]
    );
}

#[test]
fn connections_become_devices() {
    let text = r#"{"connections": {
        "bms_main": {"type": "bluetooth", "name": "Hauptbatterie BMS", "enabled": true, "config": {
            "address": "AA:BB:CC:DD:EE:FF", "name": "xiaoxiang", "timeout": 10.0, "scan_timeout": 5.0,
            "auto_reconnect": true, "notify_characteristics": [], "pin": 1}},
        "bms_backup": {"type": "bluetooth", "enabled": false, "config": {"address": "11:22:33:44:55:66"}},
        "plc": {"type": "modbus", "config": {}}}}"#;
    assert_eq!(
        settings(text),
        [
            r#"DEVICES=[{"id":"bms_main","type":"jbd","name":"Hauptbatterie BMS","address":"AA:BB:CC:DD:EE:FF","timeout":10.0,"scan_timeout":5.0}]"#
        ]
    );
    assert_eq!(
        notes(text),
        [
            "bms_main: pin has no counterpart",
            "bms_backup: disabled there; add it to DEVICES to read it",
            "plc: its type is not bluetooth; only batteries are taken over",
        ]
    );
}

#[test]
fn gateway_keeps_its_topics() {
    let text = r#"{"mqtt": {"host": "127.0.0.1", "port": 1883, "base_topic": "bms"},
        "poll_interval_s": 10, "timeout_s": 20, "scan_timeout_s": 5, "log": "x",
        "devices": [{"name": "jk1", "address": "C8:47:80:37:02:E8", "adapter": "hci1"},
                    {"name": "jk 2", "address": "C8:47:80:37:02:E9", "adapter": null}]}"#;
    assert_eq!(
        settings(text),
        [
            "MQTT_HOST=127.0.0.1",
            "MQTT_PORT=1883",
            "MQTT_BASE_TOPIC=bms/{type}/{id}",
            "READ_INTERVAL=10",
            r#"DEVICES=[{"id":"jk1","type":"jk","timeout":20,"scan_timeout":5,"address":"C8:47:80:37:02:E8","adapter":"hci1"},{"id":"jk_2","type":"jk","timeout":20,"scan_timeout":5,"address":"C8:47:80:37:02:E9"}]"#,
        ]
    );
    let notes = notes(text);
    assert_eq!(
        notes[..2],
        ["jk 2: as an id it becomes jk_2, and its topics change", "log has no counterpart"]
    );
}

#[test]
fn file_of_another_kind_is_refused() {
    for (text, part) in [
        ("{\"a\": 1}", "neither"),
        ("{\"connections\": {", "damaged"),
        ("hello\nworld", "no setting"),
        ("", "no setting"),
    ] {
        let error = migrate(text).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn placeholder_is_to_be_corrected() {
    let migration =
        migrate("SERIAL_PORT=/dev/ttyUSB0\nBMS_BARCODE=YOUR_BMS_SERIAL_NUMBER_HERE\n").unwrap();
    let errors = errors(&migration);
    assert!(errors.iter().any(|error| error.contains("BMS_BARCODE")), "{errors:?}");
}
