//! The services that receive notifications, and the local time of the daily summary.

use std::fs;

use super::error::ConfigError;
use super::rule;
use super::values::Values;
use super::variables::*;
use crate::model::{Secret, TimeZone};
use crate::sink::notify::{self, Settings, Target, Tls};

/// More are a mistake.
const MAX_TARGETS: usize = 10;
/// The time zone of a machine; a container has none.
const LOCAL_TIME: &str = "/etc/localtime";
/// In bytes. A pipe or a device in its place would have no end.
const MAX_ZONE_FILE: u64 = 64 * 1024;
/// In front of the name of a zone in a path.
const ZONE_FOLDER: &str = "zoneinfo/";

/// `None` if no service is configured.
pub(super) fn settings(values: &Values) -> Option<Settings> {
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
        zone: zone(values),
    })
}

/// The parts of the URLs that must not appear in a report.
pub(super) fn secrets(text: &str) -> Vec<Secret> {
    urls(text).flat_map(notify::secrets).collect()
}

fn urls(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c == ',' || c.is_whitespace()).filter(|url| !url.is_empty())
}

/// `None`: UTC.
fn zone(values: &Values) -> Option<TimeZone> {
    let Some(text) = values.explicit(&TZ) else { return read_zone(LOCAL_TIME) };
    let path = text.trim_start_matches(':');
    let name = path.split_once(ZONE_FOLDER).map_or(path, |(_, name)| name);
    let zone = TimeZone::find(name).or_else(|| read_zone(path));
    if zone.is_none() {
        values.warn(format!(
            "{} is {text:?}, which is no known time zone: notifications use UTC; for example: {}",
            values.name_of(&TZ),
            TZ.example
        ));
    }
    zone
}

/// The rule at the end of a file of the time zone database (RFC 9636, section 3.3).
fn read_zone(path: &str) -> Option<TimeZone> {
    let is_small = fs::metadata(path).is_ok_and(|it| it.is_file() && it.len() < MAX_ZONE_FILE);
    let content = is_small.then(|| fs::read(path).ok()).flatten()?;
    let content = content.strip_prefix(b"TZif")?;
    let rule = content.trim_ascii_end().rsplit(|byte| *byte == b'\n').next()?;
    TimeZone::parse(std::str::from_utf8(rule).ok()?)
}
