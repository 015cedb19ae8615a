//! The search for the brand of a battery.

use std::sync::Arc;
use std::time::Duration;

use bms_reader::app;
use bms_reader::board::Board;
use bms_reader::command::CommandBus;
use bms_reader::config;
use bms_reader::model::{DeviceId, FaultKind, LinkState};
use bms_reader::poll::{Line, LineMember, read_once, run_line};
use bms_reader::protocol;
use bms_reader::sim::serve::{self, ListenAddr, SimBus, SimServer, SimServerOptions};
use bms_reader::sim::{self, Bus, Faults, SimBrand, brands};
use bms_reader::transport::{Bluetooth, LinkConfig, MemoryPort};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
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
    simulated_at(brand, *brand.addresses.start().max(&1))
}

fn simulated_at(brand: &'static SimBrand, address: u8) -> MemoryPort {
    let bus = Bus::with_batteries(brand, &[address], 1, Faults::default());
    serve::memory("simulated", SimBus::new(bus, 1.0, None), CancellationToken::new())
}

/// A battery as the configuration sees it, at this port in memory.
fn configured(environment: &[(&str, &str)], port: MemoryPort) -> (Line, Board, DeviceId) {
    let port_name = [("BMS_PORT", "/dev/ttyUSB0"), ("BMS_OPTIONS_FILE", "/nonexistent")];
    let environment = environment.iter().chain(&port_name);
    let environment = environment.map(|(name, value)| (name.to_string(), value.to_string()));
    let config = config::load(environment.collect()).expect("a good configuration");
    let board = Board::new(config.devices.iter().map(|device| device.profile.clone()));
    let (bluetooth, sim) = (Bluetooth::default(), app::SimOptions::default());
    let line = app::lines(&config.devices, &bluetooth, &sim, &CancellationToken::new()).remove(0);
    let id = line.members[0].id.clone();
    (Line { endpoint: LinkConfig::Memory(port), ..line }, board, id)
}

/// Type and address of the battery that one read finds.
async fn found(environment: &[(&str, &str)], port: MemoryPort) -> (String, Option<String>) {
    let (line, board, id) = configured(environment, port);
    read_once(line, &board).await;
    let state = board.latest(&id).expect("a battery");
    assert_eq!(state.attempt.map(|attempt| attempt.fault), Some(None), "{environment:?}");
    (state.profile.brand.clone(), state.profile.address.clone())
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
    assert!(fault.message.contains("tried: daren, jbd, "), "{fault}");
    assert!(fault.message.contains(" and 115200 baud, addresses 0, 1"), "{fault}");
    assert_eq!(line.state(1).profile.brand, "test", "the brand stays as configured");
    let rounds = line.state(1).counters.errors;
    assert!((2..=60).contains(&rounds), "{rounds} rounds");
}

/// `BMS_PORT` alone stands for Daren, which other brands do not answer.
#[tokio::test(start_paused = true)]
async fn silent_assumed_type_is_followed_by_a_search() {
    for name in ["jbd", "jk:pb", "pace", "seplos", "pylontech-sc0500", "renogy"] {
        let brand = sim::find(name).expect("a simulated brand");
        assert_eq!(found(&[], simulated(brand)).await.0, brand.driver(), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn battery_at_address_0_is_found() {
    let at_0 = || simulated_at(&sim::seplos::BRAND, 0);
    let expected = ("seplos".to_owned(), Some("0".to_owned()));
    for environment in [
        &[][..],
        &[("BMS_SLAVE_ID", "1")],
        &[("BMS_TYPE", "auto")],
        &[("BMS_TYPE", "auto"), ("BMS_SLAVE_ID", "1")],
        &[("BMS_TYPE", "seplos")],
    ] {
        assert_eq!(found(environment, at_0()).await, expected, "{environment:?}");
    }
    let daren = found(&[], simulated_at(&sim::daren::BRAND, 0)).await;
    assert_eq!(daren, ("daren".to_owned(), Some("0".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn configured_address_of_a_configured_type_is_not_doubted() {
    let environment = [("BMS_TYPE", "seplos"), ("BMS_SLAVE_ID", "1")];
    let (line, board, id) = configured(&environment, simulated_at(&sim::seplos::BRAND, 0));
    read_once(line, &board).await;
    let fault = board.latest(&id).and_then(|state| state.attempt?.fault);
    assert_eq!(fault.map(|fault| fault.kind), Some(FaultKind::Timeout));
}

#[tokio::test(start_paused = true)]
async fn answering_assumed_type_is_read_without_a_search() {
    let (line, board, id) = configured(&[], simulated_at(&sim::daren::BRAND, 1));
    let started = Instant::now();
    read_once(line, &board).await;
    let state = board.latest(&id).expect("a battery");
    assert_eq!(state.attempt.map(|attempt| attempt.fault), Some(None));
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn battery_that_wakes_up_later_is_found() {
    let (port, mut arrivals) = MemoryPort::new("late");
    let later = simulated_at(&sim::pace::BRAND, 1);
    let awake = Instant::now() + Duration::from_secs(600);
    tokio::spawn(async move {
        while let Some(mut link) = arrivals.recv().await {
            let mut battery = None;
            while let Ok(request) = link.receive().await {
                if Instant::now() >= awake && battery.is_none() {
                    battery = later.open().ok();
                }
                let Some(battery) = &mut battery else { continue };
                battery.send(&request).await.unwrap();
                if let Ok(reply) = timeout(Duration::from_millis(400), battery.receive()).await {
                    link.send(&reply.unwrap()).await.unwrap();
                }
            }
        }
    });
    let (line, board, id) = configured(&[], port);
    let (_bus, mut inboxes) = CommandBus::new(&[vec![id.clone()]]);
    let stop = CancellationToken::new();
    let inbox = inboxes.remove(0);
    let task = tokio::spawn(run_line(line, board.clone(), inbox, stop.clone().into()));
    let mut state = board.subscribe(&id).unwrap();
    let online = state.wait_for(|state| state.profile.brand == "pace");
    timeout(Duration::from_secs(3600), online).await.expect("it is found").unwrap();
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn search_of_a_silent_line_takes_a_minute_at_most() {
    let (port, mut arrivals) = MemoryPort::new("silent");
    tokio::spawn(async move {
        while let Some(mut link) = arrivals.recv().await {
            while link.receive().await.is_ok() {}
        }
    });
    let started = Instant::now();
    let (line, board, id) = configured(&[("BMS_TYPE", "auto")], port);
    read_once(line, &board).await;
    let fault = board.latest(&id).and_then(|state| state.attempt?.fault);
    assert_eq!(fault.map(|fault| fault.kind), Some(FaultKind::Timeout));
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
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
    timeout(Duration::from_secs(120), read_once(line, &board)).await.unwrap();
    let state = board.latest(&config.devices[0].profile.id).expect("a battery");
    assert_eq!(state.profile.brand, "daren");
    stop.cancel();
    simulator.await.unwrap().unwrap();
}

/// A bridge to several simulated buses, as if they shared a wire.
async fn shared_wire(buses: Vec<(&'static SimBrand, Vec<u8>)>, stop: &CancellationToken) -> String {
    let mut peers = Vec::new();
    for (brand, addresses) in buses {
        let options = SimServerOptions {
            brand,
            addresses,
            seed: 1,
            speed: 1.0,
            pacing: None,
            faults: Faults::default(),
            listen: ListenAddr::Tcp("127.0.0.1:0".to_owned()),
        };
        let server = SimServer::open(&options).await.unwrap();
        peers.push(server.port().trim_start_matches("tcp://").to_owned());
        tokio::spawn(server.serve(stop.clone()));
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = format!("tcp://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((reader, _)) = listener.accept().await {
            let (mut requests, replies) = reader.into_split();
            let (replies, mut buses) = (Arc::new(Mutex::new(replies)), Vec::new());
            for peer in &peers {
                let (mut from, to) = TcpStream::connect(peer).await.unwrap().into_split();
                buses.push(to);
                let replies = replies.clone();
                tokio::spawn(async move {
                    let mut bytes = [0; 1024];
                    while let Ok(count @ 1..) = from.read(&mut bytes).await {
                        let _ = replies.lock().await.write_all(&bytes[..count]).await;
                    }
                });
            }
            tokio::spawn(async move {
                let mut bytes = [0; 1024];
                while let Ok(count @ 1..) = requests.read(&mut bytes).await {
                    for bus in &mut buses {
                        bus.write_all(&bytes[..count]).await.unwrap();
                    }
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn scan_lists_every_pack_of_every_brand_on_a_wire() {
    let stop = CancellationToken::new();
    let eg4 = sim::find("eg4").unwrap();
    let port = shared_wire(vec![(&sim::daren::BRAND, vec![1, 2, 5]), (eg4, vec![6])], &stop).await;
    let mut scan = std::process::Command::new(env!("CARGO_BIN_EXE_bms-reader"));
    scan.args(["scan", "--seconds", "1", "--probe", &port]).env("LOG_LEVEL", "info");
    let output = tokio::task::spawn_blocking(move || scan.output()).await.unwrap().unwrap();
    let (text, log) =
        [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap()).into();
    assert!(text.contains("  4 packs found\n    address 1: Daren, "), "{text}\n{log}");
    assert!(text.contains("    address 6: EG4"), "{text}\n{log}");
    assert!(text.contains(r#""id":"pack5""#) && text.contains("BANKS="), "{text}");
    assert!(log.contains("trying daren"), "{log}");
    stop.cancel();
}
