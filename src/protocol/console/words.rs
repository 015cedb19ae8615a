//! The words in which consoles describe states. Nobody documents them all: `Low`, `SysError` and
//! others come from reports, so every word that is not known to be harmless is a worry.

use crate::model::Reading;
use crate::model::reading::ConsoleStatus;
use crate::model::snapshot::Activity;

const HARMLESS: [&str; 4] = ["Normal", "-", "", "Absent"];

/// The word itself when it is something to worry about.
pub fn worry(word: &str) -> Option<&str> {
    Some(word).filter(|word| !HARMLESS.iter().any(|fine| fine.eq_ignore_ascii_case(word)))
}

/// What a battery with this basic state is doing; `None` for a word that does not say it.
pub fn activity(base: &str) -> Option<Activity> {
    match base.to_ascii_lowercase().as_str() {
        "charge" => Some(Activity::Charging),
        "dischg" | "discharge" => Some(Activity::Discharging),
        "idle" => Some(Activity::Idle),
        _ => None,
    }
}

/// Takes the four words over a pack into the reading, with the worries among them.
pub fn note_pack(words: ConsoleStatus, into: &mut Reading) {
    if let Some(base) = &words.base {
        into.pack.activity = activity(base);
        let worry = worry(base).filter(|base| activity(base).is_none());
        into.alarms.note_status("base_status", worry);
    }
    note(into, "voltage_status", words.voltage.as_deref());
    note(into, "current_status", words.current.as_deref());
    note(into, "temperature_status", words.temperature.as_deref());
    into.pack.console_status = words;
}

/// Notes what is said about one subject; a word that is missing says nothing.
pub fn note(into: &mut Reading, subject: &str, word: Option<&str>) {
    if let Some(word) = word {
        into.alarms.note_status(subject, worry(word));
    }
}

/// Notes the worries about single cells. A stack has a hundred of them, so those that are well go
/// without saying.
pub fn note_cells(into: &mut Reading) {
    let mut worries = Vec::new();
    for (cell, number) in into.cells.iter().zip(1..) {
        let subjects =
            [("voltage", &cell.voltage_status), ("temperature", &cell.temperature_status)];
        for (subject, word) in subjects {
            if let Some(word) = word.as_deref().and_then(worry) {
                worries.push((format!("cell_{number}_{subject}_status"), word.to_owned()));
            }
        }
    }
    for (subject, word) in worries {
        into.alarms.note_status(subject, Some(&word));
    }
}

/// Notes the battery's own error number; 0 is "no error".
pub fn note_error_code(into: &mut Reading, code: u32) {
    into.pack.error_code = Some(code);
    let word = code.to_string();
    into.alarms.note_status("error_code", (code != 0).then_some(&*word));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::reading::Cell;

    fn words(all: [&str; 4]) -> ConsoleStatus {
        let [base, voltage, current, temperature] = all.map(|word| Some(word.to_owned()));
        ConsoleStatus { base, voltage, current, temperature }
    }

    #[test]
    fn every_word_that_is_not_known_to_be_harmless_is_a_worry() {
        for (all, raised) in [
            (["Charge", "Normal", "Normal", "Normal"], &[][..]),
            (["Idle", "normal", "-", "Absent"], &[]),
            (["Dischg", "Low", "Normal", "Normal"], &["voltage status: Low"]),
            (
                ["SysError", "Normal", "Normal", "?"],
                &["base status: SysError", "temperature status: ?"],
            ),
        ] {
            let mut reading = Reading::default();
            note_pack(words(all), &mut reading);
            assert_eq!(reading.alarms.raised().collect::<Vec<_>>(), raised, "{all:?}");
        }
    }

    #[test]
    fn the_basic_state_is_what_the_battery_does() {
        assert_eq!(activity("Dischg"), Some(Activity::Discharging));
        assert_eq!(activity("Balance"), None);
    }

    #[test]
    fn only_worried_cells_are_named() {
        let mut reading = Reading { cells: vec![Cell::default(); 3], ..Reading::default() };
        reading.cells[0].voltage_status = Some("Normal".into());
        reading.cells[2].temperature_status = Some("Over".into());
        note_cells(&mut reading);
        note_error_code(&mut reading, 12);
        let raised: Vec<_> = reading.alarms.raised().collect();
        assert_eq!(raised, ["cell 3 temperature status: Over", "error code: 12"]);
    }
}
