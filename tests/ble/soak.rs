//! Visit after visit while bluetoothd, the adapter and the radio fail at random: every visit ends in
//! time, the battery is read again afterwards, and nothing grows.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use bms_reader::transport::BleConfig;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::battery::{ADDRESS, OTHER, battery_with, config, open, read, visit};
use crate::rig::{PATIENCE, Rig, on_fake};

/// How many cycles; `./test all` asks for 2,000.
pub const CYCLES: &str = "BMS_READER_SOAK";
const FEW: u32 = 50;

/// Cycles after which everything that is made once has been made.
const WARM_UP: u32 = 20;

/// bluer gives a call up after two minutes.
const SETTLE: Duration = Duration::from_secs(150);

/// Pages of memory that an allocator may keep for itself.
const RSS_SLACK_KB: u64 = 4096;

/// Steps of an old and simple generator, so that a run can be repeated.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// What the process holds.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    descriptors: usize,
    tasks: usize,
    threads: usize,
    rss_kb: u64,
}

impl Held {
    fn now() -> Held {
        let pages = fs::read_to_string("/proc/self/statm").unwrap();
        let resident: u64 = pages.split(' ').nth(1).unwrap().parse().unwrap();
        Held {
            descriptors: fs::read_dir("/proc/self/fd").unwrap().count(),
            threads: fs::read_dir("/proc/self/task").unwrap().count(),
            tasks: Handle::current().metrics().num_alive_tasks(),
            rss_kb: resident * 4,
        }
    }

    /// Waits until what is given back in the background has been.
    async fn settled(before: &Held) -> Held {
        let end = Instant::now() + SETTLE;
        loop {
            let held = Held::now();
            let as_before = held.descriptors <= before.descriptors
                && held.tasks <= before.tasks
                && held.threads <= before.threads;
            if as_before || Instant::now() > end {
                return held;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// What goes wrong in a cycle, how often (of 1,000), and how.
const FAULTS: &[(&str, u64)] = &[
    ("connect in progress", 40),
    ("connect aborted", 60),
    ("connect slow", 30),
    ("connect hangs", 4),
    ("notify acquired", 30),
    ("notify fails", 30),
    ("notify hangs", 3),
    ("scan in progress", 20),
    ("scan fails", 20),
    ("write fails", 30),
    ("write hangs", 3),
    ("goodbye fails", 30),
    ("properties hang", 2),
    ("link drops", 80),
    ("forgotten", 60),
    ("out of reach", 15),
    ("power off", 15),
    ("adapter pulled", 15),
    ("bluetoothd restarts", 10),
    ("bluetoothd dies", 5),
    ("given up", 100),
];

fn draw(chance: &mut Chance) -> Option<&'static str> {
    let mut number = chance.below(1000);
    FAULTS.iter().find_map(|(name, share)| {
        let hit = number < *share;
        number = number.saturating_sub(*share);
        hit.then_some(*name)
    })
}

/// Brings the fault about; what has to be ordered to undo it comes back.
async fn strike(rig: &mut Rig, fault: &str) -> Option<Value> {
    let fails = |error: &str, message: &str| json!({"error": error, "message": message});
    let (method, how, times) = match fault {
        "connect in progress" => ("Connect", fails("InProgress", "pending"), 1),
        "connect aborted" => ("Connect", fails("Failed", "le-connection-abort-by-local"), 2),
        "connect slow" => ("Connect", json!({"delay_ms": 400}), 1),
        "connect hangs" => ("Connect", json!({"hang": true}), 1),
        "notify acquired" => ("StartNotify", fails("NotPermitted", "Notify acquired"), 1),
        "notify fails" => ("StartNotify", fails("Failed", "ATT error: 0x0e"), 1),
        "notify hangs" => ("StartNotify", json!({"hang": true}), 1),
        "scan in progress" => ("StartDiscovery", fails("InProgress", "pending"), 1),
        "scan fails" => ("StartDiscovery", fails("Failed", "Operation failed"), 1),
        "write fails" => ("WriteValue", fails("Failed", "Not connected"), 1),
        "write hangs" => ("WriteValue", json!({"hang": true}), 1),
        "goodbye fails" => ("Disconnect", fails("Failed", "Operation failed"), 1),
        "properties hang" => ("Get", json!({"hang": true}), 3),
        "out of reach" => {
            rig.order(json!({"cmd": "visible", "on": false})).await;
            return Some(json!({"cmd": "visible", "on": true}));
        }
        "power off" => {
            rig.order(json!({"cmd": "power", "on": false})).await;
            return Some(json!({"cmd": "power", "on": true}));
        }
        "adapter pulled" => {
            rig.order(json!({"cmd": "adapter", "on": false})).await;
            return Some(json!({"cmd": "adapter", "on": true}));
        }
        "forgotten" => {
            rig.order(json!({"cmd": "forget"})).await;
            return None;
        }
        "bluetoothd restarts" => {
            rig.order(json!({"cmd": "restart", "down_ms": 50, "adapter_ms": 50})).await;
            return None;
        }
        "bluetoothd dies" => {
            let death = json!({"cmd": "restart", "crash": true, "down_ms": 50, "adapter_ms": 50});
            rig.order(death).await;
            return None;
        }
        // These strike in the middle of a visit.
        "link drops" | "given up" => return None,
        other => panic!("{other}"),
    };
    if method == "StartDiscovery" {
        rig.order(json!({"cmd": "forget"})).await;
    }
    rig.fault(method, how, times).await;
    Some(json!({"cmd": "calm"}))
}

fn settings(address: &str) -> BleConfig {
    BleConfig {
        scan_timeout: Duration::from_secs(1),
        timeout: Duration::from_secs(2),
        ..config(address)
    }
}

/// One visit under that fault; whether the battery was read.
async fn cycle(rig: &mut Rig, address: &str, fault: Option<&str>, chance: &mut Chance) -> bool {
    let config = settings(address);
    match fault {
        Some("given up") => {
            let patience = Duration::from_millis(chance.below(200));
            timeout(patience, visit(&config)).await.is_ok()
        }
        Some("link drops") => {
            let Ok(mut link) = open(&config).await else { return false };
            rig.order(json!({"cmd": "drop"})).await;
            let read = read(&mut link).await.is_ok();
            link.close().await;
            read
        }
        _ => visit(&config).await.is_ok(),
    }
}

#[test]
fn cycle_after_cycle_nothing_is_lost_and_nothing_grows() {
    let quick = |address| {
        let times = json!({"connect_ms": 2, "resolve_ms": 5});
        battery_with(address, times)
    };
    let spec = json!({"adv_interval_ms": 20, "devices": [quick(ADDRESS), quick(OTHER)]});
    let cycles = std::env::var(CYCLES).map_or(FEW, |number| number.parse().unwrap());
    on_fake(spec, async |rig| soak(rig, cycles).await);
}

async fn soak(rig: &mut Rig, cycles: u32) {
    let mut chance = Chance(20_260_101);
    let mut struck: BTreeMap<&str, u32> = BTreeMap::new();
    let (mut longest, mut slowest, mut again) = (Duration::ZERO, "", 0);
    let mut before = Held::now();
    for number in 0..WARM_UP + cycles {
        if number == WARM_UP {
            rig.nothing_is_left().await;
            before = Held::now();
        }
        let address = [ADDRESS, OTHER][(number % 2) as usize];
        let fault = draw(&mut chance).filter(|_| number >= WARM_UP);
        let undo = match fault {
            Some(fault) => strike(rig, fault).await,
            None => None,
        };
        let begun = Instant::now();
        let ended = timeout(PATIENCE, cycle(rig, address, fault, &mut chance)).await;
        let mut read = ended.unwrap_or_else(|_| panic!("cycle {number} hangs: {fault:?}"));
        let took = begun.elapsed();
        if took > longest {
            (longest, slowest) = (took, fault.unwrap_or("nothing"));
        }
        if let Some(undo) = undo {
            rig.order(undo).await;
        }
        *struck.entry(fault.unwrap_or("none")).or_default() += 1;
        let mut tries = 0;
        while !read {
            tries += 1;
            assert!(tries <= 20, "cycle {number}: not read again after {fault:?}");
            read = visit(&settings(address)).await.is_ok();
            again += 1;
        }
        if number % 25 == 0 {
            rig.nothing_is_left().await;
        }
        rig.forget_events();
    }
    rig.nothing_is_left().await;
    let after = Held::settled(&before).await;
    let faults: u32 = struck.iter().filter(|(name, _)| **name != "none").map(|(_, n)| n).sum();
    println!("measured: {cycles} cycles, {faults} faults, {again} further attempts");
    println!("measured: the longest cycle took {longest:?} ({slowest})");
    println!("measured: before {before:?}, after {after:?}");
    println!("measured: {struck:?}");
    assert!(after.descriptors <= before.descriptors, "{before:?} {after:?}");
    assert!(after.threads <= before.threads, "{before:?} {after:?}");
    assert!(after.tasks <= before.tasks, "{before:?} {after:?}");
    assert!(after.rss_kb <= before.rss_kb + RSS_SLACK_KB, "{before:?} {after:?}");
}
