//! Laws of lines: what is published of batteries that are read all the time.

use std::time::Duration;

use bms_reader::board::Board;
use bms_reader::model::{DeviceState, FaultKind, LinkState};
use bms_reader::poll::{BleSettings, Line, ReportedAdapterErrors};
use bms_reader::protocol::Options;
use bms_reader::protocol::driver::Medium;
use tokio::time::{Instant, sleep, timeout};

use crate::attempts::Log;
use crate::fixture::{FakeBus, TestLine, id, member, profile};
use crate::links::assert_no_secret;
use crate::transport::{Behavior, PATIENCE, READING, Transport, jbd};

const INTERVAL: Duration = Duration::from_millis(500);
/// A silent battery uses its own time up, and not that of another one.
const BLE_TIMEOUT: Duration = Duration::from_secs(10);
const REPLY_TIMEOUT: Duration = Duration::from_secs(4);
/// For a busy machine.
const SLACK: Duration = Duration::from_secs(10);
/// While another battery is silent for twelve seconds; one that waits for it has three.
const READS: u64 = 8;
/// More than any link keeps.
const FLOOD: usize = 1_000;
/// A stop must not take as long as a reply.
const STOP_LIMIT: Duration = Duration::from_millis(3500);
/// The lifetime of a value is 30 s; then the failed read that is under way.
const OFFLINE: std::ops::Range<u64> = 29..80;
/// Attempts to connect during that time. The pauses grow.
const MAX_ATTEMPTS: usize = 25;

fn line<T: Transport>(transport: &T, battery: usize) -> TestLine {
    let mut member = member(u8::try_from(battery).unwrap());
    member.driver = Some(jbd());
    member.interval = INTERVAL;
    let is_ble = T::MEDIUM == Medium::Ble;
    let timeout = if is_ble { BLE_TIMEOUT } else { REPLY_TIMEOUT };
    member.options = Options { medium: T::MEDIUM, timeout, ..Options::default() };
    let board = Board::new([profile(&member.id)]);
    let adapter_errors = ReportedAdapterErrors::default();
    let ble = is_ble.then_some(BleSettings { keep_connected: None, adapter_errors });
    let line = Line { ble, ..Line::new(transport.endpoint(battery), vec![member]) };
    TestLine::run_on(board, FakeBus::default(), line)
}

fn state(line: &TestLine, battery: usize) -> DeviceState {
    line.state(u8::try_from(battery).unwrap())
}

async fn wait_for(
    line: &TestLine,
    battery: usize,
    wanted: impl FnMut(&DeviceState) -> bool,
) -> DeviceState {
    let mut states = line.board.subscribe(&id(u8::try_from(battery).unwrap())).unwrap();
    match timeout(PATIENCE, states.wait_for(wanted)).await {
        Ok(state) => state.unwrap().clone(),
        Err(_) => panic!("{:?}", state(line, battery)),
    }
}

/// Good reads that are complete from now on.
async fn wait_reads(line: &TestLine, battery: usize, count: u64) -> DeviceState {
    let reads = state(line, battery).counters.reads + count;
    wait_for(line, battery, |state| state.counters.reads >= reads && is_good(state)).await
}

fn is_good(state: &DeviceState) -> bool {
    state.attempt.as_ref().is_some_and(|attempt| attempt.fault.is_none())
}

fn kind(state: &DeviceState) -> Option<FaultKind> {
    Some(state.attempt.as_ref()?.fault.as_ref()?.kind)
}

async fn stop(line: TestLine) {
    line.stop.cancel();
    timeout(STOP_LIMIT, line.task).await.expect("it stops").unwrap();
}

pub async fn values_are_those_of_the_battery(transport: &mut impl Transport) {
    for behavior in [Behavior::Plain, Behavior::Pieces] {
        transport.set_behavior(0, behavior).await;
        let line = line(transport, 0);
        let is_whole = |state: &DeviceState| {
            state.snapshot.as_ref().is_some_and(|snapshot| snapshot.reading == *READING)
        };
        let state = wait_for(&line, 0, is_whole).await;
        assert_eq!((state.link, state.counters.errors), (LinkState::Online, 0));
        assert!(state.attempt.unwrap().connected);
        stop(line).await;
    }
}

pub async fn lost_reply_costs_one_read<T: Transport>(transport: &mut T) {
    let line = line(transport, 0);
    wait_reads(&line, 0, 2).await;
    transport.set_behavior(0, Behavior::Silent).await;
    let begin = Instant::now();
    let failed = wait_for(&line, 0, |state| !is_good(state)).await;
    let limit = if T::MEDIUM == Medium::Ble { BLE_TIMEOUT } else { REPLY_TIMEOUT };
    assert!(begin.elapsed() < limit + SLACK, "{:?}", begin.elapsed());
    assert_eq!(kind(&failed), Some(FaultKind::Timeout));
    let fault = failed.attempt.unwrap().fault.unwrap();
    assert!(!fault.hint.is_empty(), "{fault:?}");
    assert_no_secret(transport, &format!("{fault:?}"));
    assert_eq!(failed.link, LinkState::Online, "one failure is no outage");
    transport.set_behavior(0, Behavior::Plain).await;
    let state = wait_reads(&line, 0, 1).await;
    // The one that was under way at the change fails, too.
    assert!(state.counters.errors <= 2, "{state:?}");
    assert_eq!(state.snapshot.unwrap().reading, *READING);
    stop(line).await;
}

pub async fn silent_battery_delays_no_other(transport: &mut impl Transport) {
    transport.set_behavior(0, Behavior::Silent).await;
    let [silent, other] = [line(transport, 0), line(transport, 1)];
    wait_reads(&other, 1, 1).await;
    let begin = Instant::now();
    while state(&silent, 0).counters.errors == 0 || begin.elapsed() < Duration::from_secs(12) {
        wait_reads(&other, 1, 1).await;
        assert!(begin.elapsed() < PATIENCE, "the silent battery never fails");
    }
    assert_eq!(kind(&state(&silent, 0)), Some(FaultKind::Timeout));
    let counters = state(&other, 1).counters;
    assert!(counters.errors == 0 && counters.reads >= READS, "{counters:?}");
    stop(silent).await;
    stop(other).await;
}

pub async fn flood_before_a_reply_ends_in_time<T: Transport>(transport: &mut T) {
    let line = line(transport, 0);
    wait_reads(&line, 0, 1).await;
    transport.set_behavior(0, Behavior::Flooded(FLOOD)).await;
    let attempts = |state: &DeviceState| state.attempt.as_ref().map_or(0, |it| it.number);
    let current = attempts(&state(&line, 0));
    let flooded = wait_for(&line, 0, |state| attempts(state) >= current + 3).await;
    let values = flooded.snapshot.unwrap().reading.clone();
    assert_eq!(values, *READING, "no wrong value");
    transport.set_behavior(0, Behavior::Plain).await;
    let state = wait_reads(&line, 0, 2).await;
    assert_eq!(state.snapshot.unwrap().reading, *READING);
    stop(line).await;
}

pub async fn stopped_and_aborted_lines_disconnect(transport: &mut impl Transport) {
    for behavior in [Behavior::Plain, Behavior::Silent] {
        for (pause, is_aborted) in [(0, true), (30, true), (150, false), (400, true), (700, false)]
        {
            transport.set_behavior(0, behavior).await;
            let line = line(transport, 0);
            sleep(Duration::from_millis(pause)).await;
            match is_aborted {
                true => line.task.abort(),
                false => stop(line).await,
            }
            transport.wait_connections(0).await;
        }
    }
    transport.set_behavior(0, Behavior::Plain).await;
    let line = line(transport, 0);
    wait_reads(&line, 0, 1).await;
    stop(line).await;
}

/// Its values are not published as live for longer than their lifetime, and it is tried again after growing random
/// pauses.
pub async fn outage_ends_with_the_transport<T: Transport>(transport: &mut T) {
    let log = Log::default();
    let _logging = tracing::subscriber::set_default(log.subscriber());
    let lines = [line(transport, 0), line(transport, 1)];
    for (battery, line) in lines.iter().enumerate() {
        wait_reads(line, battery, 1).await;
    }
    let (from, begin) = (log.len(), Instant::now());
    transport.vanish().await;
    let mut pauses = Vec::new();
    for (battery, line) in lines.iter().enumerate() {
        let is_offline = |state: &DeviceState| matches!(state.link, LinkState::Offline { .. });
        let offline = wait_for(line, battery, is_offline).await;
        let after = begin.elapsed().as_secs();
        assert!(OFFLINE.contains(&after), "offline after {after} s");
        let kind = kind(&offline).unwrap();
        assert!(T::AWAY.contains(&kind), "{offline:?}");
        let fault = offline.attempt.unwrap().fault.unwrap();
        assert!(!fault.hint.is_empty(), "{fault:?}");
        assert_no_secret(transport, &format!("{fault:?}"));
        pauses.push(log.pauses(from, &transport.endpoint(battery).to_string()));
    }
    assert_no_secret(transport, &log.since(0));
    assert_ne!(pauses[0], pauses[1], "all lines try at the same moments");
    for pauses in &pauses {
        assert!(pauses.len() > 1 && pauses.len() < MAX_ATTEMPTS, "{pauses:?}");
        assert!(pauses.first() < pauses.last(), "they do not grow: {pauses:?}");
    }
    let longest = pauses.iter().filter_map(|it| it.last()).fold(0.0_f32, |a, b| a.max(*b));
    transport.come_back().await;
    let begin = Instant::now();
    for (battery, line) in lines.iter().enumerate() {
        let state = wait_reads(line, battery, 1).await;
        assert_eq!(state.link, LinkState::Online);
        assert_eq!(state.snapshot.unwrap().reading, *READING);
    }
    let limit = Duration::from_secs_f32(longest) + Duration::from_secs(20);
    assert!(begin.elapsed() < limit, "{:?}, pauses {pauses:?}", begin.elapsed());
    for line in lines {
        stop(line).await;
    }
}
