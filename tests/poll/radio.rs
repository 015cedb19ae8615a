//! A battery on Bluetooth, with a link in memory for the radio: what is special about it is when
//! it is connected, and what may be changed about it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bms_reader::board::Board;
use bms_reader::command::{Command, ConfigChange};
use bms_reader::model::{FaultKind, LinkState, Profile};
use bms_reader::poll::{BleSettings, Line, ReportedAdapterErrors};
use bms_reader::protocol::Options;
use bms_reader::protocol::driver::Medium;
use bms_reader::transport::{Endpoint, MemoryPort};

use crate::rig::{Bus, Rig, id, member, profile, seconds};

fn line(port: MemoryPort, keep_connected: bool) -> Line {
    let mut member = member(1);
    member.options = Options { medium: Medium::Ble, ..member.options };
    let read_timeout = Duration::from_secs(20);
    Line {
        endpoint: Endpoint::Memory(port),
        bauds: Vec::new(),
        members: vec![member],
        recorder: None,
        ble: Some(BleSettings {
            keep_connected: Some(keep_connected),
            read_timeout,
            adapter_errors: ReportedAdapterErrors::default(),
        }),
    }
}

fn rig(keep_connected: bool) -> Rig {
    let bus = Bus::default();
    let line = line(bus.serve("radio"), keep_connected);
    Rig::on(bus, line)
}

fn links(rig: &Rig) -> (usize, usize) {
    (rig.bus.opened.load(Ordering::Relaxed), rig.bus.held.load(Ordering::Relaxed))
}

#[tokio::test(start_paused = true)]
async fn between_two_reads_the_battery_is_left_to_others() {
    let rig = rig(false);
    for round in 1..=4 {
        seconds(1).await;
        assert_eq!(links(&rig), (round, 0), "opened, and open now");
        seconds(9).await;
    }
    let counters = rig.state(1).counters;
    assert_eq!((counters.reads, counters.errors, counters.reconnects), (4, 0, 0));
    assert!(rig.state(1).attempt.unwrap().connected);
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_kept_stays_open() {
    let rig = rig(true);
    seconds(31).await;
    assert_eq!(links(&rig), (1, 1));
    assert_eq!(rig.state(1).counters.reads, 4);
}

#[tokio::test(start_paused = true)]
async fn connecting_anew_a_moment_later_is_no_failure() {
    let (port, mut arrivals) = MemoryPort::new("radio");
    let _others = port.open().unwrap();
    let rig = Rig::on(Bus::default(), line(port, true));
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(rig.state(1).attempt, None, "it is tried again before anything is booked");
    let _far_end_of_the_others = arrivals.recv().await;
    let mut far = arrivals.recv().await.unwrap();
    far.receive().await.unwrap();
    far.send(b"!").await.unwrap();
    seconds(1).await;
    let counters = rig.state(1).counters;
    assert_eq!((counters.reads, counters.errors), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_battery_that_stays_away_is_told_and_tried_again_by_itself() {
    let (port, mut arrivals) = MemoryPort::new("radio");
    let _others = port.open().unwrap();
    let rig = Rig::on(Bus::default(), line(port, true));
    seconds(45).await;
    assert_eq!(rig.fault(1), Some(FaultKind::PortBusy));
    assert!(matches!(rig.state(1).link, LinkState::Offline { .. }));
    let _far_end_of_the_others = arrivals.recv().await;
    let mut far = arrivals.recv().await.unwrap();
    far.receive().await.unwrap();
    far.send(b"!").await.unwrap();
    seconds(1).await;
    assert_eq!(rig.state(1).link, LinkState::Online, "it is read as soon as it is back");
}

#[tokio::test(start_paused = true)]
async fn a_silent_link_is_given_up_for_a_new_one() {
    let rig = rig(true);
    seconds(1).await;
    rig.bus.silent.lock().unwrap().push(1);
    seconds(13).await;
    assert_eq!(rig.fault(1), Some(FaultKind::Timeout));
    assert_eq!(links(&rig), (1, 0));
    rig.bus.silent.lock().unwrap().clear();
    seconds(10).await;
    assert_eq!(links(&rig), (2, 1));
    assert_eq!(rig.state(1).link, LinkState::Online);
    assert_eq!(rig.state(1).counters.errors, 1);
}

#[tokio::test(start_paused = true)]
async fn a_paused_battery_is_released() {
    let rig = rig(true);
    seconds(1).await;
    let pause = |paused| {
        Command::Configure(ConfigChange { paused: Some(paused), ..ConfigChange::default() })
    };
    rig.commands.send(&id(1), pause(true)).await.unwrap();
    seconds(1).await;
    assert_eq!(links(&rig), (1, 0));
    seconds(100).await;
    assert_eq!(links(&rig), (1, 0));
    rig.commands.send(&id(1), pause(false)).await.unwrap();
    seconds(1).await;
    assert_eq!(links(&rig), (2, 1));
    assert_eq!(rig.state(1).link, LinkState::Online);
}

#[tokio::test(start_paused = true)]
async fn it_moves_to_another_address_at_once() {
    let bus = Bus::default();
    let line = line(bus.serve("radio"), true);
    let at = |address: &str, number| Profile {
        address: Some(address.to_owned()),
        adapter: Some("hci0".to_owned()),
        ..profile(&id(number))
    };
    let board = Board::new([at("C8:47:80:37:02:E8", 1), at("C8:47:80:37:02:E9", 2)]);
    let rig = Rig::beside(bus, board, line);
    seconds(1).await;
    let battery = id(1);
    let configure = |change: ConfigChange| rig.commands.send(&battery, Command::Configure(change));
    let to = |address: &str| ConfigChange {
        address: Some(address.to_owned()),
        ..ConfigChange::default()
    };

    let refused = configure(to("C8:47:80:37:02:E9")).await.unwrap_err();
    assert!(refused.0.contains("is already the address of b2"), "{refused}");
    assert_eq!(links(&rig), (1, 1));

    configure(to("C8:47:80:37:02:E8")).await.unwrap();
    assert_eq!(rig.state(1).link, LinkState::Online, "it is there already");
    seconds(1).await;
    assert_eq!((links(&rig), rig.state(1).counters.reads), ((2, 1), 2));

    let change = ConfigChange {
        adapter: Some(None),
        interval: Some(Duration::from_secs(60)),
        timeout: Some(Duration::from_secs(3)),
        scan_timeout: Some(Duration::from_secs(9)),
        ..to("C8:47:80:37:02:EA")
    };
    rig.bus.silent.lock().unwrap().push(1);
    configure(change).await.unwrap();
    let state = rig.state(1);
    assert_eq!(state.link, LinkState::Connecting, "what the old one said is not the new one's");
    assert_eq!(state.profile.address.as_deref(), Some("C8:47:80:37:02:EA"));
    assert_eq!((&state.profile.adapter, state.profile.interval_ms), (&None, 60_000));
    tokio::time::sleep(Duration::from_millis(3100)).await;
    assert_eq!(rig.fault(1), Some(FaultKind::Timeout), "read at once, with the new time limit");
    assert_eq!(rig.bus.opened.load(Ordering::Relaxed), 3, "connected anew");

    rig.bus.silent.lock().unwrap().clear();
    rig.bus.halves.store(1, Ordering::Relaxed);
    rig.commands.send(&battery, Command::Read).await.unwrap();
    seconds(1).await;
    assert_eq!(rig.state(1).link, LinkState::Online);
    assert_eq!(rig.state(1).counters.rejected, 0, "another voltage is no jump");
}
