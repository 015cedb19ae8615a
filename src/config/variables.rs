//! The table of variables: names, defaults, rules, examples and help. The checks, the messages and
//! `docs/configuration.md` are made from it.

use super::endpoint::Endpoint;
use super::rule::{self, Rule};
use crate::model::profile::{INTERVAL_MS, SCAN_TIMEOUT_MS, TIMEOUT_MS};
use crate::protocol::pylontech_sc0500::{Barcode, BarcodeError};

/// One variable.
#[derive(Debug)]
pub struct Variable {
    /// The documented name.
    pub name: &'static str,
    /// Names that people have in older files.
    pub aliases: &'static [&'static str],
    /// Its name in an element of `DEVICES`, where it has one.
    pub key: Option<&'static str>,
    /// What counts when nobody says anything.
    pub default: Fallback,
    /// What is allowed.
    pub rule: Rule,
    /// A good value.
    pub example: &'static str,
    /// What it is for.
    pub help: &'static str,
    /// It may hold a password: its value is never shown, and `<name>_FILE` names a file with it.
    pub secret: bool,
    /// Where it stands in the reference.
    pub group: Group,
}

/// What counts when nobody says anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// Nothing.
    Unset,
    /// This text, as if somebody had written it.
    Text(&'static str),
    /// Something that follows from other values, in words.
    Depends(&'static str),
}

/// A section of the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// One battery.
    Battery,
    /// Several batteries.
    Several,
    /// The broker.
    Mqtt,
    /// Own alarm limits.
    Alarms,
    /// Everything else.
    Service,
}

impl Group {
    /// All sections, in order.
    pub const ALL: [Group; 5] =
        [Group::Battery, Group::Several, Group::Mqtt, Group::Alarms, Group::Service];
}

impl Variable {
    /// A good value of the kind that this wrong one was meant to be.
    pub fn example_for(&self, wrong: &str) -> &'static str {
        let bridge = self.name == BMS_PORT.name && wrong.contains("://");
        if bridge { BRIDGE } else { self.example }
    }

    const fn blank(name: &'static str, group: Group) -> Self {
        Variable {
            name,
            aliases: &[],
            key: None,
            default: Fallback::Unset,
            rule: ANY_TEXT,
            example: "",
            help: "",
            secret: false,
            group,
        }
    }
}

/// A good place of an RS485-to-Ethernet bridge.
const BRIDGE: &str = "tcp://192.168.1.50:8899";

const ANY_TEXT: Rule = Rule::Shape { words: "any text", fits: |_| true };
const FILE: Rule = Rule::Shape { words: "the path of a file", fits: |_| true };

/// Declares the variables and the list of them.
macro_rules! variables {
    ($($group:ident { $($name:ident { $($field:ident: $value:expr),* $(,)? })* })*) => {
        $($(
            #[doc = concat!("The variable `", stringify!($name), "`.")]
            pub static $name: Variable = Variable {
                $($field: $value,)*
                ..Variable::blank(stringify!($name), Group::$group)
            };
        )*)*

        /// Every variable.
        pub static VARIABLES: &[&Variable] = &[$($(&$name,)*)*];
    };
}

variables! {
    Battery {
        BMS_TYPE {
            key: Some("type"),
            default: Fallback::Depends("`pylontech-sc0500` with `BMS_BARCODE`, `daren` with `BMS_PORT`, `auto` \
                with `BMS_ADDRESS`"),
            rule: Rule::Brand, example: "daren",
            help: "The brand of the battery. `auto` finds it out by asking: on Bluetooth those brands first that \
                the advertisement speaks for, on a port every brand at its usual rates. `simulated` needs no hardware.",
        }
        BMS_PORT {
            key: Some("port"), aliases: &["SERIAL_PORT"],
            rule: Rule::Shape {
                words: "the path of a serial device, or tcp://host:port for an RS485-to-Ethernet bridge",
                fits: |text| Endpoint::parse(text).is_some(),
            },
            example: "/dev/ttyUSB0",
            help: "The serial device, best its name under `/dev/serial/by-id/`, which stays the same when \
                adapters are plugged in another order; or `tcp://host:port` for an RS485-to-Ethernet bridge.",
        }
        BMS_SLAVE_ID {
            key: Some("slave_id"), default: Fallback::Text("1"),
            rule: Rule::Shape {
                words: "a whole number from 0 to 255, decimal or like 0x01",
                fits: |text| rule::bus_address(text).is_some(),
            },
            example: "1",
            help: "Address on the RS485 bus, decimal or hexadecimal (`0x01`). The type may allow fewer.",
        }
        BMS_BAUDRATE {
            key: Some("baudrate"),
            default: Fallback::Depends("per type; the other usual rates are tried when nothing answers"),
            rule: Rule::whole(300, 4_000_000, " bits per second"), example: "9600",
            help: "Speed of the serial line. A bridge (`tcp://`) sets it itself.",
        }
        BMS_TIMEOUT {
            key: Some("timeout"), default: Fallback::Depends("per type: serial 2, Bluetooth 20"),
            rule: Rule::seconds(TIMEOUT_MS), example: "2",
            help: "Seconds for one answer (serial) or one whole read (Bluetooth).",
        }
        BMS_BARCODE {
            key: Some("barcode"),
            rule: Rule::Shape {
                words: "the 16 letters and digits after `Module Barcode` in the console's answer to `info`, or left out",
                // A sample has a fault of its own.
                fits: |text| Barcode::parse(text) != Err(BarcodeError::Form),
            },
            example: "ABCD1234EFGH5678",
            help: "SC0500: the serial number of your own controller; a sample, as the one here, is refused. \
                Without it nobody logs in, and `tbar` is never sent.",
        }
        BMS_CAPACITY_UNIT {
            key: Some("capacity_unit"), default: Fallback::Text("Wh"),
            rule: Rule::Choice(&["Wh", "mAh"]), example: "Wh",
            help: "SC0500: the unit of the fourth value, `Wh` (as documented) or `mAh` (as some consoles count).",
        }
        BMS_ADDRESS {
            key: Some("address"),
            rule: Rule::Shape {
                words: "a Bluetooth address: six pairs of hexadecimal digits",
                fits: rule::is_bluetooth_address,
            },
            example: "C8:47:80:37:02:E8",
            help: "Bluetooth address of the battery, instead of `BMS_PORT`; `bms-reader scan` shows it.",
        }
        BMS_ADAPTER {
            key: Some("adapter"), default: Fallback::Depends("the first powered one"),
            rule: Rule::Shape {
                words: "the name of a Bluetooth adapter",
                fits: |text| text.len() <= 32 && text.bytes().all(|b| b.is_ascii_alphanumeric()),
            },
            example: "hci0", help: "Bluetooth adapter that reaches the battery best.",
        }
        BMS_SCAN_TIMEOUT {
            key: Some("scan_timeout"), default: Fallback::Text("5"),
            rule: Rule::seconds(SCAN_TIMEOUT_MS), example: "5",
            help: "Seconds to look for a Bluetooth device that the system does not know yet.",
        }
        BMS_PASSWORD {
            key: Some("password"), secret: true, example: "123456",
            help: "PIN or password of the battery, where it has one. Six digits also answer when a board wants \
                to be paired by passkey.",
        }
        BMS_KEEP_CONNECTED {
            key: Some("keep_connected"),
            default: Fallback::Depends("`true` for types that send by themselves (JK), else `false`"),
            rule: Rule::Switch, example: "true",
            help: "Bluetooth: `true` stays connected, which keeps all other apps out and makes short intervals \
                possible; `false` connects for each read and leaves the battery to the phone in between.",
        }
        BMS_VARIANT {
            key: Some("variant"), default: Fallback::Depends("found out"),
            rule: Rule::Shape {
                words: "letters, digits, _ and -, at most 32 of them",
                fits: |text| text.len() <= 32 && crate::model::DeviceId::new(text).is_some(),
            },
            example: "a5",
            help: "RequestReply, for a type that has several and is not recognised by itself. For `simulated`: the type \
                that is played.",
        }
        READ_INTERVAL {
            key: Some("interval"), default: Fallback::Text("30"),
            rule: Rule::seconds(INTERVAL_MS), example: "30", help: "Seconds between two reads.",
        }
        DEVICE_ID {
            key: Some("id"), aliases: &["DEVICE_UNIQUE_ID"], default: Fallback::Text("bms"),
            rule: Rule::Shape {
                words: "letters, digits, _ and -, at most 64 of them",
                fits: |text| text.len() <= 64 && crate::model::DeviceId::new(text).is_some(),
            },
            example: "bms_main",
            help: "Identity of the battery in topics and unique ids. Keep it, or Home Assistant sees a new device.",
        }
        DEVICE_NAME {
            key: Some("name"), default: Fallback::Depends("made from `DEVICE_ID`: `bms_main` gives `BMS main`"),
            rule: Rule::Shape { words: "one line of at most 100 letters", fits: rule::is_title },
            example: "Garage battery", help: "What people see.",
        }
    }
    Several {
        DEVICES {
            secret: true, rule: Rule::Shape { words: "a JSON array of objects", fits: |_| true },
            example: r#"[{"id": "rack1", "type": "daren", "port": "/dev/ttyUSB0", "slave_id": 1}]"#,
            help: "Several batteries. While it is set, the variables of one battery are ignored, except \
                `READ_INTERVAL`. Never shown, as it may hold passwords.",
        }
        BANKS {
            rule: Rule::Shape { words: "a JSON array of objects", fits: |_| true },
            example: r#"[{"id": "house", "name": "House bank", "members": ["rack1", "rack2"]}]"#,
            help: "Batteries that are also shown as one. `wiring` is `parallel` (the default) or `series`.",
        }
        BANK {
            default: Fallback::Text("false"), rule: Rule::Switch, example: "true",
            help: "One bank of all batteries, where `BANKS` says nothing else.",
        }
    }
    Mqtt {
        MQTT_HOST {
            aliases: &["MQTT_BROKER"], default: Fallback::Depends("no MQTT (a warning says so)"),
            rule: Rule::Shape {
                words: "a host name or an IP address alone, without mqtt:// and without a port (that is MQTT_PORT)",
                fits: |text| rule::host(text).is_some(),
            },
            example: "192.168.1.10", help: "The broker.",
        }
        MQTT_PORT {
            default: Fallback::Depends("1883, or 8883 with TLS"),
            rule: Rule::whole(1, 65_535, ""), example: "1883", help: "Port of the broker.",
        }
        MQTT_USER { example: "bms", help: "User name at the broker." }
        MQTT_PASSWORD { secret: true, example: "secret", help: "Password at the broker." }
        MQTT_TOPIC_PREFIX {
            aliases: &["HA_DISCOVERY_PREFIX"], default: Fallback::Text("homeassistant"),
            rule: Rule::Shape {
                words: "a topic without +, #, empty levels and a slash at either end", fits: rule::is_topic,
            },
            example: "homeassistant", help: "Home Assistant's discovery prefix.",
        }
        MQTT_BASE_TOPIC {
            default: Fallback::Text("bms/{id}"),
            rule: Rule::Shape {
                words: "a topic without +, #, empty levels and a slash at either end; {id} and {type} are replaced",
                fits: rule::is_topic_template,
            },
            example: "bms/{type}/{id}",
            help: "Where the values of a battery go; `{id}` and `{type}` are replaced. Needs `{id}` with \
                several batteries.",
        }
        MQTT_DISCOVERY {
            default: Fallback::Text("entity"), rule: Rule::Choice(&["entity", "device", "off"]), example: "entity",
            help: "`entity`: one discovery topic for each entity; `device`: one for each device (Home Assistant \
                2024.11 or newer); `off`: none.",
        }
        MQTT_TLS {
            default: Fallback::Text("false"), rule: Rule::Switch, example: "true",
            help: "Encrypt, and verify the broker against the bundled web roots and `MQTT_CA_FILE`.",
        }
        MQTT_CA_FILE { rule: FILE, example: "/certs/ca.pem", help: "PEM file with further roots, for a broker with its own CA." }
        MQTT_CLIENT_CERT_FILE { rule: FILE, example: "/certs/client.pem", help: "PEM file with our certificate." }
        MQTT_CLIENT_KEY_FILE { rule: FILE, example: "/certs/client.key", help: "PEM file with the key of our certificate." }
        MQTT_TLS_INSECURE {
            default: Fallback::Text("false"), rule: Rule::Switch, example: "false",
            help: "Take any certificate. Whoever is between us and the broker can read and change everything.",
        }
        MQTT_CLIENT_ID {
            default: Fallback::Depends("`bms-reader-` and the id of the first battery"),
            rule: Rule::Shape {
                words: "one level of a topic: no /, + and #, at most 128 letters", fits: rule::is_topic_level,
            },
            example: "bms-reader-garage",
            help: "Our name at the broker. Two programs with one name throw each other out.",
        }
        MQTT_KEEP_ALIVE {
            default: Fallback::Text("20"), rule: Rule::whole(5, 3600, " seconds"), example: "20",
            help: "Longest silence in seconds. A broker that vanished is noticed after twice that time.",
        }
        MQTT_PUBLISH {
            default: Fallback::Text("changes"), rule: Rule::Choice(&["changes", "all"]), example: "changes",
            help: "`changes`: a value that did not move is sent again every `MQTT_REFRESH` seconds only; \
                `all`: every value at every read.",
        }
        MQTT_REFRESH {
            default: Fallback::Text("300"), rule: Rule::whole(1, 86_400, " seconds"), example: "300",
            help: "Seconds after which a value is sent again although it did not move.",
        }
    }
    Alarms {
        ALARM_CELL_LOW {
            default: Fallback::Text("3.0"), rule: Rule::limit(500, 5000, 3, " V"), example: "3.0",
            help: "Alarm when a cell is below this voltage; it ends 20 mV above.",
        }
        ALARM_CELL_HIGH {
            default: Fallback::Text("3.65"), rule: Rule::limit(500, 5000, 3, " V"), example: "3.65",
            help: "Alarm when a cell is above this voltage; it ends 20 mV below. For NMC set it to 4.2.",
        }
        ALARM_CELL_DELTA {
            rule: Rule::limit(1, 2000, 3, " V"), example: "0.05",
            help: "Alarm when the cells differ by more than this voltage; it ends 10 mV (at most a fifth) below.",
        }
        ALARM_TEMP_HIGH {
            default: Fallback::Text("45"), rule: Rule::limit(-400, 1500, 1, " °C"), example: "45",
            help: "Alarm when a sensor of the cells is above this temperature; it ends 2 °C below.",
        }
        ALARM_TEMP_LOW {
            rule: Rule::limit(-400, 1500, 1, " °C"), example: "0",
            help: "Alarm when a sensor of the cells is below this temperature; it ends 2 °C above.",
        }
        ALARM_SOC_LOW {
            rule: Rule::limit(0, 10_000, 2, " %"), example: "10",
            help: "Alarm below this state of charge; it ends 2 % above.",
        }
    }
    Service {
        HTTP_LISTEN {
            default: Fallback::Text("127.0.0.1:8099"),
            rule: Rule::Shape {
                words: "an IP address and a port, or off; a port alone means every interface",
                fits: |text| rule::listen(text).is_some(),
            },
            example: "0.0.0.0:8099",
            help: "Where the dashboard, the metrics and the health check listen; `off` for nowhere. \
                The container image sets `0.0.0.0:8099`.",
        }
        HISTORY_HOURS {
            default: Fallback::Text("48"), rule: Rule::whole(1, 744, " hours"), example: "48",
            help: "How far back the history goes.",
        }
        HISTORY_FILE {
            default: Fallback::Depends("memory only"), rule: FILE, example: "/data/history.db",
            help: "Where the history and the energy counters are kept over a restart.",
        }
        ALLOW_CONTROL {
            default: Fallback::Text("false"), rule: Rule::Switch, example: "false",
            help: "Allow commands that change the battery: its charge, discharge and balance switches, where \
                the type has them. Every change is read back and logged.",
        }
        BMS_CAPTURE {
            rule: FILE, example: "/data/capture.jsonl",
            help: "Writes everything that is said on the wires to this file (JSON lines, secrets blanked, at most \
                64 MiB) for a bug report; `bms-reader replay` plays it back.",
        }
        LOG_LEVEL {
            default: Fallback::Text("INFO"),
            rule: Rule::Choice(&["ERROR", "WARNING", "WARN", "INFO", "DEBUG", "TRACE"]), example: "INFO",
            help: "How much is logged; `TRACE` shows every frame.",
        }
        LOG_FORMAT {
            default: Fallback::Text("text"), rule: Rule::Choice(&["text", "json"]), example: "json",
            help: "Lines for people or for machines.",
        }
        DEBUG_MODE {
            default: Fallback::Text("false"), rule: Rule::Switch, example: "true",
            help: "`true` is `LOG_LEVEL=DEBUG`.",
        }
        RUST_LOG {
            default: Fallback::Depends("made from `LOG_LEVEL`"), example: "warn,bms_reader::poll=trace",
            help: "For experts: a log filter for each part of the program; it beats `LOG_LEVEL` and `DEBUG_MODE`.",
        }
        BMS_OPTIONS_FILE {
            default: Fallback::Text("/data/options.json"), rule: FILE, example: "/data/options.json",
            help: "The options of the Home Assistant add-on; read where it exists.",
        }
        SUPERVISOR_TOKEN {
            secret: true, example: "0123456789abcdef",
            help: "Set by Home Assistant for its apps: without `MQTT_HOST` the Supervisor is asked for the broker.",
        }
        SUPERVISOR_API {
            default: Fallback::Text("http://supervisor"),
            rule: Rule::Shape { words: "a URL that begins with http://", fits: |text| text.starts_with("http://") },
            example: "http://supervisor", help: "Where the Supervisor is asked.",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_and_every_example_is_allowed() {
        for variable in VARIABLES {
            assert!(variable.rule.admits(variable.example), "{}: example", variable.name);
            if let Fallback::Text(text) = variable.default {
                assert!(variable.rule.admits(text), "{}: default {text}", variable.name);
            }
        }
    }

    #[test]
    fn names_aliases_and_file_names_are_unique() {
        let mut names: Vec<String> = VARIABLES
            .iter()
            .flat_map(|variable| {
                let file = variable.secret.then(|| format!("{}_FILE", variable.name));
                let aliases = variable.aliases.iter().map(|alias| alias.to_string());
                [variable.name.to_owned()].into_iter().chain(aliases).chain(file)
            })
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn every_variable_is_explained() {
        for variable in VARIABLES {
            assert!(variable.help.ends_with('.'), "{}", variable.name);
            assert!(!variable.example.is_empty(), "{}", variable.name);
            assert_eq!(
                variable.key.is_some(),
                variable.group == Group::Battery,
                "{}",
                variable.name
            );
        }
    }
}
