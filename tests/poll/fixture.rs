//! A line task with scripted batteries at the far end.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bms_reader::board::Board;
use bms_reader::command::{Command, CommandBus, CommandError, ConfigChange};
use bms_reader::model::reading::{Setting, Switch};
use bms_reader::model::units::Millivolts;
use bms_reader::model::{AlarmThresholds, DeviceId, DeviceState, FaultKind, Profile, Reading};
use bms_reader::poll::{Line, LineMember, run_line};
use bms_reader::protocol::{CycleKind, Driver, DriverInfo, Options, ProtocolError, Step};
use bms_reader::tasks::Tasks;
use bms_reader::transport::{LinkConfig, MemoryPort};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// A request is the address, followed by 0 or 1 to set the charging switch. A reply is one byte:
/// `!` (charging is on), `-` (charging is off) or `/` (half the voltage); `#` makes the driver
/// panic.
struct TestDriver {
    options: Options,
    command: Option<bool>,
    state: DriverState,
}

enum DriverState {
    Requesting,
    Waiting,
    Ended(Result<Box<Reading>, ProtocolError>),
}

impl Driver for TestDriver {
    fn reset(&mut self) {}
    fn start(&mut self, kind: CycleKind) {
        self.command = match kind {
            CycleKind::Write(setting) => Some(setting.on),
            CycleKind::Read | CycleKind::Identify => None,
        };
        self.state = DriverState::Requesting;
    }
    fn step(&mut self) -> Step {
        match &self.state {
            DriverState::Requesting => {
                let command = self.command.map(u8::from);
                Step::Send([self.options.address].into_iter().chain(command).collect())
            }
            DriverState::Waiting => Step::Await(self.options.timeout),
            DriverState::Ended(Ok(reading)) => Step::Done(reading.clone()),
            DriverState::Ended(Err(error)) => Step::Failed(error.clone()),
        }
    }
    fn advance(&mut self) {
        self.state = DriverState::Waiting;
    }
    fn receive(&mut self, bytes: &[u8]) {
        assert!(!bytes.contains(&b'#'), "this reply makes the driver panic");
        let mut reading = Reading::default();
        let halved = bytes.contains(&b'/');
        reading.pack.voltage = Some(Millivolts(if halved { 26_510 } else { 53_020 }));
        reading.switches.charging = Some(bytes == b"!");
        self.state = DriverState::Ended(Ok(Box::new(reading)));
    }
    fn handle_timeout(&mut self) {
        let timeout = ProtocolError::Timeout { query: "?".into(), received: 0 };
        self.state = DriverState::Ended(Err(timeout));
    }
}

/// The second and third driver for this address panic when they are made, outside of a read.
pub const CRASHING: u8 = 66;
static DRIVERS: AtomicUsize = AtomicUsize::new(0);

pub static TEST_DRIVER: DriverInfo = DriverInfo {
    controls: &[Switch::Charging],
    addresses: 0..=255,
    ..DriverInfo::new("test", "Test", |options| {
        if options.address == CRASHING {
            let count = DRIVERS.fetch_add(1, Ordering::Relaxed);
            assert!(count == 0 || count > 2, "bug in the constructor");
        }
        Box::new(TestDriver {
            options: options.clone(),
            command: None,
            state: DriverState::Requesting,
        })
    })
};

/// The far end of a line: what it does, and what it has seen.
#[derive(Clone, Default)]
pub struct FakeBus {
    /// Address and time of each request.
    pub requests: Arc<Mutex<Vec<(u8, Instant)>>>,
    /// Addresses that do not reply.
    pub silent: Arc<Mutex<Vec<u8>>>,
    pub panics_driver: Arc<AtomicBool>,
    /// This many of the next replies have half the voltage.
    pub halved_replies: Arc<AtomicUsize>,
    /// The commands received for the charging switch.
    pub switch_commands: Arc<Mutex<Vec<u8>>>,
    pub ignores_switch_commands: Arc<AtomicBool>,
    charging_off: Arc<AtomicBool>,
    /// Links opened so far, and those that are open now.
    pub opened: Arc<AtomicUsize>,
    pub open: Arc<AtomicUsize>,
}

impl FakeBus {
    pub fn silence(&self, address: u8) {
        self.silent.lock().unwrap().push(address);
    }

    pub fn unsilence(&self) {
        self.silent.lock().unwrap().clear();
    }

    pub fn request_count(&self, address: u8) -> usize {
        self.requests.lock().unwrap().iter().filter(|(at, _)| *at == address).count()
    }

    fn reply(&self) -> &'static [u8] {
        let one_less = |left: usize| left.checked_sub(1);
        let relaxed = Ordering::Relaxed;
        if self.panics_driver.load(relaxed) {
            b"#"
        } else if self.halved_replies.fetch_update(relaxed, relaxed, one_less).is_ok() {
            b"/"
        } else if self.charging_off.load(relaxed) {
            b"-"
        } else {
            b"!"
        }
    }

    /// Serves one link after the other.
    pub fn serve(&self) -> MemoryPort {
        let (port, mut arrivals) = MemoryPort::new("line");
        let bus = self.clone();
        tokio::spawn(async move {
            while let Some(mut link) = arrivals.recv().await {
                bus.opened.fetch_add(1, Ordering::Relaxed);
                bus.open.fetch_add(1, Ordering::Relaxed);
                while let Ok(request) = link.receive().await {
                    let address = request[0];
                    bus.requests.lock().unwrap().push((address, Instant::now()));
                    if let Some(command) = request.get(1) {
                        bus.switch_commands.lock().unwrap().push(*command);
                        if !bus.ignores_switch_commands.load(Ordering::Relaxed) {
                            bus.charging_off.store(*command == 0, Ordering::Relaxed);
                        }
                    }
                    if !bus.silent.lock().unwrap().contains(&address) {
                        let _ = link.send(bus.reply()).await;
                    }
                }
                bus.open.fetch_sub(1, Ordering::Relaxed);
            }
        });
        port
    }
}

/// The member at this address does not allow commands.
pub const LOCKED: u8 = 9;

/// A running line task.
pub struct TestLine {
    pub bus: FakeBus,
    pub board: Board,
    pub commands: CommandBus,
    pub tasks: Tasks,
    pub stop: CancellationToken,
    pub task: tokio::task::JoinHandle<()>,
}

impl TestLine {
    /// Batteries at these addresses of a fake bus.
    pub fn start(addresses: &[u8]) -> Self {
        let bus = FakeBus::default();
        let port = bus.serve();
        TestLine::with_port(bus, port, addresses)
    }

    pub fn with_port(bus: FakeBus, port: MemoryPort, addresses: &[u8]) -> Self {
        let members = addresses.iter().map(|address| member(*address)).collect();
        TestLine::run(bus, Line::new(LinkConfig::Memory(port), members))
    }

    pub fn run(bus: FakeBus, line: Line) -> Self {
        let board = Board::new(line.members.iter().map(|member| profile(&member.id)));
        TestLine::run_on(board, bus, line)
    }

    /// With a board that may have other batteries, too.
    pub fn run_on(board: Board, bus: FakeBus, line: Line) -> Self {
        let ids = line.members.iter().map(|member| member.id.clone()).collect();
        let (commands, mut inboxes) = CommandBus::new(&[ids]);
        let (tasks, stop) = (Tasks::default(), CancellationToken::new());
        let task = tasks.register("line", &stop);
        let task = tokio::spawn(run_line(line, board.clone(), inboxes.remove(0), task));
        TestLine { bus, board, commands, tasks, stop, task }
    }

    pub fn state(&self, address: u8) -> DeviceState {
        self.board.latest(&id(address)).unwrap()
    }

    /// Lets this many seconds pass; false as soon as the task is stalled.
    pub async fn makes_progress(&self, seconds: u64) -> bool {
        for _ in 0..seconds {
            wait_seconds(1).await;
            self.tasks.count_second();
            if self.tasks.status()[0].stalled {
                return false;
            }
        }
        true
    }

    pub fn fault(&self, address: u8) -> Option<FaultKind> {
        self.state(address).attempt.unwrap().fault.map(|fault| fault.kind)
    }

    pub async fn command(&self, address: u8, command: Command) -> Result<(), CommandError> {
        self.commands.send(&id(address), command).await
    }

    pub async fn configure(&self, address: u8, change: ConfigChange) -> Result<(), CommandError> {
        self.command(address, Command::Configure(change)).await
    }

    pub async fn pause(&self, address: u8, paused: bool) {
        let change = ConfigChange { paused: Some(paused), ..ConfigChange::default() };
        self.configure(address, change).await.unwrap();
    }

    pub async fn switch(&self, address: u8, switch: Switch, on: bool) -> Result<(), CommandError> {
        self.command(address, Command::Switch(Setting { switch, on })).await
    }
}

/// Read every 10 s.
pub fn member(address: u8) -> LineMember {
    LineMember {
        id: id(address),
        driver: Some(&TEST_DRIVER),
        search: None,
        options: Options { address, ..Options::default() },
        interval: Duration::from_secs(10),
        control: address != LOCKED,
        thresholds: AlarmThresholds::default(),
    }
}

pub fn id(address: u8) -> DeviceId {
    DeviceId::new(&format!("b{address}")).unwrap()
}

pub fn profile(id: &DeviceId) -> Profile {
    Profile {
        id: id.clone(),
        name: id.to_string(),
        brand: "test".into(),
        title: "Test".into(),
        port: None,
        address: None,
        adapter: None,
        interval_ms: 10_000,
        timeout_ms: 1000,
        scan_timeout_ms: None,
        controls: Vec::new(),
    }
}

pub async fn wait_seconds(count: u64) {
    sleep(Duration::from_secs(count)).await;
}
