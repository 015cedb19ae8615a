//! A reading as a line of InfluxDB's line protocol.

use std::fmt::Write;

use crate::model::{DeviceState, Value, entries};

/// Name of the measurement.
pub const MEASUREMENT: &str = "battery";
/// The only tag: InfluxDB 3 fixes the tags of a table at the first write. No field may have its name.
pub const TAG: &str = "id";

/// All numbers and flags of a battery at this second; `None` if there are none.
///
/// A number has no suffix and is therefore a float, also where it is whole: the first write fixes the type
/// of a field. Texts are left out, because VictoriaMetrics turns them into 0. Neither the characters of an
/// ID nor those of a key are ones that need escaping.
pub fn line(state: &DeviceState, second: u64) -> Option<String> {
    let mut line = format!("{MEASUREMENT},{TAG}={}", state.profile.id);
    let head = line.len();
    for entry in entries(state) {
        let separator = if line.len() == head { ' ' } else { ',' };
        // Writing into a String cannot fail.
        let _ = match entry.value {
            Value::Text(_) => continue,
            Value::Switch(on) => write!(line, "{separator}{}={on}", entry.key),
            number => write!(line, "{separator}{}={number}", entry.key),
        };
    }
    let is_empty = line.len() == head;
    let _ = write!(line, " {second}");
    (!is_empty).then_some(line)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::model::catalog::{CATALOG, Get};
    use crate::model::derive::derive;
    use crate::model::units::{CentiPercent, Millivolts};
    use crate::model::{Alarm, Cell, DeviceId, EntryKey, Millis, Profile, Reading, Uptime};

    fn state(id: DeviceId, reading: Reading) -> DeviceState {
        let mut state = DeviceState::new(Profile::new(id, "daren", "Daren"));
        let derived = derive(&reading);
        state.accept((Millis(0), Uptime(0)), 250, reading, derived);
        state
    }

    fn reading() -> Reading {
        let mut reading = Reading::default();
        reading.pack.soc = Some(CentiPercent(6400));
        reading.pack.cycles = Some(12);
        reading.pack.console_status.voltage = Some("high".into());
        reading.cells = vec![Cell::of(Millivolts(3309)), Cell::default()];
        reading.alarms.note(Alarm::FuseBlown, true);
        reading
    }

    /// Tag, fields and second of a line without escapes.
    fn parse(line: &str) -> Option<(&str, BTreeMap<&str, &str>, u64)> {
        let mut parts = line.strip_prefix("battery,id=")?.split(' ');
        let (id, fields, second) = (parts.next()?, parts.next()?, parts.next()?);
        let fields = fields.split(',').map(|field| field.split_once('=')).collect::<Option<_>>()?;
        (parts.next().is_none() && !id.contains([',', '='])).then_some(())?;
        Some((id, fields, second.parse().ok()?))
    }

    #[test]
    fn numbers_are_floats_flags_booleans_and_unknown_values_absent() {
        let state = state(DeviceId::new("rack-1").unwrap(), reading());
        let line = line(&state, 1_771_097_625).unwrap();
        let (id, fields, second) = parse(&line).unwrap();
        assert_eq!((id, second), ("rack-1", 1_771_097_625));
        for (key, value) in [
            ("soc", "64.0"),
            ("cycle_count", "12"),
            ("cell_1_voltage", "3.309"),
            ("alarm_fuse_blown", "true"),
            ("problem", "true"),
            ("read_errors", "0"),
        ] {
            assert_eq!(fields.get(key), Some(&value), "{line}");
        }
        for key in ["voltage_status", "last_update", "pack_voltage", "cell_2_voltage"] {
            assert_eq!(fields.get(key), None, "{line}");
        }
        for value in fields.values() {
            let is_flag = ["true", "false"].contains(value);
            assert!(is_flag || value.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
        }
    }

    #[test]
    fn no_key_is_the_tag_or_needs_escaping() {
        for quantity in CATALOG {
            let key = match quantity.get {
                Get::Alarm => continue,
                _ => quantity.key.replace("{}", "1"),
            };
            assert_ne!(key, TAG);
            assert!(EntryKey::parse(&key).is_some() && DeviceId::new(&key).is_some(), "{key}");
        }
        assert!(Alarm::ALL.iter().all(|alarm| DeviceId::new(alarm.name()).is_some()));
    }

    proptest! {
        #[test]
        fn any_id_is_one_line_that_parses_back(text in "\\PC{0,12}|[A-Za-z0-9_-]{1,64}|.{0,12}") {
            if let Some(id) = DeviceId::new(&text) {
                let line = line(&state(id, reading()), 7).unwrap();
                let (id, _, second) = parse(&line).unwrap();
                prop_assert_eq!((id, second, line.lines().count()), (text.as_str(), 7, 1));
            }
        }
    }
}
