//! Values in the encodings that several brands share.

use super::{DecodeError, Reader, text};
use crate::model::{
    Cell, CentiPercent, DeciCelsius, MilliampHours, Millivolts, Probe, Reading, SensorLocation,
};

/// What no battery survives is a sensor that is not fitted.
const PLAUSIBLE: std::ops::RangeInclusive<i32> = -600..=1200;

/// Tenths of a degree Celsius; `None` where no sensor is fitted.
pub(super) fn deci_celsius(raw: i32) -> Option<DeciCelsius> {
    PLAUSIBLE.contains(&raw).then_some(DeciCelsius(raw))
}

/// Tenths of a kelvin. The documents of Pylontech, Seplos and JBD say 2731; the 2730 of one PACE
/// reader is 0.1 °C off.
pub(super) fn deci_kelvin(raw: u16) -> Option<DeciCelsius> {
    deci_celsius(i32::from(raw) - 2731)
}

/// Hundredths of a per cent. A little above 100 % happens; far above it is no percentage.
pub(super) fn centi_percent(raw: impl Into<i64>) -> Option<CentiPercent> {
    i32::try_from(raw.into()).ok().filter(|raw| *raw <= 11_000).map(CentiPercent)
}

/// State of charge of packs that report capacities only. Damaged replies contain any number.
pub(super) fn ratio(remaining: MilliampHours, full: MilliampHours) -> Option<CentiPercent> {
    let [remaining, full] = [remaining, full].map(|capacity| i128::from(capacity.0));
    let ratio = (remaining * 10_000 + full / 2).checked_div(full)?;
    centi_percent(i64::try_from(ratio).ok()?)
}

/// Hundredths of an ampere-hour.
pub(super) fn centi_ah(raw: u16) -> MilliampHours {
    MilliampHours(i64::from(raw) * 10)
}

/// A count within its limits.
pub(super) fn count(
    field: &'static str,
    count: impl Into<u32>,
    limits: std::ops::RangeInclusive<u32>,
) -> Result<usize, DecodeError> {
    let count = count.into();
    let out_of_range = DecodeError::OutOfRange { field, value: count.into() };
    limits.contains(&count).then_some(count as usize).ok_or(out_of_range)
}

/// Cells of these voltages in millivolts.
pub(super) fn cells(millivolts: &[u16]) -> Vec<Cell> {
    millivolts.iter().map(|&millivolts| Cell::of(Millivolts(millivolts.into()))).collect()
}

/// Sensors at these locations.
pub(super) fn probes(
    locations: impl IntoIterator<Item = SensorLocation>,
    values: impl IntoIterator<Item = Option<DeciCelsius>>,
) -> Vec<Probe> {
    let sensors = locations.into_iter().zip(values);
    sensors.map(|(location, value)| Probe { location, value }).collect()
}

/// The bits of a mask of `width` bits that stand for these cells.
pub(super) fn fitted(cells: &[Cell], width: usize) -> u64 {
    1_u64.checked_shl(cells.len().min(width) as u32).map_or(u64::MAX, |bit| bit - 1)
}

/// Whether each cell is balancing, by its bit.
pub(super) fn set_balancing(cells: &mut [Cell], mask: u64) {
    for (bit, cell) in cells.iter_mut().take(64).enumerate() {
        cell.balancing = Some(mask & 1 << bit != 0);
    }
}

/// Marks the cells whose bit is set in a word of 16 bits, of which bit 0 is the cell after `first`,
/// as balancing. Bits without a cell are unknown.
pub(super) fn note_balancing(name: &'static str, word: u16, first: usize, into: &mut Reading) {
    let cells = into.cells.get_mut(first..).unwrap_or_default();
    let end = cells.len().min(16);
    set_balancing(&mut cells[..end], word.into());
    let beyond = u64::from(word) & !fitted(cells, 16);
    into.alarms.note_unknown_bits(name, beyond);
}

/// The first name that was found stays, so that the identity does not change within a session.
pub(super) fn keep(known: &mut Option<String>, found: Option<String>) {
    if known.is_none() {
        *known = found;
    }
}

/// A field of fixed width with text and padding only, which distinguishes names from numbers.
pub(super) fn plain_text(
    reader: &mut Reader<'_>,
    width: usize,
) -> Result<Option<String>, DecodeError> {
    let field = reader.take(width)?;
    let is_text = field.iter().all(|byte| matches!(byte, 0x00 | 0x20..=0x7E | 0xFF));
    if is_text { Ok(text(field)) } else { Err(DecodeError::OtherRequest) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_sensors_have_no_temperature() {
        let cases = [(2731, Some(0)), (0, None), (2131, Some(-600)), (3932, None), (0xFFFF, None)];
        for (raw, expected) in cases {
            assert_eq!(deci_kelvin(raw), expected.map(DeciCelsius), "{raw}");
        }
    }

    #[test]
    fn ratio_is_rounded_and_limited() {
        let of = |remaining, full| ratio(MilliampHours(remaining), MilliampHours(full));
        assert_eq!(of(1, 3), Some(CentiPercent(3333)));
        assert_eq!(of(2, 3), Some(CentiPercent(6667)));
        assert_eq!(of(110, 100), Some(CentiPercent(11_000)));
        assert_eq!((of(111, 100), of(1, 0)), (None, None));
        assert_eq!(of(i64::MAX, 1), None);
        assert_eq!(of(i64::MAX, i64::MAX), Some(CentiPercent(10_000)));
    }

    #[test]
    fn balancing_bits_without_a_cell_are_unknown() {
        let mut reading = Reading { cells: vec![Cell::default(); 18], ..Reading::default() };
        note_balancing("low", 0x8000, 0, &mut reading);
        note_balancing("high", 0b110, 16, &mut reading);
        let balancing = |cell: usize| reading.cells[cell].balancing;
        assert_eq!([balancing(15), balancing(16), balancing(17)], [true, false, true].map(Some));
        assert_eq!(reading.alarms.unknown_bits().collect::<Vec<_>>(), [("high", 0b100)]);
    }
}
