//! Holds back readings that no battery produces: damage that the checksum did not detect, replies of
//! another battery on the bus, one frame taken for another.
//!
//! The filter knows nothing of brands and chemistries, so an implausible reading may still be true:
//! a load that pulls a cell down, a gauge that jumps to 100 %, a disconnected sensor, parallel
//! strings whose cells do not add up to the pack voltage. It therefore rejects a reading only once:
//! when the next one is like it, that one passes. Only values that cannot exist are removed even
//! then, and the rest of such a reading is published without them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;

use super::reading::Reading;
use super::units::{CentiPercent, DeciCelsius, Milliamps, Millivolts, Unit, Uptime};
use super::value::Value;

/// From a reversed cell to the 16 V of a block of eight lead cells that is measured as one.
const CELL_MV: RangeInclusive<i32> = -2000..=16_000;
/// Up to the largest high-voltage stack.
const PACK_MV: RangeInclusive<i32> = -2000..=1_500_000;
/// 20 kA would melt any terminal.
const CURRENT_MA: RangeInclusive<i32> = -20_000_000..=20_000_000;
/// No electronics work beyond it. A disconnected sensor reads -40 °C, or absolute zero.
const TEMPERATURE_DC: RangeInclusive<i32> = -600..=2000;
/// Some gauges count a little beyond full.
const SOC_CP: RangeInclusive<i32> = 0..=12_000;

/// Largest usual changes between two reads.
const CELL_JUMP_MV: i64 = 500;
const TEMPERATURE_JUMP_DC: i64 = 200;
const SOC_JUMP_CP: i64 = 2000;
const PACK_JUMP_PER_CENT: i64 = 15;
/// Cells and pack are measured at different times by different converters.
const SUM_TOLERANCE_PER_CENT: i64 = 5;
/// Smallest tolerance of a pack voltage.
const PACK_TOLERANCE_MV: i64 = 1000;
/// A reading that is older than this says nothing about the next one.
const MAX_AGE_MS: u64 = 300_000;

/// A value of a reading; indices count from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Field {
    Cell(usize),
    CellTemperature(usize),
    Probe(usize),
    Voltage,
    Current,
    Soc,
    /// The cells do not add up to a multiple of the pack voltage.
    Sum,
}

/// A reading that passed, or one that waits for another like it.
#[derive(Debug, Clone)]
struct Candidate {
    reading: Reading,
    implausible: BTreeSet<Field>,
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
    pub fn check(&mut self, mut reading: Reading, at: Uptime) -> Result<Reading, Implausible> {
        let mut reasons = Vec::new();
        let mut implausible = BTreeSet::new();
        for (field, number) in numbers(&reading) {
            if !field.range().contains(&number) {
                reasons.push(format!("{field} cannot be {}", field.with_unit(number)));
                implausible.insert(field);
                field.remove_from(&mut reading);
            }
        }
        if let Some(mismatch) = sum_mismatch(&reading) {
            reasons.push(mismatch);
            implausible.insert(Field::Sum);
        }
        let now = Candidate { reading, implausible, at };
        for stored in [&mut self.passed, &mut self.pending] {
            stored.take_if(|stored| at.since(stored.at) > MAX_AGE_MS);
        }
        let is_first = self.passed.is_none() && now.implausible.is_empty();
        let stored = [&self.passed, &self.pending].into_iter().flatten().collect::<Vec<_>>();
        if is_first || stored.iter().any(|before| now.is_like(before)) {
            // Damage that recurs between good readings must not confirm itself.
            self.pending = None;
            return Ok(self.passed.insert(now).reading.clone());
        }
        reasons.extend(self.passed.as_ref().and_then(|it| jump(&it.reading, &now.reading)));
        self.pending = Some(now);
        Err(Implausible(reasons.join("; ")))
    }
}

impl Candidate {
    /// Whether this may be the same battery a little later.
    fn is_like(&self, before: &Candidate) -> bool {
        self.implausible.is_subset(&before.implausible)
            && jump(&before.reading, &self.reading).is_none()
    }
}

/// The checked values of a reading, in millivolts, milliamps and so on.
fn numbers(reading: &Reading) -> BTreeMap<Field, i32> {
    let cells = reading.cells.iter().enumerate().flat_map(|(index, cell)| {
        let temperature = cell.temperature.map(|it| it.0);
        [
            (Field::Cell(index), cell.voltage.map(|it| it.0)),
            (Field::CellTemperature(index), temperature),
        ]
    });
    let probes = reading.probes.iter().enumerate();
    let probes = probes.map(|(index, probe)| (Field::Probe(index), probe.value.map(|it| it.0)));
    let pack = [
        (Field::Voltage, reading.pack.voltage.map(|it| it.0)),
        (Field::Current, reading.pack.current.map(|it| it.0)),
        (Field::Soc, reading.pack.soc.map(|it| it.0)),
    ];
    cells.chain(probes).chain(pack).filter_map(|(field, number)| Some((field, number?))).collect()
}

impl Field {
    fn range(self) -> RangeInclusive<i32> {
        match self {
            Field::Cell(_) => CELL_MV,
            Field::CellTemperature(_) | Field::Probe(_) => TEMPERATURE_DC,
            Field::Voltage | Field::Sum => PACK_MV,
            Field::Current => CURRENT_MA,
            Field::Soc => SOC_CP,
        }
    }

    /// `None` for a value that may change at any time.
    fn max_jump(self, from: i32) -> Option<i64> {
        match self {
            Field::Cell(_) => Some(CELL_JUMP_MV),
            Field::Probe(_) => Some(TEMPERATURE_JUMP_DC),
            Field::Soc => Some(SOC_JUMP_CP),
            Field::Voltage => {
                Some((i64::from(from) * PACK_JUMP_PER_CENT / 100).max(PACK_TOLERANCE_MV))
            }
            Field::CellTemperature(_) | Field::Current | Field::Sum => None,
        }
    }

    fn with_unit(self, number: i32) -> String {
        let (scale, unit) = match self {
            Field::Cell(_) | Field::Voltage | Field::Sum => (Millivolts::SCALE, "V"),
            Field::CellTemperature(_) | Field::Probe(_) => (DeciCelsius::SCALE, "°C"),
            Field::Current => (Milliamps::SCALE, "A"),
            Field::Soc => (CentiPercent::SCALE, "%"),
        };
        format!("{} {unit}", Value::decimal(number.into(), scale))
    }

    fn remove_from(self, reading: &mut Reading) {
        match self {
            Field::Cell(index) => reading.cells[index].voltage = None,
            Field::CellTemperature(index) => reading.cells[index].temperature = None,
            Field::Probe(index) => reading.probes[index].value = None,
            Field::Voltage => reading.pack.voltage = None,
            Field::Current => reading.pack.current = None,
            Field::Soc => reading.pack.soc = None,
            Field::Sum => {}
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Field::Cell(index) => write!(f, "the voltage of cell {}", index + 1),
            Field::CellTemperature(index) => write!(f, "the temperature of cell {}", index + 1),
            Field::Probe(index) => write!(f, "the temperature of sensor {}", index + 1),
            Field::Voltage | Field::Sum => f.write_str("the pack voltage"),
            Field::Current => f.write_str("the current"),
            Field::Soc => f.write_str("the state of charge"),
        }
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
    let [shown_sum, shown_pack] = [sum, pack].map(|it| Value::decimal(it, 3).rounded(2));
    ((sum - expected).abs() > tolerance)
        .then(|| format!("the cells add up to {shown_sum} V, the pack voltage is {shown_pack} V"))
}

/// The first value that changed by more than is usual from one read to the next.
fn jump(before: &Reading, now: &Reading) -> Option<String> {
    let before = numbers(before);
    numbers(now).into_iter().find_map(|(field, to)| {
        let from = *before.get(&field)?;
        let jumped = i64::from(from.abs_diff(to)) > field.max_jump(from)?;
        let [from, to] = [from, to].map(|number| field.with_unit(number));
        jumped.then(|| format!("{field} jumped from {from} to {to}"))
    })
}

#[cfg(test)]
#[path = "plausible_tests.rs"]
mod tests;
