//! A driver reads what the simulated battery is.

use std::collections::BTreeSet;

use bms_reader::model::reading::SensorLocation;
use bms_reader::model::units::{DeciCelsius, Milliamps, Millivolts};
use bms_reader::model::{Alarm, Reading};
use bms_reader::protocol::driver::Medium;
use bms_reader::protocol::{CycleKind, Options, Step, find};
use bms_reader::sim::faults::Rule;
use bms_reader::sim::{
    Battery, Bus, Fault, Faults, PackState, SimBrand, SimPack, SimProtocol, brands,
    pylontech_sc0500,
};
use proptest::prelude::*;

use crate::common::play;
use crate::stack;

/// Cycles within which a driver finds the dialect of its battery.
const CYCLES: usize = 3;

/// The reading of the battery at this address, with the dialect configured or not.
pub fn read(brand: &SimBrand, bus: &mut Bus, options: &Options, seconds: f64) -> Reading {
    let options = Options {
        medium: if brand.notification.is_some() { Medium::Ble } else { Medium::Serial },
        ..options.clone()
    };
    let mut driver = find(brand.driver()).unwrap().driver(&options);
    let mut last = String::new();
    for _ in 0..CYCLES {
        let answer = |request: &[u8]| vec![bus.reply(request, seconds), bus.unsolicited(seconds)];
        match play(driver.as_mut(), answer).unwrap().end {
            Step::Done(reading) => return *reading,
            end => last = format!("{end:?}"),
        }
        driver.start(CycleKind::Read);
    }
    panic!("{} cannot be read with {options:?}: {last}", brand.name);
}

/// What the operator of a simulated battery may have configured.
fn configurations(brand: &SimBrand, address: u8) -> Vec<Options> {
    let variant = brand.variant().map(str::to_owned);
    let barcode = Some(pylontech_sc0500::BARCODE.to_owned());
    vec![
        Options { address, ..Options::default() },
        Options { address, variant, barcode, ..Options::default() },
    ]
}

pub fn bus_of(brand: &'static SimBrand, battery: Battery, faults: Faults) -> (Bus, u8) {
    let address = *brand.addresses.start();
    let mut bus = Bus::new(brand, 1, faults.clone());
    bus.add(address, brand.pack(SimPack::new(address, battery, faults)));
    (bus, address)
}

/// Smallest steps in which a protocol reports a value, in the units of the model.
struct Steps {
    voltage: i64,
    current: i64,
    soc: i64,
    charge: i64,
    temperature: i64,
    cell: i64,
}

/// Coarser than any protocol.
const COARSE: Steps =
    Steps { voltage: 101, current: 101, soc: 101, charge: 1001, temperature: 11, cell: 51 };
const EXACT: Steps = Steps { voltage: 1, current: 1, soc: 2, charge: 1, temperature: 1, cell: 1 };

/// Profiles have scales of every kind.
fn exactness(brand: &SimBrand) -> &'static Steps {
    if matches!(brand.protocol, SimProtocol::Code { .. }) { &EXACT } else { &COARSE }
}

/// A state that every protocol can report exactly.
fn coarse_state() -> PackState {
    PackState {
        voltage: Millivolts(53_000),
        current: Milliamps(-12_300),
        average: DeciCelsius(210),
        sensors: [220, 210, 230, 200].map(DeciCelsius).to_vec(),
        ..PackState::at_rest()
    }
}

/// Every value that is read is that of the battery. What a protocol cannot report is absent.
fn assert_reads_as(reading: &Reading, state: &PackState, steps: &Steps) {
    let near = |what: &str, read: Option<i64>, real: i64, step: i64| {
        assert!(read.is_none_or(|read| (read - real).abs() < step), "{what}: {read:?}, not {real}");
    };
    let pack = &reading.pack;
    near("voltage", pack.voltage.map(|it| it.0.into()), state.voltage.0.into(), steps.voltage);
    near("current", pack.current.map(|it| it.0.into()), state.current.0.into(), steps.current);
    near("soc", pack.soc.map(|it| it.0.into()), state.soc.0.into(), steps.soc);
    near("soh", pack.soh.map(|it| it.0.into()), state.soh.0.into(), 1);
    near("remaining", pack.remaining.map(|it| it.0), state.remaining.0, steps.charge);
    near("full", pack.full.map(|it| it.0), state.full.0, steps.charge);
    near("design", pack.design.map(|it| it.0), state.design.0, steps.charge);
    near("cycles", pack.cycles.map(i64::from), state.cycles.into(), 1);

    let cells: Vec<_> = reading.cells.iter().map(|cell| cell.voltage.unwrap()).collect();
    for (read, real) in cells.iter().zip(&state.cells) {
        near("cell", Some(read.0.into()), real.0.into(), steps.cell);
    }
    let balanced = reading.cells.iter().zip(&state.balancing);
    let balanced: Vec<_> =
        balanced.filter_map(|(cell, real)| Some((cell.balancing?, *real))).collect();
    // Some boards name only one of the cells that they balance.
    assert!(balanced.iter().all(|(read, real)| read <= real), "{balanced:?}");
    assert_eq!(balanced.iter().any(|it| it.0), balanced.iter().any(|it| it.1), "{balanced:?}");

    let mut sensors = state.sensors.iter();
    for probe in &reading.probes {
        let real = match probe.location {
            SensorLocation::Cells => *sensors.next().or(state.sensors.last()).unwrap(),
            SensorLocation::Mosfet => state.mosfet,
            SensorLocation::Ambient => state.ambient,
            SensorLocation::Average => state.average,
        };
        near("temperature", probe.value.map(|it| it.0.into()), real.0.into(), steps.temperature);
    }
    if let (Some(charging), Some(discharging)) =
        (reading.switches.charging, reading.switches.discharging)
    {
        assert_eq!((charging, discharging), (state.charging, state.discharging));
    }
    let known = |alarm: &&Alarm| reading.alarms.get(**alarm).is_some();
    let alarms: BTreeSet<_> = state.alarms.iter().filter(known).copied().collect();
    assert_eq!(reading.alarms.active().collect::<BTreeSet<_>>(), alarms);
    assert_eq!(reading.alarms.unknown_bits().count(), 0);
}

fn assert_reads_as_battery(reading: &Reading, battery: &mut Battery, seconds: f64, steps: &Steps) {
    // The modules of a stack that is code have cells of their own.
    if reading.modules.len() > 1 {
        return stack::assert_reads_as(reading, battery, seconds);
    }
    let mut state = battery.state(seconds);
    if !reading.cells.is_empty() && reading.cells.len() != state.cells.len() {
        state = state.with_cells(reading.cells.len());
    }
    assert_reads_as(reading, &state, steps);
}

#[test]
fn simulated_values_are_read_exactly() {
    for brand in brands() {
        let mut battery = Battery::fixed(coarse_state());
        let (mut bus, address) = bus_of(brand, battery.clone(), Faults::default());
        for options in configurations(brand, address) {
            let reading = read(brand, &mut bus, &options, 0.0);
            assert_reads_as_battery(&reading, &mut battery, 0.0, exactness(brand));
        }
    }
}

/// Of the alarms that the simulated battery can raise, which are most of them.
#[test]
fn simulated_alarm_is_read_as_itself_alone() {
    for brand in brands() {
        let faults = Faults::default();
        let (mut bus, address) =
            bus_of(brand, Battery::fixed(PackState::at_rest()), faults.clone());
        let options = configurations(brand, address).remove(1);
        let known = read(brand, &mut bus, &options, 0.0);
        let known: Vec<Alarm> = known.alarms.iter().map(|(alarm, _)| alarm).collect();
        let mut raised = 0;
        for &alarm in &known {
            faults.set(vec![Rule::always(Fault::Alarm(alarm))]);
            let active: Vec<Alarm> = read(brand, &mut bus, &options, 0.0).alarms.active().collect();
            assert!(active.iter().all(|it| *it == alarm), "{}: {active:?}, {alarm:?}", brand.name);
            raised += active.len();
        }
        assert!(2 * raised >= known.len(), "{}: {raised} of {}", brand.name, known.len());
    }
}

proptest! {
    // Each case simulates up to five days.
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn simulated_battery_is_read_at_any_moment(
        seed in any::<u64>(), pick in any::<prop::sample::Index>(), seconds in 0.0..400_000.0,
    ) {
        let (code, profiles): (Vec<&'static SimBrand>, Vec<_>) = brands()
            .iter()
            .copied()
            .partition(|brand| matches!(brand.protocol, SimProtocol::Code { .. }));
        let some = profiles.iter().cycle().skip(pick.index(profiles.len())).take(4);
        for brand in code.iter().chain(some).copied() {
            let addresses: Vec<u8> = brand.addresses.clone().collect();
            let address = *pick.get(&addresses);
            let mut bus = Bus::with_batteries(brand, &addresses, seed, Faults::default());
            for options in configurations(brand, address) {
                let reading = read(brand, &mut bus, &options, seconds);
                let battery = &mut Bus::battery(seed, address);
                assert_reads_as_battery(&reading, battery, seconds, &COARSE);
            }
        }
    }
}

#[test]
fn rejected_requests_fail_the_read_of_every_brand() {
    for brand in brands() {
        let battery = Battery::fixed(PackState::at_rest());
        let (mut bus, address) =
            bus_of(brand, battery, Faults::new(vec![Rule::always(Fault::Refuse(4))]));
        let medium = if brand.notification.is_some() { Medium::Ble } else { Medium::Serial };
        let variant = brand.variant().map(str::to_owned);
        let options = Options { address, medium, variant, ..Options::default() };
        let mut driver = find(brand.driver()).unwrap().driver(&options);
        let end = play(driver.as_mut(), |request| vec![bus.reply(request, 0.0)]).unwrap().end;
        let is_console = brand.name.starts_with("pylontech-");
        assert!(is_console || matches!(end, Step::Failed(_)), "{}: {end:?}", brand.name);
    }
}
