//! A capture of a session in which much goes wrong replays to the same readings and errors.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::PathBuf;
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
use bms_reader::sim::{BRANDS, Bus, Faults, SimBrand};
use bms_reader::transport::Endpoint;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const ATTEMPTS: u64 = 12;

fn folder(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_file(&path);
    path
}

fn replay(file: &std::path::Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bms-reader"));
    command.arg("replay").arg(file).output().unwrap()
}

fn faults() -> Faults {
    // A console is asked many questions in one read, and one failure fails it.
    let often = |fault| Rule { fault, frequency: Frequency::Probability(60_000), address: None };
    Faults::new(vec![
        often(Fault::Noise),
        often(Fault::Checksum),
        often(Fault::Cut),
        often(Fault::Silence),
        often(Fault::Refuse(4)),
    ])
}

/// Reads a simulated battery of this brand and returns the `raw` of every attempt.
async fn session(brand: &'static SimBrand, file: &std::path::Path) -> Vec<Value> {
    let stop = CancellationToken::new();
    let address = *brand.addresses.start();
    let bus = Bus::with_batteries(brand, &[address], 7, faults());
    let port = memory("simulated", SimBus::new(bus, 600.0, None), stop.clone());
    let id = DeviceId::new(&brand.name.replace(':', "-")).unwrap();
    let member = LineMember {
        id: id.clone(),
        driver: find(brand.driver()),
        options: Options {
            address,
            timeout: Duration::from_millis(60),
            // What sends by itself does so over Bluetooth.
            medium: if brand.stream.is_some() { Medium::Ble } else { Medium::Serial },
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
        controls: Vec::new(),
    }]);
    let (_commands, mut inboxes) = CommandBus::new(&[vec![id.clone()]]);
    let (recorder, writer) = Recorder::open(file).unwrap();
    let line = Line {
        endpoint: Endpoint::Memory(port),
        bauds: vec![9600],
        members: vec![member],
        recorder: Some(recorder),
        ble: None,
    };
    let mut news = board.subscribe(&id).unwrap();
    let task = tokio::spawn(run_line(line, board.clone(), inboxes.remove(0), stop.clone()));
    let mut seen = Vec::new();
    while seen.len() < usize::try_from(ATTEMPTS).unwrap() {
        news.changed().await.unwrap();
        let state = news.borrow_and_update().clone();
        if state.attempt.is_some() {
            seen.push(as_played(raw(&state)));
        }
    }
    stop.cancel();
    task.await.unwrap();
    writer.await.unwrap();
    seen
}

/// Without what follows from more than the conversation.
fn as_played(mut raw: Value) -> Value {
    if let Some(status) = raw["status"].as_object_mut() {
        status.remove("alarms");
        let cells = status["cell_info"].as_object_mut().unwrap();
        for key in ["energy_charged", "energy_discharged", "time_to_full", "time_to_empty"] {
            cells.remove(key);
        }
    }
    raw
}

/// One session of a brand that replays to what it was; the number of its errors.
async fn replays(brand: &'static SimBrand) -> usize {
    let file = folder(&format!("{}.jsonl", brand.name));
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

/// All at once: most of a session is waiting for answers that never come.
#[tokio::test]
async fn a_faulty_session_replays_to_the_same_readings_and_errors() {
    let errors: usize = join_all(BRANDS.iter().map(|brand| replays(brand))).await.into_iter().sum();
    assert!(errors > BRANDS.len(), "{errors} errors are too few to show anything");
}

/// A capture that a user sends in is a test as soon as it lies in this folder.
#[test]
fn every_capture_that_was_kept_replays_as_it_was() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/captures");
    let files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!files.is_empty());
    for file in files {
        let output = replay(&file);
        assert!(output.status.success(), "{}: {output:?}", file.display());
        assert!(!output.stdout.is_empty(), "{} holds no attempt", file.display());
    }
}

/// A replay that could not fail would prove nothing.
#[tokio::test]
async fn a_forged_capture_is_found_out() {
    let file = folder("forged.jsonl");
    session(BRANDS[0], &file).await;
    let text = fs::read_to_string(&file).unwrap();
    let mut forged = false;
    let lines: Vec<String> = text
        .lines()
        .map(|line| {
            let mut entry: Entry = serde_json::from_str(line).unwrap();
            if let Event::Attempt { raw } = &mut entry.event
                && !forged
                && raw["error"].is_null()
            {
                raw["status"]["cell_info"]["battery_soc"] = Value::from(1.25);
                forged = true;
            }
            serde_json::to_string(&entry).unwrap()
        })
        .collect();
    assert!(forged, "no good attempt");
    fs::write(&file, lines.join("\n")).unwrap();
    let output = replay(&file);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("1 of the attempts"), "{output:?}");

    fs::write(&file, "{\"at\": 1}\n").unwrap();
    let output = replay(&file);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("line 1"), "{output:?}");
}

/// As after a change of `timeout_s`.
#[tokio::test]
async fn a_driver_that_is_made_anew_leaves_the_last_reading() {
    let file = folder("renewed.jsonl");
    session(BRANDS[0], &file).await;
    let text = fs::read_to_string(&file).unwrap();
    let mut entries: Vec<Entry> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let good =
        |entry: &Entry| matches!(&entry.event, Event::Attempt { raw } if raw["error"].is_null());
    entries.truncate(entries.iter().rposition(good).expect("a good attempt") + 1);
    let last = entries.last().unwrap().clone();
    let Event::Attempt { mut raw } = last.event.clone() else { panic!("{last:?}") };
    raw["got"] = json!({"device_info": false, "cell_info": false, "settings": false});
    raw["error"] = json!({"type": "disconnected", "message": "it went away", "hint": "wait"});
    let renewed = [
        entries[0].event.clone(),
        Event::Start { kind: CycleKind::Read },
        Event::Broken,
        Event::Attempt { raw },
    ];
    entries.extend(renewed.map(|event| Entry { event, ..last.clone() }));
    let lines: Vec<_> = entries.iter().map(|it| serde_json::to_string(it).unwrap()).collect();
    fs::write(&file, lines.join("\n")).unwrap();
    let output = replay(&file);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
