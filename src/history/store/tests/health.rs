//! What is known about the cells, over restarts and day changes.

use super::*;
use crate::model::cell_health::{CellTotal, Condition, Total};
use crate::model::derive::derive;
use crate::model::{
    Cell, CentiPercent, DeviceState, Milliamps, Millivolts, Reading, TimeZone, Uptime,
};

const MINUTE: u64 = 60_000;
const DAY: u64 = 1440;

fn start(folder: &Folder) -> (History, HistoryFile) {
    let mut history = History::new(&Board::new([Profile::sample("a")]), SPAN);
    history.zone = TimeZone::find("Europe/Berlin").unwrap();
    let mut file = folder.file();
    file.load(&history, NOW);
    assert_eq!(file.last_error, None);
    (history, file)
}

fn write_all(history: &History, file: &mut HistoryFile) {
    let (health, runs) = history.take_unwritten_health();
    file.write(Batch { health, runs, ..Batch::default() }, None, &[]);
    assert_eq!(file.last_error, None);
}

/// The lowest cell is 1 or 2, the highest 3.
fn read(history: &History, minute: u64) {
    let swapped = i32::from(minute.is_multiple_of(3));
    let millivolts = [3300 + swapped, 3301 - swapped, 3309];
    let mut reading = Reading::default();
    reading.pack.soc = Some(CentiPercent(9900));
    reading.pack.current = Some(Milliamps(0));
    reading.cells = millivolts.map(|mv| Cell::of(Millivolts(mv))).to_vec();
    reading.cells[2].balancing = Some(minute % 10 < 5);
    add(history, minute, minute, reading);
}

/// `uptime`: minutes since the start of the machine.
fn add(history: &History, minute: u64, uptime: u64, reading: Reading) {
    let derived = derive(&reading);
    let mut state = DeviceState::new(Profile::sample("a"));
    let taken = Millis(1_774_652_400_000 + minute * MINUTE);
    state.accept((taken, Uptime(uptime * MINUTE)), 1, reading, derived);
    history.add(&state);
}

/// Three days in Berlin, the second of which has 23 hours, with a restart every seven hours.
#[test]
fn restarts_and_day_changes_lose_nothing() {
    let folder = Folder::new();
    let (mut history, mut file) = start(&folder);
    for minute in 0..3 * DAY - 60 {
        read(&history, minute);
        if minute % 60 == 13 {
            write_all(&history, &mut file);
        }
        if minute % 420 == 419 {
            write_all(&history, &mut file);
            (history, file) = start(&folder);
        }
    }
    write_all(&history, &mut file);
    let days = start(&folder).0.health_days(&id("a")).unwrap();
    let lengths = [DAY, DAY - 60, DAY].map(|minutes| i64::try_from(minutes).unwrap());
    let counts: Vec<_> = days.iter().map(|day| day.samples(Condition::Full)).collect();
    assert_eq!(counts, lengths);
    for (day, minutes) in days.iter().zip(lengths) {
        assert_eq!((day.cells(), day.total(Total::Ranked)), (3, minutes));
        let lowest = [0, 1].map(|cell| day.cell(cell, CellTotal::Lowest));
        assert_eq!(lowest, [minutes * 2 / 3, minutes / 3]);
        assert_eq!(day.cell(2, CellTotal::Highest), minutes);
        // The first sample of a run has none before it.
        let balanced = day.cell(2, CellTotal::Balanced) / 60;
        assert!((minutes / 2 - 5..=minutes / 2).contains(&balanced), "{balanced} of {minutes}");
    }
}

/// Discharges 100 Ah at 10 A from full to 10 %, and charges again. The machine restarts after 100 minutes and after
/// 500, and is then away for that many minutes. Returns the sum of the estimates in mAh, and their number.
fn capacity_over_restarts(away: u64) -> (i64, i64) {
    let folder = Folder::new();
    let (mut history, mut file) = start(&folder);
    let mut booted = 0;
    for minute in 0..580 {
        if [100, 500].contains(&minute) {
            write_all(&history, &mut file);
            (history, file) = start(&folder);
            // Nothing was read, and it is stopped once more.
            write_all(&history, &mut file);
            (history, file) = start(&folder);
            booted = minute + away - 1;
        }
        if (100..100 + away - 1).contains(&minute) || (500..500 + away - 1).contains(&minute) {
            continue;
        }
        let discharged = minute.min(540 - minute.saturating_sub(540).min(540));
        let mut reading = Reading::default();
        let soc = 10_000 - discharged * 100 / 6;
        reading.pack.soc = Some(CentiPercent(i32::try_from(soc).unwrap()));
        reading.pack.current = Some(Milliamps(if minute < 540 { -10_000 } else { 10_000 }));
        add(&history, minute, minute - booted.min(minute), reading);
    }
    write_all(&history, &mut file);
    let days = start(&folder).0.health_days(&id("a")).unwrap();
    let sum = |total| days.iter().map(|day| day.total(total)).sum();
    (sum(Total::Capacity), sum(Total::Runs))
}

#[test]
fn capacity_run_survives_a_short_restart_only() {
    for away in [1, 10] {
        let (capacity, runs) = capacity_over_restarts(away);
        assert_eq!(runs, 1, "away for {away} minutes");
        assert!((capacity - 100_000).abs() < 300, "{capacity} mAh, away for {away} minutes");
    }
    assert_eq!(capacity_over_restarts(11), (0, 0));
}

#[test]
fn impossible_capacity_run_is_ignored() {
    let folder = Folder::new();
    drop(start(&folder));
    let connection = Connection::open(folder.path()).unwrap();
    let max = i64::MAX;
    connection
        .execute(
            "INSERT INTO capacity_runs VALUES ('a', 1774652400000, 5000, 0, 0, 9800, ?1, -1, ?1, ?1, ?1)",
            [max],
        )
        .unwrap();
    let (history, mut file) = start(&folder);
    read(&history, 0);
    write_all(&history, &mut file);
    let count = "SELECT count(*) FROM capacity_runs";
    let kept = connection.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(kept, 0);
}

#[test]
fn days_that_could_not_be_read_at_the_start_are_added() {
    let folder = Folder::new();
    let (history, mut file) = start(&folder);
    (0..30).for_each(|minute| read(&history, minute));
    write_all(&history, &mut file);
    // The file is away when the program starts.
    fs::rename(folder.path(), folder.0.join("away")).unwrap();
    fs::create_dir(folder.path()).unwrap();
    let history = History::new(&Board::new([Profile::sample("a")]), SPAN);
    let mut file = folder.file();
    file.load(&history, NOW);
    (30..50).for_each(|minute| read(&history, minute));
    let (health, runs) = history.take_unwritten_health();
    file.write(Batch { health, runs, ..Batch::default() }, None, &[]);
    (50..60).for_each(|minute| read(&history, minute));
    fs::remove_dir(folder.path()).unwrap();
    fs::rename(folder.0.join("away"), folder.path()).unwrap();
    write_all(&history, &mut file);
    let days = start(&folder).0.health_days(&id("a")).unwrap();
    let sum: i64 = days.iter().map(|day| day.samples(Condition::Full)).sum();
    assert_eq!(sum, 60);
}

#[test]
fn invalid_day_is_ignored_and_old_ones_are_deleted() {
    let folder = Folder::new();
    drop(start(&folder));
    let connection = Connection::open(folder.path()).unwrap();
    let zeros = |count: usize| serde_json::json!(vec![0; count]).to_string();
    for number in 0..400 {
        let row = params![number, zeros(13 + 7)];
        connection.execute("INSERT INTO health VALUES (?1, 'a', ?2)", row).unwrap();
    }
    for (number, numbers) in
        [(400, "x"), (401, "[]"), (402, "[1.5]"), (403, &zeros(14)), (-1, &zeros(13))]
    {
        let row = params![number, numbers];
        connection.execute("INSERT INTO health VALUES (?1, 'a', ?2)", row).unwrap();
    }
    let days = start(&folder).0.health_days(&id("a")).unwrap();
    assert_eq!((days.len(), days.last().map(|day| day.number)), (363, Some(399)));
    let count = "SELECT count(*) FROM health";
    let kept = connection.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(kept, 367);
}
