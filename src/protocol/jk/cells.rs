//! Record 02, the live values, in its three layouts. Offsets are from syssi/esphome-jk-bms and, for 32
//! cells, also from the vendor's Modbus papers (register + 6).

use crate::model::{
    Cell, CentiPercent, DeciCelsius, Microohms, MilliampHours, Milliamps, Millivolts, Probe,
    Reading, SensorLocation,
};

use super::record::Record;
use super::status::decode_errors;

/// Layout of record 02. The record does not contain it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Active balancers: floats, without current and temperature.
    Jk04,
    /// Firmware up to 10.
    Cells24,
    /// Firmware from 11 on, on any hardware.
    Cells32,
}

/// The first firmware with [`Layout::Cells32`].
const FIRST_32: u32 = 11;
/// The first firmware of boards with sensors T4 and T5. Earlier ones send zeros and still report the
/// sensors as fitted.
const FIRST_WITH_T4: u32 = 14;

/// The number before the first point of a version such as `11.XW` or `15.41`.
fn major(software: Option<&str>) -> Option<u32> {
    software?.split('.').next()?.parse().ok()
}

/// Detects the layout from the record and, if that is ambiguous, from the firmware version.
///
/// If one of the first four cells is a float in the range of a cell voltage, the record has floats. The
/// mask of present cells, a run of ones, has a different position in the layouts with 24 and with 32
/// cells. This was correct for all 2503 recorded records.
pub fn layout(record: &Record, software: Option<&str>) -> Option<Layout> {
    if (0..4).any(|cell| is_cell_voltage(record.f32(CELLS + 4 * cell))) {
        return Some(Layout::Jk04);
    }
    let is_mask = |mask: u32| mask != 0 && mask & mask.wrapping_add(1) == 0;
    match (is_mask(record.u32(MASK_24)), is_mask(record.u32(MASK_32))) {
        (true, false) => Some(Layout::Cells24),
        (false, true) => Some(Layout::Cells32),
        _ if major(software)? >= FIRST_32 => Some(Layout::Cells32),
        _ => Some(Layout::Cells24),
    }
}

/// Position of the first cell voltage.
const CELLS: usize = 6;

const MASK_24: usize = CELLS + 2 * 24;
const MASK_32: usize = CELLS + 2 * 32;

pub(super) fn is_cell_voltage(volts: f32) -> bool {
    (0.3..=6.0).contains(&volts)
}

/// Decodes record 02. `into` already contains the firmware version if it is known.
pub(super) fn decode(record: &Record, layout: Layout, into: &mut Reading) {
    match layout {
        Layout::Jk04 => decode_floats(record, into),
        Layout::Cells24 => decode_integers(record, &AT_24, into),
        Layout::Cells32 => {
            decode_integers(record, &AT_32, into);
            into.states.insert("charger_plugged", record.u8(245) != 0);
            into.states.insert("emergency", record.u16(218) != 0);
        }
    }
    into.received.cell_info = true;
}

/// Positions of the fields of an integer layout.
struct Offsets {
    /// The voltages of this many cells are followed by the mask of the present ones, the numbers of the
    /// highest and the lowest cell, and the resistances.
    cells: u8,
    mosfet: usize,
    /// Position and bit in the mask of fitted sensors, for each numbered sensor.
    sensors: &'static [(usize, u8)],
    /// From here on both layouts have the same fields, apart from the errors.
    voltage: usize,
    error_bits: usize,
}

static AT_24: Offsets = Offsets {
    cells: 24,
    mosfet: 134,
    sensors: &[(130, 1), (132, 2)],
    voltage: 118,
    error_bits: 16,
};

/// The value at 254, before T4 and T5, is a copy of the MOSFET temperature in all recordings.
static AT_32: Offsets = Offsets {
    cells: 32,
    mosfet: 144,
    sensors: &[(162, 1), (164, 2), (256, 4), (258, 5)],
    voltage: 150,
    error_bits: 32,
};

fn decode_integers(record: &Record, at: &Offsets, into: &mut Reading) {
    let mask = CELLS + 2 * usize::from(at.cells);
    let rest = at.voltage + 20;
    let capacity = |at| MilliampHours(record.i32(at).into());
    let pack = &mut into.pack;
    pack.voltage = i32::try_from(record.u32(at.voltage)).ok().map(Millivolts);
    // The power next to it has no sign, so the power is derived.
    pack.current = Some(Milliamps(record.i32(at.voltage + 8)));
    pack.soc = percent(record.u8(rest + 3));
    pack.remaining = Some(capacity(rest + 4));
    pack.full = Some(capacity(rest + 8));
    pack.cycles = Some(record.u32(rest + 12));
    pack.soh = percent(record.u8(rest + 20));

    into.switches.charging = Some(record.u8(rest + 28) != 0);
    into.switches.discharging = Some(record.u8(rest + 29) != 0);
    into.states.insert("precharging", record.u8(rest + 21) != 0);
    into.states.insert("heating", record.u8(rest + 45) != 0);
    let errors = if at.error_bits == 16 { record.u16(136).into() } else { record.u32(166) };
    decode_errors(errors, at.error_bits, into);

    let voltage = |cell| Some(Millivolts(record.u16(CELLS + 2 * cell).into()));
    let resistance = |cell| {
        let milliohms = i32::from(record.u16(mask + 10 + 2 * cell));
        Some(Microohms(milliohms * 1000))
    };
    let balanced = balanced_cell(record, rest + 2, mask + 8);
    let present = (0..at.cells).filter(|cell| record.u32(mask) & 1 << cell != 0);
    into.cells = cells(present, voltage, resistance, balanced);
    probes(record, at, record.u8(rest + 44), into);
}

/// The cell that is being balanced, counted from 0: unknown, none, or this one.
type Balanced = Option<Option<u8>>;

/// A balancer that discharges uses the highest cell, one that charges the lowest. The board reports the
/// numbers of both, which are used here because the voltage changes during balancing.
fn balanced_cell(record: &Record, state: usize, highest: usize) -> Balanced {
    match record.u8(state) {
        0 => Some(None),
        1 => Some(Some(record.u8(highest + 1))),
        2 => Some(Some(record.u8(highest))),
        _ => None,
    }
}

/// The present cells. After a gap in the mask the following cells move up, as on the display of the
/// board.
fn cells(
    present: impl Iterator<Item = u8>,
    voltage: impl Fn(usize) -> Option<Millivolts>,
    resistance: impl Fn(usize) -> Option<Microohms>,
    balanced: Balanced,
) -> Vec<Cell> {
    present
        .map(|cell| Cell {
            voltage: voltage(cell.into()),
            resistance: resistance(cell.into()),
            balancing: balanced.map(|balanced| balanced == Some(cell)),
            ..Cell::default()
        })
        .collect()
}

/// Sensors that are not fitted keep their number; those that do not exist with this firmware are left
/// out.
fn probes(record: &Record, at: &Offsets, fitted: u8, into: &mut Reading) {
    const MISSING: i16 = -2000;
    let value = |position: usize, bit: u8| {
        let raw = record.i16(position);
        (fitted & 1 << bit != 0 && raw != MISSING).then(|| DeciCelsius(raw.into()))
    };
    let absent = |position: usize| {
        let early = major(into.identity.software.as_deref());
        position > 250 && early.map_or(record.u32(256) == 0, |major| major < FIRST_WITH_T4)
    };
    let numbered = at.sensors.iter().filter(|(position, _)| !absent(*position));
    let mosfet = Probe { location: SensorLocation::Mosfet, value: value(at.mosfet, 0) };
    into.probes = std::iter::once(mosfet)
        .chain(numbered.map(|&(position, bit)| Probe {
            location: SensorLocation::Cells,
            value: value(position, bit),
        }))
        .collect();
}

fn percent(value: u8) -> Option<CentiPercent> {
    (value <= 100).then(|| CentiPercent(i32::from(value) * 100))
}

fn decode_floats(record: &Record, into: &mut Reading) {
    let voltage = |cell| thousandths(record.f32(CELLS + 4 * cell), 65.0).map(Millivolts);
    let resistance = |cell| {
        let microohms = thousandths(record.f32(102 + 4 * cell), 65.0)?.checked_mul(1000)?;
        Some(Microohms(microohms))
    };
    let balanced = balanced_cell(record, 220, 218);
    let present = |cell: &u8| record.u32(214) & 1 << *cell != 0;
    into.cells = cells((0..24).filter(present), voltage, resistance, balanced);
    // The balancer does not measure the pack voltage.
    let sum = (0..24).filter(present).map(|cell| record.f32(CELLS + 4 * usize::from(cell))).sum();
    let known = into.cells.iter().all(|cell| cell.voltage.is_some());
    into.pack.voltage =
        thousandths(sum, 1000.0).filter(|_| known && !into.cells.is_empty()).map(Millivolts);
}

/// Converts to whole thousandths; `None` for NaN and beyond the limit.
pub(super) fn thousandths(value: f32, limit: f32) -> Option<i32> {
    // At most a million, so the cast is exact.
    (value.abs() <= limit).then(|| (f64::from(value) * 1000.0).round() as i32)
}
