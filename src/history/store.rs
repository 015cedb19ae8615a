//! The history file: SQLite, because many programs can open it, and because a crash of the program or
//! a power cut leaves a valid file.
//!
//! One transaction per minute. With a write-ahead log that is a few pages in sequence, which suits
//! SD cards; the log is synced when it is merged, every thousand pages. Written data survives a crash
//! of the program; a power cut may lose what the system had not written to the card yet.
//!
//! No error of the file is fatal: without the file, the history is in memory only.

mod schema;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, params};

use super::battery_history::MinuteRow;
use super::horizon::Horizon;
use super::packed::Spread;
use super::{History, Millis};
use crate::model::{DeviceId, Energy, EnergyTotals, EntryKey, MilliwattHours};
use crate::remedy;

/// Wait for another program that has locked the file, for example a database viewer.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// Minutes of all batteries that are queued while the file cannot be written.
const MAX_QUEUED: usize = 5000;

/// Far more than a month of 20 batteries needs, in pages of 4 KiB.
const MAX_PAGES: u32 = 1 << 20;
/// Damaged files that are kept. None is ever replaced by a later one.
const MAX_DAMAGED: usize = 3;

#[derive(Debug, thiserror::Error)]
enum StoreError {
    #[error("the file belongs to another program or another version of bms-reader: {0}")]
    Foreign(String),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

impl StoreError {
    fn remedy(&self) -> String {
        let setting = remedy::setting("HISTORY_FILE");
        match self {
            StoreError::Foreign(_) => format!("set {setting} to another path"),
            error if error.is_damaged() => "move the damaged files away".to_owned(),
            _ => format!(
                "check {setting}: the folder must exist and be writable, the disk must not be full"
            ),
        }
    }

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
        create_private(path)?;
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // Nothing in the file may call functions with side effects.
        connection.execute_batch(&format!(
            "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; \
             PRAGMA max_page_count = {MAX_PAGES};"
        ))?;
        schema::prepare(&connection)?;
        // If the file system does not support WAL, SQLite keeps the present mode.
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        connection.execute_batch("PRAGMA synchronous = NORMAL;")?;
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
            let known = EntryKey::parse(&key).filter(|known| divisor(*known) == row.get(3).ok());
            let device = DeviceId::new(row.get_ref(1)?.as_str().unwrap_or_default());
            let (Some(key), Some(device)) = (known, device) else { continue };
            let spread = Spread { low: row.get(4)?, mean: row.get(5)?, high: row.get(6)? };
            let minute =
                batteries.entry(device).or_insert_with(|| MinuteRow { time, samples: Vec::new() });
            minute.samples.push((key, spread));
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

    /// Adds minutes, deletes expired ones, and raises the energy counters.
    fn write(
        &mut self,
        rows: &[(DeviceId, MinuteRow)],
        expiry: Expiry,
        counters: &[(DeviceId, EnergyTotals)],
        may_lower: bool,
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
                for (key, Spread { low, mean, high }) in &row.samples {
                    let (unit, divisor) = (key.quantity().kind.unit(), divisor(*key));
                    let (key, unit) = (key.to_string(), unit.unwrap_or_default());
                    insert_series.execute(params![device, key, unit, divisor])?;
                    insert_minute.execute(params![time, mean, low, high, device, key, divisor])?;
                }
            }
        }
        delete_expired(&transaction, expiry)?;
        for (device, EnergyTotals { charged, discharged }) in counters {
            // Only the user lowers them. A run that could not read the file counts from zero.
            transaction.execute(
                "INSERT INTO counters VALUES (?1, ?2, ?3) ON CONFLICT (device) DO UPDATE SET
                 charged = iif(?4, excluded.charged, max(charged, excluded.charged)),
                 discharged = iif(?4, excluded.discharged, max(discharged, excluded.discharged))",
                params![
                    device.as_str(),
                    charged.milliwatt_hours().0,
                    discharged.milliwatt_hours().0,
                    may_lower
                ],
            )?;
        }
        Ok(transaction.commit()?)
    }
}

/// Which minutes to delete.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expiry {
    pub(super) oldest: Millis,
    /// Later minutes have a wrong time; `None` while the clock may be the one that is wrong.
    pub(super) newest: Option<Millis>,
    /// Time on a monotonic clock since the last deletion: no more than that is deleted at once.
    pub(super) elapsed: Duration,
}

fn delete_expired(connection: &Connection, expiry: Expiry) -> Result<(), StoreError> {
    let time = |sql| {
        let time = connection.query_row(sql, [], |row| row.get::<_, Option<i64>>(0))?;
        Ok::<_, StoreError>(time.map(|time| Millis(time.unsigned_abs())))
    };
    if let Some(first) = time("SELECT min(time) FROM minutes")? {
        let end = Horizon::default().advance(first..=first, expiry.oldest, expiry.elapsed);
        connection.execute("DELETE FROM minutes WHERE time < ?1", [signed(end)])?;
    }
    if let (Some(newest), Some(last)) = (expiry.newest, time("SELECT max(time) FROM minutes")?) {
        let start = newest.max(last.before(expiry.elapsed));
        connection.execute("DELETE FROM minutes WHERE time > ?1", [signed(start)])?;
    }
    Ok(())
}

/// Creates the file for its owner only: the load of a house shows when its residents are away. An
/// existing file keeps its mode. SQLite gives the same mode to the files that it adds.
fn create_private(path: &str) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    if std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(std::io::Error::new(ErrorKind::InvalidInput, "not a regular file"));
    }
    match options.write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn divisor(key: EntryKey) -> Option<i64> {
    10_i64.checked_pow(key.quantity().kind.decimals().into())
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
    /// The counters of this run continue those of the file.
    continues_counters: bool,
}

impl HistoryFile {
    pub(super) fn new(path: String) -> Self {
        HistoryFile {
            path,
            store: None,
            queue: Vec::new(),
            last_error: None,
            continues_counters: false,
        }
    }

    /// The energy counters in the file; none if it cannot be read.
    pub(super) fn counters(&mut self) -> Vec<(DeviceId, EnergyTotals)> {
        let counters = self.access(|store| store.counters());
        self.continues_counters = counters.is_some();
        counters.unwrap_or_default()
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

    /// Adds minutes to the file, deletes expired ones, and stores the energy counters.
    /// Minutes that cannot be written are queued; of the counters only the newest matter.
    pub(super) fn write(
        &mut self,
        rows: Vec<(DeviceId, MinuteRow)>,
        expiry: Expiry,
        counters: &[(DeviceId, EnergyTotals)],
    ) {
        let mut queue = std::mem::take(&mut self.queue);
        queue.extend(rows);
        queue.drain(..queue.len().saturating_sub(MAX_QUEUED));
        let may_lower = self.continues_counters;
        if self.access(|store| store.write(&queue, expiry, counters, may_lower)).is_none() {
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
        let error = result.as_ref().err().map(|error| format!("{error}; {}", error.remedy()));
        match &error {
            _ if error == self.last_error => {}
            None => tracing::info!("history: writing to {path} again"),
            Some(error) => tracing::warn!(
                "history: cannot use {path}: {error}. The history is kept in memory only; retrying \
                 every minute"
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

/// Renames a damaged file. Fails if there are enough of them: a failing card damages many.
fn set_aside(path: &str) -> std::io::Result<String> {
    let numbered = (2..=MAX_DAMAGED).map(|number| format!("{path}.damaged-{number}"));
    let mut names = std::iter::once(format!("{path}.damaged")).chain(numbered);
    let exists = |name: &String| std::fs::symlink_metadata(name).is_ok();
    let aside = names.find(|name| !exists(name)).ok_or(ErrorKind::AlreadyExists)?;
    std::fs::rename(path, &aside)?;
    for end in ["-wal", "-shm"] {
        // These files are usually absent.
        let _ = std::fs::rename(format!("{path}{end}"), format!("{aside}{end}"));
    }
    Ok(aside)
}

#[cfg(test)]
mod tests;
