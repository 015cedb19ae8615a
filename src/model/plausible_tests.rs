use proptest::prelude::*;

use super::*;
use crate::model::reading::{Cell, Probe, SensorLocation};
use crate::model::units::{
    CentiPercent, DeciCelsius, Microohms, MilliampHours, Milliamps, Millivolts, MilliwattHours,
    Milliwatts,
};

/// `row` cells in series, `strings` of them in parallel.
fn battery(cell: i32, row: i32, strings: i32) -> Reading {
    let cells = (0..row * strings).map(|_| Cell::of(Millivolts(cell))).collect();
    let mut reading = Reading { cells, ..Reading::default() };
    reading.pack.voltage = Some(Millivolts(cell * row));
    reading.pack.current = Some(Milliamps(-11_160));
    reading.pack.soc = Some(CentiPercent(6400));
    reading.probes = vec![Probe { location: SensorLocation::Cells, value: Some(DeciCelsius(220)) }];
    reading
}

fn with(change: impl Fn(&mut Reading)) -> Reading {
    let mut reading = battery(3300, 16, 1);
    change(&mut reading);
    reading
}

fn reason(result: Result<Reading, Implausible>) -> String {
    result.expect_err("implausible").0
}

#[test]
fn every_kind_of_battery_passes_the_first_read() {
    let kinds = [
        ("LFP", 3300, 16, 1),
        ("LFP, empty", 2000, 16, 1),
        ("NMC, full", 4250, 13, 1),
        ("LTO", 1800, 24, 1),
        ("lead", 2250, 6, 1),
        ("lead blocks", 14_400, 4, 1),
        ("sodium", 1500, 16, 1),
        ("one cell", 3300, 1, 1),
        ("32 cells", 3300, 32, 1),
        ("high-voltage stack", 3300, 75, 1),
        ("larger stack", 3300, 240, 1),
        ("five modules side by side", 3300, 15, 5),
        ("a deeply discharged cell", 0, 1, 1),
    ];
    for (name, cell, row, strings) in kinds {
        let reading = battery(cell, row, strings);
        assert_eq!(
            PlausibilityFilter::default().check(reading.clone(), Uptime(0)),
            Ok(reading),
            "{name}"
        );
    }
    let empty = Reading::default();
    assert_eq!(PlausibilityFilter::default().check(empty.clone(), Uptime(0)), Ok(empty));
}

#[test]
fn damaged_read_between_two_good_ones_is_rejected() {
    type Damage = fn(&mut Reading);
    let damages: [(&str, Damage); 6] = [
        ("the voltage of cell 3 jumped from 3.3 V to 8.42 V", |it| {
            it.cells[2].voltage = Some(Millivolts(8420));
        }),
        ("the voltage of cell 1 cannot be 65.535 V", |it| {
            it.cells[0].voltage = Some(Millivolts(65_535));
        }),
        ("the temperature of sensor 1 cannot be -273.1 °C", |it| {
            it.probes[0].value = Some(DeciCelsius(-2731));
        }),
        ("the temperature of sensor 1 jumped from 22.0 °C to 47.6 °C", |it| {
            it.probes[0].value = Some(DeciCelsius(476));
        }),
        ("the cells add up to 52.8 V, the pack voltage is 49.0 V", |it| {
            it.pack.voltage = Some(Millivolts(49_000));
        }),
        ("the state of charge jumped from 64.0 % to 12.0 %", |it| {
            it.pack.soc = Some(CentiPercent(1200));
        }),
    ];
    for (expected, damage) in damages {
        let mut filter = PlausibilityFilter::default();
        filter.check(battery(3300, 16, 1), Uptime(0)).unwrap();
        let reason = reason(filter.check(with(damage), Uptime(1000)));
        assert!(reason.contains(expected), "{reason}");
        assert!(filter.check(battery(3300, 16, 1), Uptime(2000)).is_ok(), "{expected}");
    }
}

#[test]
fn second_like_read_passes() {
    let mut filter = PlausibilityFilter::default();
    filter.check(battery(3300, 16, 1), Uptime(0)).unwrap();
    let full = with(|it| it.pack.soc = Some(CentiPercent(10_000)));
    assert!(filter.check(full.clone(), Uptime(1000)).is_err());
    assert_eq!(filter.check(full.clone(), Uptime(1100)), Ok(full.clone()));
    assert_eq!(filter.check(full.clone(), Uptime(30_000)), Ok(full));
}

#[test]
fn impossible_value_is_removed_from_a_passing_read() {
    let mut filter = PlausibilityFilter::default();
    let loose = with(|it| it.probes[0].value = Some(DeciCelsius(-2731)));
    assert!(filter.check(loose.clone(), Uptime(0)).is_err());
    for second in 1..5 {
        let passed = filter.check(loose.clone(), Uptime(second * 1000)).expect("second like read");
        assert_eq!(passed.probes[0].value, None);
        assert_eq!(passed.cells, loose.cells);
    }
    let fixed = filter.check(battery(3300, 16, 1), Uptime(9000)).expect("sensor reconnected");
    assert_eq!(fixed.probes[0].value, Some(DeciCelsius(220)));
}

#[test]
fn constant_sum_mismatch_passes_from_the_second_read_on() {
    let mut filter = PlausibilityFilter::default();
    let mismatch = with(|it| it.pack.voltage = Some(Millivolts(49_000)));
    let reason = reason(filter.check(mismatch.clone(), Uptime(0)));
    assert_eq!(reason, "the cells add up to 52.8 V, the pack voltage is 49.0 V");
    for second in 1..100 {
        assert!(filter.check(mismatch.clone(), Uptime(second * 30_000)).is_ok());
    }
}

#[test]
fn recurring_damage_does_not_confirm_itself() {
    let mut filter = PlausibilityFilter::default();
    let (ours, neighbour) = (battery(3300, 16, 1), battery(2700, 16, 1));
    filter.check(ours.clone(), Uptime(0)).unwrap();
    for second in 1..9 {
        assert!(filter.check(neighbour.clone(), Uptime(second * 1000)).is_err());
        assert!(filter.check(ours.clone(), Uptime(second * 1000 + 500)).is_ok());
    }
}

#[test]
fn old_reading_is_not_compared() {
    let mut filter = PlausibilityFilter::default();
    filter.check(battery(3300, 16, 1), Uptime(0)).unwrap();
    assert!(filter.check(battery(2600, 16, 1), Uptime(300_001)).is_ok());
}

#[test]
fn change_of_cell_count_needs_a_matching_sum() {
    let mut filter = PlausibilityFilter::default();
    filter.check(battery(3300, 16, 1), Uptime(0)).unwrap();
    assert!(filter.check(battery(3300, 15, 1), Uptime(1000)).is_ok());
    assert!(filter.check(battery(3300, 4, 1), Uptime(2000)).is_err());
    assert!(filter.check(battery(3300, 4, 1), Uptime(3000)).is_ok());
}

#[test]
fn unknown_status_needs_a_second_reading() {
    let status = |word: &str| with(|it| it.alarms.note_status("voltage_status", Some(word)));
    let mut filter = PlausibilityFilter::default();
    assert!(filter.check(status("Low"), Uptime(0)).is_ok(), "a known word");
    let noise = reason(filter.check(status("Lo}"), Uptime(1000)));
    assert_eq!(noise, "voltage status is Lo}, which is unknown");
    assert!(filter.check(status("L0w"), Uptime(2000)).is_err(), "other noise confirms nothing");
    assert!(filter.check(status("L0w"), Uptime(3000)).is_ok());
    assert!(filter.check(status("L0w"), Uptime(4000)).is_ok());
    assert!(filter.check(battery(3300, 16, 1), Uptime(5000)).is_ok());
}

#[test]
fn every_quantity_has_a_possible_range() {
    let mut reading = Reading::default();
    let (pack, limits) = (&mut reading.pack, &mut reading.limits);
    pack.soh = Some(CentiPercent(i32::MIN));
    pack.remaining = Some(MilliampHours(-1_073_741_824));
    pack.full = Some(MilliampHours(i64::MAX));
    pack.design = Some(MilliampHours(-1));
    pack.remaining_energy = Some(MilliwattHours(-1));
    pack.cycles = Some(u32::MAX);
    pack.power = Some(Milliwatts(i64::MIN));
    limits.charge_voltage = Some(Millivolts(i32::MAX));
    limits.cell_upper = Some(Millivolts(65_535));
    reading.cells = vec![Cell { resistance: Some(Microohms(-1)), ..Cell::default() }];
    let mut filter = PlausibilityFilter::default();
    let reason = reason(filter.check(reading.clone(), Uptime(0)));
    for part in [
        "the resistance of cell 1 cannot be -0.001 mΩ",
        "the state of health cannot be -21474836.48 %",
        "the remaining capacity cannot be -1073741.824 Ah",
        "the cycle count cannot be 4294967295",
        "the upper limit of the cell voltage cannot be 65.535 V",
    ] {
        assert!(reason.contains(part), "{part}: {reason}");
    }
    let passed = filter.check(reading, Uptime(1000)).expect("the second like read");
    let cells = vec![Cell::default()];
    assert_eq!(passed, Reading { cells, ..Reading::default() }, "nothing of it is published");
}

fn anything() -> impl Strategy<Value = Reading> {
    let cells = prop::collection::vec(prop::option::of(any::<i32>()), 0..40);
    let probes = prop::collection::vec(prop::option::of(any::<i32>()), 0..8);
    let pack = prop::array::uniform3(prop::option::of(any::<i32>()));
    (cells, probes, pack).prop_map(|(cells, probes, [voltage, current, soc])| {
        let cell = |mv: Option<i32>| Cell { voltage: mv.map(Millivolts), ..Cell::default() };
        let cells = cells.into_iter().map(cell).collect();
        let mut reading = Reading { cells, ..Reading::default() };
        let probe =
            |dc: Option<i32>| Probe { location: SensorLocation::Cells, value: dc.map(DeciCelsius) };
        reading.probes = probes.into_iter().map(probe).collect();
        reading.pack.voltage = voltage.map(Millivolts);
        reading.pack.current = current.map(Milliamps);
        reading.pack.soc = soc.map(CentiPercent);
        reading
    })
}

proptest! {
    /// Whatever a battery reports, the second like reading passes.
    #[test]
    fn no_reading_is_rejected_twice(before in prop::collection::vec(anything(), 0..4), steady in anything()) {
        let mut filter = PlausibilityFilter::default();
        for reading in before {
            let _ = filter.check(reading, Uptime(0));
        }
        let _ = filter.check(steady.clone(), Uptime(1000));
        prop_assert!(filter.check(steady.clone(), Uptime(2000)).is_ok());
        prop_assert!(filter.check(steady, Uptime(3000)).is_ok());
    }

    #[test]
    fn passing_values_are_possible(readings in prop::collection::vec(anything(), 1..9)) {
        let mut filter = PlausibilityFilter::default();
        for reading in readings {
            if let Ok(passed) = filter.check(reading, Uptime(0)) {
                prop_assert_eq!(remove_impossible(&mut passed.clone()), Vec::<String>::new());
            }
        }
    }

    /// A real battery under an ordinary load is never rejected.
    #[test]
    fn ordinary_load_passes(start in 2500i32..3600, row in 1i32..33, steps in prop::collection::vec((-60i32..60, -30i32..30, -200i32..200), 1..60)) {
        let mut filter = PlausibilityFilter::default();
        let (mut cell, mut temp, mut soc) = (start, 200, 5000);
        for (second, (volts, degrees, charge)) in (0u64..).zip(steps) {
            (cell, temp, soc) = (cell + volts, temp + degrees, (soc + charge).clamp(0, 10_000));
            let mut reading = battery(cell.clamp(1500, 4400), row, 1);
            reading.probes[0].value = Some(DeciCelsius(temp.clamp(-300, 800)));
            reading.pack.soc = Some(CentiPercent(soc));
            prop_assert!(filter.check(reading, Uptime(second * 30_000)).is_ok());
        }
    }
}
