//! Properties that hold for every driver of the registry.
//!
//! That the runner's buffer is bounded is tested beside it; the other laws need nothing but the
//! contract of `Driver`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use bms_reader::model::Reading;
use bms_reader::model::reading::Place;
use bms_reader::protocol::{Ask, DRIVERS, Driver, DriverInfo, Options, Step, find};
use bms_reader::sim::pylontech_sc0500::{self, StackState};
use bms_reader::sim::{Battery, Bus, Faults, MAKES, PackState};
use common::{Delivery, play, vectors};
use proptest::prelude::*;

/// A battery made of recorded answers: the first one for each question.
struct Recorded {
    info: &'static DriverInfo,
    options: Options,
    answers: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What operators say about a battery of this make: a driver may go another way for each.
fn ways(info: &DriverInfo) -> Vec<Options> {
    let mut ways = vec![Options::default()];
    if info.name == "pylontech-sc0500" {
        // The controller of the recorded `info`.
        let barcode = Some("PPTAP00000000050".to_owned());
        ways.push(Options { barcode, ..Options::default() });
    }
    ways
}

/// Their frames carry no checksum, so nothing can tell a damaged digit from another one.
const WITHOUT_CHECKSUM: [&str; 2] = ["pylontech-sc0500", "pylontech-console"];

impl Recorded {
    fn each() -> impl Iterator<Item = Recorded> {
        let each = |&info: &&'static DriverInfo| {
            ways(info).into_iter().map(move |options| Recorded::of(info, options))
        };
        DRIVERS.iter().flat_map(each)
    }

    fn of(info: &'static DriverInfo, options: Options) -> Recorded {
        let mut answers = BTreeMap::new();
        for vector in vectors(info.name).into_iter().filter(|v| v.kind == "response") {
            answers.entry(vector.request).or_insert(vector.response);
        }
        Recorded { info, options, answers }
    }

    fn driver(&self) -> Box<dyn Driver> {
        (self.info.new)(&self.options)
    }

    fn answer(&self, question: &[u8]) -> Vec<Vec<u8>> {
        self.answers.get(question).into_iter().cloned().collect()
    }

    /// A cycle in which everything goes well.
    fn good(&self) -> Reading {
        self.cycle(self.driver().as_mut())
    }

    fn cycle(&self, driver: &mut dyn Driver) -> Reading {
        play(driver, |question| self.answer(question)).unwrap().reading()
    }

    /// The questions of a good cycle.
    fn questions(&self) -> Vec<Vec<u8>> {
        play(self.driver().as_mut(), |question| self.answer(question)).unwrap().asked
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

/// A flipped bit loses at most what its own answer would have said; it never changes a value.
#[test]
fn a_flipped_bit_never_changes_a_value() {
    for battery in Recorded::each().filter(|it| !WITHOUT_CHECKSUM.contains(&it.info.name)) {
        let good = battery.good();
        for question in battery.questions() {
            let response = battery.answers[&question].clone();
            for bit in 0..response.len() * 8 {
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

/// The same live values, and of the rest nothing that the other does not say too.
fn says_no_more(reading: &Reading, good: &Reading) -> bool {
    fn absent_or_equal<T: PartialEq>(value: &Option<T>, good: &Option<T>) -> bool {
        value.is_none() || value == good
    }
    let (names, known) = (&reading.identity, &good.identity);
    let mut rest = reading.clone();
    rest.identity = known.clone();
    rest.pack.design = good.pack.design;
    rest.got = good.got;
    rest == *good
        && absent_or_equal(&names.manufacturer, &known.manufacturer)
        && absent_or_equal(&names.model, &known.model)
        && absent_or_equal(&names.hardware, &known.hardware)
        && absent_or_equal(&names.software, &known.software)
        && absent_or_equal(&names.serial, &known.serial)
        && absent_or_equal(&reading.pack.design, &good.pack.design)
        && reading.got.device_info <= good.got.device_info
        && reading.got.settings <= good.got.settings
}

/// The identity stays in every reading of a session, and its questions are asked once.
#[test]
fn the_second_cycle_says_the_same_with_no_more_questions() {
    for battery in Recorded::each() {
        let mut driver = battery.driver();
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
            driver.start(Ask::Read);
            let outcome = play(driver.as_mut(), |_| Vec::new()).unwrap();
            assert_eq!(outcome.asked.len(), 1);
            assert!(matches!(outcome.end, Step::Failed(_)));
        }
    }
}

/// What the simulator's battery is and what the driver reads are the same thing, as far as the
/// make's protocol can say it.
fn reads_as(make: &str, reading: &Reading, battery: &mut Battery, seconds: f64) {
    match make {
        "pylontech-sc0500" => {
            let stack = StackState::of(battery, pylontech_sc0500::MODULES, seconds);
            reads_as_stack(reading, &stack);
        }
        "pylontech-console" => {
            reads_as_console(reading, &battery.state(seconds).with_cells(15));
        }
        _ => reads_as_daren(reading, &battery.state(seconds)),
    }
}

/// Both ways to read a stack. The one with a log-in counts cells from the controller on and knows
/// the cycles; the other counts from the far end and knows the charge.
fn reads_as_stack(reading: &Reading, stack: &StackState) {
    let pack = &reading.pack;
    assert_eq!((pack.voltage, pack.current), (Some(stack.voltage()), Some(stack.current())));
    assert_eq!(pack.remaining_energy.map(|it| it.0), Some(stack.energy() * 1000));
    let words = &pack.words;
    let words = [&words.base, &words.voltage, &words.current, &words.temperature];
    assert_eq!(words.map(|word| word.clone().unwrap()), stack.words());
    let logged_in = pack.cycles.is_some();
    let mut modules: Vec<usize> = (0..stack.modules.len()).collect();
    let mut cells: Vec<_> = stack.cells().collect();
    if logged_in {
        assert_eq!(pack.cycles, Some(stack.cycles()));
        assert_eq!(pack.soc, None);
    } else {
        assert_eq!(pack.soc.map(|soc| soc.0 / 100), Some(stack.percent()));
        assert_eq!(pack.remaining.map(|it| it.0), Some(stack.charge()));
        modules.reverse();
        cells = cells.chunks(15).rev().flatten().copied().collect();
    }
    let read = reading.cells.iter().map(|cell| (cell.voltage.unwrap(), cell.temperature.unwrap()));
    assert_eq!(read.collect::<Vec<_>>(), cells);
    let serials: Vec<_> =
        modules.into_iter().map(|module| Some(StackState::serial(module))).collect();
    let read: Vec<_> = reading.modules.iter().map(|module| module.serial.clone()).collect();
    assert_eq!(read, serials);
    assert!(reading.modules.iter().zip(0..).all(|(it, n)| it.cells == (15 * n..15 * (n + 1))));
    assert_eq!(reading.identity.serial.as_deref(), Some(pylontech_sc0500::BARCODE));
    assert_eq!(pack.error_code, Some(stack.error_code()));
    assert!(!reading.alarms.is_empty() && !reading.alarms.is_raised());
}

fn reads_as_console(reading: &Reading, state: &PackState) {
    let pack = &reading.pack;
    assert_eq!((pack.voltage, pack.current), (Some(state.voltage), Some(state.current)));
    assert_eq!(pack.soc.map(|soc| soc.0 / 100), Some(state.soc.0 / 100));
    assert_eq!((pack.soh, pack.cycles), (Some(state.soh), Some(state.cycles)));
    let cells: Vec<_> = reading.cells.iter().map(|cell| cell.voltage.unwrap()).collect();
    assert_eq!(cells, state.cells);
    let balancing: Vec<_> = reading.cells.iter().map(|cell| cell.balancing.unwrap()).collect();
    assert_eq!(balancing, state.balancing);
    let temperatures = (0..15).map(|index| Some(state.sensors[index * state.sensors.len() / 15]));
    assert!(reading.cells.iter().map(|cell| cell.temperature).eq(temperatures));
    let at = |place| reading.probes.iter().find(|probe| probe.place == place).unwrap().value;
    assert_eq!(at(Place::Ambient), Some(state.ambient));
    assert_eq!(at(Place::Mosfet), Some(state.mosfet));
    assert!(!reading.alarms.is_empty() && !reading.alarms.is_raised());
}

fn reads_as_daren(reading: &Reading, state: &PackState) {
    let pack = &reading.pack;
    assert_eq!(pack.voltage, Some(state.voltage));
    assert_eq!(pack.current, Some(state.current));
    assert_eq!((pack.soc, pack.soh), (Some(state.soc), Some(state.soh)));
    assert_eq!((pack.remaining, pack.full), (Some(state.remaining), Some(state.full)));
    assert_eq!(pack.cycles, Some(state.cycles));
    let cells: Vec<_> = reading.cells.iter().map(|cell| cell.voltage.unwrap()).collect();
    assert_eq!(cells, state.cells);
    let balancing: Vec<_> = reading.cells.iter().map(|cell| cell.balancing.unwrap()).collect();
    assert_eq!(balancing, state.balancing);
    let at = |place| reading.probes.iter().filter(move |probe| probe.place == place);
    let sensors: Vec<_> = at(Place::Cells).map(|probe| probe.value.unwrap()).collect();
    assert_eq!(sensors, state.sensors);
    assert_eq!(at(Place::Ambient).next().unwrap().value, Some(state.ambient));
    assert_eq!(at(Place::Mosfet).next().unwrap().value, Some(state.mosfet));
    assert_eq!(at(Place::Average).next().unwrap().value, Some(state.average));
    assert_eq!(reading.switches.charging, Some(state.charging));
    assert_eq!(reading.switches.discharging, Some(state.discharging));
    assert_eq!(reading.alarms.active().collect::<BTreeSet<_>>(), state.alarms);
    assert_eq!(reading.alarms.unknown().count(), 0);
}

proptest! {
    /// Simulator to driver: for every simulated make, at any address and moment of its life.
    #[test]
    fn the_simulated_battery_is_read_as_it_is(
        seed in any::<u64>(), pick in any::<prop::sample::Index>(), seconds in 0.0..400_000.0,
    ) {
        for make in MAKES {
            let info = find(make.name).unwrap();
            let addresses: Vec<u8> = make.addresses.clone().collect();
            let address = *pick.get(&addresses);
            let mut bus = Bus::living(make, &addresses, seed, Faults::default());
            for options in ways(info) {
                let number = pylontech_sc0500::BARCODE.to_owned();
                let barcode = options.barcode.is_some().then_some(number);
                let options = Options { address, barcode, ..options };
                let mut driver = (info.new)(&options);
                let outcome = play(driver.as_mut(), |question| vec![bus.answer(question, seconds)]);
                let reading = outcome.unwrap().reading();
                reads_as(make.name, &reading, &mut Bus::battery(seed, address), seconds);
            }
        }
    }
}
