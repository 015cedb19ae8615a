//! What follows from a reading and those before it: thresholds with hysteresis, energy, times.

use super::derive::derive;
use super::derived::Derived;
use super::energy_counter::EnergyCounter;
use super::forecast::Forecast;
use super::reading::Reading;
use super::threshold_monitor::ThresholdMonitor;
use super::thresholds::AlarmThresholds;
use super::units::Uptime;

/// The state of one battery that is carried from reading to reading.
#[derive(Debug, Clone, Default)]
pub struct DerivedState {
    thresholds: ThresholdMonitor,
    energy: EnergyCounter,
    forecast: Forecast,
}

impl DerivedState {
    pub fn new(thresholds: AlarmThresholds) -> Self {
        DerivedState { thresholds: ThresholdMonitor::new(thresholds), ..DerivedState::default() }
    }

    /// The next reading is of another battery. The energy totals are kept.
    pub fn change_battery(&mut self, thresholds: AlarmThresholds) {
        self.energy.interrupt();
        let energy = std::mem::take(&mut self.energy);
        *self = DerivedState { energy, ..DerivedState::new(thresholds) };
    }

    pub fn derive(&mut self, reading: &Reading, at: Uptime, interval_ms: u64) -> Derived {
        let mut derived = derive(reading);
        derived.thresholds = self.thresholds.update(reading, &derived);
        if !derived.thresholds.is_empty() {
            let exceeded = derived.thresholds.values().any(|status| status.active);
            derived.problem = Some(exceeded || derived.problem == Some(true));
        }
        derived.energy_since_start = self.energy.count(at, derived.power, interval_ms);
        derived.times = self.forecast.update(at, &reading.pack);
        derived
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Alarm;
    use crate::model::reading::Cell;
    use crate::model::units::{Milliamps, Millivolts};

    #[test]
    fn problem_covers_alarms_and_thresholds() {
        let thresholds =
            AlarmThresholds { cell_high: Some(Millivolts(3650)), ..AlarmThresholds::default() };
        for (alarm, millivolts, problem) in [
            (None, 3600, Some(false)),
            (None, 3700, Some(true)),
            (Some(true), 3600, Some(true)),
            (Some(false), 3700, Some(true)),
            (Some(false), 3600, Some(false)),
        ] {
            let cells = vec![Cell::of(Millivolts(millivolts))];
            let mut reading = Reading { cells, ..Reading::default() };
            if let Some(active) = alarm {
                reading.alarms.note(Alarm::FuseBlown, active);
            }
            let derived = DerivedState::new(thresholds.clone()).derive(&reading, Uptime(0), 1000);
            assert_eq!(derived.problem, problem, "{alarm:?} {millivolts}");
        }
        let unknown = DerivedState::new(thresholds).derive(&Reading::default(), Uptime(0), 1000);
        assert_eq!(unknown.problem, None);
    }

    #[test]
    fn energy_is_not_counted_between_two_batteries() {
        let mut reading = Reading::default();
        reading.pack.voltage = Some(Millivolts(50_000));
        reading.pack.current = Some(Milliamps(10_000));
        let mut state = DerivedState::default();
        let count = |state: &mut DerivedState, second: u64| {
            let energy = state.derive(&reading, Uptime(second * 1000), 30_000).energy_since_start;
            // Watt-seconds.
            energy.charged.0 / 1_000_000
        };
        count(&mut state, 0);
        assert_eq!(count(&mut state, 10), 5000);
        state.change_battery(AlarmThresholds::default());
        assert_eq!(count(&mut state, 20), 5000);
        assert_eq!(count(&mut state, 30), 10_000);
    }
}
