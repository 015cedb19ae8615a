//! Properties that hold for every driver of the registry.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod calls;
#[path = "../common/mod.rs"]
mod common;
mod entities;
mod recorded;
mod simulated;
mod stack;

use bms_reader::protocol::driver::Medium;
use bms_reader::protocol::{self, CycleKind, Options, Step};
use calls::{apply, bytes, call, stream};
use common::vectors::{Vector, facts, vectors};
use common::{Delivery, play};
use proptest::prelude::*;
use recorded::Recorded;
use serde_json::Value;

proptest! {
    // Each case is played to every battery; fuzzing looks for what takes more tries to be found.
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// No panic, no endless cycle, no control while reading, and a good cycle afterwards.
    #[test]
    fn any_sequence_of_calls_leaves_the_driver_usable(calls in prop::collection::vec(call(), 0..60)) {
        for battery in Recorded::each() {
            let controls = vectors(battery.info.name).iter().filter(|it| it.write.is_some());
            let controls: Vec<_> = controls.map(|vector| &vector.request).collect();
            let mut driver = battery.driver();
            for call in &calls {
                apply(driver.as_mut(), call, &battery.answers());
                let step = driver.step();
                prop_assert_eq!(&step, &driver.step());
                if let Step::Send(request) = step {
                    prop_assert!(!controls.contains(&&request), "{:x?}", request);
                }
            }
            let end = play(driver.as_mut(), |_| Vec::new());
            prop_assert!(end.is_ok(), "{:?}", end);

            driver.reset();
            prop_assert_eq!(battery.play(driver.as_mut()).reading(), battery.good());
        }
    }

    #[test]
    fn reset_driver_asks_like_a_new_one(calls in prop::collection::vec(call(), 0..60)) {
        for battery in Recorded::each() {
            let mut driver = battery.driver();
            calls.iter().for_each(|call| apply(driver.as_mut(), call, &battery.answers()));
            driver.reset();
            let new = battery.play(battery.driver().as_mut()).asked;
            prop_assert_eq!(battery.play(driver.as_mut()).asked, new);
        }
    }

    #[test]
    fn chunk_boundaries_do_not_matter(
        streams in prop::collection::vec(stream(), 1..6),
        seed in 1..u64::MAX,
    ) {
        for battery in Recorded::each() {
            let answers = battery.answers();
            let run = |delivery: Delivery| {
                let mut streams = streams.iter();
                let mut recorded = answers.iter().cycle();
                play(battery.driver().as_mut(), |request| {
                    let response = match streams.next() {
                        Some(stream) => bytes(stream, &answers),
                        None => recorded.next().unwrap().to_vec(),
                    };
                    delivery.chunks(request, &response)
                })
            };
            let whole = run(Delivery::Whole).unwrap();
            for delivery in [Delivery::ByteByByte, Delivery::Pieces(seed)] {
                let pieces = run(delivery).unwrap();
                prop_assert_eq!(&whole.asked, &pieces.asked);
                prop_assert_eq!(&whole.end, &pieces.end);
            }
        }
    }
}

/// Each bit of the head and of the checksum, and one of each byte between them.
fn bits(length: usize) -> impl Iterator<Item = usize> {
    let is_picked = move |bit: &usize| {
        let (byte, of_byte) = (bit / 8, bit % 8);
        byte < 12 || byte + 6 >= length || of_byte == byte % 8
    };
    (0..length * 8).filter(is_picked)
}

/// It costs at most the values of its own answer. Text consoles have no checksum; and after a
/// damaged answer a driver that looks for the dialect goes on to the next one, in which another
/// recorded battery answers.
#[test]
fn flipped_bit_never_changes_a_value() {
    let has_checksum = |it: &&Recorded| it.has_checksum();
    for battery in Recorded::each().filter(has_checksum).filter(|it| it.dialects() == 1) {
        let good = battery.good();
        let all = facts(battery.info, Step::Done(Box::new(good.clone())));
        for Vector { id, request, response, .. } in battery.session().exchanges() {
            for bit in bits(response.len()) {
                let mut flipped = response.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let (mut flipped, mut session) = (Some(flipped), battery.session());
                let outcome = play(battery.driver().as_mut(), |asked| {
                    let flipped = if asked == request { flipped.take() } else { None };
                    flipped.map_or_else(|| session.chunks(asked), |bytes| vec![bytes])
                });
                match outcome.unwrap().end {
                    Step::Done(reading) if *reading == good => {}
                    end @ Step::Done(_) => {
                        let some = facts(battery.info, end);
                        assert!(is_part_of(&some, &all), "{id}, bit {bit}: {some}\n{all}");
                    }
                    Step::Failed(_) => {}
                    step => panic!("{step:?}"),
                }
            }
        }
    }
}

/// Every value is in `all` too. The average of the temperatures depends on how many there are.
fn is_part_of(some: &Value, all: &Value) -> bool {
    match (some, all) {
        (Value::Object(some), Value::Object(all)) => some.iter().all(|(key, value)| {
            key == "temp_average" || all.get(key).is_some_and(|other| is_part_of(value, other))
        }),
        (Value::Array(some), Value::Array(all)) => all.starts_with(some),
        // A part that was not received.
        (Value::Bool(false), Value::Bool(true)) => true,
        _ => some == all,
    }
}

/// The identity is asked for once and stays in every reading of a session.
#[test]
fn later_cycles_read_the_same_with_fewer_requests() {
    // Within these a driver gives up what the recorded battery does not answer.
    const CYCLES_TO_GIVE_UP: usize = 4;
    for battery in Recorded::each() {
        let (mut driver, mut session) = (battery.driver(), battery.session());
        let mut cycle = || {
            driver.start(CycleKind::Read);
            play(driver.as_mut(), |request| session.chunks(request)).unwrap()
        };
        for _ in 1..CYCLES_TO_GIVE_UP {
            cycle();
        }
        let (before, after) = (cycle(), cycle());
        let (few, many) = (after.asked.len(), before.asked.len());
        assert!(few <= many, "{}: {:x?} after {:x?}", battery.info.name, after.asked, before.asked);
        assert_eq!(after.reading(), before.reading());
    }
}

#[test]
fn long_noise_is_skipped() {
    for battery in Recorded::each() {
        for noise in [b'~', b'\0', b'0', 0xDD] {
            let (mut flood, mut session) = (Some(vec![noise; 1 << 16]), battery.session());
            let outcome = play(battery.driver().as_mut(), |request| {
                flood.take().into_iter().chain(session.chunks(request)).collect()
            });
            assert_eq!(outcome.unwrap().reading(), battery.good());
        }
    }
}

/// A silent battery costs the others on its bus one timeout per cycle: each dialect is tried once.
/// Over Bluetooth no other battery waits, and a module may have to be woken or opened first.
#[test]
fn silent_battery_is_asked_once_per_cycle() {
    for battery in Recorded::each() {
        let further = if battery.options.medium == Medium::Ble { 2 } else { 0 };
        let mut driver = battery.driver();
        for _ in 0..5 {
            driver.start(CycleKind::Read);
            let outcome = play(driver.as_mut(), |_| Vec::new()).unwrap();
            assert!(
                (1..=battery.dialects() + further).contains(&outcome.asked.len()),
                "{:?}",
                outcome.asked
            );
            assert!(matches!(outcome.end, Step::Failed(_)));
        }
    }
}

/// Also of brands without recordings, whatever is asked for.
#[test]
fn silent_battery_ends_every_cycle() {
    for info in protocol::drivers() {
        for medium in [Medium::Serial, Medium::Ble] {
            let mut driver = info.driver(&Options { medium, ..Options::default() });
            for kind in [CycleKind::Read, CycleKind::Identify, CycleKind::Read] {
                driver.start(kind);
                assert!(play(driver.as_mut(), |_| Vec::new()).is_ok(), "{} {kind:?}", info.name);
            }
        }
    }
}
