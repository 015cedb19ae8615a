//! The active alarms of a battery in words: what its own electronics report, and the limits that
//! the operator set, in one list.

use std::borrow::Cow;

use serde::{Serialize, Serializer};

use super::alarm::{Alarm, Severity};
use super::profile::{DeviceId, Profile};
use super::reading::{Reading, SensorLocation};
use super::snapshot::{Derived, DeviceState};
use super::thresholds::{Threshold, ThresholdStatus};
use super::value::Value;

/// One active alarm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ActiveAlarm {
    /// As in `alarm_<name>`, or what a console has a worried word for.
    pub name: Cow<'static, str>,
    /// Of which battery; in a bank that is one of its members.
    pub battery: DeviceId,
    /// What people read.
    #[serde(rename = "words")]
    pub message: String,
    /// At which cell, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cell: Option<usize>,
    /// What was measured.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_number")]
    pub value: Option<Value>,
    /// Unit of the value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<&'static str>,
    /// Who says so.
    pub source: Source,
    /// How bad it is.
    pub severity: Severity,
}

/// Battery id and alarm name. In a bank, two members may have the same alarm.
pub type AlarmKey = (String, String);

impl ActiveAlarm {
    pub fn key(&self) -> AlarmKey {
        (self.battery.to_string(), self.name.to_string())
    }
}

/// Who raised an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The battery itself.
    Bms,
    /// A threshold of the configuration (`ALARM_*`).
    #[serde(rename = "limit")]
    Threshold,
}

fn as_number<S: Serializer>(value: &Option<Value>, serializer: S) -> Result<S::Ok, S::Error> {
    value.as_ref().map(Value::to_json).serialize(serializer)
}

impl DeviceState {
    /// The alarms that were active at the last good read. Whether that still says anything is a
    /// matter of the link.
    pub fn active_alarms(&self) -> Vec<ActiveAlarm> {
        let Some(snapshot) = self.snapshot.as_deref() else { return Vec::new() };
        if let Some(whole) = &snapshot.derived.bank {
            return whole.alarms.clone();
        }
        let (reading, derived) = (&snapshot.reading, &snapshot.derived);
        let reported = reading.alarms.active();
        let mut list: Vec<ActiveAlarm> =
            reported.map(|alarm| reported_by_bms(alarm, &self.profile, reading, derived)).collect();
        let said = reading.alarms.statuses();
        list.extend(
            said.filter_map(|(subject, word)| Some(in_a_word(subject, word?, &self.profile))),
        );
        let crossed = derived.thresholds.iter().filter(|(_, standing)| standing.active);
        list.extend(crossed.map(|(limit, standing)| own(*limit, standing, &self.profile)));
        list
    }

    /// Whether the last good read contains the state of this alarm, active or not.
    pub(super) fn covers_alarm(&self, (battery, name): &AlarmKey) -> bool {
        let Some(snapshot) = self.snapshot.as_deref() else { return false };
        if let Some(bank) = &snapshot.derived.bank {
            return bank.missing.iter().all(|missing| missing.as_str() != battery);
        }
        let alarms = &snapshot.reading.alarms;
        let reported = Alarm::from_name(name).is_some_and(|alarm| alarms.get(alarm).is_some());
        let thresholds = &snapshot.derived.thresholds;
        let watched = Threshold::from_name(name).is_some_and(|it| thresholds.contains_key(&it));
        let described = alarms.statuses().any(|(subject, _)| subject == name);
        battery == self.profile.id.as_str() && (reported || watched || described)
    }
}

fn own(limit: Threshold, standing: &ThresholdStatus, profile: &Profile) -> ActiveAlarm {
    let (name, unit) = (&profile.name, unit_of(limit));
    let subject = match (standing.cell, limit) {
        (Some(cell), _) => format!("Cell {cell} of {name}"),
        (None, Threshold::CellDelta) => format!("Cells of {name}"),
        (None, _) => name.clone(),
    };
    let verb = if limit == Threshold::CellDelta { "differ by" } else { "at" };
    let (value, set) = (&standing.value, &standing.limit);
    ActiveAlarm {
        name: limit.name().into(),
        battery: profile.id.clone(),
        message: format!("{subject} {verb} {value} {unit}, limit {set} {unit}"),
        cell: standing.cell,
        value: Some(standing.value.clone()),
        unit: Some(unit),
        source: Source::Threshold,
        severity: Severity::Warning,
    }
}

/// A console told a state in a word that stands for no good one.
fn in_a_word(subject: &str, word: &str, profile: &Profile) -> ActiveAlarm {
    ActiveAlarm {
        name: subject.to_owned().into(),
        battery: profile.id.clone(),
        message: format!("{}: {subject} is {word}", profile.name),
        cell: None,
        value: None,
        unit: None,
        source: Source::Bms,
        severity: Severity::Protection,
    }
}

fn unit_of(limit: Threshold) -> &'static str {
    match limit {
        Threshold::CellLow | Threshold::CellHigh | Threshold::CellDelta => "V",
        Threshold::TempHigh | Threshold::TempLow => "°C",
        Threshold::SocLow => "%",
    }
}

fn reported_by_bms(
    alarm: Alarm,
    profile: &Profile,
    reading: &Reading,
    derived: &Derived,
) -> ActiveAlarm {
    let (name, words) = (&profile.name, alarm.text());
    let evidence = evidence(alarm, reading, derived);
    let words = match &evidence {
        Some(Evidence { cell: Some(cell), value, unit }) => {
            format!("{words}: cell {cell} of {name} at {value} {unit}")
        }
        Some(Evidence { cell: None, value, unit }) => format!("{words}: {name} at {value} {unit}"),
        None => format!("{words}: {name}"),
    };
    ActiveAlarm {
        name: alarm.name().into(),
        battery: profile.id.clone(),
        message: words,
        cell: evidence.as_ref().and_then(|it| it.cell),
        unit: evidence.as_ref().map(|it| it.unit),
        value: evidence.map(|it| it.value),
        source: Source::Bms,
        severity: alarm.severity(),
    }
}

/// The measured value that an alarm is most likely about.
struct Evidence {
    cell: Option<usize>,
    value: Value,
    unit: &'static str,
}

fn evidence(alarm: Alarm, reading: &Reading, derived: &Derived) -> Option<Evidence> {
    use Alarm::*;
    let at_cell = |(cell, voltage): (usize, _)| Evidence {
        cell: Some(cell),
        value: Value::from(voltage),
        unit: "V",
    };
    let whole =
        |value: Option<Value>, unit| value.map(|value| Evidence { cell: None, value, unit });
    let probe = |place| {
        let mut probes = reading.probes.iter().filter(|probe| probe.location == place);
        whole(probes.find_map(|probe| probe.value).map(Value::from), "°C")
    };
    match alarm {
        CellOvervoltage | CellOvervoltageWarning => derived.highest_cell.map(at_cell),
        CellUndervoltage | CellUndervoltageWarning => derived.lowest_cell.map(at_cell),
        PackOvervoltage | PackUndervoltage | PackOvervoltageWarning | PackUndervoltageWarning => {
            whole(reading.pack.voltage.map(Value::from), "V")
        }
        ChargeOvercurrent
        | DischargeOvercurrent
        | DischargeOvercurrent2
        | ChargeOvercurrentWarning
        | DischargeOvercurrentWarning => whole(reading.pack.current.map(Value::from), "A"),
        ChargeOvertemperature
        | DischargeOvertemperature
        | ChargeOvertemperatureWarning
        | DischargeOvertemperatureWarning => whole(derived.max_temp.map(Value::from), "°C"),
        ChargeUndertemperature
        | DischargeUndertemperature
        | ChargeUndertemperatureWarning
        | DischargeUndertemperatureWarning => whole(derived.min_temp.map(Value::from), "°C"),
        AmbientOvertemperature
        | AmbientUndertemperature
        | AmbientOvertemperatureWarning
        | AmbientUndertemperatureWarning => probe(SensorLocation::Ambient),
        MosOvertemperature
        | MosUndertemperature
        | MosOvertemperatureWarning
        | MosUndertemperatureWarning => probe(SensorLocation::Mosfet),
        LowBattery | LowSocWarning => whole(reading.pack.soc.map(Value::from), "%"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::model::Snapshot;
    use crate::model::derived_state::DerivedState;
    use crate::model::reading::Cell;
    use crate::model::thresholds::AlarmThresholds;
    use crate::model::units::{CentiPercent, Millis, Millivolts, Uptime};

    fn state(reading: Reading, limits: AlarmThresholds) -> DeviceState {
        let mut state =
            DeviceState::new(Profile { name: "Rack 1".into(), ..Profile::sample("rack1") });
        let derived = DerivedState::new(limits).derive(&reading, Uptime(0), 1000);
        let device = state.profile.id.clone();
        let taken = Millis(0);
        state.snapshot =
            Some(Arc::new(Snapshot { device, sequence: 1, taken, took_ms: 1, reading, derived }));
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
    fn own_limits_name_battery_cell_and_value() {
        let limits = AlarmThresholds {
            cell_high: Some(Millivolts(3650)),
            cell_delta: Some(Millivolts(50)),
            soc_low: Some(CentiPercent(1000)),
            cell_low: Some(Millivolts(3000)),
            ..AlarmThresholds::default()
        };
        let state = state(reading(), limits);
        let words: Vec<String> = state.active_alarms().into_iter().map(|it| it.message).collect();
        let expected = [
            "Cell 3 of Rack 1 at 3.66 V, limit 3.65 V",
            "Cells of Rack 1 differ by 0.36 V, limit 0.05 V",
            "Rack 1 at 9.5 %, limit 10.0 %",
        ];
        assert_eq!(words, expected);
        let first = serde_json::to_value(&state.active_alarms()[0]).unwrap();
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
    fn alarms_of_the_battery_come_with_what_they_are_about() {
        let mut reading = reading();
        for alarm in [Alarm::CellOvervoltage, Alarm::LowSocWarning, Alarm::FuseBlown] {
            reading.alarms.note(alarm, true);
        }
        reading.alarms.note(Alarm::ShortCircuit, false);
        let state = state(reading, AlarmThresholds::default());
        let list = state.active_alarms();
        let words: Vec<&str> = list.iter().map(|it| it.message.as_str()).collect();
        let expected = [
            "Cell overvoltage: cell 3 of Rack 1 at 3.66 V",
            "Low state of charge warning: Rack 1 at 9.5 %",
            "Fuse blown: Rack 1",
        ];
        assert_eq!(words, expected);
        let last = serde_json::to_value(&list[2]).unwrap();
        let shape = json!({
            "name": "fuse_blown", "battery": "rack1", "words": "Fuse blown: Rack 1",
            "source": "bms", "severity": "fault",
        });
        assert_eq!(last, shape);
        assert!(covers(&state, "rack1", "short_circuit"));
        assert!(!covers(&state, "rack1", "cell_failure"));
    }
}
