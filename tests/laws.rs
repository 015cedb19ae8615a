//! Properties that hold for every driver of the registry.
//!
//! That the runner's buffer is bounded is tested beside it; the other laws need nothing but the
//! contract of `Driver`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use bms_reader::model::Reading;
use bms_reader::model::reading::Place;
use bms_reader::model::units::{CentiPercent, DeciCelsius};
use bms_reader::protocol::driver::Carrier;
use bms_reader::protocol::jk::{Command, request};
use bms_reader::protocol::{Ask, DRIVERS, Driver, DriverInfo, Options, Step};
use bms_reader::sim::{Bus, Faults, MAKES, PackState};
use common::{Delivery, Vector, play, vectors};
use proptest::prelude::*;

/// A battery made of recorded answers: the first one for each question.
struct Recorded {
    info: &'static DriverInfo,
    options: Options,
    answers: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What operators say about a battery of this make: a driver may go another way for each.
fn ways(info: &DriverInfo) -> Vec<Options> {
    let variant =
        |name: &str, address| Options { variant: Some(name.into()), address, ..Options::default() };
    match info.name {
        "jk" => {
            let radio = Options { carrier: Carrier::Radio, ..Options::default() };
            vec![radio, variant("ttl", 1), variant("pb", 3)]
        }
        _ => vec![Options::default()],
    }
}

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
    for battery in Recorded::each() {
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
    rest.switches.balancing = good.switches.balancing;
    let known_states = reading.states.iter().all(|(name, on)| good.states.get(name) == Some(on));
    rest.states = good.states.clone();
    rest == *good
        && known_states
        && absent_or_equal(&reading.switches.balancing, &good.switches.balancing)
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
            // A stream has a battery and a link of its own, so nobody else waits for it: one more
            // question may start it.
            let most = if battery.streams() { 2 } else { 1 };
            assert!((1..=most).contains(&outcome.asked.len()), "{:?}", outcome.asked);
            assert!(matches!(outcome.end, Step::Failed(_)));
        }
    }
}

/// What a make's protocol cannot tell of the simulator's battery.
struct Limits {
    name: &'static str,
    /// One cell at most is told to be balanced; `None`: no cell is.
    balancers: Option<usize>,
    /// Numbered sensors.
    sensors: usize,
    /// What is coarser than the simulator's battery, or nobody measures.
    unsaid: &'static [&'static str],
}

static LIMITS: &[Limits] = &[
    Limits {
        name: "jk",
        balancers: Some(1),
        sensors: 4,
        unsaid: &["hundredths of soc", "ambient", "average"],
    },
    Limits {
        name: "jk-pb",
        balancers: Some(1),
        sensors: 4,
        unsaid: &["hundredths of soc", "ambient", "average"],
    },
    Limits {
        name: "jk-ttl",
        balancers: None,
        sensors: 1,
        unsaid: &["hundredths of soc", "soh", "average", "remaining", "tenths of degrees"],
    },
];

static NO_LIMITS: Limits =
    Limits { name: "", balancers: Some(usize::MAX), sensors: usize::MAX, unsaid: &[] };

/// What the simulator's battery is and what the driver reads are the same thing, as far as the
/// make can say it.
fn reads_as(make: &str, reading: &Reading, state: &PackState) {
    let limits = LIMITS.iter().find(|limits| limits.name == make).unwrap_or(&NO_LIMITS);
    let says = |what| !limits.unsaid.contains(&what);
    let pack = &reading.pack;
    assert_eq!(pack.voltage, Some(state.voltage));
    assert_eq!(pack.current, Some(state.current));
    let step = if says("hundredths of soc") { 1 } else { 100 };
    assert_eq!(pack.soc, Some(CentiPercent(state.soc.0 / step * step)));
    assert_eq!(pack.soh, says("soh").then_some(state.soh));
    assert_eq!(
        pack.remaining.filter(|_| says("remaining")),
        says("remaining").then_some(state.remaining)
    );
    assert_eq!((pack.full, pack.design), (Some(state.full), Some(state.design)));
    assert_eq!(pack.cycles, Some(state.cycles));
    let cells: Vec<_> = reading.cells.iter().map(|cell| cell.voltage.unwrap()).collect();
    assert_eq!(cells, state.cells);
    let balancing: Option<Vec<bool>> = reading.cells.iter().map(|cell| cell.balancing).collect();
    let told = limits.balancers.map(|most| {
        let mut left = most;
        let mut told = state.balancing.clone();
        told.iter_mut().filter(|on| **on).for_each(|on| {
            *on = left > 0;
            left = left.saturating_sub(1);
        });
        told
    });
    assert_eq!(balancing, told);
    let degrees = |value: DeciCelsius| {
        let step = if says("tenths of degrees") { 1 } else { 10 };
        Some(DeciCelsius(value.0 / step * step))
    };
    let at = |place| reading.probes.iter().filter(move |probe| probe.place == place);
    let sensors: Vec<_> = at(Place::Cells).map(|probe| probe.value).collect();
    let expected = state.sensors.iter().take(limits.sensors);
    assert_eq!(sensors, expected.map(|&value| degrees(value)).collect::<Vec<_>>());
    for (what, place, value) in [
        ("ambient", Place::Ambient, state.ambient),
        ("mosfet", Place::Mosfet, state.mosfet),
        ("average", Place::Average, state.average),
    ] {
        let read = at(place).next().and_then(|probe| probe.value);
        assert_eq!(read, degrees(value).filter(|_| says(what)), "{what}");
    }
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
            let addresses: Vec<u8> = make.addresses.clone().collect();
            let address = *pick.get(&addresses);
            let mut bus = Bus::living(make, &addresses, seed, Faults::default());
            let (info, variant) = make.read_by().unwrap();
            let carrier = if make.notification.is_some() { Carrier::Radio } else { Carrier::Wire };
            let variant = variant.map(str::to_owned);
            let mut driver = (info.new)(&Options { address, carrier, variant, ..Options::default() });
            let outcome = play(driver.as_mut(), |question| {
                vec![bus.answer(question, seconds), bus.unasked(seconds)]
            });
            let state = Bus::battery(seed, address).state(seconds);
            reads_as(make.name, &outcome.unwrap().reading(), &state);
        }
    }
}
