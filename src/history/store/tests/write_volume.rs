//! How much is written to the disk, counted in bytes.

use super::*;
use crate::history::battery_history::BatteryHistory;
use crate::history::write_schedule::WriteSchedule;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: u64 = 24 * 60;
const SPAN_MINUTES: u64 = 6 * 60;
/// A day of four batteries that are in use all the time, with some reserve.
const MAX_WRITTEN: u64 = 10_000_000;
/// Of the file, per battery and day.
const MAX_SIZE: u64 = 500_000;

/// Bytes that this thread has written so far, to files and otherwise.
fn written() -> u64 {
    let io = fs::read_to_string("/proc/thread-self/io").unwrap();
    io.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap().parse().unwrap()
}

/// A battery with 16 cells: its quantities and a value of each.
fn battery() -> Vec<(EntryKey, i64)> {
    let cells = (1..=16).map(|n| (format!("cell_{n}_voltage"), 3310));
    let sensors = (1..=4).map(|n| (format!("cell_temp_{n}"), 215));
    let others = [
        ("pack_voltage", 53_020),
        ("pack_current", -12_340),
        ("power", -6_543),
        ("charge_power", 0),
        ("discharge_power", 6_543),
        ("soc", 6400),
        ("soh", 9900),
        ("remaining_capacity", 64_000),
        ("full_capacity", 100_000),
        ("remaining_energy", 32_760),
        ("energy_charged", 123_456),
        ("energy_discharged", 123_456),
        ("min_cell_voltage", 3300),
        ("max_cell_voltage", 3320),
        ("cell_voltage_diff", 20),
        ("min_temp", 210),
        ("max_temp", 220),
        ("avg_temp", 215),
    ];
    let values = cells.chain(sensors).chain(others.map(|(key, value)| (key.to_owned(), value)));
    let values: Vec<_> =
        values.filter_map(|(name, value)| Some((EntryKey::parse(&name)?, value))).collect();
    assert!(values.len() > 30, "the keys of the catalogue have changed");
    values
}

/// A minute in which every value moves.
fn row(battery: &[(EntryKey, i64)], number: u64, time: Millis) -> HistoryRow {
    let sample = |(index, (key, value)): (u64, &(EntryKey, i64))| {
        let mixed = (number * 40 + index).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        let noise = |range| i64::try_from(mixed % range).unwrap();
        let mean = value + noise(15);
        (*key, Spread { low: mean - noise(12), mean, high: mean + noise(13) })
    };
    HistoryRow { time, samples: (0..).zip(battery).map(sample).collect() }
}

#[test]
fn day_of_four_batteries_writes_less_than_ten_megabytes() {
    let folder = Folder::new();
    let (mut file, mut schedule) = (folder.file(), WriteSchedule::default());
    let (ids, values) = (["a", "b", "c", "d"].map(id), battery());
    let mut hourly = ids.clone().map(|_| BatteryHistory::new(Duration::ZERO));
    let (mut queued, mut start) = (Vec::new(), 0);
    // From the end of the span on, rows expire as fast as new ones are added.
    for minute in 0..SPAN_MINUTES + DAY {
        if minute == SPAN_MINUTES {
            start = written();
        }
        let time = NOW.after(MINUTE * u32::try_from(minute).unwrap());
        let row = |(n, id): (u64, &DeviceId)| (id.clone(), row(&values, minute * 4 + n, time));
        let rows: Vec<_> = (0..).zip(&ids).map(row).collect();
        hourly.iter_mut().zip(&rows).for_each(|(battery, (_, row))| battery.add_to_hour(row));
        queued.extend(rows);
        let Some(due) = schedule.advance(MINUTE, true, false) else { continue };
        let oldest = time.before(MINUTE * u32::try_from(SPAN_MINUTES).unwrap());
        let expiry = due.delete.map(|elapsed| Expiry { oldest, newest: None, elapsed });
        let energy = i64::try_from(minute).unwrap() * 700;
        let counters = ids.clone().map(|id| (id, totals(energy, energy)));
        let number = u32::try_from(time.0 / 86_400_000).unwrap();
        let day = |id: &DeviceId| (id.clone(), Day { number, energy: totals(3500, 3500) });
        let days = ids.iter().map(day).collect();
        let hours = ids.iter().zip(&mut hourly).flat_map(|(id, battery)| {
            battery.take_unwritten().into_iter().map(|row| (id.clone(), row))
        });
        let hours = hours.collect();
        // The cells are written as rarely as expired rows are deleted.
        let cells = (0..13 + 16 * 7).map(|n| i32::try_from(minute % 60 * n).unwrap()).collect();
        let cells = HealthDay::restore(number, cells).unwrap();
        let health = ids.iter().map(|id| (id.clone(), cells.clone()));
        let health = health.filter(|_| expiry.is_some()).collect();
        let batch =
            Batch { rows: std::mem::take(&mut queued), hours, days, health, ..Batch::default() };
        file.write(batch, expiry, &counters);
    }
    let written = written() - start;
    let size = fs::metadata(folder.path()).unwrap().len();
    println!("{written} bytes a day; {size} bytes for {SPAN_MINUTES} minutes");
    assert_eq!(file.last_error, None);
    assert!(written < MAX_WRITTEN, "{written}");
    // Rows are deleted once an hour.
    assert!(size * DAY < 4 * MAX_SIZE * (SPAN_MINUTES + 120), "{size}");
}
