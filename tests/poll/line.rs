//! Schedule, outages and bad readings on a line.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bms_reader::command::ConfigChange;
use bms_reader::model::units::Millivolts;
use bms_reader::model::{FaultKind, LinkState};
use bms_reader::poll::{Line, LineMember};
use bms_reader::protocol::Options;
use bms_reader::transport::{LinkConfig, MemoryPort};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_serial::{SerialPort, SerialStream};

use crate::fixture::{CRASHING, FakeBus, TestLine, id, member, wait_seconds};

#[tokio::test(start_paused = true)]
async fn batteries_of_one_bus_are_read_in_turn_at_their_interval() {
    let line = TestLine::start(&[1, 2, 3]);
    wait_seconds(101).await;
    for address in [1, 2, 3] {
        assert_eq!(line.bus.request_count(address), 11);
        assert_eq!(line.state(address).link, LinkState::Online);
        assert_eq!(line.state(address).counters.reads, 11);
    }
}

#[tokio::test(start_paused = true)]
async fn silent_battery_delays_the_others_by_one_timeout() {
    let line = TestLine::start(&[1, 2, 3]);
    wait_seconds(1).await;
    line.bus.silence(1);
    wait_seconds(120).await;
    let requests = line.bus.requests.lock().unwrap().clone();
    for address in [2, 3] {
        let times: Vec<_> = requests.iter().filter(|(at, _)| *at == address).collect();
        let longest = times.windows(2).map(|pair| pair[1].1 - pair[0].1).max().unwrap();
        assert!(longest <= Duration::from_secs(12), "battery {address} waited {longest:?}");
        assert_eq!(line.state(address).counters.errors, 0);
    }
    assert_eq!(line.fault(1), Some(FaultKind::Timeout));
    assert!(matches!(line.state(1).link, LinkState::Offline { .. }));
}

#[tokio::test(start_paused = true)]
async fn failed_read_keeps_the_last_snapshot() {
    let line = TestLine::start(&[1]);
    wait_seconds(1).await;
    let before = line.state(1).snapshot.unwrap();
    line.bus.silence(1);
    wait_seconds(60).await;
    let state = line.state(1);
    assert_eq!(*state.snapshot.unwrap(), *before);
    assert_eq!(state.counters.consecutive_errors, u32::try_from(state.counters.errors).unwrap());
    line.bus.unsilence();
    wait_seconds(20).await;
    let state = line.state(1);
    assert_eq!(state.link, LinkState::Online);
    assert_eq!(state.counters.consecutive_errors, 0);
    assert_eq!(state.snapshot.unwrap().sequence, state.counters.reads);
}

#[tokio::test(start_paused = true)]
async fn lost_port_is_reopened_and_read_at_once() {
    let (port, mut arrivals) = MemoryPort::new("line");
    let line = TestLine::with_port(FakeBus::default(), port, &[1]);
    let mut far = arrivals.recv().await.unwrap();
    far.receive().await.unwrap();
    far.send(b"!").await.unwrap();
    wait_seconds(1).await;
    assert_eq!(line.state(1).link, LinkState::Online);
    drop(far);
    wait_seconds(10).await;
    assert_eq!(line.fault(1), Some(FaultKind::Disconnected));
    // The next request does not wait for the interval.
    let mut far = arrivals.recv().await.unwrap();
    far.receive().await.unwrap();
    far.send(b"!").await.unwrap();
    wait_seconds(1).await;
    assert_eq!(line.state(1).link, LinkState::Online);
    assert_eq!(line.state(1).counters.reconnects, 1);
}

#[tokio::test(start_paused = true)]
async fn missing_port_fails_each_read_until_offline() {
    let (port, arrivals) = MemoryPort::new("line");
    drop(arrivals);
    let line = TestLine::with_port(FakeBus::default(), port, &[1]);
    wait_seconds(45).await;
    assert_eq!(line.fault(1), Some(FaultKind::PortNotFound));
    assert!(!line.state(1).attempt.unwrap().connected);
    assert!(matches!(line.state(1).link, LinkState::Offline { .. }));
    assert_eq!(line.state(1).counters.errors, 5);
}

#[tokio::test(start_paused = true)]
async fn silent_line_is_reopened() {
    let line = TestLine::start(&[1]);
    wait_seconds(1).await;
    line.bus.silence(1);
    wait_seconds(120).await;
    assert!(line.state(1).counters.reconnects >= 1);
    line.bus.unsilence();
    wait_seconds(20).await;
    assert_eq!(line.state(1).link, LinkState::Online);
}

#[tokio::test(start_paused = true)]
async fn driver_panic_fails_only_the_read_of_its_battery() {
    let line = TestLine::start(&[1, 2]);
    line.bus.silence(2);
    line.bus.panics_driver.store(true, Ordering::Relaxed);
    wait_seconds(15).await;
    assert_eq!(line.fault(1), Some(FaultKind::BadFrame));
    line.bus.panics_driver.store(false, Ordering::Relaxed);
    line.bus.unsilence();
    wait_seconds(15).await;
    assert_eq!((line.fault(1), line.fault(2)), (None, None));
}

#[tokio::test(start_paused = true)]
async fn line_panic_restarts_the_line_and_keeps_its_state() {
    let line = TestLine::start(&[CRASHING, 2]);
    wait_seconds(15).await;
    let reads = line.state(2).counters.reads;
    let change = ConfigChange { timeout: Some(Duration::from_secs(3)), ..ConfigChange::default() };
    let lost = line.configure(CRASHING, change).await.unwrap_err().to_string();
    assert!(lost.contains("interrupted"), "{lost}");
    line.board
        .subscribe(&id(2))
        .unwrap()
        .wait_for(|state| state.counters.errors == 2)
        .await
        .unwrap();
    let fault = line.state(2).attempt.unwrap().fault.unwrap();
    assert!(fault.message.contains("bug in the constructor"), "{fault:?}");
    assert!(fault.hint.contains("report"), "{fault:?}");
    assert_eq!(line.state(2).link, LinkState::Online, "two failures are no outage");
    wait_seconds(30).await;
    for address in [CRASHING, 2] {
        assert_eq!((line.fault(address), line.state(address).link), (None, LinkState::Online));
    }
    assert!(line.state(2).counters.reads > reads);
    assert_eq!(line.tasks.status()[0].restarts, 2);
}

#[tokio::test(start_paused = true)]
async fn silent_batteries_are_no_stall() {
    let line = TestLine::start(&[1, 2, 3, 4, 5, 6, 7, 8]);
    assert!(line.makes_progress(60).await);
    (1..=8).for_each(|address| line.bus.silence(address));
    assert!(line.makes_progress(1200).await);
    for address in 1..=8 {
        line.pause(address, true).await;
    }
    assert!(line.makes_progress(1200).await);
}

#[tokio::test(start_paused = true)]
async fn line_that_no_longer_runs_is_stalled() {
    let line = TestLine::start(&[1]);
    assert!(line.makes_progress(60).await);
    line.task.abort();
    assert!(!line.makes_progress(300).await);
}

#[tokio::test(start_paused = true)]
async fn implausible_reading_is_rejected_and_repeated_at_once() {
    let line = TestLine::start(&[1]);
    wait_seconds(1).await;
    let mut states = line.board.subscribe(&id(1)).unwrap();
    line.bus.halved_replies.store(1, Ordering::Relaxed);
    states.wait_for(|state| state.counters.rejected == 1).await.unwrap();
    let voltage = line.state(1).snapshot.unwrap().reading.pack.voltage;
    assert_eq!(voltage, Some(Millivolts(53_020)), "the implausible one is not published");
    wait_seconds(1).await;
    assert_eq!((line.state(1).counters.reads, line.fault(1)), (2, None));
}

#[tokio::test(start_paused = true)]
async fn implausible_reading_is_accepted_when_confirmed() {
    let line = TestLine::start(&[1]);
    wait_seconds(1).await;
    let mut states = line.board.subscribe(&id(1)).unwrap();
    line.bus.halved_replies.store(2, Ordering::Relaxed);
    states.wait_for(|state| state.counters.rejected == 1).await.unwrap();
    wait_seconds(1).await;
    let voltage = line.state(1).snapshot.unwrap().reading.pack.voltage;
    assert_eq!(voltage, Some(Millivolts(26_510)));
    assert_eq!(line.state(1).link, LinkState::Online);
}

#[tokio::test(start_paused = true)]
async fn stop_does_not_wait_for_a_reply() {
    let line = TestLine::start(&[1]);
    line.bus.silence(1);
    wait_seconds(1).await;
    line.stop.cancel();
    timeout(Duration::from_millis(700), line.task).await.expect("the line ends").unwrap();
}

/// In real time, because the serial port is a real one.
#[tokio::test]
async fn second_baud_rate_is_tried_on_silence_and_kept() {
    let (mut far, near) = SerialStream::pair().unwrap();
    let path = near.name().unwrap();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let received = requests.clone();
    tokio::spawn(async move {
        let mut request = [0; 16];
        while far.read(&mut request).await.is_ok() {
            // Both ends of a pseudo-terminal share its settings.
            let baud = near.baud_rate().unwrap();
            received.lock().unwrap().push(baud);
            if baud == 19_200 {
                far.write_all(b"!").await.unwrap();
            }
        }
    });
    let member = LineMember {
        options: Options { timeout: Duration::from_secs(1), ..Options::default() },
        interval: Duration::from_millis(500),
        ..member(1)
    };
    let endpoint = LinkConfig::Serial { path };
    let line = Line { bauds: vec![9600, 19_200], ..Line::new(endpoint, vec![member]) };
    let line = TestLine::run(FakeBus::default(), line);
    let mut state = line.board.subscribe(&id(1)).unwrap();
    let third = state.wait_for(|state| state.counters.reads == 3);
    timeout(Duration::from_secs(60), third).await.expect("three reads").unwrap();
    assert_eq!(requests.lock().unwrap()[..5], [9600, 9600, 19_200, 19_200, 19_200]);
}
