//! The commands that need no log-in:
//!
//! | command | content |
//! |---|---|
//! | `pwr` | the stack: voltage, current, state of charge, states, error code |
//! | `info` | names, versions, serial numbers of the modules |
//! | `bat` | the cells |
//! | `unit` | the lowest and highest cell of each module, used if `bat` has no cells |
//!
//! `unit` and `bat` count from the far end of the stack: their first module is the last BMU
//! (mletenay/home-assistant-pylontech).

use super::super::console::table::{
    Row, Table, consecutive_cells, field, number, temperature, word,
};
use super::super::console::{ConsoleDialect, Decode, query, states};
use super::{IDENTITY, assign_serials, divide_into_modules, serials};
use crate::model::{
    Cell, MilliampHours, Milliamps, Millivolts, MilliwattHours, Module, Probe, Reading,
    SensorLocation,
};
use crate::protocol::{DecodeError, Need, Options};

pub(super) static DIALECT: ConsoleDialect = ConsoleDialect {
    queries: &[
        query("pwr", Need::Required, Decode::Values(pwr)),
        IDENTITY,
        query("bat", Need::Steady, Decode::Values(bat)),
        query("unit", Need::Steady, Decode::Values(unit)),
    ],
    complete: |reading, info| {
        let mut serials = serials(info);
        serials.reverse();
        if reading.cells.is_empty() {
            assign_serials(&mut reading.modules, serials);
        } else {
            divide_into_modules(reading, serials);
        }
        states::set_cells(reading);
    },
};

fn pwr(lines: &[String], _: &Options, into: &mut Reading) -> Result<(), DecodeError> {
    let table = Table::find(lines)?;
    let row = table.rows().next().ok_or(DecodeError::Empty)?;
    // In that table rows are packs, and their charge is a percentage only.
    if row.word("Coulomb")?.is_some() && row.word("CoulombAH")?.is_none() {
        let reason = "this is the console of a low-voltage pack (pylontech-console)";
        return Err(DecodeError::Invalid(reason.to_owned()));
    }
    let pack = &mut into.pack;
    pack.voltage = Some(Millivolts(row.number("Volt")?.ok_or(DecodeError::Empty)?));
    pack.current = row.number("Curr")?.map(Milliamps);
    pack.soc = row.percent("CoulombAH")?;
    pack.remaining = row.amount("CoulombAH", "mAH")?.map(|mah| MilliampHours(mah.into()));
    let energy = row.amount("CoulombWH", "WH")?;
    pack.remaining_energy = energy.map(|hours| MilliwattHours(i64::from(hours) * 1000));
    let average =
        lines.iter().filter_map(|line| field(line)).find(|(key, _)| key == "AverageTempr");
    if let Some((key, text)) = average {
        let value = number(&key, text)?.map(temperature);
        into.probes.push(Probe { location: SensorLocation::Average, value });
    }
    // Measured by the controller, in its own case.
    if let Some(value) = row.temperature("Tempr")? {
        into.probes.push(Probe { location: SensorLocation::Ambient, value: Some(value) });
    }
    states::set_pack(row.states(["Base.St", "Volt.St", "Curr.St", "Temp.St"])?, into);
    for (name, column) in [
        ("cell_voltage_status", "B.V.St"),
        ("cell_temperature_status", "B.T.St"),
        ("module_voltage_status", "U.V.St"),
        ("module_temperature_status", "U.T.St"),
    ] {
        states::set(into, name, row.word(column)?);
    }
    if let Some(code) = row.word("Err Code")?.and_then(error_code) {
        states::set_error_code(into, code);
    }
    into.received.cell_info = true;
    Ok(())
}

/// Hexadecimal with `0x` here, decimal in other firmware.
fn error_code(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Rows of number (from 0), mV, mA, 0.001 °C and two states. No recording shows the header, so the
/// order of the columns counts.
fn bat(lines: &[String], _: &Options, into: &mut Reading) -> Result<(), DecodeError> {
    let rows = lines.iter().filter(|line| line.starts_with(|c: char| c.is_ascii_digit()));
    let cells = rows.filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [index, voltage, _, degrees, first, second, ..] = *words else { return None };
        let cell = cell(index, voltage, degrees, first, second);
        Some(cell.and_then(|cell| Ok((number("cell", index)?, cell))))
    });
    into.cells = consecutive_cells(cells)?;
    Ok(())
}

/// A cell as printed by `bat` and `getpwr`. `index` is used in error messages only.
pub(super) fn cell(
    index: impl std::fmt::Display,
    voltage: &str,
    degrees: &str,
    voltage_status: &str,
    temperature_status: &str,
) -> Result<Cell, DecodeError> {
    let name = |quantity: &str| format!("{quantity} of cell {index}");
    Ok(Cell {
        voltage: number(&name("voltage"), voltage)?.map(Millivolts),
        temperature: number(&name("temperature"), degrees)?.map(temperature),
        voltage_status: Some(word(&name("voltage state"), voltage_status)?.to_owned()),
        temperature_status: Some(word(&name("temperature state"), temperature_status)?.to_owned()),
        ..Cell::default()
    })
}

fn unit(lines: &[String], _: &Options, into: &mut Reading) -> Result<(), DecodeError> {
    let table = Table::find(lines)?;
    let module = |row: Row<'_>| {
        let [low, high] = [row.number("BVlow")?, row.number("BVhigh")?];
        let range = low.map(Millivolts).zip(high.map(Millivolts));
        Ok(Module { range, ..Module::default() })
    };
    let present = table.rows().filter(|row| !row.is_absent());
    into.modules = present.map(module).collect::<Result<_, DecodeError>>()?;
    if into.modules.is_empty() { Err(DecodeError::Empty) } else { Ok(()) }
}
