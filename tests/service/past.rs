//! What the history remembers over a restart, and over a kill.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value as Json;

use crate::mosquitto::PATIENCE;
use crate::rig::{Packs, Reader};

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
