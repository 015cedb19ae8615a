//! Every wired brand through a faulty bridge, which speaks raw TCP or is an ESPHome device. The simulated batteries never change, so
//! every published value is compared with the known one.

mod expected;

use std::collections::HashMap;
use std::panic::resume_unwind;
use std::time::Duration;

use bms_reader::model::{DeviceState, FaultKind, LinkState};
use bms_reader::poll::{Line, LineMember};
use bms_reader::protocol::{self, DriverInfo, Options};
use bms_reader::sim::pylontech_sc0500::BARCODE;
use bms_reader::sim::{Bus as SimBus, Faults, SimBrand};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::faulty_bridge::{Behaviour, FaultyBridge, Medium, Mix, Portion};
use crate::fixture::{FakeBus, TestLine, id, member};
use crate::search::wired;
use expected::{Expected, ExpectedBattery, assert_expected};

/// Long enough that only a hang fails a test.
const TIMEOUT: Duration = Duration::from_secs(90);
const SEED: u64 = 7;
/// Attempts with each battery while the bridge changes replies.
const MIXED_ATTEMPTS: u64 = 3;

/// Batteries of one brand: two, if its bus has addresses for them.
#[derive(Debug, Clone)]
struct Setup {
    medium: Medium,
    brand: &'static SimBrand,
    addresses: Vec<u8>,
    options: Options,
}

fn setups() -> Vec<Setup> {
    let setup = |brand: &'static SimBrand| {
        let variant = brand.variant().map(str::to_owned);
        let timeout = Duration::from_millis(300);
        let medium = Medium::Tcp;
        let options = Options { variant, timeout, ..Options::default() };
        let addresses = brand.addresses.clone().filter(|address| *address > 0).take(2).collect();
        Setup { medium, brand, addresses, options }
    };
    let mut setups: Vec<Setup> = wired().map(setup).collect();
    // With the number of its controller, this one is read in another way.
    let logged_in: Vec<Setup> = setups
        .iter()
        .filter(|setup| setup.brand.name == "pylontech-sc0500")
        .map(|setup| Setup {
            options: Options { barcode: Some(BARCODE.to_owned()), ..setup.options.clone() },
            ..setup.clone()
        })
        .collect();
    setups.extend(logged_in);
    setups
}

/// Raw TCP and ESPHome, where the connection itself is concerned.
fn setups_on_each_medium() -> impl Iterator<Item = Setup> {
    let on = |medium| setups().into_iter().map(move |setup| Setup { medium, ..setup });
    on(Medium::Tcp).chain(on(Medium::Esphome))
}

impl Setup {
    fn bus(&self) -> SimBus {
        SimBus::with_batteries(self.brand, &self.addresses, SEED, Faults::default())
    }

    async fn open_bridge(&self, strays: HashMap<Vec<u8>, Vec<u8>>) -> FaultyBridge {
        FaultyBridge::open(self.medium, self.bus(), strays).await
    }

    fn driver(&self) -> &'static DriverInfo {
        protocol::find(self.brand.driver()).expect("its driver")
    }

    fn options_at(&self, address: u8) -> Options {
        Options { address, ..self.options.clone() }
    }

    fn start_line(&self, bridge: &FaultyBridge) -> TestLine {
        let member = |&address: &u8| LineMember {
            driver: Some(self.driver()),
            options: self.options_at(address),
            interval: Duration::from_millis(100),
            ..member(address)
        };
        let members = self.addresses.iter().map(member).collect();
        TestLine::run(FakeBus::default(), Line::new(bridge.endpoint(), members))
    }

    /// With one battery of a slow brand: a JK on a wire first waits five seconds for a master, each
    /// battery on each new connection.
    fn quick(mut self) -> Setup {
        if self.brand.driver() == "jk" {
            self.addresses.truncate(1);
        }
        self
    }

    fn name(&self) -> String {
        let suffix = if self.options.barcode.is_some() { " with a login" } else { "" };
        format!("{}{suffix} over {:?}", self.brand.name, self.medium)
    }
}

/// Checks every state of a battery until its line has ended.
async fn verify(
    context: String,
    mut states: watch::Receiver<DeviceState>,
    expected: ExpectedBattery,
) {
    let mut reads = 0;
    while states.changed().await.is_ok() {
        let state = states.borrow_and_update().clone();
        assert_expected(&context, &state, &expected);
        assert!(state.counters.reads <= reads + 1, "{context}: a reading was not checked");
        reads = state.counters.reads;
    }
}

/// A line whose published states are all checked.
struct VerifiedLine {
    context: String,
    setup: Setup,
    line: TestLine,
    verifiers: JoinSet<()>,
}

impl VerifiedLine {
    fn new(context: String, setup: Setup, bridge: &FaultyBridge, expected: &Expected) -> Self {
        let line = setup.start_line(bridge);
        let mut verifiers = JoinSet::new();
        for (&address, battery) in &expected.batteries {
            let states = line.board.subscribe(&id(address)).unwrap();
            verifiers.spawn(verify(context.clone(), states, battery.clone()));
        }
        VerifiedLine { context, setup, line, verifiers }
    }

    async fn wait_for(&self, address: u8, wanted: impl FnMut(&DeviceState) -> bool) {
        let mut states = self.line.board.subscribe(&id(address)).unwrap();
        let in_time = timeout(TIMEOUT, states.wait_for(wanted)).await.is_ok();
        assert!(in_time, "{}: {:?}", self.context, self.line.state(address).attempt);
    }

    /// Waits until this is true for each battery.
    async fn wait_for_all(&self, mut wanted: impl FnMut(&DeviceState) -> bool) {
        for &address in &self.setup.addresses {
            self.wait_for(address, &mut wanted).await;
        }
    }

    /// Waits for a good read of each battery that begins from now on.
    async fn wait_for_new_reads(&self) {
        for &address in &self.setup.addresses {
            let current = attempts(&self.line.state(address)) + 1;
            self.wait_for(address, |state| is_online(state) && attempts(state) > current).await;
        }
    }

    async fn end(mut self) {
        self.line.stop.cancel();
        self.line.task.await.unwrap();
        // Without the board, the verifiers end.
        drop((self.line.board, self.line.commands));
        while let Some(verifier) = self.verifiers.join_next().await {
            verifier.unwrap_or_else(|error| resume_unwind(error.into_panic()));
        }
    }
}

fn attempts(state: &DeviceState) -> u64 {
    state.attempt.as_ref().map_or(0, |attempt| attempt.number)
}

fn is_online(state: &DeviceState) -> bool {
    let good = state.attempt.as_ref().is_some_and(|attempt| attempt.fault.is_none());
    good && state.link == LinkState::Online
}

fn has_failed(state: &DeviceState, kinds: &[FaultKind]) -> bool {
    state.counters.faults().any(|(kind, _)| kinds.contains(&kind))
}

async fn changes_replies(setup: Setup, expected: Expected, behaviour: Behaviour) {
    let context = format!("{}, {behaviour:?}", setup.name());
    let bridge = setup.open_bridge(expected.strays.clone()).await;
    bridge.set_behaviour(behaviour);
    let line = VerifiedLine::new(context, setup, &bridge, &expected);
    line.wait_for_all(|state| attempts(state) >= MIXED_ATTEMPTS).await;
    assert!(bridge.disturbances() > 0, "{}: no reply was changed", line.context);
    bridge.set_behaviour(Behaviour::Plain);
    line.wait_for_new_reads().await;
    line.end().await;
}

async fn fragments_replies(setup: Setup, expected: Expected) {
    let context = format!("{} in pieces", setup.name());
    let bridge = setup.open_bridge(HashMap::new()).await;
    bridge.set_behaviour(Behaviour::Pieces);
    let patient = Options { timeout: Duration::from_secs(60), ..setup.options.clone() };
    let line = VerifiedLine::new(context, Setup { options: patient, ..setup }, &bridge, &expected);
    for (&address, battery) in &expected.batteries {
        let is_whole = |state: &DeviceState| {
            state.snapshot.as_ref().is_some_and(|snapshot| snapshot.reading == battery.reading)
        };
        line.wait_for(address, is_whole).await;
    }
    line.end().await;
}

async fn restarts(setup: Setup, expected: Expected) {
    let context = format!("{} behind a bridge that restarts", setup.name());
    let mut bridge = setup.open_bridge(HashMap::new()).await;
    let line = VerifiedLine::new(context, setup, &bridge, &expected);
    line.wait_for_all(is_online).await;
    bridge.switch_off().await;
    let gone = [FaultKind::Disconnected, FaultKind::ConnectFailed];
    line.wait_for_all(|state| has_failed(state, &gone)).await;
    timeout(TIMEOUT, bridge.switch_on()).await.expect("its port is free");
    line.wait_for_all(|state| state.counters.reconnects > 0 && is_online(state)).await;
    line.end().await;
}

async fn forgets_connections(setup: Setup, expected: Expected) {
    let context = format!("{} behind a bridge that forgets a connection", setup.name());
    let bridge = setup.open_bridge(HashMap::new()).await;
    let line = VerifiedLine::new(context, setup, &bridge, &expected);
    line.wait_for_all(is_online).await;
    bridge.forget_connections();
    line.wait_for_all(|state| has_failed(state, &[FaultKind::Timeout])).await;
    line.wait_for_all(|state| state.counters.reconnects > 0 && is_online(state)).await;
    line.end().await;
}

/// Runs all of these at the same time, since they mostly wait.
async fn run_all(tests: impl IntoIterator<Item = BoxFuture<'static, ()>>) {
    let mut running: JoinSet<()> = tests.into_iter().collect();
    let mut failed = 0;
    while let Some(test) = running.join_next().await {
        failed += usize::from(test.is_err());
    }
    assert_eq!(failed, 0, "see the panics above");
}

/// The changes of replies that a driver of this brand can detect.
fn behaviours(setup: &Setup) -> Vec<Behaviour> {
    // A console has no checksum and a line of its own, so foreign rows and a prompt in the middle of
    // a table cannot be detected.
    let undetectable =
        |mix: &Mix| setup.driver().text && mix.portion == Portion::SecondHalf && mix.quarters > 0;
    let mixes = Mix::all().filter(|mix| !undetectable(mix)).map(Behaviour::Mixed);
    mixes.chain([Behaviour::OneLate]).collect()
}

#[tokio::test]
async fn line_recovers_when_the_bridge_restarts() {
    let setups = setups_on_each_medium().map(Setup::quick);
    run_all(setups.map(|setup| restarts(setup.clone(), Expected::of(&setup)).boxed())).await;
}

#[tokio::test]
async fn line_recovers_when_the_bridge_forgets_connections() {
    let setups = setups_on_each_medium().map(Setup::quick);
    run_all(setups.map(|setup| forgets_connections(setup.clone(), Expected::of(&setup)).boxed()))
        .await;
}

#[tokio::test]
async fn foreign_and_late_replies_yield_no_wrong_value() {
    let tests = setups().into_iter().flat_map(|setup| {
        let expected = Expected::of(&setup);
        behaviours(&setup).into_iter().map(move |behaviour| {
            changes_replies(setup.clone(), expected.clone(), behaviour).boxed()
        })
    });
    run_all(tests).await;
}

#[tokio::test]
async fn fragmented_replies_are_read() {
    let setups = setups_on_each_medium();
    run_all(setups.map(|setup| fragments_replies(setup.clone(), Expected::of(&setup)).boxed()))
        .await;
}
