//! The history file over a restart and over a kill.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value as Json;

use crate::fixture::{Packs, Service, borrowed, legacy_environment};
use crate::mosquitto::{Mosquitto, WAIT_LIMIT, free_port};

const PATH: &str = "/api/devices/bms/history?hours=1&keys=soc&step=1";

/// A new file name, removed at the end.
struct HistoryFile(String);

impl HistoryFile {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("bms-reader-{name}-{}.db", std::process::id()));
        let file = HistoryFile(path.display().to_string());
        file.remove();
        file
    }

    fn remove(&self) {
        for end in ["", "-wal", "-shm", ".damaged", ".damaged-wal", ".damaged-shm"] {
            let _ = std::fs::remove_file(format!("{}{end}", self.0));
        }
    }
}

impl Drop for HistoryFile {
    fn drop(&mut self) {
        self.remove();
    }
}

fn start(packs: &Packs, file: &HistoryFile) -> Service {
    Service::start(&[("BMS_PORT", &packs.port), ("READ_INTERVAL", "1"), ("HISTORY_FILE", &file.0)])
}

/// Times of the points, oldest first.
fn times(service: &Service) -> Vec<f64> {
    let Some((200, answer)) = service.get(PATH) else { return Vec::new() };
    answer["times"].as_array().unwrap().iter().filter_map(Json::as_f64).collect()
}

/// The larger of the two energy counters, which is the one that grows.
fn energy(service: &Service, id: &str) -> Option<f64> {
    let (_, state) = service.get(&format!("/api/devices/{id}"))?;
    let flows = ["energy_charged", "energy_discharged"];
    let values = flows.map(|key| state["status"]["cell_info"][key].as_f64());
    values.into_iter().flatten().reduce(f64::max)
}

fn wait_energy(service: &Service, id: &str, least: f64) -> f64 {
    let deadline = Instant::now() + WAIT_LIMIT;
    loop {
        match energy(service, id) {
            Some(kwh) if kwh > least => return kwh,
            found => assert!(Instant::now() < deadline, "{found:?}; log:\n{}", service.log()),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

#[track_caller]
fn wait_points(service: &Service, limit: Duration, wanted: impl Fn(&[f64]) -> bool) -> Vec<f64> {
    let deadline = Instant::now() + limit;
    loop {
        let times = times(service);
        if wanted(&times) {
            return times;
        }
        assert!(Instant::now() < deadline, "{times:?}; log:\n{}", service.log());
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn history_survives_a_stop() {
    let file = HistoryFile::new("stopped");
    let packs = Packs::on_terminal(&[1]);
    let mut service = start(&packs, &file);
    let before = *wait_points(&service, WAIT_LIMIT, |times| !times.is_empty()).last().unwrap();
    service.signal("-TERM");
    assert!(service.wait_for_exit().success());

    // Readings within the two seconds of a point are one point.
    while now() < before + 3.0 {
        std::thread::sleep(Duration::from_millis(50));
    }
    let started = now();
    let service = start(&packs, &file);
    let is_old = |time: &f64| *time >= before && *time < started;
    wait_points(&service, WAIT_LIMIT, |times| times.first().is_some_and(is_old));
}

#[test]
fn damaged_history_file_is_set_aside() {
    let file = HistoryFile::new("damaged");
    let packs = Packs::on_terminal(&[1]);
    std::fs::write(&file.0, "the card is dying".repeat(1000)).unwrap();
    let started = now();
    let service = start(&packs, &file);
    let damaged = format!("{}.damaged", file.0);
    service.wait_for_log(&format!("is damaged (file is not a database); renamed to {damaged}"));
    wait_points(&service, WAIT_LIMIT, |times| times.first().is_some_and(|time| *time > started));
    assert!(std::fs::read_to_string(damaged).unwrap().contains("dying"));
}

#[test]
fn first_minute_survives_a_kill() {
    let file = HistoryFile::new("killed");
    let packs = Packs::on_terminal(&[1]);
    let mut service = start(&packs, &file);
    let first = wait_points(&service, WAIT_LIMIT, |times| !times.is_empty())[0];
    // The minute of the first reading ends with that of the clock.
    let over = (first / 60.0).floor() * 60.0 + 60.0;
    wait_points(&service, Duration::from_secs(120), |times| {
        times.last().is_some_and(|time| *time > over + 3.0)
    });
    service.kill();
    let killed = now();
    let service = start(&packs, &file);
    let times = wait_points(&service, WAIT_LIMIT, |times| times.len() > 1);
    let last = times.iter().filter(|time| **time < killed).copied().fold(0.0, f64::max);
    assert!(last >= first && killed - last < 62.0, "{first} {killed}: {times:?}");
}

#[test]
fn energy_counters_continue_from_the_history_file() {
    const ID: &str = "bms_lifepo4_01";
    const CONTINUES: &str = "(kept by the history file)";
    let file = HistoryFile::new("energy");
    let packs = Packs::on_terminal(&[1]);
    let variables = |broker: &Mosquitto| {
        let mut variables = legacy_environment(&packs.port, broker);
        variables.push(("HISTORY_FILE", file.0.clone()));
        variables
    };
    let broker = Mosquitto::start();
    let mut service = Service::start(&borrowed(&variables(&broker)));
    let kept = wait_energy(&service, ID, 0.002);
    service.signal("-TERM");
    assert!(service.wait_for_exit().success());
    drop(broker);

    let empty = Mosquitto::start();
    let mqtt = empty.subscribe();
    let mut service = Service::start(&borrowed(&variables(&empty)));
    wait_energy(&service, ID, kept);
    let least = |key| {
        let first = mqtt.wait_on(&format!("bms/{ID}/{key}"));
        first.payload.parse::<f64>().expect("a number")
    };
    let first = least("energy_charged").max(least("energy_discharged"));
    assert!(first >= kept, "{first} and {kept}");
    service.assert_logged(1, CONTINUES);
    assert_eq!(service.logged("start at 0"), 0, "{}", service.log());
    service.kill();

    // Without a broker. The later one of two values for a variable counts.
    let mut variables = variables(&empty);
    variables.push(("MQTT_PORT", free_port().to_string()));
    let service = Service::start(&borrowed(&variables));
    wait_energy(&service, ID, kept);
    service.assert_logged(1, CONTINUES);
}
