//! The hours of a year: over restarts, from files of earlier versions, and their size.

use std::time::Instant;

use super::*;
use crate::history::battery_history::{HOUR, YEAR};
use crate::model::units::{divide_rounded, millis};

const MINUTE: u64 = 60_000;
/// 2026-02-14T19:00:00Z, the start of an hour.
const START: Millis = Millis(1_771_095_600_000);

fn start(folder: &Folder, now: Millis, names: &[&str]) -> (History, HistoryFile) {
    let history = History::new(&Board::new(names.iter().map(|name| Profile::sample(name))), SPAN);
    let mut file = folder.file();
    file.load(&history, now);
    assert_eq!(file.last_error, None);
    (history, file)
}

fn push(
    history: &History,
    name: &str,
    time: Millis,
    samples: &[Sample],
) -> Option<(DeviceId, HistoryRow)> {
    let row = history.batteries().get_mut(&id(name)).unwrap().push(time, samples)?;
    Some((id(name), row))
}

/// Time and mean of each hour in the file.
fn hours(folder: &Folder) -> Vec<(u64, i64)> {
    let mut list = Vec::new();
    let mut visit =
        |_: &DeviceId, row: &HistoryRow| list.push((row.time.since(START), row.samples[0].1.mean));
    folder
        .file()
        .access(|store| store.hours.for_each_row(&store.connection, Millis(0), &mut visit));
    list
}

fn soc(value: u64) -> [Sample; 1] {
    [(key("soc"), Spread::of(i64::try_from(value).unwrap()))]
}

#[test]
fn restart_does_not_interrupt_an_hour() {
    let folder = Folder::new();
    let time = |minute: u64| Millis(START.0 + minute * MINUTE);
    let (mut history, mut file) = start(&folder, START, &["a"]);
    let mut rows = Vec::new();
    for minute in 0..130 {
        // A stop, after which the program is away for ten minutes; a kill loses what was not written.
        if minute == 25 {
            rows.extend(history.end_minutes(None, Duration::ZERO));
            file.write(history.take_unwritten(std::mem::take(&mut rows)), None, &[]);
        }
        if minute == 25 || minute == 95 {
            rows.clear();
            (history, file) = start(&folder, time(minute + 10), &["a"]);
        }
        if (25..35).contains(&minute) {
            continue;
        }
        rows.extend(push(&history, "a", time(minute), &soc(minute)));
        if minute % 5 == 1 {
            file.write(history.take_unwritten(std::mem::take(&mut rows)), None, &[]);
        }
    }
    let mean = |minutes: &[u64]| {
        let sum: u64 = minutes.iter().sum();
        divide_rounded(i64::try_from(sum).unwrap(), i64::try_from(minutes.len()).unwrap())
    };
    let first: Vec<u64> = (0..25).chain(35..60).collect();
    // The minutes from 91 on were not written before the kill.
    let second: Vec<u64> = (60..91).chain(95..120).collect();
    assert_eq!(hours(&folder), [(59 * MINUTE, mean(&first)), (119 * MINUTE, mean(&second))]);
}

#[test]
fn hours_are_made_from_the_minutes_of_an_earlier_version() {
    let folder = Folder::new();
    let mut file = folder.file();
    write(&mut file, 0..600);
    drop(file);
    let connection = Connection::open(folder.path()).unwrap();
    let drop_all = "DROP VIEW history_of_hours; DROP TABLE hours; DROP TABLE hour_layouts";
    connection.execute_batch(drop_all).unwrap();
    drop(connection);
    let (history, mut file) = start(&folder, NOW.after(HOUR), &["a", "b"]);
    assert_eq!(all_rows(&folder).len(), 1200, "the minutes are kept");
    history.end_minutes(Some(NOW.after(HOUR)), HOUR);
    file.write(history.take_unwritten(Vec::new()), None, &[]);
    // Eleven hours were touched, of two batteries each.
    assert_eq!(hours(&folder).len(), 2 * 11);
    let (again, mut file) = start(&folder, NOW.after(HOUR), &["a", "b"]);
    again.end_minutes(Some(NOW.after(HOUR)), HOUR);
    assert!(again.take_unwritten(Vec::new()).hours.is_empty(), "made once");
    // The minutes expire, the hours stay for a year.
    let expire = |file: &mut HistoryFile, oldest| {
        let expiry = Expiry { oldest, newest: None, elapsed: YEAR };
        file.write(Batch::default(), Some(expiry), &[]);
    };
    expire(&mut file, NOW.after(HOUR));
    assert_eq!((all_rows(&folder).len(), hours(&folder).len()), (0, 22));
    let (history, mut file) = start(&folder, NOW.after(30 * 24 * HOUR), &["a"]);
    let to = NOW.after(30 * 24 * HOUR);
    let query = Query { from: to.before(YEAR), to, step: None, keys: None };
    let answer = history.answer(&id("a"), &query).unwrap();
    let (column, values) = &answer.columns[0];
    assert_eq!((*column, values[0]), (key("soc"), Some(Spread::of(6400))));
    expire(&mut file, NOW.after(YEAR + HOUR));
    assert!(hours(&folder).is_empty());
}

/// Keys with a mean and half the range, as in the history.
const QUANTITIES: [(&str, f64, f64); 10] = [
    ("soc", 6000.0, 3000.0),
    ("soh", 9800.0, 20.0),
    ("pack_voltage", 52_500.0, 1500.0),
    ("pack_current", -500.0, 50_000.0),
    ("power", -260.0, 26_000.0),
    ("min_temp", 180.0, 70.0),
    ("max_temp", 200.0, 80.0),
    ("min_cell_voltage", 3270.0, 90.0),
    ("max_cell_voltage", 3290.0, 95.0),
    ("cell_voltage_diff", 20.0, 10.0),
];

/// A day, the weather and the number of the battery, without symmetry.
fn value(quantity: usize, battery: usize, time: u64) -> i64 {
    let (_, mean, range) = QUANTITIES[quantity];
    let hours = time as f64 / 3_600_000.0;
    let phase = (quantity * 7 + battery * 3) as f64;
    let day = (hours / 24.0 * std::f64::consts::TAU + phase).sin();
    let weather = (hours / 91.0 + phase).sin() + (hours * 3.1 + phase).sin();
    (mean + range * (0.6 * day + 0.2 * weather)) as i64
}

/// Five hours in a thousand.
fn is_missing(hour: u64) -> bool {
    (300..305).contains(&(hour % 1000))
}

/// Two readings an hour, written four times a day.
fn write_hours(
    history: &History,
    file: &mut HistoryFile,
    names: &[&str],
    keys: &[EntryKey],
    count: u64,
) {
    let mut rows = Vec::new();
    for hour in 0..count {
        let base = START.0 + hour * millis(HOUR);
        for (minute, (battery, name)) in [10, 50]
            .into_iter()
            .flat_map(|minute| names.iter().enumerate().map(move |it| (minute, it)))
        {
            let time = base + minute * MINUTE;
            let sample = |(n, key): (usize, &EntryKey)| (*key, Spread::of(value(n, battery, time)));
            let samples: Vec<_> = keys.iter().enumerate().map(sample).collect();
            if !is_missing(hour) {
                rows.extend(push(history, name, Millis(time), &samples));
            }
        }
        let now = Millis(base).after(HOUR);
        rows.extend(history.end_minutes(Some(now), HOUR));
        if hour % 6 == 5 {
            let oldest = now.before(SPAN);
            let expiry = Expiry { oldest, newest: None, elapsed: 6 * HOUR };
            file.write(history.take_unwritten(std::mem::take(&mut rows)), Some(expiry), &[]);
        }
    }
}

/// With missing hours, and a restart before the queries.
#[test]
fn year_of_ten_batteries() {
    let folder = Folder::new();
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let (history, mut file) = start(&folder, START, &names);
    let keys = QUANTITIES.map(|(name, ..)| key(name));
    let count = millis(YEAR) / millis(HOUR);
    write_hours(&history, &mut file, &names, &keys, count);
    let end = Millis(START.0 + count * millis(HOUR));
    let connection = Connection::open(folder.path()).unwrap();
    let number = |sql: &str| {
        connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap().unsigned_abs()
    };
    let present = (0..count).filter(|hour| !is_missing(*hour)).count();
    let (stored, bytes) =
        (number("SELECT count(*) FROM hours"), number("SELECT sum(length(samples)) FROM hours"));
    assert_eq!(stored, 10 * u64::try_from(present).unwrap());
    assert!(number("SELECT count(*) FROM rows") <= 10 * 2 * 56, "minutes of two days");
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let size = fs::metadata(folder.path()).unwrap().len() / 10;
    let begin = Instant::now();
    let (history, _file) = start(&folder, end, &names);
    println!(
        "{size} bytes of file, {} of values per battery and year; loaded in {:?}",
        bytes / 10,
        begin.elapsed()
    );
    assert!(size < 1_500_000, "{size}");
    let keys = keys[..8].to_vec();
    for (battery, name) in names.iter().enumerate() {
        let query = Query { from: end.before(YEAR), to: end, step: None, keys: Some(keys.clone()) };
        let begin = Instant::now();
        let answer = history.answer(&id(name), &query).unwrap();
        let memory = history.size(&id(name)).unwrap();
        println!(
            "{name}: {} points in {:?}, {memory} bytes of memory",
            answer.times.len(),
            begin.elapsed()
        );
        assert!((364..=367).contains(&answer.times.len()), "{}", answer.times.len());
        assert_eq!((answer.columns.len(), answer.step.as_secs()), (8, 86_400));
        assert!(memory < 700_000, "{memory}");

        // A week half a year ago, around missing hours, hour by hour.
        let first = START.after(HOUR * 4200);
        let week = Query { from: first, to: first.after(HOUR * 168), ..query };
        let answer = history.answer(&id(name), &week).unwrap();
        assert_eq!((answer.step, answer.times.len()), (HOUR, 168 - 5));
        for (quantity, (_, values)) in answer.columns.iter().enumerate() {
            for (time, spread) in answer.times.iter().zip(values) {
                let both = [
                    value(quantity, battery, time.0 - 40 * MINUTE),
                    value(quantity, battery, time.0),
                ];
                let [low, high] = [both[0].min(both[1]), both[0].max(both[1])];
                let mean = divide_rounded(low + high, 2);
                assert_eq!(*spread, Some(Spread { low, mean, high }), "{name} {quantity} {time:?}");
            }
        }
    }
}
