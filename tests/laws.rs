//! Properties that hold for every driver of the registry.
//!
//! That the runner's buffer is bounded is tested beside it; the other laws need nothing but the
//! contract of `Driver`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use bms_reader::model::reading::Place;
use bms_reader::model::{Alarm, Reading};
use bms_reader::protocol::{Ask, DRIVERS, Driver, DriverInfo, Options, Step, find};
use bms_reader::sim::faults::Rule;
use bms_reader::sim::{Battery, Bus, Fault, Faults, MAKES, PackState};
use common::{Delivery, driver, play, vectors};
use proptest::prelude::*;

/// A battery made of recorded answers: the first one for each question.
struct Recorded {
    info: &'static DriverInfo,
    answers: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Recorded {
    fn each() -> impl Iterator<Item = Recorded> {
        DRIVERS.iter().map(|&info| Recorded::of(info))
    }

    fn of(info: &'static DriverInfo) -> Recorded {
        let mut answers = BTreeMap::new();
        for vector in vectors(info.name).into_iter().filter(|v| v.kind == "response") {
            answers.entry(vector.request).or_insert(vector.response);
        }
        Recorded { info, answers }
    }

    fn answer(&self, question: &[u8]) -> Vec<Vec<u8>> {
        self.answers.get(question).into_iter().cloned().collect()
    }

    /// A cycle in which everything goes well.
    fn good(&self) -> Reading {
        self.cycle(driver(self.info).as_mut())
    }

    fn cycle(&self, driver: &mut dyn Driver) -> Reading {
        play(driver, |question| self.answer(question)).unwrap().reading()
    }

    /// The questions of a good cycle.
    fn questions(&self) -> Vec<Vec<u8>> {
        play(driver(self.info).as_mut(), |question| self.answer(question)).unwrap().asked
    }
}

/// What can be done to a driver, in an order that may break the contract.
#[derive(Debug, Clone)]
enum Act {
    Start,
    Reset,
    Advance,
    Silence,
    Receive(Vec<u8>),
    /// One of the recorded answers, with one byte changed.
    Answer {
        which: usize,
        at: usize,
        with: u8,
    },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        1 => Just(Act::Start),
        1 => Just(Act::Reset),
        8 => Just(Act::Advance),
        3 => Just(Act::Silence),
        3 => prop::collection::vec(any::<u8>(), 0..300).prop_map(Act::Receive),
        3 => prop::collection::vec(prop::sample::select(b"~\r0123456789ABCDEF".as_slice()), 0..60)
            .prop_map(Act::Receive),
        6 => (any::<usize>(), any::<usize>(), any::<u8>())
            .prop_map(|(which, at, with)| Act::Answer { which, at, with }),
    ]
}

fn perform(driver: &mut dyn Driver, act: &Act, answers: &[&Vec<u8>]) {
    match act {
        Act::Start => driver.start(Ask::Read),
        Act::Reset => driver.reset(),
        Act::Advance => driver.advance(),
        Act::Silence => driver.silence(),
        Act::Receive(bytes) => driver.receive(bytes),
        Act::Answer { which, at, with } => {
            let mut bytes = answers[which % answers.len()].clone();
            let at = at % (bytes.len() + 1);
            if let Some(byte) = bytes.get_mut(at) {
                *byte = *with;
            }
            driver.receive(&bytes);
        }
    }
}

/// A stream in which good, damaged and foreign frames stand among noise.
fn stream() -> impl Strategy<Value = Vec<Act>> {
    prop::collection::vec(
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40).prop_map(Act::Receive),
            prop::collection::vec(prop::sample::select(b"~\r0".as_slice()), 0..10)
                .prop_map(Act::Receive),
            (any::<usize>(), any::<usize>(), any::<u8>())
                .prop_map(|(which, at, with)| Act::Answer { which, at, with }),
            // Past the end: undamaged.
            any::<usize>().prop_map(|which| Act::Answer { which, at: usize::MAX, with: 0 }),
        ],
        0..6,
    )
}

fn bytes(stream: &[Act], answers: &[&Vec<u8>]) -> Vec<u8> {
    let mut all = Vec::new();
    for act in stream {
        match act {
            Act::Receive(bytes) => all.extend_from_slice(bytes),
            Act::Answer { which, at, with } => {
                let from = all.len();
                all.extend_from_slice(answers[which % answers.len()]);
                if let Some(byte) = all.get_mut(from.saturating_add(*at)) {
                    *byte = *with;
                }
            }
            _ => unreachable!("a stream is made of bytes"),
        }
    }
    all
}

proptest! {
    /// Never a panic, never an endless cycle, and whatever happened: a good cycle follows.
    #[test]
    fn nothing_disturbs_a_driver_for_good(acts in prop::collection::vec(act(), 0..60)) {
        for battery in Recorded::each() {
            let answers: Vec<_> = battery.answers.values().collect();
            let mut driver = driver(battery.info);
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
            let mut driver = driver(battery.info);
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
                play(driver(battery.info).as_mut(), |question| {
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

/// A flipped bit loses at most what its own answer would have said; it never changes a value.
#[test]
fn a_flipped_bit_never_changes_a_value() {
    for battery in Recorded::each() {
        let good = battery.good();
        for question in battery.questions() {
            let response = battery.answers[&question].clone();
            for bit in 0..response.len() * 8 {
                let mut flipped = Some(response.clone());
                flipped.as_mut().unwrap()[bit / 8] ^= 1 << (bit % 8);
                let outcome = play(driver(battery.info).as_mut(), |asked| {
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
    absent_or_equal(&mut rest.pack.design, &good.pack.design);
    let (limits, known) = (&mut rest.limits, &good.limits);
    absent_or_equal(&mut limits.charge_voltage, &known.charge_voltage);
    absent_or_equal(&mut limits.discharge_voltage, &known.discharge_voltage);
    absent_or_equal(&mut limits.charge_current, &known.charge_current);
    absent_or_equal(&mut limits.discharge_current, &known.discharge_current);
    absent_or_equal(&mut limits.cell_upper, &known.cell_upper);
    absent_or_equal(&mut limits.cell_lower, &known.cell_lower);
    absent_or_equal(&mut limits.pack_upper, &known.pack_upper);
    absent_or_equal(&mut limits.pack_lower, &known.pack_lower);
    absent_or_equal(&mut rest.alarms, &good.alarms);
    absent_or_equal(&mut rest.switches, &good.switches);
    for (cell, known) in rest.cells.iter_mut().zip(&good.cells) {
        absent_or_equal(&mut cell.balancing, &known.balancing);
    }
    for (name, known) in &good.states {
        rest.states.entry(name).or_insert(*known);
    }
    let got = reading.got;
    rest.got = good.got;
    rest == *good && got.device_info <= good.got.device_info && got.settings <= good.got.settings
}

/// The identity stays in every reading of a session, and its questions are asked once.
#[test]
fn the_second_cycle_says_the_same_with_no_more_questions() {
    for battery in Recorded::each() {
        let mut driver = driver(battery.info);
        let first = battery.cycle(driver.as_mut());
        driver.start(Ask::Read);
        let second = play(driver.as_mut(), |question| battery.answer(question)).unwrap();
        assert!(second.asked.len() <= battery.questions().len());
        assert_eq!(second.reading(), first);
    }
}

/// A megabyte of noise in front of the answer is only noise.
#[test]
fn a_flood_is_survived() {
    for battery in Recorded::each() {
        for noise in [b'~', b'\0', b'0', 0xDD] {
            let mut flood = Some(vec![noise; 1 << 20]);
            let outcome = play(driver(battery.info).as_mut(), |question| {
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
        let mut driver = driver(battery.info);
        for _ in 0..5 {
            driver.start(Ask::Read);
            let outcome = play(driver.as_mut(), |_| Vec::new()).unwrap();
            assert_eq!(outcome.asked.len(), 1);
            assert!(matches!(outcome.end, Step::Failed(_)));
        }
    }
}

/// What a make tells of its battery, and how exactly.
struct Tells {
    /// Its step of the current, in mA.
    current: i32,
    soc: Soc,
    soh: bool,
    balancing: bool,
    ambient: bool,
    average: bool,
}

enum Soc {
    /// Told, in steps of so many hundredths of a per cent.
    Told(i32),
    /// The driver computes it from two capacities.
    Computed,
}

impl Tells {
    const ALL: Tells = Tells {
        current: 10,
        soc: Soc::Told(1),
        soh: true,
        balancing: true,
        ambient: true,
        average: true,
    };

    fn of(make: &str) -> Tells {
        match make {
            "pylontech" => Tells {
                current: 100,
                soc: Soc::Computed,
                soh: false,
                balancing: false,
                ambient: false,
                average: false,
            },
            "pace" => Tells { soc: Soc::Computed, soh: false, average: false, ..Tells::ALL },
            "seplos" => Tells { soc: Soc::Told(10), average: false, ..Tells::ALL },
            _ => Tells::ALL,
        }
    }
}

/// What the simulator's battery is and what the driver reads are the same thing.
fn reads_as(make: &str, reading: &Reading, state: &PackState) {
    let tells = Tells::of(make);
    let pack = &reading.pack;
    assert_eq!(pack.voltage, Some(state.voltage));
    let current = state.current.0 / tells.current * tells.current;
    assert_eq!(pack.current.map(|current| current.0), Some(current));
    let soc = pack.soc.map(|soc| soc.0).unwrap();
    match tells.soc {
        Soc::Told(step) => assert_eq!(soc, state.soc.0 / step * step),
        Soc::Computed => assert!((soc - state.soc.0).abs() <= 1, "{soc}, {:?}", state.soc),
    }
    assert_eq!(pack.soh, tells.soh.then_some(state.soh));
    assert_eq!((pack.remaining, pack.full), (Some(state.remaining), Some(state.full)));
    assert_eq!(pack.cycles, Some(state.cycles));
    let cells: Vec<_> = reading.cells.iter().map(|cell| cell.voltage.unwrap()).collect();
    assert_eq!(cells, state.cells);
    for (cell, balancing) in reading.cells.iter().zip(&state.balancing) {
        assert_eq!(cell.balancing, tells.balancing.then_some(*balancing));
    }
    let at = |place| reading.probes.iter().filter(move |probe| probe.place == place);
    let sensors: Vec<_> = at(Place::Cells).map(|probe| probe.value.unwrap()).collect();
    assert_eq!(sensors, state.sensors);
    let only = |place| at(place).map(|probe| probe.value.unwrap()).next();
    assert_eq!(only(Place::Ambient), tells.ambient.then_some(state.ambient));
    assert_eq!(only(Place::Mosfet), Some(state.mosfet));
    assert_eq!(only(Place::Average), tells.average.then_some(state.average));
    assert_eq!(reading.switches.charging, Some(state.charging));
    assert_eq!(reading.switches.discharging, Some(state.discharging));
    assert_eq!(reading.alarms.active().collect::<BTreeSet<_>>(), state.alarms);
    assert_eq!(reading.alarms.unknown().count(), 0);
}

/// Every alarm that a driver knows is raised by the simulator's battery, and no other with it.
#[test]
fn every_alarm_of_a_make_is_read_as_itself() {
    for name in ["daren", "pylontech", "pace", "seplos"] {
        let make = MAKES.iter().find(|make| make.name == name).unwrap();
        let options = common::options(find(name).unwrap());
        let faults = Faults::default();
        let mut bus = Bus::new(make, 1, faults.clone());
        let battery = Battery::fixed(PackState::at_rest());
        bus.add(options.address, (make.new)(options.address, battery, faults.clone()));
        let mut read = || {
            let mut driver = (find(name).unwrap().new)(&options);
            play(driver.as_mut(), |question| vec![bus.answer(question, 0.0)]).unwrap().reading()
        };
        let known: Vec<Alarm> = read().alarms.iter().map(|(alarm, _)| alarm).collect();
        assert!(known.len() >= 10, "{name} knows {known:?}");
        for alarm in known {
            faults.set(vec![Rule::always(Fault::Alarm(alarm))]);
            let active: Vec<Alarm> = read().alarms.active().collect();
            assert_eq!(active, [alarm], "{name}");
        }
    }
}

proptest! {
    /// Simulator to driver: for every simulated make, at any address and moment of its life.
    #[test]
    fn the_simulated_battery_is_read_as_it_is(
        seed in any::<u64>(), pick in any::<prop::sample::Index>(), seconds in 0.0..400_000.0,
    ) {
        for make in MAKES {
            let addresses: Vec<u8> = make.addresses.clone().collect();
            let address = *pick.get(&addresses);
            let mut bus = Bus::living(make, &addresses, seed, Faults::default());
            let options = Options { address, ..Options::default() };
            let mut driver = (find(make.name).unwrap().new)(&options);
            let outcome = play(driver.as_mut(), |question| vec![bus.answer(question, seconds)]);
            reads_as(make.name, &outcome.unwrap().reading(), &Bus::battery(seed, address).state(seconds));
        }
    }
}
