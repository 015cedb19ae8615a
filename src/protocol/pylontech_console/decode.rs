//! The replies of a low-voltage console.

use super::super::console::query_plan::NO_SUCH_PACK;
use super::super::console::states;
use super::super::console::table::{Row, Table, consecutive_cells, field, number};
use crate::model::{
    Cell, CentiPercent, ConsoleStatus, Milliamps, Millivolts, Probe, Reading, SensorLocation,
};
use crate::protocol::{DecodeError, Options};

/// The row of our pack.
pub(super) fn pwr(
    lines: &[String],
    options: &Options,
    into: &mut Reading,
) -> Result<(), DecodeError> {
    let table = Table::find(lines)?;
    let mut own = None;
    for row in table.rows() {
        if row.number("Power")? == Some(options.address.into()) {
            own = Some(row);
            break;
        }
    }
    let row = own.filter(|row| !row.is_absent()).ok_or(DecodeError::Missing(NO_SUCH_PACK))?;
    into.pack.voltage = Some(Millivolts(row.number("Volt")?.ok_or(DecodeError::Empty)?));
    into.pack.current = row.number("Curr")?.map(Milliamps);
    into.pack.soc = row.percent("Coulomb")?;
    for (location, name) in
        [(SensorLocation::Ambient, "Tempr"), (SensorLocation::Mosfet, "MosTempr")]
    {
        if let Some(value) = row.temperature(name)? {
            into.probes.push(Probe { location, value: Some(value) });
        }
    }
    states::set_pack(row.states(["Base.St", "Volt.St", "Curr.St", "Temp.St"])?, into);
    for (name, column) in [
        ("cell_voltage_status", "B.V.St"),
        ("cell_temperature_status", "B.T.St"),
        ("mos_temperature_status", "M.T.St"),
        ("system_alarm_status", "SysAlarm.St"),
    ] {
        states::set(into, name, row.word(column)?);
    }
    into.received.cell_info = true;
    Ok(())
}

/// The cells of our pack, numbered from 0.
pub(super) fn bat(lines: &[String], _: &Options, into: &mut Reading) -> Result<(), DecodeError> {
    let cell = |row: Row<'_>| {
        let ConsoleStatus { voltage, temperature, .. } =
            row.states(["Base State", "Volt. State", "Curr. State", "Temp. State"])?;
        let cell = Cell {
            voltage: row.number("Volt")?.map(Millivolts),
            temperature: row.temperature("Tempr")?,
            balancing: row.word("BAL")?.map(|word| word == "Y"),
            voltage_status: voltage,
            temperature_status: temperature,
            ..Cell::default()
        };
        Ok((row.number("Battery")?, cell))
    };
    into.cells = consecutive_cells(Table::find(lines)?.rows().map(cell))?;
    Ok(())
}

/// The history of our pack: cycles and state of health.
pub(super) fn stat(lines: &[String], _: &Options, into: &mut Reading) -> Result<(), DecodeError> {
    let mut found = false;
    for (key, text) in lines.iter().filter_map(|line| field(line)) {
        match key.as_str() {
            "CYCLE Times" => {
                into.pack.cycles = number(&key, text)?.and_then(|count| u32::try_from(count).ok());
            }
            "SOH" => {
                let percent = number(&key, text)?;
                into.pack.soh = percent.map(|percent| CentiPercent(percent.saturating_mul(100)));
            }
            _ => continue,
        }
        found = true;
    }
    if found { Ok(()) } else { Err(DecodeError::Empty) }
}
