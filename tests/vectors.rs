//! Every vector of every brand: recorded and constructed frames with their meaning.
//!
//! An answer is played through the real driver in each [`Delivery`]. A key of a vector that no
//! comparison knows is a failure, so that nothing is left out silently.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "vectors/ascii_family.rs"]
mod ascii_family;
#[path = "vectors/ascii_status.rs"]
mod ascii_status;
mod common;
#[path = "vectors/daly.rs"]
mod daly;
#[path = "vectors/daren.rs"]
mod daren;
#[path = "vectors/daren_status.rs"]
mod daren_status;
#[path = "vectors/jbd.rs"]
mod jbd;
#[path = "vectors/jk.rs"]
mod jk;
#[path = "vectors/jk_wires.rs"]
mod jk_wires;
#[path = "vectors/pylontech_console.rs"]
mod pylontech_console;
#[path = "vectors/pylontech_sc0500.rs"]
mod pylontech_sc0500;

use bms_reader::model::{FaultKind, Reading};
use bms_reader::protocol::{DRIVERS, Options, Step, find};
use common::{Delivery, Outcome, Vector, play, usual, vectors};
use serde_json::Value;

/// What the runner has to know of a brand.
struct SimBrand {
    name: &'static str,
    /// What comes back when `question` is asked while `vector` is under test.
    session: fn(vector: &Vector, question: &[u8]) -> Option<Vec<u8>>,
    /// Whether the driver ever asks the question of this vector, and cannot do without an answer.
    role: fn(&Vector) -> Role,
    /// Compares the question itself.
    request: fn(&Vector),
    /// Compares one expected value with the reading.
    value: fn(&Vector, key: &str, expected: &Value, &Reading) -> Compared,
    /// Compares one detail of an expected error with its message.
    detail: fn(key: &str, expected: &Value, message: &str) -> Compared,
    /// Vectors of arithmetic and of frames that the driver never asks for.
    bare: fn(&Vector),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Required,
    Optional,
    NeverAsked,
}

enum Compared {
    Yes,
    /// Known, but not compared, for this reason.
    No(#[allow(dead_code, reason = "it is there for the reader")] &'static str),
    UnknownKey,
}

const BRANDS: &[SimBrand] = &[
    daren::BRAND,
    jbd::BRAND,
    jk::BRAND,
    pylontech_sc0500::BRAND,
    pylontech_console::BRAND,
    ascii_family::PYLONTECH,
    ascii_family::PACE,
    ascii_family::SEPLOS,
    daly::BRAND,
];

/// What the operator of this vector's battery said about it.
fn options(brand: &SimBrand, vector: &Vector) -> Options {
    match brand.name {
        "pylontech-sc0500" => pylontech_sc0500::options(vector),
        "daly" => daly::options(vector),
        "jk" => jk::options(vector),
        _ => usual(find(brand.name).unwrap()),
    }
}

/// Kinds that not every brand has.
const RARE: [&str; 5] = ["length-field", "checksum", "stream", "fragment", "bad"];

/// Brands whose answers say what they are, so that one is good whatever was asked.
const SELF_NAMING: &[&str] = &["jk"];

fn each(kinds: &[&str], mut test: impl FnMut(&SimBrand, &Vector)) {
    for info in DRIVERS {
        let brand = BRANDS.iter().find(|brand| brand.name == info.name);
        let brand = brand.unwrap_or_else(|| panic!("{} has no comparison", info.name));
        let vectors = vectors(info.name);
        let chosen = vectors.iter().filter(|vector| kinds.contains(&vector.kind.as_str()));
        let rare = kinds.iter().all(|kind| RARE.contains(kind));
        assert!(rare || chosen.clone().count() > 0, "{} has no {kinds:?}", info.name);
        chosen.for_each(|vector| test(brand, vector));
    }
}

/// Plays one cycle of a new session with the vector's answer in it.
fn session(brand: &SimBrand, vector: &Vector, delivery: Delivery) -> Outcome {
    let info = DRIVERS.iter().find(|info| info.name == brand.name).unwrap();
    play((info.new)(&options(brand, vector)).as_mut(), |question| {
        match (brand.session)(vector, question) {
            Some(response) => delivery.chunks(question, &response),
            None => Vec::new(),
        }
    })
    .unwrap_or_else(|reason| panic!("{}, {delivery:?}: {reason}", vector.id))
}

#[test]
fn no_vector_is_of_an_unknown_kind_and_ids_are_unique() {
    let kinds = ["request", "response", "bad", "stream", "length-field", "checksum", "fragment"];
    for info in DRIVERS {
        let mut ids: Vec<String> = vectors(info.name)
            .into_iter()
            .map(|vector| {
                assert!(kinds.contains(&vector.kind.as_str()), "{}: {}", vector.id, vector.kind);
                vector.id
            })
            .collect();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count);
    }
}

#[test]
fn questions_are_as_recorded() {
    each(&["request"], |brand, vector| (brand.request)(vector));
}

#[test]
fn arithmetic_and_services_that_are_never_asked() {
    each(&["length-field", "checksum", "fragment"], |brand, vector| (brand.bare)(vector));
    each(&["response"], |brand, vector| {
        if (brand.role)(vector) == Role::NeverAsked {
            (brand.bare)(vector);
        }
    });
}

#[test]
fn answers_mean_what_they_should_however_they_arrive() {
    each(&["response", "stream"], |brand, vector| {
        if (brand.role)(vector) == Role::NeverAsked {
            return;
        }
        for delivery in Delivery::all() {
            let outcome = session(brand, vector, delivery);
            assert!(
                matches!(outcome.end, Step::Done(_)),
                "{}, {delivery:?}: {:?}",
                vector.id,
                outcome.end
            );
            compare(brand, vector, &outcome.reading());
        }
    });
}

fn compare(brand: &SimBrand, vector: &Vector, reading: &Reading) {
    for (key, expected) in vector.json["expected"].as_object().expect("expected values") {
        let compared = (brand.value)(vector, key, expected, reading);
        assert!(!matches!(compared, Compared::UnknownKey), "{}: what is {key}?", vector.id);
    }
}

/// An answer is never taken for that of another question, since it does not name its own.
#[test]
fn an_answer_to_another_question_is_refused() {
    for info in DRIVERS.iter().filter(|info| !SELF_NAMING.contains(&info.name)) {
        let all = vectors(info.name);
        let good = || all.iter().filter(|v| v.kind == "response");
        for (asked, given) in good().flat_map(|a| good().map(move |b| (a, b))) {
            let brand = BRANDS.iter().find(|brand| brand.name == info.name).unwrap();
            let same = asked.request == given.request
                || info.name == "daly" && daly::is_same_question(asked, given);
            if same || (brand.role)(asked) == Role::NeverAsked {
                continue;
            }
            let vector = Vector { response: given.response.clone(), ..asked.clone() };
            let with = session(brand, &vector, Delivery::Whole);
            let without = Vector { response: Vec::new(), ..asked.clone() };
            let without = session(brand, &without, Delivery::Whole);
            match (with.end, without.end) {
                (Step::Done(with), Step::Done(without)) => {
                    assert_eq!(with, without, "{} for {}", given.id, asked.id);
                }
                (with, Step::Failed(_)) => {
                    assert!(matches!(with, Step::Failed(_)), "{} for {}", given.id, asked.id);
                }
                (with, without) => panic!("{with:?}, {without:?}"),
            }
        }
    }
}

/// The errors of the vectors in the words of the contract.
const ERRORS: &[(&str, FaultKind)] = &[
    // Somebody answers, but no frame is ever whole.
    ("timeout_incomplete", FaultKind::Timeout),
    // Frames of other batteries are skipped until the time is over.
    ("wrong_address", FaultKind::Timeout),
    ("other_register", FaultKind::Timeout),
    ("wrong_command", FaultKind::Timeout),
    ("echo", FaultKind::Timeout),
    ("missing_frames", FaultKind::Timeout),
    ("bad_checksum", FaultKind::BadChecksum),
    // The length field has a check of its own: it fails because the frame is damaged.
    ("bad_length_checksum", FaultKind::BadChecksum),
    ("bad_hex", FaultKind::BadFrame),
    ("bad_end", FaultKind::BadFrame),
    ("no_header", FaultKind::Timeout),
    ("bad_trailer", FaultKind::BadFrame),
    ("unexpected_frame_type", FaultKind::Timeout),
    ("length_mismatch", FaultKind::BadFrame),
    ("info_too_short", FaultKind::BadFrame),
    ("implausible", FaultKind::BadFrame),
    ("wrong_version", FaultKind::UnsupportedFrame),
    ("wrong_cid1", FaultKind::UnsupportedFrame),
    ("unknown_frame_type", FaultKind::UnsupportedFrame),
    ("device_error", FaultKind::BmsError),
    ("timeout", FaultKind::Timeout),
    // Answers of consoles.
    ("no_data", FaultKind::BadFrame),
    ("malformed_record", FaultKind::BadFrame),
    ("malformed_number", FaultKind::BadFrame),
    ("unknown_command", FaultKind::UnsupportedFrame),
    ("not_logged_in", FaultKind::AuthFailed),
    ("login_failed", FaultKind::AuthFailed),
    ("authorization_failed", FaultKind::AuthFailed),
];

#[test]
fn bad_answers_fail_as_they_should_however_they_arrive() {
    each(&["bad"], |brand, vector| {
        let error = &vector.json["expected_error"];
        let kind = |key: &str| {
            let name = error[key].as_str()?;
            let row = ERRORS.iter().find(|row| row.0 == name);
            Some(row.unwrap_or_else(|| panic!("{}: what is {name}?", vector.id)).1)
        };
        let allowed = [kind("kind"), kind("alternative_kind")];
        // Junk in front is an error of its own kind, which may be the more telling one.
        let deliveries =
            Delivery::all().into_iter().filter(|d| !matches!(d, Delivery::BehindJunk(_)));
        for delivery in deliveries {
            let outcome = session(brand, vector, delivery);
            match (brand.role)(vector) {
                Role::Required => {
                    let failure = outcome.error();
                    assert!(
                        allowed.contains(&Some(failure.kind())),
                        "{}, {delivery:?}: {failure}",
                        vector.id
                    );
                    details(brand, vector, &failure.to_string());
                }
                Role::Optional => {
                    let silent = Vector { response: Vec::new(), ..vector.clone() };
                    let silent = session(brand, &silent, Delivery::Whole).reading();
                    assert_eq!(outcome.reading(), silent, "{}", vector.id);
                    (brand.bare)(vector);
                }
                Role::NeverAsked => (brand.bare)(vector),
            }
        }
    });
}

fn details(brand: &SimBrand, vector: &Vector, message: &str) {
    for (key, expected) in vector.json["expected_error"].as_object().expect("an error") {
        if key != "kind" && key != "alternative_kind" {
            let compared = (brand.detail)(key, expected, message);
            assert!(!matches!(compared, Compared::UnknownKey), "{}: what is {key}?", vector.id);
        }
    }
}
