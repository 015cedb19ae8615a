//! How the cells of a battery behave, as counts and sums of a day: parts of a day are added, and many days are small.
//!
//! The cells are compared once a minute, in one of three conditions, in which one day can be compared with another.

use super::capacity_run::{CapacityRun, EMPTY, FULL};
pub use super::capacity_run::{KeptRun, MAX_GAP};
use super::named_enum::named_enum;
use super::reading::Pack;
use super::snapshot::Snapshot;
use super::units::{Milliamps, Uptime, divide_rounded};

named_enum! {
    Condition {
        /// Between full and empty, after [`REST_TIME`] with next to no current.
        Rest = "rest",
        /// At [`FULL`] or above, charging or with next to no current.
        Full = "full",
        /// At [`EMPTY`] or below.
        Empty = "empty",
    }
}

/// The voltage of a cell settles for hours, but most of it in minutes. In milliseconds.
const REST_TIME: u64 = 10 * 60_000;
/// A current that empties the battery in 50 hours counts as none: a house at night. The voltages then differ by the
/// resistances of the cells by less than a millivolt.
const REST_HOURS: i64 = 50;
/// Where the capacity is unknown, in milliamps.
const REST_CURRENT: i64 = 1000;
/// In milliseconds.
const SAMPLE_INTERVAL: u64 = 60_000;

/// What was observed on a day.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HealthDay {
    /// Days since 1970-01-01 in local time.
    pub number: u32,
    /// Those of [`Total`], then those of [`CellTotal`] for each cell.
    numbers: Vec<i32>,
}

/// Numbers of the battery.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub enum Total {
    /// Samples with a single lowest and a single highest cell.
    Ranked,
    /// Samples with the resistance of every cell.
    Resistances,
    /// Seconds for which is known which cells were balanced.
    BalancingKnown,
    /// Capacity estimates.
    Runs,
    /// Their sum in milliamp-hours.
    Capacity,
    /// Estimates with a temperature.
    Temperatures,
    /// The sum of these in tenths of a degree.
    Temperature,
    /// Samples in the first condition; two more follow.
    Samples,
    /// Sum of the spread between the cells in the first condition, in millivolts; two more follow.
    Spread = 10,
}

/// Numbers of a cell.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub enum CellTotal {
    /// Samples in which it was the lowest.
    Lowest,
    Highest,
    /// Seconds.
    Balanced,
    /// Sum in microohms.
    Resistance,
    /// Sum of the difference to the mean of all cells in the first condition, in tenths of a millivolt; two more follow.
    Deviation,
}

const TOTALS: usize = 13;
const CELL_TOTALS: usize = 7;

impl HealthDay {
    fn of(cells: usize) -> Self {
        HealthDay { number: 0, numbers: vec![0; TOTALS + CELL_TOTALS * cells] }
    }

    /// `None` unless this is the number of numbers of a day.
    pub fn restore(number: u32, numbers: Vec<i32>) -> Option<Self> {
        let is_valid =
            numbers.len() >= TOTALS && (numbers.len() - TOTALS).is_multiple_of(CELL_TOTALS);
        is_valid.then_some(HealthDay { number, numbers })
    }

    /// The same on another day.
    pub fn on(self, number: u32) -> Self {
        HealthDay { number, ..self }
    }

    pub fn numbers(&self) -> &[i32] {
        &self.numbers
    }

    pub fn cells(&self) -> usize {
        self.numbers.len().saturating_sub(TOTALS) / CELL_TOTALS
    }

    pub fn total(&self, total: Total) -> i64 {
        self.at(total as usize)
    }

    /// `cell`: from 0.
    pub fn cell(&self, cell: usize, total: CellTotal) -> i64 {
        self.at(TOTALS + cell * CELL_TOTALS + total as usize)
    }

    pub fn samples(&self, condition: Condition) -> i64 {
        self.at(Total::Samples as usize + condition as usize)
    }

    pub fn spread(&self, condition: Condition) -> i64 {
        self.at(Total::Spread as usize + condition as usize)
    }

    pub fn deviation(&self, cell: usize, condition: Condition) -> i64 {
        let first = CellTotal::Deviation as usize;
        self.at(TOTALS + cell * CELL_TOTALS + first + condition as usize)
    }

    /// Adds another part of the day, or another day.
    pub fn add(&mut self, other: &HealthDay) {
        if self.numbers.len() < other.numbers.len() {
            self.numbers.resize(other.numbers.len(), 0);
        }
        for (number, more) in self.numbers.iter_mut().zip(&other.numbers) {
            *number = number.saturating_add(*more);
        }
    }

    fn at(&self, index: usize) -> i64 {
        self.numbers.get(index).copied().unwrap_or_default().into()
    }

    fn count(&mut self, index: usize, more: i64) {
        if let Some(number) = self.numbers.get_mut(index) {
            *number = number.saturating_add(i32::try_from(more).unwrap_or(i32::MAX));
        }
    }

    fn count_total(&mut self, total: Total, more: i64) {
        self.count(total as usize, more);
    }

    fn count_cell(&mut self, cell: usize, total: CellTotal, more: i64) {
        self.count(TOTALS + cell * CELL_TOTALS + total as usize, more);
    }
}

/// What one battery does from reading to reading.
#[derive(Debug, Clone, Default)]
pub struct HealthMonitor {
    last: Option<Uptime>,
    sampled: Option<Uptime>,
    resting: Option<Uptime>,
    run: CapacityRun,
}

impl HealthMonitor {
    /// What this reading adds to its day; nothing for most readings.
    pub fn observe(&mut self, at: Uptime, snapshot: &Snapshot) -> Option<HealthDay> {
        // Banks have no cells, and their capacity is that of their members.
        if snapshot.derived.bank.is_some() {
            return None;
        }
        let pack = &snapshot.reading.pack;
        let is_gap = self.last.replace(at).is_some_and(|last| at.since(last) > MAX_GAP);
        self.resting = self.resting.filter(|_| !is_gap && is_at_rest(pack));
        if is_at_rest(pack) {
            self.resting.get_or_insert(at);
        }
        let capacity = self.run.update(at, pack, snapshot.derived.avg_temp);
        let is_due = self.sampled.is_none_or(|last| at.since(last) >= SAMPLE_INTERVAL);
        if capacity.is_none() && !is_due {
            return None;
        }
        let mut day = HealthDay::of(snapshot.reading.cells.len());
        if let Some((capacity, temperature)) = capacity {
            day.count_total(Total::Runs, 1);
            day.count_total(Total::Capacity, capacity.0);
            if let Some(temperature) = temperature {
                day.count_total(Total::Temperatures, 1);
                day.count_total(Total::Temperature, temperature.0.into());
            }
        }
        if is_due {
            let elapsed = self.sampled.replace(at).map_or(0, |last| at.since(last));
            let elapsed = if elapsed > MAX_GAP { 0 } else { elapsed / 1000 };
            self.sample(at, snapshot, i64::try_from(elapsed).unwrap_or_default(), &mut day);
        }
        day.numbers.iter().any(|number| *number != 0).then_some(day)
    }

    /// The run from full to empty in progress, which outlasts a restart.
    pub fn kept_run(&self) -> Option<KeptRun> {
        self.run.kept()
    }

    /// Continues a run `gap` milliseconds after its last reading.
    pub fn restore_run(&mut self, kept: KeptRun, at: Uptime, gap: u64) {
        self.run.restore(kept, at, gap);
    }

    /// `elapsed`: seconds since the last sample.
    fn sample(&self, at: Uptime, snapshot: &Snapshot, elapsed: i64, day: &mut HealthDay) {
        let cells = &snapshot.reading.cells;
        if cells.iter().any(|cell| cell.balancing.is_some()) {
            day.count_total(Total::BalancingKnown, elapsed);
        }
        for (number, _) in (0..).zip(cells).filter(|(_, cell)| cell.balancing == Some(true)) {
            day.count_cell(number, CellTotal::Balanced, elapsed);
        }
        let resistances: Option<Vec<i64>> =
            cells.iter().map(|cell| cell.resistance.map(|it| it.0.into())).collect();
        if let Some(resistances) = resistances.filter(|list| !list.is_empty()) {
            day.count_total(Total::Resistances, 1);
            for (number, resistance) in resistances.into_iter().enumerate() {
                day.count_cell(number, CellTotal::Resistance, resistance);
            }
        }
        let voltages: Option<Vec<i64>> =
            cells.iter().map(|cell| cell.voltage.map(|it| it.0.into())).collect();
        if let Some(voltages) = voltages.filter(|list| list.len() > 1) {
            compare(&voltages, self.condition(at, &snapshot.reading.pack), day);
        }
    }

    fn condition(&self, at: Uptime, pack: &Pack) -> Option<Condition> {
        match pack.soc {
            Some(soc) if soc >= FULL => {
                let is_charging = pack.current.is_some_and(|current| current.0 > 0);
                (is_charging || is_at_rest(pack)).then_some(Condition::Full)
            }
            Some(soc) if soc <= EMPTY => Some(Condition::Empty),
            _ => {
                self.resting.filter(|since| at.since(*since) >= REST_TIME).map(|_| Condition::Rest)
            }
        }
    }
}

fn is_at_rest(pack: &Pack) -> bool {
    let capacity = pack.full.or(pack.design).map(|capacity| capacity.0 / REST_HOURS);
    let limit = capacity.filter(|limit| *limit > 0).unwrap_or(REST_CURRENT);
    pack.current.is_some_and(|Milliamps(current)| i64::from(current).abs() <= limit)
}

/// In millivolts.
fn compare(voltages: &[i64], condition: Option<Condition>, day: &mut HealthDay) {
    let (mut lowest, mut highest) = (0, 0);
    for (number, voltage) in voltages.iter().enumerate() {
        lowest = if *voltage < voltages[lowest] { number } else { lowest };
        highest = if *voltage > voltages[highest] { number } else { highest };
    }
    let is_single =
        |it: usize| voltages.iter().filter(|other| **other == voltages[it]).count() == 1;
    if is_single(lowest) && is_single(highest) {
        day.count_total(Total::Ranked, 1);
        day.count_cell(lowest, CellTotal::Lowest, 1);
        day.count_cell(highest, CellTotal::Highest, 1);
    }
    let Some(condition) = condition else { return };
    let offset = condition as usize;
    day.count(Total::Samples as usize + offset, 1);
    day.count(Total::Spread as usize + offset, voltages[highest] - voltages[lowest]);
    let count = i64::try_from(voltages.len()).unwrap_or(i64::MAX);
    let mean = divide_rounded(voltages.iter().sum::<i64>() * 10, count);
    for (number, voltage) in voltages.iter().enumerate() {
        let index = TOTALS + number * CELL_TOTALS + CellTotal::Deviation as usize + offset;
        day.count(index, voltage * 10 - mean);
    }
}

#[cfg(test)]
#[path = "cell_health_tests.rs"]
pub(super) mod tests;
