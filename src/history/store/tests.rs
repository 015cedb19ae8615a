use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::board::Board;
use crate::history::Query;
use crate::model::Profile;

const SPAN: Duration = Duration::from_secs(48 * 3600);
const NOW: Millis = Millis(1_771_097_625_510);

/// A folder that is gone when the test is over.
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

    fn file(&self) -> PathBuf {
        self.0.join("history.db")
    }

    fn keeper(&self) -> Keeper {
        Keeper::new(self.file().display().to_string())
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

fn minute(ago: u64, soc: i64, voltage: Spread) -> MinuteRow {
    let samples = vec![
        (series("soc").unwrap(), Spread::of(soc)),
        (series("cell_3_voltage").unwrap(), voltage),
    ];
    MinuteRow { time: Millis(NOW.0 - ago * 60_000), samples }
}

const LIVELY: Spread = Spread { low: 3300, mean: 3310, high: 3350 };

/// What a program that starts now knows of battery `a`: points, and the last one's cell voltage.
fn known(keeper: &mut Keeper) -> (usize, Option<Spread>) {
    let history = History::new(&Board::new(["a", "b"].map(Profile::sample)), SPAN);
    keeper.load(&history, NOW);
    let step = Some(Duration::from_secs(60));
    let query = Query { from: Millis(0), to: NOW, step, keys: Some(vec!["cell_3_voltage".into()]) };
    let answer =
        history.answer(&id("a"), &Query { from: Millis(NOW.0 - 172_800_000), ..query }).unwrap();
    let last = answer.columns.first().and_then(|(_, values)| values.last().copied().flatten());
    (answer.times.len(), last)
}

fn write(keeper: &mut Keeper, minutes: std::ops::Range<u64>) {
    let rows = minutes.rev().flat_map(|ago| {
        [(id("a"), minute(ago, 6400, LIVELY)), (id("b"), minute(ago, 100, Spread::of(3000)))]
    });
    keeper.write(rows.collect(), Millis(NOW.0 - 172_800_000), &[]);
}

#[test]
fn a_restart_knows_what_was_written_even_when_the_program_was_killed() {
    let folder = Folder::new();
    let mut keeper = folder.keeper();
    write(&mut keeper, 0..30);
    // As a killed program would: nothing is closed.
    std::mem::forget(keeper);
    assert_eq!(known(&mut folder.keeper()), (30, Some(LIVELY)));
}

#[test]
fn old_minutes_leave_the_file() {
    let folder = Folder::new();
    let mut keeper = folder.keeper();
    write(&mut keeper, 100..130);
    keeper.write(vec![(id("a"), minute(0, 1, LIVELY))], Millis(NOW.0 - 110 * 60_000), &[]);
    assert_eq!(known(&mut keeper).0, 12);
}

#[test]
fn a_damaged_file_is_set_aside_and_a_new_one_begins() {
    for damage in ["garbage", "head", "middle"] {
        let folder = Folder::new();
        let mut keeper = folder.keeper();
        write(&mut keeper, 0..2000);
        drop(keeper);
        let mut bytes = fs::read(folder.file()).unwrap();
        match damage {
            "garbage" => bytes = b"this is no database, but it is long enough".repeat(100),
            "head" => bytes[..100].fill(0),
            _ => bytes[8192..].iter_mut().for_each(|byte| *byte ^= 0x55),
        }
        fs::write(folder.file(), &bytes).unwrap();
        let mut keeper = folder.keeper();
        let _ = known(&mut keeper);
        let aside = fs::read(folder.0.join("history.db.damaged")).unwrap();
        assert!(aside == bytes, "{damage}: the damaged file is kept as it is");
        write(&mut keeper, 0..3);
        drop(keeper);
        assert_eq!(known(&mut folder.keeper()), (3, Some(LIVELY)), "{damage}");
    }
}

#[test]
fn the_file_of_another_program_is_left_alone() {
    let folder = Folder::new();
    let other = Connection::open(folder.file()).unwrap();
    other
        .execute_batch("CREATE TABLE photos (name TEXT); INSERT INTO photos VALUES ('x');")
        .unwrap();
    drop(other);
    let before = fs::read(folder.file()).unwrap();
    let mut keeper = folder.keeper();
    write(&mut keeper, 0..3);
    assert_eq!(known(&mut keeper), (0, None));
    assert!(fs::read(folder.file()).unwrap() == before);
    assert!(keeper.complaint.is_some());
}

#[test]
fn what_cannot_be_written_waits_and_does_not_pile_up() {
    let folder = Folder::new();
    let place = folder.0.join("missing/history.db");
    let mut keeper = Keeper::new(place.display().to_string());
    write(&mut keeper, 0..4000);
    assert_eq!(keeper.waiting.len(), MOST_WAITING);
    fs::create_dir(place.parent().unwrap()).unwrap();
    keeper.write(Vec::new(), Millis(0), &[]);
    assert_eq!((keeper.waiting.len(), &keeper.complaint), (0, &None));
    assert_eq!(known(&mut keeper), (MOST_WAITING / 2, Some(LIVELY)));
    // A file that somebody deleted is written anew.
    fs::remove_file(&place).unwrap();
    write(&mut keeper, 0..2);
    assert!(place.exists());
    assert_eq!(known(&mut keeper).0, 2);
}

#[test]
fn people_can_read_it() {
    let folder = Folder::new();
    let mut keeper = folder.keeper();
    keeper.write(vec![(id("a"), minute(0, 6400, LIVELY))], Millis(0), &[]);
    drop(keeper);
    let connection = Connection::open(folder.file()).unwrap();
    let mut select = connection
        .prepare("SELECT time, device, key, mean, low, high, unit FROM history ORDER BY key")
        .unwrap();
    let rows: Vec<(String, String, String, f64, f64, f64, String)> = select
        .query_map([], |row| {
            Ok((
                row.get(0)?,
                row.get(1)?,
                row.get(2)?,
                row.get(3)?,
                row.get(4)?,
                row.get(5)?,
                row.get(6)?,
            ))
        })
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let text = |s: &str| s.to_owned();
    let time = text("2026-02-14 19:33:45");
    assert_eq!(
        rows,
        [
            (time.clone(), text("a"), text("cell_3_voltage"), 3.31, 3.3, 3.35, text("V")),
            (time, text("a"), text("soc"), 64.0, 64.0, 64.0, text("%")),
        ]
    );
}

fn totals(charged: i64, discharged: i64) -> EnergyTotals {
    let energy = |mwh| Energy::of(MilliwattHours(mwh)).unwrap();
    EnergyTotals { charged: energy(charged), discharged: energy(discharged) }
}

fn count(keeper: &mut Keeper, counters: &[(&str, EnergyTotals)]) {
    let counters: Vec<_> = counters.iter().map(|(name, totals)| (id(name), *totals)).collect();
    // Much later than any minute that is kept.
    keeper.write(Vec::new(), Millis(u64::MAX), &counters);
}

#[test]
fn energy_counters_outlive_the_minutes_and_never_fall() {
    let folder = Folder::new();
    let mut keeper = folder.keeper();
    assert_eq!(keeper.counters(), []);
    count(&mut keeper, &[("a", totals(123_456_789, 5)), ("b", totals(1, 2))]);
    count(&mut keeper, &[("a", totals(123_456_788, 7))]);
    std::mem::forget(keeper);
    let kept = [(id("a"), totals(123_456_789, 7)), (id("b"), totals(1, 2))];
    assert_eq!(folder.keeper().counters(), kept);
}

#[test]
fn a_file_that_was_begun_without_counters_gets_them() {
    let folder = Folder::new();
    let mut keeper = folder.keeper();
    write(&mut keeper, 0..3);
    drop(keeper);
    Connection::open(folder.file()).unwrap().execute_batch("DROP TABLE counters").unwrap();
    let mut keeper = folder.keeper();
    assert_eq!(keeper.counters(), []);
    count(&mut keeper, &[("a", totals(1, 2))]);
    assert_eq!(keeper.counters(), [(id("a"), totals(1, 2))]);
}

#[test]
fn what_is_no_counter_is_none() {
    let folder = Folder::new();
    let mut keeper = folder.keeper();
    count(&mut keeper, &[("a", totals(1, 2)), ("b", totals(3, 4))]);
    let connection = Connection::open(folder.file()).unwrap();
    connection.execute("UPDATE counters SET charged = -1 WHERE device = 'a'", []).unwrap();
    assert_eq!(keeper.counters(), [(id("b"), totals(3, 4))]);
}
