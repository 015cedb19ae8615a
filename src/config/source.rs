//! Reads the sources: the add-on's options, over them the environment, and the files that `X_FILE`
//! names. No other module reads any of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::error::{ConfigError, Reporter};
use super::installation::installation;
use super::unknown::unknown_names;
use super::values::{Assignment, Spelling, Values};
use super::variables::{BMS_OPTIONS_FILE, VARIABLES, Variable};
use crate::model::{Installation, Secret};

/// In bytes; far above any options file or secret.
const MAX_FILE_SIZE: u64 = 1 << 20;

/// Names and their values.
pub(super) type Entries = BTreeMap<String, String>;

/// The environment of the process, without names and values that are not Unicode.
pub fn environment() -> Entries {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// The values for the whole program and for a single battery.
pub(super) fn collect(environment: Entries, reporter: &Reporter) -> Values {
    // Of two names that differ in case alone the last one wins. Upper case sorts first, hence `rev`.
    // Strings deserialize from strings without errors.
    let installation = installation(&environment);
    let environment = envy::from_iter(environment.into_iter().rev()).unwrap_or_default();
    let mut values = resolve(read_options(&environment, reporter), Spelling::Options, reporter);
    values.overlay(resolve(environment, Spelling::Environment, reporter));
    values.installation = installation;
    if installation == Installation::HomeAssistant {
        // The users of the add-on set options and no variables.
        values.spelling = Spelling::Options;
    }
    values
}

/// Looks up each variable in one source and checks its value.
pub(super) fn resolve(mut entries: Entries, spelling: Spelling, reporter: &Reporter) -> Values {
    // The add-on passes empty texts for unset options.
    entries.retain(|_, text| !text.trim().is_empty());
    let mut values = Values::new(spelling, reporter.clone());
    for variable in VARIABLES.iter().copied() {
        let direct = take_direct(&mut entries, variable, &values);
        let from_file = take_file(&mut entries, variable, &values, direct.is_some());
        if let Some(mut assignment) = direct.or(from_file) {
            let text = assignment.text.as_ref().map(Secret::expose);
            if text.is_some_and(|text| !variable.rule.accepts(text)) {
                values.error(assignment.invalid(variable, variable.rule.to_string()));
                assignment.text = None;
            }
            values.insert(variable, assignment);
        }
    }
    for warning in unknown_names(entries.keys(), &values.spelling) {
        values.warn(warning);
    }
    values
}

/// The value under the documented name, or under an alias.
fn take_direct(entries: &mut Entries, variable: &Variable, values: &Values) -> Option<Assignment> {
    let mut found: Option<(String, String)> = None;
    for name in values.spelling.names(variable) {
        let Some(text) = entries.remove(&name) else { continue };
        let (name, text) = (values.spelling.display(&name), text.trim().to_owned());
        match &found {
            None => found = Some((name, text)),
            Some((first, other)) if *other != text => {
                values.warn(format!("{name} is ignored, because {first} has another value"));
            }
            Some(_) => {}
        }
    }
    found.map(|(name, text)| Assignment { name, text: Some(Secret::new(&text)) })
}

/// The content of the file that `X_FILE` names.
fn take_file(
    entries: &mut Entries,
    variable: &Variable,
    values: &Values,
    is_set: bool,
) -> Option<Assignment> {
    let file_name = values.spelling.file_name(variable)?;
    let path = entries.remove(&file_name)?;
    let path = path.trim();
    let (name, direct) = (values.spelling.display(&file_name), file_name.trim_end_matches("_file"));
    if is_set {
        let direct = values.spelling.display(direct);
        values.warn(format!("{name} is ignored, because {direct} is set"));
        return None;
    }
    let text = match read_text(Path::new(path)) {
        Ok(text) => {
            // Other blanks may be part of the secret.
            let text = text.trim_end_matches(['\r', '\n']);
            if text.is_empty() {
                values.warn(format!("{name}: {path} is empty and counts as unset"));
                return None;
            }
            Some(Secret::new(text))
        }
        Err(error) => {
            let allowed = format!("the path of a readable file, not the secret itself ({error})");
            let example = format!("/run/secrets/{direct}");
            let error = ConfigError::new(&name, allowed, &example);
            values.error(if is_path(path) { error.with_value(path) } else { error });
            None
        }
    };
    Some(Assignment { name, text })
}

/// Whether this is a path for sure. It may also be the secret, which must not be shown.
fn is_path(text: &str) -> bool {
    let path = Path::new(text);
    let folder = path.parent().filter(|folder| folder.parent().is_some());
    path.is_absolute() && (path.exists() || folder.is_some_and(Path::is_dir))
}

/// The options of the add-on; empty where there is no such file.
fn read_options(environment: &Entries, reporter: &Reporter) -> Entries {
    let variable = &BMS_OPTIONS_FILE;
    let explicit = environment.get("bms_options_file").map(|path| path.trim());
    let set = explicit.filter(|path| !path.is_empty());
    let Some(path) = set.or(variable.default) else { return Entries::new() };
    let allowed = match read_text(Path::new(path)) {
        Ok(text) => match serde_json::from_str::<serde_json::Map<_, _>>(&text) {
            Ok(options) => {
                return option_entries(options);
            }
            // The message of the error would repeat values, which may be secret.
            Err(error) => {
                let (line, column) = (error.line(), error.column());
                format!("a file with one JSON object (see line {line}, column {column})")
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if explicit.is_some() {
                reporter.warn(format!("{}: file {path} not found", variable.name));
            }
            return Entries::new();
        }
        Err(error) => format!("a readable file ({error})"),
    };
    reporter.error(ConfigError::new(variable.name, allowed, variable.example).with_value(path));
    Entries::new()
}

/// Options as the environment would contain them, with their names in lower case.
pub(super) fn option_entries(options: serde_json::Map<String, serde_json::Value>) -> Entries {
    let entry = |(name, value): (String, _)| Some((name.to_lowercase(), option_text(value)?));
    options.into_iter().filter_map(entry).collect()
}

/// An option as the environment would contain it; `None` if it counts as unset.
fn option_text(value: serde_json::Value) -> Option<String> {
    use serde_json::Value;
    match value {
        Value::Null => None,
        Value::String(text) => Some(text),
        Value::Array(list) if list.is_empty() => None,
        Value::Object(map) if map.is_empty() => None,
        other => Some(other.to_string()),
    }
}

/// Reads a regular file: a pipe could block forever, a device has no end.
fn read_text(path: &Path) -> io::Result<String> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE_SIZE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_SIZE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 1 MiB"));
    }
    Ok(text)
}
