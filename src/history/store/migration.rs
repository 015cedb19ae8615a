//! Converts a file of version 1, which had a row for each value of a minute: three times the size, and nine times
//! the writes.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::StoreError;
use super::layout::{Layouts, Tier, divisor};
use crate::history::battery_history::HistoryRow;
use crate::history::packed::Spread;
use crate::model::{DeviceId, EntryKey, Millis};

pub(super) const VERSION: i64 = 1;

/// A value is `mean / divisor`; `low` and `high` are NULL if equal to `mean`. The oldest files lack the counters.
pub(super) const OBJECTS: [&str; 4] = [
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
    COUNTERS,
];

/// The same in every version.
pub(super) const COUNTERS: &str = "CREATE TABLE counters (
        device TEXT PRIMARY KEY, charged INTEGER NOT NULL, discharged INTEGER NOT NULL)
        WITHOUT ROWID";

/// `create`: the statements for the new schema without the counters.
///
/// In one transaction: a power cut leaves the file as it was.
pub(super) fn migrate(connection: &mut Connection, create: &str) -> Result<(), StoreError> {
    tracing::info!("history: converting the file of an earlier version; a large one takes minutes");
    let transaction = connection.transaction()?;
    transaction.execute_batch("DROP VIEW history")?;
    let counters = COUNTERS.replacen("TABLE", "TABLE IF NOT EXISTS", 1);
    transaction.execute_batch(&format!("{counters}; {create}"))?;
    let mut layouts = Layouts::load(&transaction, Tier::Minutes)?;
    for_each_minute(&transaction, |device, row| layouts.insert(&transaction, device, row))?;
    transaction.execute_batch("DROP TABLE minutes; DROP TABLE series")?;
    transaction.commit()?;
    // Returns the space to the disk, and changes the size of the pages. The file is valid without it.
    let compact = "PRAGMA journal_mode = DELETE; VACUUM";
    let _ = connection.execute_batch(compact);
    Ok(())
}

fn for_each_minute(
    connection: &Connection,
    mut visit: impl FnMut(&DeviceId, &HistoryRow) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut select = connection.prepare(
        "SELECT time, device, key, divisor, coalesce(low, mean), mean, coalesce(high, mean)
         FROM minutes JOIN series ON series = series.id ORDER BY time",
    )?;
    let mut rows = select.query([])?;
    let mut batteries: BTreeMap<DeviceId, HistoryRow> = BTreeMap::new();
    let mut present = Millis(0);
    while let Some(row) = rows.next()? {
        let time = Millis(row.get::<_, i64>(0)?.unsigned_abs());
        if time != present {
            for (device, row) in std::mem::take(&mut batteries) {
                visit(&device, &row)?;
            }
            present = time;
        }
        let key: String = row.get(2)?;
        let known = EntryKey::parse(&key).filter(|known| divisor(*known) == row.get(3).ok());
        let device = DeviceId::new(row.get_ref(1)?.as_str().unwrap_or_default());
        let (Some(key), Some(device)) = (known, device) else { continue };
        let spread = Spread { low: row.get(4)?, mean: row.get(5)?, high: row.get(6)? };
        let minute =
            batteries.entry(device).or_insert_with(|| HistoryRow { time, samples: Vec::new() });
        minute.samples.push((key, spread));
    }
    for (device, row) in batteries {
        visit(&device, &row)?;
    }
    Ok(())
}
