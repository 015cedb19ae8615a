//! The search for the brand of a battery.

use std::time::Duration;

use bms_reader::app;
use bms_reader::board::Board;
use bms_reader::config;
use bms_reader::model::{FaultKind, LinkState};
use bms_reader::poll::{Line, LineMember, read_once};
use bms_reader::protocol;
use bms_reader::sim::serve::{self, ListenAddr, SimBus, SimServer, SimServerOptions};
use bms_reader::sim::{self, Bus, Faults, SimBrand, brands};
use bms_reader::transport::{Bluetooth, LinkConfig, MemoryPort};
use tokio_util::sync::CancellationToken;

use crate::fixture::{FakeBus, TestLine, id, member, profile, wait_seconds};

/// The simulated brands on a serial line; those that stream do so over Bluetooth.
pub fn wired() -> impl Iterator<Item = &'static SimBrand> {
    let is_wired = |brand: &&SimBrand| {
        protocol::find(brand.driver()).is_some_and(|info| info.serial.is_some())
    };
    let is_wire = |brand: &&SimBrand| brand.stream.is_none() && brand.variant() != Some("ble");
    brands().iter().copied().filter(is_wired).filter(is_wire)
}

fn line_of_unknown_brand(port: MemoryPort) -> Line {
    let member = LineMember { driver: None, ..member(1) };
    Line::new(LinkConfig::Memory(port), vec![member])
}

fn simulated(brand: &'static SimBrand) -> MemoryPort {
    let bus = Bus::with_batteries(brand, &[*brand.addresses.start().max(&1)], 1, Faults::default());
    serve::memory("simulated", SimBus::new(bus, 1.0, None), CancellationToken::new())
}

#[tokio::test(start_paused = true)]
async fn each_simulated_brand_is_detected() {
    let with_serial = protocol::drivers().iter().filter(|info| info.serial.is_some()).count();
    assert!(wired().count() >= with_serial, "{} of {with_serial}", wired().count());
    for brand in wired() {
        let board = Board::new([profile(&id(1))]);
        read_once(line_of_unknown_brand(simulated(brand)), &board).await;
        let state = board.latest(&id(1)).expect("a battery");
        assert_eq!(state.attempt.map(|attempt| attempt.fault), Some(None), "{}", brand.name);
        assert_eq!(state.profile.brand, brand.driver(), "{}", brand.name);
    }
}

#[tokio::test(start_paused = true)]
async fn detected_brand_is_kept() {
    let brand = wired().next().expect("a wired brand");
    let line = TestLine::run(FakeBus::default(), line_of_unknown_brand(simulated(brand)));
    wait_seconds(600).await;
    let state = line.state(1);
    let info = protocol::find(brand.driver()).expect("its driver");
    assert_eq!((&*state.profile.brand, &*state.profile.title), (info.name, info.title));
    assert_eq!(state.link, LinkState::Online);
    assert!(state.counters.reads > 50, "{:?}", state.counters);
    assert_eq!(state.counters.errors, 0);
}

#[tokio::test(start_paused = true)]
async fn silent_line_fails_once_per_round() {
    let bus = FakeBus::default();
    bus.silent.lock().unwrap().extend(0..=255);
    let port = bus.serve();
    let line = TestLine::run(bus, line_of_unknown_brand(port));
    wait_seconds(600).await;
    assert_eq!(line.fault(1), Some(FaultKind::Timeout));
    let fault = line.state(1).attempt.unwrap().fault.unwrap();
    assert!(fault.message.contains("daren at 9600 baud, "), "{fault}");
    assert_eq!(line.state(1).profile.brand, "test", "the brand stays as configured");
    let rounds = line.state(1).counters.errors;
    assert!((2..=60).contains(&rounds), "{rounds} rounds");
}

#[tokio::test]
async fn auto_detects_a_brand_on_a_serial_port() {
    let options = SimServerOptions {
        brand: &sim::daren::BRAND,
        addresses: vec![1],
        seed: 1,
        speed: 1.0,
        pacing: None,
        faults: Faults::default(),
        listen: ListenAddr::Terminal { link: None },
    };
    let server = SimServer::open(&options).await.unwrap();
    let environment = [("BMS_PORT", server.port()), ("BMS_TYPE", "auto".to_owned())];
    let environment = environment.map(|(name, value)| (name.to_owned(), value));
    let config = config::load(environment.into_iter().collect()).expect("a good configuration");
    let stop = CancellationToken::new();
    let simulator = tokio::spawn(server.serve(stop.clone()));
    let board = Board::new(config.devices.iter().map(|device| device.profile.clone()));
    let (bluetooth, sim) = (Bluetooth::default(), app::SimOptions::default());
    let line = app::lines(&config.devices, &bluetooth, &sim, &stop).remove(0);
    tokio::time::timeout(Duration::from_secs(120), read_once(line, &board)).await.unwrap();
    let state = board.latest(&config.devices[0].profile.id).expect("a battery");
    assert_eq!(state.profile.brand, "daren");
    stop.cancel();
    simulator.await.unwrap().unwrap();
}

#[tokio::test]
async fn scan_lists_every_pack_on_a_wire() {
    let options = SimServerOptions {
        brand: &sim::daren::BRAND,
        addresses: vec![1, 2, 5],
        seed: 1,
        speed: 1.0,
        pacing: None,
        faults: Faults::default(),
        listen: ListenAddr::Terminal { link: None },
    };
    let server = SimServer::open(&options).await.unwrap();
    let port = server.port();
    let stop = CancellationToken::new();
    let simulator = tokio::spawn(server.serve(stop.clone()));
    let mut scan = std::process::Command::new(env!("CARGO_BIN_EXE_bms-reader"));
    scan.args(["scan", "--seconds", "1", "--probe", &port]).env("LOG_LEVEL", "info");
    let output = tokio::task::spawn_blocking(move || scan.output()).await.unwrap().unwrap();
    let (text, log) =
        [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap()).into();
    assert!(text.contains("  3 packs found\n    address 1: "), "{text}\n{log}");
    assert!(text.contains(r#""id":"pack5""#) && text.contains("BANKS="), "{text}");
    assert!(log.contains("trying daren"), "{log}");
    stop.cancel();
    simulator.await.unwrap().unwrap();
}
