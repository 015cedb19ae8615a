//! Which files are ours: a database of another program, or a manipulated one, is refused.

use rusqlite::Connection;

use super::{StoreError, migration};

/// "BMSr" in the header of our files (`PRAGMA application_id`).
const APPLICATION: i64 = 0x424d_5372;
const VERSION: i64 = 2;

macro_rules! view {
    ($view:literal, $rows:literal, $layouts:literal) => {
        concat!(
            "CREATE VIEW ",
            $view,
            " AS
        SELECT time, device, key, mean / divisor AS mean, (mean - below) / divisor AS low,
            (mean + above) / divisor AS high, unit
        FROM (
            SELECT datetime((",
            $rows,
            ".id >> 16) / 1000, 'unixepoch') AS time, device,
                json_extract(series.value, '$[0]') AS key,
                json_extract(series.value, '$[1]') AS unit,
                json_extract(series.value, '$[2]') * 1.0 AS divisor,
                json_extract(samples, '$[' || (series.key * 3) || ']')
                    + json_extract(series.value, '$[3]') AS mean,
                json_extract(samples, '$[' || (series.key * 3 + 1) || ']') AS below,
                json_extract(samples, '$[' || (series.key * 3 + 2) || ']') AS above
            FROM ",
            $rows,
            " JOIN ",
            $layouts,
            " ON ",
            $layouts,
            ".id = ",
            $rows,
            ".id & 65535, json_each(",
            $layouts,
            ".series) AS series)
        WHERE mean IS NOT NULL"
        )
    };
}

/// A row has the values of one battery in a minute. Its ID is the time of the last reading, in milliseconds since 1970,
/// times 65536, plus the layout. `samples` has three numbers for each series of the layout: the mean, less the base of
/// the series, and how far the lowest and the highest value are from it. They are to be divided by the divisor of the
/// series. The view reads the JSON with functions that this build of SQLite lacks, and other programs have.
///
/// The energy counters, in milliwatt-hours, have a separate table because they outlive the minutes
/// of a battery that was offline for longer than the history, and are finer than the charts.
///
/// The energy of a day is in milliwatt-hours; `day` is its number since 1970-01-01, and comes first in the key so that
/// the days of all batteries that grow are on one page. Times of alarms are in milliseconds. The `numbers` of the
/// cells are those of `model::cell_health`, as a JSON array. A run from full to empty is that of `model::capacity_run`;
/// `last` is the time of its last reading.
///
/// `packed` is a block of LZ4 with so many bytes: lines with a time and a reading that an output has not sent yet.
const OBJECTS: [&str; 12] = [
    "CREATE TABLE layouts (id INTEGER PRIMARY KEY, device TEXT NOT NULL, series TEXT NOT NULL)",
    "CREATE TABLE rows (id INTEGER PRIMARY KEY, samples TEXT NOT NULL)",
    view!("history", "rows", "layouts"),
    migration::COUNTERS,
    "CREATE TABLE days (
        day INTEGER NOT NULL, device TEXT NOT NULL, charged INTEGER NOT NULL,
        discharged INTEGER NOT NULL, PRIMARY KEY (day, device)) WITHOUT ROWID",
    "CREATE TABLE alarms (
        start INTEGER NOT NULL, device TEXT NOT NULL, name TEXT NOT NULL, end INTEGER,
        details TEXT NOT NULL, PRIMARY KEY (start, device, name)) WITHOUT ROWID",
    "CREATE TABLE hour_layouts (id INTEGER PRIMARY KEY, device TEXT NOT NULL, series TEXT NOT NULL)",
    "CREATE TABLE hours (id INTEGER PRIMARY KEY, samples TEXT NOT NULL)",
    view!("history_of_hours", "hours", "hour_layouts"),
    "CREATE TABLE health (
        day INTEGER NOT NULL, device TEXT NOT NULL, numbers TEXT NOT NULL, PRIMARY KEY (day, device))
        WITHOUT ROWID",
    "CREATE TABLE unsent (
        id INTEGER PRIMARY KEY, output TEXT NOT NULL, length INTEGER NOT NULL,
        packed BLOB NOT NULL)",
    "CREATE TABLE capacity_runs (
        device TEXT PRIMARY KEY, last INTEGER NOT NULL, soc INTEGER NOT NULL, current INTEGER NOT NULL,
        duration INTEGER NOT NULL, start INTEGER NOT NULL, charge INTEGER NOT NULL,
        lowest INTEGER NOT NULL, lowest_charge INTEGER NOT NULL, temperature INTEGER NOT NULL,
        temperatures INTEGER NOT NULL) WITHOUT ROWID",
];

/// Creates what an empty file lacks, and converts one of an earlier version.
///
/// Everything in the schema must be ours: SQLite executes the triggers, generated columns and
/// indexed expressions of a file with each write.
pub(super) fn prepare(connection: &mut Connection) -> Result<(), StoreError> {
    let number = |pragma| connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
    let (application, version) = (number("PRAGMA application_id")?, number("PRAGMA user_version")?);
    let found = objects(connection)?;
    let is_old = application == APPLICATION && version == migration::VERSION;
    let own: &[&str] = if is_old { &migration::OBJECTS } else { &OBJECTS };
    let mut missing = own.to_vec();
    for Object { kind, name, text } in &found {
        let Some(at) = missing.iter().position(|own| words(own).eq(words(text))) else {
            return Err(StoreError::Foreign(format!("it contains the {kind} {name:?}")));
        };
        missing.remove(at);
    }
    if is_old {
        let new: Vec<&str> = OBJECTS.into_iter().filter(|o| *o != migration::COUNTERS).collect();
        return migration::migrate(connection, &format!("{}; {}", new.join(";"), header()));
    }
    if !found.is_empty() && (application, version) != (APPLICATION, VERSION) {
        return Err(StoreError::Foreign("its header has another ID or version".to_owned()));
    }
    if missing.is_empty() {
        return Ok(());
    }
    let objects = missing.join(";");
    connection.execute_batch(&format!("BEGIN; {objects}; {}; COMMIT;", header()))?;
    Ok(())
}

fn header() -> String {
    format!("PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION}")
}

struct Object {
    kind: String,
    name: String,
    text: String,
}

fn objects(connection: &Connection) -> Result<Vec<Object>, StoreError> {
    let mut select = connection.prepare(
        // Without the indexes that SQLite itself adds for a key, which have no text.
        "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL",
    )?;
    let object = |row: &rusqlite::Row| {
        Ok(Object { kind: row.get(0)?, name: row.get(1)?, text: row.get(2)? })
    };
    Ok(select.query_map([], object)?.collect::<Result<_, _>>()?)
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_ascii_whitespace()
}
