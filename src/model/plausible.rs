//! Holds back readings that no battery produces: damage that the checksum did not detect, replies of
//! another battery on the bus, one frame taken for another.
//!
//! The filter knows nothing of brands and chemistries, so an implausible reading may still be true:
//! a load that pulls a cell down, a gauge that jumps to 100 %, a disconnected sensor, parallel
//! strings whose cells do not add up to the pack voltage. It therefore rejects a reading only once:
//! when the next one is like it, that one passes. Only values that are not possible by the catalogue
//! are removed even then, and the rest of such a reading is published without them.

use std::collections::BTreeSet;
use std::fmt;

use super::catalog::{Kind, Quantity};
use super::reading::Reading;
use super::units::{Unit, Uptime};
use super::value::Value;

/// The largest usual change from a value to that of the next read; `None`: any change is usual.
type MaxJump = Option<fn(i64) -> i64>;

const CELL_JUMP: MaxJump = Some(|_| 500);
/// 15 %.
const PACK_JUMP: MaxJump = Some(|from| (from * 15 / 100).max(PACK_TOLERANCE_MV));
const SENSOR_JUMP: MaxJump = Some(|_| 200);
const SOC_JUMP: MaxJump = Some(|_| 2000);

/// Cells and pack are measured at different times by different converters.
const SUM_TOLERANCE_PER_CENT: i64 = 5;
/// Smallest tolerance of a pack voltage.
const PACK_TOLERANCE_MV: i64 = 1000;
/// A reading that is older than this says nothing about the next one.
const MAX_AGE_MS: u64 = 300_000;

/// What is compared with the next reading: of one that passed, or of one that waits for another like it.
#[derive(Debug, Clone)]
struct Candidate {
    /// In the order of their places.
    numbers: Vec<(Place, Number)>,
    /// Names of the values that were removed or do not fit together.
    implausible: BTreeSet<String>,
    at: Uptime,
}

/// A value that is compared with that of the next read.
#[derive(Debug, Clone)]
struct Number {
    value: i64,
    scale: u32,
    kind: Kind,
    max_jump: fn(i64) -> i64,
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scale {
            0 => self.value.fmt(f)?,
            scale => Value::decimal(self.value, scale).fmt(f)?,
        }
        self.kind.unit().map_or(Ok(()), |unit| write!(f, " {unit}"))
    }
}

/// A value of a reading. Its text is a name for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Pack(&'static str),
    /// What is measured, and the number of the cell.
    Cell(&'static str, usize),
    Sensor(usize),
    /// Which cell, and the number of the module.
    Module(&'static str, usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Pack(name) => write!(f, "the {}", name.to_lowercase()),
            Place::Cell(what, number) => write!(f, "the {what} of cell {number}"),
            Place::Sensor(number) => write!(f, "the temperature of sensor {number}"),
            Place::Module(which, number) => write!(f, "the {which} cell of module {number}"),
        }
    }
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
        let (mut now, mut reasons) = Candidate::new(&mut reading, at);
        now.note_undocumented_statuses(&reading, &mut reasons);
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
            self.passed = Some(now);
            return Ok(reading);
        }
        reasons.extend(self.passed.as_ref().and_then(|passed| now.jump_from(passed)));
        self.pending = Some(now);
        Err(Implausible(reasons.join("; ")))
    }
}

/// Why these cannot be the values of a battery, if nothing but a valid frame confirms that they are:
/// brands with different registers share the requests of Modbus.
pub fn contradiction(reading: &Reading) -> Option<String> {
    let (_, mut reasons) = Candidate::new(&mut reading.clone(), Uptime(0));
    let pack = &reading.pack;
    let cells = reading.cells.iter().filter_map(|cell| cell.voltage);
    let has_voltage = pack.voltage.into_iter().chain(cells).any(|voltage| voltage.0 > 0);
    if !has_voltage && pack.soc.is_none_or(|soc| soc.0 == 0) {
        reasons.push("neither a voltage nor a state of charge".to_owned());
    }
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

impl Candidate {
    /// Removes the values that cannot exist. Returns also what is implausible about the reading.
    fn new(reading: &mut Reading, at: Uptime) -> (Self, Vec<String>) {
        let Sieve { mut numbers, mut implausible, mut reasons } = Sieve::sift(reading);
        numbers.sort_unstable_by_key(|(place, _)| *place);
        if let Some(mismatch) = sum_mismatch(reading) {
            reasons.push(mismatch);
            implausible.insert("the sum of the cells".to_owned());
        }
        (Candidate { numbers, implausible, at }, reasons)
    }

    /// An unknown word may be line noise, so it needs a second reading.
    fn note_undocumented_statuses(&mut self, reading: &Reading, reasons: &mut Vec<String>) {
        for (subject, word) in reading.alarms.undocumented_statuses() {
            let subject = subject.replace('_', " ");
            reasons.push(format!("{subject} is {word}, which is unknown"));
            self.implausible.insert(format!("{subject} {word}"));
        }
    }

    /// The first value that changed by more than is usual from one read to the next.
    fn jump_from(&self, before: &Candidate) -> Option<String> {
        let mut earlier = before.numbers.iter().peekable();
        self.numbers.iter().find_map(|(name, to)| {
            // Both lists have the same order.
            while earlier.next_if(|(earlier, _)| earlier < name).is_some() {}
            let (_, from) = earlier.next_if(|(earlier, _)| earlier == name)?;
            let jumped = (to.value - from.value).abs() > (to.max_jump)(from.value);
            jumped.then(|| format!("{name} jumped from {from} to {to}"))
        })
    }
}

/// Removes the values that no battery can have; returns why each of them was removed.
pub fn remove_impossible(reading: &mut Reading) -> Vec<String> {
    Sieve::sift(reading).reasons
}

/// Separates the values that any battery can have from those that none has.
#[derive(Debug, Default)]
struct Sieve {
    /// The possible ones that are compared with the next read.
    numbers: Vec<(Place, Number)>,
    /// The names of those that were removed.
    implausible: BTreeSet<String>,
    reasons: Vec<String>,
}

impl Sieve {
    fn sift(reading: &mut Reading) -> Self {
        let mut sieve = Sieve::default();
        let [voltage, temperature, resistance] =
            ["cell_{}_voltage", "cell_{}_temp", "cell_{}_resistance"].map(Quantity::row);
        for (number, cell) in (1..).zip(&mut reading.cells) {
            let place = |what| Place::Cell(what, number);
            sieve.take(voltage, place("voltage"), &mut cell.voltage, CELL_JUMP);
            sieve.take(temperature, place("temperature"), &mut cell.temperature, None);
            sieve.take(resistance, place("resistance"), &mut cell.resistance, None);
        }
        let sensor = Quantity::row("temp_{}");
        for (number, probe) in (1..).zip(&mut reading.probes) {
            sieve.take(sensor, Place::Sensor(number), &mut probe.value, SENSOR_JUMP);
        }
        let range = Quantity::row("module_{}_min_cell_voltage");
        for (number, module) in (1..).zip(&mut reading.modules) {
            let Some((low, high)) = module.range else { continue };
            let (mut low, mut high) = (Some(low), Some(high));
            sieve.take(range, Place::Module("lowest", number), &mut low, None);
            sieve.take(range, Place::Module("highest", number), &mut high, None);
            module.range = low.zip(high);
        }
        sieve.sift_pack(reading);
        sieve
    }

    fn sift_pack(&mut self, reading: &mut Reading) {
        let (pack, limits) = (&mut reading.pack, &mut reading.limits);
        self.pack("pack_voltage", &mut pack.voltage, PACK_JUMP);
        self.pack("pack_current", &mut pack.current, None);
        self.pack("power", &mut pack.power, None);
        self.pack("soc", &mut pack.soc, SOC_JUMP);
        self.pack("soh", &mut pack.soh, None);
        self.pack("remaining_capacity", &mut pack.remaining, None);
        self.pack("full_capacity", &mut pack.full, None);
        self.pack("design_capacity", &mut pack.design, None);
        self.pack("remaining_energy", &mut pack.remaining_energy, None);
        self.pack("cycle_count", &mut pack.cycles, None);
        self.pack("charge_voltage_limit", &mut limits.charge_voltage, None);
        self.pack("discharge_voltage_limit", &mut limits.discharge_voltage, None);
        self.pack("charge_current_limit", &mut limits.charge_current, None);
        self.pack("discharge_current_limit", &mut limits.discharge_current, None);
        self.pack("cell_voltage_upper_limit", &mut limits.cell_upper, None);
        self.pack("cell_voltage_lower_limit", &mut limits.cell_lower, None);
        self.pack("pack_voltage_upper_limit", &mut limits.pack_upper, None);
        self.pack("pack_voltage_lower_limit", &mut limits.pack_lower, None);
    }

    /// A value of the pack, with the name that it has in the catalogue.
    fn pack<T: Unit>(&mut self, key: &str, value: &mut Option<T>, max_jump: MaxJump) {
        let Some(quantity) = Quantity::row(key) else { return };
        self.take(Some(quantity), Place::Pack(quantity.name), value, max_jump);
    }

    fn take<T: Unit>(
        &mut self,
        quantity: Option<&Quantity>,
        place: Place,
        value: &mut Option<T>,
        max_jump: MaxJump,
    ) {
        let (Some(quantity), Some(taken)) = (quantity, *value) else { return };
        let number = |max_jump| Number {
            value: taken.to_i64(),
            scale: T::SCALE,
            kind: quantity.kind,
            max_jump,
        };
        if !quantity.is_possible(taken) {
            self.reasons.push(format!("{place} cannot be {}", number(|_| 0)));
            self.implausible.insert(place.to_string());
            *value = None;
        } else if let Some(max_jump) = max_jump {
            self.numbers.push((place, number(max_jump)));
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
    if (sum - expected).abs() <= tolerance {
        return None;
    }
    let [sum, pack] = [sum, pack].map(|millivolts| Value::decimal(millivolts, 3).rounded(2));
    Some(format!("the cells add up to {sum} V, the pack voltage is {pack} V"))
}

#[cfg(test)]
#[path = "plausible_tests.rs"]
mod tests;
