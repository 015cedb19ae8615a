//! What an active alarm is about: its text, which fits into the notification of a phone, and the
//! measured value.

use super::alarm::{Alarm, Severity};
use super::derived::Derived;
use super::reading::{Reading, SensorLocation};
use super::thresholds::{Threshold, ThresholdStatus};
use super::value::Value;

/// The text without the name of the battery, and the values in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AlarmDescription {
    pub text: String,
    /// From 1. Only where the battery reports which cell it is, or where a threshold of the
    /// configuration found it: the extreme cell of this moment need not have raised the alarm.
    pub cell: Option<usize>,
    pub value: Option<Value>,
    pub limit: Option<Value>,
    pub unit: Option<&'static str>,
}

/// How an alarm about a measured value is described.
struct Wording {
    /// Name of the alarm without `_warning`: a warning is about the same value as the protection
    /// that it precedes.
    alarm: &'static str,
    quantity: &'static str,
    direction: &'static str,
    /// The present value, with its unit. `None` if it is not measured.
    measured: Option<(Measured, &'static str)>,
}

type Measured = fn(&Reading, &Derived) -> Option<Value>;

const HIGH: &str = "high";
const LOW: &str = "low";

const HIGHEST_CELL: Option<(Measured, &str)> =
    Some((|_, derived| value(derived.highest_cell.map(|cell| cell.1)), "V"));
const LOWEST_CELL: Option<(Measured, &str)> =
    Some((|_, derived| value(derived.lowest_cell.map(|cell| cell.1)), "V"));
const CELL_DIFFERENCE: Option<(Measured, &str)> =
    Some((|_, derived| value(derived.cell_voltage_diff()), "V"));
const PACK_VOLTAGE: Option<(Measured, &str)> =
    Some((|reading, _| value(reading.pack.voltage), "V"));
const CURRENT: Option<(Measured, &str)> = Some((|reading, _| value(reading.pack.current), "A"));
const HIGHEST_TEMPERATURE: Option<(Measured, &str)> =
    Some((|_, derived| value(derived.max_temp), "°C"));
const LOWEST_TEMPERATURE: Option<(Measured, &str)> =
    Some((|_, derived| value(derived.min_temp), "°C"));
const AMBIENT: Option<(Measured, &str)> =
    Some((|reading, _| probe(reading, SensorLocation::Ambient), "°C"));
const MOSFET: Option<(Measured, &str)> =
    Some((|reading, _| probe(reading, SensorLocation::Mosfet), "°C"));
const CHARGE: Option<(Measured, &str)> = Some((|reading, _| value(reading.pack.soc), "%"));
const HEALTH: Option<(Measured, &str)> = Some((|reading, _| value(reading.pack.soh), "%"));

/// Alarms without a row are events, whose own text is the description.
#[rustfmt::skip]
static WORDINGS: &[Wording] = &[
    row("cell_overvoltage", "cell voltage", HIGH, HIGHEST_CELL),
    row("cell_undervoltage", "cell voltage", LOW, LOWEST_CELL),
    row("cell_voltage_difference", "cell voltage difference", HIGH, CELL_DIFFERENCE),
    row("pack_overvoltage", "pack voltage", HIGH, PACK_VOLTAGE),
    row("pack_undervoltage", "pack voltage", LOW, PACK_VOLTAGE),
    row("charge_overvoltage", "charge voltage", HIGH, None),
    row("charge_undervoltage", "charge voltage", LOW, None),
    row("discharge_overvoltage", "discharge voltage", HIGH, None),
    row("charge_overcurrent", "charge current", HIGH, CURRENT),
    row("discharge_overcurrent", "discharge current", HIGH, CURRENT),
    row("discharge_overcurrent_2", "second-level discharge current", HIGH, CURRENT),
    row("discharge_overcurrent_3", "third-level discharge current", HIGH, CURRENT),
    row("transient_overcurrent", "transient current", HIGH, None),
    row("charge_overtemperature", "charging temperature", HIGH, HIGHEST_TEMPERATURE),
    row("charge_undertemperature", "charging temperature", LOW, LOWEST_TEMPERATURE),
    row("discharge_overtemperature", "discharging temperature", HIGH, HIGHEST_TEMPERATURE),
    row("discharge_undertemperature", "discharging temperature", LOW, LOWEST_TEMPERATURE),
    row("cell_overtemperature", "cell temperature", HIGH, HIGHEST_TEMPERATURE),
    row("cell_undertemperature", "cell temperature", LOW, LOWEST_TEMPERATURE),
    row("battery_overtemperature", "battery temperature", HIGH, HIGHEST_TEMPERATURE),
    row("battery_undertemperature", "battery temperature", LOW, LOWEST_TEMPERATURE),
    row("ambient_overtemperature", "ambient temperature", HIGH, AMBIENT),
    row("ambient_undertemperature", "ambient temperature", LOW, AMBIENT),
    row("mos_overtemperature", "MOSFET temperature", HIGH, MOSFET),
    row("charge_mos_overtemperature", "Charge MOSFET temperature", HIGH, MOSFET),
    row("discharge_mos_overtemperature", "Discharge MOSFET temperature", HIGH, MOSFET),
    row("mos_undertemperature", "MOSFET temperature", LOW, MOSFET),
    row("temperature_difference", "temperature difference", HIGH, None),
    row("wire_resistance", "resistance of a balance wire", HIGH, None),
    row("low_battery", "charge", LOW, CHARGE),
    row("low_soc", "charge", LOW, CHARGE),
    row("low_soh", "state of health", LOW, HEALTH),
];

const fn row(
    alarm: &'static str,
    quantity: &'static str,
    direction: &'static str,
    measured: Option<(Measured, &'static str)>,
) -> Wording {
    Wording { alarm, quantity, direction, measured }
}

fn value(measured: Option<impl Into<Value>>) -> Option<Value> {
    measured.map(Into::into)
}

fn probe(reading: &Reading, location: SensorLocation) -> Option<Value> {
    value(reading.probes_at(location).flatten().next())
}

/// An alarm of the battery, which reports neither the cell nor the value that raised it. The
/// present value may be normal again, hence "now".
pub(super) fn reported(alarm: Alarm, reading: &Reading, derived: &Derived) -> AlarmDescription {
    let kind = match alarm.severity() {
        Severity::Warning => "BMS warning",
        Severity::Protection => "BMS protection",
        Severity::Fault => "BMS fault",
    };
    let base = alarm.name().trim_end_matches("_warning");
    let Some(wording) = WORDINGS.iter().find(|wording| wording.alarm == base) else {
        let event = within_sentence(alarm.text().trim_end_matches(" warning"));
        return AlarmDescription::new(format!("{event} ({kind})"));
    };
    let subject = format!("{} {}", wording.quantity, wording.direction);
    let measured = wording.measured.and_then(|(get, unit)| Some((get(reading, derived)?, unit)));
    let Some((value, unit)) = measured else {
        return AlarmDescription::new(format!("{subject} ({kind})"));
    };
    let amount = amount(&value, unit);
    // The quantity contains the direction, which is the sign elsewhere.
    let amount = if unit == "A" { amount.trim_start_matches('-') } else { &amount };
    AlarmDescription {
        value: Some(value),
        unit: Some(unit),
        ..AlarmDescription::new(format!("{subject}, now {amount} ({kind})"))
    }
}

/// A value beyond a threshold of the configuration.
pub(super) fn exceeded(threshold: Threshold, status: &ThresholdStatus) -> AlarmDescription {
    let ThresholdStatus { value, limit, cell, .. } = status.clone();
    let (unit, _) = threshold.unit_and_scale();
    let direction = if threshold.is_upper() { HIGH } else { LOW };
    let subject = match (threshold, cell) {
        (Threshold::CellLow | Threshold::CellHigh, Some(cell)) => format!("cell {cell}"),
        (Threshold::CellLow | Threshold::CellHigh, None) => "cell voltage".to_owned(),
        (Threshold::CellDelta, _) => "cell voltage difference".to_owned(),
        (Threshold::TempHigh | Threshold::TempLow, _) => "temperature".to_owned(),
        (Threshold::SocLow, _) => "charge".to_owned(),
    };
    let (now, bound) = (amount(&value, unit), amount(&limit, unit));
    AlarmDescription {
        cell,
        value: Some(value),
        limit: Some(limit),
        unit: Some(unit),
        ..AlarmDescription::new(format!("{subject} {direction}, {now} (limit {bound})"))
    }
}

/// An abnormal state on a text console, such as `voltage_status` or `cell_3_voltage_status`.
pub(super) fn abnormal(subject: &str, status: &str, reading: &Reading) -> AlarmDescription {
    let cell_subject = subject.strip_prefix("cell_").and_then(|rest| rest.split_once('_'));
    let cell_subject = cell_subject.and_then(|(cell, rest)| Some((cell.parse().ok()?, rest)));
    let (cell, subject) = cell_subject.map_or((None, subject), |(cell, rest)| (Some(cell), rest));
    let place = cell.map(|cell: usize| format!("cell {cell} ")).unwrap_or_default();
    let at_cell = |cell: usize| reading.cells.get(cell.checked_sub(1)?);
    let (value, unit) = match (subject, cell) {
        ("voltage_status", None) => (value(reading.pack.voltage), "V"),
        ("current_status", None) => (value(reading.pack.current), "A"),
        ("voltage_status", Some(cell)) => (value(at_cell(cell).and_then(|it| it.voltage)), "V"),
        ("temperature_status", Some(cell)) => {
            (value(at_cell(cell).and_then(|it| it.temperature)), "°C")
        }
        _ => (None, ""),
    };
    let now = value.as_ref().map(|value| format!(", now {}", amount(value, unit)));
    let subject = subject.replace('_', " ");
    let text = format!("{place}{subject} {status}{} (BMS)", now.unwrap_or_default());
    let unit = value.is_some().then_some(unit);
    AlarmDescription { cell, value, unit, ..AlarmDescription::new(text) }
}

impl AlarmDescription {
    fn new(text: String) -> Self {
        AlarmDescription { text, cell: None, value: None, limit: None, unit: None }
    }

    /// `Rack 1 cell 3 high, ...` or `Rack 1: charge low, ...`.
    pub fn message(&self, battery: &str) -> String {
        let separator = if self.cell.is_some() { " " } else { ": " };
        format!("{battery}{separator}{}", self.text)
    }
}

/// `20 %` instead of `20.0 %`.
fn amount(value: &Value, unit: &str) -> String {
    let text = value.to_string();
    format!("{} {unit}", text.trim_end_matches(".0"))
}

/// Lower case at the beginning, except for abbreviations.
fn within_sentence(text: &str) -> String {
    let mut letters = text.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if !second.is_uppercase() => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
#[path = "alarm_message_tests.rs"]
mod tests;
