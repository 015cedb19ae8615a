//! The words with which consoles describe states. No document lists all of them (`Low`, `SysError`
//! and others come from reports), so every word that is not known to be harmless raises an alarm.

use crate::model::{Activity, ConsoleStatus, Reading};

const HARMLESS: [&str; 4] = ["Normal", "-", "", "Absent"];

/// The word itself if it is not harmless.
pub fn abnormal(word: &str) -> Option<&str> {
    Some(word).filter(|word| !HARMLESS.iter().any(|harmless| harmless.eq_ignore_ascii_case(word)))
}

/// `None` for a base state that does not describe the direction of the current.
pub fn activity(base: &str) -> Option<Activity> {
    match base.to_ascii_lowercase().as_str() {
        "charge" => Some(Activity::Charging),
        "dischg" | "discharge" => Some(Activity::Discharging),
        "idle" => Some(Activity::Idle),
        _ => None,
    }
}

/// Sets the states of the pack and the alarms that follow from them.
pub fn set_pack(states: ConsoleStatus, into: &mut Reading) {
    if let Some(base) = &states.base {
        into.pack.activity = activity(base);
        let alarm = abnormal(base).filter(|base| activity(base).is_none());
        into.alarms.note_status("base_status", alarm);
    }
    set(into, "voltage_status", states.voltage.as_deref());
    set(into, "current_status", states.current.as_deref());
    set(into, "temperature_status", states.temperature.as_deref());
    into.pack.console_status = states;
}

/// A missing word leaves the alarm unknown.
pub fn set(into: &mut Reading, name: &str, word: Option<&str>) {
    if let Some(word) = word {
        into.alarms.note_status(name, abnormal(word));
    }
}

/// Raises the alarms of single cells. A stack has a hundred cells, so normal ones get no entry.
pub fn set_cells(into: &mut Reading) {
    let Reading { cells, alarms, .. } = into;
    for (cell, number) in cells.iter().zip(1..) {
        let states = [("voltage", &cell.voltage_status), ("temperature", &cell.temperature_status)];
        for (quantity, word) in states {
            if let Some(word) = word.as_deref().and_then(abnormal) {
                alarms.note_status(format!("cell_{number}_{quantity}_status"), Some(word));
            }
        }
    }
}

/// Error code 0 means no error.
pub fn set_error_code(into: &mut Reading, code: u32) {
    into.pack.error_code = Some(code);
    let word = code.to_string();
    into.alarms.note_status("error_code", (code != 0).then_some(&*word));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::reading::Cell;

    fn status(words: [&str; 4]) -> ConsoleStatus {
        let [base, voltage, current, temperature] = words.map(|word| Some(word.to_owned()));
        ConsoleStatus { base, voltage, current, temperature }
    }

    fn abnormal_statuses(reading: &Reading) -> Vec<(&str, &str)> {
        let statuses = reading.alarms.statuses();
        statuses.filter_map(|(subject, status)| Some((subject, status?))).collect()
    }

    #[test]
    fn unknown_state_raises_an_alarm() {
        for (words, raised) in [
            (["Charge", "Normal", "Normal", "Normal"], &[][..]),
            (["Idle", "normal", "-", "Absent"], &[]),
            (["Dischg", "Low", "Normal", "Normal"], &[("voltage_status", "Low")]),
            (
                ["SysError", "Normal", "Normal", "?"],
                &[("base_status", "SysError"), ("temperature_status", "?")],
            ),
        ] {
            let mut reading = Reading::default();
            set_pack(status(words), &mut reading);
            assert_eq!(abnormal_statuses(&reading), raised, "{words:?}");
        }
    }

    #[test]
    fn base_state_gives_the_activity() {
        assert_eq!(activity("Dischg"), Some(Activity::Discharging));
        assert_eq!(activity("Balance"), None);
    }

    #[test]
    fn only_abnormal_cells_raise_an_alarm() {
        let mut reading = Reading { cells: vec![Cell::default(); 3], ..Reading::default() };
        reading.cells[0].voltage_status = Some("Normal".into());
        reading.cells[2].temperature_status = Some("Over".into());
        set_cells(&mut reading);
        set_error_code(&mut reading, 12);
        let expected = [("cell_3_temperature_status", "Over"), ("error_code", "12")];
        assert_eq!(abnormal_statuses(&reading), expected);
    }
}
