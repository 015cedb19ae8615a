//! The health of the cells, computed from the days of a battery, with a sentence chosen by rules.

use super::cell_health::{CellTotal, Condition, HealthDay, Total};
use super::units::{DeciCelsius, Microohms, MilliampHours, Millivolts, divide_rounded};
use super::value::Value;

/// Values are those of this many days.
const RECENT_DAYS: u32 = 30;
/// The drift is that of this many days.
const DRIFT_DAYS: u32 = 90;
/// Days with values, and days between the first and the last, that an estimate of the drift requires.
pub const MIN_DRIFT_DAYS: u32 = 14;
/// Days in one condition that a sentence about the cells requires.
pub const MIN_DAYS: usize = 3;
/// Minutes in one condition before a day counts.
const MIN_SAMPLES: i64 = 10;
/// The square of the standard errors that a slope must have to be one: five, as one of many cells always has the
/// largest.
const SIGNIFICANCE: i128 = 25;
/// In tenths of a millivolt a month. Less is not worth a sentence.
const MIN_DRIFT: i64 = 10;

/// A spread up to this is even, and a cell that is further below the mean of all is weak. In tenths of a millivolt. The
/// voltage of LFP hardly depends on the charge in the middle, and steeply at both ends.
fn limit(condition: Condition) -> i64 {
    match condition {
        Condition::Rest => 100,
        Condition::Full => 500,
        Condition::Empty => 500,
    }
}

/// The order in which conditions are looked at. Differences in charge show at the ends.
const BY_MEANING: [Condition; 3] = [Condition::Full, Condition::Rest, Condition::Empty];

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HealthReport {
    /// Days with any values.
    pub days: usize,
    /// Recent days with values in one condition.
    pub usable_days: usize,
    pub cells: Vec<CellReport>,
    /// By condition: mean spread in tenths of a millivolt.
    pub spread: [Option<i64>; 3],
    /// The condition in which the drift is measured.
    pub drift_at: Option<Condition>,
    pub capacity: Option<CapacityEstimate>,
    pub finding: Finding,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CellReport {
    /// Share of the samples in which it was the lowest or the highest, in thousandths.
    pub lowest: Option<i64>,
    pub highest: Option<i64>,
    /// By condition: difference to the mean of all cells, in tenths of a millivolt.
    pub deviation: [Option<i64>; 3],
    /// In tenths of a millivolt a month.
    pub drift: Option<i64>,
    /// The drift is more than noise.
    pub drifts: bool,
    /// Seconds in the recent days.
    pub balanced: Option<i64>,
    pub resistance: Option<Microohms>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapacityEstimate {
    pub capacity: MilliampHours,
    pub temperature: Option<DeciCelsius>,
    pub runs: i64,
}

/// The few values that are published.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HealthSummary {
    pub spread_full: Option<Millivolts>,
    pub spread_rest: Option<Millivolts>,
    /// Number, from 1.
    pub weakest_cell: Option<usize>,
    pub capacity: Option<MilliampHours>,
}

/// A code and its parameters, so that a page can translate it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Finding {
    pub kind: FindingKind,
    /// Number, from 1.
    pub cell: Option<usize>,
    /// In tenths of a millivolt.
    pub difference: Option<i64>,
    pub condition: Option<Condition>,
    /// In tenths of a millivolt a month.
    pub drift: Option<i64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FindingKind {
    NoCells,
    #[default]
    NoData,
    Worse,
    Drifts,
    Weak,
    Uneven,
    Even,
}

impl FindingKind {
    /// Code and sentence. `{where}` is the condition.
    pub fn text(self) -> (&'static str, &'static str) {
        match self {
            FindingKind::NoCells => ("no_cells", "The battery does not report its cells."),
            FindingKind::NoData => (
                "no_data",
                "Not enough data yet: {days} of {needed} days with the battery at rest, full or empty.",
            ),
            FindingKind::Worse => {
                ("worse", "Cell {cell} drops first and is getting worse ({drift} mV a month).")
            }
            FindingKind::Drifts => {
                ("drifts", "Cell {cell} drifts away from the others ({drift} mV a month).")
            }
            FindingKind::Weak => {
                ("weak", "Cell {cell} drops first ({mv} mV below the others {where}).")
            }
            FindingKind::Uneven => ("uneven", "Cells differ by {mv} mV {where}."),
            FindingKind::Even => ("even", "Cells are even ({mv} mV {where})."),
        }
    }
}

/// The first rule that applies makes the sentence.
const RULES: [fn(&HealthReport) -> Option<Finding>; 5] = [worse, drifts, weak, uneven, even];

impl HealthReport {
    /// `days`: in their order. `has_cells`: the battery reports its cells, or is not known yet.
    pub fn new(days: &[HealthDay], today: u32, has_cells: bool) -> Self {
        // Later ones were observed while the clock was wrong.
        let days = &days[..days.partition_point(|day| day.number <= today)];
        let since = |count: u32| {
            let first = today.saturating_sub(count - 1);
            &days[days.partition_point(|day| day.number < first)..]
        };
        let recent = since(RECENT_DAYS);
        let mut sum = HealthDay::default();
        recent.iter().for_each(|day| sum.add(day));
        let days_in = |days: &[HealthDay], condition| {
            days.iter().filter(|day| day.samples(condition) >= MIN_SAMPLES).count()
        };
        let mean = |total: i64, condition: Condition| {
            let is_known = days_in(recent, condition) >= MIN_DAYS;
            is_known.then(|| divide_rounded(total, sum.samples(condition)))
        };
        let drift_days = since(DRIFT_DAYS);
        // Of equal numbers of days, those at rest.
        let drift_at = Condition::ALL.into_iter().rev().max_by_key(|it| days_in(drift_days, *it));
        let drift_at = drift_at.filter(|it| days_in(drift_days, *it) > 0);
        let cell = |number: usize| {
            let of = |total| sum.cell(number, total);
            let share = |total| per_thousand(of(total), sum.total(Total::Ranked));
            let drift = drift_at.and_then(|at| drift(drift_days, number, at));
            let balanced = (sum.total(Total::BalancingKnown) > 0).then(|| of(CellTotal::Balanced));
            let resistances = sum.total(Total::Resistances);
            let resistance =
                (resistances > 0).then(|| divide_rounded(of(CellTotal::Resistance), resistances));
            CellReport {
                lowest: share(CellTotal::Lowest),
                highest: share(CellTotal::Highest),
                deviation: Condition::ALL.map(|it| mean(sum.deviation(number, it), it)),
                drift: drift.map(|(drift, _)| drift),
                drifts: drift.is_some_and(|(_, is_clear)| is_clear),
                balanced,
                resistance: resistance.and_then(|it| i32::try_from(it).ok()).map(Microohms),
            }
        };
        let mut report = HealthReport {
            days: days.len(),
            cells: (0..sum.cells()).map(cell).collect(),
            spread: Condition::ALL.map(|it| mean(sum.spread(it) * 10, it)),
            usable_days: Condition::ALL
                .map(|it| days_in(recent, it))
                .into_iter()
                .max()
                .unwrap_or(0),
            drift_at,
            capacity: estimate(days),
            finding: Finding::default(),
        };
        let rules = RULES.iter().find_map(|rule| rule(&report));
        report.finding.kind = if has_cells { FindingKind::NoData } else { FindingKind::NoCells };
        report.finding = rules.unwrap_or(report.finding);
        report
    }

    /// The finding in English.
    pub fn sentence(&self) -> String {
        let Finding { kind, cell, difference, condition, drift } = self.finding;
        let place = condition.map_or("", |condition| match condition {
            Condition::Rest => "at rest",
            Condition::Full => "at full",
            Condition::Empty => "at empty",
        });
        let number = |it: Option<usize>| it.map_or(String::new(), |it| it.to_string());
        let tenths = |it: i64| Value::decimal(it, 1).to_string();
        let millivolts = difference.map(|it| divide_rounded(it, 10)).unwrap_or_default();
        let parameters = [
            ("{cell}", number(cell)),
            ("{mv}", millivolts.to_string()),
            ("{where}", place.to_owned()),
            ("{drift}", drift.map_or(String::new(), tenths)),
            ("{days}", self.usable_days.to_string()),
            ("{needed}", MIN_DAYS.to_string()),
        ];
        let text = kind.text().1.to_owned();
        parameters.iter().fold(text, |text, (name, value)| text.replace(name, value))
    }

    pub fn summary(&self) -> HealthSummary {
        let spread = |condition: Condition| {
            let millivolts = divide_rounded(self.spread[condition as usize]?, 10);
            i32::try_from(millivolts).ok().map(Millivolts)
        };
        HealthSummary {
            spread_full: spread(Condition::Full),
            spread_rest: spread(Condition::Rest),
            weakest_cell: self.weakest().map(|(cell, ..)| cell + 1),
            capacity: self.capacity.map(|estimate| estimate.capacity),
        }
    }

    /// The cell that is lowest when the battery is empty, otherwise at rest: index, difference to the mean, condition.
    pub fn weakest(&self) -> Option<(usize, i64, Condition)> {
        [Condition::Empty, Condition::Rest].into_iter().find_map(|condition| {
            let cells = self.cells.iter().enumerate();
            let known =
                cells.filter_map(|(n, cell)| Some((cell.deviation[condition as usize]?, n)));
            known.min().map(|(difference, number)| (number, difference, condition))
        })
    }

    /// The weakest cell if that matters.
    fn weak(&self) -> Option<(usize, i64, Condition)> {
        self.weakest().filter(|(_, difference, condition)| -difference * 2 > limit(*condition))
    }
}

fn worse(report: &HealthReport) -> Option<Finding> {
    let (number, difference, condition) = report.weak()?;
    let cell = report.cells.get(number).filter(|cell| cell.drifts)?;
    let drift = cell.drift.filter(|drift| *drift < 0);
    Some(Finding {
        kind: FindingKind::Worse,
        cell: Some(number + 1),
        difference: Some(-difference),
        condition: Some(condition),
        drift: Some(drift?),
    })
}

fn drifts(report: &HealthReport) -> Option<Finding> {
    let at = report.drift_at?;
    let away = |cell: &CellReport| {
        let deviation = cell.deviation[at as usize].unwrap_or_default();
        let drift =
            cell.drift.filter(|drift| cell.drifts && drift.signum() == deviation.signum())?;
        Some((drift.abs(), drift))
    };
    let cells = report.cells.iter().enumerate();
    let (_, drift, number) =
        cells.filter_map(|(n, cell)| away(cell).map(|(size, drift)| (size, drift, n))).max()?;
    let kind = FindingKind::Drifts;
    Some(Finding { kind, cell: Some(number + 1), drift: Some(drift), ..Finding::default() })
}

fn weak(report: &HealthReport) -> Option<Finding> {
    let (number, difference, condition) = report.weak()?;
    Some(Finding {
        kind: FindingKind::Weak,
        cell: Some(number + 1),
        difference: Some(-difference),
        condition: Some(condition),
        drift: None,
    })
}

fn uneven(report: &HealthReport) -> Option<Finding> {
    let is_large = |(condition, spread): &(Condition, i64)| *spread > limit(*condition);
    spreads(report).find(is_large).map(|it| of_spread(FindingKind::Uneven, it))
}

fn even(report: &HealthReport) -> Option<Finding> {
    spreads(report).next().map(|it| of_spread(FindingKind::Even, it))
}

fn spreads(report: &HealthReport) -> impl Iterator<Item = (Condition, i64)> {
    BY_MEANING.into_iter().filter_map(|it| Some((it, report.spread[it as usize]?)))
}

fn of_spread(kind: FindingKind, (condition, spread): (Condition, i64)) -> Finding {
    let (condition, difference) = (Some(condition), Some(spread));
    Finding { kind, condition, difference, ..Finding::default() }
}

fn per_thousand(part: i64, whole: i64) -> Option<i64> {
    (whole > 0).then(|| divide_rounded(part * 1000, whole))
}

/// The slope of the line of least squares through the daily means, in tenths of a millivolt a month, and whether it is
/// clearly more than the scatter of the days explains.
fn drift(days: &[HealthDay], cell: usize, condition: Condition) -> Option<(i64, bool)> {
    let (mut first, mut last, mut count) = (None, 0, 0);
    let [mut x_sum, mut y_sum, mut xx_sum, mut xy_sum, mut yy_sum] = [0_i128; 5];
    for day in days.iter().filter(|day| day.samples(condition) >= MIN_SAMPLES) {
        last = day.number;
        let x = i128::from(last - *first.get_or_insert(last));
        // In microvolts.
        let y = divide_rounded(day.deviation(cell, condition) * 100, day.samples(condition));
        let y = i128::from(y);
        (x_sum, y_sum) = (x_sum + x, y_sum + y);
        (xx_sum, xy_sum, yy_sum) = (xx_sum + x * x, xy_sum + x * y, yy_sum + y * y);
        count += 1;
    }
    if count < MIN_DRIFT_DAYS || last - first? < MIN_DRIFT_DAYS {
        return None;
    }
    let n = i128::from(count);
    let (xx, xy, yy) =
        (n * xx_sum - x_sum * x_sum, n * xy_sum - x_sum * y_sum, n * yy_sum - y_sum * y_sum);
    // A month has 30.4 days.
    let drift = i64::try_from(xy * 304 / (xx * 1000).max(1)).ok()?;
    let is_clear = xy * xy * (n - 2) > SIGNIFICANCE * (xx * yy - xy * xy);
    Some((drift, is_clear && drift.abs() >= MIN_DRIFT))
}

/// The mean of the days with a run.
fn estimate(days: &[HealthDay]) -> Option<CapacityEstimate> {
    let mut sum = HealthDay::default();
    let with_run = days.iter().rev().filter(|day| day.total(Total::Runs) > 0);
    with_run.take(5).for_each(|day| sum.add(day));
    let (runs, temperatures) = (sum.total(Total::Runs), sum.total(Total::Temperatures));
    let temperature = |count| divide_rounded(sum.total(Total::Temperature), count);
    let temperature = (temperatures > 0).then(|| i32::try_from(temperature(temperatures)));
    (runs > 0).then(|| CapacityEstimate {
        capacity: MilliampHours(divide_rounded(sum.total(Total::Capacity), runs)),
        temperature: temperature.and_then(Result::ok).map(DeciCelsius),
        runs,
    })
}

#[cfg(test)]
#[path = "health_report_tests.rs"]
mod tests;
