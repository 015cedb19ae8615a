//! A system bus of its own for each test, a played bluetoothd on it, and a look at what is left.
//!
//! libdbus takes the address of the bus from the environment, so each test runs in a process of
//! its own: the test function starts the bus and then itself again.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Long enough that only a hang fails a test.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The longest is a soak of 2,000 cycles.
const WHOLE_TEST: Duration = Duration::from_secs(1800);
const SELF: &str = "BMS_READER_BLE_TEST";
const BUS: &str = "DBUS_SYSTEM_BUS_ADDRESS";

/// Where `./test` notes tests that had no Python with dbus-fast.
const SKIPPED: &str = "BMS_READER_BLE_SKIPPED";

/// Everybody may do everything, as far as `policy` does not say otherwise.
fn bus_config(folder: &Path, policy: &str) -> String {
    format!(
        "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\"
         \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">
         <busconfig><type>system</type><listen>unix:path={}/bus</listen><auth>EXTERNAL</auth>
         <policy context=\"default\"><allow own=\"*\"/><allow send_destination=\"*\" eavesdrop=\"true\"/>
         <allow eavesdrop=\"true\"/><allow user=\"*\"/>{policy}</policy></busconfig>",
        folder.display()
    )
}

/// A process that ends with the test.
struct Kept(Child);

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a bus in that folder and waits for its socket.
fn start_bus(folder: &Path) -> Kept {
    let _ = fs::remove_file(folder.join("bus"));
    let log = fs::File::create(folder.join("bus.log")).unwrap();
    let bus = Command::new("dbus-daemon")
        .arg(format!("--config-file={}/bus.conf", folder.display()))
        .args(["--nofork", "--nopidfile"])
        .stderr(log)
        .spawn()
        .expect("dbus-daemon is there (Debian package dbus-daemon)");
    let bus = Kept(bus);
    fs::write(folder.join("bus.pid"), bus.0.id().to_string()).unwrap();
    wait(|| folder.join("bus").exists());
    bus
}

fn wait(mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "it never came");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A Python that has dbus-fast; `./test` makes one. `None` when there is no dbus-daemon either.
fn python() -> Option<PathBuf> {
    Command::new("dbus-daemon").arg("--version").stdout(Stdio::null()).status().ok()?;
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))?;
    let python = cache.join("bms-reader/bluez/bin/python");
    python.exists().then_some(python)
}

/// How the bus of a test is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    /// As it should be, with a bluetoothd.
    Whole,
    /// Without a bluetoothd.
    Bare,
    /// Forbids this program's user to call bluetoothd.
    Forbidden,
    /// There is none.
    Missing,
}

/// Runs `body` against these devices, and afterwards looks for what was left over.
pub fn on_fake<F: AsyncFnOnce(&mut Rig)>(spec: Value, body: F) {
    on_bus(Bus::Whole, spec, body);
}

/// The same with a bus that may be broken.
pub fn on_bus<F: AsyncFnOnce(&mut Rig)>(kind: Bus, spec: Value, body: F) {
    if std::env::var_os(SELF).is_none() {
        return in_own_process(kind, test_name::<F>());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut rig = Rig::start(kind, &spec);
        body(&mut rig).await;
        rig.nothing_is_left().await;
    });
}

/// `ble::faults::a_test::{{closure}}` is a closure in the test of that name.
fn test_name<F>() -> String {
    let path = std::any::type_name::<F>().replace("::{{closure}}", "");
    path.split_once("::").expect("a path").1.to_owned()
}

fn in_own_process(kind: Bus, name: String) {
    if python().is_none() {
        let note = std::env::var_os(SKIPPED)
            .expect("a Python with dbus-fast: ./test makes one in ~/.cache/bms-reader/bluez");
        let mut file = fs::File::options().append(true).create(true).open(note).unwrap();
        writeln!(file, "{name}").unwrap();
        eprintln!("SKIPPED {name}: there is no Python with dbus-fast");
        return;
    }
    let folder = std::env::temp_dir().join(format!("bms-ble-{}-{}", std::process::id(), nonce()));
    fs::create_dir_all(&folder).unwrap();
    let deny = match kind {
        Bus::Forbidden => "<deny send_destination=\"org.bluez\"/>",
        _ => "",
    };
    fs::write(folder.join("bus.conf"), bus_config(&folder, deny)).unwrap();
    let _bus = (kind != Bus::Missing).then(|| start_bus(&folder));
    let log = folder.join("log");
    let out = fs::File::create(&log).unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args([&name, "--exact", "--nocapture"])
        .env(SELF, &folder)
        .env("RUST_BACKTRACE", "0")
        .env(BUS, format!("unix:path={}/bus", folder.display()))
        .stdout(out.try_clone().unwrap())
        .stderr(out)
        .spawn()
        .unwrap();
    let status = ends(Kept(child), WHOLE_TEST);
    let said = fs::read_to_string(&log).unwrap();
    let passed = status.is_some_and(|status| status.success()) && said.contains("1 passed");
    // What a test measured is for people to read, too.
    for line in said.lines().filter(|line| line.starts_with("measured")) {
        println!("{line}");
    }
    assert!(passed, "{name} ended with {status:?}:\n{said}");
    fs::remove_dir_all(folder).unwrap();
}

fn nonce() -> u32 {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

fn ends(mut child: Kept, limit: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + limit;
    while Instant::now() < end {
        if let Some(status) = child.0.try_wait().unwrap() {
            return Some(status);
        }
        thread::sleep(Duration::from_millis(5));
    }
    None
}

/// The played bluetoothd, and what it told.
pub struct Rig {
    folder: PathBuf,
    spec: PathBuf,
    fake: Option<Fake>,
    bus: Option<Kept>,
    events: Arc<Mutex<Vec<Value>>>,
    /// A scan that BlueZ does not end goes on beside everything else.
    pub scan_goes_on: bool,
}

struct Fake {
    _process: Kept,
    orders: ChildStdin,
}

impl Rig {
    fn start(kind: Bus, spec: &Value) -> Rig {
        let folder = PathBuf::from(std::env::var_os(SELF).unwrap());
        let path = folder.join("spec.json");
        fs::write(&path, spec.to_string()).unwrap();
        let events = Arc::default();
        let mut rig =
            Rig { folder, spec: path, fake: None, bus: None, events, scan_goes_on: false };
        if matches!(kind, Bus::Whole | Bus::Forbidden) {
            rig.start_fake();
        }
        rig
    }

    /// Starts the played bluetoothd.
    pub fn start_fake(&mut self) {
        let mut process = Command::new(python().unwrap())
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ble/fake_bluez.py"))
            .arg(&self.spec)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (orders, out) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        let events = Arc::clone(&self.events);
        let before = events.lock().unwrap().len();
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                events.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        self.fake = Some(Fake { _process: Kept(process), orders });
        wait(|| self.events.lock().unwrap()[before..].iter().any(|e| e["event"] == "ready"));
    }

    /// The whole bus dies, and all on it; or comes again.
    pub fn end_bus(&mut self) {
        self.fake = None;
        // The first bus belongs to the process that started this one.
        let pid = fs::read_to_string(self.folder.join("bus.pid")).unwrap();
        let done = Command::new("kill").args(["-9", pid.trim()]).status().unwrap();
        assert!(done.success());
        self.bus = None;
    }

    pub fn new_bus(&mut self) {
        self.bus = Some(start_bus(&self.folder));
        self.start_fake();
    }

    /// Orders the played bluetoothd to do something, and waits until it has.
    pub async fn order(&mut self, order: Value) {
        let before = self.events().len();
        let fake = self.fake.as_mut().unwrap();
        writeln!(fake.orders, "{order}").unwrap();
        fake.orders.flush().unwrap();
        self.heard(before, |event| {
            assert_ne!(event["event"], "bad-command", "{event}");
            event["event"] == "done" && event["cmd"] == order["cmd"]
        })
        .await;
    }

    /// A fault that strikes so many times.
    pub async fn fault(&mut self, method: &str, fault: Value, times: u32) {
        let mut order = json!({"cmd": "fault", "method": method, "times": times});
        for (key, value) in fault.as_object().unwrap() {
            order[key] = value.clone();
        }
        self.order(order).await;
    }

    /// Everything that bluetoothd told so far.
    pub fn events(&self) -> Vec<Value> {
        self.events.lock().unwrap().clone()
    }

    /// Forgets what was told, so that a long test does not hold on to it.
    pub fn forget_events(&self) {
        let overlap = |event: &Value| event["event"] == "overlap";
        self.events.lock().unwrap().retain(overlap);
    }

    /// The methods that were called, in order.
    pub async fn calls(&mut self) -> Vec<String> {
        // What was told before this order has arrived when its answer does.
        self.state().await;
        let events = self.events();
        let calls = events.iter().filter(|event| event["event"] == "call");
        calls.map(|event| event["method"].as_str().unwrap().to_owned()).collect()
    }

    pub async fn count(&mut self, method: &str) -> usize {
        self.calls().await.iter().filter(|call| *call == method).count()
    }

    /// What was written: hex and kind of each.
    pub async fn writes(&mut self) -> Vec<(String, String)> {
        self.state().await;
        let text = |event: &Value, key: &str| event[key].as_str().unwrap().to_owned();
        let events = self.events();
        let writes = events.iter().filter(|event| event["event"] == "write");
        writes.map(|event| (text(event, "hex"), text(event, "type"))).collect()
    }

    /// Waits for an event from number `from` on.
    pub async fn heard(&self, from: usize, wanted: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let found = self.events()[from..].iter().find(|event| wanted(event)).cloned();
            if let Some(found) = found {
                return found;
            }
            assert!(Instant::now() < end, "never heard; events: {:#?}", self.events());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What clients hold at this moment.
    pub async fn state(&mut self) -> Value {
        let before = self.events().len();
        self.order(json!({"cmd": "state"})).await;
        self.heard(before, |event| event["event"] == "state").await
    }

    /// Waits until what clients hold is as `wanted`.
    pub async fn until(&mut self, wanted: impl Fn(&Value) -> bool) {
        let end = Instant::now() + PATIENCE;
        loop {
            let state = self.state().await;
            if wanted(&state) {
                return;
            }
            assert!(Instant::now() < end, "still {state:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What is held of what should not be; empty when all was given back.
    async fn leftovers(&mut self) -> Vec<String> {
        let state = self.state().await;
        let mut left = Vec::new();
        for what in ["scanners", "agents"] {
            let expected = what == "scanners" && self.scan_goes_on;
            if state[what] != json!([]) && !expected {
                left.push(format!("{what}: {}", state[what]));
            }
        }
        for (address, device) in state["devices"].as_object().unwrap() {
            if device["connected"] == true {
                left.push(format!("{address} is connected"));
            }
            for (uuid, sessions) in device["sessions"].as_object().unwrap() {
                if sessions != &json!([]) {
                    left.push(format!("{address} {uuid}: {sessions}"));
                }
            }
        }
        left
    }

    /// What a client gives back in the background may take a moment.
    pub async fn nothing_is_left(&mut self) {
        let overlap = self.events().into_iter().find(|event| event["event"] == "overlap");
        assert!(self.scan_goes_on || overlap.is_none(), "the adapter did two things at a time");
        self.nothing_is_held().await;
    }

    /// Whatever happened on the way, everything has been given back.
    pub async fn nothing_is_held(&mut self) {
        if self.fake.is_none() {
            return;
        }
        let end = Instant::now() + PATIENCE;
        loop {
            let left = self.leftovers().await;
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < end, "left over: {left:?}\nevents: {:#?}", self.events());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
