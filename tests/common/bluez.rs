//! A private system bus with a fake bluetoothd on it, whose batteries fail on command.

#![allow(dead_code, reason = "every test file uses its own part of it")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Long enough that only a hang fails a test.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(60);

pub const POLL: Duration = Duration::from_millis(5);

/// libdbus takes the address of the bus from this variable.
pub const BUS_ADDRESS: &str = "DBUS_SYSTEM_BUS_ADDRESS";

/// A process that ends with the test.
pub struct KillOnDrop(pub Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The Python with dbus-fast that `./test` installs; `None` without it or without dbus-daemon.
pub fn python() -> Option<PathBuf> {
    Command::new("dbus-daemon").arg("--version").stdout(Stdio::null()).status().ok()?;
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))?;
    let python = cache.join("bms-reader/bluez/bin/python");
    python.exists().then_some(python)
}

/// A D-Bus daemon.
pub struct Bus {
    process: KillOnDrop,
}

impl Bus {
    /// The value of [`BUS_ADDRESS`] for a bus in this folder.
    pub fn address(folder: &Path) -> String {
        format!("unix:path={}/bus", folder.display())
    }

    /// Starts a bus in this folder and waits until it accepts clients. It allows everything that `policy`
    /// does not deny.
    pub fn start(folder: &Path, policy: &str) -> Bus {
        let (file, socket) = (folder.join("bus.conf"), folder.join("bus"));
        fs::write(&file, Bus::config(folder, policy)).unwrap();
        let _ = fs::remove_file(&socket);
        let log = fs::File::create(folder.join("bus.log")).unwrap();
        let process = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", file.display()))
            .args(["--nofork", "--nopidfile"])
            .stderr(log)
            .spawn()
            .expect("dbus-daemon starts (Debian package dbus-daemon)");
        let bus = Bus { process: KillOnDrop(process) };
        wait_until(|| UnixStream::connect(&socket).is_ok());
        bus
    }

    pub fn id(&self) -> u32 {
        self.process.0.id()
    }

    fn config(folder: &Path, policy: &str) -> String {
        format!(
            "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\"
             \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">
             <busconfig><type>system</type><listen>{}</listen><auth>EXTERNAL</auth>
             <policy context=\"default\"><allow own=\"*\"/>
             <allow send_destination=\"*\" eavesdrop=\"true\"/>
             <allow eavesdrop=\"true\"/><allow user=\"*\"/>{policy}</policy></busconfig>",
            Bus::address(folder)
        )
    }
}

/// The events that a [`FakeBluez`] has reported. They outlive its restarts.
pub type Events = Arc<Mutex<Vec<Value>>>;

/// A fake bluetoothd.
pub struct FakeBluez {
    process: KillOnDrop,
    commands: ChildStdin,
    events: Events,
}

impl FakeBluez {
    /// Starts it with the devices in the file `spec`, and waits until it is on the bus in this folder.
    /// Events that `keep` refuses are dropped, which bounds the memory of a long test.
    pub fn start(folder: &Path, spec: &Path, events: &Events, keep: fn(&Value) -> bool) -> Self {
        let mut process = Command::new(python().unwrap())
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ble/fake_bluez.py"))
            .arg(spec)
            .env(BUS_ADDRESS, Bus::address(folder))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (commands, output) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        let from = events.lock().unwrap().len();
        let reported = Arc::clone(events);
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap();
                if keep(&event) {
                    reported.lock().unwrap().push(event);
                }
            }
        });
        let fake = FakeBluez { process: KillOnDrop(process), commands, events: Arc::clone(events) };
        wait_until(|| fake.events.lock().unwrap()[from..].iter().any(|e| e["event"] == "ready"));
        fake
    }

    pub fn id(&self) -> u32 {
        self.process.0.id()
    }

    /// Sends a command without waiting for its end.
    pub fn send(&mut self, command: &Value) {
        writeln!(self.commands, "{command}").unwrap();
        self.commands.flush().unwrap();
    }
}

pub fn wait_until(mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + TEST_TIMEOUT;
    while !condition() {
        assert!(Instant::now() < end, "condition never met");
        thread::sleep(POLL);
    }
}
