//! The data of a "4E 57" reply: a sequence of tags with values. The length of a value follows from its
//! tag only, so decoding stops at an unknown tag.

use crate::model::{
    Cell, CentiPercent, DeciCelsius, MilliampHours, Milliamps, Millivolts, Probe, Reading,
    SensorLocation,
};
use crate::protocol::{DecodeError, Reader, text};

use super::status::WARNINGS;

/// Values that depend on several tags.
#[derive(Default)]
struct Collected {
    current: Option<u16>,
    signed_current: bool,
    /// Configured and learned capacity in Ah.
    configured: Option<u32>,
    learned: Option<u32>,
    soc: Option<u8>,
}

pub(super) fn decode(data: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    let mut reader = Reader::big_endian(data);
    let mut collected = Collected::default();
    while reader.remaining() > 0 {
        let tag = reader.u8()?;
        if tag == 0x79 {
            into.cells = cells(&mut reader)?;
            continue;
        }
        let Some(length) = length(tag) else { break };
        decode_value(tag, reader.take(length)?, &mut collected, into);
    }
    if into.cells.is_empty() {
        return Err(DecodeError::Missing("cells"));
    }
    if into.pack.voltage.is_none() {
        return Err(DecodeError::Missing("pack voltage"));
    }
    combine(&collected, into);
    into.received.cell_info = true;
    into.received.settings = collected.configured.is_some();
    into.received.device_info = into.identity.software.is_some();
    Ok(())
}

/// A length byte, then three bytes per cell: cell number and millivolts.
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

/// Length of the value of a tag, in bytes.
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

/// Tag B2 is a password in plain text and is not read.
fn decode_value(tag: u8, bytes: &[u8], collected: &mut Collected, into: &mut Reading) {
    let number = bytes.iter().take(4).fold(0, |number: u32, &byte| number << 8 | u32::from(byte));
    let small = i32::try_from(number).unwrap_or(i32::MAX);
    let word = u16::try_from(number).unwrap_or(u16::MAX);
    let on = number != 0;
    match tag {
        0x80..=0x82 => {
            let location = match tag {
                0x80 => SensorLocation::Mosfet,
                0x81 => SensorLocation::Ambient,
                _ => SensorLocation::Cells,
            };
            into.probes.push(Probe { location, value: Some(celsius(small)) });
        }
        0x83 => into.pack.voltage = Some(Millivolts(small * 10)),
        0x84 => collected.current = Some(word),
        0x85 => collected.soc = bytes.first().copied().filter(|soc| *soc <= 100),
        0x87 => into.pack.cycles = Some(number),
        0x8B => WARNINGS.decode(word, into),
        0x8C => {
            into.switches.charging = Some(number & 1 != 0);
            into.switches.discharging = Some(number & 2 != 0);
            into.states.insert("balancing", number & 4 != 0);
        }
        0x9D => into.switches.balancing = Some(on),
        0xAA => collected.configured = Some(number),
        0xAB => {
            into.states.insert("charge_switch", on);
        }
        0xAC => {
            into.states.insert("discharge_switch", on);
        }
        0xB7 => versions(bytes, into),
        0xB9 => collected.learned = Some(number),
        // The second half is the model on newer boards and a running number on older ones.
        0xBA => {
            let name = bytes.get(12..).and_then(text);
            into.identity.model = name.filter(|name| name.starts_with("JK"));
        }
        0xC0 => collected.signed_current = on,
        _ => {}
    }
}

/// Values above 100 are negative: 101 is -1 °C.
fn celsius(raw: i32) -> DeciCelsius {
    DeciCelsius(10 * if raw > 100 { 100 - raw } else { raw })
}

/// Hardware and software version, as in `11.XW_S11.261__`.
fn versions(bytes: &[u8], into: &mut Reading) {
    let Some(both) = text(bytes) else { return };
    let (hardware, software) = both.split_once("_S").unwrap_or(("", &both));
    let non_empty =
        |part: &str| Some(part.trim_matches('_').to_owned()).filter(|text| !text.is_empty());
    into.identity.hardware = non_empty(hardware);
    into.identity.software = non_empty(software);
}

fn combine(collected: &Collected, into: &mut Reading) {
    let pack = &mut into.pack;
    pack.current =
        collected.current.map(|raw| Milliamps(10 * current(raw, collected.signed_current)));
    pack.soc = collected.soc.map(|soc| CentiPercent(i32::from(soc) * 100));
    let capacity = |ah: Option<u32>| ah.filter(|ah| *ah > 0).map(|ah| i64::from(ah) * 1000);
    pack.design = capacity(collected.configured).map(MilliampHours);
    pack.full = capacity(collected.learned).map(MilliampHours);
    // Not transmitted; it follows from the state of charge.
    let full = capacity(collected.learned).or(capacity(collected.configured));
    let remaining = full.zip(collected.soc).map(|(full, soc)| full * i64::from(soc) / 100);
    pack.remaining = remaining.map(MilliampHours);
}

/// In steps of 10 mA, positive while charging. Newer boards set the high bit while charging; older ones
/// send 10000 minus the current, so values above 10000 mean discharging.
fn current(raw: u16, signed: bool) -> i32 {
    match (signed, i32::from(raw)) {
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
        decode(&[&CELL[..], &VOLTAGE, &tags.concat()].concat(), &mut reading)?;
        Ok(reading)
    }

    #[test]
    fn sign_of_the_current_depends_on_the_version() {
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
    fn values_above_100_are_negative() {
        let reading = read(&[&[0x80, 0, 100, 0x82, 0, 101, 0x81, 0, 140]]).unwrap();
        let found: Vec<_> = reading.probes.iter().map(|probe| probe.value.unwrap().0).collect();
        assert_eq!(found, [1000, -10, -400]);
    }

    #[test]
    fn unknown_tag_ends_decoding_and_password_is_skipped() {
        let reading = read(&[&[0xB2], b"0123456789", &[0x85, 50, 0x77, 0x85, 60]]).unwrap();
        assert_eq!(reading.pack.soc, Some(CentiPercent(5000)));
        assert!(!format!("{reading:?}").contains("0123456789"));
    }

    #[test]
    fn missing_values_are_errors() {
        assert!(matches!(read(&[&[0xAA, 0, 0]]), Err(DecodeError::TooShort(_))));
        let alone = |data: &[u8]| decode(data, &mut Reading::default());
        assert_eq!(alone(&VOLTAGE), Err(DecodeError::Missing("cells")));
        assert_eq!(alone(&CELL), Err(DecodeError::Missing("pack voltage")));
        assert_eq!(alone(&[0x79, 4]), Err(DecodeError::Invalid("4 bytes of cell voltages".into())));
    }
}
