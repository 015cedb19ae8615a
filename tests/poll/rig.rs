//! A line with scripted batteries behind it, and everything that a house puts around one.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bms_reader::board::Board;
use bms_reader::command::CommandBus;
use bms_reader::model::reading::Switch;
use bms_reader::model::units::Millivolts;
use bms_reader::model::{AlarmThresholds, DeviceId, DeviceState, FaultKind, Profile, Reading};
use bms_reader::poll::{Line, LineMember, run_line};
use bms_reader::protocol::{CycleKind, Driver, DriverInfo, Options, ProtocolError, Step};
use bms_reader::transport::{Endpoint, MemoryPort};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// Asks with its address, and with a second byte when it turns the charge switch. It understands one
/// byte of answer (`!` is on, `-` is off, `/` has half the voltage) and panics over another (`#`).
struct Plain {
    options: Options,
    order: Option<bool>,
    at: At,
}

enum At {
    Asking,
    Waiting,
    Ended(Result<Box<Reading>, ProtocolError>),
}

impl Driver for Plain {
    fn reset(&mut self) {}
    fn start(&mut self, kind: CycleKind) {
        self.order = match kind {
            CycleKind::Write(setting) => Some(setting.on),
            CycleKind::Read | CycleKind::Identify => None,
        };
        self.at = At::Asking;
    }
    fn step(&mut self) -> Step {
        match &self.at {
            At::Asking => {
                let order = self.order.map(u8::from);
                Step::Send([self.options.address].into_iter().chain(order).collect())
            }
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
        let halved = bytes.contains(&b'/');
        reading.pack.voltage = Some(Millivolts(if halved { 26_510 } else { 53_020 }));
        reading.switches.charging = Some(bytes == b"!");
        self.at = At::Ended(Ok(Box::new(reading)));
    }
    fn handle_timeout(&mut self) {
        self.at = At::Ended(Err(ProtocolError::Timeout { query: "?".into(), received: 0 }));
    }
}

pub static PLAIN: DriverInfo = DriverInfo {
    controls: &[Switch::Charging],
    addresses: 0..=255,
    ..DriverInfo::new("plain", "Plain", |options| {
        Box::new(Plain { options: options.clone(), order: None, at: At::Asking })
    })
};

/// What the far end of the line does, and what it saw.
#[derive(Clone, Default)]
pub struct Bus {
    pub asked: Arc<Mutex<Vec<(u8, Instant)>>>,
    pub silent: Arc<Mutex<Vec<u8>>>,
    pub breaks_driver: Arc<AtomicBool>,
    /// What it was told, how the switch stands, and whether it does as it is told.
    pub orders: Arc<Mutex<Vec<u8>>>,
    pub charging_off: Arc<AtomicBool>,
    pub stubborn: Arc<AtomicBool>,
    /// So many answers are halves.
    pub halves: Arc<AtomicUsize>,
    /// Links that were opened, and those of them that are open now.
    pub opened: Arc<AtomicUsize>,
    pub held: Arc<AtomicUsize>,
    unplugged: CancellationToken,
}

impl Bus {
    pub fn asked(&self, address: u8) -> usize {
        self.asked.lock().unwrap().iter().filter(|(a, _)| *a == address).count()
    }

    fn halves(&self) -> bool {
        let one_less = |left: usize| left.checked_sub(1);
        self.halves.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
    }

    fn obey(&self, order: Option<u8>) {
        let Some(order) = order else { return };
        self.orders.lock().unwrap().push(order);
        if !self.stubborn.load(Ordering::Relaxed) {
            self.charging_off.store(order == 0, Ordering::Relaxed);
        }
    }

    pub fn serve(&self, name: &str) -> MemoryPort {
        let (port, mut arrivals) = MemoryPort::new(name);
        let bus = self.clone();
        tokio::spawn(async move {
            while let Some(mut link) = arrivals.recv().await {
                bus.opened.fetch_add(1, Ordering::Relaxed);
                bus.held.fetch_add(1, Ordering::Relaxed);
                let unplugged = bus.unplugged.clone();
                loop {
                    let request = tokio::select! {
                        () = unplugged.cancelled() => return,
                        request = link.receive() => request,
                    };
                    let Ok(request) = request else { break };
                    let address = request[0];
                    bus.asked.lock().unwrap().push((address, Instant::now()));
                    bus.obey(request.get(1).copied());
                    if !bus.silent.lock().unwrap().contains(&address) {
                        let broken = bus.breaks_driver.load(Ordering::Relaxed);
                        let off = bus.charging_off.load(Ordering::Relaxed);
                        let answer = match (broken, bus.halves(), off) {
                            (true, ..) => b"#",
                            (false, true, _) => b"/",
                            (false, false, true) => b"-",
                            (false, false, false) => b"!",
                        };
                        let _ = link.send(answer).await;
                    }
                }
                bus.held.fetch_sub(1, Ordering::Relaxed);
            }
        });
        port
    }
}

/// The operator has not allowed to turn a switch of this one.
pub const LOCKED: u8 = 9;

pub struct Rig {
    pub bus: Bus,
    pub board: Board,
    pub commands: CommandBus,
    pub stop: CancellationToken,
    pub task: tokio::task::JoinHandle<()>,
}

impl Rig {
    pub fn new(addresses: &[u8]) -> Self {
        let bus = Bus::default();
        let endpoint = Endpoint::Memory(bus.serve("line"));
        Rig::with(bus, endpoint, addresses)
    }

    pub fn with(bus: Bus, endpoint: Endpoint, addresses: &[u8]) -> Self {
        let members = addresses.iter().map(|address| member(*address)).collect();
        Rig::on(bus, Line { endpoint, bauds: vec![9600], members, ble: None, recorder: None })
    }

    pub fn on(bus: Bus, line: Line) -> Self {
        let board = Board::new(line.members.iter().map(|member| profile(&member.id)));
        Rig::beside(bus, board, line)
    }

    /// With a board on which there may be other batteries.
    pub fn beside(bus: Bus, board: Board, line: Line) -> Self {
        let ids = line.members.iter().map(|member| member.id.clone()).collect();
        let (commands, mut inboxes) = CommandBus::new(&[ids]);
        let stop = CancellationToken::new();
        let task = tokio::spawn(run_line(line, board.clone(), inboxes.remove(0), stop.clone()));
        Rig { bus, board, commands, stop, task }
    }

    pub fn state(&self, address: u8) -> DeviceState {
        self.board.latest(&id(address)).unwrap()
    }

    pub fn fault(&self, address: u8) -> Option<FaultKind> {
        self.state(address).attempt.unwrap().fault.map(|fault| fault.kind)
    }
}

pub fn member(address: u8) -> LineMember {
    LineMember {
        id: id(address),
        driver: Some(&PLAIN),
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
        brand: "plain".into(),
        title: "Plain".into(),
        port: None,
        address: None,
        adapter: None,
        interval_ms: 10_000,
        controls: Vec::new(),
    }
}

pub async fn seconds(count: u64) {
    sleep(Duration::from_secs(count)).await;
}
