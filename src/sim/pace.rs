//! A PACE pack (protocol version 25) as the reader meets it: the other side of `protocol::pace`.
//!
//! Layouts: nkinnan/esphome-pace-bms and the frames captured there, which the tests compare with.

use super::SimBrand;
use super::ascii_frame::{self, Info, Marks, code};
use super::ascii_pack::{AsciiPack, cell_states, limit_state};
use super::state::PackState;
use crate::model::Alarm::{
    self, AmbientOvertemperature, AmbientOvertemperatureWarning, AmbientUndertemperature,
    AmbientUndertemperatureWarning, CellFailure, CellOvertemperatureWarning, CellOvervoltage,
    CellOvervoltageWarning, CellUndertemperatureWarning, CellUndervoltage, CellUndervoltageWarning,
    ChargeMosFailure, ChargeOvercurrent, ChargeOvercurrentWarning, ChargeOvertemperature,
    ChargeOvertemperatureWarning, ChargeUndertemperature, ChargeUndertemperatureWarning,
    DischargeMosFailure, DischargeOvercurrent, DischargeOvercurrentWarning,
    DischargeOvertemperature, DischargeOvertemperatureWarning, DischargeUndertemperature,
    DischargeUndertemperatureWarning, LowSocWarning, MosOvertemperature, MosOvertemperatureWarning,
    MosUndertemperatureWarning, PackOvervoltage, PackOvervoltageWarning, PackUndervoltage,
    PackUndervoltageWarning, ReverseConnection, SamplingFailure, ShortCircuit,
    TemperatureSensorFailure,
};

const MARKS: Marks = Marks { version: 0x25, cid1: 0x46 };

/// PACE, for the registry.
pub static BRAND: SimBrand = SimBrand {
    name: "pace",
    addresses: 0..=15,
    new: |address, battery, faults| {
        Box::new(AsciiPack { marks: MARKS, answer, address, battery, faults })
    },
    request_end: ascii_frame::request_end,
    stream: None,
    notification: None,
    corrupt: |corrupt, answer| MARKS.corrupt(corrupt, answer),
};

fn answer(service: u8, info: &[u8], address: u8, state: &PackState) -> Result<Vec<u8>, u8> {
    let mut answer = Info::default();
    match (service, info) {
        (0x42, [own]) if *own == address => live(answer.byte(0).byte(address), state),
        (0x44, [own]) if *own == address => alarms(answer.byte(0).byte(address), state),
        (0xC1, []) => {
            answer.text("P16S100A-SIMULATED", 20, b' ');
        }
        (0xC2, []) => {
            answer.text(&format!("SIMPACE{address:06}"), 40, b' ');
        }
        (0x42 | 0x44, [_]) => return Err(code::DATA),
        (0x42 | 0x44 | 0xC1 | 0xC2, _) => return Err(code::FORMAT),
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
    info.kelvin(state.mosfet).kelvin(state.ambient);
    info.word(state.current.0 / 10).word(state.voltage.0).capacity(state.remaining).byte(3);
    let cycles = i32::try_from(state.cycles).unwrap_or(i32::MAX);
    info.capacity(state.full).word(cycles).capacity(state.design);
}

fn alarms(info: &mut Info, state: &PackState) {
    let limits = |below, above| limit_state(state, below, above);
    let states = cell_states(state, CellUndervoltageWarning, CellOvervoltageWarning);
    info.byte(state.cells.len() as u8).extend(states);
    info.byte(2 + state.sensors.len() as u8);
    for _ in &state.sensors {
        info.byte(limits(CellUndertemperatureWarning, CellOvertemperatureWarning));
    }
    info.byte(limits(MosUndertemperatureWarning, MosOvertemperatureWarning));
    info.byte(limits(AmbientUndertemperatureWarning, AmbientOvertemperatureWarning));
    info.byte(limits(ChargeOvercurrentWarning, ChargeOvercurrentWarning));
    info.byte(limits(PackUndervoltageWarning, PackOvervoltageWarning));
    info.byte(limits(DischargeOvercurrentWarning, DischargeOvercurrentWarning));
    let [protect1, protect2, system, fault, warning1, warning2] =
        [PROTECT_1, PROTECT_2, SYSTEM, FAULT, WARNING_1, WARNING_2].map(|it| state.bits(it));
    let switches = u8::from(state.charging) << 1 | u8::from(state.discharging) << 2;
    let moving = u8::from(state.current.0 < 0) << 3 | u8::from(state.current.0 > 0) << 5;
    info.byte(protect1).byte(protect2).byte(system | switches | moving).byte(0).byte(fault);
    let balancing = state.balancing.iter().take(16).enumerate();
    info.word(balancing.fold(0, |mask, (bit, on)| mask | i32::from(*on) << bit));
    info.byte(warning1).byte(warning2);
}

const PROTECT_1: &[Option<Alarm>] = &[
    Some(CellOvervoltage),
    Some(CellUndervoltage),
    Some(PackOvervoltage),
    Some(PackUndervoltage),
    Some(ChargeOvercurrent),
    Some(DischargeOvercurrent),
    Some(ShortCircuit),
];
const PROTECT_2: &[Option<Alarm>] = &[
    Some(ChargeOvertemperature),
    Some(DischargeOvertemperature),
    Some(ChargeUndertemperature),
    Some(DischargeUndertemperature),
    Some(MosOvertemperature),
    Some(AmbientOvertemperature),
    Some(AmbientUndertemperature),
];
const SYSTEM: &[Option<Alarm>] = &[None, None, None, None, Some(ReverseConnection)];
const FAULT: &[Option<Alarm>] = &[
    Some(ChargeMosFailure),
    Some(DischargeMosFailure),
    Some(TemperatureSensorFailure),
    None,
    Some(CellFailure),
    Some(SamplingFailure),
];
const WARNING_1: &[Option<Alarm>] = &[
    Some(CellOvervoltageWarning),
    Some(CellUndervoltageWarning),
    Some(PackOvervoltageWarning),
    Some(PackUndervoltageWarning),
    Some(ChargeOvercurrentWarning),
    Some(DischargeOvercurrentWarning),
];
const WARNING_2: &[Option<Alarm>] = &[
    Some(ChargeOvertemperatureWarning),
    Some(DischargeOvertemperatureWarning),
    Some(ChargeUndertemperatureWarning),
    Some(DischargeUndertemperatureWarning),
    Some(AmbientOvertemperatureWarning),
    Some(AmbientUndertemperatureWarning),
    Some(MosOvertemperatureWarning),
    Some(LowSocWarning),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::units::{DeciCelsius, MilliampHours, Milliamps, Millivolts};
    use crate::sim::battery::Battery;
    use crate::sim::faults::Faults;

    /// The pack of the captured frames.
    fn captured() -> PackState {
        let mut state = PackState::at_rest();
        state.cells = [
            3271, 3272, 3271, 3271, 3271, 3269, 3270, 3271, 3271, 3270, 3271, 3270, 3270, 3271,
            3270, 3271,
        ]
        .map(Millivolts)
        .to_vec();
        state.voltage = Millivolts(52_429);
        state.current = Milliamps(-2250);
        state.remaining = MilliampHours(48_190);
        state.full = MilliampHours(103_460);
        state.cycles = 140;
        state.sensors = [240, 238, 238, 238].map(DeciCelsius).to_vec();
        (state.mosfet, state.ambient) = (DeciCelsius(264), DeciCelsius(273));
        state
    }

    fn ask(request: &str) -> String {
        let mut pack = (BRAND.new)(1, Battery::fixed(captured()), Faults::default());
        String::from_utf8(pack.respond(request.as_bytes(), 0.0).unwrap_or_default()).unwrap()
    }

    #[test]
    fn answers_are_those_of_a_captured_pack() {
        // nkinnan/esphome-pace-bms, pace_bms_protocol_v25.cpp.
        assert_eq!(
            ask("~25014642E00201FD30\r"),
            "~25014600F07A0001100CC70CC80CC70CC70CC70CC50CC60CC70CC70CC60CC70CC60CC60CC70CC60CC7060B\
             9B0B990B990B990BB30BBCFF1FCCCD12D303286A008C2710E1E4\r"
        );
        assert_eq!(
            ask("~25014644E00201FD2E\r"),
            "~25014600004C000110000000000000000000000000000000000600000000000000000000000E0000000000\
             00EF3A\r"
        );
    }

    #[test]
    fn others_are_not_answered_and_nonsense_is_refused() {
        assert_eq!(ask("~25024642E00202FD2E\r"), "");
        assert_eq!(ask("~25014642E00202FD2F\r"), "~250146060000FDA8\r");
        // The one that would switch it off.
        assert_eq!(ask("~2501469C0000FD92\r"), "~250146040000FDAA\r");
    }
}
