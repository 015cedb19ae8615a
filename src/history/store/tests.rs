use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::board::Board;
use crate::history::packed::Sample;
use crate::history::{Query, Spread};
use crate::model::{EntryKey, Profile};

mod energy;
mod health;
mod hours;
mod unsent;
mod write_volume;

const SPAN: Duration = Duration::from_secs(48 * 3600);
const NOW: Millis = Millis(1_771_097_625_510);

/// A temporary folder, deleted when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("bms-reader-history-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn path(&self) -> PathBuf {
        self.0.join("history.db")
    }

    fn file(&self) -> HistoryFile {
        HistoryFile::new(self.path().display().to_string())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn id(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

fn key(key: &str) -> EntryKey {
    EntryKey::parse(key).unwrap()
}

fn minute(ago: u64, soc: i64, voltage: Spread) -> HistoryRow {
    let samples = vec![(key("soc"), Spread::of(soc)), (key("cell_3_voltage"), voltage)];
    HistoryRow { time: Millis(NOW.0 - ago * 60_000), samples }
}

const SPREAD: Spread = Spread { low: 3300, mean: 3310, high: 3350 };

/// Number of points of battery `a` after a restart, and the last one's cell voltage.
fn load(file: &mut HistoryFile) -> (usize, Option<Spread>) {
    let history = History::new(&Board::new(["a", "b"].map(Profile::sample)), SPAN);
    file.load(&history, NOW);
    let step = Some(Duration::from_secs(60));
    let query = Query { from: Millis(0), to: NOW, step, keys: Some(vec![key("cell_3_voltage")]) };
    let answer =
        history.answer(&id("a"), &Query { from: Millis(NOW.0 - 172_800_000), ..query }).unwrap();
    let last = answer.columns.first().and_then(|(_, values)| values.last().copied().flatten());
    (answer.times.len(), last)
}

fn keep(oldest: Millis) -> Option<Expiry> {
    Some(Expiry { oldest, newest: None, elapsed: Duration::from_secs(60) })
}

fn batch(rows: Vec<(DeviceId, HistoryRow)>) -> Batch {
    Batch { rows, ..Batch::default() }
}

fn write(file: &mut HistoryFile, minutes: std::ops::Range<u64>) {
    let rows = minutes.rev().flat_map(|ago| {
        [(id("a"), minute(ago, 6400, SPREAD)), (id("b"), minute(ago, 100, Spread::of(3000)))]
    });
    file.write(batch(rows.collect()), keep(Millis(NOW.0 - 172_800_000)), &[]);
}

#[test]
fn written_minutes_survive_a_kill() {
    let folder = Folder::new();
    let mut file = folder.file();
    write(&mut file, 0..30);
    // A killed program closes nothing.
    std::mem::forget(file);
    assert_eq!(load(&mut folder.file()), (30, Some(SPREAD)));
}

#[test]
fn old_minutes_are_deleted() {
    let folder = Folder::new();
    let mut file = folder.file();
    write(&mut file, 100..130);
    let oldest = Millis(NOW.0 - 110 * 60_000);
    let expiry = Some(Expiry { oldest, newest: None, elapsed: Duration::from_secs(3600) });
    file.write(batch(vec![(id("a"), minute(0, 1, SPREAD))]), expiry, &[]);
    assert_eq!(load(&mut file).0, 12);
}

#[test]
fn wrong_clock_deletes_no_more_than_passing_time() {
    let folder = Folder::new();
    let mut file = folder.file();
    write(&mut file, 0..2000);
    let ten_years_ahead = Millis(NOW.0 + 315_360_000_000);
    for _ in 0..3 {
        file.write(Batch::default(), keep(ten_years_ahead), &[]);
    }
    let kept = load(&mut file).0;
    assert!((1990..2000).contains(&kept), "{kept}");
}

#[test]
fn minutes_of_a_wrong_clock_are_deleted_once_the_clock_is_trusted() {
    let folder = Folder::new();
    let mut file = folder.file();
    write(&mut file, 0..10);
    let mut wrong = minute(0, 1, SPREAD);
    wrong.time.0 += 315_360_000_000;
    let time = wrong.time;
    file.write(batch(vec![(id("a"), wrong)]), keep(Millis(0)), &[]);
    let exists = || {
        let connection = Connection::open(folder.path()).unwrap();
        let count = "SELECT count(*) FROM rows WHERE id >= ?1";
        let first = layout::first_key(time);
        connection.query_row(count, [first], |row| row.get::<_, i64>(0)).unwrap() > 0
    };
    assert!(exists());
    let expiry = |elapsed| Expiry { oldest: Millis(0), newest: Some(NOW.after(SPAN)), elapsed };
    file.write(Batch::default(), Some(expiry(Duration::ZERO)), &[]);
    assert!(exists(), "no time has passed");
    file.write(Batch::default(), Some(expiry(Duration::from_secs(60))), &[]);
    assert!(!exists());
    assert_eq!(load(&mut file).0, 10);
}

#[test]
fn earlier_damaged_file_is_never_replaced() {
    let folder = Folder::new();
    let mut kept = Vec::new();
    for number in 0..=MAX_DAMAGED {
        let text = format!("photo {number} ").repeat(100);
        fs::write(folder.path(), &text).unwrap();
        kept.push(text);
        let mut file = folder.file();
        write(&mut file, 0..3);
        assert_eq!(file.last_error.is_some(), number == MAX_DAMAGED, "{:?}", file.last_error);
    }
    let names = [".damaged", ".damaged-2", ".damaged-3", ""];
    let names = names.map(|end| format!("{}{end}", folder.path().display()));
    assert_eq!(names.map(|name| fs::read_to_string(name).unwrap()).to_vec(), kept);
}

#[test]
fn file_with_foreign_objects_is_refused_unchanged() {
    for object in [
        "CREATE TRIGGER fill AFTER INSERT ON rows BEGIN INSERT INTO layouts (device, series) VALUES \
         ('x', hex(randomblob(1000))); END",
        "CREATE VIEW other AS SELECT * FROM rows",
        "DROP VIEW history; CREATE VIEW history AS SELECT 1",
        "CREATE INDEX heavy ON rows (hex(zeroblob(length(samples))))",
        "DROP TABLE counters; CREATE TABLE counters (device TEXT PRIMARY KEY, charged INTEGER, \
         discharged INTEGER, more TEXT AS (hex(zeroblob(charged))) STORED)",
    ] {
        let folder = Folder::new();
        let mut file = folder.file();
        write(&mut file, 0..3);
        drop(file);
        let other = Connection::open(folder.path()).unwrap();
        other.execute_batch(object).unwrap();
        other.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(())).unwrap();
        drop(other);
        let before = fs::read(folder.path()).unwrap();
        let mut file = folder.file();
        write(&mut file, 3..6);
        let error = file.last_error.unwrap_or_else(|| panic!("{object} was accepted"));
        assert!(error.contains("it contains the ") && error.contains("another path"), "{error}");
        assert!(fs::read(folder.path()).unwrap() == before, "{object}");
    }
}

/// Also limits what the objects can do that the check of the schema overlooks.
#[test]
fn schema_of_a_file_is_not_trusted() {
    let folder = Folder::new();
    let store = Store::open(&folder.path().display().to_string()).unwrap();
    let number = |sql: &str| store.connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    assert_eq!(number("PRAGMA trusted_schema").unwrap(), 0);
    assert_eq!(number("PRAGMA cell_size_check").unwrap(), 1);
    assert_eq!(number("PRAGMA max_page_count").unwrap(), i64::from(MAX_PAGES));
}

#[test]
fn new_file_is_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let mut file = folder.file();
    write(&mut file, 0..3);
    for end in ["", "-wal", "-shm"] {
        let path = format!("{}{end}", folder.path().display());
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600, "{end}");
    }
}

#[test]
fn damaged_file_is_set_aside_and_replaced() {
    for damage in ["garbage", "head", "middle"] {
        let folder = Folder::new();
        let mut file = folder.file();
        write(&mut file, 0..2000);
        drop(file);
        let mut bytes = fs::read(folder.path()).unwrap();
        match damage {
            "garbage" => bytes = b"this is no database, but it is long enough".repeat(100),
            "head" => bytes[..100].fill(0),
            _ => bytes[8192..].iter_mut().for_each(|byte| *byte ^= 0x55),
        }
        fs::write(folder.path(), &bytes).unwrap();
        let mut file = folder.file();
        let _ = load(&mut file);
        let aside = fs::read(folder.0.join("history.db.damaged")).unwrap();
        assert!(aside == bytes, "{damage}: the damaged file is kept as it is");
        write(&mut file, 0..3);
        drop(file);
        assert_eq!(load(&mut folder.file()), (3, Some(SPREAD)), "{damage}");
    }
}

#[test]
fn file_of_another_program_is_left_alone() {
    let folder = Folder::new();
    let other = Connection::open(folder.path()).unwrap();
    other
        .execute_batch("CREATE TABLE photos (name TEXT); INSERT INTO photos VALUES ('x');")
        .unwrap();
    drop(other);
    let before = fs::read(folder.path()).unwrap();
    let mut file = folder.file();
    write(&mut file, 0..3);
    assert_eq!(load(&mut file), (0, None));
    assert!(fs::read(folder.path()).unwrap() == before);
    assert!(file.last_error.is_some());
}

#[test]
fn unwritten_minutes_are_queued_up_to_a_limit() {
    let folder = Folder::new();
    let path = folder.0.join("missing/history.db");
    let mut file = HistoryFile::new(path.display().to_string());
    write(&mut file, 0..4000);
    assert_eq!(file.queue.rows.len(), MAX_QUEUED);
    fs::create_dir(path.parent().unwrap()).unwrap();
    file.write(Batch::default(), keep(Millis(0)), &[]);
    assert_eq!((file.queue.rows.len(), &file.last_error), (0, &None));
    assert_eq!(load(&mut file), (MAX_QUEUED / 2, Some(SPREAD)));
    // A deleted file is created again.
    fs::remove_file(&path).unwrap();
    write(&mut file, 0..2);
    assert!(path.exists());
    assert_eq!(load(&mut file).0, 2);
}

fn totals(charged: i64, discharged: i64) -> EnergyTotals {
    let energy = |mwh| Energy::of(MilliwattHours(mwh)).unwrap();
    EnergyTotals { charged: energy(charged), discharged: energy(discharged) }
}

fn count(file: &mut HistoryFile, counters: &[(&str, EnergyTotals)]) {
    let counters: Vec<_> = counters.iter().map(|(name, totals)| (id(name), *totals)).collect();
    // Much later than any minute that is kept.
    let expiry = Some(Expiry { oldest: Millis(u64::MAX), newest: None, elapsed: SPAN });
    file.write(Batch::default(), expiry, &counters);
}

#[test]
fn energy_counters_outlive_the_minutes_and_never_fall() {
    let folder = Folder::new();
    // Never read, so that this run counts from zero.
    let mut file = folder.file();
    count(&mut file, &[("a", totals(123_456_789, 5)), ("b", totals(1, 2))]);
    count(&mut file, &[("a", totals(123_456_788, 7))]);
    std::mem::forget(file);
    let kept = [(id("a"), totals(123_456_789, 7)), (id("b"), totals(1, 2))];
    assert_eq!(folder.file().counters(), kept);
}

#[test]
fn counters_that_the_user_has_set_are_lowered() {
    let folder = Folder::new();
    let mut file = folder.file();
    count(&mut file, &[("a", totals(123_456_789, 5))]);
    let mut file = folder.file();
    assert_eq!(file.counters(), [(id("a"), totals(123_456_789, 5))]);
    count(&mut file, &[("a", totals(0, 7))]);
    assert_eq!(folder.file().counters(), [(id("a"), totals(0, 7))]);
}

/// A file that version 1 of the schema was written to, by the program of that time.
fn old_file(folder: &Folder, changes: &str) {
    let connection = Connection::open(folder.path()).unwrap();
    connection.execute_batch(include_str!("version-1.sql")).unwrap();
    connection.execute_batch(changes).unwrap();
}

fn all_rows(folder: &Folder) -> Vec<(DeviceId, HistoryRow)> {
    let mut rows = Vec::new();
    let collect = |store: &mut Store| {
        let mut push =
            |device: &DeviceId, row: &HistoryRow| rows.push((device.clone(), row.clone()));
        store.minutes.for_each_row(&store.connection, Millis(0), &mut push)
    };
    folder.file().access(collect).unwrap();
    rows
}

#[test]
fn file_of_version_1_is_converted() {
    for (changes, counters) in
        [("", vec![(id("a"), totals(123_456_789, 5))]), ("DROP TABLE counters", vec![])]
    {
        let folder = Folder::new();
        old_file(&folder, changes);
        for _ in 0..2 {
            let mut file = folder.file();
            assert_eq!(file.counters(), counters);
            assert_eq!(load(&mut file), (4, Some(SPREAD)));
            assert_eq!(file.last_error, None);
        }
        let rows = all_rows(&folder);
        assert_eq!(rows.len(), 7);
        let (device, first) = &rows[0];
        let current = Spread { low: -1200, mean: -1000, high: -7 };
        assert_eq!((device, first.time), (&id("a"), Millis(1_771_097_425_510)));
        assert_eq!(first.samples, [(key("soc"), Spread::of(6500)), (key("pack_current"), current)]);
        let mut file = folder.file();
        count(&mut file, &[("a", totals(123_456_790, 6))]);
        assert_eq!(file.counters(), [(id("a"), totals(123_456_790, 6))]);
    }
}

#[test]
fn failed_conversion_leaves_the_old_file() {
    let folder = Folder::new();
    // A value that no version has written ends the conversion in the middle.
    old_file(&folder, "UPDATE minutes SET mean = 'x' WHERE time = 1771097625510");
    let before = fs::read(folder.path()).unwrap();
    let mut file = folder.file();
    write(&mut file, 0..3);
    assert!(file.last_error.is_some());
    drop(file);
    assert!(fs::read(folder.path()).unwrap() == before);
}

#[test]
fn foreign_object_in_a_file_of_version_1_is_refused() {
    let folder = Folder::new();
    old_file(&folder, "CREATE VIEW other AS SELECT * FROM minutes");
    let mut file = folder.file();
    write(&mut file, 0..3);
    let error = file.last_error.unwrap();
    assert!(error.contains("it contains the view \"other\""), "{error}");
}

#[test]
fn quantities_appear_and_disappear() {
    let folder = Folder::new();
    let row = |ago, samples: &[(&str, i64)]| {
        let samples = samples.iter().map(|(name, value)| (key(name), Spread::of(*value)));
        (id("a"), HistoryRow { samples: samples.collect(), ..minute(ago, 0, SPREAD) })
    };
    let rows = vec![
        row(3, &[("soc", 1), ("soh", 2)]),
        row(2, &[("soh", 3)]),
        row(1, &[("power", 4), ("soc", 5)]),
        row(0, &[("soh", 6)]),
    ];
    let mut file = folder.file();
    file.write(batch(rows[..2].to_vec()), None, &[]);
    // The layouts are read again after a restart.
    let mut file = folder.file();
    file.write(batch(rows[2..].to_vec()), None, &[]);
    let mut loaded = all_rows(&folder);
    for (_, row) in &mut loaded {
        row.samples.sort_by_key(|(key, _)| key.to_string());
    }
    assert_eq!(loaded, rows);
    let connection = Connection::open(folder.path()).unwrap();
    let layouts = "SELECT count(*) FROM layouts";
    assert_eq!(connection.query_row(layouts, [], |row| row.get::<_, i64>(0)).unwrap(), 2);
}

#[test]
fn invalid_counter_is_ignored() {
    let folder = Folder::new();
    let mut file = folder.file();
    count(&mut file, &[("a", totals(1, 2)), ("b", totals(3, 4))]);
    let connection = Connection::open(folder.path()).unwrap();
    connection.execute("UPDATE counters SET charged = -1 WHERE device = 'a'", []).unwrap();
    assert_eq!(file.counters(), [(id("b"), totals(3, 4))]);
}
