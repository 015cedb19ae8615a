//! Searches for batteries and tests them, on request of the set-up page. While no battery is
//! configured, it also searches unasked and logs what to set.
//!
//! Lines in use are left alone: a test of one is refused, and a search gives the Bluetooth adapter
//! back every few seconds.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

use super::probe::{self, Identified};
use crate::board::Board;
use crate::config::Device;
use crate::config::variables::{BMS_ADDRESS, BMS_PORT, BMS_TYPE};
use crate::model::{DeviceId, DeviceState, Fault, FaultKind, Secret};
use crate::poll::{CycleError, advertisement};
use crate::protocol::detection::{self, recognise};
use crate::remedy;
use crate::setup::{
    Found, Job, MAX_FOUND, Pack, Refusal, Request, SetupState, SetupTask, Target, Test,
};
use crate::sink::mqtt::{self, Removal};
use crate::tasks::Task;
use crate::transport::ble::BleDevice;
use crate::transport::serial::{self, PortInfo};
use crate::transport::{Bluetooth, LinkError};

/// Interval between two searches while nothing is configured.
const SEARCH_INTERVAL: Duration = Duration::from_secs(60);
/// A search scans this often for this long. Batteries advertise every second or two.
const SCANS: usize = 3;
const SCAN_DURATION: Duration = Duration::from_millis(2500);
/// Includes waiting for the batteries that use the Bluetooth adapter.
const SEARCH_LIMIT: Duration = Duration::from_secs(90);
/// For all brands at all baud rates at a port.
const TEST_LIMIT: Duration = Duration::from_secs(300);
/// For removing a battery from a slow broker.
const FORGET_LIMIT: Duration = Duration::from_secs(300);

/// Serves the requests until the stop.
pub(super) async fn run(
    setup: SetupTask,
    board: Board,
    bluetooth: Bluetooth,
    broker: Option<mqtt::Settings>,
    task: Task,
) {
    let SetupTask { requests, state } = setup;
    let is_configured = board.devices().next().is_some();
    if !is_configured {
        warn!("{}", remedy::NOT_CONFIGURED.text());
    }
    let jobs = JobRunner { board, bluetooth, state, logged: BTreeSet::new() };
    let next_search = (!is_configured).then(Instant::now);
    let server = SetupServer { requests, jobs, broker, next_search, task: task.clone() };
    task.supervise(server, |server| server.serve_until_stop().boxed(), |_| {}).await;
}

struct SetupServer {
    requests: mpsc::Receiver<Request>,
    jobs: JobRunner,
    broker: Option<mqtt::Settings>,
    /// `None` while batteries are configured.
    next_search: Option<Instant>,
    task: Task,
}

impl SetupServer {
    async fn serve_until_stop(&mut self) {
        // A job that crashed.
        self.jobs.end();
        let stop = self.task.stop.clone();
        stop.run_until_cancelled(self.serve()).await;
    }

    async fn serve(&mut self) {
        while let Some(job) = self.next_job().await {
            self.task.progress(SEARCH_LIMIT + TEST_LIMIT);
            let logs = self.next_search.is_some();
            tokio::select! {
                () = self.jobs.carry_out(job, logs) => {}
                () = wait_for_stop(&mut self.requests) => {}
            }
            self.jobs.end();
            self.next_search = self.next_search.map(|_| Instant::now() + SEARCH_INTERVAL);
        }
    }

    /// `None` when the page has gone.
    async fn next_job(&mut self) -> Option<Job> {
        loop {
            self.task.idle();
            tokio::select! {
                request = self.requests.recv() => match request? {
                    Request::Stop => {}
                    Request::Forget(id, reply) => {
                        self.task.progress(FORGET_LIMIT);
                        let forgotten = forget(&self.jobs.board, self.broker.as_ref(), &id).await;
                        // The requester may have dropped its receiver.
                        let _ = reply.send(forgotten);
                    }
                    Request::Start(job, reply) => {
                        let check = self.jobs.check(&job);
                        let accepted = check.is_ok();
                        // The requester may have dropped its receiver.
                        let _ = reply.send(check);
                        if accepted {
                            return Some(job);
                        }
                    }
                },
                () = sleep_until_some(self.next_search) => return Some(Job::Search),
            }
        }
    }
}

async fn sleep_until_some(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// Refuses further jobs until a request to stop the present one.
async fn wait_for_stop(requests: &mut mpsc::Receiver<Request>) {
    loop {
        match requests.recv().await {
            Some(Request::Stop) => return,
            Some(Request::Start(_, reply)) => {
                let _ = reply.send(Err(Refusal::Busy));
            }
            Some(Request::Forget(_, reply)) => {
                let _ = reply.send(Err(Refusal::Busy));
            }
            None => std::future::pending().await,
        }
    }
}

/// Clears what the broker retains about a battery that is not configured.
async fn forget(
    board: &Board,
    broker: Option<&mqtt::Settings>,
    id: &DeviceId,
) -> Result<usize, Refusal> {
    let refuse = |reason: String| Err(Refusal::Invalid(reason));
    if board.devices().any(|device| device == id) {
        return refuse(format!("{id} is configured; remove it from the configuration first"));
    }
    let Some(broker) = broker else {
        return refuse("no broker is configured, so nothing was published".to_owned());
    };
    match mqtt::remove(broker, id, false).await {
        Ok(Removal::Removed { topics, left }) if left.is_empty() => {
            info!("{id}: removed from the broker, {} topics", topics.len());
            Ok(topics.len())
        }
        Ok(Removal::Removed { left, .. }) => {
            refuse(format!("the broker did not clear {} topics, such as {}", left.len(), left[0]))
        }
        Ok(Removal::Online) => refuse(format!("another program publishes {id} now; stop it first")),
        Ok(Removal::Nothing(others)) => {
            let others: Vec<_> = others.into_iter().collect();
            refuse(format!(
                "the broker retains nothing about {id}; its batteries: {}",
                others.join(", ")
            ))
        }
        Err(error) => refuse(format!("the broker cannot be reached: {error}")),
    }
}

struct JobRunner {
    board: Board,
    bluetooth: Bluetooth,
    state: watch::Sender<SetupState>,
    /// Each device is logged once.
    logged: BTreeSet<String>,
}

impl JobRunner {
    fn check(&self, job: &Job) -> Result<(), Refusal> {
        let Job::Test(target) = job else { return Ok(()) };
        let variables = variables(target);
        let Some(device) = Device::from_variables(&borrowed(&variables)) else {
            return Err(Refusal::Invalid(
                "write a port like /dev/ttyUSB0 or tcp://192.168.1.50:8899, a Bluetooth address \
                 like C8:47:80:37:02:E8, and a type that the list contains"
                    .to_owned(),
            ));
        };
        let place = device.endpoint.to_string();
        match self.board.states().find(|state| uses(state, &place)) {
            Some(state) => Err(Refusal::Invalid(format!(
                "{place} is in use by the battery {}: a test would disturb it, so {place} was not \
                 opened",
                state.profile.name
            ))),
            None => Ok(()),
        }
    }

    async fn carry_out(&mut self, job: Job, log: bool) {
        match job {
            Job::Search => {
                let _ = timeout(SEARCH_LIMIT, self.search()).await;
                if log {
                    self.log_found();
                }
            }
            Job::Test(target) => self.test(target).await,
        }
    }

    /// Nothing runs any more.
    fn end(&self) {
        self.state.send_modify(|state| {
            state.searching = false;
            state.test.take_if(|test| test.packs.is_empty() && test.fault.is_none());
            if let Some(test) = &mut state.test {
                test.running = false;
            }
        });
    }

    async fn search(&self) {
        let ports = serial::list().into_iter().map(found_port);
        let mut found: Vec<Found> = ports.collect();
        self.state.send_modify(|state| {
            state.searching = true;
            state.bluetooth_error = None;
            merge(&mut state.found, found.clone());
        });
        for _ in 0..SCANS {
            match self.scan().await {
                Ok(devices) => merge(&mut found, devices.iter().map(found_device).collect()),
                Err(error) => {
                    let fault = CycleError::Link(error).fault();
                    self.state.send_modify(|state| state.bluetooth_error = Some(fault));
                    break;
                }
            }
            // Devices of the last search stay until this one has had time to see them.
            self.state.send_modify(|state| merge(&mut state.found, found.clone()));
        }
        self.state.send_modify(|state| state.found = found);
    }

    /// What the adapters that are switched on receive in a short time.
    async fn scan(&self) -> Result<Vec<BleDevice>, LinkError> {
        // The first one, and all proxies.
        let first = self.bluetooth.scan(None, SCAN_DURATION).await;
        let adapters = match &first {
            Ok(_) => self.bluetooth.adapters().await.unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        let powered = adapters.iter().filter(|adapter| adapter.powered);
        let mut devices = first?;
        for adapter in powered.skip(1) {
            devices.extend(self.bluetooth.scan(Some(&adapter.name), SCAN_DURATION).await?);
        }
        Ok(devices)
    }

    fn log_found(&mut self) {
        let state = self.state.borrow().clone();
        let batteries = state.found.iter().filter(|found| found.is_port() || found.brand.is_some());
        let mut lines: Vec<_> = batteries.map(log_line).collect();
        lines.extend(
            state
                .bluetooth_error
                .map(|fault| format!("Bluetooth: {}; {}", fault.message, fault.hint)),
        );
        for line in lines {
            if self.logged.insert(line.clone()) {
                info!("{line}");
            }
        }
    }

    async fn test(&self, target: Target) {
        let begin = Instant::now();
        let test =
            Test { target: target.clone(), begin, running: true, packs: Vec::new(), fault: None };
        self.state.send_modify(|state| state.test = Some(test));
        let result = timeout(TEST_LIMIT, self.probe(&target)).await;
        let fault = result.unwrap_or_else(|_| {
            let message = format!("no answer within {} s", TEST_LIMIT.as_secs());
            Err(Fault::new(FaultKind::Timeout, message, "choose the type of the battery"))
        });
        self.update_test(|test| test.fault = fault.err().filter(|_| test.packs.is_empty()));
    }

    fn update_test(&self, change: impl FnOnce(&mut Test)) {
        self.state.send_modify(|state| {
            if let Some(test) = &mut state.test {
                change(test);
            }
        });
    }

    async fn probe(&self, target: &Target) -> Result<(), Fault> {
        let add = |found: Identified| self.update_test(|test| test.packs.push(pack(found)));
        match &target.port {
            Some(port) if target.brand.is_none() && target.slave_id.is_none() => {
                let first = probe::probe_first(port, &self.bluetooth).await?;
                add(first.clone());
                probe::probe_others(port, &first, &self.bluetooth).await.into_iter().for_each(add);
                self.update_test(|test| test.packs.sort_by_key(|pack| pack.slave_id));
            }
            _ => {
                let variables = variables(target);
                add(probe::probe_device(&borrowed(&variables), &self.bluetooth).await?);
            }
        }
        Ok(())
    }
}

/// Whether the battery is at this place. A port may have several paths.
fn uses(state: &DeviceState, place: &str) -> bool {
    let profile = &state.profile;
    let same_file = |one: &str| {
        let [one, other] = [one, place].map(|path| fs::canonicalize(path).ok());
        one.is_some() && one == other
    };
    match (&profile.port, &profile.address) {
        (Some(port), _) => port == place || same_file(port),
        (None, Some(address)) => address.eq_ignore_ascii_case(place),
        (None, None) => false,
    }
}

/// The variables for a battery at this place, with their names in lower case.
fn variables(target: &Target) -> Vec<(&'static str, String)> {
    let Target { port, address, adapter, brand, slave_id, password } = target;
    let brand = brand.as_deref().unwrap_or(detection::AUTO);
    let all = [
        ("bms_type", Some(brand.to_owned())),
        ("bms_port", port.clone()),
        ("bms_address", address.clone()),
        ("bms_adapter", adapter.clone()),
        ("bms_slave_id", slave_id.map(|id| id.to_string())),
        ("bms_password", password.as_ref().map(Secret::expose).map(str::to_owned)),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn borrowed<'a>(variables: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    variables.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

fn pack(identified: Identified) -> Pack {
    let Identified { driver, address, state, .. } = identified;
    Pack { brand: driver.name, title: driver.title, slave_id: address, state }
}

/// Adds devices, or replaces what is known of them, and keeps the most interesting ones.
fn merge(found: &mut Vec<Found>, newer: Vec<Found>) {
    for mut newer in newer {
        match found.iter_mut().find(|older| older.address == newer.address) {
            Some(older) => {
                // A short scan may miss the name or the signal.
                newer.name = newer.name.or(older.name.take());
                newer.rssi = newer.rssi.or(older.rssi);
                newer.brand = newer.brand.or(older.brand.take());
                *older = newer;
            }
            None => found.push(newer),
        }
    }
    found.sort_by_key(|found| {
        let strength = found.rssi.map_or(i16::MAX, |rssi| rssi.saturating_neg());
        (!found.is_port(), found.brand.is_none(), !found.likely, strength)
    });
    found.truncate(MAX_FOUND);
}

fn found_port(PortInfo { path, device }: PortInfo) -> Found {
    Found { address: path, name: device, adapter: None, rssi: None, brand: None, likely: false }
}

fn found_device(device: &BleDevice) -> Found {
    let guesses = recognise(&advertisement(device));
    let brand = || (detection::type_to_set(&guesses), detection::titles(&guesses));
    Found {
        address: device.address.clone(),
        // Names are arbitrary, and the log goes to terminals.
        name: device.name.as_ref().map(|name| name.replace(char::is_control, " ")),
        adapter: Some(device.adapter.clone()),
        rssi: device.rssi,
        brand: (!guesses.is_empty()).then(brand),
        likely: guesses.first().is_some_and(|guess| guess.likely),
    }
}

fn log_line(found: &Found) -> String {
    let Found { address, name, brand, .. } = found;
    let (kind, title) = brand.clone().unwrap_or((detection::AUTO, "a battery".to_owned()));
    let (what, place) = match found.is_port() {
        true => ("a serial port".to_owned(), &BMS_PORT),
        false => {
            let name = name.as_deref().unwrap_or("unnamed");
            (format!("{name}, perhaps {title}"), &BMS_ADDRESS)
        }
    };
    if remedy::is_home_assistant() {
        return format!("found {address} ({what}): the page of the app adds it");
    }
    let [kind, place] = [(&BMS_TYPE, kind), (place, address)]
        .map(|(variable, value)| remedy::assignment(variable.name, value));
    format!("found {address} ({what}): set {kind} {place}")
}

#[cfg(test)]
#[path = "setup_tests.rs"]
mod tests;
