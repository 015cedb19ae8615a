//! The active alarms of a battery: those that it reports and those of the thresholds.

use std::borrow::Cow;

use super::alarm::{Alarm, Severity};
use super::alarm_message::{AlarmDescription, abnormal, exceeded, reported};
use super::derived::{ActiveAlarm, AlarmKey, AlarmSource};
use super::device_state::DeviceState;

impl DeviceState {
    /// The active alarms of the last good read, which may be stale.
    pub fn active_alarms(&self) -> Vec<ActiveAlarm> {
        let Some(snapshot) = self.snapshot.as_deref() else { return Vec::new() };
        let (reading, derived) = (&snapshot.reading, &snapshot.derived);
        if let Some(bank) = &derived.bank {
            return bank.alarms.clone();
        }
        let reported = reading.alarms.active().map(|alarm| {
            let description = reported(alarm, reading, derived);
            self.alarm(alarm.name().into(), description, AlarmSource::Bms, alarm.severity())
        });
        let statuses = reading.alarms.statuses().filter_map(|(subject, status)| {
            let description = abnormal(subject, status?, reading);
            let name = subject.to_owned().into();
            Some(self.alarm(name, description, AlarmSource::Bms, Severity::Protection))
        });
        let active = derived.thresholds.iter().filter(|(_, status)| status.active);
        let thresholds = active.map(|(threshold, status)| {
            let description = exceeded(*threshold, status);
            let name = threshold.name().into();
            self.alarm(name, description, AlarmSource::Threshold, Severity::Warning)
        });
        reported.chain(statuses).chain(thresholds).collect()
    }

    fn alarm(
        &self,
        name: Cow<'static, str>,
        description: AlarmDescription,
        source: AlarmSource,
        severity: Severity,
    ) -> ActiveAlarm {
        ActiveAlarm {
            name,
            battery: self.profile.id.clone(),
            message: description.message(&self.profile.name),
            cell: description.cell,
            value: description.value,
            limit: description.limit,
            unit: description.unit,
            source,
            severity,
        }
    }

    /// Whether the last good read contains the state of this alarm, active or not.
    pub(super) fn covers_alarm(&self, (battery, name): &AlarmKey) -> bool {
        let Some(snapshot) = self.snapshot.as_deref() else { return false };
        if let Some(bank) = &snapshot.derived.bank {
            return bank.missing.iter().all(|missing| missing.as_str() != battery);
        }
        let alarms = &snapshot.reading.alarms;
        battery == self.profile.id.as_str()
            && (Alarm::from_name(name).is_some_and(|alarm| alarms.get(alarm).is_some())
                || snapshot.derived.thresholds.keys().any(|threshold| threshold.name() == name)
                || alarms.statuses().any(|(subject, _)| subject == name))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::derived_state::DerivedState;
    use crate::model::reading::{Cell, Reading};
    use crate::model::units::{CentiPercent, Millis, Millivolts, Uptime};
    use crate::model::{AlarmThresholds, Profile};

    fn state(reading: Reading, thresholds: AlarmThresholds) -> DeviceState {
        let mut state =
            DeviceState::new(Profile { name: "Rack 1".into(), ..Profile::sample("rack1") });
        let derived = DerivedState::new(thresholds).derive(&reading, Uptime(0), 1000);
        state.accept((Millis(0), Uptime(0)), 1, reading, derived);
        state
    }

    fn covers(state: &DeviceState, battery: &str, name: &str) -> bool {
        state.covers_alarm(&(battery.to_owned(), name.to_owned()))
    }

    fn reading() -> Reading {
        let cells = [3300, 3310, 3660].map(|mv| Cell::of(Millivolts(mv))).to_vec();
        let mut reading = Reading { cells, ..Reading::default() };
        reading.pack.soc = Some(CentiPercent(950));
        reading
    }

    #[test]
    fn threshold_alarms_contain_battery_cell_and_value() {
        let thresholds = AlarmThresholds {
            cell_high: Some(Millivolts(3650)),
            cell_delta: Some(Millivolts(50)),
            soc_low: Some(CentiPercent(1000)),
            cell_low: Some(Millivolts(3000)),
            ..AlarmThresholds::default()
        };
        let state = state(reading(), thresholds);
        let alarms = state.active_alarms();
        let messages: Vec<_> = alarms.iter().map(|alarm| alarm.message.as_str()).collect();
        let expected = [
            "Rack 1 cell 3 high, 3.66 V (limit 3.65 V)",
            "Rack 1: cell voltage difference high, 0.36 V (limit 0.05 V)",
            "Rack 1: charge low, 9.5 % (limit 10 %)",
        ];
        assert_eq!(messages, expected);
        let first = serde_json::to_value(&alarms[0]).unwrap();
        let shape = json!({
            "name": "limit_cell_high", "battery": "rack1", "words": expected[0], "cell": 3,
            "value": 3.66, "limit": 3.65, "unit": "V", "source": "limit", "severity": "warning",
        });
        assert_eq!(first, shape);
        assert!(covers(&state, "rack1", "limit_cell_low"));
        assert!(!covers(&state, "rack1", "limit_temp_high"), "not set");
        assert!(!covers(&state, "rack2", "limit_cell_high"));
    }

    #[test]
    fn reported_alarms_contain_the_present_value() {
        let mut reading = reading();
        for alarm in [Alarm::CellOvervoltage, Alarm::LowSocWarning, Alarm::FuseBlown] {
            reading.alarms.note(alarm, true);
        }
        reading.alarms.note(Alarm::ShortCircuit, false);
        let state = state(reading, AlarmThresholds::default());
        let alarms = state.active_alarms();
        let messages: Vec<_> = alarms.iter().map(|alarm| alarm.message.as_str()).collect();
        let expected = [
            "Rack 1: cell voltage high, now 3.66 V (BMS protection)",
            "Rack 1: charge low, now 9.5 % (BMS warning)",
            "Rack 1: fuse blown (BMS fault)",
        ];
        assert_eq!(messages, expected);
        let last = serde_json::to_value(&alarms[2]).unwrap();
        let shape = json!({
            "name": "fuse_blown", "battery": "rack1", "words": expected[2],
            "source": "bms", "severity": "fault",
        });
        assert_eq!(last, shape);
        assert!(covers(&state, "rack1", "short_circuit"));
        assert!(!covers(&state, "rack1", "cell_failure"));
    }
}
