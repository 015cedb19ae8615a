//! `docs/configuration.md`, made from the table of variables.

use std::fmt::Write;

use super::variables::{Fallback, Group, VARIABLES, Variable};

const INTRODUCTION: &str = "\
# Configuration

<!-- Made from src/config/variables.rs: UPDATE_DOCS=1 cargo test --test configuration_docs -->

Everything is an environment variable. In the Home Assistant add-on the options carry the same
names in lower case (`mqtt_host`); an environment variable wins over an option.

* Blanks around a value do not matter, and an empty value counts as not set.
* Names count in any case; should two differ in case alone, the one in capitals wins.
* Switches are `true` or `false`, `yes` or `no`, `on` or `off`, `1` or `0`, in any case.
* Variables marked *secret* are never shown. Each may also be a file: `MQTT_PASSWORD_FILE` names
  the file that holds `MQTT_PASSWORD` (Docker secrets). `MQTT_PASSWORD` itself wins over the file.
* An older name still works; the newer one wins where both are set.
* A wrong value stops the start with exit code 2 and one message for each fault. An unknown
  `BMS_*` or `MQTT_*` name is a warning with the nearest known name, if one is near.
* Write no quotes around values in a file for `docker run --env-file`, and no comments after them:
  Docker passes both on.
";

/// The whole reference as Markdown.
pub fn reference() -> String {
    let mut text = INTRODUCTION.to_owned();
    for group in Group::ALL {
        let (title, words) = heading(group);
        // Writing into a String cannot fail.
        let _ = write!(text, "\n## {title}\n\n{words}");
        text.push_str(
            "| variable | default | allowed | example | meaning |\n|---|---|---|---|---|\n",
        );
        for variable in VARIABLES.iter().filter(|variable| variable.group == group) {
            text.push_str(&row(variable));
        }
    }
    text
}

fn heading(group: Group) -> (&'static str, String) {
    match group {
        Group::Battery => ("One battery", String::new()),
        Group::Several => ("Several batteries", element_keys()),
        Group::Mqtt => ("MQTT and Home Assistant", String::new()),
        Group::Alarms => ("Own alarm limits", "Each can be switched off with `off`.\n\n".into()),
        Group::Service => ("Service", String::new()),
    }
}

/// The keys of an element of `DEVICES`, with the variables that they stand for.
fn element_keys() -> String {
    let mut text = "An element of `DEVICES` has these keys, with the meaning of the variables:\n\n\
         | key | as |\n|---|---|\n"
        .to_owned();
    for variable in VARIABLES {
        if let Some(key) = variable.key {
            let file = if variable.secret { format!(" or `{key}_file`") } else { String::new() };
            let _ = writeln!(text, "| `{key}`{file} | `{}` |", variable.name);
        }
    }
    text + "\n`id` is needed; `interval` is `READ_INTERVAL` where it is not set. Batteries on one port\n\
            take turns on it.\n\n"
}

fn row(variable: &Variable) -> String {
    let mut name = format!("`{}`", variable.name);
    for alias in variable.aliases {
        let _ = write!(name, "<br>older: `{alias}`");
    }
    if variable.secret {
        name.push_str("<br>*secret*");
    }
    let default = match variable.default {
        Fallback::Unset => String::new(),
        Fallback::Text(text) => format!("`{text}`"),
        Fallback::Depends(words) => words.to_owned(),
    };
    let cells = [
        name,
        default,
        variable.rule.to_string(),
        format!("`{}`", variable.example),
        variable.help.to_owned(),
    ];
    format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | "))
}
