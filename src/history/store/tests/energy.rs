//! The energy of each day, and alarms, over restarts.

use super::*;
use crate::model::derived_state::DerivedState;
use crate::model::{Alarm, AlarmThresholds, DeviceState, Milliamps, Reading, TimeZone, Uptime};

const HOUR: u64 = 3_600_000;
const STEP: u64 = 30_000;

/// In milliamps at 50 V: a day and a cloud, without symmetry.
fn current(time: u64) -> i32 {
    let seconds = time as f64 / 1000.0;
    let day = 60_000.0 * (seconds / 86_400.0 * std::f64::consts::TAU).sin();
    (day + 9_000.0 * (seconds / 731.0).sin() + 4_000.0) as i32
}

/// Watt-hours in and out between two times, without those of `lost`.
fn integrate(times: std::ops::Range<u64>, lost: &std::ops::Range<u64>) -> (f64, f64) {
    let seconds = times.step_by(1000).filter(|time| !lost.contains(time));
    seconds.fold((0.0, 0.0), |(charged, discharged), time| {
        let energy = f64::from(current(time)) / 1000.0 * 50.0 / 3600.0;
        (charged + energy.max(0.0), discharged - energy.min(0.0))
    })
}

/// One run of the program with its battery.
struct Run {
    history: History,
    file: HistoryFile,
    state: DeviceState,
    derived: DerivedState,
}

impl Run {
    fn start(folder: &Folder, now: Millis) -> Self {
        let board = Board::new([Profile::sample("a")]);
        let mut history = History::new(&board, SPAN);
        history.zone = TimeZone::find("Europe/Berlin").unwrap();
        let mut file = folder.file();
        file.load(&history, now);
        let derived = DerivedState::new(AlarmThresholds::default());
        Run { history, file, state: DeviceState::new(Profile::sample("a")), derived }
    }

    /// `clock`: the time of day, which may be wrong.
    fn read(&mut self, clock: u64, uptime: u64, reading: Reading) {
        let derived = self.derived.derive(&reading, Uptime(uptime), STEP);
        self.state.accept((Millis(clock), Uptime(uptime)), 1, reading, derived);
        let _ = self.history.record(&self.state);
    }

    fn write(&mut self) {
        self.file.write(self.history.take_unwritten(Vec::new()), None, &[]);
        assert_eq!(self.file.last_error, None);
    }
}

fn reading(milliamps: i32) -> Reading {
    let mut reading = Reading::default();
    reading.pack.voltage = Some(crate::model::Millivolts(50_000));
    reading.pack.current = Some(Milliamps(milliamps));
    reading
}

/// Days in Berlin with both changes of daylight saving time, three restarts a day, a clock that is wrong several times,
/// and an hour without readings.
#[test]
fn days_agree_with_the_integrated_power() {
    // Start in UTC, and the hours of the days.
    for (start, lengths) in [
        (1_774_652_400_000, [24, 23, 24]), // 2026-03-28
        (1_792_792_800_000, [24, 25, 24]), // 2026-10-24
    ] {
        let end = start + lengths.iter().sum::<u64>() * HOUR;
        let lost = start + 30 * HOUR..start + 31 * HOUR;
        let folder = Folder::new();
        let mut run = Run::start(&folder, Millis(start));
        for (number, time) in (0..).zip((start..end).step_by(usize::try_from(STEP).unwrap())) {
            let since = time - start;
            let wrong = match since / 60_000 {
                // Minutes: a month ahead, an hour back, and ten minutes ahead.
                0..2 => 30 * 24 * HOUR,
                700..800 => HOUR.wrapping_neg(),
                2300..2400 => 10 * 60_000,
                _ => 0,
            };
            if !lost.contains(&time) {
                run.read(time.wrapping_add(wrong), time, reading(current(time)));
            }
            if number % 10 == 9 {
                run.write();
            }
            if since % (8 * HOUR) == 7 * HOUR {
                run.write();
                run = Run::start(&folder, Millis(time));
            }
        }
        let mut midnight = start;
        let (first, _) = run.history.zone.day(Millis(start));
        let days = run.history.energy_days(&id("a"), first).unwrap();
        for (day, hours) in days.iter().zip(lengths) {
            let exact = integrate(midnight..midnight + hours * HOUR, &lost);
            midnight += hours * HOUR;
            let EnergyTotals { charged, discharged } = day.energy;
            for (energy, exact) in [(charged, exact.0), (discharged, exact.1)] {
                let counted = energy.milliwatt_hours().0 as f64 / 1000.0;
                let error = (counted / exact - 1.0).abs();
                println!("day {}: {counted:.1} of {exact:.1} Wh", day.number);
                assert!(error < 0.005, "day {}: {counted} of {exact} Wh", day.number);
            }
        }
        // The minutes of the wrong month are a day of their own.
        assert_eq!(days.len(), 4);
    }
}

#[test]
fn energy_that_could_not_be_written_is_added_later() {
    let folder = Folder::new();
    let day = |mwh| (id("a"), Day { number: 7, energy: totals(mwh, 2 * mwh) });
    let add = |file: &mut HistoryFile, mwh| {
        file.write(Batch { days: vec![day(mwh)], ..Batch::default() }, None, &[]);
    };
    add(&mut folder.file(), 5);
    let mut file = folder.file();
    fs::rename(folder.path(), folder.0.join("away")).unwrap();
    fs::create_dir(folder.path()).unwrap();
    add(&mut file, 10);
    add(&mut file, 20);
    assert_eq!(file.queue.days, [day(30)]);
    fs::remove_dir(folder.path()).unwrap();
    fs::rename(folder.0.join("away"), folder.path()).unwrap();
    add(&mut file, 40);
    let days = Run::start(&folder, NOW).history.energy_days(&id("a"), 0).unwrap();
    assert_eq!(days, [day(75).1]);
}

fn alarms(run: &Run) -> Vec<(u64, Option<u64>)> {
    let alarms = run.history.alarms();
    alarms.iter().map(|record| (record.start.0, record.end.map(|end| end.0))).collect()
}

#[test]
fn alarm_ends_in_a_later_run() {
    let folder = Folder::new();
    let mut run = Run::start(&folder, NOW);
    let with_alarm = |active| {
        let mut reading = reading(-7_000);
        reading.alarms.note(Alarm::CellOvervoltage, active);
        reading
    };
    run.read(1000, 1000, with_alarm(false));
    run.read(2000, 2000, with_alarm(true));
    run.read(3000, 3000, with_alarm(true));
    assert_eq!(alarms(&run), [(2000, None)]);
    run.write();
    let mut run = Run::start(&folder, NOW);
    assert_eq!(alarms(&run), [(2000, None)]);
    run.read(9000, 9000, with_alarm(true));
    run.read(10_000, 10_000, reading(0));
    assert_eq!(alarms(&run), [(2000, None)], "the reading does not cover it");
    run.read(11_000, 11_000, with_alarm(false));
    run.read(12_000, 12_000, with_alarm(true));
    run.write();
    let run = Run::start(&folder, NOW);
    assert_eq!(alarms(&run), [(12_000, None), (2000, Some(11_000))]);
    let details = &run.history.alarms()[1].details;
    let details: serde_json::Value = serde_json::from_str(details).unwrap();
    assert_eq!(details["name"], "cell_overvoltage");
    assert_eq!(details["values"], serde_json::json!({"pack_voltage": 50.0, "pack_current": -7.0}));
}

#[test]
fn invalid_days_and_alarms_are_ignored() {
    let folder = Folder::new();
    drop(Run::start(&folder, NOW));
    let connection = Connection::open(folder.path()).unwrap();
    let insert = "INSERT INTO days VALUES (-1, 'a', 1, 1), (3, 'a', -1, 1), (4, '/', 1, 1), (5, 'a', 8, 9);
        INSERT INTO alarms VALUES (1, 'a', 'x', NULL, 'no JSON'), (2, 'a', 'y', 3, '[]'), (4, 'a', 'z', 5, '{}')";
    connection.execute_batch(insert).unwrap();
    let run = Run::start(&folder, NOW);
    assert_eq!(run.file.last_error, None);
    let days = run.history.energy_days(&id("a"), 0).unwrap();
    assert_eq!(days, [Day { number: 5, energy: totals(8, 9) }]);
    assert_eq!(alarms(&run), [(4, Some(5))]);
}

/// The limit of the alarms, and six years of four batteries.
#[test]
fn years_take_little_space() {
    let folder = Folder::new();
    let mut file = folder.file();
    for number in 20_000..20_000 + u32::from(MAX_DAYS) + 10 {
        let days = ["rack_1", "rack_2", "rack_3", "bank"]
            .map(|name| (id(name), Day { number, energy: totals(12_345_678, 11_234_567) }));
        file.write(Batch { days: days.to_vec(), ..Batch::default() }, None, &[]);
    }
    let connection = Connection::open(folder.path()).unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let size = fs::metadata(folder.path()).unwrap().len() / (4 * u64::from(MAX_DAYS));
    println!("{size} bytes a day and battery");
    assert!(size < 60, "{size} bytes");
    let history = History::new(&Board::new([Profile::sample("bank")]), SPAN);
    file.load(&history, NOW);
    let days = history.energy_days(&id("bank"), 0).unwrap();
    assert_eq!((days.len(), days[0].number), (MAX_DAYS.into(), 20_010));
}
