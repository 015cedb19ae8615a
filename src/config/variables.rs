//! The table of variables. The checks, the messages and `docs/configuration.md` (in
//! `tests/configuration_docs.rs`) are made from it.

use super::endpoint::Endpoint;
use super::rule::{self, Rule};
use crate::model::profile::{INTERVAL_MS, SCAN_TIMEOUT_MS, TIMEOUT_MS, address_bytes};
use crate::protocol::barcode::{Barcode, BarcodeError};
use crate::sink::influx::Address;

#[derive(Debug)]
pub struct Variable {
    pub name: &'static str,
    /// Names in the configuration of older programs.
    pub aliases: &'static [&'static str],
    /// Applies if the variable is unset, as if the user had written it.
    pub default: Option<&'static str>,
    /// Describes a default that follows from other values; empty if there is none.
    pub derived: &'static str,
    pub rule: Rule,
    pub example: &'static str,
    /// One or two sentences of Markdown.
    pub help: &'static str,
    /// Whether it may contain a password: its value is never shown, and `<name>_FILE` may name a
    /// file that contains it.
    pub secret: bool,
    pub group: Group,
}

/// A section of the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    Battery,
    Batteries,
    Mqtt,
    Alarms,
    Notifications,
    Influx,
    Service,
}

impl Variable {
    /// Its name in an element of `DEVICES`: in lower case, without the prefix of most of them. Only variables of a
    /// single battery have one.
    pub fn key(&self) -> Option<String> {
        if self.group != Group::Battery {
            return None;
        }
        let prefixes = ["BMS_", "DEVICE_", "READ_"];
        let key = prefixes.iter().find_map(|prefix| self.name.strip_prefix(prefix));
        Some(key.unwrap_or(self.name).to_lowercase())
    }

    /// A valid value of the kind that this invalid one was meant to be.
    pub fn example_for(&self, invalid: &str) -> &'static str {
        match self.name == BMS_PORT.name && invalid.contains("://") {
            true if invalid.starts_with("esphome") => ESPHOME,
            true => BRIDGE,
            false => self.example,
        }
    }

    const fn new(name: &'static str, group: Group) -> Self {
        Variable {
            name,
            aliases: &[],
            default: None,
            derived: "",
            rule: Rule::text("any text", |_| true),
            example: "",
            help: "",
            secret: false,
            group,
        }
    }
}

/// An RS485-to-Ethernet bridge.
const BRIDGE: &str = "tcp://192.168.1.50:8899";
/// A serial port of an ESPHome device. Its key has 44 characters.
const ESPHOME: &str = "esphome://192.168.1.51/BMS bus?key=...";

const FILE: Rule = Rule::text("the path of a file", |_| true);
const OBJECTS: Rule = Rule::text("a JSON array of objects", |_| true);

/// Variables of a battery that apply to all batteries where they are set for the program.
pub static INHERITED: [&Variable; 2] = [&READ_INTERVAL, &VICTRON];

/// The variables that apply to a single battery alone.
pub fn of_single_battery() -> impl Iterator<Item = &'static &'static Variable> {
    let is_inherited = |v: &Variable| INHERITED.iter().any(|inherited| inherited.name == v.name);
    VARIABLES.iter().filter(move |v| v.group == Group::Battery && !is_inherited(v))
}

/// Declares the variables and the list of them.
macro_rules! variables {
    ($($group:ident { $($name:ident { $($field:ident: $value:expr),* $(,)? })* })*) => {
        $($(
            #[doc = concat!("The variable `", stringify!($name), "`.")]
            pub static $name: Variable = Variable {
                $($field: $value,)*
                ..Variable::new(stringify!($name), Group::$group)
            };
        )*)*

        /// Every variable, in the order of the reference.
        pub static VARIABLES: &[&Variable] = &[$($(&$name,)*)*];
    };
}

variables! {
    Battery {
        BMS_TYPE {
            derived: "`pylontech-sc0500` with `BMS_BARCODE`, `daren` with `BMS_PORT`, or what is found where that does not answer, `auto` with `BMS_ADDRESS`",
            rule: Rule::Brand, example: "daren",
            help: "Type (brand) of the battery. `auto` identifies it by asking: over Bluetooth the brands that match the \
                advertisement first, on a port every brand at its usual baud rates and addresses. `simulated` needs no hardware." }
        BMS_PORT { aliases: &["SERIAL_PORT"], example: "/dev/ttyUSB0",
            rule: Rule::text("the path of a serial device, tcp://host:port for an RS485-to-Ethernet bridge, or \
                esphome://host/name?key=... for a serial port of an ESPHome device with its key of 44 characters",
                |text| Endpoint::parse(text).is_some()),
            help: "Serial device, preferably its name under `/dev/serial/by-id/`, which does not depend on \
                the order of plugging in; `tcp://host:port` for an RS485-to-Ethernet bridge; or \
                `esphome://host/name?key=...` for a [serial port of an ESPHome device](remote.md). The key is never shown." }
        BMS_SLAVE_ID { default: Some("1"), example: "1",
            rule: Rule::text("a whole number from 0 to 255, decimal or like 0x01", |text| rule::bus_address(text).is_some()),
            help: "Address on the RS485 bus, decimal or hexadecimal (`0x01`). Some types accept a smaller range. If it is unset \
                and nothing answers, 0 and the other addresses are tried." }
        BMS_BAUDRATE { derived: "per type; its other usual rates are tried if nothing answers",
            rule: Rule::whole(300, 4_000_000, " bits per second"), example: "9600",
            help: "Baud rate of the serial line. A bridge (`tcp://`) has its own setting." }
        BMS_TIMEOUT {
            derived: "per type: serial 2, Bluetooth 20", rule: Rule::seconds(TIMEOUT_MS), example: "2",
            help: "Timeout in seconds: for one answer (serial) or for a whole read (Bluetooth)." }
        BMS_BARCODE { example: "ABCD1234EFGH5678",
            // A sample has an error of its own.
            rule: Rule::text("the 16 letters and digits after `Module Barcode` in the console's reply to `info`, or unset",
                |text| Barcode::parse(text) != Err(BarcodeError::Form)),
            help: "SC0500: serial number of your own controller; published sample numbers, such as this one, are rejected. \
                Without it there is no login, and `tbar` is never sent." }
        BMS_CAPACITY_UNIT { default: Some("Wh"), rule: Rule::Choice(&["Wh", "mAh"]), example: "Wh",
            help: "SC0500: unit of the fourth value: `Wh` (as documented) or `mAh` (as some consoles report it)." }
        BMS_ADDRESS {
            rule: Rule::text("a Bluetooth address: six pairs of hexadecimal digits", |text| address_bytes(text).is_some()),
            example: "C8:47:80:37:02:E8",
            help: "Bluetooth address of the battery, instead of `BMS_PORT`; `bms-reader scan` lists it." }
        BMS_ADAPTER { derived: "the first powered adapter, or any proxy if that does not see the battery", example: "hci0",
            rule: Rule::text("the name of a Bluetooth adapter or proxy", rule::is_adapter),
            help: "Bluetooth adapter with the best reception, or the name of a [proxy](remote.md#a-bluetooth-proxy); `proxies` \
                uses the proxy with the best reception." }
        BMS_SCAN_TIMEOUT { default: Some("5"), rule: Rule::seconds(SCAN_TIMEOUT_MS), example: "5",
            help: "Seconds to search for a Bluetooth device that the system does not know yet." }
        BMS_PASSWORD { secret: true, example: "123456",
            help: "PIN or password of the battery, if it has one. Six digits also serve as the passkey when the battery \
                requires pairing." }
        BMS_KEEP_CONNECTED { derived: "`true` for types that stream by themselves (JK), otherwise `false`",
            rule: Rule::Bool, example: "true",
            help: "Bluetooth: `true` keeps the connection open, which blocks all other apps and allows short intervals; \
                `false` connects for each read and leaves the battery free for a phone app in between." }
        BMS_VARIANT { derived: "detected", example: "a5",
            rule: Rule::text("letters, digits, _ and -, at most 32 of them", |text| rule::is_id(text, 32)),
            help: "Protocol dialect, for a type that has several and does not detect it. For `simulated`: the type to \
                simulate." }
        READ_INTERVAL {
            default: Some("30"), rule: Rule::seconds(INTERVAL_MS), example: "30", help: "Seconds between two reads." }
        DEVICE_ID { aliases: &["DEVICE_UNIQUE_ID"], default: Some("bms"), example: "bms_main",
            rule: Rule::text("letters, digits, _ and -, at most 64 of them", |text| rule::is_id(text, 64)),
            help: "Identity of the battery in topics and unique IDs. If you change it, Home Assistant sees a new device.",
        }
        DEVICE_NAME { derived: "derived from `DEVICE_ID`: `bms_main` becomes `BMS main`",
            rule: Rule::text("one line of at most 100 characters",
                |text| text.chars().count() <= 100 && !text.chars().any(char::is_control)),
            example: "Garage battery", help: "Display name." }
        VICTRON { default: Some("false"), example: "true",
            rule: Rule::text("true, false, mqtt-battery or serialbattery", |text| rule::victron(text).is_some()),
            help: "`true`: also publish for [Venus OS](victron.md), in the format of its driver dbus-mqtt-battery; `serialbattery`: in \
                that of dbus-serialbattery, which needs a read every 5 seconds." }
        VICTRON_CHARGE_VOLTAGE { rule: Rule::Number { min: 1000, max: 1_000_000, decimals: 3, unit: " V", off: false }, example: "55.2",
            help: "Venus OS: highest voltage for chargers. Where the battery reports one, too, the lower applies." }
        VICTRON_CHARGE_CURRENT { rule: Rule::Number { min: 0, max: 5_000_000, decimals: 3, unit: " A", off: false }, example: "100",
            help: "Venus OS: highest charge current. Where the battery reports one, too, the lower applies." }
        VICTRON_DISCHARGE_CURRENT { rule: Rule::Number { min: 0, max: 5_000_000, decimals: 3, unit: " A", off: false }, example: "150",
            help: "Venus OS: highest discharge current. Where the battery reports one, too, the lower applies." }
    }
    Batteries {
        DEVICES { secret: true, rule: OBJECTS,
            example: r#"[{"id": "rack1", "type": "daren", "port": "/dev/ttyUSB0", "slave_id": 1}]"#,
            help: "Several batteries. If it is set, the variables of a single battery are ignored, except \
                `READ_INTERVAL`. Never shown, because it may contain passwords." }
        BLE_PROXIES { secret: true, example: "10.0.0.7",
            rule: Rule::text("addresses of ESPHome devices, separated by commas or blanks, or a JSON array of objects with host, \
                port, key and name", |_| true),
            help: "[Bluetooth proxies](remote.md#a-bluetooth-proxy): ESP32s with ESPHome near the batteries. Either addresses \
                (`host`, `host:port`, `host?key=...`) separated by commas or blanks, or a JSON array: `[{\"host\": \
                \"10.0.0.7\", \"key\": \"...\", \"name\": \"garage\"}]`. Never shown, because it may contain keys." }
        BANKS { rule: OBJECTS, example: r#"[{"id": "house", "name": "House bank", "members": ["rack1", "rack2"]}]"#,
            help: "Groups of batteries that are also published as one battery. `wiring` is `parallel` (the default) or \
                `series`." }
        BANK { default: Some("false"), rule: Rule::Bool, example: "true",
            help: "Groups all batteries into one bank, unless `BANKS` is set." }
    }
    Mqtt {
        MQTT_HOST { aliases: &["MQTT_BROKER"], derived: "no MQTT (with a warning)", example: "192.168.1.10",
            rule: Rule::text("a host name or IP address, without mqtt:// and without a port (set MQTT_PORT)",
                |text| rule::host(text).is_some()),
            help: "Host name or IP address of the broker." }
        MQTT_PORT { derived: "1883, or 8883 with TLS", rule: Rule::whole(1, 65_535, ""), example: "1883",
            help: "Port of the broker." }
        MQTT_USER { example: "bms", help: "User name for the broker." }
        MQTT_PASSWORD { secret: true, example: "secret", help: "Password for the broker." }
        MQTT_TOPIC_PREFIX { aliases: &["HA_DISCOVERY_PREFIX"], default: Some("homeassistant"), example: "homeassistant",
            rule: Rule::text("a topic without +, #, empty levels or a slash at either end", rule::is_topic),
            help: "Discovery prefix of Home Assistant." }
        MQTT_BASE_TOPIC { default: Some("bms/{id}"), example: "bms/{type}/{id}",
            rule: Rule::text("a topic without +, #, empty levels or a slash at either end; {id} and {type} are replaced",
                rule::is_topic_template),
            help: "Topic of a battery's values; `{id}` and `{type}` are replaced. With several batteries `{id}` is \
                required." }
        MQTT_DISCOVERY { default: Some("entity"), rule: Rule::Choice(&["entity", "device", "off"]), example: "entity",
            help: "`entity`: one discovery topic per entity; `device`: one per device (Home Assistant 2024.11 or newer); \
                `off`: none." }
        MQTT_TLS { default: Some("false"), rule: Rule::Bool, example: "true",
            help: "Encrypt the connection, and verify the broker against the bundled web roots and `MQTT_CA_FILE`." }
        MQTT_CA_FILE { rule: FILE, example: "/certs/ca.pem",
            help: "PEM file with additional root certificates, for a broker with its own CA, or with the certificate of the \
                broker itself, if it is self-signed." }
        MQTT_CLIENT_CERT_FILE { rule: FILE, example: "/certs/client.pem", help: "PEM file with the client certificate." }
        MQTT_CLIENT_KEY_FILE {
            rule: FILE, example: "/certs/client.key", help: "PEM file with the private key of the client certificate." }
        MQTT_TLS_INSECURE { default: Some("false"), rule: Rule::Bool, example: "false",
            help: "Accept any certificate. Anyone between this program and the broker can read and change everything." }
        MQTT_CLIENT_ID {
            derived: "`bms-reader-` and the ID of the first battery", example: "bms-reader-garage",
            rule: Rule::text("one level of a topic: no /, + or #, at most 128 characters", rule::is_topic_level),
            help: "Client ID at the broker. Two clients with the same ID disconnect each other." }
        MQTT_KEEP_ALIVE { default: Some("20"), rule: Rule::whole(5, 3600, " seconds"), example: "20",
            help: "Keep-alive interval in seconds. An unreachable broker is noticed within this time." }
        MQTT_VERSION { default: Some("3.1.1"), rule: Rule::Choice(&["3.1.1", "3", "4", "5", "5.0"]), example: "5",
            help: "Version of MQTT: `3.1.1` (`3` and `4` mean the same) or `5`, with which values expire at the broker and \
                refusals are explained in the log. Where the broker does not accept 5, 3.1.1 is used." }
        MQTT_PUBLISH { default: Some("changes"), rule: Rule::Choice(&["changes", "all"]), example: "changes",
            help: "`changes`: send an unchanged value again only every `MQTT_REFRESH` seconds; `all`: send every value at \
                every read." }
        MQTT_BACKFILL { default: Some("false"), example: "true",
            rule: Rule::text("true, false, all or thingsboard", |text| rule::backfill(text).is_some()),
            help: "Readings with their times [on a topic of their own](backfill.md). `true`: those that the broker missed, after \
                an outage; `all`: every reading; `thingsboard`: every reading, for the gateway API of ThingsBoard." }
        MQTT_REFRESH { default: Some("300"), rule: Rule::whole(1, 86_400, " seconds"), example: "300",
            help: "Seconds after which an unchanged value is sent again." }
    }
    Alarms {
        ALARM_CELL_LOW { default: Some("3.0"), rule: Rule::threshold(500, 5000, 3, " V"), example: "3.0",
            help: "Alarm when a cell is below this voltage; ends 20 mV above it." }
        ALARM_CELL_HIGH { default: Some("3.65"), rule: Rule::threshold(500, 5000, 3, " V"), example: "3.65",
            help: "Alarm when a cell is above this voltage; ends 20 mV below it. Set it to 4.2 for NMC." }
        ALARM_CELL_DELTA { rule: Rule::threshold(1, 2000, 3, " V"), example: "0.05",
            help: "Alarm when the cell voltages differ by more than this; ends 10 mV (at most a fifth) below it." }
        ALARM_TEMP_HIGH { default: Some("45"), rule: Rule::threshold(-400, 1500, 1, " °C"), example: "45",
            help: "Alarm when a cell sensor is above this temperature; ends 2 °C below it." }
        ALARM_TEMP_LOW { rule: Rule::threshold(-400, 1500, 1, " °C"), example: "0",
            help: "Alarm when a cell sensor is below this temperature; ends 2 °C above it." }
        ALARM_SOC_LOW { rule: Rule::threshold(0, 10_000, 2, " %"), example: "10",
            help: "Alarm below this state of charge; ends 2 % above it." }
    }
    Notifications {
        NOTIFY_URL { secret: true, example: "ntfys://ntfy.sh/my-secret-topic",
            rule: Rule::text("URLs of ntfy, Gotify, Telegram or a webhook, separated by commas or blanks", |_| true),
            help: "Where [notifications](notifications.md) about alarms and lost batteries go: ntfy, Gotify, Telegram or any \
                webhook. Several URLs are separated by commas, blanks or line breaks." }
        NOTIFY_DAILY { default: Some("off"), example: "07:00",
            rule: Rule::text("a local time such as 07:00, or off", |text| rule::time_of_day(text).is_some()),
            help: "Time of a daily summary of all batteries: charge, energy and alarms." }
        NOTIFY_CA_FILE { rule: FILE, example: "/certs/ca.pem",
            help: "PEM file with additional root certificates for these servers, or with the certificate of the server \
                itself, if it is self-signed." }
        TZ { derived: "that of the machine, in a container UTC", example: "Europe/Berlin",
            help: "Time zone of `NOTIFY_DAILY`, of times in notifications, and of the days of the energy: a name, or a \
                rule such as `CET-1CEST,M3.5.0,M10.5.0/3`. Home Assistant sets it." }
    }
    Influx {
        INFLUX_URL { example: "http://192.168.1.20:8086",
            rule: Rule::text("a URL such as http://host:8086, without a login and without a path of the API",
                |text| Address::parse(text).is_some()),
            help: "[InfluxDB, VictoriaMetrics or Telegraf](influx.md): address of the server to which readings are written \
                in line protocol." }
        INFLUX_TOKEN { secret: true, example: "my-token",
            rule: Rule::text("the token as the server shows it", |text| text.bytes().all(|byte| byte.is_ascii_graphic())),
            help: "InfluxDB 2 and 3: token that may write to the bucket." }
        INFLUX_BUCKET { example: "batteries", help: "InfluxDB 2 and 3, and Telegraf: bucket, or database of InfluxDB 3." }
        INFLUX_ORG { example: "home", help: "InfluxDB 2: organization of the bucket." }
        INFLUX_DATABASE { example: "batteries", help: "InfluxDB 1: database; VictoriaMetrics: value of the label `db`." }
        INFLUX_USER { example: "bms", help: "InfluxDB 1, or a proxy: user name." }
        INFLUX_PASSWORD { secret: true, example: "secret", help: "Password of `INFLUX_USER`." }
        INFLUX_INTERVAL { derived: "every reading", rule: Rule::whole(1, 86_400, " seconds"), example: "60",
            help: "Seconds between two readings of a battery that are written." }
        INFLUX_CA_FILE { rule: FILE, example: "/certs/ca.pem",
            help: "PEM file with additional root certificates for this server, or with its own certificate, if it is \
                self-signed." }
    }
    Service {
        HTTP_LISTEN { default: Some("127.0.0.1:8099"), example: "0.0.0.0:8099",
            rule: Rule::text("an IP address and a port, or off; a port alone means all interfaces",
                |text| rule::listen(text).is_some()),
            help: "Address of the dashboard, the metrics and the health check; `off` disables them. The container image \
                sets `0.0.0.0:8099`." }
        HTTP_URL { derived: "`HTTP_LISTEN`, if it is an address that other machines reach",
            rule: Rule::text("a URL that begins with http:// or https://",
                |text| text.starts_with("http://") || text.starts_with("https://")),
            example: "http://192.168.1.10:8099",
            help: "URL of the dashboard as browsers reach it; Home Assistant links to it from each battery." }
        HTTP_TOKEN { secret: true, example: "correct-horse-battery",
            derived: "without it the page is readable from the whole network, and set-up and switches work on this machine \
                only",
            rule: Rule::text("8 to 128 letters, digits and signs other than quotes, comma, semicolon, backslash, $ and #",
                rule::is_token),
            help: "Password of the page, the API and the metrics; scripts send it as `Authorization: Bearer <token>`. With \
                it set-up and switches work from other machines, too. The health check and Home Assistant's own page need none." }
        HTTP_ALLOWED_HOSTS { example: "battery.example.org",
            rule: Rule::text("host names without ports, separated by commas", |text| rule::hosts(text).is_some()),
            help: "Further names of this machine in the address of the page. Its IP addresses, names without a dot and \
                names that end with `.local`, `.lan`, `.home`, `.internal` or `.home.arpa` are always allowed. Web sites \
                with these names may show the page in a frame." }
        HISTORY_HOURS {
            default: Some("48"), rule: Rule::whole(1, 744, " hours"), example: "48", help: "Length of the history in hours.",
        }
        HISTORY_FILE { derived: "memory only", rule: FILE, example: "/data/history.db",
            help: "File that keeps the history and the energy counters across restarts." }
        ALLOW_CONTROL { default: Some("false"), rule: Rule::Bool, example: "false",
            help: "Allow commands that change the battery, over MQTT and on the page: its charge, discharge and \
                balancing switches, if the type has them. Every change is verified and logged." }
        ALLOW_CONFIG { default: Some("true"), rule: Rule::Bool, example: "false",
            help: "Allow `cmd/config` and the page to change intervals, addresses and energy counters. Set it to `false` if \
                others may publish at the broker." }
        MQTT_REMOTE_CONFIG { default: Some("false"), rule: Rule::Bool, example: "true",
            help: "Apply settings of all batteries that are retained on `bms/bridge/<client id>/config`: what `cmd/config` may \
                change, except for energy counters." }
        BMS_CAPTURE { rule: FILE, example: "/data/capture.jsonl",
            help: "Record all traffic with the batteries in this file for a bug report (JSON lines, secrets masked, at \
                most 64 MiB); `bms-reader replay` plays it back." }
        BMS_PROFILES { derived: "in the add-on `/config/profiles`", example: "/data/profiles",
            rule: Rule::text("the path of a profile, or of a folder with profiles", |_| true),
            help: "File or folder with [profiles](profiles.md) of batteries that the program does not know (`*.yaml`); one \
                with the name of a built-in type replaces it." }
        LOG_LEVEL { default: Some("INFO"),
            rule: Rule::Choice(&["ERROR", "WARNING", "WARN", "INFO", "DEBUG", "TRACE"]), example: "INFO",
            help: "Log level; `TRACE` logs every frame." }
        LOG_FORMAT { default: Some("text"), rule: Rule::Choice(&["text", "json"]), example: "json",
            help: "Plain text, or one JSON object per line." }
        DEBUG_MODE {
            default: Some("false"), rule: Rule::Bool, example: "true", help: "`true` is the same as `LOG_LEVEL=DEBUG`." }
        RUST_LOG { derived: "derived from `LOG_LEVEL`", example: "warn,bms_reader::poll=trace",
            help: "For experts: a log filter per module; overrides `LOG_LEVEL` and `DEBUG_MODE`." }
        BMS_OPTIONS_FILE { default: Some("/data/options.json"), rule: FILE, example: "/data/options.json",
            help: "Options of the Home Assistant add-on; read if the file exists." }
        SUPERVISOR_TOKEN { secret: true, example: "0123456789abcdef",
            help: "Set by Home Assistant for its add-ons: without `MQTT_HOST` the program asks the Supervisor for the broker.",
        }
        SUPERVISOR_API { default: Some("http://supervisor"), example: "http://supervisor",
            rule: Rule::text("a URL that begins with http://", |text| text.starts_with("http://")),
            help: "URL of the Supervisor." }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_and_example_pass_their_rule() {
        for variable in VARIABLES {
            assert!(variable.rule.accepts(variable.example), "{}: example", variable.name);
            if let Some(text) = variable.default {
                assert!(variable.rule.accepts(text), "{}: default {text}", variable.name);
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
    fn every_variable_has_help_and_an_example() {
        for variable in VARIABLES {
            assert!(variable.help.ends_with('.'), "{}", variable.name);
            assert!(!variable.example.is_empty(), "{}", variable.name);
        }
    }
}
