//! The active alarms of a battery: those that it reports and those of the thresholds.

use std::borrow::Cow;

use super::alarm::{Alarm, Severity};
use super::derived::{ActiveAlarm, AlarmKey, AlarmSource, Derived};
use super::device_state::DeviceState;
use super::reading::{Reading, SensorLocation};
use super::thresholds::{Threshold, ThresholdStatus};
use super::value::Value;

/// The measured value that an alarm is about.
struct Measurement {
    what: &'static str,
    value: Value,
    unit: &'static str,
    cell: Option<usize>,
}

impl DeviceState {
    /// The active alarms of the last good read, which may be stale.
    pub fn active_alarms(&self) -> Vec<ActiveAlarm> {
        let Some(snapshot) = self.snapshot.as_deref() else { return Vec::new() };
        let (reading, derived) = (&snapshot.reading, &snapshot.derived);
        if let Some(bank) = &derived.bank {
            return bank.alarms.clone();
        }
        let reported = reading.alarms.active().map(|alarm| {
            let measurement = measurement(alarm, reading, derived);
            let text = reported_text(alarm, measurement.as_ref());
            let source = AlarmSource::Bms;
            self.alarm(alarm.name().into(), text, measurement, source, alarm.severity())
        });
        let statuses = reading.alarms.statuses().filter_map(|(subject, status)| {
            let text = format!("{} is {}", subject.replace('_', " "), status?);
            let name = subject.to_owned().into();
            Some(self.alarm(name, text, None, AlarmSource::Bms, Severity::Protection))
        });
        let exceeded = derived.thresholds.iter().filter(|(_, status)| status.active);
        let thresholds = exceeded.map(|(threshold, status)| {
            let (text, measurement) = threshold_alarm(*threshold, status);
            let source = AlarmSource::Threshold;
            self.alarm(threshold.name().into(), text, Some(measurement), source, Severity::Warning)
        });
        reported.chain(statuses).chain(thresholds).collect()
    }

    fn alarm(
        &self,
        name: Cow<'static, str>,
        text: String,
        measurement: Option<Measurement>,
        source: AlarmSource,
        severity: Severity,
    ) -> ActiveAlarm {
        ActiveAlarm {
            name,
            battery: self.profile.id.clone(),
            message: format!("{}: {text}", self.profile.name),
            cell: measurement.as_ref().and_then(|measured| measured.cell),
            unit: measurement.as_ref().map(|measured| measured.unit),
            value: measurement.map(|measured| measured.value),
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

fn threshold_alarm(threshold: Threshold, status: &ThresholdStatus) -> (String, Measurement) {
    let ThresholdStatus { value, limit, cell, .. } = status.clone();
    let (unit, _) = threshold.unit_and_scale();
    let what = match threshold {
        Threshold::CellLow | Threshold::CellHigh => "voltage",
        Threshold::CellDelta => "cell voltage difference",
        Threshold::TempHigh | Threshold::TempLow => "temperature",
        Threshold::SocLow => "state of charge",
    };
    let cell_name = cell.map(|cell| format!("cell {cell} ")).unwrap_or_default();
    let side = if threshold.is_upper() { "above" } else { "below" };
    let text = format!("{cell_name}{what} {value} {unit} is {side} the limit of {limit} {unit}");
    (text, Measurement { what, value, unit, cell })
}

/// Batteries do not report which cell or value raised an alarm, so the text gives the present one.
fn reported_text(alarm: Alarm, measurement: Option<&Measurement>) -> String {
    let text = alarm.text();
    match measurement {
        Some(Measurement { what, value, unit, cell: Some(cell) }) => {
            format!("{text} ({what} now: cell {cell} at {value} {unit})")
        }
        Some(Measurement { what, value, unit, cell: None }) => {
            format!("{text} ({what} now: {value} {unit})")
        }
        None => text.to_owned(),
    }
}

fn measurement(alarm: Alarm, reading: &Reading, derived: &Derived) -> Option<Measurement> {
    let pack = &reading.pack;
    let probe = |location| reading.probes_at(location).flatten().next().map(Value::from);
    // A warning is about the same value as the protection that it precedes.
    let (what, value, unit, cell) = match alarm.name().trim_end_matches("_warning") {
        "cell_overvoltage" => {
            let (cell, voltage) = derived.highest_cell?;
            ("highest cell", Some(voltage.into()), "V", Some(cell))
        }
        "cell_undervoltage" => {
            let (cell, voltage) = derived.lowest_cell?;
            ("lowest cell", Some(voltage.into()), "V", Some(cell))
        }
        "pack_overvoltage" | "pack_undervoltage" => {
            ("pack voltage", pack.voltage.map(Value::from), "V", None)
        }
        "charge_overcurrent" | "discharge_overcurrent" | "discharge_overcurrent_2" => {
            ("current", pack.current.map(Value::from), "A", None)
        }
        "charge_overtemperature" | "discharge_overtemperature" => {
            ("highest temperature", derived.max_temp.map(Value::from), "°C", None)
        }
        "charge_undertemperature" | "discharge_undertemperature" => {
            ("lowest temperature", derived.min_temp.map(Value::from), "°C", None)
        }
        "ambient_overtemperature" | "ambient_undertemperature" => {
            ("ambient temperature", probe(SensorLocation::Ambient), "°C", None)
        }
        "mos_overtemperature" | "mos_undertemperature" => {
            ("MOSFET temperature", probe(SensorLocation::Mosfet), "°C", None)
        }
        "low_battery" | "low_soc" => ("state of charge", pack.soc.map(Value::from), "%", None),
        _ => return None,
    };
    Some(Measurement { what, value: value?, unit, cell })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::derived_state::DerivedState;
    use crate::model::reading::Cell;
    use crate::model::units::{CentiPercent, Millis, Millivolts, Uptime};
    use crate::model::{AlarmThresholds, Profile};

    fn state(reading: Reading, thresholds: AlarmThresholds) -> DeviceState {
        let mut state =
            DeviceState::new(Profile { name: "Rack 1".into(), ..Profile::sample("rack1") });
        let derived = DerivedState::new(thresholds).derive(&reading, Uptime(0), 1000);
        state.accept(Millis(0), 1, reading, derived);
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
            "Rack 1: cell 3 voltage 3.66 V is above the limit of 3.65 V",
            "Rack 1: cell voltage difference 0.36 V is above the limit of 0.05 V",
            "Rack 1: state of charge 9.5 % is below the limit of 10.0 %",
        ];
        assert_eq!(messages, expected);
        let first = serde_json::to_value(&alarms[0]).unwrap();
        let shape = json!({
            "name": "limit_cell_high", "battery": "rack1", "words": expected[0], "cell": 3,
            "value": 3.66, "unit": "V", "source": "limit", "severity": "warning",
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
            "Rack 1: Cell overvoltage (highest cell now: cell 3 at 3.66 V)",
            "Rack 1: Low state of charge warning (state of charge now: 9.5 %)",
            "Rack 1: Fuse blown",
        ];
        assert_eq!(messages, expected);
        let last = serde_json::to_value(&alarms[2]).unwrap();
        let shape = json!({
            "name": "fuse_blown", "battery": "rack1", "words": "Rack 1: Fuse blown",
            "source": "bms", "severity": "fault",
        });
        assert_eq!(last, shape);
        assert!(covers(&state, "rack1", "short_circuit"));
        assert!(!covers(&state, "rack1", "cell_failure"));
    }
}
