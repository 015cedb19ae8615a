//! What the tables of a low-voltage console say.

use super::super::console::table::{Row, Table, field, number};
use super::super::console::words;
use crate::model::Reading;
use crate::model::reading::{Cell, ConsoleStatus, Probe, SensorLocation};
use crate::model::units::CentiPercent;
use crate::protocol::DecodeError;

/// Reported where no pack has the number.
pub const NO_PACK: &str = "pack of this number";

/// The row of one pack.
pub fn pwr(lines: &[String], pack: u8, into: &mut Reading) -> Result<(), DecodeError> {
    let table = Table::find(lines).ok_or(DecodeError::Empty)?;
    let mut own = None;
    for row in table.rows() {
        if row.number("Power")? == Some(pack.into()) {
            own = Some(row);
            break;
        }
    }
    let row = own.filter(|row| !row.is_absent()).ok_or(DecodeError::Missing(NO_PACK))?;
    into.pack.voltage = row.volts("Volt")?;
    into.pack.current = row.amps("Curr")?;
    into.pack.soc = row.share("Coulomb")?;
    if into.pack.voltage.is_none() {
        return Err(DecodeError::Empty);
    }
    for (location, name) in
        [(SensorLocation::Ambient, "Tempr"), (SensorLocation::Mosfet, "MosTempr")]
    {
        if let Some(value) = row.degrees(name)? {
            into.probes.push(Probe { location, value: Some(value) });
        }
    }
    let words = ConsoleStatus {
        base: word(&row, "Base.St"),
        ..states(&row, ["Volt.St", "Curr.St", "Temp.St"])
    };
    words::note_pack(words, into);
    for (subject, name) in [
        ("cell_voltage_status", "B.V.St"),
        ("cell_temperature_status", "B.T.St"),
        ("mos_temperature_status", "M.T.St"),
        ("system_alarm_status", "SysAlarm.St"),
    ] {
        words::note(into, subject, row.word(name));
    }
    into.received.cell_info = true;
    Ok(())
}

fn states(row: &Row<'_>, [voltage, current, temperature]: [&str; 3]) -> ConsoleStatus {
    ConsoleStatus {
        base: None,
        voltage: word(row, voltage),
        current: word(row, current),
        temperature: word(row, temperature),
    }
}

fn word(row: &Row<'_>, name: &str) -> Option<String> {
    row.word(name).map(str::to_owned)
}

/// The cells of one pack, numbered from 0.
pub fn bat(lines: &[String], into: &mut Reading) -> Result<(), DecodeError> {
    let table = Table::find(lines).ok_or(DecodeError::Empty)?;
    let mut cells = Vec::new();
    for row in table.rows() {
        let index = row.number("Battery")?.ok_or(DecodeError::Empty)?;
        if usize::try_from(index) != Ok(cells.len()) {
            return Err(DecodeError::Invalid(format!(
                "cell {index} does not follow on its predecessor"
            )));
        }
        let words = states(&row, ["Volt. State", "Curr. State", "Temp. State"]);
        cells.push(Cell {
            voltage: row.volts("Volt")?,
            temperature: row.degrees("Tempr")?,
            balancing: row.word("BAL").map(|word| word == "Y"),
            voltage_status: words.voltage,
            temperature_status: words.temperature,
            ..Cell::default()
        });
    }
    if cells.is_empty() {
        return Err(DecodeError::Empty);
    }
    into.cells = cells;
    Ok(())
}

/// The history of one pack: cycles and what is left of its capacity.
pub fn stat(lines: &[String], into: &mut Reading) -> Result<(), DecodeError> {
    let mut known = false;
    for (key, text) in lines.iter().filter_map(|line| field(line)) {
        match key.as_str() {
            "CYCLE Times" => {
                into.pack.cycles = number(&key, text)?.and_then(|it| u32::try_from(it).ok());
                known = true;
            }
            "SOH" => {
                let percent = number(&key, text)?;
                into.pack.soh = percent.map(|percent| CentiPercent(percent.saturating_mul(100)));
                known = true;
            }
            _ => {}
        }
    }
    if known { Ok(()) } else { Err(DecodeError::Empty) }
}
