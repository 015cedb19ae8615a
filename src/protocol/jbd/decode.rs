//! The data of each register.

use crate::model::alarm::AlarmSet;
use crate::model::{
    Alarm, Cell, MilliampHours, Milliamps, Millivolts, Reading, SensorLocation, Switch,
};
use crate::protocol::values::{self, centi_percent, deci_kelvin};
use crate::protocol::{DecodeError, Reader, StatusWord, status_word, text};

/// Balance bits are two words.
const MAX_CELLS: u32 = 32;

/// Register 03. It is read a second time after a switch was set, so it replaces what is there.
pub(super) fn basic(data: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    let mut reader = Reader::big_endian(data);
    let [voltage, current] = [i32::from(reader.u16()?), i32::from(reader.i16()?)];
    let [remaining, nominal, cycles, produced] = reader.words()?;
    let balance = reader.words()?;
    let protection = reader.u16()?;
    let [version, soc, fets, cells, sensors] = reader.bytes()?;
    let cells = values::count("cell count", cells, 1..=MAX_CELLS)?;
    // A board may count sensors that it does not send.
    let present = usize::from(sensors).min(reader.remaining() / 2);
    let temperatures = reader.u16s(present)?;
    let extension = Extension::read(&mut reader).ok().filter(|found| found.remaining == remaining);
    let factor = extension.map_or(1, |extension| extension.factor(soc));

    let charge = |raw: u16| MilliampHours(i64::from(raw) * 10 * i64::from(factor));
    let pack = &mut into.pack;
    pack.voltage = Some(Millivolts(voltage * 10));
    pack.current = Some(Milliamps(current * 10 * factor));
    pack.soc = centi_percent(i64::from(soc) * 100);
    pack.remaining = Some(charge(remaining));
    pack.design = (nominal != 0).then(|| charge(nominal));
    pack.full = extension.map(|found| found.full).filter(|full| *full != 0).map(charge);
    pack.cycles = Some(cycles.into());
    into.identity.software = Some(format!("{}.{}", version >> 4, version & 0xF));
    into.identity.manufactured = date(produced);
    into.switches.charging = Some(fets & 1 != 0);
    into.switches.discharging = Some(fets & 2 != 0);
    let locations = std::iter::repeat(SensorLocation::Cells);
    into.probes = values::probes(locations, temperatures.into_iter().map(deci_kelvin));

    into.alarms = AlarmSet::default();
    PROTECTION.decode(protection & PROTECTION_MASK, into);
    into.alarms.note_unknown_bits(PROTECTION.name, protection >> PROTECTION_MASK.trailing_ones());
    note_balancing(balance, cells, into);
    if let Some(extension) = extension {
        into.alarms.note_unknown_bits("extension_alarm", extension.alarms);
    }
    into.received.cell_info = true;
    Ok(())
}

/// What newer firmware appends to register 03: humidity, alarms of unknown meaning, the full and
/// once more the remaining charge, and the balance current. Humidity and balance current are 0 in
/// every capture, so nothing confirms their meaning in the document.
#[derive(Debug, Clone, Copy)]
struct Extension {
    humidity: u8,
    alarms: u16,
    full: u16,
    remaining: u16,
}

impl Extension {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let humidity = reader.u8()?;
        let [alarms, full, remaining, _balance_current] = reader.words()?;
        Ok(Extension { humidity, alarms, full, remaining })
    }

    /// Packs above 327 A count in 100 mA and 100 mAh. One of 628 Ah was seen to mark that with the
    /// top bit of the humidity, which is at most 100 otherwise. The mark is believed where the
    /// charges agree with the state of charge, as only then the bytes are what we take them for.
    fn factor(self, soc: u8) -> i32 {
        const TOLERANCE: u32 = 20;
        let percent = (u32::from(self.remaining) * 100).checked_div(self.full.into());
        let agrees = percent.is_some_and(|percent| percent.abs_diff(soc.into()) <= TOLERANCE);
        if self.humidity & 0x80 != 0 && agrees { 10 } else { 1 }
    }
}

/// Bits 0 to 12, on which all sources agree. Bit 13 is reserved in the vendor's document, while
/// one reader calls it a charge time-out: it stays unknown.
pub(crate) static PROTECTION: StatusWord = status_word!("protection_status";
    0 CellOvervoltage, 1 CellUndervoltage, 2 PackOvervoltage, 3 PackUndervoltage,
    4 ChargeOvertemperature, 5 ChargeUndertemperature,
    6 DischargeOvertemperature, 7 DischargeUndertemperature,
    8 ChargeOvercurrent, 9 DischargeOvercurrent, 10 ShortCircuit, 11 AfeFailure,
    12 MosSoftwareLock);
const PROTECTION_MASK: u16 = 0x1FFF;

/// Bit 0 of the first word is cell 1, of the second word cell 17: a real pack of eleven with
/// 0282 balances its highest cell, which is the eighth. Some readers have it the other way round.
fn note_balancing([low, high]: [u16; 2], cells: usize, into: &mut Reading) {
    let mask = u32::from(high) << 16 | u32::from(low);
    into.cells = vec![Cell::default(); cells];
    values::set_balancing(&mut into.cells, mask.into());
    let beyond = u64::from(mask) & !values::fitted(&into.cells, 32);
    into.alarms.note_unknown_bits("balance_status", beyond);
}

/// Whether register E1 must allow this switch to be on so that nothing changes for it.
///
/// Register 03 reports what the transistors do, and E1 what they may do. One that is off because of
/// a protection must not stay off after it; one that is off for no other reason was switched off
/// by an operator and is left so.
pub(super) fn is_allowed(switch: Switch, reading: &Reading) -> bool {
    let on = reading.switches.get(switch) == Some(true);
    let is_cause = |alarm| match COUNTED.iter().find(|(counted, _)| *counted == alarm) {
        Some((_, only)) => only.is_none_or(|only| only == switch),
        None => alarm == Alarm::AfeFailure,
    };
    let locked = reading.alarms.get(Alarm::MosSoftwareLock) == Some(true);
    on || (!locked && reading.alarms.active().any(is_cause))
}

/// Register 04. The length gives the number of cells; 0 mV may be a torn wire, so it is a value.
pub(super) fn cells(data: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    let voltages = words(data)?;
    values::count("cell count", voltages.len() as u32, 1..=MAX_CELLS)?;
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

/// The alarms in the order of their counters, and the only switch that each of them turns off; `None`:
/// it turns off both.
const COUNTED: [(Alarm, Option<Switch>); 11] = {
    const CHARGING: Option<Switch> = Some(Switch::Charging);
    const DISCHARGING: Option<Switch> = Some(Switch::Discharging);
    [
        (Alarm::ShortCircuit, None),
        (Alarm::ChargeOvercurrent, CHARGING),
        (Alarm::DischargeOvercurrent, DISCHARGING),
        (Alarm::CellOvervoltage, CHARGING),
        (Alarm::CellUndervoltage, DISCHARGING),
        (Alarm::ChargeOvertemperature, CHARGING),
        (Alarm::ChargeUndertemperature, CHARGING),
        (Alarm::DischargeOvertemperature, DISCHARGING),
        (Alarm::DischargeUndertemperature, DISCHARGING),
        (Alarm::PackOvervoltage, CHARGING),
        (Alarm::PackUndervoltage, DISCHARGING),
    ]
};

/// Register AA: 11 words on older boards, 12 on newer ones.
pub(super) fn counters(data: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    let names = COUNTED.iter().map(|(alarm, _)| alarm.name()).chain(["restarts"]);
    into.counters = names.zip(words(data)?).map(|(name, count)| (name, count.into())).collect();
    Ok(())
}

fn words(data: &[u8]) -> Result<Vec<u16>, DecodeError> {
    let mut reader = Reader::big_endian(data);
    let words = reader.u16s(data.len() / 2)?;
    reader.end().map(|()| words)
}

/// Day in five bits, month in four, years since 2000 in seven. Not every board has a date.
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
    fn marked_large_pack_counts_in_larger_units() {
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
    fn bits_without_a_meaning_are_kept_apart() {
        let reading = half_full(0xE000, 3, &[0, 0, 5, 0x27, 0x10, 0x13, 0x88, 0, 0]);
        let unknown: Vec<_> = reading.alarms.unknown_bits().collect();
        assert_eq!(unknown, [("extension_alarm", 5), ("protection_status", 7)]);
        assert_eq!(reading.alarms.active().count(), 0);
        let mut reading = Reading::default();
        note_balancing([0b1_0001, 0x8000], 4, &mut reading);
        assert_eq!(reading.cells[0].balancing, Some(true));
        assert_eq!(
            reading.alarms.unknown_bits().collect::<Vec<_>>(),
            [("balance_status", 0x8000_0010)]
        );
        note_balancing([0, 0x8000], 32, &mut reading);
        assert_eq!(reading.cells[31].balancing, Some(true));
    }

    #[test]
    fn only_a_switch_that_an_operator_set_is_left_off() {
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
            let got =
                [Switch::Charging, Switch::Discharging].map(|switch| is_allowed(switch, &reading));
            assert_eq!(got, expected, "{state}");
        }
    }

    #[test]
    fn second_reply_replaces_the_first() {
        let mut reading = half_full(1 << 12, 0, &[]);
        let second = half_full(0, 3, &[]);
        let data = [&[0; 18][..], &[0x21, 50, 3, 4, 0]].concat();
        basic(&data, &mut reading).unwrap();
        assert_eq!(reading.alarms, second.alarms);
        assert_eq!((reading.switches, reading.probes.len()), (second.switches, 0));
    }

    #[test]
    fn impossible_dates_are_absent() {
        assert_eq!(date(0x2068).as_deref(), Some("2016-03-08"));
        for none in [0, 0x2008, 0x2060, 0x21A1] {
            assert_eq!(date(none), None, "{none:04X}");
        }
    }

    #[test]
    fn number_of_cells_follows_the_length_of_the_reply() {
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
    fn older_boards_have_no_counter_of_restarts() {
        let mut reading = Reading::default();
        counters(&[0, 1].repeat(11), &mut reading).unwrap();
        assert_eq!((reading.counters.len(), reading.counters.get("restarts")), (11, None));
        counters(&[0, 2].repeat(12), &mut reading).unwrap();
        assert_eq!((reading.counters["cell_overvoltage"], reading.counters["restarts"]), (2, 2));
    }
}
