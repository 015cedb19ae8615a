//! A line with scripted batteries behind it: turns, outages, commands. The clock is paused, so
//! minutes pass in no time and every order of events is repeatable.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bms_reader::board::Board;
use bms_reader::command::{Change, Command, CommandBus};
use bms_reader::model::units::Millivolts;
use bms_reader::model::{DeviceId, DeviceState, FaultKind, Limits, LinkState, Profile, Reading};
use bms_reader::poll::{Line, Member, run_line};
use bms_reader::protocol::{Ask, Driver, DriverInfo, Options, ProtocolError, Step};
use bms_reader::transport::{Endpoint, MemoryPort, SerialConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};
use tokio_serial::{SerialPort, SerialStream};
use tokio_util::sync::CancellationToken;

/// Asks with its address, understands one byte of answer (`!`; `-` with half the voltage), and
/// panics over another (`#`).
struct Plain {
    options: Options,
    at: At,
}

enum At {
    Asking,
    Waiting,
    Ended(Result<Box<Reading>, ProtocolError>),
}

impl Driver for Plain {
    fn reset(&mut self) {}
    fn start(&mut self, _ask: Ask) {
        self.at = At::Asking;
    }
    fn step(&mut self) -> Step {
        match &self.at {
            At::Asking => Step::Send(vec![self.options.address]),
            At::Waiting => Step::Await(self.options.timeout),
            At::Ended(Ok(reading)) => Step::Done(reading.clone()),
            At::Ended(Err(error)) => Step::Failed(error.clone()),
        }
    }
    fn advance(&mut self) {
        self.at = At::Waiting;
    }
    fn receive(&mut self, bytes: &[u8]) {
        assert!(!bytes.contains(&b'#'), "this driver breaks down");
        let mut reading = Reading::default();
        let halved = bytes.contains(&b'-');
        reading.pack.voltage = Some(Millivolts(if halved { 26_510 } else { 53_020 }));
        self.at = At::Ended(Ok(Box::new(reading)));
    }
    fn silence(&mut self) {
        self.at = At::Ended(Err(ProtocolError::Timeout { query: "?".into(), received: 0 }));
    }
}

static PLAIN: DriverInfo = DriverInfo {
    name: "plain",
    title: "Plain",
    serial: None,
    gatt: None,
    signs: &[],
    controls: &[],
    addresses: 0..=255,
    verified: "for tests",
    new: |options| Box::new(Plain { options: options.clone(), at: At::Asking }),
};

/// What the far end of the line does, and what it saw.
#[derive(Clone, Default)]
struct Bus {
    asked: Arc<Mutex<Vec<(u8, Instant)>>>,
    silent: Arc<Mutex<Vec<u8>>>,
    breaks_driver: Arc<AtomicBool>,
    /// So many answers are halves.
    halves: Arc<AtomicUsize>,
    unplugged: CancellationToken,
}

impl Bus {
    fn asked(&self, address: u8) -> usize {
        self.asked.lock().unwrap().iter().filter(|(a, _)| *a == address).count()
    }

    fn serve(&self, name: &str) -> MemoryPort {
        let (port, mut arrivals) = MemoryPort::new(name);
        let bus = self.clone();
        tokio::spawn(async move {
            while let Some(mut link) = arrivals.recv().await {
                let unplugged = bus.unplugged.clone();
                loop {
                    let request = tokio::select! {
                        () = unplugged.cancelled() => return,
                        request = link.receive() => request,
                    };
                    let Ok(request) = request else { break };
                    let address = request[0];
                    bus.asked.lock().unwrap().push((address, Instant::now()));
                    if !bus.silent.lock().unwrap().contains(&address) {
                        let broken = bus.breaks_driver.load(Ordering::Relaxed);
                        let one_less = |left: usize| left.checked_sub(1);
                        let half =
                            bus.halves.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
                        let answer = match (broken, half) {
                            (true, _) => b"#",
                            (false, Ok(_)) => b"-",
                            (false, Err(_)) => b"!",
                        };
                        let _ = link.send(answer).await;
                    }
                }
            }
        });
        port
    }
}

struct Rig {
    bus: Bus,
    board: Board,
    commands: CommandBus,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Rig {
    fn new(addresses: &[u8]) -> Self {
        let bus = Bus::default();
        let endpoint = Endpoint::Memory(bus.serve("line"));
        Rig::with(bus, endpoint, addresses)
    }

    fn with(bus: Bus, endpoint: Endpoint, addresses: &[u8]) -> Self {
        let members: Vec<Member> = addresses
            .iter()
            .map(|address| Member {
                id: id(*address),
                driver: &PLAIN,
                options: Options { address: *address, ..Options::default() },
                interval: Duration::from_secs(10),
                limits: Limits::default(),
            })
            .collect();
        let board = Board::new(members.iter().map(|member| profile(&member.id)));
        let ids = members.iter().map(|member| member.id.clone()).collect();
        let (commands, mut inboxes) = CommandBus::new(&[ids]);
        let stop = CancellationToken::new();
        let line = Line { endpoint, bauds: vec![9600], members };
        let task = tokio::spawn(run_line(line, board.clone(), inboxes.remove(0), stop.clone()));
        Rig { bus, board, commands, stop, task }
    }

    fn state(&self, address: u8) -> DeviceState {
        self.board.latest(&id(address)).unwrap()
    }

    fn fault(&self, address: u8) -> Option<FaultKind> {
        self.state(address).attempt.unwrap().fault.map(|fault| fault.kind)
    }
}

fn id(address: u8) -> DeviceId {
    DeviceId::new(&format!("b{address}")).unwrap()
}

fn profile(id: &DeviceId) -> Profile {
    Profile {
        id: id.clone(),
        name: id.to_string(),
        make: "plain".into(),
        title: "Plain".into(),
        port: None,
        address: None,
        adapter: None,
        interval_ms: 10_000,
    }
}

async fn seconds(count: u64) {
    sleep(Duration::from_secs(count)).await;
}

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
    let mut states = rig.board.follow(&id(1)).unwrap();
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

    let faster = Change { interval: Some(Duration::from_secs(1)), ..Change::default() };
    rig.commands.send(&id(1), Command::Configure(faster)).await.unwrap();
    assert_eq!(rig.state(1).profile.interval_ms, 1000);
    seconds(10).await;
    assert!(rig.bus.asked(1) >= 11);

    let pause = |paused| Command::Configure(Change { paused: Some(paused), ..Change::default() });
    rig.commands.send(&id(1), pause(true)).await.unwrap();
    let before = rig.bus.asked(1);
    seconds(60).await;
    assert_eq!(rig.bus.asked(1), before);
    assert!(matches!(rig.state(1).link, LinkState::Offline { .. }));
    rig.commands.send(&id(1), pause(false)).await.unwrap();
    seconds(1).await;
    assert_eq!(rig.state(1).link, LinkState::Online);

    let bluetooth = Change { adapter: Some(None), ..Change::default() };
    let refused = rig.commands.send(&id(1), Command::Configure(bluetooth)).await.unwrap_err();
    assert!(refused.0.contains("Bluetooth"), "{refused}");
    let stranger = DeviceId::new("nobody").unwrap();
    assert!(rig.commands.send(&stranger, Command::Read).await.is_err());
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
    let members = vec![Member {
        id: id(1),
        driver: &PLAIN,
        options: Options { timeout: Duration::from_millis(200), ..Options::default() },
        interval: Duration::from_millis(500),
        limits: Limits::default(),
    }];
    let board = Board::new([profile(&id(1))]);
    let (_commands, mut inboxes) = CommandBus::new(&[vec![id(1)]]);
    let stop = CancellationToken::new();
    let endpoint = Endpoint::Serial(SerialConfig { path });
    let line = Line { endpoint, bauds: vec![9600, 19_200], members };
    let mut state = board.follow(&id(1)).unwrap();
    tokio::spawn(run_line(line, board, inboxes.remove(0), stop.clone()));
    let third = state.wait_for(|state| state.counters.reads == 3);
    timeout(Duration::from_secs(20), third).await.expect("it answers").unwrap();
    stop.cancel();
    assert_eq!(*asked.lock().unwrap(), [9600, 9600, 19_200, 19_200, 19_200]);
}
