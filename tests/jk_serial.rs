//! JK boards on serial lines: the dialect is detected, and a master is never disturbed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use bms_reader::capture::TrafficLog;
use bms_reader::model::reading::{Setting, Switch};
use bms_reader::model::units::CentiPercent;
use bms_reader::model::{DeviceId, Reading};
use bms_reader::poll::cycle;
use bms_reader::protocol::jk::pb::{Topic, trigger};
use bms_reader::protocol::jk::{INFO, ttl};
use bms_reader::protocol::{CycleKind, Driver, Options, ProtocolError, Step};
use bms_reader::sim::jk::{PB, PB_WITH_MASTER, PbPack, TTL};
use bms_reader::sim::serve::{SimBus, memory};
use bms_reader::sim::{Battery, Bus, Faults, PackState, SimBrand, SimPack};
use bms_reader::transport::{Link, LinkConfig};
use common::{Outcome, play};
use tokio_util::sync::CancellationToken;

fn driver(address: u8) -> Box<dyn Driver> {
    INFO.driver(&Options { address, timeout: Duration::from_secs(1), ..Options::default() })
}

/// A pack whose state of charge is its address.
fn pack(address: u8) -> PbPack {
    let soc = CentiPercent(i32::from(address) * 100);
    let state = PackState { soc, ..PackState::at_rest() };
    PbPack::new(SimPack::new(address, Battery::fixed(state), Faults::default()))
}

fn bus(brand: &'static SimBrand, addresses: &[u8]) -> Bus {
    let mut bus = Bus::new(brand, 1, Faults::default());
    for &address in addresses {
        bus.add(address, Box::new(pack(address)));
    }
    bus
}

fn soc(reading: &Reading) -> Option<i32> {
    reading.pack.soc.map(|soc| soc.0 / 100)
}

/// One cycle on a line without a master.
fn read_quietly(driver: &mut dyn Driver, bus: &mut Bus) -> Outcome {
    driver.start(CycleKind::Read);
    play(driver, |request| vec![bus.reply(request, 0.0)]).unwrap()
}

#[test]
fn ttl_dialect_is_detected_at_once() {
    let mut socket = Bus::with_batteries(&TTL, &[1], 1, Faults::default());
    let mut reader = driver(1);
    for _ in 0..3 {
        let outcome = read_quietly(reader.as_mut(), &mut socket);
        assert_eq!(outcome.asked, [ttl::request()]);
        assert!(outcome.reading().received.cell_info);
    }
}

#[test]
fn pb_dialect_is_detected_in_the_second_cycle_and_kept() {
    let mut bus = bus(&PB, &[4, 5]);
    let mut reader = driver(4);
    let first = read_quietly(reader.as_mut(), &mut bus);
    assert_eq!(first.asked, [ttl::request()], "one request for one silent cycle");
    assert!(matches!(first.end, Step::Failed(ProtocolError::Timeout { .. })));
    let second = read_quietly(reader.as_mut(), &mut bus);
    assert_eq!(second.asked[0], trigger(Topic::Live, 4));
    let reading = second.reading();
    assert_eq!(soc(&reading), Some(4));
    assert!(reading.received.device_info && reading.received.settings);
    for _ in 0..3 {
        let further = read_quietly(reader.as_mut(), &mut bus);
        assert_eq!(further.asked, [Topic::Live, Topic::Settings].map(|topic| trigger(topic, 4)));
    }
    reader.reset();
    assert_eq!(reader.step(), Step::Await(Duration::from_secs(5)), "a new line may have a master");
    assert_eq!(soc(&read_quietly(reader.as_mut(), &mut bus).reading()), Some(4));
}

#[test]
fn silence_identifies_nothing() {
    let mut reader = driver(1);
    for _ in 0..4 {
        reader.start(CycleKind::Identify);
        let outcome = play(reader.as_mut(), |_| Vec::new()).unwrap();
        assert!(matches!(outcome.end, Step::Failed(ProtocolError::Timeout { .. })));
    }
}

#[test]
fn configured_dialect_is_the_only_one_tried() {
    for (variant, expected) in [("ttl", ttl::request()), ("pb", trigger(Topic::Live, 1))] {
        let variant = Some(variant.to_owned());
        let mut reader = INFO.driver(&Options { variant, ..Options::default() });
        for _ in 0..3 {
            reader.start(CycleKind::Read);
            let asked = play(reader.as_mut(), |_| Vec::new()).unwrap().asked;
            assert_eq!(asked, [expected.as_slice()]);
        }
    }
}

async fn line(sim_bus: &SimBus, stop: &CancellationToken) -> Link {
    LinkConfig::Memory(memory("bus", sim_bus.clone(), stop.clone())).open(115_200).await.unwrap()
}

fn traffic() -> TrafficLog {
    TrafficLog::new(&DeviceId::new("jk").unwrap(), None)
}

const LIMIT: Duration = Duration::from_secs(12);

async fn read(reader: &mut dyn Driver, link: &mut Link) -> Option<Reading> {
    cycle(reader, link, CycleKind::Read, LIMIT, &mut traffic())
        .await
        .result
        .ok()
        .map(|reading| *reading)
}

#[tokio::test(start_paused = true)]
async fn packs_behind_a_master_are_read_passively() {
    let stop = CancellationToken::new();
    let sim_bus = SimBus::new(bus(&PB_WITH_MASTER, &[0, 1, 2, 3]), 1.0, None);
    let mut link = line(&sim_bus, &stop).await;
    let mut readers = [0, 1, 2, 3].map(driver);
    for _ in 0..5 {
        for (address, reader) in (0..).zip(&mut readers) {
            let reading = read(&mut **reader, &mut link).await;
            assert_eq!(reading.as_ref().and_then(soc), Some(address));
        }
    }
    assert_eq!(sim_bus.request_count(), 0, "every request would have been a collision");
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn pack_unknown_to_the_master_times_out() {
    let stop = CancellationToken::new();
    let sim_bus = SimBus::new(bus(&PB_WITH_MASTER, &[0, 1]), 1.0, None);
    let mut link = line(&sim_bus, &stop).await;
    let mut reader = driver(9);
    for _ in 0..3 {
        let outcome = cycle(&mut *reader, &mut link, CycleKind::Read, LIMIT, &mut traffic()).await;
        let fault = outcome.result.unwrap_err().fault();
        assert!(fault.message.contains("request of the master to address 9"), "{fault}");
    }
    assert_eq!(sim_bus.request_count(), 0);
    stop.cancel();
}

#[test]
fn driver_is_silent_while_a_master_is_active() {
    let mut bus = bus(&PB, &[1, 2]);
    let mut reader = INFO.driver(&Options { variant: Some("pb".into()), ..Options::default() });
    assert_eq!(soc(&read_quietly(reader.as_mut(), &mut bus).reading()), Some(1));

    // While an answer is awaited, a master asks another pack.
    reader.start(CycleKind::Read);
    let outcome = play(reader.as_mut(), |_| {
        let foreign = trigger(Topic::Live, 2);
        let ours = trigger(Topic::Live, 1);
        let answers = [bus.reply(&foreign, 0.0), ours.clone(), bus.reply(&ours, 0.0)];
        vec![[foreign, answers.concat()].concat()]
    });
    assert_eq!(soc(&outcome.unwrap().reading()), Some(1));

    // From now on nothing is sent, until two cycles passed without a master.
    for expected in [0, 0, 2] {
        assert_eq!(read_quietly(reader.as_mut(), &mut bus).asked.len(), expected);
    }
}

#[test]
fn switching_over_serial_is_unsupported() {
    let mut reader = driver(1);
    reader.start(CycleKind::Write(Setting { switch: Switch::Charging, on: false }));
    let outcome = play(reader.as_mut(), |_| Vec::new()).unwrap();
    assert!(outcome.asked.is_empty());
    assert!(matches!(outcome.error(), ProtocolError::Unsupported { .. }));
}

/// The answers of both dialects contain them.
#[test]
fn passwords_never_leave_the_driver() {
    let mut socket = Bus::with_batteries(&TTL, &[1], 1, Faults::default());
    let mut packs = Bus::with_batteries(&PB, &[1], 1, Faults::default());
    let mut reader = driver(1);
    let output = format!("{:?}", read_quietly(reader.as_mut(), &mut socket).reading());
    let mut reader = driver(1);
    read_quietly(reader.as_mut(), &mut packs);
    let output = output + &format!("{:?}", read_quietly(reader.as_mut(), &mut packs).reading());
    assert!(output.contains("JK_SIM16S"), "{output}");
    assert!(!output.contains("123456"), "{output}");
}
