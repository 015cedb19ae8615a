//! JK boards over Bluetooth: both layouts, the stream, switching, and what must stay secret.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use bms_reader::capture::TrafficLog;
use bms_reader::model::reading::{Setting, Switch};
use bms_reader::model::{DeviceId, Reading};
use bms_reader::poll::cycle;
use bms_reader::protocol::driver::Medium;
use bms_reader::protocol::jk::INFO;
use bms_reader::protocol::jk::record::checksum;
use bms_reader::protocol::{CycleKind, Driver, Options, Step};
use bms_reader::sim::jk::{BRAND, JkBoard, Layout};
use bms_reader::sim::serve::{SimBus, memory};
use bms_reader::sim::{Bus, Faults, PackState, Responder, SimPack};
use common::play;
use common::vectors::{Kind, facts, vector, vectors};
use tokio_util::sync::CancellationToken;

fn driver() -> Box<dyn Driver> {
    let timeout = Duration::from_secs(20);
    INFO.driver(&Options { medium: Medium::Ble, timeout, ..Options::default() })
}

fn board(layout: Layout) -> JkBoard {
    JkBoard::new(SimPack::fixed(1), layout)
}

/// One cycle with a board that sends a few records after each request.
fn read(driver: &mut dyn Driver, board: &mut JkBoard, kind: CycleKind) -> Reading {
    driver.start(kind);
    let outcome = play(driver, |request| {
        let mut records = vec![board.respond(request, 0.0).unwrap()];
        records.extend((0..3).filter_map(|_| board.unsolicited(0.0)));
        records
    });
    outcome.unwrap().reading()
}

#[test]
fn both_layouts_yield_the_same_values() {
    let state = PackState::at_rest();
    for (layout, sensors) in [(Layout::Cells24, 2), (Layout::Cells32, 4)] {
        let reading = read(driver().as_mut(), &mut board(layout), CycleKind::Read);
        assert_eq!(reading.pack.voltage, Some(state.voltage));
        assert_eq!(reading.pack.remaining, Some(state.remaining));
        assert_eq!(reading.pack.design, Some(state.design));
        let cells: Vec<_> = reading.cells.iter().map(|cell| cell.voltage.unwrap()).collect();
        assert_eq!(cells, state.cells);
        let probes: Vec<_> = reading.probes.iter().map(|probe| probe.value.unwrap()).collect();
        let expected = [&[state.mosfet], &state.sensors[..sensors]].concat();
        assert_eq!(probes, expected, "{layout:?}");
        assert_eq!(reading.alarms.active().count(), 0);
    }
}

#[test]
fn every_switch_is_set_and_read_back() {
    for layout in [Layout::Cells24, Layout::Cells32] {
        let (mut driver, mut board) = (driver(), board(layout));
        for &switch in INFO.controls {
            for on in [false, true] {
                let setting = Setting { switch, on };
                let reading = read(driver.as_mut(), &mut board, CycleKind::Write(setting));
                assert_eq!(reading.switches.get(switch), Some(on), "{layout:?} {setting:?}");
                let others = INFO.controls.iter().filter(|other| **other != switch);
                for other in others {
                    assert_eq!(reading.switches.get(*other), Some(true));
                }
            }
        }
        assert_eq!(board.pack.state(0.0), PackState::at_rest());
    }
    assert_eq!(INFO.controls, [Switch::Charging, Switch::Discharging, Switch::Balancing]);
}

/// Over a link, in notifications with the module's text between them.
#[tokio::test(start_paused = true)]
async fn each_record_of_the_stream_is_a_reading() {
    let stop = CancellationToken::new();
    let board = Bus::with_batteries(&BRAND, &[1], 7, Faults::default());
    let mut bus = SimBus::new(board, 600.0, None);
    bus.notification = BRAND.notification;
    let port = memory("board", bus.clone(), stop.clone());
    let endpoint = bms_reader::transport::LinkConfig::Memory(port);
    let mut link = endpoint.open(9600).await.unwrap();
    let mut driver = driver();
    let mut traffic = TrafficLog::new(&DeviceId::new("jk").unwrap(), None);
    for _ in 0..20 {
        let outcome =
            cycle(&mut *driver, &mut link, CycleKind::Read, Duration::from_secs(20), &mut traffic)
                .await;
        let reading = outcome.result.unwrap();
        let (address, seconds) = bus.last_reply().unwrap();
        let state = Bus::battery(7, address).state(seconds);
        let cells: Vec<_> = reading.cells.iter().map(|cell| cell.voltage.unwrap()).collect();
        assert_eq!(cells, state.cells);
        assert_eq!(reading.pack.current, Some(state.current));
        assert!(reading.received.device_info && reading.received.settings);
    }
    stop.cancel();
}

const PASSCODES: [(usize, &[u8]); 3] = [(62, b"Sesame1"), (97, b"8371"), (118, b"Sesame2")];

#[test]
fn passcodes_never_leave_the_driver() {
    let mut device = vector("jk", "esphome_device_info_jk02_32s_v15").response.clone();
    for (at, passcode) in PASSCODES {
        device[at..at + passcode.len()].copy_from_slice(passcode);
    }
    device[299] = checksum(&device[..299]);
    let live = &vector("jk", "esphome_cell_info_jk02_32s_v15").response;

    let mut driver = driver();
    let reading = play(driver.as_mut(), |_| vec![device.clone(), live.clone()]).unwrap().reading();
    assert!(reading.received.device_info);
    let mut output = format!("{reading:?}");
    output += &facts(&INFO, Step::Done(Box::new(reading))).to_string();

    let mut damaged = device.clone();
    damaged[200] ^= 1;
    output += &format!("{:?}", play(driver.as_mut(), |_| Vec::new()));
    driver.reset();
    let failed = play(driver.as_mut(), |_| vec![damaged.clone()]).unwrap().error();
    output += &format!("{failed} {failed:?}");
    for passcode in ["Sesame", "8371"] {
        assert!(!output.contains(passcode), "{output}");
    }
    assert!(output.contains("JK_PB2A16S15P"), "{output}");
}

/// The `raw` JSON does not contain this switch.
#[test]
fn recorded_settings_contain_the_balancing_switch() {
    let off = ["jk04_b5a24s_v8_settings", "jk02_32s_b2a20s20p_v11_settings"];
    let settings = vectors("jk").iter().filter(|vector| vector.id.contains("settings"));
    let mut compared = 0;
    for vector in settings.filter(|vector| vector.kind == Kind::Response) {
        let mut session = vector.session();
        let reading = vector.read(|request| session.chunks(request)).reading();
        assert_eq!(reading.switches.balancing, Some(!off.contains(&&*vector.id)), "{}", vector.id);
        compared += 1;
    }
    assert_eq!(compared, 11);
}
