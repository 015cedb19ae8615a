//! The history file: SQLite, because many programs can open it, and because a crash of the program or
//! a power cut leaves a valid file.
//!
//! One transaction every five minutes (see `write_schedule`). With a write-ahead log that is a few pages in
//! sequence, which suits SD cards; the log is synced when it is merged into the file. Written data survives a crash of
//! the program; a power cut may lose what the system had not written to the card yet.
//!
//! No error of the file is fatal: without the file, the history is in memory only.

mod layout;
mod migration;
mod records;
mod schema;
mod unsent;

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, params};

use super::alarm_records::{self, AlarmRecord};
use super::battery_history::{HistoryRow, YEAR, hour_number};
use super::energy_days::{Day, MAX_DAYS};
use super::horizon::Horizon;
use super::unsent::Changes;
use super::{History, KeptRunOf, Millis};
use crate::model::cell_health::HealthDay;
use crate::model::{DeviceId, Energy, EnergyTotals, MilliwattHours};
use crate::remedy;
use layout::{Layouts, Tier};

/// Wait for another program that has locked the file, for example a database viewer.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// Minutes of all batteries that are queued while the file cannot be written.
const MAX_QUEUED: usize = 5000;
/// Hours of all batteries: the first start with a file of an earlier version makes those of a month.
const MAX_QUEUED_HOURS: usize = 20_000;

/// In bytes. A write changes a part of each of a few pages, so larger ones would mean more to write. Smaller ones fit
/// too few rows.
const PAGE_SIZE: u32 = 2048;
/// Far more than a month of 20 batteries needs.
const MAX_PAGES: u32 = 1 << 20;
/// The log is merged into the file when it has this many pages, about twice a day with four batteries.
const LOG_PAGES: u32 = 2000;
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
    minutes: Layouts,
    hours: Layouts,
}

impl Store {
    fn open(path: &str) -> Result<Self, StoreError> {
        create_private(path)?;
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // Nothing in the file may call functions with side effects.
        connection.execute_batch(&format!(
            "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; \
             PRAGMA page_size = {PAGE_SIZE}; PRAGMA max_page_count = {MAX_PAGES}; \
             PRAGMA wal_autocheckpoint = {LOG_PAGES};"
        ))?;
        schema::prepare(&mut connection)?;
        // If the file system does not support WAL, SQLite keeps the present mode.
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        connection.execute_batch("PRAGMA synchronous = NORMAL;")?;
        let [minutes, hours] = Tier::ALL.map(|tier| Layouts::load(&connection, tier));
        Ok(Store { minutes: minutes?, hours: hours?, connection })
    }

    /// Adds the hours and minutes to the history, and makes the hours that the file lacks from its minutes: that of the
    /// last run, and all of a file of an earlier version. Returns the number of minutes.
    fn load(&self, history: &History, now: Millis) -> Result<usize, StoreError> {
        let first = time_of(&self.connection, "min", Tier::Minutes)?.unwrap_or(now);
        let mut present = BTreeSet::new();
        self.hours.for_each_row(&self.connection, now.before(YEAR), &mut |device, row| {
            history.restore_hour(device, row);
            if hour_number(row.time) >= hour_number(first) {
                present.insert((device.clone(), hour_number(row.time)));
            }
        })?;
        let (mut count, oldest) = (0, now.before(history.span));
        self.minutes.for_each_row(&self.connection, first, &mut |device, row| {
            let is_new = !present.contains(&(device.clone(), hour_number(row.time)));
            history.restore_minute(device, row, row.time >= oldest, is_new);
            count += usize::from(row.time >= oldest);
        })?;
        Ok(count)
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

    /// Adds minutes and hours, deletes expired ones, and raises the energy counters.
    fn write(
        &mut self,
        batch: &Batch,
        expiry: Option<Expiry>,
        counters: &[(DeviceId, EnergyTotals)],
        may_lower: bool,
    ) -> Result<(), StoreError> {
        let transaction = self.connection.transaction()?;
        records::write(&transaction, batch)?;
        for (device, row) in &batch.rows {
            self.minutes.insert(&transaction, device, row)?;
        }
        for (device, row) in &batch.hours {
            self.hours.insert(&transaction, device, row)?;
        }
        if let Some(expiry) = expiry {
            delete_expired(&transaction, expiry, Tier::Minutes)?;
            let oldest = expiry.oldest.before(YEAR);
            delete_expired(&transaction, Expiry { oldest, ..expiry }, Tier::Hours)?;
        }
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

/// What is to be added to the file.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) rows: Vec<(DeviceId, HistoryRow)>,
    pub(super) hours: Vec<(DeviceId, HistoryRow)>,
    pub(super) days: Vec<(DeviceId, Day)>,
    pub(super) health: Vec<(DeviceId, HealthDay)>,
    /// The newest ones; empty if they were not looked at.
    pub(super) runs: Vec<KeptRunOf>,
    pub(super) alarms: Vec<AlarmRecord>,
}

impl Batch {
    fn append(&mut self, other: Batch) {
        self.rows.extend(other.rows);
        self.rows.drain(..self.rows.len().saturating_sub(MAX_QUEUED));
        self.hours.extend(other.hours);
        self.hours.drain(..self.hours.len().saturating_sub(MAX_QUEUED_HOURS));
        for (device, day) in other.days {
            let is_same =
                |(id, known): &&mut (DeviceId, Day)| *id == device && known.number == day.number;
            match self.days.iter_mut().find(is_same) {
                Some((_, known)) => known.energy = known.energy + day.energy,
                None => self.days.push((device, day)),
            }
        }
        self.days.drain(..self.days.len().saturating_sub(MAX_QUEUED));
        for (device, day) in other.health {
            let is_same = |(id, known): &&mut (DeviceId, HealthDay)| {
                *id == device && known.number == day.number
            };
            match self.health.iter_mut().find(is_same) {
                Some((_, known)) => known.add(&day),
                None => self.health.push((device, day)),
            }
        }
        self.health.drain(..self.health.len().saturating_sub(MAX_QUEUED));
        if !other.runs.is_empty() {
            self.runs = other.runs;
        }
        for record in other.alarms {
            alarm_records::merge(&mut self.alarms, record);
        }
    }
}

/// Which minutes to delete. Hours are deleted a year later.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expiry {
    pub(super) oldest: Millis,
    /// Later minutes have a wrong time; `None` while the clock may be the one that is wrong.
    pub(super) newest: Option<Millis>,
    /// Time on a monotonic clock since the last deletion: no more than that is deleted at once.
    pub(super) elapsed: Duration,
}

fn delete_expired(connection: &Connection, expiry: Expiry, tier: Tier) -> Result<(), StoreError> {
    let delete = |which, time| {
        let sql = format!("DELETE FROM {} WHERE id {which} ?1", tier.rows());
        connection.execute(&sql, [layout::first_key(time)])
    };
    if let Some(first) = time_of(connection, "min", tier)? {
        delete("<", Horizon::default().advance(first..=first, expiry.oldest, expiry.elapsed))?;
    }
    if let (Some(newest), Some(last)) = (expiry.newest, time_of(connection, "max", tier)?) {
        delete(">=", newest.max(last.before(expiry.elapsed)).after(Duration::from_millis(1)))?;
    }
    Ok(())
}

/// `which`: `min` or `max`.
fn time_of(connection: &Connection, which: &str, tier: Tier) -> Result<Option<Millis>, StoreError> {
    let sql = format!("SELECT {which}(id) FROM {}", tier.rows());
    let key = connection.query_row(&sql, [], |row| row.get::<_, Option<i64>>(0))?;
    Ok(key.map(layout::time))
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

/// Opens the file, replaces a damaged one, and logs each error once.
pub(super) struct HistoryFile {
    path: String,
    store: Option<Store>,
    queue: Batch,
    last_error: Option<String>,
    /// The counters of this run continue those of the file.
    continues_counters: bool,
}

impl HistoryFile {
    pub(super) fn new(path: String) -> Self {
        HistoryFile {
            path,
            store: None,
            queue: Batch::default(),
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

    /// Adds the minutes, days and alarms in the file to the history.
    pub(super) fn load(&mut self, history: &History, now: Millis) {
        let loaded = self.access(|store| store.load(history, now));
        self.access(|store| records::load(&store.connection, history));
        if let Some(count) = loaded {
            tracing::info!("history: loaded {count} minutes from {}", self.path);
        }
    }

    /// Adds a batch to the file, deletes expired minutes, and stores the energy counters.
    /// What cannot be written is queued; of the counters only the newest matter.
    pub(super) fn write(
        &mut self,
        batch: Batch,
        expiry: Option<Expiry>,
        counters: &[(DeviceId, EnergyTotals)],
    ) {
        let mut queue = std::mem::take(&mut self.queue);
        queue.append(batch);
        let may_lower = self.continues_counters;
        if self.access(|store| store.write(&queue, expiry, counters, may_lower)).is_none() {
            self.queue = queue;
        }
    }

    /// What an output could not send before the last stop.
    pub(super) fn unsent(&mut self, output: &str) -> Vec<(i64, String)> {
        self.access(|store| unsent::load(&store.connection, output)).unwrap_or_default()
    }

    /// Returns the added row; `None` if nothing was written.
    pub(super) fn write_unsent(&mut self, output: &str, changes: &Changes) -> Option<i64> {
        self.access(|store| unsent::write(&mut store.connection, output, changes))
    }

    /// Whether the last access failed.
    pub(super) fn has_failed(&self) -> bool {
        self.last_error.is_some()
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
