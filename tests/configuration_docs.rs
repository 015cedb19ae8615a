//! `docs/configuration.md` is generated from the table of variables.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use bms_reader::config::variables::{Group, VARIABLES, Variable};

const INTRODUCTION: &str = "\
# Configuration

<!-- Made from src/config/variables.rs: UPDATE_DOCS=1 cargo test --test configuration_docs -->

Everything is an environment variable. In the Home Assistant add-on the options have the same names
in lower case (`mqtt_host`); an environment variable overrides an option.

* Blanks around a value are ignored, and an empty value counts as unset.
* Names are not case-sensitive; of two that differ in case alone, the one in capitals wins.
* Switches are `true` or `false`, `yes` or `no`, `on` or `off`, `1` or `0`, in any case.
* Variables marked *secret* are never shown. Each may also come from a file: `MQTT_PASSWORD_FILE`
  names a file that contains `MQTT_PASSWORD` (Docker secrets). `MQTT_PASSWORD` itself overrides it.
* Older names still work; if both are set, the newer name wins.
* An invalid value stops the start with exit code 2; all errors are reported at once. An unknown
  `BMS_*` or `MQTT_*` name is a warning that suggests the nearest known name.
* In a file for `docker run --env-file`, do not quote values and do not put comments after them:
  Docker passes both on.
";

/// The whole reference as Markdown.
fn reference() -> String {
    let element_keys = element_keys();
    let mut text = INTRODUCTION.to_owned();
    for (group, title, introduction) in [
        (Group::Battery, "One battery", ""),
        (Group::Batteries, "Several batteries", &element_keys),
        (Group::Mqtt, "MQTT and Home Assistant", ""),
        (Group::Alarms, "Alarm thresholds", "`off` disables an alarm.\n\n"),
        (Group::Notifications, "Notifications", ""),
        (Group::Influx, "InfluxDB and VictoriaMetrics", ""),
        (Group::Service, "Service", ""),
    ] {
        // Writing into a String cannot fail.
        let _ = write!(text, "\n## {title}\n\n{introduction}");
        text.push_str(
            "| variable | default | allowed | example | meaning |\n|---|---|---|---|---|\n",
        );
        text.extend(VARIABLES.iter().filter(|variable| variable.group == group).map(|it| row(it)));
    }
    text
}

/// The keys of an element of `DEVICES`, with the variables that they stand for.
fn element_keys() -> String {
    let mut text = "An element of `DEVICES` has these keys, with the meaning of the variables:\n\n\
         | key | variable |\n|---|---|\n"
        .to_owned();
    for (variable, key) in VARIABLES.iter().filter_map(|it| Some((it, it.key()?))) {
        let file = if variable.secret { format!(" or `{key}_file`") } else { String::new() };
        let _ = writeln!(text, "| `{key}`{file} | `{}` |", variable.name);
    }
    text + "\n`id` is required; `interval` defaults to `READ_INTERVAL`. Batteries on one port are read in \
            turn.\n\n"
}

fn row(variable: &Variable) -> String {
    let mut name = format!("`{}`", variable.name);
    for alias in variable.aliases {
        let _ = write!(name, "<br>older: `{alias}`");
    }
    if variable.secret {
        name.push_str("<br>*secret*");
    }
    let derived = variable.derived.to_owned();
    let default = variable.default.map_or(derived, |text| format!("`{text}`"));
    let (allowed, example) = (variable.rule.to_string(), format!("`{}`", variable.example));
    let cells = [name, default, allowed, example, variable.help.to_owned()];
    format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | "))
}

#[test]
fn configuration_docs_match_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let reference = reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &reference).expect("docs/configuration.md is writable");
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == reference,
        "docs/configuration.md differs from src/config/variables.rs; \
         regenerate it: UPDATE_DOCS=1 cargo test --test configuration_docs"
    );
}
