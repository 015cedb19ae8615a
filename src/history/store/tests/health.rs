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
    let health = history.take_unwritten_health();
    file.write(Batch { health, ..Batch::default() }, None, &[]);
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
    let derived = derive(&reading);
    let mut state = DeviceState::new(Profile::sample("a"));
    let taken = Millis(1_774_652_400_000 + minute * MINUTE);
    state.accept((taken, Uptime(minute * MINUTE)), 1, reading, derived);
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
    let health = history.take_unwritten_health();
    file.write(Batch { health, ..Batch::default() }, None, &[]);
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
