use std::collections::BTreeMap;

use super::*;
use crate::model::derive::derive;
use crate::model::reading::{Cell, Reading};
use crate::model::{
    CentiPercent, DeciCelsius, DeviceId, Microohms, MilliampHours, Millis, Millivolts,
};

const MINUTE: u64 = 60_000;

pub(crate) fn snapshot(soc: i32, milliamps: i32, millivolts: &[i32]) -> Snapshot {
    let mut reading = Reading::default();
    reading.pack.soc = Some(CentiPercent(soc));
    reading.pack.current = Some(Milliamps(milliamps));
    reading.pack.full = Some(MilliampHours(100_000));
    reading.cells = millivolts.iter().map(|mv| Cell::of(Millivolts(*mv))).collect();
    let derived = derive(&reading);
    let device = DeviceId::new("a").unwrap();
    Snapshot { device, sequence: 1, taken: Millis(0), took_ms: 1, reading, derived }
}

/// Numbers from 0 to 1 that look random.
pub(crate) fn noise(seed: u64) -> f64 {
    let mixed = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

#[test]
fn condition_depends_on_charge_and_current() {
    // Charge, current, and the sample of which condition is taken after nine and after ten minutes.
    for (soc, current, early, late) in [
        (5000, 2000, None, Some(Condition::Rest)),
        (5000, -2000, None, Some(Condition::Rest)),
        (5000, 2001, None, None),
        (9800, 0, Some(Condition::Full), Some(Condition::Full)),
        (9800, 20_000, Some(Condition::Full), Some(Condition::Full)),
        (9800, -20_000, None, None),
        (9799, 0, None, Some(Condition::Rest)),
        (1500, -20_000, Some(Condition::Empty), Some(Condition::Empty)),
        (1501, -20_000, None, None),
    ] {
        let mut monitor = HealthMonitor::default();
        let mut at_minute = |minute: u64| {
            let day =
                monitor.observe(Uptime(minute * MINUTE), &snapshot(soc, current, &[3300, 3309]));
            let day = day.unwrap();
            let seen = Condition::ALL.into_iter().filter(|it| day.samples(*it) == 1);
            let seen: Vec<_> = seen.inspect(|it| assert_eq!(day.spread(*it), 9)).collect();
            assert!(seen.len() < 2);
            seen.first().copied()
        };
        let found: Vec<_> = (0..=10).map(&mut at_minute).collect();
        assert_eq!((found[9], found[10]), (early, late), "{soc} {current}");
    }
}

#[test]
fn rest_starts_again_after_current_and_after_a_gap() {
    for (current, minute) in [(9000, 5), (0, 25)] {
        let mut monitor = HealthMonitor::default();
        let mut rests = |minute: u64, current| {
            let day =
                monitor.observe(Uptime(minute * MINUTE), &snapshot(5000, current, &[3300, 3301]));
            day.is_some_and(|day| day.samples(Condition::Rest) > 0)
        };
        (0..5).for_each(|minute| assert!(!rests(minute, 0)));
        rests(minute, current);
        let first = (minute + 1..minute + 20).find(|minute| rests(*minute, 0));
        assert_eq!(first, Some(minute + 10 + u64::from(current != 0)));
    }
}

#[test]
fn unknown_cells_and_banks_count_nothing() {
    let mut one_missing = snapshot(5000, 0, &[3300, 3310]);
    one_missing.reading.cells[0].voltage = None;
    let mut bank = snapshot(9900, 0, &[3300, 3310]);
    bank.derived.bank = Some(Box::default());
    for snapshot in [one_missing, bank, snapshot(9900, 0, &[]), snapshot(9900, 0, &[3300])] {
        let mut monitor = HealthMonitor::default();
        for minute in 0..30 {
            assert_eq!(monitor.observe(Uptime(minute * MINUTE), &snapshot), None);
        }
    }
}

/// Three hours of readings every ten seconds with random values, against sums over the list of samples.
#[test]
fn sums_agree_with_an_independent_computation() {
    let mut monitor = HealthMonitor::default();
    let mut sum = HealthDay::default();
    let (mut samples, mut lowest) = (Vec::new(), BTreeMap::new());
    for step in 0..3 * 360_u64 {
        let volts: Vec<i32> = (0..8).map(|n| 3300 + (noise(step * 8 + n) * 12.0) as i32).collect();
        let mut snapshot = snapshot(5000, 100, &volts);
        for (n, cell) in (0_i32..).zip(&mut snapshot.reading.cells) {
            cell.balancing = Some(n == 2 && step >= 540);
            cell.resistance = Some(Microohms(500 + n * 10));
        }
        let part = monitor.observe(Uptime(step * 10_000), &snapshot);
        assert_eq!(part.is_some(), step % 6 == 0, "once a minute");
        part.inspect(|part| sum.add(part));
        if step % 6 == 0 {
            samples.push((step, volts));
        }
    }
    assert_eq!((sum.cells(), sum.total(Total::Resistances)), (8, 180));
    let rest: Vec<_> = samples.iter().filter(|(step, _)| *step >= 60).collect();
    assert_eq!(sum.samples(Condition::Rest), i64::try_from(rest.len()).unwrap());
    let spread = |volts: &[i32]| volts.iter().max().unwrap() - volts.iter().min().unwrap();
    let spreads: i32 = rest.iter().map(|(_, volts)| spread(volts)).sum();
    assert_eq!(sum.spread(Condition::Rest), i64::from(spreads));
    for (_, volts) in &samples {
        let mut sorted = volts.clone();
        sorted.sort_unstable();
        if sorted[0] < sorted[1] && sorted[6] < sorted[7] {
            let cell = volts.iter().position(|volt| *volt == sorted[0]).unwrap();
            *lowest.entry(cell).or_insert(0_i64) += 1;
        }
    }
    for cell in 0..8 {
        let deviation = |volts: &[i32]| {
            f64::from(volts[cell]) - volts.iter().map(|it| f64::from(*it)).sum::<f64>() / 8.0
        };
        let expected: f64 = rest.iter().map(|(_, volts)| deviation(volts) * 10.0).sum();
        let found = sum.deviation(cell, Condition::Rest) as f64;
        // Each sample is rounded to a tenth of a millivolt.
        assert!((found - expected).abs() <= rest.len() as f64 / 2.0, "{found} {expected}");
        assert_eq!(sum.cell(cell, CellTotal::Lowest), lowest.get(&cell).copied().unwrap_or(0));
        assert_eq!(
            sum.cell(cell, CellTotal::Resistance),
            180 * (500 + 10 * i64::try_from(cell).unwrap())
        );
        let balanced = if cell == 2 { 90 * 60 } else { 0 };
        assert_eq!(sum.cell(cell, CellTotal::Balanced), balanced);
    }
    assert_eq!(sum.total(Total::BalancingKnown), 179 * 60);
}

/// Discharges a pack with a load that changes, clouds that charge it in between, and charges it again.
struct Discharge {
    /// In milliamp-hours.
    capacity: f64,
    /// Of the reported charge, in hundredths of a per cent.
    resolution: i32,
    interval: u64,
}

impl Discharge {
    /// The estimates of two cycles. `disturb` changes the reading of a step, or leaves it out.
    fn run(&self, disturb: impl Fn(u64, Snapshot) -> Option<Snapshot>) -> Vec<i64> {
        let mut monitor = HealthMonitor::default();
        let (mut charge, mut is_charging, mut estimates) = (self.capacity, false, Vec::new());
        let steps = 2 * 40 * 3_600_000 / self.interval;
        for step in 0..steps {
            let hours = self.interval as f64 / 3_600_000.0;
            let minutes = step * self.interval / 60_000;
            let load = -8000.0 - 6000.0 * (minutes as f64 / 47.0).sin();
            let cloud = if minutes % 97 < 11 { 30_000.0 } else { 0.0 };
            let current = if is_charging { 20_000.0 } else { load + cloud };
            let full = charge >= self.capacity;
            let current = if full && current > 0.0 { 0.0 } else { current };
            charge = (charge + current * hours).min(self.capacity);
            is_charging = if charge < self.capacity * 0.08 { true } else { is_charging && !full };
            let soc =
                (charge / self.capacity * 10_000.0) as i32 / self.resolution * self.resolution;
            let mut snapshot = snapshot(soc, current as i32, &[3300, 3301]);
            snapshot.derived.avg_temp = Some(DeciCelsius(213));
            let Some(snapshot) = disturb(minutes, snapshot) else { continue };
            if let Some(day) = monitor.observe(Uptime(step * self.interval), &snapshot)
                && day.total(Total::Runs) > 0
            {
                assert_eq!((day.total(Total::Runs), day.total(Total::Temperature)), (1, 213));
                estimates.push(day.total(Total::Capacity));
            }
        }
        estimates
    }
}

#[test]
fn capacity_is_within_one_per_cent() {
    for (capacity, resolution, interval) in [
        (98_700.0, 1, 10_000),
        (98_700.0, 100, 10_000),
        (98_700.0, 100, 60_000),
        (51_200.0, 100, 30_000),
        (103_400.0, 10, 120_000),
    ] {
        let discharge = Discharge { capacity, resolution, interval };
        let estimates = discharge.run(|_, snapshot| Some(snapshot));
        assert!(!estimates.is_empty(), "{capacity} {resolution} {interval}");
        for estimate in estimates {
            let error = (estimate as f64 / capacity - 1.0).abs();
            assert!(error < 0.01, "{estimate} of {capacity}");
        }
    }
}

#[test]
fn interrupted_run_is_no_estimate() {
    let discharge = Discharge { capacity: 98_700.0, resolution: 100, interval: 30_000 };
    let whole = discharge.run(|_, snapshot| Some(snapshot)).len();
    // A quarter of an hour in each hour without a reading.
    let gaps = discharge.run(|minute, snapshot| (minute % 60 >= 15).then_some(snapshot));
    assert_eq!((whole > 0, gaps), (true, vec![]));
    // The BMS finds at half charge that the battery is emptier.
    let corrected = discharge.run(|_, mut snapshot| {
        let soc = snapshot.reading.pack.soc.as_mut()?;
        soc.0 = if soc.0 < 5000 { (soc.0 - 1000).max(0) } else { soc.0 };
        Some(snapshot)
    });
    assert_eq!(corrected, Vec::<i64>::new());
}
