//! Holds back readings that no battery produces: damage that the checksum did not detect, replies of
//! another battery on the bus, one frame taken for another.
//!
//! The filter knows nothing of brands and chemistries, so an implausible reading may still be true:
//! a load that pulls a cell down, a gauge that jumps to 100 %, a disconnected sensor, parallel
//! strings whose cells do not add up to the pack voltage. It therefore rejects a reading only once:
//! when the next one is like it, that one passes. Only values that cannot exist are removed even
//! then, and the rest of such a reading is published without them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::reading::Reading;
use super::units::{Unit, Uptime};
use super::value::Value;

/// What is possible for one kind of value, and what is usual.
#[derive(Debug)]
struct Limits {
    range: RangeInclusive<i32>,
    /// The largest usual change from a value to that of the next read.
    max_jump: fn(i32) -> i64,
    unit: &'static str,
    /// Decimal places of the integer values.
    scale: u32,
}

/// From a reversed cell to the 16 V of a block of eight lead cells that is measured as one.
static CELL: Limits = Limits { range: -2000..=16_000, max_jump: |_| 500, unit: "V", scale: 3 };
/// Up to the largest high-voltage stack. A jump of 15 % is unusual.
static PACK: Limits = Limits {
    range: -2000..=1_500_000,
    max_jump: |from| (i64::from(from) * 15 / 100).max(PACK_TOLERANCE_MV),
    unit: "V",
    scale: 3,
};
/// 20 kA would melt any terminal.
static CURRENT: Limits =
    Limits { range: -20_000_000..=20_000_000, max_jump: |_| i64::MAX, unit: "A", scale: 3 };
/// No electronics work beyond it. A disconnected sensor reads -40 °C, or absolute zero.
static SENSOR: Limits = Limits { range: -600..=2000, max_jump: |_| 200, unit: "°C", scale: 1 };
static CELL_SENSOR: Limits =
    Limits { range: -600..=2000, max_jump: |_| i64::MAX, unit: "°C", scale: 1 };
/// Some gauges count a little beyond full.
static SOC: Limits = Limits { range: 0..=12_000, max_jump: |_| 2000, unit: "%", scale: 2 };

/// Cells and pack are measured at different times by different converters.
const SUM_TOLERANCE_PER_CENT: i64 = 5;
/// Smallest tolerance of a pack voltage.
const PACK_TOLERANCE_MV: i64 = 1000;
/// A reading that is older than this says nothing about the next one.
const MAX_AGE_MS: u64 = 300_000;

/// A reading that passed, or one that waits for another like it.
#[derive(Debug, Clone)]
struct Candidate {
    reading: Reading,
    /// Its values by name.
    numbers: BTreeMap<String, (i32, &'static Limits)>,
    /// Names of the values that were removed or do not fit together.
    implausible: BTreeSet<String>,
    at: Uptime,
}

/// Why a reading was rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Implausible(pub String);

/// The filter of one battery.
#[derive(Debug, Clone, Default)]
pub struct PlausibilityFilter {
    passed: Option<Candidate>,
    pending: Option<Candidate>,
}

impl PlausibilityFilter {
    /// Returns the reading without values that cannot exist.
    pub fn check(&mut self, reading: Reading, at: Uptime) -> Result<Reading, Implausible> {
        let mut reasons = Vec::new();
        let now = Candidate::new(reading, at, &mut reasons);
        for stored in [&mut self.passed, &mut self.pending] {
            stored.take_if(|stored| at.since(stored.at) > MAX_AGE_MS);
        }
        let is_first = self.passed.is_none() && now.implausible.is_empty();
        // It may be the same battery a little later.
        let confirms = |stored: &Option<Candidate>| {
            stored.as_ref().is_some_and(|stored| {
                now.implausible.is_subset(&stored.implausible) && now.jump_from(stored).is_none()
            })
        };
        if is_first || confirms(&self.passed) || confirms(&self.pending) {
            // Damage that recurs between good readings must not confirm itself.
            self.pending = None;
            return Ok(self.passed.insert(now).reading.clone());
        }
        reasons.extend(self.passed.as_ref().and_then(|passed| now.jump_from(passed)));
        self.pending = Some(now);
        Err(Implausible(reasons.join("; ")))
    }
}

/// Why these cannot be the values of a battery, if nothing but a valid frame confirms that they are:
/// brands with different registers share the requests of Modbus.
pub fn contradiction(reading: &Reading) -> Option<String> {
    let mut reasons = Vec::new();
    Candidate::new(reading.clone(), Uptime(0), &mut reasons);
    let pack = &reading.pack;
    let cells = reading.cells.iter().filter_map(|cell| cell.voltage);
    let has_voltage = pack.voltage.into_iter().chain(cells).any(|voltage| voltage.0 > 0);
    if !has_voltage && pack.soc.is_none_or(|soc| soc.0 == 0) {
        reasons.push("neither a voltage nor a state of charge".to_owned());
    }
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

impl Candidate {
    /// Removes values that cannot exist and adds the reasons.
    fn new(mut reading: Reading, at: Uptime, reasons: &mut Vec<String>) -> Self {
        let (mut numbers, mut implausible) = (BTreeMap::new(), BTreeSet::new());
        let mut is_impossible = |name: String, number: i32, limits: &'static Limits| {
            let possible = limits.range.contains(&number);
            if possible {
                numbers.insert(name, (number, limits));
            } else {
                reasons.push(format!("{name} cannot be {}", limits.with_unit(number)));
                implausible.insert(name);
            }
            !possible
        };
        for (number, cell) in (1..).zip(&mut reading.cells) {
            let number = usize::to_string(&number);
            let name = format!("the voltage of cell {number}");
            cell.voltage.take_if(|it| is_impossible(name, it.0, &CELL));
            let name = format!("the temperature of cell {number}");
            cell.temperature.take_if(|it| is_impossible(name, it.0, &CELL_SENSOR));
        }
        for (number, probe) in (1..).zip(&mut reading.probes) {
            let name = format!("the temperature of sensor {}", usize::to_string(&number));
            probe.value.take_if(|it| is_impossible(name, it.0, &SENSOR));
        }
        let pack = &mut reading.pack;
        pack.voltage.take_if(|it| is_impossible("the pack voltage".into(), it.0, &PACK));
        pack.current.take_if(|it| is_impossible("the current".into(), it.0, &CURRENT));
        pack.soc.take_if(|it| is_impossible("the state of charge".into(), it.0, &SOC));
        if let Some(mismatch) = sum_mismatch(&reading) {
            reasons.push(mismatch);
            implausible.insert("the sum of the cells".to_owned());
        }
        Candidate { reading, numbers, implausible, at }
    }

    /// The first value that changed by more than is usual from one read to the next.
    fn jump_from(&self, before: &Candidate) -> Option<String> {
        self.numbers.iter().find_map(|(name, (to, limits))| {
            let (from, _) = before.numbers.get(name)?;
            let jumped = i64::from(from.abs_diff(*to)) > (limits.max_jump)(*from);
            let [from, to] = [from, to].map(|number| limits.with_unit(*number));
            jumped.then(|| format!("{name} jumped from {from} to {to}"))
        })
    }
}

impl Limits {
    fn with_unit(&self, number: i32) -> String {
        format!("{} {}", Value::decimal(number.into(), self.scale), self.unit)
    }
}

/// The cells of one string add up to the pack voltage, those of parallel strings to a multiple.
fn sum_mismatch(reading: &Reading) -> Option<String> {
    let pack = reading.pack.voltage?.to_i64();
    let cells: Option<Vec<i64>> =
        reading.cells.iter().map(|cell| cell.voltage.map(Unit::to_i64)).collect();
    let sum: i64 = cells.filter(|cells| !cells.is_empty())?.into_iter().sum();
    let strings = if pack > 0 { ((sum + pack / 2) / pack).max(1) } else { 1 };
    let expected = strings * pack;
    let tolerance = (expected * SUM_TOLERANCE_PER_CENT / 100).max(PACK_TOLERANCE_MV);
    if (sum - expected).abs() <= tolerance {
        return None;
    }
    let [sum, pack] = [sum, pack].map(|millivolts| Value::decimal(millivolts, 3).rounded(2));
    Some(format!("the cells add up to {sum} V, the pack voltage is {pack} V"))
}

#[cfg(test)]
#[path = "plausible_tests.rs"]
mod tests;
