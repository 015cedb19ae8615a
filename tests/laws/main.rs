//! Properties that hold for every driver of the registry.
//!
//! That the runner's buffer is bounded is tested beside it; the other laws need nothing but the
//! contract of `Driver`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod acts;
#[path = "../common/mod.rs"]
mod common;
mod recorded;
mod simulated;

use acts::{act, bytes, perform, stream};
use bms_reader::model::Reading;
use bms_reader::protocol::{CycleKind, Step};
use common::{Delivery, play};
use proptest::prelude::*;
use recorded::Recorded;

proptest! {
    // Each case is played to every brand; what takes more tries to be found, fuzzing looks for.
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Never a panic, never an endless cycle, and whatever happened: a good cycle follows.
    #[test]
    fn nothing_disturbs_a_driver_for_good(acts in prop::collection::vec(act(), 0..60)) {
        for battery in Recorded::each() {
            let answers: Vec<_> = battery.answers.values().collect();
            let mut driver = battery.driver();
            for act in &acts {
                perform(driver.as_mut(), act, &answers);
                prop_assert_eq!(driver.step(), driver.step());
            }
            let end = play(driver.as_mut(), |_| Vec::new());
            prop_assert!(end.is_ok(), "{:?}", end);

            driver.reset();
            prop_assert_eq!(battery.cycle(driver.as_mut()), battery.good());
        }
    }

    /// After a reset everything is asked as in the beginning.
    #[test]
    fn a_reset_forgets_the_session(acts in prop::collection::vec(act(), 0..60)) {
        for battery in Recorded::each() {
            let answers: Vec<_> = battery.answers.values().collect();
            let mut driver = battery.driver();
            acts.iter().for_each(|act| perform(driver.as_mut(), act, &answers));
            driver.reset();
            let asked = play(driver.as_mut(), |question| battery.answer(question)).unwrap().asked;
            prop_assert_eq!(asked, battery.questions());
        }
    }

    /// How the bytes are cut has no influence on what they mean.
    #[test]
    fn chunking_changes_nothing(
        streams in prop::collection::vec(stream(), 1..6),
        seed in 1..u64::MAX,
    ) {
        for battery in Recorded::each() {
            let answers: Vec<_> = battery.answers.values().collect();
            let run = |delivery: Delivery| {
                let mut streams = streams.iter();
                let mut recorded = battery.answers.iter().cycle();
                play(battery.driver().as_mut(), |question| {
                    let response = match streams.next() {
                        Some(stream) => bytes(stream, &answers),
                        None => recorded.next().map(|(_, answer)| answer.clone()).unwrap(),
                    };
                    delivery.chunks(question, &response)
                })
            };
            let whole = run(Delivery::Whole).unwrap();
            for delivery in [Delivery::ByteByByte, Delivery::Cut(seed)] {
                let cut = run(delivery).unwrap();
                prop_assert_eq!(&whole.asked, &cut.asked);
                prop_assert_eq!(&whole.end, &cut.end);
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

/// A flipped bit loses at most what its own answer would have said; it never changes a value.
#[test]
fn a_flipped_bit_never_changes_a_value() {
    // Text has no checksum, so nothing distinguishes a damaged digit from another one.
    let checked = |recorded: &&Recorded| !recorded.info.text;
    // After a damaged answer it would go on to the next dialect, in which another recorded battery
    // answers.
    for battery in Recorded::each().filter(checked).filter(|it| !it.finds_out()) {
        let good = battery.good();
        for question in battery.questions() {
            let Some(response) = battery.answers.get(&question).cloned() else { continue };
            for bit in bits(response.len()) {
                let mut flipped = Some(response.clone());
                flipped.as_mut().unwrap()[bit / 8] ^= 1 << (bit % 8);
                let outcome = play(battery.driver().as_mut(), |asked| {
                    let damaged = (asked == question).then(|| flipped.take()).flatten();
                    damaged.map_or_else(|| battery.answer(asked), |bytes| vec![bytes])
                });
                match outcome.unwrap().end {
                    Step::Done(reading) => {
                        assert!(says_no_more(&reading, &good), "bit {bit}: {reading:?}\n{good:?}");
                    }
                    Step::Failed(_) => {}
                    step => panic!("{step:?}"),
                }
            }
        }
    }
}

/// The same live values, and of the rest nothing that the other does not say too: what belongs to
/// an optional question may be missing as a whole.
fn says_no_more(reading: &Reading, good: &Reading) -> bool {
    fn absent_or_equal<T: PartialEq + Default + Clone>(value: &mut T, good: &T) {
        if *value == T::default() {
            *value = good.clone();
        }
    }
    let mut rest = reading.clone();
    let (names, known) = (&mut rest.identity, &good.identity);
    absent_or_equal(&mut names.manufacturer, &known.manufacturer);
    absent_or_equal(&mut names.model, &known.model);
    absent_or_equal(&mut names.hardware, &known.hardware);
    absent_or_equal(&mut names.software, &known.software);
    absent_or_equal(&mut names.serial, &known.serial);
    absent_or_equal(&mut names.manufactured, &known.manufactured);
    let (pack, known) = (&mut rest.pack, &good.pack);
    absent_or_equal(&mut pack.design, &known.design);
    absent_or_equal(&mut pack.remaining, &known.remaining);
    absent_or_equal(&mut pack.cycles, &known.cycles);
    absent_or_equal(&mut pack.error_code, &known.error_code);
    if good.probes.starts_with(&rest.probes) {
        rest.probes.clone_from(&good.probes);
    }
    let (limits, known) = (&mut rest.limits, &good.limits);
    absent_or_equal(&mut limits.charge_voltage, &known.charge_voltage);
    absent_or_equal(&mut limits.discharge_voltage, &known.discharge_voltage);
    absent_or_equal(&mut limits.charge_current, &known.charge_current);
    absent_or_equal(&mut limits.discharge_current, &known.discharge_current);
    absent_or_equal(&mut limits.cell_upper, &known.cell_upper);
    absent_or_equal(&mut limits.cell_lower, &known.cell_lower);
    absent_or_equal(&mut limits.pack_upper, &known.pack_upper);
    absent_or_equal(&mut limits.pack_lower, &known.pack_lower);
    absent_or_equal(&mut rest.counters, &good.counters);
    absent_or_equal(&mut rest.alarms, &good.alarms);
    let (switches, known) = (&mut rest.switches, &good.switches);
    absent_or_equal(&mut switches.charging, &known.charging);
    absent_or_equal(&mut switches.discharging, &known.discharging);
    absent_or_equal(&mut switches.balancing, &known.balancing);
    for (cell, known) in rest.cells.iter_mut().zip(&good.cells) {
        absent_or_equal(&mut cell.balancing, &known.balancing);
    }
    for (name, known) in &good.states {
        rest.states.entry(name).or_insert(*known);
    }
    let received = reading.received;
    rest.received = good.received;
    rest == *good
        && received.device_info <= good.received.device_info
        && received.settings <= good.received.settings
}

/// The identity stays in every reading of a session, and its questions are asked once. What no
/// recording answers is given up within the first cycles.
#[test]
fn a_later_cycle_says_the_same_with_no_more_questions() {
    const CYCLES_TO_GIVE_UP: usize = 4;
    for battery in Recorded::each() {
        let mut driver = battery.driver();
        let mut cycle = || {
            driver.start(CycleKind::Read);
            play(driver.as_mut(), |question| battery.answer(question)).unwrap()
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

/// A quarter of a megabyte of noise in front of the answer is only noise.
#[test]
fn a_flood_is_survived() {
    for battery in Recorded::each() {
        for noise in [b'~', b'\0', b'0', 0xDD] {
            let mut flood = Some(vec![noise; 1 << 18]);
            let outcome = play(battery.driver().as_mut(), |question| {
                flood.take().into_iter().chain(battery.answer(question)).collect()
            });
            assert_eq!(outcome.unwrap().reading(), battery.good());
        }
    }
}

/// One silent battery costs the others on its bus one time-out a cycle: nothing is asked twice,
/// and only one answer is waited for.
#[test]
fn silence_is_not_asked_again() {
    for battery in Recorded::each() {
        let mut driver = battery.driver();
        for _ in 0..5 {
            driver.start(CycleKind::Read);
            let outcome = play(driver.as_mut(), |_| Vec::new()).unwrap();
            // A stream has a battery and a link of its own, so nobody else waits for it: one more
            // question may start it.
            let most = match (battery.streams(), battery.finds_out()) {
                // Each dialect once.
                (_, true) => 3,
                (true, _) => 2,
                _ => 1,
            };
            assert!((1..=most).contains(&outcome.asked.len()), "{:?}", outcome.asked);
            assert!(matches!(outcome.end, Step::Failed(_)));
        }
    }
}
