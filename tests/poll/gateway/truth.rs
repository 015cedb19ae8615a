//! What the batteries of a house truly say, and whether it is that what got onto the board.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bms_reader::model::snapshot::Derived;
use bms_reader::model::units::Millis;
use bms_reader::model::{DeviceState, Reading, Snapshot};
use bms_reader::protocol::{CycleKind, Step};
use bms_reader::raw::raw;
use serde_json::Value as Json;

use super::House;
use super::bridge::Exchange;
use crate::common::play;
use crate::rig::{id, profile};

/// Cycles in which everything is asked, although a question without an answer ends one.
const CYCLES: usize = 6;

/// What a battery truly says.
#[derive(Debug, Clone)]
pub struct Said {
    pub reading: Reading,
    /// Each published value by its path. There is more than one where two answers have a word for
    /// the same, and the better one is lost.
    published: BTreeSet<(String, String)>,
}

/// What the batteries of a house truly say, and what a bridge may take for it.
#[derive(Debug, Clone)]
pub struct Truth {
    pub said: BTreeMap<u8, Said>,
    pub strays: HashMap<Vec<u8>, Vec<u8>>,
}

impl Truth {
    pub fn of(house: &House) -> Truth {
        let mut said = BTreeMap::new();
        let mut books = Vec::new();
        for &address in &house.addresses {
            let (readings, book) = listen(house, address, None);
            let lossy = book.iter().flat_map(|(lost, _)| listen(house, address, Some(lost)).0);
            let published = readings.iter().cloned().chain(lossy).flat_map(|it| published(&it));
            let published = published.collect();
            let reading = readings.last().expect("it answers").clone();
            said.insert(address, Said { reading, published });
            books.push(book);
        }
        if let [first, second] = &books[..] {
            let mut cells = said.values().map(|said| &said.reading.cells);
            assert_ne!(cells.next(), cells.next(), "batteries that can be told apart");
            assert_eq!(first.len(), second.len(), "they are asked the same");
        }
        Truth { said, strays: strays(&books) }
    }
}

/// A few cycles with a battery while nothing interferes, but that the answer to one question may
/// always be lost; and what it was asked.
fn listen(house: &House, address: u8, lost: Option<&[u8]>) -> (Vec<Reading>, Vec<Exchange>) {
    let mut bus = house.bus();
    let mut driver = (house.driver().new)(&house.options_at(address));
    let (mut readings, mut book) = (Vec::new(), Vec::<Exchange>::new());
    for _ in 0..CYCLES {
        driver.start(CycleKind::Read);
        let outcome = play(driver.as_mut(), |question| {
            let answer = bus.answer(question, 0.0);
            if answer.is_empty() || lost == Some(question) {
                return Vec::new();
            }
            if book.iter().all(|(known, _)| known != question) {
                book.push((question.to_vec(), answer.clone()));
            }
            vec![answer]
        });
        if let Step::Done(reading) = outcome.unwrap().end {
            readings.push(*reading);
        }
    }
    (readings, book)
}

/// For each question what the other battery answers to the same one. Where there is one battery on
/// the line, its frames carry no address, and nothing of another battery can ever be on its wire:
/// what may be taken for an answer is that to another question.
fn strays(books: &[Vec<Exchange>]) -> HashMap<Vec<u8>, Vec<u8>> {
    let mut strays = HashMap::new();
    let mut note = |asked: &[Exchange], answered: &[Exchange]| {
        let answers = answered.iter().map(|(_, answer)| answer.clone());
        strays.extend(asked.iter().map(|(question, _)| question.clone()).zip(answers));
    };
    match books {
        [first, second] => {
            note(first, second);
            note(second, first);
        }
        [only] => {
            let mut turned = only.clone();
            turned.rotate_left(1);
            note(only, &turned);
        }
        _ => unreachable!("one or two batteries"),
    }
    strays
}

/// What is published of a reading, by the path of each value.
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

/// A good read says nothing that the battery does not say, and the voltages of all cells or of none:
/// some consoles may lose them. A failed one is no lie, unless it had to be held back as a reading
/// that no battery gives.
pub fn assert_true(context: &str, state: &DeviceState, said: &Said) {
    assert_eq!(state.counters.rejected, 0, "{context}: {:?}", state.attempt);
    let Some(snapshot) = state.snapshot.as_deref() else { return };
    for value in published(&snapshot.reading) {
        assert!(said.published.contains(&value), "{context}: {value:?}");
    }
    let (cells, all) = (snapshot.reading.cells.len(), said.reading.cells.len());
    assert!(cells == 0 || cells == all, "{context}: {cells} cells");
}
