//! The file of the history: SQLite, so that everybody can open it, and so that a program or a
//! machine that dies leaves a sound file behind.
//!
//! One transaction a minute. With a write-ahead log that is a few pages in sequence, which suits
//! SD cards; it is synced when it is merged, every thousand pages. What was written survives the
//! death of the program; a power cut may cost what the system had not put on the card yet.
//!
//! Nothing about the file is fatal: without it the history lives in memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, params};

use super::packed::{Series, Spread};
use super::track::MinuteRow;
use super::{History, Millis};
use crate::model::catalog::Quantity;
use crate::model::energy::Energy;
use crate::model::units::MilliwattHours;
use crate::model::{DeviceId, EnergyTotals};

/// "BMSr" in the head of our files (`PRAGMA application_id`).
const APPLICATION: i64 = 0x424d_5372;
/// The file is opened by nobody else; a person who looks into it is gone soon.
const BUSY: Duration = Duration::from_secs(2);
/// Minutes of all batteries that wait while the file cannot be written.
const MOST_WAITING: usize = 5000;

/// Times in milliseconds since 1970. A value is `mean / divisor`; `low` and `high` are absent where
/// they equal it. Ordered by time, so that a minute of all batteries lies in few pages.
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

/// The energy counters have a table of their own: they outlive the minutes of a battery that was
/// away for longer than the history goes back, and are finer than what is drawn. In
/// milliwatt-hours. Files that were begun without it get it when they are opened.
const COUNTERS: &str = "
    CREATE TABLE IF NOT EXISTS counters (
        device TEXT PRIMARY KEY, charged INTEGER NOT NULL, discharged INTEGER NOT NULL)
        WITHOUT ROWID;";

/// Why the file cannot be used now.
#[derive(Debug, thiserror::Error)]
enum StoreError {
    #[error("damaged file ({0})")]
    Damaged(rusqlite::Error),
    #[error("the file belongs to another program or another version of bms-reader")]
    Foreign,
    #[error("{0}")]
    Other(rusqlite::Error),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                StoreError::Damaged(error)
            }
            _ => StoreError::Other(error),
        }
    }
}

struct Store {
    connection: Connection,
    /// Numbers of the series that were met.
    series: BTreeMap<(DeviceId, String, u32), i64>,
}

impl Store {
    fn open(path: &Path) -> Result<Self, StoreError> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        let number = |pragma| connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
        let tables = number("SELECT count(*) FROM sqlite_schema")?;
        if tables > 0 {
            let ours = number("PRAGMA application_id")? == APPLICATION;
            if !ours || number("PRAGMA user_version")? != 1 {
                return Err(StoreError::Foreign);
            }
        }
        // Where the file system cannot do it, SQLite stays with what it can.
        number_or_word(&connection, "PRAGMA journal_mode = WAL")?;
        connection.execute_batch("PRAGMA synchronous = NORMAL;")?;
        if tables == 0 {
            connection.execute_batch(SCHEMA)?;
        }
        connection.execute_batch(COUNTERS)?;
        Ok(Store { connection, series: BTreeMap::new() })
    }

    /// Shows every minute since `oldest`, in order.
    fn each(
        &self,
        oldest: Millis,
        mut show: impl FnMut(&DeviceId, &MinuteRow),
    ) -> Result<(), StoreError> {
        let mut select = self.connection.prepare(
            "SELECT time, device, key, divisor, mean, low, high
             FROM minutes JOIN series ON series = series.id WHERE time >= ?1 ORDER BY time",
        )?;
        let mut rows = select.query([signed(oldest)])?;
        let mut batteries: BTreeMap<DeviceId, MinuteRow> = BTreeMap::new();
        let mut present = Millis(0);
        while let Some(row) = rows.next()? {
            let time = Millis(row.get::<_, i64>(0)?.unsigned_abs());
            if time != present {
                batteries.iter().for_each(|(device, row)| show(device, row));
                batteries.clear();
                present = time;
            }
            let key: String = row.get(2)?;
            // What the catalogue no longer knows, or counts in other units, is past.
            let known = series(&key).filter(|known| divisor(known) == row.get(3).ok());
            let device = DeviceId::new(row.get_ref(1)?.as_str().unwrap_or_default());
            let (Some(series), Some(device)) = (known, device) else { continue };
            let mean = row.get(4)?;
            let spread = Spread {
                low: row.get::<_, Option<i64>>(5)?.unwrap_or(mean),
                mean,
                high: row.get::<_, Option<i64>>(6)?.unwrap_or(mean),
            };
            let minute =
                batteries.entry(device).or_insert_with(|| MinuteRow { time, samples: Vec::new() });
            minute.samples.push((series, spread));
        }
        batteries.iter().for_each(|(device, row)| show(device, row));
        Ok(())
    }

    /// The energy counters of every battery that it ever knew. What is no counter is none.
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

    /// Adds minutes, forgets those before `oldest`, and lets the energy counters grow.
    fn write(
        &mut self,
        rows: &[(DeviceId, MinuteRow)],
        oldest: Millis,
        counters: &[(DeviceId, EnergyTotals)],
    ) -> Result<(), StoreError> {
        let transaction = self.connection.transaction()?;
        {
            let mut insert = transaction
                .prepare("INSERT OR REPLACE INTO minutes VALUES (?1, ?2, ?3, ?4, ?5)")?;
            for (device, row) in rows {
                for (series, Spread { low, mean, high }) in &row.samples {
                    let place = (device.clone(), series.key.clone(), series.decimals);
                    let number = match self.series.get(&place) {
                        Some(number) => *number,
                        None => {
                            let number = number_of(&transaction, device, series)?;
                            self.series.insert(place, number);
                            number
                        }
                    };
                    let unlike_mean = |value: &i64| Some(*value).filter(|value| value != mean);
                    let (low, high) = (unlike_mean(low), unlike_mean(high));
                    insert.execute(params![signed(row.time), number, mean, low, high])?;
                }
            }
        }
        transaction.execute("DELETE FROM minutes WHERE time < ?1", [signed(oldest)])?;
        for (device, EnergyTotals { charged, discharged }) in counters {
            // A run that could not read the file began anew; what it kept is not lost for that.
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

fn number_or_word(connection: &Connection, pragma: &str) -> Result<(), StoreError> {
    Ok(connection.query_row(pragma, [], |_| Ok(()))?)
}

/// The number of a series, which gets one where it has none.
fn number_of(
    connection: &Connection,
    device: &DeviceId,
    series: &Series,
) -> Result<i64, StoreError> {
    let divisor = divisor(series);
    connection.execute(
        "INSERT OR IGNORE INTO series (device, key, unit, divisor) VALUES (?1, ?2, ?3, ?4)",
        params![device.as_str(), series.key, series.unit, divisor],
    )?;
    Ok(connection.query_row(
        "SELECT id FROM series WHERE device = ?1 AND key = ?2 AND divisor = ?3",
        params![device.as_str(), series.key, divisor],
        |row| row.get(0),
    )?)
}

/// The series as the catalogue has it now.
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

/// Keeps the file going: opens it, sets a damaged one aside, and tells once what is wrong.
pub(super) struct Keeper {
    path: PathBuf,
    store: Option<Store>,
    waiting: Vec<(DeviceId, MinuteRow)>,
    complaint: Option<String>,
}

impl Keeper {
    pub(super) fn new(path: String) -> Self {
        Keeper { path: path.into(), store: None, waiting: Vec::new(), complaint: None }
    }

    /// The energy counters that the file kept.
    pub(super) fn counters(&mut self) -> Vec<(DeviceId, EnergyTotals)> {
        let mut counters = Vec::new();
        // What is wrong with the file was told.
        let _ = self.attempt(|store| {
            counters = store.counters()?;
            Ok(())
        });
        counters
    }

    /// Gives back to the history what the file kept.
    pub(super) fn load(&mut self, history: &History, now: Millis) {
        let span = u64::try_from(history.span().as_millis()).unwrap_or(u64::MAX);
        let oldest = Millis(now.0.saturating_sub(span));
        let mut count = 0;
        let result = self.attempt(|store| {
            store.each(oldest, |device, row| {
                count += 1;
                history.restore(device, row);
            })
        });
        if result.is_ok() {
            tracing::info!("history: loaded {count} minutes from {}", self.path.display());
        }
    }

    /// Adds minutes to the file, forgets those before `oldest`, and notes the energy counters.
    /// Minutes that cannot be written wait; of the counters only the newest matter.
    pub(super) fn write(
        &mut self,
        rows: Vec<(DeviceId, MinuteRow)>,
        oldest: Millis,
        counters: &[(DeviceId, EnergyTotals)],
    ) {
        self.waiting.extend(rows);
        let too_many = self.waiting.len().saturating_sub(MOST_WAITING);
        self.waiting.drain(..too_many);
        let waiting = std::mem::take(&mut self.waiting);
        if self.attempt(|store| store.write(&waiting, oldest, counters)).is_err() {
            self.waiting = waiting;
        }
    }

    /// Does something with the file; a damaged one is replaced, and then it is done with the new one.
    fn attempt(
        &mut self,
        mut work: impl FnMut(&mut Store) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut result = self.attempt_once(&mut work);
        if let Err(StoreError::Damaged(error)) = &result
            && let Ok(aside) = set_aside(&self.path)
        {
            let (path, aside) = (self.path.display(), aside.display());
            tracing::warn!(
                "history: {path} is damaged ({error}); renamed to {aside}, starting a new file"
            );
            result = self.attempt_once(&mut work);
        }
        match &result {
            Ok(()) => {
                if self.complaint.take().is_some() {
                    tracing::info!("history: writing to {} again", self.path.display());
                }
            }
            Err(error) => self.complain(error),
        }
        result
    }

    fn attempt_once(
        &mut self,
        work: &mut impl FnMut(&mut Store) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut store = match self.store.take() {
            // A file that was deleted would be written into nowhere.
            Some(store) if self.path.exists() => store,
            _ => Store::open(&self.path)?,
        };
        work(&mut store)?;
        self.store = Some(store);
        Ok(())
    }

    fn complain(&mut self, error: &StoreError) {
        let text = error.to_string();
        if self.complaint.as_ref() != Some(&text) {
            tracing::warn!(
                "history: cannot use {}: {text}; the history is kept in memory only. Check HISTORY_FILE: the \
                 folder must exist and be writable, the disk must not be full. Retrying every minute",
                self.path.display()
            );
        }
        self.complaint = Some(text);
    }
}

/// Gives a damaged file another name. One such file is kept: a card that dies damages many.
fn set_aside(path: &Path) -> std::io::Result<PathBuf> {
    let named = |end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let aside = named(".damaged");
    std::fs::rename(path, &aside)?;
    for end in ["-wal", "-shm"] {
        // Most often there are no such companions.
        let _ = std::fs::rename(named(end), named(&format!(".damaged{end}")));
    }
    Ok(aside)
}

#[cfg(test)]
mod tests;
