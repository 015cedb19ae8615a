//! The back-off of batteries ends when the adapter, bluetoothd or their advertisements return.
//!
//! With `BMS_READER_RECOVERY=12` the tests in `recovery::measured` end 12 outages of each kind at a random
//! moment of the longest pause, which takes 20 minutes, and print how long the batteries took to come
//! back (see docs/reliability.md).

use std::time::{Duration, Instant};

use bms_reader::app;
use bms_reader::board::Board;
use bms_reader::config;
use bms_reader::model::{DeviceId, DeviceState};
use bms_reader::sim::{self, PackState, gatt};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::attempts::Log;
use crate::rig::{Rig, TEST_TIMEOUT, with_fake};

/// Variable with the number of outages of each kind.
const ROUNDS: &str = "BMS_READER_RECOVERY";

/// An outage of the whole adapter, or of all batteries.
pub struct Outage {
    pub name: &'static str,
    pub start: fn() -> Value,
    pub end: fn() -> Value,
}

pub const OUTAGES: [Outage; 5] = [
    Outage {
        name: "adapter switched off and on",
        start: || json!({"cmd": "power", "on": false}),
        end: || json!({"cmd": "power", "on": true}),
    },
    Outage {
        name: "adapter unplugged and plugged in",
        start: || json!({"cmd": "adapter", "on": false}),
        end: || json!({"cmd": "adapter", "on": true}),
    },
    Outage {
        name: "bluetoothd killed and started",
        start: || json!({"cmd": "stop", "crash": true}),
        end: || json!({"cmd": "start"}),
    },
    Outage {
        name: "bluetoothd stopped and started",
        start: || json!({"cmd": "stop"}),
        end: || json!({"cmd": "start"}),
    },
    Outage {
        name: "batteries out of range and back",
        start: || json!({"cmd": "visible", "on": false}),
        end: || json!({"cmd": "visible", "on": true}),
    },
];

/// The program with batteries that are read each second.
struct Service {
    board: Board,
    addresses: Vec<String>,
    log: Log,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

fn addresses(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("A4:C1:38:00:00:{number:02}")).collect()
}

fn batteries(count: usize) -> Value {
    let brand = sim::find("jbd").unwrap();
    let devices: Vec<_> = addresses(count)
        .iter()
        .map(|address| gatt::device(brand, address, PackState::at_rest()).unwrap())
        .collect();
    json!({"connect_timeout_ms": 1000, "devices": devices})
}

impl Service {
    async fn start(count: usize) -> Service {
        let log = Log::default();
        tracing::subscriber::set_global_default(log.subscriber()).unwrap();
        let addresses = addresses(count);
        let devices: Vec<_> = addresses
            .iter()
            .enumerate()
            .map(|(number, address)| {
                json!({"id": id(number), "type": "jbd", "address": address, "interval": 1,
                    "scan_timeout": 1})
            })
            .collect();
        let variables = [
            ("BMS_OPTIONS_FILE", "/nonexistent/options.json"),
            ("HTTP_LISTEN", "off"),
            ("DEVICES", &json!(devices).to_string()),
        ];
        let environment = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = config::load(environment.into()).unwrap();
        let stop = CancellationToken::new();
        let app = app::App::build(&config, &app::SimOptions::default(), &stop);
        let (board, stopped) = (app.board.clone(), stop.clone());
        let running = tokio::spawn(async move { app::run(app, &config, stopped).await });
        let service = Service { board, addresses, log, stop, running };
        service.all_read().await;
        service
    }

    async fn stop(self) {
        self.stop.cancel();
        timeout(TEST_TIMEOUT, self.running).await.expect("the app stops").unwrap();
    }

    async fn wait_for(&self, number: usize, condition: impl Fn(&DeviceState) -> bool) {
        let id = DeviceId::new(&id(number)).unwrap();
        let mut state = self.board.subscribe(&id).unwrap();
        let met = timeout(TEST_TIMEOUT, state.wait_for(|state| condition(state))).await;
        assert!(met.is_ok(), "{id}: {:#?}\n{}", self.board.latest(&id), self.log.since(0));
    }

    /// Waits until the last attempt to read each battery has succeeded. Returns how long each took.
    async fn all_read(&self) -> Vec<Duration> {
        let started = Instant::now();
        let succeeded = |state: &DeviceState| {
            state.counters.reads > 0 && state.counters.consecutive_errors == 0
        };
        let read = async |number| {
            self.wait_for(number, succeeded).await;
            started.elapsed()
        };
        futures_util::future::join_all((0..self.addresses.len()).map(read)).await
    }

    /// Waits until the pause of each battery is that long, in seconds, and has just begun.
    async fn wait_for_pauses(&self, from: usize, seconds: f32) {
        let is_long =
            |address: &String| self.log.pause(from, address).is_some_and(|pause| pause >= seconds);
        let long = async {
            while !self.addresses.iter().all(is_long) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        let long = timeout(2 * TEST_TIMEOUT, long).await;
        assert!(long.is_ok(), "no such pause:\n{}", self.log.since(from));
    }

    fn assert_ended_early(&self, from: usize) {
        for address in &self.addresses {
            assert!(self.log.early_ends(from, address) > 0, "{address}:\n{}", self.log.since(from));
        }
    }
}

fn id(number: usize) -> String {
    format!("pack{number}")
}

/// Waits until the pauses are 30 s long and ends the outage: both batteries are read again before
/// these pauses are over.
async fn back_off_ends(rig: &mut Rig, outage: &Outage) {
    let service = Service::start(2).await;
    let from = service.log.len();
    rig.command((outage.start)()).await;
    service.wait_for_pauses(from, 20.0).await;
    let from = service.log.len();
    rig.command((outage.end)()).await;
    service.all_read().await;
    service.assert_ended_early(from);
    service.stop().await;
}

#[test]
fn back_off_ends_when_the_adapter_is_switched_on() {
    with_fake(batteries(2), async |rig| back_off_ends(rig, &OUTAGES[0]).await);
}

#[test]
fn back_off_ends_when_the_adapter_is_plugged_in() {
    with_fake(batteries(2), async |rig| back_off_ends(rig, &OUTAGES[1]).await);
}

#[test]
fn back_off_ends_when_bluetoothd_is_started_after_a_crash() {
    with_fake(batteries(2), async |rig| back_off_ends(rig, &OUTAGES[2]).await);
}

#[test]
fn back_off_ends_when_bluetoothd_is_started() {
    with_fake(batteries(2), async |rig| back_off_ends(rig, &OUTAGES[3]).await);
}

#[test]
fn back_off_ends_when_batteries_advertise_again() {
    with_fake(batteries(2), async |rig| back_off_ends(rig, &OUTAGES[4]).await);
}

/// The adapter must never do two things at a time, which the rig checks.
#[test]
fn ten_batteries_come_back_with_the_adapter() {
    with_fake(batteries(10), async |rig| {
        let service = Service::start(10).await;
        let from = service.log.len();
        rig.command(json!({"cmd": "power", "on": false})).await;
        service.wait_for_pauses(from, 3.0).await;
        rig.command(json!({"cmd": "power", "on": true})).await;
        let before = rig.calls().await.len();
        service.all_read().await;
        let mut calls = rig.calls().await.split_off(before);
        calls.retain(|call| call == "StartDiscovery");
        assert!(calls.len() <= 10, "{} scans for ten batteries", calls.len());
        service.stop().await;
    });
}

/// Its advertisements are seen all the time, because another battery is out of range and sought.
#[test]
fn battery_that_refuses_connections_backs_off() {
    with_fake(batteries(2), async |rig| {
        let service = Service::start(2).await;
        let [refusing, away] = &service.addresses[..] else { panic!("two batteries") };
        rig.command(json!({"cmd": "visible", "on": false, "address": away})).await;
        let refusal = json!({"error": "Failed", "message": "le-connection-abort-by-local"});
        rig.fault("Connect", refusal, 1_000_000).await;
        let from = service.log.len();
        let is_long = |address: &String| service.log.pause(from, address) >= Some(20.0);
        let long = async {
            while !is_long(refusing) || !is_long(away) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(2 * TEST_TIMEOUT, long).await.expect("long pauses");
        // The next scan sees it, and again when the other one is seen.
        rig.command(json!({"cmd": "visible", "on": true})).await;
        let seen = async {
            while service.log.early_ends(from, away) == 0 {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(TEST_TIMEOUT, seen).await.expect("the other one is seen");
        assert_eq!(service.log.early_ends(from, refusing), 0, "{}", service.log.since(from));
        rig.command(json!({"cmd": "clear_faults"})).await;
        service.stop().await;
    });
}

/// See the top of this file. Without the variable it does nothing.
mod measured {
    use super::*;
    use crate::soak::Rng;

    fn rounds() -> Option<u64> {
        Some(std::env::var(ROUNDS).ok()?.parse().expect("a number"))
    }

    async fn measure(rig: &mut Rig, outage: &Outage, rounds: u64) {
        let service = Service::start(2).await;
        let mut rng = Rng(17);
        let mut times = Vec::new();
        for _ in 0..rounds {
            let from = service.log.len();
            rig.command((outage.start)()).await;
            service.wait_for_pauses(from, 40.0).await;
            sleep(Duration::from_millis(rng.below(45_000))).await;
            rig.command((outage.end)()).await;
            times.extend(service.all_read().await);
            rig.clear_events();
        }
        times.sort_unstable();
        let count = times.len();
        let part = |percent: usize| times[(count * percent).div_ceil(100) - 1].as_secs_f32();
        println!(
            "measured: {}: {count} recoveries, median {:.1} s, 95 % within {:.1} s, longest {:.1} s",
            outage.name,
            part(50),
            part(95),
            part(100)
        );
        assert!(part(95) <= 15.0, "{times:?}");
        service.stop().await;
    }

    #[test]
    fn adapter_switched_on() {
        let Some(rounds) = rounds() else { return };
        with_fake(batteries(2), async |rig| measure(rig, &OUTAGES[0], rounds).await);
    }

    #[test]
    fn adapter_plugged_in() {
        let Some(rounds) = rounds() else { return };
        with_fake(batteries(2), async |rig| measure(rig, &OUTAGES[1], rounds).await);
    }

    #[test]
    fn bluetoothd_killed() {
        let Some(rounds) = rounds() else { return };
        with_fake(batteries(2), async |rig| measure(rig, &OUTAGES[2], rounds).await);
    }

    #[test]
    fn bluetoothd_stopped() {
        let Some(rounds) = rounds() else { return };
        with_fake(batteries(2), async |rig| measure(rig, &OUTAGES[3], rounds).await);
    }

    #[test]
    fn out_of_range() {
        let Some(rounds) = rounds() else { return };
        with_fake(batteries(2), async |rig| measure(rig, &OUTAGES[4], rounds).await);
    }
}
