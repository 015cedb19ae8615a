//! The data of a "4E 57" answer: tags, each with a value of its own length and nothing between
//! them. A reader has to know all of them; at an unknown one it must stop.

use crate::model::reading::{Cell, Probe, SensorLocation};
use crate::model::units::{CentiPercent, DeciCelsius, MilliampHours, Milliamps, Millivolts};
use crate::model::{Alarm, Reading};
use crate::protocol::DecodeError;
use crate::protocol::bytes::{Reader, text};

/// The word of tag 8B. The order is another one than over Bluetooth.
const WARNINGS: [Alarm; 14] = [
    Alarm::LowSocWarning,
    Alarm::MosOvertemperature,
    Alarm::PackOvervoltage,
    Alarm::PackUndervoltage,
    Alarm::BatteryOvertemperatureWarning,
    Alarm::ChargeOvercurrent,
    Alarm::DischargeOvercurrent,
    Alarm::CellDifference,
    Alarm::AmbientOvertemperature,
    Alarm::BatteryUndertemperatureWarning,
    Alarm::CellOvervoltage,
    Alarm::CellUndervoltage,
    Alarm::ChipProtectionA,
    Alarm::ChipProtectionB,
];

/// What has to be put together from several tags.
#[derive(Default)]
struct Gathered {
    current: Option<u16>,
    newer: bool,
    setting: Option<u32>,
    actual: Option<u32>,
    soc: Option<u8>,
}

/// Puts the values into the reading.
pub(super) fn note(data: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    let mut reader = Reader::big_endian(data);
    let mut gathered = Gathered::default();
    while reader.remaining() > 0 {
        let tag = reader.u8()?;
        if tag == 0x79 {
            into.cells = cells(&mut reader)?;
            continue;
        }
        let Some(length) = length(tag) else { break };
        value(tag, reader.take(length)?, &mut gathered, into);
    }
    if into.cells.is_empty() {
        return Err(DecodeError::Missing("cells"));
    }
    if into.pack.voltage.is_none() {
        return Err(DecodeError::Missing("pack voltage"));
    }
    put_together(&gathered, into);
    into.received.cell_info = true;
    into.received.settings = gathered.setting.is_some();
    into.received.device_info = into.identity.software.is_some();
    Ok(())
}

/// Cells follow their number and three bytes each, with their own number first.
fn cells(reader: &mut Reader<'_>) -> Result<Vec<Cell>, DecodeError> {
    let length = reader.u8()?;
    if !length.is_multiple_of(3) || length == 0 {
        return Err(DecodeError::Invalid(format!("{length} bytes of cell voltages")));
    }
    let mut cells = Vec::new();
    for _ in 0..length / 3 {
        reader.u8()?;
        cells.push(Cell::of(Millivolts(reader.u16()?.into())));
    }
    Ok(cells)
}

/// How long the value of a tag is.
pub(super) fn length(tag: u8) -> Option<usize> {
    Some(match tag {
        0x85 | 0x86 | 0x9D | 0xA9 | 0xAB | 0xAC | 0xAE | 0xAF | 0xB1 | 0xB3 | 0xB8 | 0xC0 => 1,
        0x80..=0x84 | 0x87 | 0x8A..=0x8C | 0x8E..=0xA8 | 0xAD | 0xB0 => 2,
        0x89 | 0xAA | 0xB5 | 0xB6 | 0xB9 => 4,
        0xB4 => 8,
        0xB2 => 10,
        0xB7 => 15,
        0xBA => 24,
        _ => return None,
    })
}

/// Tag B2, a password in clear, is among those that are not looked at.
fn value(tag: u8, bytes: &[u8], gathered: &mut Gathered, into: &mut Reading) {
    let number = bytes.iter().take(4).fold(0, |number: u32, &byte| number << 8 | u32::from(byte));
    let small = i32::try_from(number).unwrap_or(i32::MAX);
    let word = u16::try_from(number).unwrap_or(u16::MAX);
    let on = number != 0;
    match tag {
        0x80 => into
            .probes
            .push(Probe { location: SensorLocation::Mosfet, value: Some(celsius(small)) }),
        0x81 => into
            .probes
            .push(Probe { location: SensorLocation::Ambient, value: Some(celsius(small)) }),
        0x82 => {
            into.probes.push(Probe { location: SensorLocation::Cells, value: Some(celsius(small)) })
        }
        0x83 => into.pack.voltage = Some(Millivolts(small * 10)),
        0x84 => gathered.current = Some(word),
        0x85 => gathered.soc = bytes.first().copied().filter(|soc| *soc <= 100),
        0x87 => into.pack.cycles = Some(number),
        0x8B => warnings(word, into),
        0x8C => {
            into.switches.charging = Some(number & 1 != 0);
            into.switches.discharging = Some(number & 2 != 0);
            into.states.insert("balancing", number & 4 != 0);
        }
        0x9D => into.switches.balancing = Some(on),
        0xAA => gathered.setting = Some(number),
        0xAB => {
            into.states.insert("charge_switch", on);
        }
        0xAC => {
            into.states.insert("discharge_switch", on);
        }
        0xB7 => versions(bytes, into),
        0xB9 => gathered.actual = Some(number),
        0xBA => into.identity.model = bytes.get(12..).and_then(text).filter(|name| is_model(name)),
        0xC0 => gathered.newer = on,
        _ => {}
    }
}

/// Up to 100 it is the temperature, above its negative behind 100.
fn celsius(raw: i32) -> DeciCelsius {
    DeciCelsius(10 * if raw > 100 { 100 - raw } else { raw })
}

fn warnings(word: u16, into: &mut Reading) {
    let mut unknown = word;
    for (bit, &alarm) in WARNINGS.iter().enumerate() {
        into.alarms.note(alarm, word & 1 << bit != 0);
        unknown &= !(1 << bit);
    }
    into.alarms.note_unknown_bits("warnings", unknown);
}

/// `11.XW_S11.261__`: hardware and software.
fn versions(bytes: &[u8], into: &mut Reading) {
    let Some(both) = text(bytes) else { return };
    let (hardware, software) = both.split_once("_S").unwrap_or(("", &both));
    let known = |part: &str| Some(part.trim_matches('_').to_owned()).filter(|it| !it.is_empty());
    into.identity.hardware = known(hardware);
    into.identity.software = known(software);
}

/// The second half of tag BA is the model on newer boards, and a running number on older ones.
fn is_model(name: &str) -> bool {
    name.starts_with("JK")
}

fn put_together(gathered: &Gathered, into: &mut Reading) {
    let pack = &mut into.pack;
    pack.current = gathered.current.map(|raw| Milliamps(10 * current(raw, gathered.newer)));
    pack.soc = gathered.soc.map(|soc| CentiPercent(i32::from(soc) * 100));
    let capacity = |ah: Option<u32>| ah.filter(|ah| *ah > 0).map(|ah| i64::from(ah) * 1000);
    pack.design = capacity(gathered.setting).map(MilliampHours);
    pack.full = capacity(gathered.actual).map(MilliampHours);
    // The board does not send it, but means this by its state of charge.
    let full = capacity(gathered.actual).or(capacity(gathered.setting));
    let remaining = full.zip(gathered.soc).map(|(full, soc)| full * i64::from(soc) / 100);
    pack.remaining = remaining.map(MilliampHours);
}

/// In steps of 10 mA, positive while charging. Newer boards have a bit that means charging; older
/// ones send 10000 less the current, so that discharging is above 10000.
fn current(raw: u16, newer: bool) -> i32 {
    match (newer, i32::from(raw)) {
        (true, raw @ 0x8000..) => raw - 0x8000,
        (true, raw) => -raw,
        (false, raw) => 10_000 - raw,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CELL: [u8; 5] = [0x79, 3, 1, 0x0C, 0xE4];
    const VOLTAGE: [u8; 3] = [0x83, 0x14, 0xB6];

    fn read(tags: &[&[u8]]) -> Result<Reading, DecodeError> {
        let mut reading = Reading::default();
        note(&[&CELL[..], &VOLTAGE, &tags.concat()].concat(), &mut reading)?;
        Ok(reading)
    }

    #[test]
    fn the_sign_of_the_current_depends_on_the_version() {
        let current = |raw: u16, version: &[u8]| {
            let reading = read(&[&[0x84], &raw.to_be_bytes(), version]).unwrap();
            reading.pack.current.unwrap().0
        };
        let newer = [0xC0, 1];
        assert_eq!(current(0x81C5, &newer), 4_530);
        assert_eq!(current(0x01C5, &newer), -4_530);
        for older in [&[0xC0, 0][..], &[]] {
            assert_eq!(current(9_547, older), 4_530);
            assert_eq!(current(10_453, older), -4_530);
        }
    }

    #[test]
    fn cold_is_above_a_hundred() {
        let reading = read(&[&[0x80, 0, 100, 0x82, 0, 101, 0x81, 0, 140]]).unwrap();
        let found: Vec<_> = reading.probes.iter().map(|probe| probe.value.unwrap().0).collect();
        assert_eq!(found, [1000, -10, -400]);
    }

    #[test]
    fn every_warning_has_a_name_of_its_own_and_the_rest_is_unknown() {
        for bit in 0..14_u8 {
            let word = (1_u16 << bit).to_be_bytes();
            let reading = read(&[&[0x8B], &word]).unwrap();
            let active: Vec<_> = reading.alarms.active().collect();
            assert_eq!(active, [WARNINGS[usize::from(bit)]]);
        }
        let reading = read(&[&[0x8B, 0xC0, 0]]).unwrap();
        assert_eq!(reading.alarms.unknown_bits().collect::<Vec<_>>(), [("warnings", 0xC000)]);
    }

    #[test]
    fn an_unknown_tag_ends_it_and_a_password_is_passed_over() {
        let reading = read(&[&[0xB2], b"0123456789", &[0x85, 50, 0x77, 0x85, 60]]).unwrap();
        assert_eq!(reading.pack.soc, Some(CentiPercent(5000)));
        assert!(!format!("{reading:?}").contains("0123456789"));
    }

    #[test]
    fn what_is_missing_is_told() {
        assert!(matches!(read(&[&[0xAA, 0, 0]]), Err(DecodeError::TooShort(_))));
        let alone = |data: &[u8]| note(data, &mut Reading::default());
        assert_eq!(alone(&VOLTAGE), Err(DecodeError::Missing("cells")));
        assert_eq!(alone(&CELL), Err(DecodeError::Missing("pack voltage")));
        assert_eq!(alone(&[0x79, 4]), Err(DecodeError::Invalid("4 bytes of cell voltages".into())));
    }
}
