//! Keeps readings that no battery gives from being published: damage that a checksum let through,
//! answers of a neighbour on the bus, a frame that was taken for another.
//!
//! The gate knows nothing of brands and chemistries, so what it finds strange may be true: a load
//! that pulls a cell down, a gauge that jumps to 100 %, a sensor that came loose, parallel strings
//! whose cells do not add up to the pack voltage. Therefore it never refuses twice: a strange
//! reading waits for the next one, and when that says the same, it is the truth. Only values that
//! cannot exist stay out even then, and the rest of such a reading is published without them.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::reading::Reading;
use super::units::Uptime;
use super::value::Value;

/// From a reversed cell to the 16 V of a block of eight lead cells that is measured as one.
const CELL_MV: RangeInclusive<i32> = -2000..=16_000;
/// From nothing to the largest high-voltage stack.
const PACK_MV: RangeInclusive<i32> = -2000..=1_500_000;
/// 20 kA would melt any terminal.
const CURRENT_MA: RangeInclusive<i32> = -20_000_000..=20_000_000;
/// Colder and hotter than any electronics survive. A loose sensor reads -40 °C, or absolute zero.
const TEMPERATURE_DC: RangeInclusive<i32> = -600..=2000;
/// Some gauges count a little beyond full.
const SOC_CP: RangeInclusive<i32> = 0..=12_000;

/// A cell that moves further between two reads is worth a second look.
const CELL_JUMP_MV: i32 = 500;
/// Cells and pack are measured in different moments by different converters.
const SUM_PER_CENT: i64 = 5;
const SUM_LEAST_MV: i64 = 1000;
/// A pack voltage that moves further, in per cent, is worth a second look.
const PACK_JUMP_PER_CENT: i64 = 15;
const TEMPERATURE_JUMP_DC: i32 = 200;
const SOC_JUMP_CP: i32 = 2000;
/// After this time every value may be another one.
const MEMORY_MS: u64 = 300_000;

/// A place in a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Field {
    Cell(usize),
    CellTemperature(usize),
    Probe(usize),
    Voltage,
    Current,
    Charge,
    /// The cells do not add up to a multiple of the pack voltage.
    Sum,
}

/// A reading that was let through or is waiting for another like it.
#[derive(Debug, Clone)]
struct Candidate {
    reading: Reading,
    strange: BTreeSet<Field>,
    at: Uptime,
}

/// Why a reading was not let through, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Implausible(pub String);

/// The gate of one battery.
#[derive(Debug, Clone, Default)]
pub struct PlausibilityFilter {
    good: Option<Candidate>,
    doubtful: Option<Candidate>,
}

impl PlausibilityFilter {
    /// Lets a reading through, perhaps without values that cannot exist. `at` is a moment of a
    /// clock that never jumps.
    pub fn check(&mut self, mut reading: Reading, at: Uptime) -> Result<Reading, Implausible> {
        let mut words = Vec::new();
        let mut strange = remove_impossible(&mut reading, &mut words);
        if let Some(odd) = odd_sum(&reading) {
            strange.insert(Field::Sum);
            words.push(odd);
        }
        let now = Candidate { reading, strange, at };
        let young = |it: &Option<Candidate>| it.clone().filter(|it| at.since(it.at) <= MEMORY_MS);
        let (good, doubtful) = (young(&self.good), young(&self.doubtful));
        let confirms =
            |before: &Option<Candidate>| before.as_ref().is_some_and(|before| now.is_like(before));
        let unheard = good.is_none() && now.strange.is_empty();
        if unheard || confirms(&good) || confirms(&doubtful) {
            // Damage that comes back now and then must not confirm itself.
            self.doubtful = None;
            self.good = Some(now.clone());
            return Ok(now.reading);
        }
        words.extend(good.and_then(|before| jump(&before.reading, &now.reading)));
        self.doubtful = Some(now);
        Err(Implausible(words.join("; ")))
    }
}

impl Candidate {
    /// Whether this may be the same battery a little later.
    fn is_like(&self, before: &Candidate) -> bool {
        self.strange.is_subset(&before.strange) && jump(&before.reading, &self.reading).is_none()
    }
}

/// Takes out what cannot exist.
fn remove_impossible(reading: &mut Reading, words: &mut Vec<String>) -> BTreeSet<Field> {
    let mut strange = BTreeSet::new();
    let mut refuse = |spot: Field, what: String, value: Value, unit: &str| {
        words.push(format!("{what} at {value} {unit} cannot be"));
        strange.insert(spot);
    };
    for (index, cell) in reading.cells.iter_mut().enumerate() {
        let number = index + 1;
        if let Some(wrong) = cell.voltage.take_if(|it| !CELL_MV.contains(&it.0)) {
            refuse(Field::Cell(index), format!("cell {number}"), wrong.into(), "V");
        }
        if let Some(wrong) = cell.temperature.take_if(|it| !TEMPERATURE_DC.contains(&it.0)) {
            refuse(Field::CellTemperature(index), format!("cell {number}"), wrong.into(), "°C");
        }
    }
    for (index, probe) in reading.probes.iter_mut().enumerate() {
        if let Some(wrong) = probe.value.take_if(|it| !TEMPERATURE_DC.contains(&it.0)) {
            refuse(Field::Probe(index), format!("sensor {}", index + 1), wrong.into(), "°C");
        }
    }
    let pack = &mut reading.pack;
    if let Some(wrong) = pack.voltage.take_if(|it| !PACK_MV.contains(&it.0)) {
        refuse(Field::Voltage, "the pack".to_owned(), wrong.into(), "V");
    }
    if let Some(wrong) = pack.current.take_if(|it| !CURRENT_MA.contains(&it.0)) {
        refuse(Field::Current, "the current".to_owned(), wrong.into(), "A");
    }
    if let Some(wrong) = pack.soc.take_if(|it| !SOC_CP.contains(&it.0)) {
        refuse(Field::Charge, "the state of charge".to_owned(), wrong.into(), "%");
    }
    strange
}

/// The cells of one string add up to the pack voltage, those of parallel strings to a multiple.
fn odd_sum(reading: &Reading) -> Option<String> {
    let pack = i64::from(reading.pack.voltage?.0);
    let cells: Option<Vec<i64>> =
        reading.cells.iter().map(|cell| cell.voltage.map(|it| i64::from(it.0))).collect();
    let sum: i64 = cells.filter(|cells| !cells.is_empty())?.into_iter().sum();
    let strings = if pack > 0 { ((sum + pack / 2) / pack).max(1) } else { 1 };
    let expected = strings * pack;
    if (sum - expected).abs() <= (expected * SUM_PER_CENT / 100).max(SUM_LEAST_MV) {
        return None;
    }
    let [sum, pack] = [sum, pack].map(|it| Value::decimal(it, 3).rounded(2));
    Some(format!("the cells add up to {sum} V, the pack says {pack} V"))
}

/// What moved further than is usual from one read to the next.
fn jump(before: &Reading, now: &Reading) -> Option<String> {
    let far = |from: i32, to: i32, limit: i32| from.abs_diff(to) > limit.unsigned_abs();
    let moved = |what: String, from: Value, to: Value, unit: &str| {
        Some(format!("{what} jumped from {from} to {to} {unit}"))
    };
    for (index, (old, new)) in before.cells.iter().zip(&now.cells).enumerate() {
        if let (Some(from), Some(to)) = (old.voltage, new.voltage)
            && far(from.0, to.0, CELL_JUMP_MV)
        {
            return moved(format!("cell {}", index + 1), from.into(), to.into(), "V");
        }
    }
    for (index, (old, new)) in before.probes.iter().zip(&now.probes).enumerate() {
        if let (Some(from), Some(to)) = (old.value, new.value)
            && far(from.0, to.0, TEMPERATURE_JUMP_DC)
        {
            return moved(format!("sensor {}", index + 1), from.into(), to.into(), "°C");
        }
    }
    if let (Some(from), Some(to)) = (before.pack.soc, now.pack.soc)
        && far(from.0, to.0, SOC_JUMP_CP)
    {
        return moved("the state of charge".to_owned(), from.into(), to.into(), "%");
    }
    if let (Some(from), Some(to)) = (before.pack.voltage, now.pack.voltage) {
        let limit = (i64::from(from.0) * PACK_JUMP_PER_CENT / 100).max(SUM_LEAST_MV);
        if i64::from(from.0.abs_diff(to.0)) > limit {
            return moved("the pack".to_owned(), from.into(), to.into(), "V");
        }
    }
    None
}

#[cfg(test)]
#[path = "plausible_tests.rs"]
mod tests;
