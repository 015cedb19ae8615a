//! Everything that a schedule needs: a broker, packs, the program, and the observer.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use bms_reader::sim::{self, SimBrand};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::clock::ShiftedClock;
use crate::faults::Undo;
use crate::line::{Pack, Packs, Terminal, serve_on_tcp};
use crate::mosquitto::{Mosquitto, free_port};
use crate::observer::Observer;
use crate::plan::{Event, Plan, Random};
use crate::program::{self, Program, Resources};
use crate::promise::{Broken, Promise};
use crate::proxy::Proxy;
use crate::radio::{Radio, Updates};
use crate::state::{Clock, Record};

pub const CLIENT_ID: &str = "chaos";
pub const BRIDGE: &str = "bms/bridge/chaos/online";

/// From the start, and from the end of the last fault, until everything has to be well.
const RECOVERY: Duration = Duration::from_secs(60);
/// A connection may have ended unnoticed.
const STAYS_WELL: Duration = Duration::from_secs(6);
/// Everything is used once before the resources are measured.
const WARM_UP: Duration = Duration::from_secs(8);
const STOP: Duration = Duration::from_secs(2);
/// An observer that was delayed for longer has lost its connection.
const LONGEST_DELAY: Duration = Duration::from_secs(300);
/// A call to a D-Bus that was killed is given up after two minutes.
const SETTLE: Duration = Duration::from_secs(150);
/// Memory that the allocator may keep.
const MEMORY_SLACK_KB: u64 = 4096;
const POLL: Duration = Duration::from_millis(100);

/// Every brand with a serial line, and those of them that may share one.
fn brands() -> (Vec<&'static SimBrand>, Vec<&'static SimBrand>) {
    // Cells in steps of 100 mV are no trace of a read.
    let serial = |brand: &&&SimBrand| brand.notification.is_none() && brand.name != "renogy";
    let all: Vec<_> = sim::brands().iter().filter(serial).copied().collect();
    // The packs of a Pylontech console are neighbours of one battery.
    let shares = |brand: &&&SimBrand| {
        brand.addresses.clone().count() > 1 && !["pylontech-console"].contains(&brand.name)
    };
    let shared = all.iter().filter(shares).copied().collect();
    (all, shared)
}

/// What faults may touch.
pub struct Rig {
    pub broker: Mosquitto,
    /// Between the program and the broker.
    pub link: Proxy,
    pub terminals: Vec<Terminal>,
    /// Packs behind `tcp://`, and the proxy between the program and them.
    pub gateway: (Packs, Proxy),
    /// `None` without the software that a fake bluetoothd needs.
    pub radio: Option<Radio>,
    /// Of the program.
    pub clock: ShiftedClock,
    pub program: Program,
    pub observer: Observer,
    pub ids: Vec<String>,
    /// Deleted at the end.
    pub folder: PathBuf,
    updates: Option<Updates>,
    interval: u64,
}

/// How a schedule went.
#[derive(Default)]
pub struct Outcome {
    pub broken: Vec<Broken>,
    /// From the end of the last fault until everything was well.
    pub recovery: Duration,
    /// What came back last.
    pub slowest: String,
    pub values: u64,
    /// Before the faults and after them.
    pub resources: [Resources; 2],
    pub log: String,
}

impl Outcome {
    /// The rig itself failed, so nothing was judged.
    pub fn not_run() -> Self {
        let detail = "the rig failed, see the message above".to_owned();
        let broken = Broken { promise: Promise::Running, at: Duration::ZERO, detail };
        Outcome { broken: vec![broken], ..Outcome::default() }
    }
}

/// A broker that keeps its messages over a restart, or does not.
fn start_broker(random: &mut Random) -> Mosquitto {
    let mut broker = Mosquitto::not_started();
    let mut lines = "allow_anonymous true\n".to_owned();
    if random.below(2) == 0 {
        let place = broker.folder().display();
        lines += &format!("persistence true\npersistence_location {place}/\nautosave_interval 1\n");
    }
    broker.configure(&lines);
    broker.restart();
    broker
}

/// Two packs on a bus, one on a port of its own, and one behind a gateway.
fn random_packs(random: &mut Random, clock: Clock, seed: u64) -> [Packs; 3] {
    let (all, shared) = brands();
    let mut count = 0;
    [(&shared, 2), (&all, 1), (&all, 1)].map(|(brands, number)| {
        let brand: &'static SimBrand = random.pick(brands);
        let addresses = brand.addresses.clone().filter(|address| *address > 0).take(number);
        let list = addresses.map(|address| {
            count += 1;
            let id = format!("{}-{count}", brand.name.replace(':', "-"));
            Pack { id, seed: count, address, sent: Record::of(brand) }
        });
        let list = list.collect();
        Packs::new(brand, list, clock, seed)
    })
}

/// Variables that do not depend on the parts of the rig.
fn settings(random: &mut Random, folder: &Path) -> Vec<(&'static str, String)> {
    vec![
        ("MQTT_HOST", "127.0.0.1".into()),
        ("MQTT_CLIENT_ID", CLIENT_ID.into()),
        ("MQTT_KEEP_ALIVE", "10".into()),
        ("MQTT_PUBLISH", random.pick(&["all", "changes"]).into()),
        ("MQTT_DISCOVERY", random.pick(&["entity", "device"]).into()),
        ("HISTORY_FILE", folder.join("history.db").display().to_string()),
        ("LOG_LEVEL", "INFO".into()),
    ]
}

impl Rig {
    /// Which packs and settings follows from the seed.
    pub fn start(seed: u64) -> Self {
        let mut random = Random(!seed);
        let name = format!("bms-reader-chaos-{}-{seed}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");

        let broker = start_broker(&mut random);
        let link = Proxy::to(broker.port());

        let clock = Clock::start();
        let [bus, single, remote] = random_packs(&mut random, clock, seed);
        let terminals: Vec<_> = [bus, single]
            .into_iter()
            .enumerate()
            .map(|(n, packs)| Terminal::plugged_in(folder.join(format!("port{n}")), packs))
            .collect();
        let gateway = Proxy::to(serve_on_tcp(&remote));

        let mut devices = Vec::new();
        for terminal in &terminals {
            devices.extend(terminal.packs.configuration(&terminal.path.display().to_string()));
        }
        devices.extend(remote.configuration(&format!("tcp://127.0.0.1:{}", gateway.port())));
        let (radio, updates) = Radio::start(&folder, clock, 101).unzip();
        let radio_packs = radio.as_ref().map(|radio| radio.packs.clone()).unwrap_or_default();
        devices.extend(radio.as_ref().map(Radio::configuration).unwrap_or_default());
        let all: Vec<Pack> = terminals
            .iter()
            .flat_map(|terminal| terminal.packs.list.clone())
            .chain(remote.list.clone())
            .chain(radio_packs)
            .collect();
        let observer = Observer::start(broker.port(), &all);
        let interval = 1 + random.below(3);
        let http_port = free_port();
        let mut variables = settings(&mut random, &folder);
        variables.extend([
            ("DEVICES", json!(devices).to_string()),
            ("READ_INTERVAL", interval.to_string()),
            ("MQTT_PORT", link.port().to_string()),
            ("HTTP_LISTEN", format!("127.0.0.1:{http_port}")),
        ]);
        let clock = ShiftedClock::build(&folder);
        let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value));
        let variables = variables.chain(radio.as_ref().map(Radio::variable));
        let variables = variables.chain(clock.variables()).collect();
        let program = Program::start(variables, http_port, &folder);
        let ids = all.iter().map(|pack| pack.id.clone()).collect();
        let gateway = (remote, gateway);
        Rig {
            broker,
            link,
            terminals,
            gateway,
            radio,
            clock,
            program,
            observer,
            ids,
            folder,
            updates,
            interval,
        }
    }

    /// The packs on wires.
    pub fn packs(&self) -> impl Iterator<Item = &Packs> {
        self.terminals.iter().map(|terminal| &terminal.packs).chain([&self.gateway.0])
    }

    /// Suspends or resumes the program and every process that it talks to.
    pub fn suspend_all(&self, suspend: bool) {
        let name = if suspend { Signal::SIGSTOP } else { Signal::SIGCONT };
        self.program.signal(name);
        self.broker.pid().into_iter().for_each(|broker| program::signal(broker, name));
        self.radio.iter().for_each(|radio| radio.suspend(suspend));
    }

    /// Runs the faults of the plan and checks that everything recovers.
    pub fn run(mut self, plan: &Plan) -> Outcome {
        self.recover("the start");
        let start = Instant::now();
        while start.elapsed() < WARM_UP {
            self.pause();
        }
        let warm = self.program.resources().unwrap_or_default();
        self.play(&plan.events);
        let (recovery, slowest) = self.recover("the last fault");
        let settled = self.settle(warm);
        self.stop();
        let (broken, values) = self.observer.results();
        let log = self.program.log();
        Outcome { broken, recovery, slowest, values, resources: [warm, settled], log }
    }

    fn play(&mut self, events: &[Event]) {
        let start = Instant::now();
        let mut active: Vec<(Duration, Undo)> = Vec::new();
        let mut events = events.iter().peekable();
        while events.peek().is_some() || !active.is_empty() {
            let elapsed = start.elapsed();
            while let Some(event) = events.next_if(|event| event.start <= elapsed) {
                let undo = (event.fault.apply)(self, &mut Random(event.seed));
                active.push((event.start + event.duration, undo));
            }
            let (over, rest) = active.into_iter().partition(|(end, _)| *end <= elapsed);
            active = rest;
            for (_, undo) in over {
                undo(self);
            }
            self.check_running();
            self.pause();
        }
    }

    /// Waits a moment, and notes how long the processes of the schedule waited for a processor.
    fn pause(&self) {
        thread::sleep(POLL);
        let radio = self.radio.iter().flat_map(Radio::ids);
        let processes = [self.program.pid()].into_iter().chain(self.broker.pid()).chain(radio);
        self.observer.note_waiting(processes.map(program::waiting).sum());
    }

    fn check_running(&mut self) {
        if let Some(status) = self.program.exit_status() {
            let detail = format!("the program ended: {status}");
            self.observer.report(Promise::Running, detail);
        }
    }

    /// Waits until everything is well and stays so. Returns how long that took, and what came back
    /// last.
    fn recover(&mut self, from: &str) -> (Duration, String) {
        let (start, mut slowest) = (Instant::now(), String::new());
        let mut well_since = None;
        let age = Duration::from_secs(2 * self.interval + 3);
        loop {
            let mut complaints = self.observer.complaints(age);
            if !self.program.is_healthy() {
                complaints.push("/healthz".into());
            }
            if complaints.is_empty() {
                let since = *well_since.get_or_insert_with(Instant::now);
                if since.elapsed() > STAYS_WELL {
                    break;
                }
                self.pause();
                continue;
            }
            well_since = None;
            slowest = complaints.join(", ");
            let delay = self.observer.delay_since(start).min(LONGEST_DELAY);
            if start.elapsed() > RECOVERY + delay {
                let detail = format!("not well after {from}: {slowest}");
                self.observer.report(Promise::Recovery, detail);
                break;
            }
            self.pause();
        }
        self.check_running();
        (well_since.map_or(start.elapsed(), |since| since - start), slowest)
    }

    /// Waits until the program uses no more than before.
    fn settle(&self, warm: Resources) -> Resources {
        let start = Instant::now();
        loop {
            let now = self.program.resources().unwrap_or_default();
            let is_settled = now.descriptors <= warm.descriptors
                && now.threads <= warm.threads
                && now.memory_kb <= warm.memory_kb + MEMORY_SLACK_KB;
            if is_settled {
                return now;
            }
            if start.elapsed() > SETTLE {
                let detail = format!("before {warm:?}, after {now:?}");
                self.observer.report(Promise::Resources, detail);
                return now;
            }
            self.pause();
        }
    }

    fn stop(&mut self) {
        self.observer.expect_stop();
        let start = Instant::now();
        self.program.signal(Signal::SIGTERM);
        let status = loop {
            if let Some(status) = self.program.exit_status() {
                break Some(status);
            }
            if start.elapsed() > STOP + self.observer.delay_since(start) {
                break None;
            }
            self.pause();
        };
        if !status.is_some_and(|status| status.success()) {
            let detail = format!("after SIGTERM: {status:?} in {:.1?}", start.elapsed());
            return self.observer.report(Promise::Stop, detail);
        }
        let start = Instant::now();
        while !self.observer.not_offline().is_empty() {
            if start.elapsed() > STOP + self.observer.delay_since(start) {
                let detail = format!("after the stop: {}", self.observer.not_offline().join(", "));
                return self.observer.report(Promise::Stop, detail);
            }
            self.pause();
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.program.kill();
        self.updates = None;
        let _ = fs::remove_dir_all(&self.folder);
    }
}
