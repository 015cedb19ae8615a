//! The services that receive notifications.

use super::error::ConfigError;
use super::rule;
use super::values::Values;
use super::variables::*;
use crate::model::{Secret, TimeZone};
use crate::sink::notify::{self, Settings, Target, Tls};

/// More are a mistake.
const MAX_TARGETS: usize = 10;

/// `None` if no service is configured.
pub(super) fn settings(values: &Values, zone: Option<TimeZone>) -> Option<Settings> {
    let Some(text) = values.explicit(&NOTIFY_URL) else {
        let url = values.name_of(&NOTIFY_URL);
        if let Some(names) = values.set_among(&[&NOTIFY_DAILY, &NOTIFY_CA_FILE])
            && !values.is_set(&NOTIFY_URL)
        {
            values.warn(format!("{names} has no effect, because {url} is not set"));
        }
        return None;
    };
    let parsed: Vec<_> = urls(text).map(Target::parse).collect();
    let (count, name) = (parsed.len(), values.name_of(&NOTIFY_URL));
    if count == 0 || count > MAX_TARGETS {
        values.reject(&NOTIFY_URL, format!("1 to {MAX_TARGETS} URLs"));
    }
    let mut targets = Vec::new();
    for (number, target) in (1..).zip(parsed) {
        let name = if count > 1 { format!("{name}, URL {number}") } else { name.clone() };
        match target {
            Ok(target) => targets.push(target),
            Err(allowed) => values.error(ConfigError::new(name, allowed, NOTIFY_URL.example)),
        }
    }
    Some(Settings {
        targets,
        tls: Tls { ca_file: values.explicit(&NOTIFY_CA_FILE).map(str::to_owned), ..Tls::default() },
        daily: values.value(&NOTIFY_DAILY).and_then(rule::time_of_day).flatten(),
        zone,
    })
}

/// The parts of the URLs that must not appear in a report.
pub(super) fn secrets(text: &str) -> Vec<Secret> {
    urls(text).flat_map(notify::secrets).collect()
}

fn urls(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c == ',' || c.is_whitespace()).filter(|url| !url.is_empty())
}
