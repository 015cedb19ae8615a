//! The payload of each answer. Since an answer does not say to which question it belongs, every
//! decoder also checks that the payload has the shape of its own service.

use crate::model::reading::{Cell, Probe, SensorLocation};
use crate::model::units::{CentiPercent, DeciCelsius, MilliampHours, Milliamps, Millivolts};
use crate::model::{Alarm, Reading};
use crate::protocol::DecodeError;
use crate::protocol::bytes::{Reader, text};

use super::status;

/// Masks of cells have 32 bits.
const MAX_CELLS: u8 = 32;
const MAX_SENSORS: u8 = 32;

/// Service B0: read, the nameplate, the capacities, all fields.
pub(super) const READ: u8 = 0x01;
pub(super) const NAMEPLATE: u8 = 0x03;
pub(super) const CAPACITIES: u8 = 0x04;
pub(super) const ALL: u8 = 0xFF;

/// Service 42. The part from the balance mask of cells 17 to 32 on is missing on some boards, and
/// newer ones may append to it.
pub(super) fn live(info: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    let mut reader = Reader::big_endian(info);
    // The change flags; the documents disagree on what they mean.
    reader.u8()?;
    let raw_soc = reader.u16()?;
    let voltage = centi(reader.u16()?);
    let cells = counted("cell count", reader.u8()?, 1, MAX_CELLS)?;
    let voltages = (0..cells).map(|_| reader.u16()).collect::<Result<Vec<_>, _>>()?;
    let [ambient, average, mosfet] = [reader.i16()?, reader.i16()?, reader.i16()?];
    let sensors = counted("sensor count", reader.u8()?, 0, MAX_SENSORS)?;
    let sensors = (0..sensors).map(|_| reader.i16()).collect::<Result<Vec<_>, _>>()?;
    let current = i32::from(reader.i16()?) * 10;
    // The internal resistance has no documented unit, and one board sends 3341.
    reader.u16()?;
    let soh = reader.u16()?;
    // Said to count the words that follow, but most boards put a 1 here.
    reader.u8()?;
    let [full, remaining, cycles] = [reader.u16()?, reader.u16()?, reader.u16()?];

    let pack = &mut into.pack;
    pack.voltage = Some(Millivolts(voltage));
    pack.current = Some(Milliamps(current));
    pack.soc = soc(raw_soc, remaining, full);
    pack.soh = percent(i32::from(soh) * 100);
    pack.full = Some(MilliampHours(centi(full).into()));
    pack.remaining = Some(MilliampHours(centi(remaining).into()));
    pack.cycles = Some(cycles.into());

    into.cells = voltages.iter().map(|&mv| Cell::of(Millivolts(mv.into()))).collect();
    let places =
        [SensorLocation::Ambient, SensorLocation::Average, SensorLocation::Mosfet].into_iter();
    let named = places.zip([ambient, average, mosfet]);
    let numbered = sensors.into_iter().map(|raw| (SensorLocation::Cells, raw));
    into.probes = named
        .chain(numbered)
        .map(|(location, raw)| Probe { location, value: temperature(raw) })
        .collect();

    words(&mut reader, into)?;
    into.received.cell_info = true;
    Ok(())
}

/// The status words and masks at the end of service 42.
fn words(reader: &mut Reader<'_>, into: &mut Reading) -> Result<(), DecodeError> {
    for word in
        [&status::VOLTAGE, &status::CURRENT, &status::TEMPERATURE, &status::ALARM, &status::FET]
    {
        word.decode(reader.u16()?, into);
    }
    for (alarm, name) in CELL_MASKS {
        cell_mask(alarm, name[0], 0, reader.u16()?, into);
    }
    balance("balance_1_16", 0, reader.u16()?, into);

    // Here the short form ends.
    let Ok(mask) = reader.u16() else { return Ok(()) };
    balance("balance_17_32", 16, mask, into);
    for (alarm, name) in CELL_MASKS {
        let Ok(mask) = reader.u16() else { return Ok(()) };
        cell_mask(alarm, name[1], 16, mask, into);
    }
    let Ok(machine) = reader.u8() else { return Ok(()) };
    status::MACHINE.decode(machine, into);
    let Ok(io) = reader.u16() else { return Ok(()) };
    status::IO.decode(io, into);
    Ok(())
}

/// The masks that say which cell it is, for cells 1 to 16 and 17 to 32. Some boards leave them
/// empty even while the summary bit is set.
const CELL_MASKS: [(Alarm, [&str; 2]); 4] = [
    (
        Alarm::CellOvervoltage,
        ["cell_overvoltage_protection_1_16", "cell_overvoltage_protection_17_32"],
    ),
    (
        Alarm::CellUndervoltage,
        ["cell_undervoltage_protection_1_16", "cell_undervoltage_protection_17_32"],
    ),
    (
        Alarm::CellOvervoltageWarning,
        ["cell_overvoltage_alarm_1_16", "cell_overvoltage_alarm_17_32"],
    ),
    (
        Alarm::CellUndervoltageWarning,
        ["cell_undervoltage_alarm_1_16", "cell_undervoltage_alarm_17_32"],
    ),
];

fn cell_mask(alarm: Alarm, name: &'static str, first: usize, mask: u16, into: &mut Reading) {
    let fitted = fitted(first, into);
    into.alarms.note(alarm, mask & fitted != 0);
    into.alarms.note_unknown_bits(name, mask & !fitted);
}

fn balance(name: &'static str, first: usize, mask: u16, into: &mut Reading) {
    let fitted = fitted(first, into);
    for (bit, cell) in into.cells.iter_mut().skip(first).take(16).enumerate() {
        cell.balancing = Some(mask & 1 << bit != 0);
    }
    into.alarms.note_unknown_bits(name, mask & !fitted);
}

/// The bits of a mask that stand for cells of this battery, when bit 0 is the cell after `first`.
fn fitted(first: usize, reading: &Reading) -> u16 {
    let cells = reading.cells.len().saturating_sub(first).min(16);
    ((1_u32 << cells) - 1) as u16
}

/// Service B0, module 3.
pub(super) fn nameplate(info: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    let mut reader = module(info, NAMEPLATE)?;
    let pack_serial = text(reader.take(30)?);
    let product = text(reader.take(30)?);
    let board_serial = text(reader.take(30)?);
    // The day it was made.
    reader.take(3)?;
    let manufacturer = text(reader.take(20)?);

    let identity = &mut into.identity;
    keep(&mut identity.serial, pack_serial.or(board_serial));
    keep(&mut identity.model, product);
    keep(&mut identity.manufacturer, manufacturer);
    into.received.device_info = true;
    Ok(())
}

/// Service B0, module 4. The remaining and the full capacity are in service 42 too, and the unit
/// of the energy counters is disputed.
pub(super) fn capacities(info: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    let mut reader = module(info, CAPACITIES)?;
    reader.take(4)?;
    let design = reader.u16()?;
    // Charge and energy, in and out.
    reader.take(12)?;
    into.pack.design = (design != 0).then(|| MilliampHours(centi(design).into()));
    Ok(())
}

/// An answer of service B0 repeats what was asked, then says its length; some firmware says 0.
fn module(info: &[u8], number: u8) -> Result<Reader<'_>, DecodeError> {
    let mut reader = Reader::big_endian(info);
    let [service, _group, operation] = [reader.u8()?, reader.u8()?, reader.u8()?];
    let [module, _fields, _length] = [reader.u8()?, reader.u8()?, reader.u8()?];
    if [service, operation, module] != [0xB0, READ, number] {
        return Err(DecodeError::OtherRequest);
    }
    Ok(reader)
}

/// Service 51: three texts, three numbers of the software, two of the boot loader, and two bytes
/// of unknown meaning on some boards.
pub(super) fn manufacturer(info: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    if !(35..=40).contains(&info.len()) {
        return Err(DecodeError::Length(info.len()));
    }
    let mut reader = Reader::big_endian(info);
    let hardware = text(reader.take(10)?);
    let _product = reader.take(10)?;
    let project = text(reader.take(10)?);
    let [major, minor, patch] = [reader.u8()?, reader.u8()?, reader.u8()?];

    let identity = &mut into.identity;
    keep(&mut identity.hardware, hardware);
    keep(&mut identity.model, project);
    keep(&mut identity.software, Some(format!("{major:02}.{minor:02}.{patch:02}")));
    into.received.device_info = true;
    Ok(())
}

/// Service 47. What the vendor's tool calls the design capacity equals the learned full capacity
/// in both recorded frames (80 Ah on a pack of 100 Ah at 80 % health), so it is not used; the
/// limits repeat each other and are no measurement.
pub(super) fn parameters(info: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    const LENGTH: usize = 1 + 12 * 2 + 2 * 20;
    if info.len() != LENGTH {
        return Err(DecodeError::Length(info.len()));
    }
    let mut reader = Reader::big_endian(info);
    reader.take(1 + 7 * 2)?;
    let cells = reader.u16()?;
    if !(1..=u16::from(MAX_CELLS)).contains(&cells) {
        return Err(DecodeError::OutOfRange { field: "cell count", value: cells.into() });
    }
    reader.take(4 * 2)?;
    let product = text(reader.take(20)?);
    let board = text(reader.take(20)?);
    keep(&mut into.identity.serial, product.or(board));
    into.received.settings = true;
    Ok(())
}

/// The first name that was found stays, so that the identity does not change within a session.
fn keep(known: &mut Option<String>, found: Option<String>) {
    if known.is_none() {
        *known = found;
    }
}

fn counted(field: &'static str, count: u8, least: u8, most: u8) -> Result<u8, DecodeError> {
    if (least..=most).contains(&count) {
        Ok(count)
    } else {
        Err(DecodeError::OutOfRange { field, value: count.into() })
    }
}

/// Hundredths of a volt or an ampere-hour in thousandths.
fn centi(raw: u16) -> i32 {
    i32::from(raw) * 10
}

/// Nearly all boards count the state of charge in 0.01 %; one recorded board sends whole per cent.
/// The capacities tell which: whole per cent are believed only where hundredths are off by more
/// than 20 points and whole ones are not.
fn soc(raw: u16, remaining: u16, full: u16) -> Option<CentiPercent> {
    const TOLERANCE: i32 = 2_000;
    let hundredths = i32::from(raw);
    let whole = hundredths * 100;
    if full == 0 {
        return percent(hundredths);
    }
    let expected = i32::from(remaining) * 10_000 / i32::from(full);
    let near = |value: i32| (value - expected).abs() <= TOLERANCE;
    percent(if !near(hundredths) && raw <= 100 && near(whole) { whole } else { hundredths })
}

/// A little above 100 % happens; far above it is no share of anything.
fn percent(hundredths: i32) -> Option<CentiPercent> {
    (hundredths <= 11_000).then_some(CentiPercent(hundredths))
}

/// Tenths of a degree Celsius. A Node-RED description met Kelvin instead, which no sensor in
/// Celsius can reach; what is plausible in neither is no temperature.
fn temperature(raw: i16) -> Option<DeciCelsius> {
    const PLAUSIBLE: std::ops::RangeInclusive<i32> = -600..=1200;
    const ZERO_CELSIUS: i32 = 2_731;
    let raw = i32::from(raw);
    [raw, raw - ZERO_CELSIUS].into_iter().find(|value| PLAUSIBLE.contains(value)).map(DeciCelsius)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_of_the_state_of_charge_follows_the_capacities() {
        let cases = [
            ("usual board", 6700, 5360, 8000, Some(6_700)),
            ("whole per cent, full", 100, 10_507, 10_507, Some(10_000)),
            ("whole per cent, half", 50, 5000, 10_000, Some(5_000)),
            ("really empty", 50, 60, 10_000, Some(50)),
            ("near the border both fit", 10, 1500, 10_000, Some(10)),
            ("capacities unknown", 100, 0, 0, Some(100)),
            ("remaining above full", 10_000, 10_100, 10_000, Some(10_000)),
            ("nonsense", 0xFFFF, 5000, 10_000, None),
        ];
        for (board, raw, remaining, full, expected) in cases {
            assert_eq!(soc(raw, remaining, full), expected.map(CentiPercent), "{board}");
        }
    }

    #[test]
    fn temperatures_are_celsius_or_kelvin_or_absent() {
        let cases = [
            (270, Some(270)),
            (-125, Some(-125)),
            (1200, Some(1200)),
            (1201, None),
            (2981, Some(250)),
            (2731 - 600, Some(-600)),
            (2731 - 601, None),
            (2731 + 1201, None),
            (-601, None),
            (i16::MIN, None),
            (i16::MAX, None),
        ];
        for (raw, expected) in cases {
            assert_eq!(temperature(raw), expected.map(DeciCelsius), "{raw}");
        }
    }

    #[test]
    fn masks_cover_the_cells_that_exist() {
        let mut reading = Reading { cells: vec![Cell::default(); 18], ..Reading::default() };
        assert_eq!((fitted(0, &reading), fitted(16, &reading)), (0xFFFF, 0b11));
        balance("balance_17_32", 16, 0b110, &mut reading);
        assert_eq!(reading.cells[15].balancing, None);
        assert_eq!(reading.cells[16].balancing, Some(false));
        assert_eq!(reading.cells[17].balancing, Some(true));
        assert_eq!(reading.alarms.unknown_bits().collect::<Vec<_>>(), [("balance_17_32", 0b100)]);
        cell_mask(Alarm::CellOvervoltage, "mask", 16, 0b100, &mut reading);
        assert_eq!(reading.alarms.get(Alarm::CellOvervoltage), Some(false), "no such cell");
    }
}
