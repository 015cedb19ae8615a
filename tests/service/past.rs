//! What the history remembers over a restart, and over a kill.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value as Json;

use crate::mosquitto::{Mosquitto, PATIENCE, free_port};
use crate::rig::{Packs, Reader, borrowed, seed_environment};

const PATH: &str = "/api/devices/bms/history?hours=1&keys=soc&step=1";

/// A file name that nobody has used.
struct File(String);

impl File {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("bms-reader-{name}-{}.db", std::process::id()));
        let file = File(path.display().to_string());
        file.remove();
        file
    }

    fn remove(&self) {
        for end in ["", "-wal", "-shm", ".damaged", ".damaged-wal", ".damaged-shm"] {
            let _ = std::fs::remove_file(format!("{}{end}", self.0));
        }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.remove();
    }
}

fn start(packs: &Packs, file: &File) -> Reader {
    Reader::start(&[("BMS_PORT", &packs.port), ("READ_INTERVAL", "1"), ("HISTORY_FILE", &file.0)])
}

/// Times of the points, oldest first.
fn times(reader: &Reader) -> Vec<f64> {
    let Some((200, answer)) = reader.get(PATH) else { return Vec::new() };
    answer["times"].as_array().unwrap().iter().filter_map(Json::as_f64).collect()
}

/// The larger of a battery's two energy counters. Its packs stand still, so that is the one that
/// grows.
fn energy(reader: &Reader, id: &str) -> Option<f64> {
    let (_, state) = reader.get(&format!("/api/devices/{id}"))?;
    let flows = ["energy_charged", "energy_discharged"];
    let values = flows.map(|key| state["status"]["cell_info"][key].as_f64());
    values.into_iter().flatten().reduce(f64::max)
}

fn wait_energy(reader: &Reader, id: &str, least: f64) -> f64 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match energy(reader, id) {
            Some(kwh) if kwh > least => return kwh,
            found => assert!(Instant::now() < deadline, "{found:?}; log:\n{}", reader.log()),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

#[track_caller]
fn wait_points(reader: &Reader, limit: Duration, wanted: impl Fn(&[f64]) -> bool) -> Vec<f64> {
    let deadline = Instant::now() + limit;
    loop {
        let times = times(reader);
        if wanted(&times) {
            return times;
        }
        assert!(Instant::now() < deadline, "{times:?}; log:\n{}", reader.log());
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_stop_writes_what_is_known_and_a_damaged_file_is_set_aside() {
    let file = File::new("stopped");
    let packs = Packs::on_terminal(&[1]);
    let mut reader = start(&packs, &file);
    let before = *wait_points(&reader, PATIENCE, |times| !times.is_empty()).last().unwrap();
    reader.signal("-TERM");
    assert!(reader.end_within(Duration::from_secs(2)).is_some_and(|status| status.success()));

    let started = now();
    let mut reader = start(&packs, &file);
    let is_old = |time: &f64| *time >= before && *time < started;
    wait_points(&reader, PATIENCE, |times| times.first().is_some_and(is_old));
    reader.kill();

    std::fs::write(&file.0, "the card is dying".repeat(1000)).unwrap();
    let reader = start(&packs, &file);
    reader.wait_log(&format!(
        "is damaged (file is not a database); it is kept as {}.damaged",
        file.0
    ));
    wait_points(&reader, PATIENCE, |times| times.first().is_some_and(|time| *time > started));
    assert!(std::fs::read_to_string(format!("{}.damaged", file.0)).unwrap().contains("dying"));
}

#[test]
fn a_kill_costs_no_more_than_the_last_minute() {
    let file = File::new("killed");
    let packs = Packs::on_terminal(&[1]);
    let mut reader = start(&packs, &file);
    let first = wait_points(&reader, PATIENCE, |times| !times.is_empty())[0];
    // The clock's next minute ends the one of the first reading.
    let over = (first / 60.0).floor() * 60.0 + 60.0;
    wait_points(&reader, Duration::from_secs(120), |times| {
        times.last().is_some_and(|time| *time > over + 3.0)
    });
    reader.kill();
    let killed = now();
    let reader = start(&packs, &file);
    let times = wait_points(&reader, PATIENCE, |times| times.len() > 1);
    let last = times.iter().filter(|time| **time < killed).copied().fold(0.0, f64::max);
    assert!(last >= first && killed - last < 62.0, "{first} {killed}: {times:?}");
}

#[test]
fn energy_goes_on_from_the_file_where_the_broker_keeps_nothing() {
    const ID: &str = "bms_lifepo4_01";
    const GOES_ON: &str = "as the history file kept them";
    let file = File::new("energy");
    let packs = Packs::on_terminal(&[1]);
    let variables = |broker: &Mosquitto| {
        let mut variables = seed_environment(&packs.port, broker);
        variables.push(("HISTORY_FILE", file.0.clone()));
        variables
    };
    let broker = Mosquitto::start();
    let mut reader = Reader::start(&borrowed(&variables(&broker)));
    let kept = wait_energy(&reader, ID, 0.002);
    // What was known when a minute ended is in the file soon after it; a write takes a moment.
    let over = UNIX_EPOCH + Duration::from_secs_f64((now() / 60.0).floor() * 60.0 + 60.0);
    let written = || {
        let changed = std::fs::metadata(format!("{}-wal", file.0)).and_then(|it| it.modified());
        let rests = |at: SystemTime| at.elapsed().is_ok_and(|age| age > Duration::from_secs(2));
        changed.is_ok_and(|changed| changed > over && rests(changed))
    };
    let deadline = Instant::now() + Duration::from_secs(120);
    while !written() {
        assert!(Instant::now() < deadline, "nothing was written; log:\n{}", reader.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    reader.kill();
    drop(broker);

    let empty = Mosquitto::start();
    let ear = empty.subscribe();
    let mut reader = Reader::start(&borrowed(&variables(&empty)));
    wait_energy(&reader, ID, kept);
    let least = |key| {
        let first = ear.wait("a counter", |it| it.topic == format!("bms/{ID}/{key}"));
        first.payload.parse::<f64>().expect("a number")
    };
    let first = least("energy_charged").max(least("energy_discharged"));
    assert!(first >= kept, "{first} and {kept}");
    assert_eq!(reader.logged(GOES_ON), 1, "{}", reader.log());
    assert_eq!(reader.logged("start at 0"), 0, "{}", reader.log());
    reader.kill();

    // The broker is away; of two values for a name the later one counts.
    let mut variables = variables(&empty);
    variables.push(("MQTT_PORT", free_port().to_string()));
    let reader = Reader::start(&borrowed(&variables));
    wait_energy(&reader, ID, kept);
    assert_eq!(reader.logged(GOES_ON), 1, "{}", reader.log());
}
