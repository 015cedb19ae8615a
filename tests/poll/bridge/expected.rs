//! The values of the simulated batteries, and whether the board shows nothing else.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bms_reader::model::Derived;
use bms_reader::model::units::Millis;
use bms_reader::model::{DeviceState, Reading, Snapshot};
use bms_reader::protocol::{CycleKind, Step};
use bms_reader::raw::raw;
use serde_json::Value as Json;

use super::Setup;
use crate::common::play;
use crate::faulty_bridge::Exchange;
use crate::fixture::{id, profile};

/// Enough cycles for every request of a driver, although a request without reply ends a cycle.
const CYCLES: usize = 6;

/// The values of one battery.
#[derive(Debug, Clone)]
pub struct ExpectedBattery {
    pub reading: Reading,
    /// Path and value of everything that may be published. A path has two values if two replies
    /// contain the quantity and the better one may be lost.
    published: BTreeSet<(String, String)>,
}

/// The values of all batteries, and what a bridge may mix into their replies.
#[derive(Debug, Clone)]
pub struct Expected {
    pub batteries: BTreeMap<u8, ExpectedBattery>,
    /// A foreign reply for each request.
    pub strays: HashMap<Vec<u8>, Vec<u8>>,
}

impl Expected {
    pub fn of(setup: &Setup) -> Expected {
        let mut batteries = BTreeMap::new();
        let mut exchanges = Vec::new();
        for &address in &setup.addresses {
            let (readings, exchange) = play_cycles(setup, address, None);
            let lossy =
                exchange.iter().flat_map(|(lost, _)| play_cycles(setup, address, Some(lost)).0);
            let published =
                readings.iter().cloned().chain(lossy).flat_map(|reading| published(&reading));
            let published = published.collect();
            let reading = readings.last().expect("it answers").clone();
            batteries.insert(address, ExpectedBattery { reading, published });
            exchanges.push(exchange);
        }
        if let [first, second] = &exchanges[..] {
            let mut readings = batteries.values().map(|battery| &battery.reading);
            assert_ne!(readings.next(), readings.next(), "the batteries differ");
            assert_eq!(first.len(), second.len(), "both get the same requests");
        }
        Expected { batteries, strays: strays(&exchanges) }
    }
}

/// The readings and exchanges of a few cycles without faults, except that the reply to one request
/// may be lost.
fn play_cycles(setup: &Setup, address: u8, lost: Option<&[u8]>) -> (Vec<Reading>, Vec<Exchange>) {
    let mut bus = setup.bus();
    let mut driver = setup.driver().driver(&setup.options_at(address));
    let (mut readings, mut exchanges) = (Vec::new(), Vec::<Exchange>::new());
    for _ in 0..CYCLES {
        driver.start(CycleKind::Read);
        let outcome = play(driver.as_mut(), |request| {
            let answer = bus.reply(request, 0.0);
            if answer.is_empty() || lost == Some(request) {
                return Vec::new();
            }
            if exchanges.iter().all(|(known, _)| known != request) {
                exchanges.push((request.to_vec(), answer.clone()));
            }
            vec![answer]
        });
        if let Step::Done(reading) = outcome.unwrap().end {
            readings.push(*reading);
        }
    }
    (readings, exchanges)
}

/// For each request, the reply of the other battery to it. If there is only one, no other battery
/// can be on its line, so that the reply to another request is the one to confuse it with.
fn strays(exchanges: &[Vec<Exchange>]) -> HashMap<Vec<u8>, Vec<u8>> {
    let mut strays = HashMap::new();
    let mut note = |requests: &[Exchange], replies: &[Exchange]| {
        let replies = replies.iter().map(|(_, reply)| reply.clone());
        strays.extend(requests.iter().map(|(request, _)| request.clone()).zip(replies));
    };
    match exchanges {
        [first, second] => {
            note(first, second);
            note(second, first);
        }
        [only] => {
            let mut rotated = only.clone();
            rotated.rotate_left(1);
            note(only, &rotated);
        }
        _ => unreachable!("one or two batteries"),
    }
    strays
}

/// Path and value of everything that is published of a reading.
fn published(reading: &Reading) -> Vec<(String, String)> {
    let device = id(1);
    let snapshot = Snapshot {
        device: device.clone(),
        sequence: 1,
        taken: Millis(0),
        took_ms: 0,
        reading: reading.clone(),
        derived: Derived::default(),
    };
    let mut state = DeviceState::new(profile(&device));
    state.snapshot = Some(snapshot.into());
    let mut values = Vec::new();
    gather("", &raw(&state)["status"], &mut values);
    values
}

fn gather(path: &str, json: &Json, into: &mut Vec<(String, String)>) {
    match json {
        Json::Null => {}
        Json::Object(object) => {
            object.iter().for_each(|(key, value)| gather(&format!("{path}/{key}"), value, into));
        }
        Json::Array(list) => {
            let each = list.iter().enumerate();
            each.for_each(|(index, value)| gather(&format!("{path}/{index}"), value, into));
        }
        value => into.push((path.to_owned(), value.to_string())),
    }
}

/// A published reading has expected values only, and the voltages of all cells or of none: some
/// consoles may lose them. No reading was implausible.
pub fn assert_expected(context: &str, state: &DeviceState, expected: &ExpectedBattery) {
    assert_eq!(state.counters.rejected, 0, "{context}: {:?}", state.attempt);
    let Some(snapshot) = state.snapshot.as_deref() else { return };
    for value in published(&snapshot.reading) {
        assert!(expected.published.contains(&value), "{context}: {value:?}");
    }
    let (cells, all) = (snapshot.reading.cells.len(), expected.reading.cells.len());
    assert!(cells == 0 || cells == all, "{context}: {cells} cells");
}
