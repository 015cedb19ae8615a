//! What the simulator says and what the driver reads are the same.

use std::collections::BTreeSet;

use bms_reader::model::reading::SensorLocation;
use bms_reader::model::units::DeciCelsius;
use bms_reader::model::{Alarm, Reading};
use bms_reader::protocol::driver::Medium;
use bms_reader::protocol::{Options, find};
use bms_reader::sim::faults::Rule;
use bms_reader::sim::pylontech_sc0500::{self, StackState};
use bms_reader::sim::{BRANDS, Battery, Bus, Fault, Faults, PackState};
use proptest::prelude::*;

use crate::common::{play, usual};
use crate::recorded::ways;

/// What the simulator's battery is and what the driver reads are the same thing, as far as the
/// brand's protocol can say it.
fn reads_as(brand: &str, reading: &Reading, battery: &mut Battery, seconds: f64) {
    match brand {
        "pylontech-sc0500" => {
            let stack = StackState::of(battery, pylontech_sc0500::MODULES, seconds);
            reads_as_stack(reading, &stack);
        }
        "pylontech-console" => {
            reads_as_console(reading, &battery.state(seconds).with_cells(15));
        }
        _ => reads_as_pack(brand, reading, &battery.state(seconds)),
    }
}

/// Both ways to read a stack. The one with a log-in counts cells from the controller on and knows
/// the cycles; the other counts from the far end and knows the charge.
fn reads_as_stack(reading: &Reading, stack: &StackState) {
    let pack = &reading.pack;
    assert_eq!((pack.voltage, pack.current), (Some(stack.voltage()), Some(stack.current())));
    assert_eq!(pack.remaining_energy.map(|it| it.0), Some(stack.energy() * 1000));
    let words = &pack.console_status;
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
    assert!(!reading.alarms.is_empty() && !reading.alarms.any_active());
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
    let at = |place| reading.probes.iter().find(|probe| probe.location == place).unwrap().value;
    assert_eq!(at(SensorLocation::Ambient), Some(state.ambient));
    assert_eq!(at(SensorLocation::Mosfet), Some(state.mosfet));
    assert!(!reading.alarms.is_empty() && !reading.alarms.any_active());
}

/// What a brand has no word for.
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

/// The steps in which a brand tells things, in the units of the model.
struct Steps {
    voltage: i32,
    current: i32,
    /// Where a brand does not tell it, the driver computes it from two capacities, and rounds.
    soc: i32,
    remaining: i64,
    temperature: i32,
    /// Numbered sensors.
    sensors: usize,
}

fn steps(brand: &str) -> Steps {
    let fine = Steps { voltage: 1, current: 10, soc: 1, remaining: 1, temperature: 1, sensors: 9 };
    match brand {
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

fn reads_as_pack(brand: &str, reading: &Reading, state: &PackState) {
    let says = |what| !UNSAID.iter().any(|(name, unsaid)| *name == brand && unsaid.contains(&what));
    let pack = &reading.pack;
    let steps = steps(brand);
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
    let at = |place| reading.probes.iter().filter(move |probe| probe.location == place);
    let degrees = |it: DeciCelsius| DeciCelsius(it.0 / steps.temperature * steps.temperature);
    let sensors: Vec<_> = at(SensorLocation::Cells).map(|probe| probe.value.unwrap()).collect();
    let expected: Vec<_> = state.sensors.iter().copied().take(steps.sensors).map(degrees).collect();
    assert_eq!(sensors, expected);
    for (what, place, value) in [
        ("ambient", SensorLocation::Ambient, state.ambient),
        ("mosfet", SensorLocation::Mosfet, state.mosfet),
        ("average", SensorLocation::Average, state.average),
    ] {
        let read = at(place).next().and_then(|probe| probe.value);
        assert_eq!(read, says(what).then_some(degrees(value)), "{what}");
    }
    assert_eq!(reading.switches.charging, Some(state.charging));
    assert_eq!(reading.switches.discharging, Some(state.discharging));
    let known = |alarm: &&Alarm| reading.alarms.get(**alarm).is_some();
    let alarms: BTreeSet<_> = state.alarms.iter().filter(known).copied().collect();
    assert_eq!(reading.alarms.active().collect::<BTreeSet<_>>(), alarms);
    assert_eq!(reading.alarms.unknown_bits().count(), 0);
}

/// Every alarm that a driver knows is raised by the simulator's battery, and no other with it.
#[test]
fn every_alarm_of_a_brand_is_read_as_itself() {
    let brands = ["daren", "pylontech", "pace", "seplos", "daly", "daly:a5", "daly:p81"];
    for name in brands {
        let brand = BRANDS.iter().find(|brand| brand.name == name).unwrap();
        let info = find(brand.driver()).unwrap();
        let options = usual(info);
        let faults = Faults::default();
        let mut bus = Bus::new(brand, 1, faults.clone());
        let battery = Battery::fixed(PackState::at_rest());
        bus.add(options.address, (brand.new)(options.address, battery, faults.clone()));
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

    /// Simulator to driver: for every simulated brand, at any address and moment of its life.
    #[test]
    fn the_simulated_battery_is_read_as_it_is(
        seed in any::<u64>(), pick in any::<prop::sample::Index>(), seconds in 0.0..400_000.0,
    ) {
        for brand in BRANDS {
            let info = find(brand.driver()).unwrap();
            let addresses: Vec<u8> = brand.addresses.clone().collect();
            let address = *pick.get(&addresses);
            let mut bus = Bus::with_batteries(brand, &addresses, seed, Faults::default());
            let medium = if brand.notification.is_some() { Medium::Ble } else { Medium::Serial };
            let suits = |options: &Options| {
                let spoken = brand.name.split(':').nth(1).unwrap_or("d2");
                let found_out = info.name == "daly" && options.variant.is_none();
                let told = options.variant.as_deref() == brand.variant();
                found_out || told || options.variant.as_deref() == Some(spoken)
            };
            for options in ways(info).into_iter().filter(suits) {
                let number = pylontech_sc0500::BARCODE.to_owned();
                let barcode = options.barcode.is_some().then_some(number);
                let options = Options { address, barcode, medium, ..options };
                let mut driver = (info.new)(&options);
                let outcome = play(driver.as_mut(), |question| {
                    vec![bus.answer(question, seconds), bus.unsolicited(seconds)]
                });
                let reading = outcome.unwrap().reading();
                reads_as(brand.name, &reading, &mut Bus::battery(seed, address), seconds);
            }
        }
    }
}
