//! The D2 dialect of newer boards and balancers: Modbus at the device address D2.
//!
//! Layout: the vendor's register tables in two translations and recorded answers; the sign of the
//! current is that of the recordings, as the tables have it the other way round.

use super::{DecodeError, amps, counted, soc, status};
use crate::model::Reading;
use crate::model::reading::{Cell, Probe, SensorLocation};
use crate::model::units::{CentiPercent, DeciCelsius, MilliampHours, Milliamps, Millivolts};
use crate::protocol::bytes::{Reader, text};

/// Address byte of questions and answers.
pub(super) const ADDRESS: u8 = 0xD2;

/// A run of registers: the first one, and how many.
pub(super) const STATUS: (u16, u8) = (0x00, 62);
/// Of newer boards; the others stay silent or answer with nothing in it.
pub(super) const BOARD: (u16, u8) = (0x3E, 9);
pub(super) const SETTINGS: (u16, u8) = (0x80, 41);
pub(super) const VERSIONS: (u16, u8) = (0xA9, 32);

/// Registers of the switches.
pub(super) const CHARGING: u16 = 0xA5;
pub(super) const DISCHARGING: u16 = 0xA6;

const MOST_CELLS: u8 = 32;
const MOST_SENSORS: u8 = 8;

/// Registers one after the other.
pub(super) fn words(reader: &mut Reader<'_>, count: usize) -> Result<Vec<u16>, DecodeError> {
    Ok((0..count).map(|_| reader.u16()).collect::<Result<_, _>>()?)
}

/// Whole degrees from -40 on. Boards have different ways to say that a sensor is not there.
pub(super) fn degrees(raw: u16) -> Option<DeciCelsius> {
    (raw < 0xFF).then(|| DeciCelsius((i32::from(raw) - 40) * 10))
}

/// The status.
pub(super) fn status(reader: &mut Reader<'_>, into: &mut Reading) -> Result<(), DecodeError> {
    const STILL: i32 = 30_000;
    let cells = words(reader, MOST_CELLS.into())?;
    let temperatures = words(reader, MOST_SENSORS.into())?;
    let [voltage, current, charge] = [reader.u16()?, reader.u16()?, reader.u16()?];
    let [_highest, _lowest, _hottest, _coldest] =
        [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?];
    let [_state, remaining] = [reader.u16()?, reader.u16()?];
    let cell_count = counted("cell count", reader.u16()?, 1, MOST_CELLS)?;
    let sensors = counted("sensor count", reader.u16()?, 0, MOST_SENSORS)?;
    let [cycles, balancing] = [reader.u16()?, reader.u16()?];
    let switches = [reader.u16()?, reader.u16()?];
    let [_average, _difference, _power] = [reader.u16()?, reader.u16()?, reader.u16()?];
    let failures = words(reader, 4)?;
    let soc = soc(charge)?;
    let current = amps(i32::from(current) - STILL)?;

    into.pack.voltage = Some(Millivolts(i32::from(voltage) * 100));
    // A balancer has none of these, and puts a 0 into all of them.
    let is_balancer = [charge, remaining, cycles, switches[0], switches[1]] == [0; 5];
    if !is_balancer {
        into.pack.current = Some(Milliamps(current * 100));
        into.pack.soc = Some(CentiPercent(soc));
        into.pack.remaining = Some(MilliampHours(i64::from(remaining) * 100));
        into.pack.cycles = Some(cycles.into());
        into.switches.charging = Some(switches[0] != 0);
        into.switches.discharging = Some(switches[1] != 0);
    }
    into.states.insert("balancing", balancing != 0);
    let cells = cells.iter().take(cell_count);
    into.cells = cells.map(|&mv| Cell::of(Millivolts(mv.into()))).collect();
    into.probes = numbered(&temperatures, sensors);
    status::note_failures(bytes(&failures), into);
    into.received.cell_info = true;
    Ok(())
}

/// The numbered sensors.
pub(super) fn numbered(raw: &[u16], sensors: usize) -> Vec<Probe> {
    let raw = raw.iter().take(sensors);
    raw.map(|&raw| Probe { location: SensorLocation::Cells, value: degrees(raw) }).collect()
}

/// The low byte of a register comes first in the table. No recording has a bit set to prove it.
pub(super) fn bytes<const N: usize>(registers: &[u16]) -> [u8; N] {
    let mut bytes = [0; N];
    let all = registers.iter().flat_map(|register| register.to_le_bytes());
    bytes.iter_mut().zip(all).for_each(|(byte, value)| *byte = value);
    bytes
}

/// Balancing and the temperature of the transistors. Older tables have a mileage where the
/// balance bits are: bits of cells that do not exist tell that.
pub(super) fn board(reader: &mut Reader<'_>, into: &mut Reading) -> Result<(), DecodeError> {
    let [low, high, _current, _] = [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?];
    let mosfet = reader.u16()?;
    note_balance(u64::from(high) << 16 | u64::from(low), into);
    if mosfet != 0 {
        into.probes.push(Probe { location: SensorLocation::Mosfet, value: degrees(mosfet) });
    }
    Ok(())
}

/// Which cells are being balanced, if no bit stands for a cell that does not exist.
pub(super) fn note_balance(mask: u64, into: &mut Reading) {
    if mask.checked_shr(into.cells.len() as u32).unwrap_or_default() != 0 {
        return;
    }
    for (bit, cell) in into.cells.iter_mut().enumerate() {
        cell.balancing = Some(mask & 1 << bit != 0);
    }
}

/// The rated capacity, and where the board protects itself.
pub(super) fn settings(reader: &mut Reader<'_>, into: &mut Reading) -> Result<(), DecodeError> {
    let rated = reader.u16()?;
    // Reference cell, boards, cells and sensors of each, type, sleep.
    words(reader, 10)?;
    let [_, cell_upper, _, cell_lower] =
        [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?];
    let [_, pack_upper, _, pack_lower] =
        [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?];
    let volts =
        |value: u16, scale: i32| (value != 0).then_some(Millivolts(i32::from(value) * scale));
    into.pack.design = (rated != 0).then_some(MilliampHours(i64::from(rated) * 100));
    into.limits.cell_upper = volts(cell_upper, 1);
    into.limits.cell_lower = volts(cell_lower, 1);
    // Balancers have a 0 for one of the two and nonsense for the other.
    if pack_upper > pack_lower {
        into.limits.pack_upper = volts(pack_upper, 100);
        into.limits.pack_lower = volts(pack_lower, 100);
    }
    into.received.settings = true;
    Ok(())
}

/// Three texts.
pub(super) fn versions(reader: &mut Reader<'_>, into: &mut Reading) -> Result<(), DecodeError> {
    names(reader, [16, 16, 32], into)
}

/// Software, hardware and serial number, so many bytes each.
pub(super) fn names(
    reader: &mut Reader<'_>,
    widths: [usize; 3],
    into: &mut Reading,
) -> Result<(), DecodeError> {
    let [software, hardware, serial] = widths;
    let names = &mut into.identity;
    names.software = text(reader.take(software)?);
    names.hardware = text(reader.take(hardware)?);
    names.serial = text(reader.take(serial)?);
    into.received.device_info = true;
    Ok(())
}
