//! The data of each answer, byte for byte.

use super::Nameplate;
use crate::model::Alarm;
use crate::sim::ascii_frame::Info;
use crate::sim::state::PackState;

/// Service 42: everything that changes.
pub fn live_values(state: &PackState) -> Vec<u8> {
    let mut info = Info::default();
    info.byte(0).word(state.soc.0).word(state.voltage.0 / 10);
    info.byte(state.cells.len() as u8);
    for cell in &state.cells {
        info.word(cell.0);
    }
    info.temperature(state.ambient).temperature(state.average).temperature(state.mosfet);
    info.byte(state.sensors.len() as u8);
    for sensor in &state.sensors {
        info.temperature(*sensor);
    }
    info.word(state.current.0 / 10);
    // No internal resistance; and the user byte is 1 on every captured pack with this layout.
    info.word(0).word(state.soh.0 / 100).byte(1);
    info.capacity(state.full).capacity(state.remaining).word(small(state.cycles));
    let moving = i32::from(state.current.0 > 0) | i32::from(state.current.0 < 0) << 1;
    // 0x20 is the current limit "10 A", set on all captured packs.
    let switches = i32::from(state.charging) | i32::from(state.discharging) << 1 | 0x20;
    let difference = i32::from(state.alarms.contains(&Alarm::CellDifferenceWarning));
    info.word(alarm_bits(state, Word::Voltage))
        .word(alarm_bits(state, Word::Current) | moving)
        .word(alarm_bits(state, Word::Temperature))
        .word(alarm_bits(state, Word::Alarm) | difference)
        .word(alarm_bits(state, Word::Transistors) | switches);
    // The masks of single cells stayed empty on a captured pack with a cell in overvoltage.
    info.words(4, 0).word(balancing(state, 0)).word(balancing(state, 16)).words(4, 0);
    info.byte(alarm_bits(state, Word::Machine) as u8).word(alarm_bits(state, Word::Io));
    info.into_bytes()
}

/// Service 47: limits and bar codes.
pub fn system_parameters(state: &PackState, nameplate: &Nameplate) -> Vec<u8> {
    let mut info = Info::default();
    info.byte(0).word(3650).word(2500).word(60).word(-5).word(12_000).word(3650).word(2500);
    info.word(small(state.cells.len() as u32)).word(12_000).capacity(state.full).word(1440).word(0);
    info.text(&nameplate.serial, 20, 0).text(&nameplate.bms_serial, 20, 0);
    info.into_bytes()
}

/// Service 51: types and versions.
pub fn manufacturer(nameplate: &Nameplate) -> Vec<u8> {
    let mut info = Info::default();
    for text in [&nameplate.hardware, &nameplate.product, &nameplate.project] {
        info.text(text, 10, b' ');
    }
    info.extend(nameplate.software);
    info.extend(nameplate.boot);
    info.into_bytes()
}

/// Service 83: how often each protection tripped. Six further words follow the eight known ones.
pub fn counters() -> Vec<u8> {
    let mut info = Info::default();
    info.byte(0x83).byte(1).word(3).word(1).words(12, 0);
    info.into_bytes()
}

/// Service B0, module 3: who it is.
pub fn identity(nameplate: &Nameplate) -> Vec<u8> {
    let mut info = Info::default();
    for text in [&nameplate.serial, &nameplate.product_id, &nameplate.bms_serial] {
        info.text(text, 30, 0);
    }
    info.extend(nameplate.born);
    info.text(&nameplate.manufacturer, 20, 0);
    info.into_bytes()
}

/// Service B0, module 4: capacities and what ever went through, in Ah and in 0.1 kWh.
pub fn capacities(state: &PackState) -> Vec<u8> {
    /// A full pack of sixteen cells has this voltage in the mean: 0.1 kWh are 100 000 mWh.
    const MEAN_MILLIVOLTS: i64 = 51_200;
    let mut info = Info::default();
    info.capacity(state.remaining).capacity(state.full).capacity(state.design);
    let through = [state.charged, state.discharged];
    for charge in through {
        let amp_hours = u32::try_from(charge.0 / 1000).unwrap_or(u32::MAX);
        info.extend(amp_hours.to_be_bytes());
    }
    for charge in through {
        info.word((charge.0 * MEAN_MILLIVOLTS / 1000 / 100_000) as i32);
    }
    info.into_bytes()
}

fn small(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

/// Cells `first + 1` to `first + 16` as bits.
fn balancing(state: &PackState, first: usize) -> i32 {
    let cells = state.balancing.iter().skip(first).take(16).enumerate();
    cells.fold(0, |mask, (bit, on)| mask | i32::from(*on) << bit)
}

/// The status words of service 42.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Voltage,
    Current,
    Temperature,
    Alarm,
    Transistors,
    Machine,
    Io,
}

fn alarm_bits(state: &PackState, word: Word) -> i32 {
    let runs = ALARM_BITS.iter().filter(|(place, ..)| *place == word);
    let bits = runs.flat_map(|(_, first, alarms)| (*first..).zip(*alarms));
    bits.filter(|(_, alarm)| state.alarms.contains(alarm)).fold(0, |word, (bit, _)| word | 1 << bit)
}

/// Runs of alarms in neighbouring bits: the word, the first bit, the alarms from there upwards. A
/// few alarms have a second bit elsewhere, which captured packs leave empty except for the cell
/// difference (`live_values` sets it).
const ALARM_BITS: &[(Word, u32, &[Alarm])] = {
    use Alarm::*;
    &[
        (
            Word::Voltage,
            0,
            &[
                CellOvervoltage,
                CellUndervoltage,
                PackOvervoltage,
                PackUndervoltage,
                CellOvervoltageWarning,
                CellUndervoltageWarning,
                PackOvervoltageWarning,
                PackUndervoltageWarning,
                CellDifferenceWarning,
                OvervoltageLockout,
                UndervoltageLockout,
                TemperatureDifferenceWarning,
                CellFailure,
                FuseBlown,
                CellDifference,
            ],
        ),
        (
            Word::Current,
            2,
            &[
                ChargeOvercurrent,
                ShortCircuit,
                DischargeOvercurrent,
                DischargeOvercurrent2,
                ChargeOvercurrentWarning,
                DischargeOvercurrentWarning,
                OvercurrentLockout,
                ReverseConnection,
            ],
        ),
        (
            Word::Temperature,
            0,
            &[
                ChargeOvertemperature,
                ChargeUndertemperature,
                DischargeOvertemperature,
                DischargeUndertemperature,
                AmbientOvertemperature,
                AmbientUndertemperature,
                MosOvertemperature,
                MosUndertemperature,
                ChargeOvertemperatureWarning,
                ChargeUndertemperatureWarning,
                DischargeOvertemperatureWarning,
                DischargeUndertemperatureWarning,
                AmbientOvertemperatureWarning,
                AmbientUndertemperatureWarning,
                MosOvertemperatureWarning,
                MosUndertemperatureWarning,
            ],
        ),
        (
            Word::Alarm,
            1,
            &[ChargeMosWarning, ExternalStorageWarning, InternalBusWarning, EepromWarning],
        ),
        (Word::Alarm, 7, &[LowSocWarning]),
        (Word::Alarm, 9, &[HeaterFailure, CurrentLimiterFailure, SamplingFailure]),
        (Word::Alarm, 13, &[TemperatureSensorFailure, ChargeMosFailure, DischargeMosFailure]),
        (Word::Transistors, 13, &[AfeFailure, AfeWarning, LowBattery]),
        (Word::Machine, 5, &[SystemFailure]),
        (Word::Io, 3, &[AerosolWarning]),
        (Word::Io, 12, &[OscillatorFailure, EepromFailure]),
    ]
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::units::{CentiPercent, DeciCelsius, MilliampHours, Milliamps, Millivolts};

    fn hex(info: &[u8]) -> String {
        info.iter().map(|byte| format!("{byte:02X}")).collect()
    }

    /// The pack of a captured frame: charging, cell 16 at 3.694 V, two warnings.
    fn captured() -> PackState {
        let mut state = PackState::at_rest();
        state.cells = [
            3371, 3372, 3370, 3369, 3372, 3370, 3371, 3372, 3370, 3370, 3374, 3371, 3373, 3371,
            3372, 3694,
        ]
        .map(Millivolts)
        .to_vec();
        state.voltage = Millivolts(54_260);
        state.soc = CentiPercent(10_000);
        state.soh = CentiPercent(9700);
        state.current = Milliamps(1190);
        (state.full, state.remaining) = (MilliampHours(224_670), MilliampHours(224_670));
        state.cycles = 218;
        (state.ambient, state.average, state.mosfet) =
            (DeciCelsius(290), DeciCelsius(280), DeciCelsius(290));
        state.sensors = [280, 290, 290, 290].map(DeciCelsius).to_vec();
        state.balancing[15] = true;
        state.alarms =
            BTreeSet::from([Alarm::CellOvervoltageWarning, Alarm::CellDifferenceWarning]);
        state
    }

    #[test]
    fn live_values_are_those_of_a_captured_pack() {
        // infertux/tr1363, tests (test_status_frame).
        assert_eq!(
            hex(&live_values(&captured())),
            "0027101532100D2B0D2C0D2A0D290D2C0D2A0D2B0D2C0D2A0D2A0D2E0D2B0D2D0D2B0D2C0E6E01220118\
             01220401180122012201220077000000610157C357C300DA011000010000000100230000000000000000\
             800000000000000000000000000000"
        );
    }

    #[test]
    fn discharge_and_frost_keep_their_signs() {
        let mut state = captured();
        state.current = Milliamps(-11_160);
        state.ambient = DeciCelsius(-55);
        state.discharging = false;
        let info = live_values(&state);
        assert_eq!(info[38..40], (-55_i16).to_be_bytes());
        assert_eq!(info[53..55], (-1116_i16).to_be_bytes());
        assert_eq!(info[68..70], [0, 2]);
        assert_eq!(info[74..76], [0, 0x21]);
    }

    #[test]
    fn further_cells_move_what_follows_and_fill_the_second_mask() {
        let mut state = captured().with_cells(20);
        state.balancing[19] = true;
        let info = live_values(&state);
        assert_eq!((info[5], info.len()), (20, 59 + 40 + 8));
        assert_eq!(info[info.len() - 15..info.len() - 11], [0x80, 0, 0, 8]);
    }

    #[test]
    fn capacities_are_those_of_a_captured_pack() {
        let mut state = captured();
        (state.remaining, state.full) = (MilliampHours(99_650), MilliampHours(102_920));
        (state.charged, state.discharged) = (MilliampHours(237_000), MilliampHours(153_000));
        // m0n5t3r/esphome-daren-bms, tests.cpp; without its kWh words, whose scale is disputed.
        assert!(hex(&capacities(&state)).starts_with("26ED28342710000000ED00000099"));
        assert_eq!(capacities(&state).len(), 18);
    }

    #[test]
    fn every_alarm_has_a_bit_of_its_own() {
        let (mut bits, mut named) = (BTreeSet::new(), BTreeSet::new());
        for &(word, first, alarms) in ALARM_BITS {
            for (bit, alarm) in (first..).zip(alarms) {
                assert!(bit < 16 && bits.insert((word as u8, bit)), "{word:?} bit {bit}");
                assert!(named.insert(*alarm), "{alarm:?} twice");
                let state = PackState { alarms: BTreeSet::from([*alarm]), ..PackState::at_rest() };
                assert_eq!(alarm_bits(&state, word), 1 << bit, "{alarm:?}");
            }
        }
        assert_eq!(named.len(), 57);
    }

    #[test]
    fn fixed_texts_fill_their_fields() {
        let nameplate = Nameplate::of(3);
        assert_eq!(manufacturer(&nameplate).len(), 35);
        assert!(
            manufacturer(&nameplate).starts_with(b"T1_G      SIM48100  16S100A   \x01\x00\x02")
        );
        assert_eq!(identity(&nameplate).len(), 113);
        assert!(identity(&nameplate).starts_with(b"SIMPACK0003\0"));
        assert_eq!(system_parameters(&captured(), &nameplate).len(), 65);
        assert_eq!(counters().len(), 30);
        let mut info = Info::default();
        info.text("too long", 3, 0);
        assert_eq!(info.into_bytes(), b"too");
    }
}
