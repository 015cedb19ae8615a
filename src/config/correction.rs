//! What a rejected value was probably meant to be.

use super::variables::{BMS_PORT, Variable};

/// The first usual correction that the rule of the variable accepts.
pub(super) fn correction(variable: &Variable, text: &str) -> Option<String> {
    let quoted = ['"', '\''].into_iter().find_map(|quote| {
        text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote)).map(str::trim)
    });
    let bare = quoted.unwrap_or(text);
    let is_port = variable.name == BMS_PORT.name;
    let candidates = [
        Some(bare.to_owned()),
        // A decimal comma.
        Some(bare.replace(',', ".")),
        // A unit: `30 s`, `3,65V`.
        number(bare).map(|number| number.replace(',', ".")),
        is_port.then(|| format!("tcp://{bare}")).filter(|_| bare.contains(':')),
        is_port.then(|| format!("/dev/{bare}")).filter(|_| bare.starts_with("tty")),
        is_port.then(|| format!("/{bare}")).filter(|_| bare.starts_with("dev/")),
    ];
    let mut candidates = candidates.into_iter().flatten();
    candidates.find(|candidate| candidate != text && variable.rule.accepts(candidate))
}

/// The number in front of a unit.
fn number(text: &str) -> Option<&str> {
    let is_unit = |c: char| c.is_alphabetic() || matches!(c, '%' | '°');
    let number = text.trim_end_matches(is_unit).trim_end();
    // A name may begin with digits.
    let is_number = number.ends_with(|c: char| c.is_ascii_digit()) && number.len() < text.len();
    is_number.then_some(number)
}

#[cfg(test)]
mod tests {
    use super::super::variables::{ALARM_CELL_HIGH, LOG_LEVEL, MQTT_HOST, READ_INTERVAL};
    use super::*;

    #[test]
    fn usual_mistake_is_corrected() {
        for (variable, text, expected) in [
            (&READ_INTERVAL, "2,5", Some("2.5")),
            (&READ_INTERVAL, "30 s", Some("30")),
            (&READ_INTERVAL, "'30'", Some("30")),
            (&READ_INTERVAL, "soon", None),
            (&ALARM_CELL_HIGH, "\"3,65\"", Some("3.65")),
            (&ALARM_CELL_HIGH, "3,65 V", Some("3.65")),
            (&ALARM_CELL_HIGH, "365", None),
            (&BMS_PORT, "192.168.1.40:8899", Some("tcp://192.168.1.40:8899")),
            (&BMS_PORT, "bridge.lan:23", Some("tcp://bridge.lan:23")),
            (&BMS_PORT, "ttyUSB0", Some("/dev/ttyUSB0")),
            (&BMS_PORT, "dev/ttyUSB0", Some("/dev/ttyUSB0")),
            (&BMS_PORT, "COM3", None),
            (&LOG_LEVEL, "loud", None),
            (&MQTT_HOST, "\"broker\"", Some("broker")),
        ] {
            let found = correction(variable, text);
            assert_eq!(found.as_deref(), expected, "{} {text}", variable.name);
        }
    }
}
