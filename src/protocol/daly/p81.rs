//! The third dialect: Modbus with another register map, asked at 80 plus the board's number and
//! answered from 50 plus that number.
//!
//! Layout: patagonaa/esphome-daly-hkms-bms, whose author tested the failure table, and recorded
//! answers of one board over Bluetooth.

use super::d2::{bytes, degrees, names, note_balance, numbered, words};
use super::{DecodeError, amps, counted, soc, status};
use crate::model::Reading;
use crate::model::reading::{Cell, Probe, SensorLocation};
use crate::model::units::{CentiPercent, MilliampHours, Milliamps, Millivolts};
use crate::protocol::bytes::Reader;

/// Address bytes, to which the board's number is added.
pub(super) const ASKED: u8 = 0x80;
pub(super) const ANSWERS: u8 = 0x50;

/// A run of registers: the first one, and how many.
pub(super) const FIRST: (u16, u8) = (0x00, 64);
pub(super) const SECOND: (u16, u8) = (0x41, 62);
pub(super) const VERSIONS: (u16, u8) = (0x178, 74);

/// Registers of the switches.
pub(super) const CHARGING: u16 = 0x121;
pub(super) const DISCHARGING: u16 = 0x122;

const MOST_CELLS: u8 = 48;
const MOST_SENSORS: u8 = 8;

/// Cells, temperatures, voltage, current, state of charge.
pub(super) fn first(reader: &mut Reader<'_>, into: &mut Reading) -> Result<(), DecodeError> {
    const STILL: i32 = 30_000;
    let cells = words(reader, MOST_CELLS.into())?;
    let temperatures = words(reader, MOST_SENSORS.into())?;
    let [voltage, current, charge] = [reader.u16()?, reader.u16()?, reader.u16()?];
    // A heartbeat.
    reader.u16()?;
    let cell_count = counted("cell count", reader.u16()?, 1, MOST_CELLS)?;
    let sensors = counted("sensor count", reader.u16()?, 0, MOST_SENSORS)?;
    let soc = soc(charge)?;
    let current = amps(i32::from(current) - STILL)?;

    into.pack.voltage = Some(Millivolts(i32::from(voltage) * 100));
    into.pack.current = Some(Milliamps(current * 100));
    into.pack.soc = Some(CentiPercent(soc));
    let cells = cells.iter().take(cell_count);
    into.cells = cells.map(|&mv| Cell::of(Millivolts(mv.into()))).collect();
    into.probes = numbered(&temperatures, sensors);
    into.received.cell_info = true;
    Ok(())
}

/// Everything else that changes. One board has a 7 in the register that says whether cells are
/// balanced while none is, so only the bits of the cells count.
pub(super) fn second(reader: &mut Reader<'_>, into: &mut Reading) -> Result<(), DecodeError> {
    let registers = words(reader, SECOND.1.into())?;
    let at = |register: u16| {
        registers.get(usize::from(register - SECOND.0)).copied().unwrap_or_default()
    };
    into.pack.remaining = Some(MilliampHours(i64::from(at(0x4B)) * 100));
    into.pack.cycles = Some(at(0x4C).into());
    let [low, middle, high] = [0x4F, 0x50, 0x51].map(|register| u64::from(at(register)));
    note_balance(high << 32 | middle << 16 | low, into);
    into.switches.charging = Some(at(0x52) != 0);
    into.switches.discharging = Some(at(0x53) != 0);
    for (name, register) in [("precharge_on", 0x54), ("heater_on", 0x55), ("fan_on", 0x56)] {
        into.states.insert(name, at(register) != 0);
    }
    into.probes.push(Probe { location: SensorLocation::Mosfet, value: degrees(at(0x5A)) });
    let failures: Vec<u16> = (0x6D..=0x73).map(at).collect();
    status::note_levels(bytes(&failures), into);
    Ok(())
}

/// Three texts.
pub(super) fn versions(reader: &mut Reader<'_>, into: &mut Reading) -> Result<(), DecodeError> {
    names(reader, [28, 14, 24], into)
}
