//! The local time of notifications, and of the days whose energy is kept.

use std::fs;

use super::values::Values;
use super::variables::TZ;
use crate::model::TimeZone;

/// The time zone of a machine; a container has none.
const LOCAL_TIME: &str = "/etc/localtime";
/// In bytes. A pipe or a device in its place would have no end.
const MAX_ZONE_FILE: u64 = 64 * 1024;
/// In front of the name of a zone in a path.
const ZONE_FOLDER: &str = "zoneinfo/";

/// The zone of `TZ`, or that of the machine; `None` for UTC.
pub(super) fn local(values: &Values) -> Option<TimeZone> {
    let Some(text) = values.explicit(&TZ) else { return read_zone(LOCAL_TIME) };
    let path = text.trim_start_matches(':');
    let name = path.split_once(ZONE_FOLDER).map_or(path, |(_, name)| name);
    let zone = TimeZone::find(name).or_else(|| read_zone(path));
    if zone.is_none() {
        values.warn(format!(
            "{} is {text:?}, which is no known time zone: notifications and days use UTC; for example: {}",
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
