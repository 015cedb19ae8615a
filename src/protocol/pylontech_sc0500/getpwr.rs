//! The answer to `getpwr`: values that end with `#`, in one stream.
//!
//! | records | values | meaning |
//! |---|---|---|
//! | 1 | 8 | mV, mA (charging is positive), 0.001 °C, charge left, four words |
//! | one for each cell | 4 | mV, 0.001 °C, two words |
//! | 1 | 1 | error number, 0 is none |
//! | 1 | 1 | cycles |
//!
//! Some describe it as lines, some as one long line, so line ends do not count.

use crate::model::Reading;
use crate::model::reading::{Cell, ConsoleStatus, Probe, SensorLocation};
use crate::model::units::{MilliampHours, Milliamps, Millivolts, MilliwattHours};
use crate::protocol::CapacityUnit;
use crate::protocol::DecodeError;
use crate::protocol::console::table::{number, temperature};
use crate::protocol::console::words;

use super::CELLS_PER_MODULE;

const HEAD: usize = 8;
const CELL: usize = 4;
const FOOT: usize = 2;

/// Reads an answer into a reading.
pub fn decode(lines: &[String], unit: CapacityUnit, into: &mut Reading) -> Result<(), DecodeError> {
    let values = values(lines)?;
    if values.is_empty() {
        return Err(DecodeError::Empty);
    }
    let whole = |count: &usize| *count > 0 && count.is_multiple_of(CELL);
    let cells = values.len().checked_sub(HEAD + FOOT).filter(whole);
    let cells = cells.ok_or(count(values.len()))?;
    let (head, rest) = values.split_at(HEAD);
    let (cells, foot) = rest.split_at(cells);
    if !(cells.len() / CELL).is_multiple_of(CELLS_PER_MODULE) {
        return Err(odd_cells(cells.len() / CELL));
    }
    summary(head, unit, into)?;
    let (records, _) = cells.as_chunks::<CELL>();
    into.cells = records.iter().zip(1..).map(cell).collect::<Result<_, _>>()?;
    words::note_cells(into);
    if let [error, cycles] = foot {
        if let Some(code) = number("error code", error)?.and_then(|code| u32::try_from(code).ok()) {
            words::note_error_code(into, code);
        }
        into.pack.cycles =
            number("cycle count", cycles)?.and_then(|count| u32::try_from(count).ok());
    }
    into.received.cell_info = true;
    Ok(())
}

fn count(values: usize) -> DecodeError {
    DecodeError::Invalid(format!("{values} values make no whole records"))
}

fn odd_cells(count: usize) -> DecodeError {
    DecodeError::Invalid(format!(
        "the cell count is {count}, which is no whole number of modules of {CELLS_PER_MODULE}"
    ))
}

fn values(lines: &[String]) -> Result<Vec<&str>, DecodeError> {
    let mut values = Vec::new();
    for line in lines.iter().filter(|line| line.contains('#')) {
        let mut parts: Vec<&str> = line.split('#').map(str::trim).collect();
        match parts.pop() {
            Some(rest) if !rest.is_empty() => {
                return Err(DecodeError::Invalid(format!("a value `{rest}` without its end")));
            }
            _ => values.extend(parts),
        }
    }
    Ok(values)
}

fn summary(head: &[&str], unit: CapacityUnit, into: &mut Reading) -> Result<(), DecodeError> {
    let [voltage, current, degrees, charge, base, volts, amps, heat] = *head else {
        return Err(count(head.len()));
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
    // Its users know it as the average, and keep their topic; recorded answers say that it is the
    // controller's own temperature, far from the mean of the cells.
    let value = number("temperature", degrees)?.map(temperature);
    into.probes = vec![Probe { location: SensorLocation::Average, value }];
    let word = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let words = ConsoleStatus {
        base: word(base),
        voltage: word(volts),
        current: word(amps),
        temperature: word(heat),
    };
    words::note_pack(words, into);
    Ok(())
}

fn cell((record, index): (&[&str; CELL], usize)) -> Result<Cell, DecodeError> {
    let [voltage, degrees, first, second] = *record;
    let name = |what: &str| format!("{what} of cell {index}");
    Ok(Cell {
        voltage: number(&name("voltage"), voltage)?.map(Millivolts),
        temperature: number(&name("temperature"), degrees)?.map(temperature),
        voltage_status: Some(first.to_owned()),
        temperature_status: Some(second.to_owned()),
        ..Cell::default()
    })
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
        decode(lines, CapacityUnit::WattHours, &mut reading).map(|()| reading)
    }

    #[test]
    fn the_fourth_value_is_what_the_operator_says() {
        let reading = read(&stack(15)).unwrap();
        assert_eq!(reading.pack.remaining_energy, Some(MilliwattHours(43_259_000)));
        assert_eq!(reading.pack.remaining, None);
        let mut reading = Reading::default();
        decode(&stack(15), CapacityUnit::MilliampHours, &mut reading).unwrap();
        assert_eq!(reading.pack.remaining, Some(MilliampHours(43_259)));
        assert_eq!(reading.pack.remaining_energy, None);
    }

    #[test]
    fn unknown_values_stay_unknown() {
        let mut lines = stack(15);
        lines[3] = "-# -# -# Absent#".to_owned();
        let reading = read(&lines).unwrap();
        assert_eq!((reading.cells[2].voltage, reading.cells[2].temperature), (None, None));
        assert!(!reading.alarms.any_active());
    }

    #[test]
    fn every_way_to_be_incomplete_is_told() {
        assert_eq!(read(&[]), Err(DecodeError::Empty));
        assert_eq!(read(&stack(14)), Err(odd_cells(14)));
        assert_eq!(read(&stack(0)), Err(count(10)));
        assert_eq!(read(&stack(15)[1..]), Err(odd_cells(13)));
        let mut lines = stack(15);
        lines[4] = "3317#  26300# Normal# Nor".to_owned();
        assert_eq!(read(&lines), Err(DecodeError::Invalid("a value `Nor` without its end".into())));
        lines[4] = "33I7#  26300# Normal# Normal#".to_owned();
        let told = read(&lines).unwrap_err().to_string();
        assert_eq!(told, "voltage of cell 4 is `33I7`, which is no number");
    }
}
