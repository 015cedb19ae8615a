//! A capture replays to the readings and errors of its session.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use bms_reader::board::Board;
use bms_reader::capture::{Entry, Event, Recorder};
use bms_reader::command::CommandBus;
use bms_reader::model::{AlarmThresholds, DeviceId, Profile};
use bms_reader::poll::{Line, LineMember, run_line};
use bms_reader::protocol::driver::Medium;
use bms_reader::protocol::{CycleKind, Options, find};
use bms_reader::raw::raw;
use bms_reader::sim::faults::{Fault, Frequency, Rule};
use bms_reader::sim::serve::{SimBus, memory};
use bms_reader::sim::{Bus, Faults, SimBrand, SimProtocol, brands};
use bms_reader::transport::LinkConfig;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const ATTEMPTS: usize = 12;

fn new_file(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_file(&path);
    path
}

fn replay(file: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bms-reader"));
    command.arg("replay").arg(file).output().unwrap()
}

fn faults() -> Faults {
    // A read of a console takes many requests, and one failure fails it.
    let sometimes =
        |fault| Rule { fault, frequency: Frequency::Probability(60_000), address: None };
    Faults::new(vec![
        sometimes(Fault::Noise),
        sometimes(Fault::Checksum),
        sometimes(Fault::Cut),
        sometimes(Fault::Silence),
        sometimes(Fault::Refuse(4)),
    ])
}

/// Reads a simulated battery of this brand and returns the `raw` of every attempt.
async fn session(brand: &'static SimBrand, file: &Path) -> Vec<Value> {
    let stop = CancellationToken::new();
    let address = *brand.addresses.start();
    let bus = Bus::with_batteries(brand, &[address], 7, faults());
    let port = memory("simulated", SimBus::new(bus, 600.0, None), stop.clone());
    let id = DeviceId::new(&brand.name.replace(':', "-")).unwrap();
    let member = LineMember {
        id: id.clone(),
        driver: find(brand.driver()),
        search: None,
        options: Options {
            address,
            timeout: Duration::from_millis(60),
            // Streams are sent over Bluetooth.
            medium: match brand.protocol {
                SimProtocol::Profile(_) if brand.notification.is_some() => Medium::Ble,
                _ if brand.stream.is_some() => Medium::Ble,
                _ => Medium::Serial,
            },
            variant: brand.variant().map(str::to_owned),
            ..Options::default()
        },
        interval: Duration::from_millis(10),
        control: false,
        thresholds: AlarmThresholds::default(),
    };
    let board = Board::new([Profile {
        id: id.clone(),
        name: brand.name.into(),
        brand: brand.driver().into(),
        title: brand.name.into(),
        port: Some("simulated".into()),
        address: Some(address.to_string()),
        adapter: None,
        interval_ms: 10,
        timeout_ms: 1000,
        scan_timeout_ms: None,
        controls: Vec::new(),
    }]);
    let (_commands, mut inboxes) = CommandBus::new(&[vec![id.clone()]]);
    let (recorder, writer) = Recorder::open(file).unwrap();
    let line = Line {
        endpoint: LinkConfig::Memory(port),
        bauds: vec![9600],
        members: vec![member],
        recorder: Some(recorder),
        ble: None,
        probes_first: false,
        speed: 1.0,
    };
    let mut updates = board.subscribe(&id).unwrap();
    let task = tokio::spawn(run_line(line, board.clone(), inboxes.remove(0), stop.clone().into()));
    let mut attempts = Vec::new();
    while attempts.len() < ATTEMPTS {
        updates.changed().await.unwrap();
        let state = updates.borrow_and_update().clone();
        if state.attempt.is_some() {
            attempts.push(from_traffic(raw(&state)));
        }
    }
    stop.cancel();
    task.await.unwrap();
    writer.await.unwrap();
    attempts
}

/// Without values that depend on more than the traffic.
fn from_traffic(mut raw: Value) -> Value {
    if let Some(status) = raw["status"].as_object_mut() {
        status.remove("alarms");
        let cells = status["cell_info"].as_object_mut().unwrap();
        for key in ["energy_charged", "energy_discharged", "time_to_full", "time_to_empty"] {
            cells.remove(key);
        }
    }
    raw
}

/// Captures a session, compares it with its replay and returns the number of its errors.
async fn capture_and_replay(brand: &'static SimBrand) -> usize {
    let file = new_file(&format!("{}.jsonl", brand.name));
    let live = session(brand, &file).await;
    let errors = live.iter().filter(|raw| !raw["error"].is_null()).count();
    assert!(errors < live.len(), "{}: {errors} errors", brand.name);

    let output = tokio::task::spawn_blocking(move || replay(&file)).await.unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", brand.name);
    let played: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    // The line may have begun one more attempt before the stop.
    assert!(played.len() >= live.len(), "{}: {} attempts", brand.name, played.len());
    for (played, live) in played.iter().zip(&live) {
        assert_eq!(played, live, "{}", brand.name);
    }
    errors
}

/// All brands at once: a session mostly waits for answers that never come.
#[tokio::test]
async fn faulty_session_replays_to_the_same_attempts() {
    // A battery that only sends unasked does so once a second, which is too slow here.
    let is_slow = |brand: &&&SimBrand| {
        matches!(brand.protocol, SimProtocol::Profile(_)) && brand.stream.is_some()
    };
    let brands: Vec<_> = brands().iter().filter(|brand| !is_slow(brand)).collect();
    let sessions = brands.iter().map(|brand| capture_and_replay(brand));
    let errors: usize = join_all(sessions).await.into_iter().sum();
    assert!(errors > brands.len(), "{errors} errors are too few to show anything");
}

/// A capture from a bug report becomes a test in this folder.
#[test]
fn stored_captures_replay_unchanged() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/captures");
    let files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!files.is_empty());
    for file in files {
        let output = replay(&file);
        assert!(output.status.success(), "{}: {output:?}", file.display());
        assert!(!output.stdout.is_empty(), "{} holds no attempt", file.display());
    }
}

fn read_entries(file: &Path) -> Vec<Entry> {
    let text = fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn write_entries(file: &Path, entries: &[Entry]) {
    let lines: Vec<_> = entries.iter().map(|it| serde_json::to_string(it).unwrap()).collect();
    fs::write(file, lines.join("\n")).unwrap();
}

fn is_good_attempt(entry: &Entry) -> bool {
    matches!(&entry.event, Event::Attempt { raw } if raw["error"].is_null())
}

/// It contains serial numbers, and frames whose secrets no driver knows.
#[tokio::test]
async fn capture_is_readable_by_its_owner_only() {
    let file = new_file("private.jsonl");
    drop(Recorder::open(&file).unwrap());
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn forged_attempt_fails_the_replay() {
    let file = new_file("forged.jsonl");
    session(brands()[0], &file).await;
    let mut entries = read_entries(&file);
    let good = entries.iter_mut().find(|entry| is_good_attempt(entry)).expect("a good attempt");
    let Event::Attempt { raw } = &mut good.event else { unreachable!() };
    raw["status"]["cell_info"]["battery_soc"] = Value::from(1.25);
    write_entries(&file, &entries);
    let output = replay(&file);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("1 attempts ended differently"),
        "{output:?}"
    );
}

#[test]
fn malformed_line_is_named() {
    let file = new_file("malformed.jsonl");
    fs::write(&file, "{\"at\": 1}\n").unwrap();
    let output = replay(&file);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("line 1"), "{output:?}");
}

/// A change of `timeout_s` replaces the driver in the middle of a session.
#[tokio::test]
async fn replaced_driver_keeps_the_last_reading() {
    let file = new_file("replaced.jsonl");
    session(brands()[0], &file).await;
    let mut entries = read_entries(&file);
    entries.truncate(entries.iter().rposition(is_good_attempt).expect("a good attempt") + 1);
    let last = entries.last().unwrap().clone();
    let Event::Attempt { mut raw } = last.event.clone() else { unreachable!() };
    raw["got"] = json!({"device_info": false, "cell_info": false, "settings": false});
    raw["error"] = json!({"type": "disconnected", "message": "it went away", "hint": "wait"});
    let replaced = [
        entries[0].event.clone(),
        Event::Start { kind: CycleKind::Read },
        Event::Broken,
        Event::Attempt { raw },
    ];
    entries.extend(replaced.map(|event| Entry { event, ..last.clone() }));
    write_entries(&file, &entries);
    let output = replay(&file);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
