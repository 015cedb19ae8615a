//! A private system bus for each test with a fake bluetoothd on it, and a check of what is left over.
//!
//! libdbus takes the address of the bus from the environment, so each test runs in a process of its
//! own: the test function starts the bus and then the test binary again.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub use crate::bluez::TEST_TIMEOUT;
use crate::bluez::{BUS_ADDRESS, Bus, Events, FakeBluez, KillOnDrop, POLL, python};

/// For a whole test; the longest is a soak test of 2,000 cycles.
const PROCESS_TIMEOUT: Duration = Duration::from_secs(1800);

/// Set in the process of a test: its folder.
const FOLDER: &str = "BMS_READER_BLE_TEST";
/// In that folder: the process id of the bus.
const BUS_ID: &str = "bus.pid";

/// Events in the message of a failed test.
const NEWEST: usize = 100;

/// File in which `./test` collects the tests that found no Python with dbus-fast.
const SKIPPED: &str = "BMS_READER_BLE_SKIPPED";

/// The bus of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BusKind {
    /// With the fake bluetoothd.
    Complete,
    NoBluez,
    /// Its policy denies access to bluetoothd.
    Denied,
    Missing,
}

/// Runs `test` against a fake bluetoothd with these devices.
pub fn with_fake<F: AsyncFnOnce(&mut Rig)>(spec: Value, test: F) {
    with_bus(BusKind::Complete, spec, test);
}

pub fn with_bus<F: AsyncFnOnce(&mut Rig)>(kind: BusKind, spec: Value, test: F) {
    with_bus_as(&test_name::<F>(), kind, spec, test);
}

/// `name`: that of the test function in its crate.
pub fn with_bus_as<F: AsyncFnOnce(&mut Rig)>(name: &str, kind: BusKind, spec: Value, test: F) {
    if std::env::var_os(FOLDER).is_none() {
        return run_in_own_process(kind, name);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut rig = Rig::start(kind, &spec);
        test(&mut rig).await;
        rig.assert_clean().await;
    });
}

/// The closure `ble::failures::a_test::{{closure}}` belongs to the test `failures::a_test`.
fn test_name<F>() -> String {
    let path = std::any::type_name::<F>().replace("::{{closure}}", "");
    path.split_once("::").expect("a path").1.to_owned()
}

fn run_in_own_process(kind: BusKind, name: &str) {
    static COUNT: AtomicU32 = AtomicU32::new(0);

    if python().is_none() {
        let file = std::env::var_os(SKIPPED)
            .expect("no Python with dbus-fast: ./test installs one in ~/.cache/bms-reader/bluez");
        let mut file = fs::File::options().append(true).create(true).open(file).unwrap();
        writeln!(file, "{name}").unwrap();
        eprintln!("SKIPPED {name}: there is no Python with dbus-fast");
        return;
    }
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("bms-ble-{}-{number}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let policy = match kind {
        BusKind::Denied => "<deny send_destination=\"org.bluez\"/>",
        _ => "",
    };
    let _bus = (kind != BusKind::Missing).then(|| {
        let bus = Bus::start(&folder, policy);
        fs::write(folder.join(BUS_ID), bus.id().to_string()).unwrap();
        bus
    });
    let log = folder.join("log");
    let out = fs::File::create(&log).unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(FOLDER, &folder)
        .env("RUST_BACKTRACE", "0")
        .env(BUS_ADDRESS, Bus::address(&folder))
        .stdout(out.try_clone().unwrap())
        .stderr(out)
        .spawn()
        .unwrap();
    let status = wait_exit(KillOnDrop(child), PROCESS_TIMEOUT);
    let output = fs::read_to_string(&log).unwrap();
    let passed = status.is_some_and(|status| status.success()) && output.contains("1 passed");
    for line in output.lines().filter(|line| line.starts_with("measured")) {
        println!("{line}");
    }
    assert!(passed, "{name} ended with {status:?}:\n{output}");
    fs::remove_dir_all(folder).unwrap();
}

fn wait_exit(mut child: KillOnDrop, limit: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + limit;
    while Instant::now() < end {
        if let Some(status) = child.0.try_wait().unwrap() {
            return Some(status);
        }
        thread::sleep(POLL);
    }
    None
}

/// The fake bluetoothd and the events it has reported.
pub struct Rig {
    folder: PathBuf,
    spec: PathBuf,
    fake: Option<FakeBluez>,
    bus: Option<Bus>,
    events: Events,
    /// The test leaves a scan running that BlueZ does not end.
    pub scan_may_remain: bool,
}

impl Rig {
    fn start(kind: BusKind, spec: &Value) -> Rig {
        let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
        let path = folder.join("spec.json");
        fs::write(&path, spec.to_string()).unwrap();
        let events = Arc::default();
        let mut rig =
            Rig { folder, spec: path, fake: None, bus: None, events, scan_may_remain: false };
        if matches!(kind, BusKind::Complete | BusKind::Denied) {
            rig.start_fake();
        }
        rig
    }

    fn start_fake(&mut self) {
        self.fake = Some(FakeBluez::start(&self.folder, &self.spec, &self.events, |_| true));
    }

    /// Kills the bus, and with it the fake.
    pub fn kill_bus(&mut self) {
        self.fake = None;
        if self.bus.take().is_none() {
            // The first bus belongs to the process that started this one.
            let id = fs::read_to_string(self.folder.join(BUS_ID)).unwrap();
            assert!(Command::new("kill").args(["-9", &id]).status().unwrap().success());
        }
    }

    /// Suspends or resumes the bus: connections to it stay open, but nothing is answered.
    pub fn suspend_bus(&self, suspend: bool) {
        let id = match &self.bus {
            Some(bus) => bus.id().to_string(),
            None => fs::read_to_string(self.folder.join(BUS_ID)).unwrap(),
        };
        let signal = if suspend { "-STOP" } else { "-CONT" };
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    pub fn restart_bus(&mut self) {
        self.bus = Some(Bus::start(&self.folder, ""));
        self.start_fake();
    }

    /// D-Bus path of the device with that address.
    pub fn device_path(address: &str) -> String {
        format!("/org/bluez/hci0/dev_{}", address.replace(':', "_"))
    }

    /// Sends a command to the fake and waits until it is done.
    pub async fn command(&mut self, command: Value) {
        let from = self.event_count();
        self.fake.as_mut().unwrap().send(&command);
        self.wait_for_event(from, |event| {
            assert_ne!(event["event"], "bad-command", "{event}");
            event["event"] == "done" && event["cmd"] == command["cmd"]
        })
        .await;
    }

    /// Applies a fault to the next `times` calls of a method.
    pub async fn fault(&mut self, method: &str, fault: Value, times: u32) {
        let mut command = json!({"cmd": "fault", "method": method, "times": times});
        for (key, value) in fault.as_object().unwrap() {
            command[key] = value.clone();
        }
        self.command(command).await;
    }

    /// All events that the fake has reported.
    pub fn events(&self) -> Vec<Value> {
        self.events.lock().unwrap().clone()
    }

    pub fn event_count(&self) -> usize {
        self.events.lock().unwrap().len()
    }

    /// For the message of a failed test.
    fn newest_events(&self) -> Vec<Value> {
        let events = self.events.lock().unwrap();
        events[events.len().saturating_sub(NEWEST)..].to_vec()
    }

    /// Drops the events, so that they do not pile up in a long test.
    pub fn clear_events(&self) {
        let overlap = |event: &Value| event["event"] == "overlap";
        self.events.lock().unwrap().retain(overlap);
    }

    /// All method calls in order.
    pub async fn calls(&mut self) -> Vec<String> {
        // Events are in order: with the reply to this command, all earlier ones have arrived.
        self.state().await;
        let events = self.events();
        let calls = events.iter().filter(|event| event["event"] == "call");
        calls.map(|event| event["method"].as_str().unwrap().to_owned()).collect()
    }

    pub async fn count(&mut self, method: &str) -> usize {
        self.calls().await.iter().filter(|call| *call == method).count()
    }

    /// Hex and type of all writes in order.
    pub async fn writes(&mut self) -> Vec<(String, String)> {
        self.state().await;
        let text = |event: &Value, key: &str| event[key].as_str().unwrap().to_owned();
        let events = self.events();
        let writes = events.iter().filter(|event| event["event"] == "write");
        writes.map(|event| (text(event, "hex"), text(event, "type"))).collect()
    }

    /// Waits for a matching event among those with an index of at least `from`.
    pub async fn wait_for_event(&self, from: usize, matches: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + TEST_TIMEOUT;
        loop {
            // Not on a copy: after a flood there are many.
            let found = self.events.lock().unwrap()[from..].iter().find(|it| matches(it)).cloned();
            if let Some(found) = found {
                return found;
            }
            assert!(Instant::now() < end, "no such event: {:#?}", self.newest_events());
            tokio::time::sleep(POLL).await;
        }
    }

    /// What clients of the fake hold at the moment.
    pub async fn state(&mut self) -> Value {
        let from = self.event_count();
        self.command(json!({"cmd": "state"})).await;
        self.wait_for_event(from, |event| event["event"] == "state").await
    }

    pub async fn wait_for_state(&mut self, matches: impl Fn(&Value) -> bool) {
        let end = Instant::now() + TEST_TIMEOUT;
        loop {
            let state = self.state().await;
            if matches(&state) {
                return;
            }
            assert!(Instant::now() < end, "{state:#}\nevents: {:#?}", self.newest_events());
            tokio::time::sleep(POLL).await;
        }
    }

    /// Everything is released, and the adapter never did two things at a time.
    pub async fn assert_clean(&mut self) {
        let overlap = self.events().into_iter().find(|event| event["event"] == "overlap");
        assert!(self.scan_may_remain || overlap.is_none(), "the adapter did two things at a time");
        self.assert_released().await;
    }

    /// Waits until clients hold no scan, agent, connection or subscription: some are released in the
    /// background.
    pub async fn assert_released(&mut self) {
        if self.fake.is_none() {
            return;
        }
        let scan_may_remain = self.scan_may_remain;
        self.wait_for_state(|state| {
            let none = json!([]);
            let device_is_released = |device: &Value| {
                let sessions = device["sessions"].as_object().unwrap();
                device["connected"] == false && sessions.values().all(|session| *session == none)
            };
            (state["scanners"] == none || scan_may_remain)
                && state["agents"] == none
                && state["devices"].as_object().unwrap().values().all(device_is_released)
        })
        .await;
    }
}
