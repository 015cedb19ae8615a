//! The history file: SQLite, because many programs can open it, and because a crash of the program or
//! a power cut leaves a valid file.
//!
//! One transaction per minute. With a write-ahead log that is a few pages in sequence, which suits
//! SD cards; the log is synced when it is merged, every thousand pages. Written data survives a crash
//! of the program; a power cut may lose what the system had not written to the card yet.
//!
//! No error of the file is fatal: without the file, the history is in memory only.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, params};

use super::battery_history::MinuteRow;
use super::packed::{Series, Spread};
use super::{History, Millis};
use crate::model::catalog::Quantity;
use crate::model::{DeviceId, Energy, EnergyTotals, MilliwattHours};

/// "BMSr" in the header of our files (`PRAGMA application_id`).
const APPLICATION: i64 = 0x424d_5372;
/// Wait for another program that has locked the file, for example a database viewer.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// Minutes of all batteries that are queued while the file cannot be written.
const MAX_QUEUED: usize = 5000;

/// Times in milliseconds since 1970. A value is `mean / divisor`; `low` and `high` are NULL if
/// equal to `mean`. The key begins with the time, so a minute of all batteries is in few pages.
const SCHEMA: &str = "
    BEGIN;
    CREATE TABLE series (
        id INTEGER PRIMARY KEY, device TEXT NOT NULL, key TEXT NOT NULL, unit TEXT NOT NULL,
        divisor INTEGER NOT NULL, UNIQUE (device, key, divisor));
    CREATE TABLE minutes (
        time INTEGER NOT NULL, series INTEGER NOT NULL REFERENCES series,
        mean INTEGER NOT NULL, low INTEGER, high INTEGER, PRIMARY KEY (time, series))
        WITHOUT ROWID;
    CREATE VIEW history AS
        SELECT datetime(time / 1000, 'unixepoch') AS time, device, key, mean * 1.0 / divisor AS mean,
            coalesce(low, mean) * 1.0 / divisor AS low, coalesce(high, mean) * 1.0 / divisor AS high,
            unit
        FROM minutes JOIN series ON series = series.id;
    PRAGMA application_id = 1112363890;
    PRAGMA user_version = 1;
    COMMIT;";

/// The energy counters, in milliwatt-hours. They have a separate table because they outlive the
/// minutes of a battery that was offline for longer than the history, and are finer than the charts.
/// The table is added to older files that lack it.
const COUNTERS: &str = "
    CREATE TABLE IF NOT EXISTS counters (
        device TEXT PRIMARY KEY, charged INTEGER NOT NULL, discharged INTEGER NOT NULL)
        WITHOUT ROWID;";

#[derive(Debug, thiserror::Error)]
enum StoreError {
    #[error("the file belongs to another program or another version of bms-reader")]
    Foreign,
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

impl StoreError {
    fn is_damaged(&self) -> bool {
        use ErrorCode::{DatabaseCorrupt, NotADatabase};
        let StoreError::Sqlite(error) = self else { return false };
        matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
    }
}

struct Store {
    connection: Connection,
}

impl Store {
    fn open(path: &str) -> Result<Self, StoreError> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        let number = |pragma| connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
        let tables = number("SELECT count(*) FROM sqlite_schema")?;
        if tables > 0 {
            let ours = number("PRAGMA application_id")? == APPLICATION;
            if !ours || number("PRAGMA user_version")? != 1 {
                return Err(StoreError::Foreign);
            }
        }
        // If the file system does not support WAL, SQLite keeps the present mode.
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        connection.execute_batch("PRAGMA synchronous = NORMAL;")?;
        if tables == 0 {
            connection.execute_batch(SCHEMA)?;
        }
        connection.execute_batch(COUNTERS)?;
        Ok(Store { connection })
    }

    /// Visits every minute since `oldest` in order.
    fn for_each_minute(
        &self,
        oldest: Millis,
        mut visit: impl FnMut(&DeviceId, &MinuteRow),
    ) -> Result<(), StoreError> {
        let mut select = self.connection.prepare(
            "SELECT time, device, key, divisor, coalesce(low, mean), mean, coalesce(high, mean)
             FROM minutes JOIN series ON series = series.id WHERE time >= ?1 ORDER BY time",
        )?;
        let mut rows = select.query([signed(oldest)])?;
        let mut batteries: BTreeMap<DeviceId, MinuteRow> = BTreeMap::new();
        let mut present = Millis(0);
        while let Some(row) = rows.next()? {
            let time = Millis(row.get::<_, i64>(0)?.unsigned_abs());
            if time != present {
                std::mem::take(&mut batteries).iter().for_each(|(device, row)| visit(device, row));
                present = time;
            }
            let key: String = row.get(2)?;
            // Ignored: quantities that the catalogue no longer has or has with another precision.
            let known = series(&key).filter(|known| divisor(known) == row.get(3).ok());
            let device = DeviceId::new(row.get_ref(1)?.as_str().unwrap_or_default());
            let (Some(series), Some(device)) = (known, device) else { continue };
            let spread = Spread { low: row.get(4)?, mean: row.get(5)?, high: row.get(6)? };
            let minute =
                batteries.entry(device).or_insert_with(|| MinuteRow { time, samples: Vec::new() });
            minute.samples.push((series, spread));
        }
        batteries.iter().for_each(|(device, row)| visit(device, row));
        Ok(())
    }

    /// Of every battery ever recorded. Invalid counters are left out.
    fn counters(&self) -> Result<Vec<(DeviceId, EnergyTotals)>, StoreError> {
        let energy = |mwh| Energy::of(MilliwattHours(mwh));
        let mut select =
            self.connection.prepare("SELECT device, charged, discharged FROM counters")?;
        let mut rows = select.query([])?;
        let mut counters = Vec::new();
        while let Some(row) = rows.next()? {
            let device = DeviceId::new(row.get_ref(0)?.as_str().unwrap_or_default());
            let flows = (energy(row.get(1)?), energy(row.get(2)?));
            if let (Some(device), (Some(charged), Some(discharged))) = (device, flows) {
                counters.push((device, EnergyTotals { charged, discharged }));
            }
        }
        Ok(counters)
    }

    /// Adds minutes, deletes those before `oldest`, and raises the energy counters.
    fn write(
        &mut self,
        rows: &[(DeviceId, MinuteRow)],
        oldest: Millis,
        counters: &[(DeviceId, EnergyTotals)],
    ) -> Result<(), StoreError> {
        let transaction = self.connection.transaction()?;
        {
            let mut insert_series = transaction.prepare(
                "INSERT OR IGNORE INTO series (device, key, unit, divisor) VALUES (?1, ?2, ?3, ?4)",
            )?;
            let mut insert_minute = transaction.prepare(
                "INSERT OR REPLACE INTO minutes
                 SELECT ?1, id, ?2, nullif(?3, ?2), nullif(?4, ?2) FROM series
                 WHERE device = ?5 AND key = ?6 AND divisor = ?7",
            )?;
            for (device, row) in rows {
                let (device, time) = (device.as_str(), signed(row.time));
                for (series, Spread { low, mean, high }) in &row.samples {
                    let (key, divisor) = (&series.key, divisor(series));
                    insert_series.execute(params![device, key, series.unit, divisor])?;
                    insert_minute.execute(params![time, mean, low, high, device, key, divisor])?;
                }
            }
        }
        transaction.execute("DELETE FROM minutes WHERE time < ?1", [signed(oldest)])?;
        for (device, EnergyTotals { charged, discharged }) in counters {
            // Never lowers them: a run that could not read the file counts from zero.
            transaction.execute(
                "INSERT INTO counters VALUES (?1, ?2, ?3) ON CONFLICT (device) DO UPDATE SET
                 charged = max(charged, excluded.charged),
                 discharged = max(discharged, excluded.discharged)",
                params![
                    device.as_str(),
                    charged.milliwatt_hours().0,
                    discharged.milliwatt_hours().0
                ],
            )?;
        }
        Ok(transaction.commit()?)
    }
}

/// The series of a key of the catalogue.
fn series(key: &str) -> Option<Series> {
    let quantity = Quantity::of(key)?;
    let unit = quantity.kind.unit().unwrap_or_default();
    Some(Series { key: key.to_owned(), unit, decimals: quantity.kind.decimals().into() })
}

fn divisor(series: &Series) -> Option<i64> {
    10_i64.checked_pow(series.decimals)
}

fn signed(time: Millis) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

/// Opens the file, replaces a damaged one, and logs each error once.
pub(super) struct HistoryFile {
    path: String,
    store: Option<Store>,
    queue: Vec<(DeviceId, MinuteRow)>,
    last_error: Option<String>,
}

impl HistoryFile {
    pub(super) fn new(path: String) -> Self {
        HistoryFile { path, store: None, queue: Vec::new(), last_error: None }
    }

    /// The energy counters in the file; none if it cannot be read.
    pub(super) fn counters(&mut self) -> Vec<(DeviceId, EnergyTotals)> {
        self.access(|store| store.counters()).unwrap_or_default()
    }

    /// Adds the minutes in the file to the history.
    pub(super) fn load(&mut self, history: &History, now: Millis) {
        let oldest = now.before(history.span);
        let mut count = 0;
        let loaded = self.access(|store| {
            store.for_each_minute(oldest, |device, row| {
                count += 1;
                history.restore(device, row);
            })
        });
        if loaded.is_some() {
            tracing::info!("history: loaded {count} minutes from {}", self.path);
        }
    }

    /// Adds minutes to the file, deletes those before `oldest`, and stores the energy counters.
    /// Minutes that cannot be written are queued; of the counters only the newest matter.
    pub(super) fn write(
        &mut self,
        rows: Vec<(DeviceId, MinuteRow)>,
        oldest: Millis,
        counters: &[(DeviceId, EnergyTotals)],
    ) {
        let mut queue = std::mem::take(&mut self.queue);
        queue.extend(rows);
        queue.drain(..queue.len().saturating_sub(MAX_QUEUED));
        if self.access(|store| store.write(&queue, oldest, counters)).is_none() {
            self.queue = queue;
        }
    }

    /// Replaces a damaged file and tries again. `None`: failed, and the error has been logged.
    fn access<T>(
        &mut self,
        mut work: impl FnMut(&mut Store) -> Result<T, StoreError>,
    ) -> Option<T> {
        let mut result = self.access_once(&mut work);
        if let Err(error) = &result
            && error.is_damaged()
            && let Ok(aside) = set_aside(&self.path)
        {
            let path = &self.path;
            tracing::warn!(
                "history: {path} is damaged ({error}); renamed to {aside}, starting a new file"
            );
            result = self.access_once(&mut work);
        }
        let path = &self.path;
        let error = result.as_ref().err().map(ToString::to_string);
        match &error {
            _ if error == self.last_error => {}
            None => tracing::info!("history: writing to {path} again"),
            Some(error) => tracing::warn!(
                "history: cannot use {path}: {error}; the history is kept in memory only. Check \
                 HISTORY_FILE: the folder must exist and be writable, the disk must not be full. \
                 Retrying every minute"
            ),
        }
        self.last_error = error;
        result.ok()
    }

    fn access_once<T>(
        &mut self,
        work: &mut impl FnMut(&mut Store) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut store = match self.store.take() {
            // Writing to a file that was deleted would succeed and be lost.
            Some(store) if Path::new(&self.path).exists() => store,
            _ => Store::open(&self.path)?,
        };
        let value = work(&mut store)?;
        self.store = Some(store);
        Ok(value)
    }
}

/// Renames a damaged file. Only one is kept, because a failing card damages many.
fn set_aside(path: &str) -> std::io::Result<String> {
    let aside = format!("{path}.damaged");
    std::fs::rename(path, &aside)?;
    for end in ["-wal", "-shm"] {
        // These files are usually absent.
        let _ = std::fs::rename(format!("{path}{end}"), format!("{aside}{end}"));
    }
    Ok(aside)
}

#[cfg(test)]
mod tests;
