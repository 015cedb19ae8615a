//! Every recorded and constructed exchange is played to the real driver: what it sends is compared
//! byte by byte, what it reads with the `raw` JSON.
//!
//! `UPDATE_VECTORS=1 cargo test --test vectors` rewrites what the files expect; review the diff.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;
mod format;

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::Path;

use bms_reader::protocol::driver::Medium;
use bms_reader::protocol::{CycleKind, Step, drivers};
use common::vectors::{
    Kind, Session, Vector, conversations, difference, exist, facts, json, path, vectors,
};
use common::{Delivery, play};
use serde_json::{Map, Value};

fn all() -> impl Iterator<Item = &'static Vector> {
    drivers().iter().flat_map(|info| vectors(info.name))
}

fn of(kind: Kind) -> impl Iterator<Item = &'static Vector> {
    all().filter(move |vector| vector.kind == kind)
}

/// The end of the cycle in which the answer of this vector arrives.
fn read(vector: &'static Vector, delivery: Delivery) -> Step {
    let mut session = vector.session();
    let outcome = vector.read(|request| match session.answer(request) {
        Some(answer) if !answer.response.is_empty() => delivery.chunks(request, &answer.response),
        _ => Vec::new(),
    });
    assert!(outcome.asked.contains(&vector.request), "{}: the driver does not ask", vector.id);
    outcome.end
}

/// The same when `answer` arrives in the place of the vector's own.
fn read_with(vector: &'static Vector, answer: &[u8]) -> Step {
    let mut session = Session::new(vector.companions());
    let outcome = vector.read(|request| match session.answer(request) {
        Some(companion) => vec![companion.response.clone()],
        None if request == vector.request => vec![answer.to_vec()],
        None => Vec::new(),
    });
    outcome.end
}

/// The end of a cycle with this answer alone, as `decode` plays it.
fn read_alone(vector: &Vector) -> Step {
    let mut driver = vector.info.driver(&vector.options);
    driver.start(CycleKind::Identify);
    let answer = |request: &[u8]| (request == vector.request).then(|| vector.response.clone());
    play(driver.as_mut(), |request| answer(request).into_iter().collect()).unwrap().end
}

/// What the `raw` JSON contains with the answer of a vector (`found`) and without it.
struct Effect {
    found: Value,
    before: Value,
}

impl Effect {
    fn of(vector: &'static Vector) -> Effect {
        let (end, without) = (read(vector, Delivery::Whole), read_with(vector, &[]));
        let nothing = || Value::Object(Map::new());
        let before =
            if is_done(&without) { facts(vector.info, without.clone()) } else { nothing() };
        match vector.kind {
            Kind::Response => Effect { found: facts(vector.info, end), before },
            // There is a reading without this answer, which a bad one must not change.
            _ if is_done(&end) => {
                assert_eq!(end, without, "{}", vector.id);
                Effect { found: facts(vector.info, read_alone(vector)), before: nothing() }
            }
            _ => Effect { found: facts(vector.info, end), before: nothing() },
        }
    }

    /// Where it differs from what is expected. A raised alarm must be expected.
    fn differences(&self, expected: &Value) -> Vec<String> {
        let mut differences = Vec::new();
        compare(expected, &self.found, "", &mut differences);
        let known: BTreeSet<_> = raised(expected).chain(raised(&self.before)).collect();
        let unexpected = raised(&self.found).filter(|name| !known.contains(name));
        differences.extend(unexpected.map(|name| format!("{name} is not expected")));
        differences
    }
}

fn compare(expected: &Value, found: &Value, path: &str, differences: &mut Vec<String>) {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            for (key, expected) in expected {
                let found = found.get(key).unwrap_or(&Value::Null);
                compare(expected, found, &format!("{path}/{key}"), differences);
            }
        }
        _ if expected == found => {}
        _ => differences.push(format!("{path} is {found} instead of {expected}")),
    }
}

/// The names of the active alarms and of the words with unknown bits.
fn raised(facts: &Value) -> impl Iterator<Item = String> {
    let parts = ["warnings", "unknown_bits"].into_iter();
    let each = parts.flat_map(|part| facts["status"][part].as_object().into_iter().flatten());
    each.filter(|(_, value)| **value != Value::Bool(false)).map(|(name, _)| name.clone())
}

fn is_done(end: &Step) -> bool {
    matches!(end, Step::Done(_))
}

#[test]
fn recorded_answers_yield_the_expected_json() {
    if env::var_os("UPDATE_VECTORS").is_some() {
        let files = drivers().iter().filter(|info| exist(info.name));
        return files.for_each(|info| update(info.name));
    }
    let mut failures = Vec::new();
    for vector in all().filter(|vector| vector.kind != Kind::Request) {
        let expected = vector.expected.as_object().is_some_and(|expected| !expected.is_empty());
        assert!(expected, "{}: nothing is expected", vector.id);
        let differences = Effect::of(vector).differences(&vector.expected);
        if !differences.is_empty() {
            failures.push(format!(
                "{} {}:\n  {}",
                vector.info.name,
                vector.id,
                differences.join("\n  ")
            ));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn update(driver: &str) {
    let mut file = json(driver);
    for json in file["vectors"].as_array_mut().unwrap() {
        let vector = vectors(driver).iter().find(|vector| json["id"] == vector.id).unwrap();
        if vector.kind != Kind::Request {
            let Effect { found, before } = Effect::of(vector);
            json["expected"] = difference(&found, &before);
        }
    }
    fs::write(path(driver), format::pretty(&file)).unwrap();
}

#[test]
fn good_answers_end_in_a_reading_and_add_to_it() {
    for vector in of(Kind::Response) {
        let end = read(vector, Delivery::Whole);
        assert!(is_done(&end), "{}: {end:?}", vector.id);
        assert_ne!(end, read_with(vector, &[]), "{}: the answer adds nothing", vector.id);
    }
}

#[test]
fn delivery_does_not_change_the_outcome() {
    for vector in all().filter(|vector| vector.kind != Kind::Request) {
        let whole = read(vector, Delivery::Whole);
        for delivery in Delivery::all() {
            let another_error = match delivery {
                Delivery::AfterNoise(_) => vector.kind == Kind::Bad,
                Delivery::AfterEcho => vector.response == vector.request,
                _ => false,
            };
            if another_error {
                continue;
            }
            let end = read(vector, delivery);
            // Errors may differ in the number of bytes that they mention.
            let same = end == whole || facts(vector.info, end) == facts(vector.info, whole.clone());
            assert!(same, "{}, {delivery:?}", vector.id);
        }
    }
}

/// Over Bluetooth, with and without the module's own text between the notifications.
#[test]
fn notifications_and_module_text_do_not_change_the_outcome() {
    let over_bluetooth = |vector: &&Vector| vector.options.medium == Medium::Ble;
    for vector in of(Kind::Response).filter(over_bluetooth) {
        let whole = read(vector, Delivery::Whole);
        for (seed, text) in (0..=16).flat_map(|seed| [(seed, &[][..]), (seed, &vector.module_text)])
        {
            let mut session = vector.session();
            let outcome = vector.read(|request| {
                let Some(answer) = session.answer(request) else { return Vec::new() };
                let pieces = match seed {
                    0 if answer.notifications.is_empty() => vec![answer.response.clone()],
                    0 => answer.notifications.clone(),
                    seed => Delivery::Pieces(seed).chunks(request, &answer.response),
                };
                let around = |piece| [text.to_vec(), piece, text.to_vec()];
                pieces.into_iter().flat_map(around).filter(|piece| !piece.is_empty()).collect()
            });
            assert_eq!(outcome.end, whole, "{}, {seed}", vector.id);
        }
    }
}

#[test]
fn drivers_send_the_recorded_requests() {
    for vector in of(Kind::Request) {
        read(vector, Delivery::Whole);
    }
}

/// Except where a driver streams: each record names its kind and is accepted at any time.
#[test]
fn answer_to_another_request_is_refused() {
    let streams = |vector: &Vector| {
        vector.options.medium == Medium::Ble && vector.info.gatt.is_some_and(|gatt| gatt.streams)
    };
    for vector in of(Kind::Response).filter(|vector| !streams(vector)) {
        let without = read_with(vector, &[]);
        for other in vectors(vector.info.name).iter().filter(|it| it.kind == Kind::Response) {
            if other.request == vector.request || other.options != vector.options {
                continue;
            }
            let with = read_with(vector, &other.response);
            let both_fail = !is_done(&with) && !is_done(&without);
            assert!(both_fail || with == without, "{} for {}: {with:?}", other.id, vector.id);
        }
    }
}

#[test]
fn every_driver_has_vectors_of_every_kind() {
    for info in drivers() {
        if !exist(info.name) {
            assert!(!conversations(info).is_empty(), "{}: nothing is recorded", info.name);
            continue;
        }
        for kind in [Kind::Request, Kind::Response, Kind::Bad] {
            assert!(
                vectors(info.name).iter().any(|it| it.kind == kind),
                "{}: no {kind:?}",
                info.name
            );
        }
        let file = json(info.name);
        let ids = file["vectors"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap());
        let mut known = BTreeSet::new();
        ids.for_each(|id| assert!(known.insert(id), "{}: {id} occurs twice", info.name));
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let name = path.file_stem().unwrap().to_str().unwrap();
            assert!(drivers().iter().any(|info| info.name == name), "{name} is no driver");
        }
    }
}
