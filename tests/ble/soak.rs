//! Reading again and again while bluetoothd, the adapter and the connection fail at random: every
//! reading ends, the battery can be read afterwards, and no resource leaks.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use bms_reader::transport::BleConfig;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::battery::{ADDRESS, OTHER, battery_with, config, open, read, read_once};
use crate::rig::{Rig, TEST_TIMEOUT, with_fake};

/// Variable with the number of cycles; `./test all` sets it to 2,000.
const CYCLES: &str = "BMS_READER_SOAK";
const DEFAULT_CYCLES: u32 = 50;

/// Cycles without faults, after which all one-time allocations are done.
const WARM_UP: u32 = 20;

/// bluer gives up a call after two minutes.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(150);

/// Memory that the allocator may retain.
const RSS_SLACK_KB: u64 = 4096;

/// A linear congruential generator, so that a run can be repeated.
pub struct Rng(pub u64);

impl Rng {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// Resources of this process.
#[derive(Debug, PartialEq, Eq)]
struct Resources {
    descriptors: usize,
    tasks: usize,
    threads: usize,
    rss_kb: u64,
}

impl Resources {
    fn now() -> Resources {
        let pages = fs::read_to_string("/proc/self/statm").unwrap();
        let resident: u64 = pages.split(' ').nth(1).unwrap().parse().unwrap();
        Resources {
            descriptors: fs::read_dir("/proc/self/fd").unwrap().count(),
            threads: fs::read_dir("/proc/self/task").unwrap().count(),
            tasks: Handle::current().metrics().num_alive_tasks(),
            rss_kb: resident * 4,
        }
    }

    /// Waits until the resources that are released in the background are back at `before`.
    async fn settled(before: &Resources) -> Resources {
        let end = Instant::now() + SETTLE_TIMEOUT;
        loop {
            let resources = Resources::now();
            let is_settled = resources.descriptors <= before.descriptors
                && resources.tasks <= before.tasks
                && resources.threads <= before.threads;
            if is_settled || Instant::now() > end {
                return resources;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Faults and their rate per 1,000 cycles.
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
    ("disconnect fails", 30),
    ("properties hang", 2),
    ("connection lost", 80),
    ("device removed", 60),
    ("out of reach", 15),
    ("power off", 15),
    ("adapter unplugged", 15),
    ("bluetoothd restarts", 10),
    ("bluetoothd crashes", 5),
    ("opening cancelled", 100),
];

fn pick_fault(rng: &mut Rng) -> Option<&'static str> {
    let mut number = rng.below(1000);
    FAULTS.iter().find_map(|(name, rate)| {
        let hit = number < *rate;
        number = number.saturating_sub(*rate);
        hit.then_some(*name)
    })
}

/// Injects the fault. Returns the command that ends it, if one is needed.
async fn inject(rig: &mut Rig, fault: &str) -> Option<Value> {
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
        "disconnect fails" => ("Disconnect", fails("Failed", "Operation failed"), 1),
        "properties hang" => ("Get", json!({"hang": true}), 3),
        "out of reach" => {
            rig.command(json!({"cmd": "visible", "on": false})).await;
            return Some(json!({"cmd": "visible", "on": true}));
        }
        "power off" => {
            rig.command(json!({"cmd": "power", "on": false})).await;
            return Some(json!({"cmd": "power", "on": true}));
        }
        "adapter unplugged" => {
            rig.command(json!({"cmd": "adapter", "on": false})).await;
            return Some(json!({"cmd": "adapter", "on": true}));
        }
        "device removed" => {
            rig.command(json!({"cmd": "remove_device"})).await;
            return None;
        }
        "bluetoothd restarts" => {
            rig.command(json!({"cmd": "restart", "down_ms": 50, "adapter_ms": 50})).await;
            return None;
        }
        "bluetoothd crashes" => {
            let crash = json!({"cmd": "restart", "crash": true, "down_ms": 50, "adapter_ms": 50});
            rig.command(crash).await;
            return None;
        }
        // These happen during the reading.
        "connection lost" | "opening cancelled" => return None,
        other => panic!("{other}"),
    };
    if method == "StartDiscovery" {
        rig.command(json!({"cmd": "remove_device"})).await;
    }
    rig.fault(method, how, times).await;
    Some(json!({"cmd": "clear_faults"}))
}

fn settings(address: &str) -> BleConfig {
    BleConfig {
        scan_timeout: Duration::from_secs(1),
        timeout: Duration::from_secs(2),
        ..config(address)
    }
}

/// Reads once under that fault; false if that failed.
async fn cycle(rig: &mut Rig, address: &str, fault: Option<&str>, rng: &mut Rng) -> bool {
    let config = settings(address);
    match fault {
        Some("opening cancelled") => {
            let delay = Duration::from_millis(rng.below(200));
            timeout(delay, read_once(&config)).await.is_ok()
        }
        Some("connection lost") => {
            let Ok(mut link) = open(&config).await else { return false };
            rig.command(json!({"cmd": "drop"})).await;
            let read = read(&mut link).await.is_ok();
            link.close().await;
            read
        }
        _ => read_once(&config).await.is_ok(),
    }
}

#[test]
fn random_faults_leak_nothing() {
    let quick = |address| {
        let times = json!({"connect_ms": 2, "resolve_ms": 5});
        battery_with(address, times)
    };
    let spec = json!({"adv_interval_ms": 20, "devices": [quick(ADDRESS), quick(OTHER)]});
    let cycles = std::env::var(CYCLES).map_or(DEFAULT_CYCLES, |number| number.parse().unwrap());
    with_fake(spec, async |rig| soak(rig, cycles).await);
}

async fn soak(rig: &mut Rig, cycles: u32) {
    let mut rng = Rng(20_260_101);
    let mut injected: BTreeMap<&str, u32> = BTreeMap::new();
    let (mut longest, mut slowest, mut retries) = (Duration::ZERO, "", 0);
    let mut before = Resources::now();
    for number in 0..WARM_UP + cycles {
        if number == WARM_UP {
            rig.assert_clean().await;
            before = Resources::now();
        }
        let address = [ADDRESS, OTHER][(number % 2) as usize];
        let fault = pick_fault(&mut rng).filter(|_| number >= WARM_UP);
        let undo = match fault {
            Some(fault) => inject(rig, fault).await,
            None => None,
        };
        let begun = Instant::now();
        let ended = timeout(TEST_TIMEOUT, cycle(rig, address, fault, &mut rng)).await;
        let mut read = ended.unwrap_or_else(|_| panic!("cycle {number} hangs: {fault:?}"));
        let took = begun.elapsed();
        if took > longest {
            (longest, slowest) = (took, fault.unwrap_or("nothing"));
        }
        if let Some(undo) = undo {
            rig.command(undo).await;
        }
        *injected.entry(fault.unwrap_or("none")).or_default() += 1;
        let mut tries = 0;
        while !read {
            tries += 1;
            assert!(tries <= 20, "cycle {number}: not read again after {fault:?}");
            read = read_once(&settings(address)).await.is_ok();
            retries += 1;
        }
        if number % 25 == 0 {
            rig.assert_clean().await;
        }
        rig.clear_events();
    }
    rig.assert_clean().await;
    let after = Resources::settled(&before).await;
    let faults: u32 = injected.iter().filter(|(name, _)| **name != "none").map(|(_, n)| n).sum();
    println!("measured: {cycles} cycles, {faults} faults, {retries} retries");
    println!("measured: the longest cycle took {longest:?} ({slowest})");
    println!("measured: before {before:?}, after {after:?}");
    println!("measured: {injected:?}");
    assert!(after.descriptors <= before.descriptors, "{before:?} {after:?}");
    assert!(after.threads <= before.threads, "{before:?} {after:?}");
    assert!(after.tasks <= before.tasks, "{before:?} {after:?}");
    assert!(after.rss_kb <= before.rss_kb + RSS_SLACK_KB, "{before:?} {after:?}");
}
