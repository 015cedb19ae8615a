//! A battery on Bluetooth, with a link in memory in place of BlueZ.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bms_reader::board::Board;
use bms_reader::command::{Command, CommandError, ConfigChange};
use bms_reader::model::{FaultKind, LinkState, Profile};
use bms_reader::poll::{BleSettings, Line, ReportedAdapterErrors};
use bms_reader::protocol::Options;
use bms_reader::protocol::driver::Medium;
use bms_reader::transport::{LinkConfig, MemoryPort};
use tokio::time::Instant;

use crate::fixture::{FakeBus, TestLine, id, member, profile, wait_seconds};

const ADDRESS: &str = "C8:47:80:37:02:E8";
const ADDRESS_OF_ANOTHER: &str = "C8:47:80:37:02:E9";
const NEW_ADDRESS: &str = "C8:47:80:37:02:EA";

fn ble_line(port: MemoryPort, keep_connected: bool) -> Line {
    let mut member = member(1);
    let timeout = Duration::from_secs(20);
    member.options = Options { medium: Medium::Ble, timeout, ..member.options };
    let ble = BleSettings {
        keep_connected: Some(keep_connected),
        adapter_errors: ReportedAdapterErrors::default(),
    };
    Line { ble: Some(ble), ..Line::new(LinkConfig::Memory(port), vec![member]) }
}

fn start(keep_connected: bool) -> TestLine {
    let bus = FakeBus::default();
    let line = ble_line(bus.serve(), keep_connected);
    TestLine::run(bus, line)
}

/// Two batteries with Bluetooth addresses on the board, the first of them on the line.
async fn start_with_addresses() -> TestLine {
    let at = |address: &str, number| Profile {
        address: Some(address.to_owned()),
        adapter: Some("hci0".to_owned()),
        ..profile(&id(number))
    };
    let board = Board::new([at(ADDRESS, 1), at(ADDRESS_OF_ANOTHER, 2)]);
    let bus = FakeBus::default();
    let line = ble_line(bus.serve(), true);
    let line = TestLine::run_on(board, bus, line);
    wait_seconds(1).await;
    line
}

async fn change_address(line: &TestLine, address: &str) -> Result<(), CommandError> {
    let address = Some(address.to_owned());
    line.configure(1, ConfigChange { address, ..ConfigChange::default() }).await
}

/// Links opened so far, and links open now.
fn links(line: &TestLine) -> (usize, usize) {
    (line.bus.opened.load(Ordering::Relaxed), line.bus.open.load(Ordering::Relaxed))
}

#[tokio::test(start_paused = true)]
async fn battery_is_disconnected_between_two_reads() {
    let line = start(false);
    for round in 1..=4 {
        wait_seconds(1).await;
        assert_eq!(links(&line), (round, 0));
        wait_seconds(9).await;
    }
    let counters = line.state(1).counters;
    assert_eq!((counters.reads, counters.errors, counters.reconnects), (4, 0, 0));
    assert!(line.state(1).attempt.unwrap().connected);
}

#[tokio::test(start_paused = true)]
async fn connection_stays_open_with_keep_connected() {
    let line = start(true);
    wait_seconds(31).await;
    assert_eq!(links(&line), (1, 1));
    assert_eq!(line.state(1).counters.reads, 4);
}

#[tokio::test(start_paused = true)]
async fn connect_that_succeeds_a_moment_later_is_no_failure() {
    let (port, mut arrivals) = MemoryPort::new("ble");
    let _phone = port.open().unwrap();
    let line = TestLine::run(FakeBus::default(), ble_line(port, true));
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(line.state(1).attempt, None, "nothing is recorded yet");
    let _link_of_the_phone = arrivals.recv().await;
    let mut far = arrivals.recv().await.unwrap();
    far.receive().await.unwrap();
    far.send(b"!").await.unwrap();
    wait_seconds(1).await;
    let counters = line.state(1).counters;
    assert_eq!((counters.reads, counters.errors), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn busy_battery_is_reported_and_read_as_soon_as_it_is_free() {
    let (port, mut arrivals) = MemoryPort::new("ble");
    let _phone = port.open().unwrap();
    let line = TestLine::run(FakeBus::default(), ble_line(port, true));
    // Within a pause that began after 46 s at most and is no shorter than 45 s.
    wait_seconds(60).await;
    assert_eq!(line.fault(1), Some(FaultKind::PortBusy));
    assert!(matches!(line.state(1).link, LinkState::Offline { .. }));
    let freed = Instant::now();
    let _link_of_the_phone = arrivals.recv().await;
    let mut far = arrivals.recv().await.unwrap();
    assert_eq!(freed.elapsed(), Duration::ZERO, "the transport signals that it is free");
    far.receive().await.unwrap();
    far.send(b"!").await.unwrap();
    wait_seconds(1).await;
    assert_eq!(line.state(1).link, LinkState::Online);
}

#[tokio::test(start_paused = true)]
async fn silent_link_is_replaced() {
    let line = start(true);
    wait_seconds(1).await;
    line.bus.silence(1);
    // The read after ten seconds fails after five more, long before the timeout of a whole read.
    wait_seconds(15).await;
    assert_eq!(line.fault(1), Some(FaultKind::Timeout));
    assert_eq!(links(&line), (1, 0));
    line.bus.unsilence();
    wait_seconds(10).await;
    assert_eq!(links(&line), (2, 1));
    assert_eq!(line.state(1).link, LinkState::Online);
    assert_eq!(line.state(1).counters.errors, 1);
}

#[tokio::test(start_paused = true)]
async fn paused_battery_is_disconnected() {
    let line = start(true);
    wait_seconds(1).await;
    line.pause(1, true).await;
    wait_seconds(100).await;
    assert_eq!(links(&line), (1, 0));
    line.pause(1, false).await;
    wait_seconds(1).await;
    assert_eq!(links(&line), (2, 1));
    assert_eq!(line.state(1).link, LinkState::Online);
}

#[tokio::test(start_paused = true)]
async fn address_of_another_battery_is_refused() {
    let line = start_with_addresses().await;
    let error = change_address(&line, ADDRESS_OF_ANOTHER).await.unwrap_err();
    assert!(error.0.contains("is already the address of b2"), "{error}");
    assert_eq!(links(&line), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn unchanged_address_reconnects_and_stays_online() {
    let line = start_with_addresses().await;
    change_address(&line, ADDRESS).await.unwrap();
    assert_eq!(line.state(1).link, LinkState::Online);
    wait_seconds(1).await;
    assert_eq!((links(&line), line.state(1).counters.reads), ((2, 1), 2));
}

#[tokio::test(start_paused = true)]
async fn new_address_starts_as_a_new_battery() {
    let line = start_with_addresses().await;
    line.bus.silence(1);
    change_address(&line, NEW_ADDRESS).await.unwrap();
    let state = line.state(1);
    assert_eq!(state.link, LinkState::Connecting);
    assert_eq!(state.profile.address.as_deref(), Some(NEW_ADDRESS));
    line.bus.unsilence();
    line.bus.halved_replies.store(1, Ordering::Relaxed);
    line.command(1, Command::Read).await.unwrap();
    wait_seconds(1).await;
    assert_eq!(line.state(1).link, LinkState::Online);
    assert_eq!(line.state(1).counters.rejected, 0, "another battery may have another voltage");
}

#[tokio::test(start_paused = true)]
async fn one_command_changes_address_adapter_and_times() {
    let line = start_with_addresses().await;
    line.bus.silence(1);
    let change = ConfigChange {
        address: Some(NEW_ADDRESS.to_owned()),
        adapter: Some(None),
        interval: Some(Duration::from_secs(60)),
        timeout: Some(Duration::from_secs(3)),
        scan_timeout: Some(Duration::from_secs(9)),
        ..ConfigChange::default()
    };
    line.configure(1, change).await.unwrap();
    let profile = line.state(1).profile;
    assert_eq!((&profile.adapter, profile.interval_ms), (&None, 60_000));
    tokio::time::sleep(Duration::from_millis(3100)).await;
    assert_eq!(line.fault(1), Some(FaultKind::Timeout), "read at once, with the new timeout");
    assert_eq!(links(&line).0, 2, "on a new connection");
}
