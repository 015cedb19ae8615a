//! The MQTT sink on a thread of its own, with a board that the test fills.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use bms_reader::board::Board;
use bms_reader::clock;
use bms_reader::command::{Command, CommandBus, CommandInbox, ProgramControl};
use bms_reader::model::derive::derive;
use bms_reader::model::reading::{Cell, Probe, SensorLocation};
use bms_reader::model::units::{CentiPercent, DeciCelsius, Milliamps, Millis, Millivolts, Uptime};
use bms_reader::model::{
    Alarm, Attempt, BrokerState, DeviceId, EnergyTotals, Fault, FaultKind, LinkState, Profile,
    Reading, Snapshot,
};
use bms_reader::sink::mqtt::{self, Discovery, Publish, Settings, Version};
use tokio_util::sync::CancellationToken;

use crate::mosquitto::{Mosquitto, Subscriber, WAIT_LIMIT};

/// The levels that commands have set. Each test is a process of its own.
pub static LOG_LEVELS: Mutex<Vec<&str>> = Mutex::new(Vec::new());

/// A broker with a subscriber, and a running sink with one battery, `rack`.
pub fn start() -> (Mosquitto, Subscriber, TestSink) {
    let broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    let sink = TestSink::start(&broker);
    (broker, mqtt, sink)
}

/// Also reads the battery and waits until it is online.
pub fn start_and_read() -> (Mosquitto, Subscriber, TestSink) {
    let (broker, mqtt, sink) = start();
    sink.read(pack(16));
    mqtt.wait_for("bms/rack/online", "true");
    (broker, mqtt, sink)
}

pub struct TestSink {
    pub settings: Settings,
    /// Cancelled, as without a history file.
    pub file_restored: CancellationToken,
    board: Board,
    bus: CommandBus,
    inboxes: Vec<CommandInbox>,
    stop: CancellationToken,
    kill: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// All tests hold for both versions; `scripts/test` runs them with each.
fn version() -> Version {
    match std::env::var("BMS_TEST_MQTT_VERSION").as_deref() {
        Ok("5") => Version::V5,
        _ => Version::V311,
    }
}

impl TestSink {
    /// With one battery, `rack`; not running yet.
    pub fn with_discovery(broker: &Mosquitto, discovery: Discovery) -> Self {
        let mut sink = TestSink::with_batteries(broker, &["rack"]);
        sink.settings.discovery = discovery;
        sink
    }

    /// Runs a sink with one battery, `rack`.
    pub fn start(broker: &Mosquitto) -> Self {
        TestSink::with_discovery(broker, Discovery::Entity).run()
    }

    /// With these batteries; not running yet.
    pub fn with_batteries(broker: &Mosquitto, ids: &[&str]) -> Self {
        let board = Board::new(ids.iter().map(|id| profile(id)));
        let settings = Settings {
            dashboard: None,
            ingress: None,
            victron: Default::default(),
            backfill: None,
            allow_config: true,
            remote_config: false,
            supervisor: None,
            host: "127.0.0.1".into(),
            port: broker.port(),
            login: None,
            client_id: "bms-reader-rack".into(),
            keep_alive: Duration::from_secs(20),
            version: version(),
            tls: None,
            base_topic: "bms/{id}".into(),
            discovery_prefix: "homeassistant".into(),
            discovery: Discovery::Entity,
            publish: Publish::Changes(Duration::from_secs(300)),
        };
        let lines: Vec<Vec<DeviceId>> = ids.iter().map(|id| vec![device(id)]).collect();
        let (mut bus, inboxes) = CommandBus::new(&lines);
        let (stop, kill) = (CancellationToken::new(), CancellationToken::new());
        let file_restored = CancellationToken::new();
        file_restored.cancel();
        bus.program.stop = stop.clone();
        bus.program.set_log_level = |level| LOG_LEVELS.lock().expect("no panic").push(level);
        TestSink { settings, file_restored, board, bus, inboxes, stop, kill, thread: None }
    }

    pub fn run(mut self) -> Self {
        let sink = mqtt::run(
            self.settings.clone(),
            self.board.clone(),
            self.bus.clone(),
            self.file_restored.clone(),
            self.stop.clone().into(),
        );
        let kill = self.kill.clone();
        self.thread = Some(std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let task = tokio::spawn(sink);
                let abort = task.abort_handle();
                tokio::select! {
                    _ = task => {}
                    () = kill.cancelled() => abort.abort(),
                }
            });
        }));
        self
    }

    /// Stops the sink cleanly.
    pub fn stop(mut self) {
        self.end();
    }

    /// Aborts the sink without a DISCONNECT.
    pub fn kill(self) {
        self.kill.cancel();
        drop(self);
    }

    fn end(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the sink does not panic");
        }
    }

    /// A good read of `rack`.
    pub fn read(&self, reading: Reading) {
        self.read_battery("rack", reading);
    }

    pub fn read_battery(&self, id: &str, reading: Reading) {
        self.read_earlier(id, reading, Duration::ZERO);
    }

    /// A good read that ended this long ago.
    pub fn read_earlier(&self, id: &str, reading: Reading, age: Duration) {
        let age = u64::try_from(age.as_millis()).expect("a short time");
        let read_at = Uptime(clock::uptime().0 - age);
        self.board.update(&device(id), |state| {
            let sequence = state.snapshot.as_ref().map_or(1, |snapshot| snapshot.sequence + 1);
            let derived = derive(&reading);
            let taken = Millis(1_771_097_625_510 + sequence * 1000);
            let device = state.profile.id.clone();
            let snapshot = Snapshot { device, sequence, taken, took_ms: 250, reading, derived };
            state.snapshot = Some(Arc::new(snapshot));
            state.link = LinkState::Online;
            state.read_at = Some(read_at);
            state.counters.reads += 1;
            state.attempt = Some(attempt(state.attempt.as_ref(), None));
        });
    }

    /// Before [`TestSink::run`]: this long no task looked at the board, as in a suspend.
    pub fn sleep_for(&self, pause: Duration) {
        let pause = u64::try_from(pause.as_millis()).expect("a short time");
        self.board.detect_pause(Uptime(clock::uptime().0.saturating_sub(pause)), clock::now());
    }

    /// A good read as the poll task stores it, with energy counters.
    pub fn accept(&self, id: &str, reading: Reading) {
        self.board.update(&device(id), |state| {
            let derived = derive(&reading);
            let taken = Millis(1_771_097_625_510);
            state.accept((taken, clock::uptime()), 250, reading, derived);
            state.attempt = Some(attempt(state.attempt.as_ref(), None));
        });
    }

    /// A failed read of `rack`.
    pub fn fail(&self) {
        let fault = Fault::new(FaultKind::Timeout, "no answer", "check the cable");
        self.board.update(&device("rack"), |state| {
            state.counters.count_fault(FaultKind::Timeout);
            state.attempt = Some(attempt(state.attempt.as_ref(), Some(fault)));
        });
    }

    pub fn set_offline(&self) {
        self.board.update(&device("rack"), |state| {
            state.link = LinkState::Offline { since: Millis(1_771_097_700_000) };
        });
    }

    /// Energy counted before the start; `None` while unknown.
    pub fn energy_before_start(&self, id: &str) -> Option<EnergyTotals> {
        self.board.latest(&device(id)).expect("such a battery").energy.before_start
    }

    pub fn link(&self, id: &str) -> LinkState {
        self.board.latest(&device(id)).expect("such a battery").link
    }

    pub fn program(&self) -> &ProgramControl {
        &self.bus.program
    }

    pub fn program_mut(&mut self) -> &mut ProgramControl {
        &mut self.bus.program
    }

    pub fn broker_state(&self) -> BrokerState {
        self.board.broker().unwrap_or_default()
    }

    #[track_caller]
    pub fn wait_until(&self, description: &str, condition: impl Fn(&TestSink) -> bool) {
        let deadline = std::time::Instant::now() + WAIT_LIMIT;
        while !condition(self) {
            assert!(std::time::Instant::now() < deadline, "{description} did not happen");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Accepts the next command.
    pub fn accept_command(&mut self) -> Command {
        let inbox = &mut self.inboxes[0];
        let deadline = std::time::Instant::now() + WAIT_LIMIT;
        loop {
            if let Ok(request) = inbox.try_recv() {
                request.reply.send(Ok(())).expect("the sender waits for the reply");
                return request.command;
            }
            assert!(std::time::Instant::now() < deadline, "no command arrived");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for TestSink {
    fn drop(&mut self) {
        self.end();
    }
}

fn attempt(last: Option<&Attempt>, fault: Option<Fault>) -> Attempt {
    let number = last.map_or(1, |last| last.number + 1);
    let connected = fault.is_none();
    Attempt { number, ended: Millis(1_771_097_625_510), took_ms: 250, connected, fault }
}

fn device(id: &str) -> DeviceId {
    DeviceId::new(id).expect("a valid id")
}

fn profile(id: &str) -> Profile {
    Profile {
        name: "Rack battery".into(),
        port: Some("/dev/ttyUSB0".into()),
        interval_ms: 30_000,
        timeout_ms: 2000,
        scan_timeout_ms: None,
        ..Profile::new(device(id), "daren", "Daren")
    }
}

/// A pack with this many cells.
pub fn pack(cells: i32) -> Reading {
    let mut reading = Reading::default();
    reading.pack.voltage = Some(Millivolts(53_020));
    reading.pack.current = Some(Milliamps(-11_160));
    reading.pack.soc = Some(CentiPercent(6400));
    reading.cells = (0..cells).map(|number| Cell::of(Millivolts(3309 + number))).collect();
    reading.probes = vec![Probe { location: SensorLocation::Cells, value: Some(DeciCelsius(215)) }];
    reading.alarms.note(Alarm::CellOvervoltage, false);
    reading
}
