//! The data of each register.

use super::Nameplate;
use crate::model::Alarm;
use crate::sim::state::PackState;

/// Bits of the protection word, from bit 0 on.
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

/// Register AA, as a recorded board counts: 122 times a cell too full, twice one too empty, one
/// restart.
pub const COUNTERS: [u16; 12] = [0, 0, 0, 122, 2, 0, 0, 0, 0, 0, 0, 1];

/// Register 03, with the part that newer firmware appends.
pub fn basic(state: &PackState, nameplate: &Nameplate) -> Vec<u8> {
    let [year, month, day] = nameplate.born.map(u16::from);
    let [major, minor] = nameplate.software;
    let remaining = tens(state.remaining.0);
    let balancing = |cells: std::ops::Range<usize>| {
        let cells = state.balancing.iter().skip(cells.start).take(cells.len());
        cells.enumerate().fold(0_u16, |word, (bit, on)| word | u16::from(*on) << bit)
    };
    let protection = PROTECTIONS.iter().enumerate();
    let protection = protection
        .fold(0_u16, |word, (bit, alarm)| word | u16::from(state.alarms.contains(alarm)) << bit);

    let mut data = Vec::new();
    let words = [
        tens(state.voltage.0.into()),
        // A negative current wraps as the two's complement does.
        (state.current.0 / 10) as u16,
        remaining,
        tens(state.design.0),
        u16::try_from(state.cycles).unwrap_or(u16::MAX),
        year << 9 | month << 5 | day,
        balancing(0..16),
        balancing(16..32),
        protection,
    ];
    data.extend(words.iter().flat_map(|word| word.to_be_bytes()));
    let fets = u8::from(state.charging) | u8::from(state.discharging) << 1;
    data.extend([major << 4 | minor, (state.soc.0 / 100) as u8, fets]);
    data.extend([state.cells.len() as u8, state.sensors.len() as u8]);
    data.extend(state.sensors.iter().flat_map(|it| ((it.0 + 2731) as u16).to_be_bytes()));
    // Humidity, alarms, full charge, remaining charge, balance current.
    data.push(0);
    let appended = [0, tens(state.full.0), remaining, 0];
    data.extend(appended.iter().flat_map(|word| word.to_be_bytes()));
    data
}

/// Register 04.
pub fn cells(state: &PackState) -> Vec<u8> {
    state.cells.iter().flat_map(|cell| (cell.0 as u16).to_be_bytes()).collect()
}

/// Thousandths in hundredths.
fn tens(thousandths: i64) -> u16 {
    u16::try_from(thousandths / 10).unwrap_or(u16::MAX)
}
