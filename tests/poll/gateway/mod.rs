//! Every brand that has a wire, through `tcp://` and a bridge that misbehaves.
//!
//! The bus behind it stands still, so there is one true reading of each battery, and whatever gets
//! onto the board is compared with it.

mod bridge;
mod truth;

use std::collections::HashMap;
use std::panic::resume_unwind;
use std::time::Duration;

use bms_reader::model::{AlarmThresholds, DeviceState, FaultKind, LinkState};
use bms_reader::poll::{Line, LineMember};
use bms_reader::protocol::{self, DriverInfo, Options};
use bms_reader::sim::pylontech_sc0500::BARCODE;
use bms_reader::sim::{Bus as SimBus, Faults, SimBrand};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::rig::{Bus, Rig, id};
use crate::search::wired;
use bridge::{Bridge, HowMuch, Manner, Mix};
use truth::{Said, Truth, assert_true};

/// Long enough that only a hang fails a test.
const PATIENCE: Duration = Duration::from_secs(90);
const SEED: u64 = 7;
/// Attempts with each battery while the bridge mixes.
const MIXED_ATTEMPTS: u64 = 3;

/// A brand as an operator has it: with two batteries, where its bus has room for them.
#[derive(Debug, Clone)]
struct House {
    brand: &'static SimBrand,
    addresses: Vec<u8>,
    options: Options,
}

fn houses() -> Vec<House> {
    let house = |brand: &'static SimBrand| {
        let variant = brand.variant().map(str::to_owned);
        let timeout = Duration::from_millis(300);
        let options = Options { variant, timeout, ..Options::default() };
        let addresses = brand.addresses.clone().filter(|address| *address > 0).take(2).collect();
        House { brand, addresses, options }
    };
    let mut houses: Vec<House> = wired().map(house).collect();
    // This one has a second way for those who know the number of the controller.
    let logged_in: Vec<House> = houses
        .iter()
        .filter(|house| house.brand.name == "pylontech-sc0500")
        .map(|house| House {
            options: Options { barcode: Some(BARCODE.to_owned()), ..house.options.clone() },
            ..house.clone()
        })
        .collect();
    houses.extend(logged_in);
    houses
}

impl House {
    fn bus(&self) -> SimBus {
        SimBus::with_batteries(self.brand, &self.addresses, SEED, Faults::default())
    }

    fn driver(&self) -> &'static DriverInfo {
        protocol::find(self.brand.driver()).expect("its driver")
    }

    fn options_at(&self, address: u8) -> Options {
        Options { address, ..self.options.clone() }
    }

    /// A line to these batteries.
    fn read(&self, bridge: &Bridge) -> Rig {
        let member = |&address: &u8| LineMember {
            id: id(address),
            driver: Some(self.driver()),
            options: self.options_at(address),
            interval: Duration::from_millis(100),
            control: false,
            thresholds: AlarmThresholds::default(),
        };
        let members = self.addresses.iter().map(member).collect();
        let endpoint = bridge.endpoint();
        Rig::on(
            Bus::default(),
            Line { endpoint, bauds: Vec::new(), members, ble: None, recorder: None },
        )
    }

    /// With one battery where each one takes long: by wire, this brand first listens five seconds
    /// for a master, each battery on every new connection.
    fn quick(mut self) -> House {
        if self.brand.driver() == "jk" {
            self.addresses.truncate(1);
        }
        self
    }

    fn name(&self) -> String {
        let way = if self.options.barcode.is_some() { " with a log-in" } else { "" };
        format!("{}{way}", self.brand.name)
    }
}

/// Looks at every state of a battery until its line has ended.
async fn witness(context: String, mut states: watch::Receiver<DeviceState>, said: Said) {
    let mut seen = 0;
    while states.changed().await.is_ok() {
        let state = states.borrow_and_update().clone();
        assert_true(&context, &state, &said);
        assert!(state.counters.reads <= seen + 1, "{context}: a reading that nobody looked at");
        seen = state.counters.reads;
    }
}

/// A line to all batteries of a house, each of which has a witness.
struct Watched {
    context: String,
    house: House,
    rig: Rig,
    witnesses: JoinSet<()>,
}

impl Watched {
    fn new(context: String, house: House, bridge: &Bridge, truth: &Truth) -> Self {
        let rig = house.read(bridge);
        let mut witnesses = JoinSet::new();
        for (&address, said) in &truth.said {
            let states = rig.board.subscribe(&id(address)).unwrap();
            witnesses.spawn(witness(context.clone(), states, said.clone()));
        }
        Watched { context, house, rig, witnesses }
    }

    async fn until(&self, address: u8, what: impl FnMut(&DeviceState) -> bool) {
        let mut states = self.rig.board.subscribe(&id(address)).unwrap();
        let in_time = timeout(PATIENCE, states.wait_for(what)).await.is_ok();
        assert!(in_time, "{}: still {:?}", self.context, self.rig.state(address).attempt);
    }

    /// Waits until this is true of each battery.
    async fn all(&self, mut what: impl FnMut(&DeviceState) -> bool) {
        for &address in &self.house.addresses {
            self.until(address, &mut what).await;
        }
    }

    /// Waits until each battery was read well in an attempt that began after this moment.
    async fn all_well(&self) {
        for &address in &self.house.addresses {
            let begun = attempts(&self.rig.state(address)) + 1;
            self.until(address, |state| is_well(state) && attempts(state) > begun).await;
        }
    }

    async fn end(mut self) {
        self.rig.stop.cancel();
        self.rig.task.await.unwrap();
        // With the board, its news end.
        drop((self.rig.board, self.rig.commands));
        while let Some(witness) = self.witnesses.join_next().await {
            witness.unwrap_or_else(|error| resume_unwind(error.into_panic()));
        }
    }
}

fn attempts(state: &DeviceState) -> u64 {
    state.attempt.as_ref().map_or(0, |attempt| attempt.number)
}

fn is_well(state: &DeviceState) -> bool {
    let good = state.attempt.as_ref().is_some_and(|attempt| attempt.fault.is_none());
    good && state.link == LinkState::Online
}

fn has_failed(state: &DeviceState, kinds: &[FaultKind]) -> bool {
    state.counters.faults().any(|(kind, _)| kinds.contains(&kind))
}

async fn mixed(house: House, truth: Truth, manner: Manner) {
    let context = format!("{}, {manner:?}", house.name());
    let bridge = Bridge::open(house.bus(), truth.strays.clone()).await;
    bridge.behave(manner);
    let watched = Watched::new(context, house, &bridge, &truth);
    watched.all(|state| attempts(state) >= MIXED_ATTEMPTS).await;
    assert!(bridge.disturbances() > 0, "{}: nothing was mixed", watched.context);
    bridge.behave(Manner::Plain);
    watched.all_well().await;
    watched.end().await;
}

async fn cut_into_pieces(house: House, truth: Truth) {
    let context = format!("{} in pieces", house.name());
    let bridge = Bridge::open(house.bus(), HashMap::new()).await;
    bridge.behave(Manner::Pieces);
    let patient = Options { timeout: Duration::from_secs(60), ..house.options.clone() };
    let watched = Watched::new(context, House { options: patient, ..house }, &bridge, &truth);
    for (&address, said) in &truth.said {
        let is_whole = |state: &DeviceState| {
            state.snapshot.as_ref().is_some_and(|snapshot| snapshot.reading == said.reading)
        };
        watched.until(address, is_whole).await;
    }
    watched.end().await;
}

async fn restarted(house: House, truth: Truth) {
    let context = format!("{} behind a bridge that restarts", house.name());
    let mut bridge = Bridge::open(house.bus(), HashMap::new()).await;
    let watched = Watched::new(context, house, &bridge, &truth);
    watched.all(is_well).await;
    bridge.switch_off().await;
    let gone = [FaultKind::Disconnected, FaultKind::ConnectFailed];
    watched.all(|state| has_failed(state, &gone)).await;
    timeout(PATIENCE, bridge.switch_on()).await.expect("its port is free");
    watched.all(|state| state.counters.reconnects > 0 && is_well(state)).await;
    watched.end().await;
}

async fn half_open(house: House, truth: Truth) {
    let context = format!("{} behind a bridge that forgets a connection", house.name());
    let bridge = Bridge::open(house.bus(), HashMap::new()).await;
    let watched = Watched::new(context, house, &bridge, &truth);
    watched.all(is_well).await;
    bridge.forget_connections();
    watched.all(|state| has_failed(state, &[FaultKind::Timeout])).await;
    watched.all(|state| state.counters.reconnects > 0 && is_well(state)).await;
    watched.end().await;
}

/// All of these at the same time.
async fn all(tests: Vec<BoxFuture<'static, ()>>) {
    let mut running: JoinSet<()> = tests.into_iter().collect();
    let mut failed = 0;
    while let Some(test) = running.join_next().await {
        failed += usize::from(test.is_err());
    }
    assert_eq!(failed, 0, "it went wrong as told above");
}

/// What a bridge may do to the answers of this brand.
fn manners(house: &House) -> Vec<Manner> {
    // A console has no checksum, and prints one answer at a time on a wire of its own: when somebody
    // else's rows and its prompt stand in the middle of a table, nobody can tell.
    let undetectable = |mix: &Mix| {
        let is_console = house.driver().text;
        is_console && mix.how_much == HowMuch::SecondHalf && mix.quarters > 0
    };
    let mixes = Mix::all().filter(|mix| !undetectable(mix)).map(Manner::Mixed);
    mixes.chain([Manner::OneLate]).collect()
}

#[tokio::test]
async fn whatever_a_bridge_does_to_connections_the_line_comes_back() {
    let tests = houses().into_iter().flat_map(|house| {
        let house = house.quick();
        let truth = Truth::of(&house);
        [restarted(house.clone(), truth.clone()).boxed(), half_open(house, truth).boxed()]
    });
    all(tests.collect()).await;
}

#[tokio::test]
async fn whatever_a_bridge_does_to_answers_no_value_is_wrong() {
    let tests = houses().into_iter().flat_map(|house| {
        let truth = Truth::of(&house);
        let mixed: Vec<_> = manners(&house)
            .into_iter()
            .map(|manner| mixed(house.clone(), truth.clone(), manner).boxed())
            .collect();
        mixed.into_iter().chain([cut_into_pieces(house, truth).boxed()])
    });
    all(tests.collect()).await;
}
