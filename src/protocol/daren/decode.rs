//! The payload of each reply. Since a reply does not identify its request, every decoder also
//! checks that the payload has the shape of its own service.

use super::status;
use crate::model::{
    Alarm, CentiPercent, DeciCelsius, Milliamps, Millivolts, Reading, SensorLocation,
};
use crate::protocol::ascii_family::{MAX_CELLS, Target};
use crate::protocol::values::{self, centi_ah, centi_percent, deci_celsius, deci_kelvin, keep};
use crate::protocol::{DecodeError, Reader, text};

const MAX_SENSORS: u32 = 32;

/// Service 42. The part from the balance mask of cells 17 to 32 on is missing on some boards, and
/// newer ones may append to it.
pub(super) fn live(_: Target, info: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    let mut reader = Reader::big_endian(info);
    // The change flags; the documents disagree on what they mean.
    reader.skip(1)?;
    let [raw_soc, voltage] = reader.words()?;
    let cells = values::count("cell count", reader.u8()?, 1..=MAX_CELLS)?;
    let cells = reader.u16s(cells)?;
    let [ambient, average, mosfet] = [reader.i16()?, reader.i16()?, reader.i16()?];
    let sensors = values::count("sensor count", reader.u8()?, 0..=MAX_SENSORS)?;
    let sensors = (0..sensors).map(|_| reader.i16()).collect::<Result<Vec<_>, _>>()?;
    let current = reader.i16()?;
    // The internal resistance has no documented unit, and one board sends 3341. According to the
    // documents the user byte counts the words that follow, but most boards put a 1 here.
    let [_resistance, soh] = reader.words()?;
    let _user = reader.u8()?;
    let [full, remaining, cycles] = reader.words()?;

    let pack = &mut into.pack;
    pack.voltage = Some(Millivolts(i32::from(voltage) * 10));
    pack.current = Some(Milliamps(i32::from(current) * 10));
    pack.soc = soc(raw_soc, remaining, full);
    pack.soh = centi_percent(i64::from(soh) * 100);
    pack.full = Some(centi_ah(full));
    pack.remaining = Some(centi_ah(remaining));
    pack.cycles = Some(cycles.into());
    into.cells = values::cells(&cells);
    let named = [SensorLocation::Ambient, SensorLocation::Average, SensorLocation::Mosfet];
    let locations = named.into_iter().chain(std::iter::repeat(SensorLocation::Cells));
    let raw = [ambient, average, mosfet].into_iter().chain(sensors);
    into.probes = values::probes(locations, raw.map(temperature));
    status_words(&mut reader, into)?;
    into.received.cell_info = true;
    Ok(())
}

/// The status words and masks at the end of service 42.
fn status_words(reader: &mut Reader<'_>, into: &mut Reading) -> Result<(), DecodeError> {
    for word in
        [&status::VOLTAGE, &status::CURRENT, &status::TEMPERATURE, &status::ALARM, &status::FET]
    {
        word.decode(reader.u16()?, into);
    }
    for (alarm, [name, _]) in CELL_MASKS {
        note_cell_mask(alarm, name, 0, reader.u16()?, into);
    }
    values::note_balancing("balance_1_16", reader.u16()?, 0, into);

    // Here the short form ends.
    let Ok(mask) = reader.u16() else { return Ok(()) };
    values::note_balancing("balance_17_32", mask, 16, into);
    for (alarm, [_, name]) in CELL_MASKS {
        let Ok(mask) = reader.u16() else { return Ok(()) };
        note_cell_mask(alarm, name, 16, mask, into);
    }
    let Ok(machine) = reader.u8() else { return Ok(()) };
    status::MACHINE.decode(machine, into);
    let Ok(io) = reader.u16() else { return Ok(()) };
    status::IO.decode(io, into);
    Ok(())
}

/// The masks of the affected cells, for cells 1 to 16 and 17 to 32. Some boards leave them empty
/// even while the summary bit is set.
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

/// A mask of which bit 0 is the cell after `first`.
fn note_cell_mask(alarm: Alarm, name: &'static str, first: usize, mask: u16, into: &mut Reading) {
    let fitted = values::fitted(into.cells.get(first..).unwrap_or_default(), 16);
    let mask = u64::from(mask);
    into.alarms.note(alarm, mask & fitted != 0);
    into.alarms.note_unknown_bits(name, mask & !fitted);
}

/// Service B0, module 3: serial numbers, product, manufacturer.
pub(super) fn nameplate(_: Target, info: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    let mut reader = module(info, 3)?;
    let pack_serial = text(reader.take(30)?);
    let product = text(reader.take(30)?);
    let board_serial = text(reader.take(30)?);
    // The date of manufacture.
    reader.skip(3)?;
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
pub(super) fn capacities(_: Target, info: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    let mut reader = module(info, 4)?;
    let [_remaining, _full, design] = reader.words()?;
    // Charge and energy, in and out.
    reader.skip(12)?;
    into.pack.design = (design != 0).then(|| centi_ah(design));
    Ok(())
}

/// A reply of service B0 repeats the request and adds its length, which is 0 in some firmware.
fn module(info: &[u8], number: u8) -> Result<Reader<'_>, DecodeError> {
    let mut reader = Reader::big_endian(info);
    let [service, _group, operation, module, _fields, _length] = reader.bytes()?;
    if [service, operation, module] == [0xB0, 1, number] {
        Ok(reader)
    } else {
        Err(DecodeError::OtherRequest)
    }
}

/// Service 51: three texts, three numbers of the software, two of the boot loader, and two bytes
/// of unknown meaning on some boards.
pub(super) fn manufacturer(_: Target, info: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    if !(35..=40).contains(&info.len()) {
        return Err(DecodeError::Length(info.len()));
    }
    let mut reader = Reader::big_endian(info);
    let hardware = text(reader.take(10)?);
    let _product = reader.take(10)?;
    let project = text(reader.take(10)?);
    let [major, minor, patch] = reader.bytes()?;

    let identity = &mut into.identity;
    keep(&mut identity.hardware, hardware);
    keep(&mut identity.model, project);
    keep(&mut identity.software, Some(format!("{major:02}.{minor:02}.{patch:02}")));
    into.received.device_info = true;
    Ok(())
}

/// Service 47: system parameters, of which only the bar codes are used. What the vendor's tool
/// calls the design capacity equals the learned full capacity in both recorded frames (80 Ah on a
/// pack of 100 Ah at 80 % health); the limits repeat each other and are no measurement.
pub(super) fn parameters(_: Target, info: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    let mut reader = Reader::big_endian(info);
    reader.skip(1 + 7 * 2)?;
    values::count("cell count", reader.u16()?, 1..=MAX_CELLS)?;
    reader.skip(4 * 2)?;
    let product = text(reader.take(20)?);
    let board = text(reader.take(20)?);
    reader.end()?;
    keep(&mut into.identity.serial, product.or(board));
    into.received.settings = true;
    Ok(())
}

/// Nearly all boards count the state of charge in 0.01 %; one recorded board sends whole per cent.
/// The capacities decide: whole per cent are believed only where hundredths are off by more than 20
/// points and whole ones are not.
fn soc(raw: u16, remaining: u16, full: u16) -> Option<CentiPercent> {
    const TOLERANCE: i32 = 2_000;
    let hundredths = i32::from(raw);
    let whole = hundredths * 100;
    let Some(expected) = (i32::from(remaining) * 10_000).checked_div(full.into()) else {
        return centi_percent(hundredths);
    };
    let near = |value: i32| (value - expected).abs() <= TOLERANCE;
    centi_percent(if !near(hundredths) && raw <= 100 && near(whole) { whole } else { hundredths })
}

/// Tenths of a degree Celsius. A Node-RED description met kelvin instead, which no sensor in
/// Celsius can reach; what is plausible in neither is no temperature.
fn temperature(raw: i16) -> Option<DeciCelsius> {
    deci_celsius(raw.into()).or_else(|| deci_kelvin(u16::try_from(raw).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scale_of_the_state_of_charge_follows_the_capacities() {
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
    fn mask_bit_without_a_cell_is_unknown() {
        use crate::model::reading::Cell;
        let mut reading = Reading { cells: vec![Cell::default(); 18], ..Reading::default() };
        note_cell_mask(Alarm::CellOvervoltage, "mask", 16, 0b100, &mut reading);
        assert_eq!(reading.alarms.get(Alarm::CellOvervoltage), Some(false));
        assert_eq!(reading.alarms.unknown_bits().collect::<Vec<_>>(), [("mask", 0b100)]);
    }
}
