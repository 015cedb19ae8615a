//! Where values come from: the add-on's options, over them the environment, and the files that
//! `X_FILE` names. Nothing else in the program reads any of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::fault::{ConfigError, Findings};
use super::values::{Given, Values};
use super::variables::{self, Fallback, VARIABLES, Variable};
use crate::did_you_mean::closest;
use crate::model::Secret;

/// No file that we read has a reason to be larger.
const LARGEST_FILE: u64 = 1 << 20;

/// Beginnings that are ours alone: an unknown name with one of them is a mistake.
const OURS: [&str; 2] = ["bms_", "mqtt_"];

/// Beginnings that others may use, too: such a name counts only if it is almost one of ours.
const SHARED: [&str; 8] =
    ["ha_", "alarm_", "history_", "http_", "read_", "device_", "allow_", "serial_"];

/// What the process was started with; names and values that are not Unicode are left out.
pub fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// How names are spelled in a source.
#[derive(Debug, Clone, Copy)]
pub(super) enum Spelling {
    /// `BMS_PORT`
    Environment,
    /// `bms_port`
    Options,
    /// `port`, in the element of `DEVICES` with this number.
    Element(usize),
}

impl Spelling {
    /// How this source may call the variable, in lower case, the documented name first.
    fn names(self, variable: &Variable) -> Vec<String> {
        match self {
            Spelling::Element(_) => variable.key.map(str::to_owned).into_iter().collect(),
            _ => [variable.name].iter().chain(variable.aliases).map(|n| n.to_lowercase()).collect(),
        }
    }

    /// The name for messages.
    pub fn shown(self, name: &str) -> String {
        match self {
            Spelling::Environment => name.to_uppercase(),
            Spelling::Options => format!("option {name}"),
            Spelling::Element(index) => format!("DEVICES[{index}].{name}"),
        }
    }
}

/// All values for the program as a whole and for a single battery.
pub(super) fn collect(environment: BTreeMap<String, String>, findings: &mut Findings) -> Values {
    // The file of the options can be named in the environment only.
    let environment = by_option_name(environment);
    let options = options_file(&environment, findings);
    let mut values = resolve(options, Spelling::Options, findings);
    values.overlay(resolve(environment, Spelling::Environment, findings));
    values
}

/// The environment in the shape of the add-on's options: names in lower case. Where two names
/// differ in case alone the last one counts, and capitals sort first, so the order is turned round.
fn by_option_name(environment: BTreeMap<String, String>) -> BTreeMap<String, String> {
    // Text into text cannot fail.
    envy::from_iter(environment.into_iter().rev()).unwrap_or_default()
}

/// Finds each variable among the entries of one source, and checks it against its rule.
pub(super) fn resolve(
    mut entries: BTreeMap<String, String>,
    spelling: Spelling,
    findings: &mut Findings,
) -> Values {
    // Blanks do not matter, and an add-on passes empty texts for what is not set.
    entries.retain(|_, text| !text.trim().is_empty());
    let mut values = Values::new(spelling);
    for variable in VARIABLES.iter().copied() {
        let plain = take_plain(&mut entries, variable, spelling, findings);
        let from_file = take_file(&mut entries, variable, spelling, plain.is_some(), findings);
        if let Some(given) = plain.or(from_file) {
            values.insert(variable, check(variable, given, findings));
        }
    }
    for name in entries.keys() {
        if let Some(warning) = stray(name, spelling) {
            findings.warn(warning);
        }
    }
    values
}

/// The value under its own name or an alias. The documented name wins over the alias.
fn take_plain(
    entries: &mut BTreeMap<String, String>,
    variable: &Variable,
    spelling: Spelling,
    findings: &mut Findings,
) -> Option<Given> {
    let mut found: Option<Given> = None;
    for name in spelling.names(variable) {
        let Some(text) = entries.remove(&name) else { continue };
        let text = text.trim();
        let name = spelling.shown(&name);
        match &found {
            None => found = Some(Given { name, text: Some(Secret::new(text)) }),
            Some(first) if first.text.as_ref().map(Secret::expose) != Some(text) => {
                findings.warn(format!("{name} is ignored, because {} says otherwise", first.name));
            }
            Some(_) => {}
        }
    }
    found
}

/// The content of the file that `X_FILE` names; `X` itself wins over it.
fn take_file(
    entries: &mut BTreeMap<String, String>,
    variable: &Variable,
    spelling: Spelling,
    has_plain: bool,
    findings: &mut Findings,
) -> Option<Given> {
    if !variable.secret {
        return None;
    }
    let plain_name = spelling.names(variable).into_iter().next()?;
    let file_name = format!("{plain_name}_file");
    let path = entries.remove(&file_name)?;
    let path = path.trim();
    let name = spelling.shown(&file_name);
    if has_plain {
        let plain = spelling.shown(&plain_name);
        findings.warn(format!("{name} is ignored, because {plain} is set, too"));
        return None;
    }
    match read_text(Path::new(path)) {
        Ok(text) => {
            // The rest may well begin or end with a blank on purpose.
            let text = text.trim_end_matches(['\r', '\n']);
            if text.is_empty() {
                findings.warn(format!("{name}: {path} is empty and counts as not set"));
                return None;
            }
            Some(Given { name, text: Some(Secret::new(text)) })
        }
        Err(error) => {
            let allowed = format!("the path of a readable file ({error})");
            let example = format!("/run/secrets/{plain_name}");
            findings.fault(ConfigError::new(&name, allowed, &example).showing(path));
            Some(Given { name, text: None })
        }
    }
}

/// Takes away a value that its rule refuses, so that nothing is built on it.
fn check(variable: &Variable, given: Given, findings: &mut Findings) -> Given {
    let Some(text) = &given.text else { return given };
    if !variable.rule.admits(text.expose()) {
        findings.fault(given.fault(variable, variable.rule.to_string()));
        return Given { text: None, ..given };
    }
    given
}

/// The warning of a name that nobody knows, if it is any business of ours.
fn stray(name: &str, spelling: Spelling) -> Option<String> {
    let plain: Vec<String> = VARIABLES.iter().flat_map(|it| spelling.names(it)).collect();
    let secrets = VARIABLES.iter().filter(|variable| variable.secret);
    let files = secrets.filter_map(|it| Some(format!("{}_file", spelling.names(it).first()?)));
    let known: Vec<String> = plain.iter().cloned().chain(files).collect();
    let near = closest(name, known.iter().map(String::as_str));
    let no_secret = name.strip_suffix("_file").filter(|stem| plain.iter().any(|it| it == stem));
    let begins = |with: &[&str]| with.iter().any(|beginning| name.starts_with(beginning));
    let ours = match spelling {
        Spelling::Environment => {
            let almost = no_secret.is_some() || near.is_some_and(|(_, errors)| errors <= 2);
            begins(&OURS) || (begins(&SHARED) && almost)
        }
        Spelling::Options | Spelling::Element(_) => true,
    };
    let cased = |name: &str| match spelling {
        Spelling::Environment => name.to_uppercase(),
        _ => name.to_owned(),
    };
    let advice = match (spelling, name, no_secret, near) {
        // An older program switches batteries off with it.
        (Spelling::Element(_), "enabled", ..) => {
            "; a battery that shall not be read is left out of the list".to_owned()
        }
        (_, _, Some(stem), _) => format!("; only secrets may be in a file: set {}", cased(stem)),
        (.., Some((near, _))) => format!("; the nearest known name is {}", cased(near)),
        (.., None) => String::new(),
    };
    ours.then(|| format!("{} is not known and ignored{advice}", spelling.shown(name)))
}

/// The options of the add-on; nothing where there is no such file.
fn options_file(
    environment: &BTreeMap<String, String>,
    findings: &mut Findings,
) -> BTreeMap<String, String> {
    let variable = &variables::BMS_OPTIONS_FILE;
    let named = environment.get("bms_options_file").map(|path| path.trim());
    let path = match (named.filter(|path| !path.is_empty()), variable.default) {
        (Some(path), _) | (None, Fallback::Text(path)) => path,
        (None, _) => return BTreeMap::new(),
    };
    let fault =
        |allowed: String| ConfigError::new(variable.name, allowed, variable.example).showing(path);
    let text = match read_text(Path::new(path)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if named.is_some() {
                findings.warn(format!("{}: there is no such file", variable.name));
            }
            return BTreeMap::new();
        }
        Err(error) => {
            findings.fault(fault(format!("a readable file ({error})")));
            return BTreeMap::new();
        }
    };
    match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text) {
        Ok(options) => options
            .iter()
            .filter_map(|(name, value)| Some((name.to_lowercase(), option_text(value)?)))
            .collect(),
        // The kind of error would repeat values, and they may be secret.
        Err(error) => {
            let (line, column) = (error.line(), error.column());
            let allowed = format!("a file with one JSON object (see line {line}, column {column})");
            findings.fault(fault(allowed));
            BTreeMap::new()
        }
    }
}

/// An option as the text that would stand in the environment; `None` for what counts as not set.
fn option_text(value: &serde_json::Value) -> Option<String> {
    use serde_json::Value;
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Array(list) if list.is_empty() => None,
        Value::Object(map) if map.is_empty() => None,
        other => Some(other.to_string()),
    }
}

/// A regular file of sensible size: a pipe could keep us waiting for ever, a device has no end.
fn read_text(path: &Path) -> io::Result<String> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut text = String::new();
    File::open(path)?.take(LARGEST_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LARGEST_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 1 MiB"));
    }
    Ok(text)
}
