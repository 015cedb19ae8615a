//! Batteries of which nobody said what they are.

use std::time::Duration;

use bms_reader::app;
use bms_reader::board::Board;
use bms_reader::config;
use bms_reader::model::{FaultKind, LinkState};
use bms_reader::poll::{Line, LineMember, read_once};
use bms_reader::protocol;
use bms_reader::sim::serve::{self, ListenAddr, SimBus, SimServer, SimServerOptions};
use bms_reader::sim::{BRANDS, Bus as PlayedBus, Faults, SimBrand};
use bms_reader::transport::{Bluetooth, Endpoint};
use tokio_util::sync::CancellationToken;

use crate::rig::{Bus, Rig, member, seconds};

/// What sends by itself does so over Bluetooth.
pub fn wired() -> impl Iterator<Item = &'static SimBrand> {
    let is_wired =
        |brand: &&SimBrand| protocol::find(brand.driver()).is_some_and(|it| it.serial.is_some());
    BRANDS.iter().copied().filter(is_wired).filter(|brand| brand.stream.is_none())
}

fn unknown(endpoint: Endpoint) -> Line {
    let member = LineMember { driver: None, ..member(1) };
    Line { endpoint, bauds: Vec::new(), members: vec![member], ble: None, recorder: None }
}

#[tokio::test(start_paused = true)]
async fn it_stays_what_it_answered_to() {
    let brand = wired().next().expect("a wired brand");
    let bus = PlayedBus::with_batteries(brand, &[1], 1, Faults::default());
    let stage = SimBus::new(bus, 1.0, None);
    let port = serve::memory("somewhere", stage, CancellationToken::new());
    let rig = Rig::on(Bus::default(), unknown(Endpoint::Memory(port)));
    seconds(600).await;
    let state = rig.state(1);
    let info = protocol::find(brand.driver()).expect("its driver");
    assert_eq!(
        (state.profile.brand.as_str(), state.profile.title.as_str()),
        (info.name, info.title)
    );
    assert_eq!(state.link, LinkState::Online);
    assert!(state.counters.reads > 50, "{:?}", state.counters);
    assert_eq!(state.counters.errors, 0);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_found_where_nobody_answers() {
    let bus = Bus::default();
    bus.silent.lock().unwrap().extend(0..=255);
    let rig = Rig::on(bus.clone(), unknown(Endpoint::Memory(bus.serve("somewhere"))));
    seconds(600).await;
    assert_eq!(rig.fault(1), Some(FaultKind::Timeout));
    let fault = rig.state(1).attempt.unwrap().fault.unwrap();
    assert!(fault.message.contains("daren at 9600 baud, "), "{fault}");
    assert_eq!(rig.state(1).profile.brand, "plain", "it stays what it was called");
    let rounds = rig.state(1).counters.errors;
    assert!((2..=60).contains(&rounds), "one failure for each round, not {rounds}");
}

/// What there is at the terminal of this simulated battery, as the configuration `auto` finds it out.
async fn is_found(brand: &'static SimBrand) {
    let options = SimServerOptions {
        brand,
        addresses: vec![*brand.addresses.start().max(&1)],
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
    let environment = [("BMS_PORT", port.as_str()), ("BMS_TYPE", "auto"), ("BMS_TIMEOUT", "0.5")];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = config::load(environment.into_iter().collect()).expect("a good configuration");
    let board = Board::new(config.devices.iter().map(|device| device.profile.clone()));
    let mut lines =
        app::lines(&config.devices, &Bluetooth::default(), &app::SimOptions::default(), &stop);
    let line = lines.pop().expect("a line");
    tokio::time::timeout(Duration::from_secs(120), read_once(line, &board)).await.unwrap();
    let state = board.latest(&config.devices[0].profile.id).expect("a battery");
    assert_eq!(state.attempt.map(|attempt| attempt.fault), Some(None), "{}", brand.name);
    assert_eq!(state.profile.brand, brand.driver());
    stop.cancel();
    simulator.await.unwrap().unwrap();
}

/// All at once: most of a search is waiting for those that are not there.
#[tokio::test]
async fn each_simulated_brand_is_found_on_a_pseudo_terminal() {
    let searches = wired().map(is_found).collect::<Vec<_>>();
    assert!(searches.len() >= protocol::DRIVERS.len());
    futures_util::future::join_all(searches).await;
}
