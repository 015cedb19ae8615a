//! A Seplos V2 pack as the reader meets it on RS485: the other side of `protocol::seplos`.
//!
//! Layouts: the maker's document V2.0 and captured frames, which the tests below compare with.

use super::SimBrand;
use super::ascii_frame::{self, Info, Marks, code};
use super::ascii_pack::{AsciiPack, cell_states, limit_state};
use super::state::PackState;
use crate::model::Alarm::{
    self, AmbientOvertemperature, AmbientOvertemperatureWarning, AmbientUndertemperature,
    AmbientUndertemperatureWarning, CellDifference, CellDisconnected, CellOvertemperatureWarning,
    CellOvervoltage, CellOvervoltageWarning, CellUndertemperatureWarning, CellUndervoltage,
    CellUndervoltageWarning, ChargeForbidden, ChargeMosFailure, ChargeOvercurrent,
    ChargeOvercurrentWarning, ChargeOvertemperature, ChargeOvertemperatureWarning,
    ChargeOvervoltage, ChargeUndertemperature, ChargeUndertemperatureWarning, ClockFailure,
    CurrentLimiterFailure, CurrentSensorFailure, DischargeMosFailure, DischargeOvercurrent,
    DischargeOvercurrentWarning, DischargeOvertemperature, DischargeOvertemperatureWarning,
    DischargeUndertemperature, DischargeUndertemperatureWarning, EepromFailure, KeySwitchFailure,
    LowBattery, LowSocWarning, MosOvertemperature, MosOvertemperatureWarning,
    MosUndertemperatureWarning, OutputConnectionFailure, OvercurrentLockout, PackOvervoltage,
    PackOvervoltageWarning, PackUndervoltage, PackUndervoltageWarning, ReverseConnection,
    ShortCircuit, ShortCircuitLockout, TemperatureSensorFailure, TransientOvercurrent,
    VoltageSensorFailure,
};

const MARKS: Marks = Marks { version: 0x20, cid1: 0x46 };

/// Seplos, for the registry.
pub static BRAND: SimBrand = SimBrand {
    name: "seplos",
    addresses: 0..=15,
    new: |address, battery, faults| {
        Box::new(AsciiPack { marks: MARKS, answer, address, battery, faults })
    },
    request_end: ascii_frame::request_end,
    stream: None,
    notification: None,
    corrupt: |corrupt, answer| MARKS.corrupt(corrupt, answer),
};

/// What a captured pack at address 0 says of itself.
const GROUP: u8 = 1;

fn answer(service: u8, info: &[u8], address: u8, state: &PackState) -> Result<Vec<u8>, u8> {
    let mut answer = Info::default();
    match (service, info) {
        (0x42, [own]) if *own == address => live(answer.byte(0).byte(GROUP), state),
        (0x44, [own]) if *own == address => alarms(answer.byte(0).byte(GROUP), state),
        (0x4F, []) => {}
        (0x51, []) => {
            answer.text("1101-SP16", 10, b' ').byte(2).byte(7).text("SIMULATED", 20, b' ');
        }
        (0x42 | 0x44, [_]) => return Err(code::DATA),
        (0x42 | 0x44 | 0x4F | 0x51, _) => return Err(code::FORMAT),
        _ => return Err(code::SERVICE),
    }
    Ok(answer.into_bytes())
}

fn live(info: &mut Info, state: &PackState) {
    info.byte(state.cells.len() as u8);
    for cell in &state.cells {
        info.word(cell.0);
    }
    info.byte(2 + state.sensors.len() as u8);
    for sensor in &state.sensors {
        info.kelvin(*sensor);
    }
    info.kelvin(state.ambient).kelvin(state.mosfet);
    info.word(state.current.0 / 10).word(state.voltage.0 / 10).capacity(state.remaining).byte(10);
    let cycles = i32::try_from(state.cycles).unwrap_or(i32::MAX);
    info.capacity(state.full).word(state.soc.0 / 10).capacity(state.design).word(cycles);
    // Behind the health stand the voltage at the terminals and four words in reserve.
    info.word(state.soh.0 / 10).word(state.voltage.0 / 10).words(4, 0);
}

fn alarms(info: &mut Info, state: &PackState) {
    let limits = |below, above| limit_state(state, below, above);
    let states = cell_states(state, CellUndervoltageWarning, CellOvervoltageWarning);
    info.byte(state.cells.len() as u8).extend(states);
    info.byte(2 + state.sensors.len() as u8);
    for _ in &state.sensors {
        info.byte(limits(CellUndertemperatureWarning, CellOvertemperatureWarning));
    }
    info.byte(limits(AmbientUndertemperatureWarning, AmbientOvertemperatureWarning));
    info.byte(limits(MosUndertemperatureWarning, MosOvertemperatureWarning));
    info.byte(limits(DischargeOvercurrentWarning, ChargeOvercurrentWarning));
    info.byte(limits(PackUndervoltageWarning, PackOvervoltageWarning));
    info.byte(20);
    for event in EVENTS_1_TO_6 {
        info.byte(state.bits(event));
    }
    info.byte(u8::from(state.discharging) | u8::from(state.charging) << 1);
    let balancing = state.balancing.iter().take(16).enumerate();
    let balancing = balancing.fold(0_u16, |mask, (bit, on)| mask | u16::from(*on) << bit);
    info.extend(balancing.to_le_bytes());
    info.byte(u8::from(state.current.0 < 0) | u8::from(state.current.0 > 0) << 1);
    info.byte(state.bits(&[Some(CellDisconnected)])).byte(0);
    info.byte(0).byte(state.bits(&[Some(EepromFailure), Some(ClockFailure)])).words(3, 0);
}

const EVENTS_1_TO_6: [&[Option<Alarm>]; 6] = [
    &[
        Some(VoltageSensorFailure),
        Some(TemperatureSensorFailure),
        Some(CurrentSensorFailure),
        Some(KeySwitchFailure),
        Some(CellDifference),
        Some(ChargeMosFailure),
        Some(DischargeMosFailure),
        Some(CurrentLimiterFailure),
    ],
    &[
        Some(CellOvervoltageWarning),
        Some(CellOvervoltage),
        Some(CellUndervoltageWarning),
        Some(CellUndervoltage),
        Some(PackOvervoltageWarning),
        Some(PackOvervoltage),
        Some(PackUndervoltageWarning),
        Some(PackUndervoltage),
    ],
    &[
        Some(ChargeOvertemperatureWarning),
        Some(ChargeOvertemperature),
        Some(ChargeUndertemperatureWarning),
        Some(ChargeUndertemperature),
        Some(DischargeOvertemperatureWarning),
        Some(DischargeOvertemperature),
        Some(DischargeUndertemperatureWarning),
        Some(DischargeUndertemperature),
    ],
    &[
        Some(AmbientOvertemperatureWarning),
        Some(AmbientOvertemperature),
        Some(AmbientUndertemperatureWarning),
        Some(AmbientUndertemperature),
        Some(MosOvertemperature),
        Some(MosOvertemperatureWarning),
    ],
    &[
        Some(ChargeOvercurrentWarning),
        Some(ChargeOvercurrent),
        Some(DischargeOvercurrentWarning),
        Some(DischargeOvercurrent),
        Some(TransientOvercurrent),
        Some(ShortCircuit),
        Some(OvercurrentLockout),
        Some(ShortCircuitLockout),
    ],
    &[
        Some(ChargeOvervoltage),
        None,
        Some(LowSocWarning),
        Some(LowBattery),
        Some(ChargeForbidden),
        Some(ReverseConnection),
        Some(OutputConnectionFailure),
    ],
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::units::{CentiPercent, DeciCelsius, MilliampHours, Milliamps, Millivolts};
    use crate::sim::battery::Battery;
    use crate::sim::faults::Faults;

    /// The pack of a captured frame.
    fn captured() -> PackState {
        let mut state = PackState::at_rest();
        state.cells = [
            3287, 3305, 3316, 3286, 3311, 3301, 3297, 3292, 3305, 3312, 3304, 3311, 3306, 3290,
            3294, 3288,
        ]
        .map(Millivolts)
        .to_vec();
        state.voltage = Millivolts(52_800);
        state.current = Milliamps(-6760);
        state.remaining = MilliampHours(133_900);
        (state.full, state.design) = (MilliampHours(170_000), MilliampHours(180_000));
        (state.soc, state.soh) = (CentiPercent(7870), CentiPercent(10_000));
        state.cycles = 70;
        state.sensors = [251, 245, 236, 251].map(DeciCelsius).to_vec();
        (state.ambient, state.mosfet) = (DeciCelsius(250), DeciCelsius(247));
        state
    }

    fn ask(request: &str) -> String {
        let mut pack = (BRAND.new)(0, Battery::fixed(captured()), Faults::default());
        String::from_utf8(pack.respond(request.as_bytes(), 0.0).unwrap_or_default()).unwrap()
    }

    #[test]
    fn live_values_are_those_of_a_captured_pack_but_for_the_voltage_at_its_terminals() {
        // syssi/esphome-seplos-bms, README.md.
        let answer = ask("~20004642E00200FD37\r");
        assert_eq!(
            &answer[..answer.len() - 25],
            "~2000460010960001100CD70CE90CF40CD60CEF0CE50CE10CDC0CE90CF00CE80CEF0CEA0CDA0CDE0CD8060B\
             A60BA00B970BA60BA50BA2FD5C14A0344E0A426803134650004603E8"
        );
        assert!(answer.ends_with("14A00000000000000000DC7A\r"), "{answer}");
    }

    #[test]
    fn events_stand_behind_the_states_of_cells_and_sensors() {
        let answer = ask("~20004644E00200FD35\r");
        let info = &answer[13..answer.len() - 5];
        assert_eq!(info.len(), 2 * 49, "as in the document");
        assert!(info.starts_with("000110"));
        assert!(info.ends_with("140000000000000300000100000000000000000000"), "{info}");
    }

    #[test]
    fn others_are_not_answered_and_nonsense_is_refused() {
        assert_eq!(ask("~20014642E00201FD35\r"), "");
        assert_eq!(ask("~200046930000FDA8\r"), "~200046040000FDB0\r");
        assert_eq!(ask("~20004642E00201FD36\r"), "~200046060000FDAE\r");
    }
}
