//! Compares readings with the alarm thresholds, with hysteresis.

use std::collections::{BTreeMap, BTreeSet};

use super::derived::Derived;
use super::reading::Reading;
use super::thresholds::{AlarmThresholds, Threshold, ThresholdStatus};
use super::units::Millivolts;
use super::value::Value;

/// The thresholds of one battery, and which of them it exceeds.
#[derive(Debug, Clone, Default)]
pub struct ThresholdMonitor {
    thresholds: AlarmThresholds,
    active: BTreeSet<Threshold>,
}

impl ThresholdMonitor {
    pub fn new(thresholds: AlarmThresholds) -> Self {
        ThresholdMonitor { thresholds, active: BTreeSet::new() }
    }

    /// The status of each threshold that is set and whose value is known. An active alarm whose
    /// value is missing stays active until the value is back.
    pub fn update(
        &mut self,
        reading: &Reading,
        derived: &Derived,
    ) -> BTreeMap<Threshold, ThresholdStatus> {
        let mut statuses = BTreeMap::new();
        for threshold in Threshold::ALL.iter().copied() {
            let (limit, measured) = self.limit_and_value(threshold, reading, derived);
            let (Some(limit), Some((number, cell))) = (limit, measured) else { continue };
            let margin =
                if self.active.contains(&threshold) { hysteresis(threshold, limit) } else { 0 };
            let active = match threshold.is_upper() {
                true => number > limit - margin,
                false => number < limit + margin,
            };
            if active {
                self.active.insert(threshold);
            } else {
                self.active.remove(&threshold);
            }
            let (_, scale) = threshold.unit_and_scale();
            let [limit, value] = [limit, number].map(|it| Value::decimal(it.into(), scale));
            statuses.insert(threshold, ThresholdStatus { active, limit, value, cell });
        }
        statuses
    }

    /// The threshold, and the value with the number of its cell.
    fn limit_and_value(
        &self,
        threshold: Threshold,
        reading: &Reading,
        derived: &Derived,
    ) -> (Option<i32>, Option<(i32, Option<usize>)>) {
        let set = &self.thresholds;
        let at_cell = |(number, voltage): (usize, Millivolts)| (voltage.0, Some(number));
        // Without the power transistors: they run hotter than any cell may.
        let temperatures = || {
            let cells = reading.cells.iter().map(|cell| cell.temperature);
            [derived.min_temp, derived.max_temp].into_iter().chain(cells).flatten()
        };
        match threshold {
            Threshold::CellLow => (set.cell_low.map(|v| v.0), derived.lowest_cell.map(at_cell)),
            Threshold::CellHigh => (set.cell_high.map(|v| v.0), derived.highest_cell.map(at_cell)),
            Threshold::CellDelta => {
                (set.cell_delta.map(|v| v.0), derived.cell_voltage_diff().map(|v| (v.0, None)))
            }
            Threshold::TempHigh => {
                (set.temp_high.map(|t| t.0), temperatures().max().map(|t| (t.0, None)))
            }
            Threshold::TempLow => {
                (set.temp_low.map(|t| t.0), temperatures().min().map(|t| (t.0, None)))
            }
            Threshold::SocLow => (set.soc_low.map(|s| s.0), reading.pack.soc.map(|s| (s.0, None))),
        }
    }
}

/// How far a value has to return before the alarm ends: more than the noise of a measurement, less
/// than a real change.
fn hysteresis(threshold: Threshold, limit: i32) -> i32 {
    match threshold {
        // 20 mV, 2 °C, 2 %.
        Threshold::CellLow | Threshold::CellHigh => 20,
        Threshold::TempHigh | Threshold::TempLow => 20,
        Threshold::SocLow => 200,
        // 10 mV, but an alarm with a threshold of a few millivolts must be able to end.
        Threshold::CellDelta => (limit / 5).min(10),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::derive::derive;
    use crate::model::reading::Cell;
    use crate::model::units::{CentiPercent, DeciCelsius};

    fn cells(millivolts: &[i32]) -> Reading {
        let cells = millivolts.iter().map(|mv| Cell::of(Millivolts(*mv))).collect();
        Reading { cells, ..Reading::default() }
    }

    fn update(
        monitor: &mut ThresholdMonitor,
        reading: &Reading,
    ) -> BTreeMap<Threshold, ThresholdStatus> {
        monitor.update(reading, &derive(reading))
    }

    #[test]
    fn alarm_ends_behind_the_hysteresis() {
        let thresholds =
            AlarmThresholds { cell_high: Some(Millivolts(3650)), ..AlarmThresholds::default() };
        let mut monitor = ThresholdMonitor::new(thresholds);
        let steps = [(3650, false), (3651, true), (3650, true), (3631, true), (3630, false)];
        for (millivolts, active) in steps.into_iter().chain([(3640, false)]) {
            let statuses = update(&mut monitor, &cells(&[3300, millivolts]));
            let status = &statuses[&Threshold::CellHigh];
            assert_eq!((status.active, status.cell), (active, Some(2)), "{millivolts}");
            assert_eq!(statuses.len(), 1, "the other thresholds are not set");
        }
    }

    #[test]
    fn lower_threshold_raises_below_it() {
        let thresholds = AlarmThresholds {
            soc_low: Some(CentiPercent(1000)),
            temp_low: Some(DeciCelsius(0)),
            ..AlarmThresholds::default()
        };
        let mut monitor = ThresholdMonitor::new(thresholds);
        let mut reading = Reading::default();
        for (soc, active) in [(1000, false), (999, true), (1199, true), (1200, false)] {
            reading.pack.soc = Some(CentiPercent(soc));
            assert_eq!(update(&mut monitor, &reading)[&Threshold::SocLow].active, active, "{soc}");
        }
        assert!(
            !update(&mut monitor, &reading).contains_key(&Threshold::TempLow),
            "no sensor, no alarm"
        );
        reading.cells = vec![Cell { temperature: Some(DeciCelsius(-1)), ..Cell::default() }];
        assert!(update(&mut monitor, &reading)[&Threshold::TempLow].active);
    }

    #[test]
    fn missing_value_neither_raises_nor_ends_an_alarm() {
        let thresholds =
            AlarmThresholds { cell_low: Some(Millivolts(3000)), ..AlarmThresholds::default() };
        let mut monitor = ThresholdMonitor::new(thresholds);
        assert!(update(&mut monitor, &cells(&[2990]))[&Threshold::CellLow].active);
        assert!(update(&mut monitor, &cells(&[])).is_empty());
        assert!(
            update(&mut monitor, &cells(&[3010]))[&Threshold::CellLow].active,
            "within the hysteresis"
        );
    }

    #[test]
    fn smallest_cell_delta_alarm_can_end() {
        let mut monitor = ThresholdMonitor::new(AlarmThresholds {
            cell_delta: Some(Millivolts(1)),
            ..AlarmThresholds::default()
        });
        assert!(update(&mut monitor, &cells(&[3300, 3302]))[&Threshold::CellDelta].active);
        assert!(!update(&mut monitor, &cells(&[3300, 3301]))[&Threshold::CellDelta].active);
    }

    proptest! {
        /// Noise below the hysteresis raises one alarm and not several.
        #[test]
        fn noise_raises_one_alarm(noise in prop::collection::vec(-9i32..=9, 1..60)) {
            let thresholds = AlarmThresholds { cell_high: Some(Millivolts(3650)), ..AlarmThresholds::default() };
            let mut monitor = ThresholdMonitor::new(thresholds);
            let states: Vec<bool> = noise
                .iter()
                .map(|n| update(&mut monitor, &cells(&[3650 + n]))[&Threshold::CellHigh].active)
                .collect();
            prop_assert!(states.is_sorted(), "{states:?}");
        }
    }
}
