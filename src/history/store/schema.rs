//! Which files are ours: a database of another program, or a manipulated one, is refused.

use rusqlite::Connection;

use super::StoreError;

/// "BMSr" in the header of our files (`PRAGMA application_id`).
const APPLICATION: i64 = 0x424d_5372;
const VERSION: i64 = 1;

/// Times in milliseconds since 1970. A value is `mean / divisor`; `low` and `high` are NULL if
/// equal to `mean`. The key begins with the time, so a minute of all batteries is in few pages.
///
/// The energy counters, in milliwatt-hours, have a separate table because they outlive the minutes
/// of a battery that was offline for longer than the history, and are finer than the charts. Older
/// files lack it.
const OBJECTS: [&str; 4] = [
    "CREATE TABLE series (
        id INTEGER PRIMARY KEY, device TEXT NOT NULL, key TEXT NOT NULL, unit TEXT NOT NULL,
        divisor INTEGER NOT NULL, UNIQUE (device, key, divisor))",
    "CREATE TABLE minutes (
        time INTEGER NOT NULL, series INTEGER NOT NULL REFERENCES series,
        mean INTEGER NOT NULL, low INTEGER, high INTEGER, PRIMARY KEY (time, series))
        WITHOUT ROWID",
    "CREATE VIEW history AS
        SELECT datetime(time / 1000, 'unixepoch') AS time, device, key, mean * 1.0 / divisor AS mean,
            coalesce(low, mean) * 1.0 / divisor AS low, coalesce(high, mean) * 1.0 / divisor AS high,
            unit
        FROM minutes JOIN series ON series = series.id",
    "CREATE TABLE counters (
        device TEXT PRIMARY KEY, charged INTEGER NOT NULL, discharged INTEGER NOT NULL)
        WITHOUT ROWID",
];

/// Creates what an empty or older file lacks.
///
/// Everything in the schema must be ours: SQLite executes the triggers, generated columns and
/// indexed expressions of a file with each write.
pub(super) fn prepare(connection: &Connection) -> Result<(), StoreError> {
    let mut missing: Vec<&str> = OBJECTS.to_vec();
    let mut count = 0;
    let mut select = connection.prepare(
        // Without the indexes that SQLite itself adds for a key, which have no text.
        "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL",
    )?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        count += 1;
        let text: String = row.get(2)?;
        let Some(at) = missing.iter().position(|own| words(own).eq(words(&text))) else {
            let (kind, name): (String, String) = (row.get(0)?, row.get(1)?);
            return Err(StoreError::Foreign(format!("it contains the {kind} {name:?}")));
        };
        missing.remove(at);
    }
    drop(rows);
    drop(select);
    if count > 0 {
        let number = |pragma| connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
        let ours = number("PRAGMA application_id")? == APPLICATION;
        if !ours || number("PRAGMA user_version")? != VERSION {
            return Err(StoreError::Foreign("its header has another ID or version".to_owned()));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let objects = missing.join(";");
    connection.execute_batch(&format!(
        "BEGIN; {objects}; PRAGMA application_id = {APPLICATION}; \
         PRAGMA user_version = {VERSION}; COMMIT;"
    ))?;
    Ok(())
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_ascii_whitespace()
}
