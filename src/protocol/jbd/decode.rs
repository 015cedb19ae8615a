//! The data of each answer.

use crate::model::reading::{Cell, Probe, Reading, SensorLocation, Switch};
use crate::model::units::{CentiPercent, DeciCelsius, MilliampHours, Milliamps, Millivolts};
use crate::model::{Alarm, alarm::AlarmSet};
use crate::protocol::DecodeError;
use crate::protocol::bytes::{Reader, text};

/// Balance bits are two words.
const MAX_CELLS: u8 = 32;

/// Register 03. It comes a second time when a switch was turned, so it replaces what is there.
pub(super) fn basic(data: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    let mut reader = Reader::big_endian(data);
    let [voltage, current] = [i32::from(reader.u16()?), i32::from(reader.i16()?)];
    let [remaining, nominal, cycles] = [reader.u16()?, reader.u16()?, reader.u16()?];
    let manufactured = date(reader.u16()?);
    let balance = [reader.u16()?, reader.u16()?];
    let protection = reader.u16()?;
    let version = reader.u8()?;
    let soc = reader.u8()?;
    let fets = reader.u8()?;
    let cells = reader.u8()?;
    let sensors = reader.u8()?;
    if !(1..=MAX_CELLS).contains(&cells) {
        return Err(DecodeError::OutOfRange { field: "cell count", value: cells.into() });
    }
    // A board may count sensors that it does not send.
    let present = usize::from(sensors).min(reader.remaining() / 2);
    into.probes = (0..present)
        .map(|_| Ok(Probe { location: SensorLocation::Cells, value: temperature(reader.u16()?) }))
        .collect::<Result<_, DecodeError>>()?;
    let extension = Extension::read(&mut reader).filter(|it| it.remaining == remaining);
    let factor = extension.map_or(1, |it| it.factor(soc));

    let pack = &mut into.pack;
    pack.voltage = Some(Millivolts(voltage * 10));
    pack.current = Some(Milliamps(current * 10 * factor));
    pack.soc = percent(soc);
    pack.remaining = Some(charge(remaining, factor));
    pack.design = (nominal != 0).then(|| charge(nominal, factor));
    pack.full = extension.filter(|it| it.full != 0).map(|it| charge(it.full, factor));
    pack.cycles = Some(cycles.into());
    into.identity.software = Some(format!("{}.{}", version >> 4, version & 0xF));
    into.identity.manufactured = manufactured;
    into.switches.charging = Some(fets & 1 != 0);
    into.switches.discharging = Some(fets & 2 != 0);

    into.alarms = AlarmSet::default();
    protections(protection, into);
    balancing(balance, cells, into);
    if let Some(extension) = extension {
        into.alarms.note_unknown_bits("extension_alarm", extension.alarms);
    }
    into.received.cell_info = true;
    Ok(())
}

/// What newer firmware appends to register 03: humidity, alarms of which nothing is published, the
/// full and once more the remaining charge, and the balance current. Humidity and balance current
/// are 0 in every capture, so nothing tells whether they mean what the document says.
#[derive(Debug, Clone, Copy)]
struct Extension {
    mark: u8,
    alarms: u16,
    full: u16,
    remaining: u16,
}

impl Extension {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let mark = reader.u8().ok()?;
        let [alarms, full, remaining] =
            [reader.u16().ok()?, reader.u16().ok()?, reader.u16().ok()?];
        reader.u16().ok()?;
        Some(Extension { mark, alarms, full, remaining })
    }

    /// Packs above 327 A count in 100 mA and 100 mAh. One of 628 Ah was seen to say so by the top
    /// bit of the humidity, which is a share of 100 otherwise. It is believed where the charges
    /// agree with the state of charge, as only then the bytes are what we take them for.
    fn factor(self, soc: u8) -> i32 {
        const TOLERANCE: u32 = 20;
        let share = (u32::from(self.remaining) * 100).checked_div(self.full.into());
        let agrees = share.is_some_and(|share| share.abs_diff(soc.into()) <= TOLERANCE);
        if self.mark & 0x80 != 0 && agrees { 10 } else { 1 }
    }
}

/// Bits 0 to 12, on which all sources agree. Bit 13 is reserved in the vendor's document, while
/// one reader calls it a charge time-out: it stays unexplained.
const PROTECTIONS: [Alarm; 13] = [
    Alarm::CellOvervoltage,
    Alarm::CellUndervoltage,
    Alarm::PackOvervoltage,
    Alarm::PackUndervoltage,
    Alarm::ChargeOvertemperature,
    Alarm::ChargeUndertemperature,
    Alarm::DischargeOvertemperature,
    Alarm::DischargeUndertemperature,
    Alarm::ChargeOvercurrent,
    Alarm::DischargeOvercurrent,
    Alarm::ShortCircuit,
    Alarm::AfeFailure,
    Alarm::MosSoftwareLock,
];

fn protections(word: u16, into: &mut Reading) {
    for (bit, alarm) in PROTECTIONS.into_iter().enumerate() {
        into.alarms.note(alarm, word & 1 << bit != 0);
    }
    into.alarms.note_unknown_bits("protection_status", word >> PROTECTIONS.len());
}

/// Bit 0 of the first word is cell 1, of the second word cell 17: a real pack of eleven with
/// 0282 balances its highest cell, which is the eighth. Some readers have it the other way round.
fn balancing(words: [u16; 2], cells: u8, into: &mut Reading) {
    let mask = u32::from(words[1]) << 16 | u32::from(words[0]);
    let balanced = |cell| Cell { balancing: Some(mask & 1_u32 << cell != 0), ..Cell::default() };
    into.cells = (0..cells).map(balanced).collect();
    let beyond = mask.checked_shr(cells.into()).unwrap_or(0);
    into.alarms.note_unknown_bits("balance_status", beyond.checked_shl(cells.into()).unwrap_or(0));
}

/// Whether register E1 must let this switch on so that nothing changes for it.
///
/// Register 03 says what the transistors do, and E1 says what they may. One that is off because of
/// a protection must not stay off after it; one that is off for no other reason was turned off by
/// somebody and is left so.
pub(super) fn allowed(switch: Switch, reading: &Reading) -> bool {
    let on = reading.switches.get(switch) == Some(true);
    let cause = |alarm| match alarm {
        Alarm::ShortCircuit | Alarm::AfeFailure => true,
        Alarm::CellOvervoltage
        | Alarm::PackOvervoltage
        | Alarm::ChargeOvertemperature
        | Alarm::ChargeUndertemperature
        | Alarm::ChargeOvercurrent => switch == Switch::Charging,
        Alarm::CellUndervoltage
        | Alarm::PackUndervoltage
        | Alarm::DischargeOvertemperature
        | Alarm::DischargeUndertemperature
        | Alarm::DischargeOvercurrent => switch == Switch::Discharging,
        _ => false,
    };
    let locked = reading.alarms.get(Alarm::MosSoftwareLock) == Some(true);
    on || (!locked && reading.alarms.active().any(cause))
}

/// Register 04. The length says how many there are; 0 mV may be a torn wire, so it is a value.
pub(super) fn cells(data: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    let voltages = words(data)?;
    if !(1..=usize::from(MAX_CELLS)).contains(&voltages.len()) {
        let value = voltages.len() as i64;
        return Err(DecodeError::OutOfRange { field: "cell count", value });
    }
    into.cells.resize(voltages.len(), Cell::default());
    for (cell, millivolts) in into.cells.iter_mut().zip(voltages) {
        cell.voltage = Some(Millivolts(millivolts.into()));
    }
    into.received.cell_info = true;
    Ok(())
}

/// Register 05: the model as the factory or the owner named it.
pub(super) fn name(data: &[u8], into: &mut Reading) {
    into.identity.model = text(data);
    into.received.device_info = true;
}

/// Register AA, of 11 words on older boards, of 12 on newer ones.
pub(super) fn counters(data: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    let names = [
        Alarm::ShortCircuit,
        Alarm::ChargeOvercurrent,
        Alarm::DischargeOvercurrent,
        Alarm::CellOvervoltage,
        Alarm::CellUndervoltage,
        Alarm::ChargeOvertemperature,
        Alarm::ChargeUndertemperature,
        Alarm::DischargeOvertemperature,
        Alarm::DischargeUndertemperature,
        Alarm::PackOvervoltage,
        Alarm::PackUndervoltage,
    ];
    let names = names.into_iter().map(Alarm::name).chain(["restarts"]);
    into.counters = names.zip(words(data)?).map(|(name, count)| (name, count.into())).collect();
    Ok(())
}

fn words(data: &[u8]) -> Result<Vec<u16>, DecodeError> {
    let (pairs, rest) = data.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(DecodeError::Length(data.len()));
    }
    Ok(pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect())
}

fn charge(raw: u16, factor: i32) -> MilliampHours {
    MilliampHours(i64::from(raw) * 10 * i64::from(factor))
}

/// A little above 100 % happens; far above it is no share of anything.
fn percent(whole: u8) -> Option<CentiPercent> {
    (whole <= 110).then(|| CentiPercent(i32::from(whole) * 100))
}

/// Tenths of a kelvin. What no battery survives is no temperature but a missing sensor.
fn temperature(raw: u16) -> Option<DeciCelsius> {
    const ZERO_CELSIUS: i32 = 2_731;
    let value = i32::from(raw) - ZERO_CELSIUS;
    (-600..=1200).contains(&value).then_some(DeciCelsius(value))
}

/// Day in five bits, month in four, years since 2000 in seven. Not every board was given one.
fn date(raw: u16) -> Option<String> {
    let (year, month, day) = (2000 + (raw >> 9), raw >> 5 & 0xF, raw & 0x1F);
    let real = (1..=12).contains(&month) && day != 0;
    real.then(|| format!("{year}-{month:02}-{day:02}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Register 03 of a pack with four cells, one sensor and half its charge.
    fn half_full(protection: u16, fets: u8, extension: &[u8]) -> Reading {
        let mut data = vec![5, 0x36, 0xFF, 0xCB, 0x13, 0x88, 0x27, 0x10, 0, 1, 0x30, 0x9B, 0, 0];
        data.extend([0, 0]);
        data.extend(protection.to_be_bytes());
        data.extend([0x21, 50, fets, 4, 1, 0x0B, 0xB7]);
        data.extend(extension);
        let mut reading = Reading::default();
        basic(&data, &mut reading).unwrap();
        reading
    }

    #[test]
    fn large_packs_count_in_larger_units_and_say_so() {
        let of = |extension: &[u8]| {
            let pack = half_full(0, 3, extension).pack;
            (pack.current.unwrap().0, pack.remaining.unwrap().0, pack.full.map(|full| full.0))
        };
        let cases: [(&str, &[u8], _); 7] = [
            ("no extension", &[], (-530, 50_000, None)),
            ("usual", &[0, 0, 0, 0x27, 0x10, 0x13, 0x88, 0, 0], (-530, 50_000, Some(100_000))),
            (
                "large",
                &[0x88, 0, 0, 0x27, 0x10, 0x13, 0x88, 0, 0],
                (-5300, 500_000, Some(1_000_000)),
            ),
            ("not its charge", &[0x88, 0, 0, 0x27, 0x10, 1, 2, 0, 0], (-530, 50_000, None)),
            (
                "mark against state",
                &[0x88, 0, 0, 0x14, 0, 0x13, 0x88, 0, 0],
                (-530, 50_000, Some(51_200)),
            ),
            ("full unknown", &[0x88, 0, 0, 0, 0, 0x13, 0x88, 0, 0], (-530, 50_000, None)),
            ("cut", &[0x88, 0, 0, 0x27, 0x10, 0x13, 0x88, 0], (-530, 50_000, None)),
        ];
        for (pack, extension, expected) in cases {
            assert_eq!(of(extension), expected, "{pack}");
        }
    }

    #[test]
    fn what_nobody_explains_is_kept_apart() {
        let reading = half_full(0xE000, 3, &[0, 0, 5, 0x27, 0x10, 0x13, 0x88, 0, 0]);
        let unknown: Vec<_> = reading.alarms.unknown_bits().collect();
        assert_eq!(unknown, [("extension_alarm", 5), ("protection_status", 7)]);
        assert_eq!(reading.alarms.active().count(), 0);
        let mut reading = Reading::default();
        balancing([0b1_0001, 0x8000], 4, &mut reading);
        assert_eq!(reading.cells[0].balancing, Some(true));
        assert_eq!(
            reading.alarms.unknown_bits().collect::<Vec<_>>(),
            [("balance_status", 0x8000_0010)]
        );
        balancing([0, 0x8000], 32, &mut reading);
        assert_eq!(reading.cells[31].balancing, Some(true));
    }

    #[test]
    fn only_what_somebody_turned_off_is_left_off() {
        let (off, lock) = (0, 1 << 12);
        let cases = [
            ("both on", 0, 3, [true, true]),
            ("charging turned off, and no word of it", off, 2, [false, true]),
            ("charging turned off", lock, 2, [false, true]),
            ("full", 1 << 0, 2, [true, true]),
            ("full and locked", 1 << 0 | lock, 2, [false, true]),
            ("empty", 1 << 3, 1, [true, true]),
            ("full, and discharging turned off", 1 << 0, 0, [true, false]),
            ("short circuit", 1 << 10, 0, [true, true]),
        ];
        for (state, protection, fets, expected) in cases {
            let reading = half_full(protection, fets, &[]);
            let got = [Switch::Charging, Switch::Discharging].map(|it| allowed(it, &reading));
            assert_eq!(got, expected, "{state}");
        }
    }

    #[test]
    fn a_second_look_replaces_the_first() {
        let mut reading = half_full(1 << 12, 0, &[]);
        let second = half_full(0, 3, &[]);
        let data = [&[0; 18][..], &[0x21, 50, 3, 4, 0]].concat();
        basic(&data, &mut reading).unwrap();
        assert_eq!(reading.alarms, second.alarms);
        assert_eq!((reading.switches, reading.probes.len()), (second.switches, 0));
    }

    #[test]
    fn sensors_and_dates_that_are_none() {
        let cases = [(2731, Some(0)), (0, None), (2131, Some(-600)), (3932, None), (0xFFFF, None)];
        for (raw, expected) in cases {
            assert_eq!(temperature(raw), expected.map(DeciCelsius), "{raw}");
        }
        assert_eq!(date(0x2068).as_deref(), Some("2016-03-08"));
        for none in [0, 0x2008, 0x2060, 0x21A1] {
            assert_eq!(date(none), None, "{none:04X}");
        }
    }

    #[test]
    fn cells_follow_the_length_of_their_own_answer() {
        let mut reading = half_full(0, 3, &[]);
        cells(&[0x0C, 0xE4, 0x0C, 0xE5, 0, 0], &mut reading).unwrap();
        let voltages: Vec<_> = reading.cells.iter().map(|cell| cell.voltage.unwrap().0).collect();
        assert_eq!(voltages, [3300, 3301, 0]);
        assert!(reading.cells.iter().all(|cell| cell.balancing == Some(false)));
        for length in [0, 5, 66] {
            assert!(cells(&vec![0; length], &mut reading).is_err(), "{length}");
        }
    }

    #[test]
    fn older_boards_count_no_restarts() {
        let mut reading = Reading::default();
        counters(&[0, 1].repeat(11), &mut reading).unwrap();
        assert_eq!((reading.counters.len(), reading.counters.get("restarts")), (11, None));
        counters(&[0, 2].repeat(12), &mut reading).unwrap();
        assert_eq!((reading.counters["cell_overvoltage"], reading.counters["restarts"]), (2, 2));
    }
}
