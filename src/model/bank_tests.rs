use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::model::derived_state::DerivedState;
use crate::model::energy::{Energy, EnergyTotals};
use crate::model::reading::{Cell, Probe, SensorLocation};
use crate::model::units::Millis;
use crate::model::units::{DeciCelsius, Milliamps, MilliwattHours, Milliwatts};
use crate::model::{Alarm, AlarmThresholds, Profile};

/// A battery that reports every value.
fn battery(id: &str, volts: i32, amps: i32, soc: i32, capacity: i64, cells: &[i32]) -> DeviceState {
    let pack = Pack {
        voltage: Some(Millivolts(volts * 1000)),
        current: Some(Milliamps(amps * 1000)),
        soc: Some(CentiPercent(soc * 100)),
        soh: Some(CentiPercent(10_000)),
        remaining: Some(MilliampHours(capacity * 10 * i64::from(soc))),
        full: Some(MilliampHours(capacity * 1000)),
        design: Some(MilliampHours(capacity * 1000)),
        remaining_energy: Some(MilliwattHours(1000)),
        ..Pack::default()
    };
    let cells = cells.iter().map(|mv| Cell::of(Millivolts(*mv))).collect();
    let probes = vec![Probe { location: SensorLocation::Cells, value: Some(DeciCelsius(volts)) }];
    let mut reading = Reading { pack, cells, probes, ..Reading::default() };
    reading.alarms.note(Alarm::CellOvervoltage, false);
    state(id, reading)
}

fn state(id: &str, reading: Reading) -> DeviceState {
    let mut state =
        DeviceState::new(Profile { name: format!("Name of {id}"), ..Profile::sample(id) });
    let derived = DerivedState::new(AlarmThresholds::default()).derive(&reading, Uptime(0), 1000);
    state.accept((Millis(0), Uptime(0)), 1, reading, derived);
    state
}

fn combine(wiring: Wiring, members: &[(&DeviceState, bool)]) -> (Reading, Derived) {
    let members: Vec<Member<'_>> =
        members.iter().map(|(state, present)| Member { state, present: *present }).collect();
    Bank::new(wiring).combine(&members, Uptime(0))
}

fn two() -> (DeviceState, DeviceState) {
    (battery("a", 52, 10, 50, 100, &[3300, 3310]), battery("b", 53, -4, 80, 300, &[3290, 3320]))
}

#[test]
fn parallel_currents_and_charges_add_up() {
    let (a, b) = two();
    let (reading, derived) = combine(Wiring::Parallel, &[(&a, true), (&b, true)]);
    let pack = &reading.pack;
    assert_eq!(pack.voltage, Some(Millivolts(52_500)));
    assert_eq!(pack.current, Some(Milliamps(6000)));
    assert_eq!(pack.power, Some(Milliwatts(520_000 - 212_000)));
    assert_eq!(pack.remaining, Some(MilliampHours(50_000 + 240_000)));
    assert_eq!(pack.full, Some(MilliampHours(400_000)));
    assert_eq!(pack.soc, Some(CentiPercent(7250)), "the larger one counts three times");
    assert_eq!(pack.remaining_energy, Some(MilliwattHours(2000)));
    assert_eq!(derived.power, pack.power);
    assert_eq!(derived.activity, Some(Activity::Charging));
    assert_eq!(derived.lowest_cell, Some((1, Millivolts(3290))));
    assert_eq!(derived.highest_cell, Some((2, Millivolts(3320))));
    assert_eq!(
        (derived.min_temp, derived.max_temp),
        (Some(DeciCelsius(52)), Some(DeciCelsius(53)))
    );
    let summary = derived.bank.unwrap();
    assert_eq!(summary.lowest_in.as_deref(), Some("Name of b"));
    assert_eq!(summary.voltage_spread, Some(Millivolts(1000)));
    assert_eq!(summary.soc_spread, Some(CentiPercent(3000)));
    assert!(summary.missing.is_empty());
    assert_eq!(derived.problem, Some(false));
    assert_eq!(reading.identity.model.as_deref(), Some("2 batteries in parallel"));
}

#[test]
fn series_voltages_add_up_and_the_weakest_decides() {
    let (a, b) = two();
    let (reading, derived) = combine(Wiring::Series, &[(&a, true), (&b, true)]);
    let pack = &reading.pack;
    assert_eq!(pack.voltage, Some(Millivolts(105_000)));
    assert_eq!(pack.current, Some(Milliamps(3000)));
    assert_eq!(pack.power, Some(Milliwatts(308_000)));
    assert_eq!(pack.remaining, Some(MilliampHours(50_000)));
    assert_eq!(pack.full, Some(MilliampHours(100_000)));
    assert_eq!(pack.soc, Some(CentiPercent(5000)));
    assert_eq!(derived.lowest_cell, Some((1, Millivolts(3290))));
}

#[test]
fn missing_member_removes_every_sum() {
    let (mut a, b) = two();
    let snapshot = a.snapshot.as_mut().unwrap();
    Arc::make_mut(snapshot).derived.energy_since_start =
        EnergyTotals { charged: Energy(5), discharged: Energy(7) };
    for wiring in &Wiring::ALL {
        let (reading, derived) = combine(*wiring, &[(&a, false), (&b, true)]);
        assert_eq!(reading.pack, Pack::default());
        let summary = derived.bank.as_deref().unwrap();
        let members = vec![a.profile.id.clone(), b.profile.id.clone()];
        let missing = vec![a.profile.id.clone()];
        assert_eq!(*summary, BankSummary { members, missing, ..BankSummary::default() });
        assert_eq!(derived.energy_since_start.charged, Energy(5), "totals are kept");
        let rest =
            Derived { bank: None, energy_since_start: EnergyTotals::default(), ..derived.clone() };
        assert_eq!(rest, Derived::default());
    }
    let unread = DeviceState::new(Profile::sample("c"));
    let (_, derived) = combine(Wiring::Parallel, &[(&b, true), (&unread, true)]);
    assert_eq!(derived.bank.unwrap().missing, std::slice::from_ref(&unread.profile.id));
}

#[test]
fn value_missing_from_one_member_is_absent() {
    let (a, _) = two();
    let mut poor = Reading::default();
    poor.pack.voltage = Some(Millivolts(54_000));
    poor.pack.current = Some(Milliamps(1000));
    poor.pack.soc = Some(CentiPercent(100));
    let poor = state("b", poor);
    let (reading, derived) = combine(Wiring::Parallel, &[(&a, true), (&poor, true)]);
    assert_eq!(reading.pack.voltage, Some(Millivolts(53_000)));
    assert_eq!(reading.pack.soc, None, "its capacity is unknown");
    assert_eq!(reading.pack.remaining, None);
    assert_eq!(derived.lowest_cell, None);
    assert_eq!(derived.problem, None, "it reports no alarms");
    assert!(derived.bank.unwrap().missing.is_empty());
}

#[test]
fn alarms_of_members_are_alarms_of_the_bank() {
    let (a, b) = two();
    let cells = vec![Cell::of(Millivolts(3700))];
    let mut reading = Reading { cells, ..Reading::default() };
    reading.alarms.note(Alarm::CellOvervoltage, true);
    let hot = state("hot", reading);
    let (_, derived) = combine(Wiring::Parallel, &[(&a, true), (&hot, true), (&b, false)]);
    assert_eq!(derived.problem, Some(true));
    let alarms = &derived.bank.as_ref().unwrap().alarms;
    assert_eq!(alarms.len(), 1);
    let message = "Name of hot: cell voltage high, now 3.7 V (BMS protection)";
    assert_eq!(alarms[0].message, message);
    let mut bank = DeviceState::new(Profile::sample("bank"));
    bank.accept((Millis(0), Uptime(0)), 0, Reading::default(), derived);
    assert_eq!(bank.active_alarms().len(), 1);
    let covers = |battery: &str| bank.covers_alarm(&(battery.into(), "cell_overvoltage".into()));
    assert!(covers("a"));
    assert!(!covers("b"), "missing");
}

proptest! {
    /// The capacity-weighted mean lies between the extremes, and no order of members changes it.
    #[test]
    fn mean_lies_between_the_members(packs in prop::collection::vec((0i32..=100, 1i64..1000), 1..9)) {
        let states: Vec<_> = packs
            .iter()
            .enumerate()
            .map(|(n, (soc, capacity))| battery(&format!("b{n}"), 52, 1, *soc, *capacity, &[3300]))
            .collect();
        let forward: Vec<_> = states.iter().map(|state| (state, true)).collect();
        let backward: Vec<_> = forward.iter().rev().copied().collect();
        for wiring in &Wiring::ALL {
            let soc = combine(*wiring, &forward).0.pack.soc.unwrap().0;
            let (low, high) = (packs.iter().map(|p| p.0).min().unwrap(), packs.iter().map(|p| p.0).max().unwrap());
            prop_assert!((low * 100..=high * 100).contains(&soc), "{soc}");
            prop_assert_eq!(combine(*wiring, &backward).0.pack, combine(*wiring, &forward).0.pack);
        }
    }

    /// A sum needs every member.
    #[test]
    fn sums_need_every_member(present in prop::collection::vec(any::<bool>(), 1..9)) {
        let states: Vec<_> =
            (0..present.len()).map(|n| battery(&format!("b{n}"), 52, 1, 50, 100, &[3300])).collect();
        let members: Vec<_> = states.iter().zip(present.iter().copied()).collect();
        for wiring in &Wiring::ALL {
            let (reading, derived) = combine(*wiring, &members);
            let complete = present.iter().all(|it| *it);
            prop_assert_eq!(reading.pack.current.is_some(), complete);
            prop_assert_eq!(reading.pack.remaining.is_some(), complete);
            prop_assert_eq!(derived.lowest_cell.is_some(), complete);
            let missing = present.iter().filter(|it| !**it).count();
            prop_assert_eq!(derived.bank.unwrap().missing.len(), missing);
        }
    }
}

#[test]
fn limits_add_up_or_the_strictest_applies() {
    let limited = |id: &str, amps: i32, volts: i32, charging: bool| {
        let mut reading = Reading::default();
        reading.limits.charge_current = Some(Milliamps(amps * 1000));
        reading.limits.discharge_current = Some(Milliamps(-2000 * amps));
        reading.limits.charge_voltage = Some(Millivolts(volts * 1000));
        reading.limits.discharge_voltage = Some(Millivolts(volts * 800));
        reading.switches.charging = Some(charging);
        state(id, reading)
    };
    let (a, b, off) =
        (limited("a", 50, 56, true), limited("b", 30, 55, true), limited("off", 80, 57, false));
    let limits = |wiring, members: &[&DeviceState]| {
        let members: Vec<_> = members.iter().map(|state| (*state, true)).collect();
        let limits = combine(wiring, &members).0.limits;
        let currents = (limits.charge_current.unwrap().0, limits.discharge_current.unwrap().0);
        (currents, limits.charge_voltage.unwrap().0, limits.discharge_voltage.unwrap().0)
    };
    let parallel = |members: &[&DeviceState]| limits(Wiring::Parallel, members);
    assert_eq!(parallel(&[&a, &b]), ((80_000, -160_000), 55_000, 44_800));
    assert_eq!(parallel(&[&a, &off]), ((50_000, -260_000), 56_000, 45_600));
    assert_eq!(
        limits(Wiring::Series, &[&a, &b, &off]),
        ((0, -60_000), 168_000, 134_400),
        "one that takes no charge ends it for all"
    );
    let unknown = state("c", Reading::default());
    let members = [(&a, true), (&unknown, true)];
    assert_eq!(combine(Wiring::Parallel, &members).0.limits, ChargeLimits::default());
}
