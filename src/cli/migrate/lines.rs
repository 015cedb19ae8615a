//! Files with one setting in a line: `config.py`, `.env`, and the environment of a container in a
//! compose file, a `docker run` command or a systemd unit.

use super::{Migration, variable};
use crate::config::variables::BMS_PORT;

/// The settings of `config.py`, by class and name. An empty variable: not needed any more.
const PYTHON: &[(&str, &str, &str)] = &[
    ("BMSConfig", "PORT", "BMS_PORT"),
    ("BMSConfig", "BMS_ADDRESS", "BMS_SLAVE_ID"),
    ("BMSConfig", "BAUDRATE", "BMS_BAUDRATE"),
    ("BMSConfig", "TIMEOUT", "BMS_TIMEOUT"),
    ("MQTTConfig", "BROKER_HOST", "MQTT_HOST"),
    ("MQTTConfig", "BROKER_PORT", "MQTT_PORT"),
    ("MQTTConfig", "USERNAME", "MQTT_USER"),
    ("MQTTConfig", "PASSWORD", "MQTT_PASSWORD"),
    ("MQTTConfig", "DEVICE_ID", "DEVICE_ID"),
    ("MQTTConfig", "DEVICE_NAME", "DEVICE_NAME"),
    ("MQTTConfig", "DISCOVERY_PREFIX", "MQTT_TOPIC_PREFIX"),
    ("AppConfig", "READ_INTERVAL", "READ_INTERVAL"),
    ("AppConfig", "LOG_LEVEL", "LOG_LEVEL"),
];

/// What may stand before `NAME=value`: a list item of YAML, a flag of Docker, a shell, systemd.
const PREFIXES: [&str; 7] = ["- ", "-e ", "--env ", "--env=", "export ", "Environment=", "-e"];

pub(super) fn migrate(text: &str) -> Migration {
    let mut migration = if text.contains("class BMSConfig") || text.contains("class MQTTConfig") {
        python(text)
    } else {
        environment(text)
    };
    let port = migration.settings.iter().find(|(name, _)| name == BMS_PORT.name);
    if port.is_some_and(|(_, port)| port.contains("tty.") || port.starts_with("COM")) {
        migration.note(format!(
            "{} is the name of another system; `bms-reader scan` lists the names on this one",
            BMS_PORT.name
        ));
    }
    migration
}

fn python(text: &str) -> Migration {
    let mut migration = Migration { program: "Daren reader, plain Python", ..Migration::default() };
    let mut class = "";
    for (number, line) in numbered(text) {
        if let Some(name) = line.strip_prefix("class ") {
            class = name.split(['(', ':']).next().unwrap_or_default().trim();
            continue;
        }
        // `NAME: int = 1` has an annotation.
        let Some((name, value)) = line.split_once('=') else { continue };
        let name = name.split(':').next().unwrap_or_default().trim();
        if !is_name(name) {
            continue;
        }
        let row = PYTHON.iter().find(|row| row.0 == class && row.1 == name);
        match (row, literal(value)) {
            (Some((.., variable)), Some(value)) if !value.is_empty() => {
                migration.set(variable, value);
            }
            (Some(_), Some(_)) => {}
            (Some((.., variable)), None) => migration.note(format!(
                "line {number}: {class}.{name} is computed; set {variable} yourself"
            )),
            (None, _) => {
                migration.note(format!("line {number}: {class}.{name} has no counterpart"));
            }
        }
    }
    migration
}

/// The text of a literal of Python; `None` for any other expression.
fn literal(value: &str) -> Option<String> {
    let value = value.trim();
    if let Some(quote) = value.chars().next().filter(|first| matches!(first, '"' | '\'')) {
        return Some(value.get(1..)?.split_once(quote)?.0.to_owned());
    }
    let value = value.split('#').next().unwrap_or_default().trim();
    match value {
        "None" => Some(String::new()),
        "True" | "False" => Some(value.to_lowercase()),
        _ if value.starts_with(|first: char| first.is_ascii_digit()) => {
            let is_number =
                value.bytes().all(|byte| byte.is_ascii_hexdigit() || b"xX._".contains(&byte));
            is_number.then(|| value.replace('_', ""))
        }
        _ => None,
    }
}

fn environment(text: &str) -> Migration {
    let mut migration = Migration { program: "environment of a container", ..Migration::default() };
    for (number, line) in numbered(text) {
        // A command may have several flags in one line.
        for (index, part) in line.split(" -e ").flat_map(|part| part.split(" --env ")).enumerate() {
            let is_flag = index > 0 || part.starts_with("-e") || part.starts_with("--env");
            if let Some((name, value)) = assignment(part, is_flag) {
                assign(&mut migration, number, name, value);
            }
        }
    }
    if migration.settings.iter().any(|(name, _)| name == "BMS_BARCODE") {
        migration.program = "Pylontech SC0500 console";
    }
    migration
}

fn assign(migration: &mut Migration, number: usize, name: &str, value: String) {
    match variable(name) {
        Some(_) if value.contains("${") => migration
            .note(format!("line {number}: {name} refers to another variable; set it to its value")),
        Some(variable) => migration.set(variable.name, value),
        None => migration.note(format!("line {number}: {name} has no counterpart")),
    }
}

/// The name and the value of `NAME=value` or `NAME: value`, without what surrounds them. The value of
/// a flag ends at the first blank.
fn assignment(line: &str, is_flag: bool) -> Option<(&str, String)> {
    let mut line = quoted_part(line.trim().trim_end_matches('\\').trim_end());
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| line.strip_prefix(prefix)) {
        line = quoted_part(rest.trim());
    }
    let at = line.find(['=', ':'])?;
    let (name, value) = (line[..at].trim(), line[at + 1..].trim());
    let value = match value.starts_with(['"', '\'']) {
        true => literal(value)?,
        false => value
            .split(if is_flag { " " } else { " #" })
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned(),
    };
    is_name(name).then_some((name, value)).filter(|(_, value)| !value.is_empty())
}

/// What is between the quotes at the beginning; everything if there are none.
fn quoted_part(text: &str) -> &str {
    let between = |quote| Some(text.strip_prefix(quote)?.split_once(quote)?.0);
    between('"').or_else(|| between('\'')).unwrap_or(text)
}

/// Whether it can be the name of a variable: the keys of a compose file are in lower case.
fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_uppercase())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

/// The lines that are not comments, counted from 1.
fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().map(str::trim).enumerate().map(|(index, line)| (index + 1, line));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}
