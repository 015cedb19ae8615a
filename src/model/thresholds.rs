//! Own alarm limits: what the operator set with `ALARM_*`, watched with hysteresis.
//!
//! Their names begin with `limit_`, and no protection of a battery may be named so: the two kinds
//! share a list and the topics `alarm_<name>`.

use std::collections::{BTreeMap, BTreeSet};

use super::reading::Reading;
use super::snapshot::Derived;
use super::units::{CentiPercent, DeciCelsius, Millivolts};
use super::value::Value;

/// The limits; `None` means no such alarm.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AlarmThresholds {
    /// A cell below this.
    pub cell_low: Option<Millivolts>,
    /// A cell above this.
    pub cell_high: Option<Millivolts>,
    /// Cells that differ by more than this.
    pub cell_delta: Option<Millivolts>,
    /// A temperature of the cells above this.
    pub temp_high: Option<DeciCelsius>,
    /// A temperature of the cells below this.
    pub temp_low: Option<DeciCelsius>,
    /// A state of charge below this.
    pub soc_low: Option<CentiPercent>,
}

/// One kind of limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Threshold {
    /// A cell voltage is too low.
    CellLow,
    /// A cell voltage is too high.
    CellHigh,
    /// The cells differ too much.
    CellDelta,
    /// It is too hot.
    TempHigh,
    /// It is too cold.
    TempLow,
    /// The charge goes down.
    SocLow,
}

impl Threshold {
    /// Every kind.
    pub const ALL: &[Threshold] = &[
        Threshold::CellLow,
        Threshold::CellHigh,
        Threshold::CellDelta,
        Threshold::TempHigh,
        Threshold::TempLow,
        Threshold::SocLow,
    ];

    /// Key in topics and JSON.
    pub const fn key(self) -> &'static str {
        match self {
            Threshold::CellLow => "alarm_limit_cell_low",
            Threshold::CellHigh => "alarm_limit_cell_high",
            Threshold::CellDelta => "alarm_limit_cell_delta",
            Threshold::TempHigh => "alarm_limit_temp_high",
            Threshold::TempLow => "alarm_limit_temp_low",
            Threshold::SocLow => "alarm_limit_soc_low",
        }
    }

    /// Name of the alarm: the key without its first word.
    pub fn name(self) -> &'static str {
        let key = self.key();
        key.strip_prefix("alarm_").unwrap_or(key)
    }

    /// What people read.
    pub const fn text(self) -> &'static str {
        match self {
            Threshold::CellLow => "Cell voltage below limit",
            Threshold::CellHigh => "Cell voltage above limit",
            Threshold::CellDelta => "Cell voltage difference above limit",
            Threshold::TempHigh => "Temperature above limit",
            Threshold::TempLow => "Temperature below limit",
            Threshold::SocLow => "State of charge below limit",
        }
    }

    /// The limit of that name.
    pub fn from_name(name: &str) -> Option<Threshold> {
        Threshold::ALL.iter().copied().find(|limit| limit.name() == name)
    }

    fn is_upper(self) -> bool {
        matches!(self, Threshold::CellHigh | Threshold::CellDelta | Threshold::TempHigh)
    }

    /// How far a value has to come back before the alarm ends, in the unit of the value. Wider
    /// than the noise of a measurement, narrower than what people would call another state.
    fn margin(self, limit: i32) -> i32 {
        match self {
            Threshold::CellLow | Threshold::CellHigh => 20,
            // A limit of a few millivolts must be able to end.
            Threshold::CellDelta => (limit / 5).min(10),
            Threshold::TempHigh | Threshold::TempLow => 20,
            Threshold::SocLow => 200,
        }
    }

    fn value(self, number: i32) -> Value {
        match self {
            Threshold::CellLow | Threshold::CellHigh | Threshold::CellDelta => {
                Millivolts(number).into()
            }
            Threshold::TempHigh | Threshold::TempLow => DeciCelsius(number).into(),
            Threshold::SocLow => CentiPercent(number).into(),
        }
    }
}

/// How a battery stands to one limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThresholdStatus {
    /// The alarm is on.
    pub active: bool,
    /// What the operator set.
    pub limit: Value,
    /// What was measured.
    pub value: Value,
    /// At which cell, from 1.
    pub cell: Option<usize>,
}

/// The limits of one battery, and which of them are crossed.
#[derive(Debug, Clone, Default)]
pub struct ThresholdMonitor {
    limits: AlarmThresholds,
    crossed: BTreeSet<Threshold>,
}

impl ThresholdMonitor {
    /// Nothing is crossed yet.
    pub fn new(limits: AlarmThresholds) -> Self {
        ThresholdMonitor { limits, crossed: BTreeSet::new() }
    }

    /// How the battery stands to each limit that is set and whose value it told this time. A
    /// crossed limit whose value is missing stays crossed until the value is back.
    pub fn look(
        &mut self,
        reading: &Reading,
        derived: &Derived,
    ) -> BTreeMap<Threshold, ThresholdStatus> {
        let mut standings = BTreeMap::new();
        for limit in Threshold::ALL.iter().copied() {
            let Some(set) = self.limits.get(limit) else { continue };
            let Some((number, cell)) = measured(limit, reading, derived) else { continue };
            let margin = if self.crossed.contains(&limit) { limit.margin(set) } else { 0 };
            let active =
                if limit.is_upper() { number > set - margin } else { number < set + margin };
            if active {
                self.crossed.insert(limit);
            } else {
                self.crossed.remove(&limit);
            }
            let (limit_value, value) = (limit.value(set), limit.value(number));
            standings.insert(limit, ThresholdStatus { active, limit: limit_value, value, cell });
        }
        standings
    }
}

impl AlarmThresholds {
    fn get(&self, limit: Threshold) -> Option<i32> {
        match limit {
            Threshold::CellLow => self.cell_low.map(|it| it.0),
            Threshold::CellHigh => self.cell_high.map(|it| it.0),
            Threshold::CellDelta => self.cell_delta.map(|it| it.0),
            Threshold::TempHigh => self.temp_high.map(|it| it.0),
            Threshold::TempLow => self.temp_low.map(|it| it.0),
            Threshold::SocLow => self.soc_low.map(|it| it.0),
        }
    }
}

/// The number that a limit is held against, and the cell that it belongs to.
fn measured(
    limit: Threshold,
    reading: &Reading,
    derived: &Derived,
) -> Option<(i32, Option<usize>)> {
    let cell = |extreme: Option<(usize, Millivolts)>| {
        extreme.map(|(number, voltage)| (voltage.0, Some(number)))
    };
    // Power transistors run hotter than any cell may; their limits are the battery's own matter.
    let temperatures = || {
        let cells = reading.cells.iter().filter_map(|cell| cell.temperature);
        [derived.min_temp, derived.max_temp].into_iter().flatten().chain(cells).map(|it| it.0)
    };
    match limit {
        Threshold::CellLow => cell(derived.lowest_cell),
        Threshold::CellHigh => cell(derived.highest_cell),
        Threshold::CellDelta => {
            Some((derived.highest_cell?.1.0.saturating_sub(derived.lowest_cell?.1.0), None))
        }
        Threshold::TempHigh => temperatures().max().map(|it| (it, None)),
        Threshold::TempLow => temperatures().min().map(|it| (it, None)),
        Threshold::SocLow => reading.pack.soc.map(|soc| (soc.0, None)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::derive::derive;
    use crate::model::reading::Cell;

    fn cells(millivolts: &[i32]) -> Reading {
        let cells = millivolts.iter().map(|mv| Cell::of(Millivolts(*mv))).collect();
        Reading { cells, ..Reading::default() }
    }

    fn look(
        watch: &mut ThresholdMonitor,
        reading: &Reading,
    ) -> BTreeMap<Threshold, ThresholdStatus> {
        watch.look(reading, &derive(reading))
    }

    #[test]
    fn a_limit_is_crossed_at_once_and_left_behind_the_margin() {
        let limits =
            AlarmThresholds { cell_high: Some(Millivolts(3650)), ..AlarmThresholds::default() };
        let mut watch = ThresholdMonitor::new(limits);
        let steps = [(3650, false), (3651, true), (3650, true), (3631, true), (3630, false)];
        for (millivolts, active) in steps.into_iter().chain([(3640, false)]) {
            let seen = look(&mut watch, &cells(&[3300, millivolts]));
            let standing = &seen[&Threshold::CellHigh];
            assert_eq!((standing.active, standing.cell), (active, Some(2)), "{millivolts}");
            assert_eq!(seen.len(), 1, "the other limits are not set");
        }
    }

    #[test]
    fn lower_limits_work_the_other_way_round() {
        let limits = AlarmThresholds {
            soc_low: Some(CentiPercent(1000)),
            temp_low: Some(DeciCelsius(0)),
            ..AlarmThresholds::default()
        };
        let mut watch = ThresholdMonitor::new(limits);
        let mut reading = Reading::default();
        for (soc, active) in [(1000, false), (999, true), (1199, true), (1200, false)] {
            reading.pack.soc = Some(CentiPercent(soc));
            assert_eq!(look(&mut watch, &reading)[&Threshold::SocLow].active, active, "{soc}");
        }
        assert!(
            !look(&mut watch, &reading).contains_key(&Threshold::TempLow),
            "no sensor, no alarm"
        );
        reading.cells = vec![Cell { temperature: Some(DeciCelsius(-1)), ..Cell::default() }];
        assert!(look(&mut watch, &reading)[&Threshold::TempLow].active);
    }

    #[test]
    fn a_missing_value_neither_raises_nor_ends_an_alarm() {
        let limits =
            AlarmThresholds { cell_low: Some(Millivolts(3000)), ..AlarmThresholds::default() };
        let mut watch = ThresholdMonitor::new(limits);
        assert!(look(&mut watch, &cells(&[2990]))[&Threshold::CellLow].active);
        assert!(look(&mut watch, &cells(&[])).is_empty());
        assert!(look(&mut watch, &cells(&[3010]))[&Threshold::CellLow].active, "within the margin");
    }

    #[test]
    fn even_the_smallest_difference_can_end() {
        let mut watch = ThresholdMonitor::new(AlarmThresholds {
            cell_delta: Some(Millivolts(1)),
            ..AlarmThresholds::default()
        });
        assert!(look(&mut watch, &cells(&[3300, 3302]))[&Threshold::CellDelta].active);
        assert!(!look(&mut watch, &cells(&[3300, 3301]))[&Threshold::CellDelta].active);
    }

    #[test]
    fn names_are_found_again() {
        for limit in Threshold::ALL {
            assert_eq!(Threshold::from_name(limit.name()), Some(*limit));
            assert!(limit.name().starts_with("limit_"));
        }
    }

    proptest! {
        /// Noise smaller than the margin gives one alarm and not many.
        #[test]
        fn noise_does_not_ring_twice(noise in prop::collection::vec(-9i32..=9, 1..60)) {
            let limits = AlarmThresholds { cell_high: Some(Millivolts(3650)), ..AlarmThresholds::default() };
            let mut watch = ThresholdMonitor::new(limits);
            let states: Vec<bool> = noise
                .iter()
                .map(|n| look(&mut watch, &cells(&[3650 + n]))[&Threshold::CellHigh].active)
                .collect();
            prop_assert!(states.is_sorted(), "{states:?}");
        }
    }
}
