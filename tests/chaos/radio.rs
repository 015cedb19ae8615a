//! Two Bluetooth batteries on a fake bluetoothd with a bus of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bms_reader::sim::{self, gatt};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::bluez::{BUS_ADDRESS, Bus, Events, FakeBluez, python};
use crate::line::Pack;
use crate::program::signal;
use crate::state::{Clock, Record, state};

/// How often the batteries have new values. Longer than the pause between two frames of a stream, which
/// begins again with them.
const UPDATE: Duration = Duration::from_secs(1);

/// Id, type and address.
const BATTERIES: [(&str, &str, &str); 2] =
    [("ble_jk", "jk", "C8:47:80:00:12:34"), ("ble_jbd", "jbd", "A4:C1:37:00:12:34")];

/// The adapter `hci0` and its batteries. Clones share them.
#[derive(Clone)]
pub struct Radio {
    pub packs: Vec<Pack>,
    folder: PathBuf,
    clock: Clock,
    daemons: Arc<Mutex<Daemons>>,
}

#[derive(Default)]
struct Daemons {
    bus: Option<Bus>,
    bluetoothd: Option<FakeBluez>,
    /// When the batteries had new values last, in steps.
    updated: u64,
    is_suspended: bool,
}

/// Gives the batteries of a [`Radio`] new values until it is dropped.
pub struct Updates {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Radio {
    /// `None` without the software that the fake needs. The seeds of the packs begin with `seed`.
    pub fn start(folder: &Path, clock: Clock, seed: u64) -> Option<(Self, Updates)> {
        python()?;
        let pack = |(seed, (id, brand, _)): (u64, (&str, &str, &str))| {
            let brand = sim::find(brand).expect("a simulated brand");
            let (id, sent) = (id.to_owned(), Record::of(brand));
            Pack { id, seed, address: 1, sent }
        };
        let packs = (seed..).zip(BATTERIES).map(pack).collect();
        let radio = Radio { packs, folder: folder.to_owned(), clock, daemons: Arc::default() };
        radio.update();
        radio.start_bus();
        radio.start_bluetoothd();
        let stop = Arc::new(AtomicBool::new(false));
        let (updated, stopped) = (radio.clone(), stop.clone());
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                updated.update();
                thread::park_timeout(UPDATE);
            }
        });
        Some((radio, Updates { stop, thread: Some(thread) }))
    }

    /// The variable that leads the program to this bus.
    pub fn variable(&self) -> (String, String) {
        (BUS_ADDRESS.to_owned(), Bus::address(&self.folder))
    }

    /// The entries of `DEVICES`.
    pub fn configuration(&self) -> Vec<Value> {
        let entry = |(id, brand, address): &(&str, &str, &str)| json!({"id": id, "type": brand, "address": address, "scan_timeout": 2});
        BATTERIES.iter().map(entry).collect()
    }

    /// The processes of the bus and of bluetoothd.
    pub fn ids(&self) -> Vec<u32> {
        let daemons = self.daemons();
        let (bus, bluetoothd) = (daemons.bus.as_ref(), daemons.bluetoothd.as_ref());
        [bus.map(Bus::id), bluetoothd.map(FakeBluez::id)].into_iter().flatten().collect()
    }

    /// Suspends or resumes them.
    pub fn suspend(&self, suspend: bool) {
        self.daemons().is_suspended = suspend;
        let name = if suspend { Signal::SIGSTOP } else { Signal::SIGCONT };
        self.ids().into_iter().for_each(|id| signal(id, name));
    }

    pub fn kill_bluetoothd(&self) {
        self.daemons().bluetoothd = None;
    }

    pub fn kill_bus(&self) {
        let mut daemons = self.daemons();
        (daemons.bus, daemons.bluetoothd) = (None, None);
    }

    /// Starts what was killed, in a thread: it takes a while.
    pub fn restart(&self) {
        let radio = self.clone();
        thread::spawn(move || {
            let (needs_bus, needs_bluetoothd) = {
                let daemons = radio.daemons();
                (daemons.bus.is_none(), daemons.bluetoothd.is_none())
            };
            if needs_bus {
                radio.start_bus();
            }
            if needs_bluetoothd {
                radio.start_bluetoothd();
            }
        });
    }

    fn start_bus(&self) {
        let bus = Bus::start(&self.folder, "");
        self.daemons().bus = Some(bus);
    }

    fn start_bluetoothd(&self) {
        let is_ready = |event: &Value| event["event"] == "ready";
        let (spec, events) = (self.spec(), Events::default());
        let bluetoothd = FakeBluez::start(&self.folder, &spec, &events, is_ready);
        self.daemons().bluetoothd = Some(bluetoothd);
    }

    /// Sends a command to the fake. Nothing happens while bluetoothd is gone.
    pub fn send(&self, command: &Value) {
        if let Some(bluetoothd) = &mut self.daemons().bluetoothd {
            bluetoothd.send(command);
        }
    }

    /// Sends a command for each battery.
    pub fn send_each(&self, command: &Value) {
        for (.., address) in BATTERIES {
            let mut command = command.clone();
            command["address"] = json!(address);
            self.send(&command);
        }
    }

    fn daemons(&self) -> MutexGuard<'_, Daemons> {
        self.daemons.lock().expect("no panic")
    }

    fn spec(&self) -> PathBuf {
        self.folder.join("spec.json")
    }

    /// Gives the batteries their present values, also after a restart of bluetoothd.
    fn update(&self) {
        if self.daemons().is_suspended {
            return;
        }
        let step = self.clock.step();
        let device = |((_, brand, address), pack): ((&str, &str, &str), &Pack)| {
            let brand = sim::find(brand).expect("a simulated brand");
            let state = state(pack.seed, step as f64);
            gatt::device(brand, address, state).expect("a brand with Bluetooth")
        };
        let devices: Vec<Value> = BATTERIES.into_iter().zip(&self.packs).map(device).collect();
        let text = json!({"devices": devices}).to_string();
        // Replaced at once, as bluetoothd may be starting.
        let new = self.folder.join("spec.new");
        fs::write(&new, text).and_then(|()| fs::rename(new, self.spec())).expect("a file");
        let before = std::mem::replace(&mut self.daemons().updated, step);
        for pack in &self.packs {
            // Until now they sent the values before.
            pack.sent.add(pack.seed, before);
            pack.sent.add(pack.seed, step);
        }
        for device in devices {
            let set = json!({"replies": device["replies"]});
            self.send(&json!({"cmd": "spec", "address": device["address"], "set": set}));
        }
    }
}

impl Drop for Updates {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}
