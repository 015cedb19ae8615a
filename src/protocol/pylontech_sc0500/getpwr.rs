//! The reply to `getpwr`: values that end with `#`, in one stream.
//!
//! | records | values | meaning |
//! |---|---|---|
//! | 1 | 8 | mV, mA (positive while charging), 0.001 °C, charge left, four states |
//! | one per cell | 4 | mV, 0.001 °C, two states |
//! | 1 | 1 | error code, 0 is none |
//! | 1 | 1 | cycles |
//!
//! Sources describe it as lines or as one long line, so line ends are ignored.

use super::super::console::states;
use super::super::console::table::{number, temperature, word};
use super::{CELLS_PER_MODULE, user};
use crate::model::{
    ConsoleStatus, MilliampHours, Milliamps, Millivolts, MilliwattHours, Probe, Reading,
    SensorLocation,
};
use crate::protocol::{CapacityUnit, DecodeError, Options};

const SUMMARY: usize = 8;
const CELL: usize = 4;
const FOOTER: usize = 2;

/// [`DecodeError::Empty`] stands for a reply without any value.
pub(super) fn decode(
    lines: &[String],
    options: &Options,
    into: &mut Reading,
) -> Result<(), DecodeError> {
    let values = values(lines)?;
    if values.is_empty() {
        return Err(DecodeError::Empty);
    }
    let is_whole = |count: &usize| *count > 0 && count.is_multiple_of(CELL);
    let cells = values.len().checked_sub(SUMMARY + FOOTER).filter(is_whole);
    let cells = cells.ok_or_else(|| {
        DecodeError::Invalid(format!("{} values do not form complete records", values.len()))
    })?;
    let (summary, rest) = values.split_at(SUMMARY);
    let (cells, footer) = rest.split_at(cells);
    let (records, _) = cells.as_chunks::<CELL>();
    if !records.len().is_multiple_of(CELLS_PER_MODULE) {
        let count = records.len();
        let reason = format!("{count} cells are not a multiple of {CELLS_PER_MODULE} per module");
        return Err(DecodeError::Invalid(reason));
    }
    decode_summary(summary, options.capacity_unit, into)?;
    let cells = records.iter().zip(1..).map(|(&[voltage, degrees, first, second], index)| {
        user::cell(index, voltage, degrees, first, second)
    });
    into.cells = cells.collect::<Result<_, _>>()?;
    states::set_cells(into);
    if let [error, cycles] = footer {
        if let Some(code) = number("error code", error)?.and_then(|code| u32::try_from(code).ok()) {
            states::set_error_code(into, code);
        }
        into.pack.cycles =
            number("cycle count", cycles)?.and_then(|count| u32::try_from(count).ok());
    }
    into.received.cell_info = true;
    Ok(())
}

fn values(lines: &[String]) -> Result<Vec<&str>, DecodeError> {
    let mut values = Vec::new();
    for line in lines.iter().filter(|line| line.contains('#')) {
        let mut parts: Vec<&str> = line.split('#').map(str::trim).collect();
        match parts.pop() {
            Some(rest) if !rest.is_empty() => {
                return Err(DecodeError::Invalid(format!("the value `{rest}` is cut off")));
            }
            _ => values.extend(parts),
        }
    }
    Ok(values)
}

fn decode_summary(
    summary: &[&str],
    unit: CapacityUnit,
    into: &mut Reading,
) -> Result<(), DecodeError> {
    let [voltage, current, degrees, charge, ref status @ ..] = *summary else {
        return Err(DecodeError::Empty);
    };
    let pack = &mut into.pack;
    pack.voltage = number("voltage", voltage)?.map(Millivolts);
    pack.current = number("current", current)?.map(Milliamps);
    let charge = number("capacity", charge)?.map(i64::from);
    match unit {
        CapacityUnit::WattHours => {
            pack.remaining_energy = charge.map(|hours| MilliwattHours(hours * 1000));
        }
        CapacityUnit::MilliampHours => pack.remaining = charge.map(MilliampHours),
    }
    // Users know this value as the average and keep their topic. Recorded replies show that it is
    // the temperature of the controller, far from the mean of the cells.
    let value = number("temperature", degrees)?.map(temperature);
    into.probes = vec![Probe { location: SensorLocation::Average, value }];
    let state = |index: usize, name| {
        let text = status.get(index).filter(|text| !text.is_empty());
        text.map(|text| word(name, text).map(str::to_owned)).transpose()
    };
    let states = ConsoleStatus {
        base: state(0, "base state")?,
        voltage: state(1, "voltage state")?,
        current: state(2, "current state")?,
        temperature: state(3, "temperature state")?,
    };
    states::set_pack(states, into);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(cells: usize) -> Vec<String> {
        let head = "49768#  -2632#  29300# 43259# Dischg# Normal# Normal# Normal#";
        let mut lines = vec![head.to_owned()];
        lines.extend((0..cells).map(|_| "3317#  26300# Normal# Normal#".to_owned()));
        lines.extend(["0#".to_owned(), "666#".to_owned()]);
        lines
    }

    fn read(lines: &[String]) -> Result<Reading, DecodeError> {
        let mut reading = Reading::default();
        decode(lines, &Options::default(), &mut reading).map(|()| reading)
    }

    #[test]
    fn fourth_value_has_the_configured_unit() {
        let reading = read(&stack(15)).unwrap();
        assert_eq!(reading.pack.remaining_energy, Some(MilliwattHours(43_259_000)));
        assert_eq!(reading.pack.remaining, None);
        let options = Options { capacity_unit: CapacityUnit::MilliampHours, ..Options::default() };
        let mut reading = Reading::default();
        decode(&stack(15), &options, &mut reading).unwrap();
        assert_eq!(reading.pack.remaining, Some(MilliampHours(43_259)));
        assert_eq!(reading.pack.remaining_energy, None);
    }

    #[test]
    fn dashes_are_unknown_values() {
        let mut lines = stack(15);
        lines[3] = "-# -# -# Absent#".to_owned();
        let reading = read(&lines).unwrap();
        assert_eq!((reading.cells[2].voltage, reading.cells[2].temperature), (None, None));
        assert!(!reading.alarms.any_active());
    }

    #[test]
    fn line_noise_is_no_alarm() {
        for noisy in ["Nor\u{FFFD}al", "\u{FFFD}"] {
            for line in [0, 3] {
                let mut lines = stack(15);
                lines[line] = lines[line].replacen("Normal", noisy, 1);
                assert!(matches!(read(&lines), Err(DecodeError::Invalid(_))), "{noisy} in {line}");
            }
        }
    }

    #[test]
    fn incomplete_reply_is_an_error() {
        let error = |lines: &[String]| read(lines).unwrap_err().to_string();
        assert_eq!(read(&[]), Err(DecodeError::Empty));
        assert_eq!(error(&stack(14)), "14 cells are not a multiple of 15 per module");
        assert_eq!(error(&stack(0)), "10 values do not form complete records");
        assert_eq!(error(&stack(15)[1..]), "13 cells are not a multiple of 15 per module");
        let mut lines = stack(15);
        lines[4] = "3317#  26300# Normal# Nor".to_owned();
        assert_eq!(error(&lines), "the value `Nor` is cut off");
        lines[4] = "33I7#  26300# Normal# Normal#".to_owned();
        assert_eq!(error(&lines), "voltage of cell 4 is `33I7`, which is not a number");
    }
}
