//! What a battery's past adds to a reading: limits with hysteresis, energy, times.

use super::derive::derive;
use super::energy::EnergyCounter;
use super::forecast::Forecast;
use super::reading::Reading;
use super::snapshot::Derived;
use super::thresholds::{AlarmThresholds, ThresholdMonitor};
use super::units::Uptime;

/// The past of one battery, as far as it matters.
#[derive(Debug, Clone, Default)]
pub struct DerivedState {
    watch: ThresholdMonitor,
    ledger: EnergyCounter,
    forecast: Forecast,
}

impl DerivedState {
    /// Of a battery that is watched with these limits.
    pub fn new(limits: AlarmThresholds) -> Self {
        DerivedState { watch: ThresholdMonitor::new(limits), ..DerivedState::default() }
    }

    /// Another battery is watched from now on; what was counted stays counted.
    pub fn change_battery(&mut self, limits: AlarmThresholds) {
        self.ledger.interrupt();
        *self =
            DerivedState { ledger: std::mem::take(&mut self.ledger), ..DerivedState::new(limits) };
    }

    /// Everything that can be said from this reading and those before it. `at` is a moment of a
    /// clock that never jumps.
    pub fn derive(&mut self, reading: &Reading, at: Uptime, interval_ms: u64) -> Derived {
        let mut derived = derive(reading);
        derived.thresholds = self.watch.look(reading, &derived);
        if !derived.thresholds.is_empty() {
            let crossed = derived.thresholds.values().any(|standing| standing.active);
            derived.problem = Some(crossed || derived.problem == Some(true));
        }
        derived.energy_since_start = self.ledger.count(at, derived.power, interval_ms);
        derived.times = self.forecast.look(at, &reading.pack);
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
    fn own_limits_and_the_batterys_alarms_are_one_problem() {
        let limits =
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
            let derived = DerivedState::new(limits.clone()).derive(&reading, Uptime(0), 1000);
            assert_eq!(derived.problem, problem, "{alarm:?} {millivolts}");
        }
        let silent = DerivedState::new(limits).derive(&Reading::default(), Uptime(0), 1000);
        assert_eq!(silent.problem, None, "nothing is known");
    }

    #[test]
    fn nothing_is_counted_between_two_batteries() {
        let mut reading = Reading::default();
        reading.pack.voltage = Some(Millivolts(50_000));
        reading.pack.current = Some(Milliamps(10_000));
        let mut past = DerivedState::default();
        let count = |past: &mut DerivedState, second: u64| {
            let counted = past.derive(&reading, Uptime(second * 1000), 30_000).energy_since_start;
            // Watt-seconds.
            counted.charged.0 / 1_000_000
        };
        count(&mut past, 0);
        assert_eq!(count(&mut past, 10), 5000);
        past.change_battery(AlarmThresholds::default());
        assert_eq!(count(&mut past, 20), 5000);
        assert_eq!(count(&mut past, 30), 10_000);
    }
}
