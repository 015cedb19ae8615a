//! Properties that hold for every driver of the registry.
//!
//! That the runner's buffer is bounded is tested beside it; the other laws need nothing but the
//! contract of `Driver`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use bms_reader::model::reading::Place;
use bms_reader::model::units::DeciCelsius;
use bms_reader::model::{Alarm, Reading};
use bms_reader::protocol::daly::VARIANTS;
use bms_reader::protocol::driver::Carrier;
use bms_reader::protocol::jk::{Command, request};
use bms_reader::protocol::{Ask, DRIVERS, Driver, DriverInfo, Options, Step, find};
use bms_reader::sim::faults::Rule;
use bms_reader::sim::pylontech_sc0500::{self, StackState};
use bms_reader::sim::{Battery, Bus, Fault, Faults, MAKES, PackState};
use common::{Delivery, Vector, play, usual, vectors};
use proptest::prelude::*;

/// A battery made of recorded answers: the first one for each question.
struct Recorded {
    info: &'static DriverInfo,
    options: Options,
    answers: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What operators say about a battery of this make: a driver may go another way for each.
fn ways(info: &DriverInfo) -> Vec<Options> {
    let mut ways = vec![usual(info)];
    if info.name == "pylontech-sc0500" {
        // The controller of the recorded `info`.
        let barcode = Some("PPTAP00000000050".to_owned());
        ways.push(Options { barcode, ..usual(info) });
    }
    if info.name == "daly" {
        let variant = |name: &&str| Some((*name).to_owned());
        ways.extend(VARIANTS.iter().map(|it| Options { variant: variant(it), ..usual(info) }));
    }
    if info.name == "jk" {
        let by = |carrier, variant: Option<&str>, address| Options {
            carrier,
            variant: variant.map(str::to_owned),
            address,
            ..Options::default()
        };
        ways = vec![
            by(Carrier::Radio, None, 1),
            by(Carrier::Wire, Some("ttl"), 1),
            by(Carrier::Wire, Some("pb"), 3),
        ];
    }
    ways
}

/// Their frames carry no checksum, so nothing can tell a damaged digit from another one.
const WITHOUT_CHECKSUM: [&str; 2] = ["pylontech-sc0500", "pylontech-console"];

impl Recorded {
    fn each() -> impl Iterator<Item = &'static Recorded> {
        static ALL: LazyLock<Vec<Recorded>> = LazyLock::new(|| {
            let each = |&info: &&'static DriverInfo| {
                ways(info).into_iter().map(move |options| Recorded::of(info, options))
            };
            DRIVERS.iter().flat_map(each).collect()
        });
        ALL.iter()
    }

    fn of(info: &'static DriverInfo, options: Options) -> Recorded {
        let mut answers: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let mut said = BTreeSet::new();
        let mut battery = Recorded { info, options, answers: BTreeMap::new() };
        for vector in vectors(info.name).into_iter().filter(|v| v.kind == "response") {
            let Some(question) = battery.question(&vector) else { continue };
            // A stream says several things after one question, each of them again and again.
            let kind = vector.json["expected"]["frame"].as_str().map(str::to_owned);
            let news = said.insert((question.clone(), kind.filter(|_| battery.streams())));
            if news {
                answers.entry(question).or_default().extend(vector.response);
            }
        }
        battery.answers = answers;
        battery
    }

    fn driver(&self) -> Box<dyn Driver> {
        (self.info.new)(&self.options)
    }

    /// It asks in several dialects until one is answered.
    fn finds_out(&self) -> bool {
        self.info.name == "daly" && self.options.variant.is_none()
    }

    fn streams(&self) -> bool {
        let radio = self.options.carrier == Carrier::Radio;
        radio && self.info.gatt.is_some_and(|gatt| gatt.streams)
    }

    /// The question that a vector answers, as our driver puts it; `None` when it belongs to another
    /// way than this one.
    fn question(&self, vector: &Vector) -> Option<Vec<u8>> {
        let device = || request(Command::Device);
        let transport = match (self.info.name, self.options.variant.as_deref()) {
            ("jk", Some("ttl")) => "uart-ttl",
            ("jk", Some("pb")) => "rs485-pb",
            ("jk", _) => "ble",
            _ => return Some(vector.request.clone()),
        };
        match transport {
            _ if vector.json["transport"] != transport => None,
            // The padding of the recorded questions is random.
            "ble" if vector.request[4] == device()[4] => Some(device()),
            "ble" => Some(request(Command::Stream)),
            _ => Some(vector.request.clone()),
        }
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
        3 => prop::collection::vec(prop::sample::select(b"~\r0123456789ABCDEF\xDD\xA5\xD2\x03\0".as_slice()), 0..60)
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
            prop::collection::vec(prop::sample::select(b"~\r0\xDD\x03\x04\0".as_slice()), 0..10)
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
    // Each case is played to every make; what takes more tries to be found, fuzzing looks for.
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
    let checked = |it: &&Recorded| !WITHOUT_CHECKSUM.contains(&it.info.name);
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
    absent_or_equal(&mut names.produced, &known.produced);
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
    let got = reading.got;
    rest.got = good.got;
    rest == *good && got.device_info <= good.got.device_info && got.settings <= good.got.settings
}

/// The identity stays in every reading of a session, and its questions are asked once. What no
/// recording answers is given up within the first cycles.
#[test]
fn a_later_cycle_says_the_same_with_no_more_questions() {
    const CYCLES_TO_GIVE_UP: usize = 4;
    for battery in Recorded::each() {
        let mut driver = battery.driver();
        let mut cycle = || {
            driver.start(Ask::Read);
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
            driver.start(Ask::Read);
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
        _ => reads_as_pack(make, reading, &battery.state(seconds)),
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

/// What a make has no word for.
const UNSAID: &[(&str, &[&str])] = &[
    ("jbd", &["soh", "ambient", "mosfet", "average"]),
    ("jk", &["ambient", "average", "a second balanced cell"]),
    ("jk:pb", &["ambient", "average", "a second balanced cell"]),
    ("jk:ttl", &["soh", "average", "remaining", "balancing"]),
    ("pylontech", &["design", "soh", "ambient", "average", "balancing"]),
    ("pace", &["soh", "average"]),
    ("seplos", &["average"]),
    ("daly", &["soh", "full", "ambient", "average"]),
    ("daly:a5", &["soh", "full", "ambient", "mosfet", "average"]),
    ("daly:p81", &["soh", "full", "design", "ambient", "average"]),
];

/// The steps in which a make tells things, in the units of the model.
struct Steps {
    voltage: i32,
    current: i32,
    /// Where a make does not tell it, the driver computes it from two capacities, and rounds.
    soc: i32,
    remaining: i64,
    temperature: i32,
    /// Numbered sensors.
    sensors: usize,
}

fn steps(make: &str) -> Steps {
    let fine = Steps { voltage: 1, current: 10, soc: 1, remaining: 1, temperature: 1, sensors: 9 };
    match make {
        "jbd" | "jk" | "jk:pb" => Steps { soc: 100, ..fine },
        "jk:ttl" => Steps { soc: 100, temperature: 10, sensors: 1, ..fine },
        "pylontech" => Steps { current: 100, ..fine },
        "seplos" => Steps { soc: 10, ..fine },
        "daly:a5" => Steps { voltage: 100, current: 100, soc: 10, temperature: 10, ..fine },
        "daly" | "daly:p81" => Steps {
            voltage: 100,
            current: 100,
            soc: 10,
            remaining: 100,
            temperature: 10,
            sensors: 9,
        },
        _ => fine,
    }
}

fn reads_as_pack(make: &str, reading: &Reading, state: &PackState) {
    let says = |what| !UNSAID.iter().any(|(name, unsaid)| *name == make && unsaid.contains(&what));
    let pack = &reading.pack;
    let steps = steps(make);
    let in_steps = |value: i32, step: i32| Some(value / step * step);
    assert_eq!(pack.voltage.map(|it| it.0), in_steps(state.voltage.0, steps.voltage));
    assert_eq!(pack.current.map(|it| it.0), in_steps(state.current.0, steps.current));
    let soc = state.soc.0 / steps.soc * steps.soc;
    assert!((pack.soc.unwrap().0 - soc).abs() <= 1, "{:?}, not {soc}", pack.soc);
    assert_eq!(pack.soh, says("soh").then_some(state.soh));
    let remaining = state.remaining.0 / steps.remaining * steps.remaining;
    if says("remaining") {
        assert_eq!(pack.remaining.map(|it| it.0), Some(remaining));
    }
    assert_eq!(pack.full, says("full").then_some(state.full));
    assert_eq!(pack.design, says("design").then_some(state.design));
    assert_eq!(pack.cycles, Some(state.cycles));
    let cells: Vec<_> = reading.cells.iter().map(|cell| cell.voltage.unwrap()).collect();
    assert_eq!(cells, state.cells);
    let mut balanced = state.balancing.clone();
    if let (false, Some(first)) =
        (says("a second balanced cell"), balanced.iter().position(|on| *on))
    {
        balanced[first + 1..].fill(false);
    }
    for (cell, balancing) in reading.cells.iter().zip(balanced) {
        assert_eq!(cell.balancing, says("balancing").then_some(balancing));
    }
    let at = |place| reading.probes.iter().filter(move |probe| probe.place == place);
    let degrees = |it: DeciCelsius| DeciCelsius(it.0 / steps.temperature * steps.temperature);
    let sensors: Vec<_> = at(Place::Cells).map(|probe| probe.value.unwrap()).collect();
    let expected: Vec<_> = state.sensors.iter().copied().take(steps.sensors).map(degrees).collect();
    assert_eq!(sensors, expected);
    for (what, place, value) in [
        ("ambient", Place::Ambient, state.ambient),
        ("mosfet", Place::Mosfet, state.mosfet),
        ("average", Place::Average, state.average),
    ] {
        let read = at(place).next().and_then(|probe| probe.value);
        assert_eq!(read, says(what).then_some(degrees(value)), "{what}");
    }
    assert_eq!(reading.switches.charging, Some(state.charging));
    assert_eq!(reading.switches.discharging, Some(state.discharging));
    let known = |alarm: &&Alarm| reading.alarms.get(**alarm).is_some();
    let alarms: BTreeSet<_> = state.alarms.iter().filter(known).copied().collect();
    assert_eq!(reading.alarms.active().collect::<BTreeSet<_>>(), alarms);
    assert_eq!(reading.alarms.unknown().count(), 0);
}

/// Every alarm that a driver knows is raised by the simulator's battery, and no other with it.
#[test]
fn every_alarm_of_a_make_is_read_as_itself() {
    let makes = ["daren", "pylontech", "pace", "seplos", "daly", "daly:a5", "daly:p81"];
    for name in makes {
        let make = MAKES.iter().find(|make| make.name == name).unwrap();
        let info = find(make.driver()).unwrap();
        let options = usual(info);
        let faults = Faults::default();
        let mut bus = Bus::new(make, 1, faults.clone());
        let battery = Battery::fixed(PackState::at_rest());
        bus.add(options.address, (make.new)(options.address, battery, faults.clone()));
        let mut read = || {
            let mut driver = (info.new)(&options);
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
    // Years of simulated life pass in these.
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Simulator to driver: for every simulated make, at any address and moment of its life.
    #[test]
    fn the_simulated_battery_is_read_as_it_is(
        seed in any::<u64>(), pick in any::<prop::sample::Index>(), seconds in 0.0..400_000.0,
    ) {
        for make in MAKES {
            let info = find(make.driver()).unwrap();
            let addresses: Vec<u8> = make.addresses.clone().collect();
            let address = *pick.get(&addresses);
            let mut bus = Bus::living(make, &addresses, seed, Faults::default());
            let carrier = if make.notification.is_some() { Carrier::Radio } else { Carrier::Wire };
            let suits = |options: &Options| {
                let spoken = make.name.split(':').nth(1).unwrap_or("d2");
                let found_out = info.name == "daly" && options.variant.is_none();
                let told = options.variant.as_deref() == make.variant();
                found_out || told || options.variant.as_deref() == Some(spoken)
            };
            for options in ways(info).into_iter().filter(suits) {
                let number = pylontech_sc0500::BARCODE.to_owned();
                let barcode = options.barcode.is_some().then_some(number);
                let options = Options { address, barcode, carrier, ..options };
                let mut driver = (info.new)(&options);
                let outcome = play(driver.as_mut(), |question| {
                    vec![bus.answer(question, seconds), bus.unasked(seconds)]
                });
                let reading = outcome.unwrap().reading();
                reads_as(make.name, &reading, &mut Bus::battery(seed, address), seconds);
            }
        }
    }
}
