//! `migrate`: turns the configuration file of an older program into variables.

mod json;
mod lines;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::args::Command;
use super::{FAILED, Outcome, SUCCESS, misconfigured};
use crate::config;
use crate::config::variables::{BMS_OPTIONS_FILE, MQTT_HOST, VARIABLES, Variable};

/// In bytes; far more than any of these files.
const MAX_FILE: u64 = 1 << 20;

pub(super) const COMMAND: Command = Command {
    name: "migrate",
    about: "Print the variables for the configuration file of an older program: config.py, .env, a compose file or \
            docker run command, connections.json or jk_ble_gateway.json",
    positional: Some(("FILE", "the configuration file of the older program")),
    flags: &[],
    prepare: |matches| {
        let path = PathBuf::from(matches.positional());
        Ok(Box::pin(async move { run(&path) }))
    },
};

/// What became of a file.
#[derive(Debug, Default)]
struct Migration {
    /// The older program, for people.
    program: &'static str,
    /// Names and values of variables, in the order of the file.
    settings: Vec<(String, String)>,
    /// What was not taken over, and why.
    notes: Vec<String>,
}

impl Migration {
    fn set(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        match self.settings.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) if *known != value => {
                self.notes.push(format!("{name} is set twice; the last value counts"));
                *known = value;
            }
            Some(_) => {}
            None => self.settings.push((name.to_owned(), value)),
        }
    }

    fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    fn has(&self, variable: &Variable) -> bool {
        self.settings.iter().any(|(name, _)| name == variable.name)
    }
}

/// The variable with this name or alias.
fn variable(name: &str) -> Option<&'static Variable> {
    let is_it = |variable: &&Variable| variable.name == name || variable.aliases.contains(&name);
    VARIABLES.iter().copied().find(is_it)
}

fn run(path: &Path) -> Outcome {
    let in_file = |reason: String| misconfigured(format!("{}: {reason}", path.display()));
    let text = read(path).map_err(|error| in_file(error.to_string()))?;
    let mut migration = migrate(&text).map_err(in_file)?;
    if !migration.has(&MQTT_HOST) {
        migration
            .note("MQTT_HOST is not in this file: add the host name or address of your broker");
    }
    println!("# bms-reader, from {} ({})", path.display(), migration.program);
    for (name, value) in &migration.settings {
        println!("{name}={value}");
    }
    for note in &migration.notes {
        eprintln!("note: {note}");
    }
    let errors = errors(&migration);
    for error in &errors {
        eprintln!("to correct: {error}");
    }
    Ok(if errors.is_empty() { SUCCESS } else { FAILED })
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}

/// Why the service would not start with these settings.
fn errors(migration: &Migration) -> Vec<String> {
    let mut environment: BTreeMap<String, String> = migration.settings.iter().cloned().collect();
    // Without the options of an add-on that this may run in: there is no such file.
    environment.insert(BMS_OPTIONS_FILE.name.to_owned(), "-".to_owned());
    let diagnostics = config::load(environment).err();
    diagnostics.iter().flat_map(|it| &it.errors).map(ToString::to_string).collect()
}

fn migrate(text: &str) -> Result<Migration, String> {
    let migration = match serde_json::from_str(text) {
        Ok(serde_json::Value::Object(object)) => json::migrate(&object)?,
        Err(error) if text.trim_start().starts_with('{') => {
            return Err(format!("the JSON is damaged: {error}"));
        }
        _ => lines::migrate(text),
    };
    if migration.settings.is_empty() {
        return Err("there is no setting of a program that bms-reader replaces; it takes config.py, .env files, \
                    compose files and docker run commands, connections.json and jk_ble_gateway.json"
            .to_owned());
    }
    Ok(migration)
}

#[cfg(test)]
#[path = "migrate/tests.rs"]
mod tests;
