//! A line with scripted batteries behind it: turns, outages, commands. The clock is paused, so
//! minutes pass in no time and every order of events is repeatable.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;
mod gateway;
mod radio;
mod rig;
mod search;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bms_reader::board::Board;
use bms_reader::command::{Command, CommandBus, ConfigChange};
use bms_reader::model::reading::{Setting, Switch};
use bms_reader::model::units::Millivolts;
use bms_reader::model::{AlarmThresholds, DeviceId, FaultKind, LinkState};
use bms_reader::poll::{Line, LineMember, run_line};
use bms_reader::protocol::Options;
use bms_reader::transport::{Endpoint, MemoryPort, SerialConfig};
use rig::{Bus, LOCKED, PLAIN, Rig, id, profile, seconds};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_serial::{SerialPort, SerialStream};
use tokio_util::sync::CancellationToken;

#[tokio::test(start_paused = true)]
async fn batteries_of_one_bus_take_turns_and_keep_their_beat() {
    let rig = Rig::new(&[1, 2, 3]);
    seconds(101).await;
    for address in [1, 2, 3] {
        assert_eq!(rig.bus.asked(address), 11);
        assert_eq!(rig.state(address).link, LinkState::Online);
        assert_eq!(rig.state(address).counters.reads, 11);
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_battery_costs_the_others_one_time_out() {
    let rig = Rig::new(&[1, 2, 3]);
    seconds(1).await;
    rig.bus.silent.lock().unwrap().push(1);
    seconds(120).await;
    let asked = rig.bus.asked.lock().unwrap().clone();
    for address in [2, 3] {
        let times: Vec<_> = asked.iter().filter(|(a, _)| *a == address).map(|(_, t)| *t).collect();
        let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(longest <= Duration::from_secs(12), "battery {address} waited {longest:?}");
        assert_eq!(rig.state(address).counters.errors, 0);
    }
    assert_eq!(rig.fault(1), Some(FaultKind::Timeout));
    assert!(matches!(rig.state(1).link, LinkState::Offline { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_failed_read_keeps_the_last_snapshot_with_its_own_time() {
    let rig = Rig::new(&[1]);
    seconds(1).await;
    let before = rig.state(1).snapshot.unwrap();
    rig.bus.silent.lock().unwrap().push(1);
    seconds(60).await;
    let state = rig.state(1);
    assert_eq!(*state.snapshot.unwrap(), *before);
    assert_eq!(state.counters.consecutive_errors, u32::try_from(state.counters.errors).unwrap());
    rig.bus.silent.lock().unwrap().clear();
    seconds(20).await;
    let state = rig.state(1);
    assert_eq!(state.link, LinkState::Online);
    assert_eq!(state.counters.consecutive_errors, 0);
    assert_eq!(state.snapshot.unwrap().sequence, state.counters.reads);
}

#[tokio::test(start_paused = true)]
async fn a_port_that_went_away_is_reopened_by_itself() {
    let bus = Bus::default();
    let (port, mut arrivals) = MemoryPort::new("line");
    let rig = Rig::with(bus.clone(), Endpoint::Memory(port), &[1]);
    let mut far = arrivals.recv().await.unwrap();
    far.receive().await.unwrap();
    far.send(b"!").await.unwrap();
    seconds(1).await;
    assert_eq!(rig.state(1).link, LinkState::Online);
    drop(far);
    seconds(10).await;
    assert_eq!(rig.fault(1), Some(FaultKind::Disconnected));
    // The line opened it again by itself, and asks at once, not only when the battery is due.
    let mut far = arrivals.recv().await.unwrap();
    far.receive().await.unwrap();
    far.send(b"!").await.unwrap();
    seconds(1).await;
    assert_eq!(rig.state(1).link, LinkState::Online);
    assert_eq!(rig.state(1).counters.reconnects, 1);
}

#[tokio::test(start_paused = true)]
async fn a_port_that_does_not_exist_fails_each_read_and_ends_offline() {
    let bus = Bus::default();
    let (port, arrivals) = MemoryPort::new("line");
    drop(arrivals);
    let rig = Rig::with(bus, Endpoint::Memory(port), &[1]);
    seconds(45).await;
    assert_eq!(rig.fault(1), Some(FaultKind::PortNotFound));
    assert!(!rig.state(1).attempt.unwrap().connected);
    assert!(matches!(rig.state(1).link, LinkState::Offline { .. }));
    assert_eq!(rig.state(1).counters.errors, 5);
}

#[tokio::test(start_paused = true)]
async fn a_line_that_stays_mute_is_opened_anew() {
    let rig = Rig::new(&[1]);
    seconds(1).await;
    rig.bus.silent.lock().unwrap().push(1);
    seconds(120).await;
    assert!(rig.state(1).counters.reconnects >= 1);
    rig.bus.silent.lock().unwrap().clear();
    seconds(20).await;
    assert_eq!(rig.state(1).link, LinkState::Online);
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_breaks_down_costs_one_battery_its_reads() {
    let rig = Rig::new(&[1, 2]);
    rig.bus.silent.lock().unwrap().push(2);
    rig.bus.breaks_driver.store(true, Ordering::Relaxed);
    seconds(15).await;
    assert_eq!(rig.fault(1), Some(FaultKind::BadFrame));
    rig.bus.breaks_driver.store(false, Ordering::Relaxed);
    rig.bus.silent.lock().unwrap().clear();
    seconds(15).await;
    assert_eq!((rig.fault(1), rig.fault(2)), (None, None));
}

#[tokio::test(start_paused = true)]
async fn a_reading_that_jumps_is_held_back_and_read_again_at_once() {
    let rig = Rig::new(&[1]);
    seconds(1).await;
    let volts = || rig.state(1).snapshot.unwrap().reading.pack.voltage;
    let mut states = rig.board.subscribe(&id(1)).unwrap();
    rig.bus.halves.store(1, Ordering::Relaxed);
    states.wait_for(|state| state.counters.rejected == 1).await.unwrap();
    assert_eq!(volts(), Some(Millivolts(53_020)), "it was not published");
    seconds(1).await;
    assert_eq!((rig.state(1).counters.reads, rig.fault(1)), (2, None), "long before its turn");

    // Twice the same is the truth, and it costs no turn.
    rig.bus.halves.store(2, Ordering::Relaxed);
    states.wait_for(|state| state.counters.rejected == 2).await.unwrap();
    seconds(1).await;
    assert_eq!(volts(), Some(Millivolts(26_510)));
    assert_eq!(rig.state(1).link, LinkState::Online);
}

#[tokio::test(start_paused = true)]
async fn commands_read_at_once_change_the_beat_and_pause() {
    let rig = Rig::new(&[1]);
    seconds(1).await;
    rig.commands.send(&id(1), Command::Read).await.unwrap();
    seconds(1).await;
    assert_eq!(rig.bus.asked(1), 2);

    let faster = ConfigChange { interval: Some(Duration::from_secs(1)), ..ConfigChange::default() };
    rig.commands.send(&id(1), Command::Configure(faster)).await.unwrap();
    assert_eq!(rig.state(1).profile.interval_ms, 1000);
    seconds(10).await;
    assert!(rig.bus.asked(1) >= 11);

    let pause = |paused| {
        Command::Configure(ConfigChange { paused: Some(paused), ..ConfigChange::default() })
    };
    rig.commands.send(&id(1), pause(true)).await.unwrap();
    let before = rig.bus.asked(1);
    seconds(60).await;
    assert_eq!(rig.bus.asked(1), before);
    assert!(matches!(rig.state(1).link, LinkState::Offline { .. }));
    assert!(rig.state(1).paused);
    let refused = rig.commands.send(&id(1), Command::Read).await.unwrap_err();
    assert!(refused.0.contains("paused"), "{refused}");
    rig.commands.send(&id(1), pause(false)).await.unwrap();
    seconds(1).await;
    assert!(!rig.state(1).paused);
    assert_eq!(rig.state(1).link, LinkState::Online);

    let bluetooth = ConfigChange { adapter: Some(None), ..ConfigChange::default() };
    let refused = rig.commands.send(&id(1), Command::Configure(bluetooth)).await.unwrap_err();
    assert!(refused.0.contains("Bluetooth"), "{refused}");
    let stranger = DeviceId::new("nobody").unwrap();
    assert!(rig.commands.send(&stranger, Command::Read).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_switch_is_turned_and_believed_only_when_the_battery_agrees() {
    let rig = Rig::new(&[1, LOCKED]);
    seconds(1).await;
    let one = id(1);
    let order = |switch, on| rig.commands.send(&one, Command::Switch(Setting { switch, on }));
    order(Switch::Charging, false).await.unwrap();
    seconds(1).await;
    let charging = || rig.state(1).snapshot.unwrap().reading.switches.charging;
    assert_eq!(charging(), Some(false), "the next read follows at once");

    rig.bus.stubborn.store(true, Ordering::Relaxed);
    let refused = order(Switch::Charging, true).await.unwrap_err();
    assert!(refused.0.contains("did not change the switch"), "{refused}");
    rig.bus.silent.lock().unwrap().push(1);
    let refused = order(Switch::Charging, true).await.unwrap_err();
    assert!(refused.0.contains("not confirmed"), "{refused}");
    assert_eq!(*rig.bus.orders.lock().unwrap(), [0, 1, 1]);
}

/// The line is busy with a silent battery meanwhile.
#[tokio::test(start_paused = true)]
async fn a_switch_is_not_turned_for_somebody_who_has_given_up() {
    let rig = Rig::new(&[1]);
    rig.bus.silent.lock().unwrap().push(1);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let order = Command::Switch(Setting { switch: Switch::Charging, on: false });
    let given_up = timeout(Duration::from_millis(100), rig.commands.send(&id(1), order)).await;
    assert!(given_up.is_err());
    seconds(30).await;
    assert!(rig.bus.orders.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_switched_that_was_not_allowed_or_is_not_there() {
    let rig = Rig::new(&[1, LOCKED]);
    seconds(1).await;
    let order = |battery, switch| {
        rig.commands.send(battery, Command::Switch(Setting { switch, on: false }))
    };
    let locked = id(LOCKED);
    let refused = order(&locked, Switch::Charging).await.unwrap_err();
    assert!(refused.0.contains("ALLOW_CONTROL"), "{refused}");
    let one = id(1);
    let refused = order(&one, Switch::Balancing).await.unwrap_err();
    assert!(refused.0.contains("has no balancing switch"), "{refused}");
    let pause = ConfigChange { paused: Some(true), ..ConfigChange::default() };
    rig.commands.send(&one, Command::Configure(pause)).await.unwrap();
    let refused = order(&one, Switch::Charging).await.unwrap_err();
    assert!(refused.0.contains("paused"), "{refused}");
    assert!(rig.bus.orders.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_stop_does_not_wait_for_an_answer() {
    let rig = Rig::new(&[1]);
    rig.bus.silent.lock().unwrap().push(1);
    seconds(1).await;
    rig.stop.cancel();
    timeout(Duration::from_millis(700), rig.task).await.expect("the line ends").unwrap();
}

/// A battery that only hears its own baud rate.
#[tokio::test]
async fn the_other_baud_rate_is_tried_on_total_silence_and_kept() {
    let (mut far, near) = SerialStream::pair().unwrap();
    let path = near.name().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = asked.clone();
    tokio::spawn(async move {
        let mut question = [0; 16];
        while far.read(&mut question).await.is_ok() {
            // Both ends of a pseudo-terminal share its settings.
            let baud = near.baud_rate().unwrap();
            heard.lock().unwrap().push(baud);
            if baud == 19_200 {
                far.write_all(b"!").await.unwrap();
            }
        }
    });
    let members = vec![LineMember {
        id: id(1),
        driver: Some(&PLAIN),
        options: Options { timeout: Duration::from_millis(200), ..Options::default() },
        interval: Duration::from_millis(500),
        control: false,
        thresholds: AlarmThresholds::default(),
    }];
    let board = Board::new([profile(&id(1))]);
    let (_commands, mut inboxes) = CommandBus::new(&[vec![id(1)]]);
    let stop = CancellationToken::new();
    let endpoint = Endpoint::Serial(SerialConfig { path });
    let line = Line { endpoint, bauds: vec![9600, 19_200], members, ble: None, recorder: None };
    let mut state = board.subscribe(&id(1)).unwrap();
    tokio::spawn(run_line(line, board, inboxes.remove(0), stop.clone()));
    let third = state.wait_for(|state| state.counters.reads == 3);
    timeout(Duration::from_secs(20), third).await.expect("it answers").unwrap();
    stop.cancel();
    assert_eq!(*asked.lock().unwrap(), [9600, 9600, 19_200, 19_200, 19_200]);
}
