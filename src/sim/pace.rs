//! A PACE pack (protocol version 25), the counterpart of `protocol::pace`.

use super::SimBrand;
use super::ascii_pack::{self, AsciiPack, Marks, code, limit_state};
use super::payload::Payload;
use super::state::PackState;
use crate::model::Alarm;
use crate::protocol::pace::{FAULT, PROTECT_1, PROTECT_2, SYSTEM, WARNING_1, WARNING_2};

const MARKS: Marks = Marks { version: 0x25, cid1: 0x46 };

pub static BRAND: SimBrand =
    ascii_pack::brand("pace", 0..=15, |pack| Box::new(AsciiPack { marks: MARKS, content, pack }));

fn content(service: u8, info: &[u8], address: u8, state: &PackState) -> Result<Vec<u8>, u8> {
    let mut payload = Payload::default();
    match (service, info) {
        (0x42, [own]) if *own == address => live(payload.byte(0).byte(address), state),
        (0x44, [own]) if *own == address => alarms(payload.byte(0).byte(address), state),
        (0xC1, []) => payload.text("P16S100A-SIMULATED", 20, b' '),
        (0xC2, []) => payload.text(&format!("SIMPACE{address:06}"), 40, b' '),
        (0x42 | 0x44, [_]) => return Err(code::DATA),
        (0x42 | 0x44 | 0xC1 | 0xC2, _) => return Err(code::FORMAT),
        _ => return Err(code::SERVICE),
    };
    Ok(payload.into_bytes())
}

fn live<'a>(payload: &'a mut Payload, state: &PackState) -> &'a mut Payload {
    payload.cells(state).sensors(state.sensors.iter().chain([&state.mosfet, &state.ambient]));
    payload.word(state.current.0 / 10).word(state.voltage.0).centi_ah(state.remaining).byte(3);
    payload.centi_ah(state.full).word(state.cycles).centi_ah(state.design)
}

fn alarms<'a>(payload: &'a mut Payload, state: &PackState) -> &'a mut Payload {
    use Alarm::*;
    let limits = |below, above| limit_state(state, below, above);
    let last_sensors = [
        [MosUndertemperatureWarning, MosOvertemperatureWarning],
        [AmbientUndertemperatureWarning, AmbientOvertemperatureWarning],
    ];
    ascii_pack::warnings(payload, state, last_sensors);
    payload.byte(limits(ChargeOvercurrentWarning, ChargeOvercurrentWarning));
    payload.byte(limits(PackUndervoltageWarning, PackOvervoltageWarning));
    payload.byte(limits(DischargeOvercurrentWarning, DischargeOvercurrentWarning));
    let [protect1, protect2, system, fault, warning1, warning2] =
        [&PROTECT_1, &PROTECT_2, &SYSTEM, &FAULT, &WARNING_1, &WARNING_2]
            .map(|word| state.word(word) as u8);
    payload.byte(protect1).byte(protect2).byte(system).byte(0).byte(fault);
    payload.word(state.balancing_word(0)).byte(warning1).byte(warning2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::units::{DeciCelsius, MilliampHours, Milliamps, Millivolts};
    use crate::sim::{Battery, SimPack};

    /// The pack of the recorded frames.
    fn recorded() -> PackState {
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

    fn reply_to(request: &str) -> String {
        let mut pack =
            BRAND.pack(SimPack { battery: Battery::fixed(recorded()), ..SimPack::fixed(1) });
        String::from_utf8(pack.respond(request.as_bytes(), 0.0).unwrap_or_default()).unwrap()
    }

    #[test]
    fn replies_equal_those_of_a_recorded_pack() {
        // nkinnan/esphome-pace-bms, pace_bms_protocol_v25.cpp.
        assert_eq!(
            reply_to("~25014642E00201FD30\r"),
            "~25014600F07A0001100CC70CC80CC70CC70CC70CC50CC60CC70CC70CC60CC70CC60CC60CC70CC60CC7060B\
             9B0B990B990B990BB30BBCFF1FCCCD12D303286A008C2710E1E4\r"
        );
        assert_eq!(
            reply_to("~25014644E00201FD2E\r"),
            "~25014600004C000110000000000000000000000000000000000600000000000000000000000E0000000000\
             00EF3A\r"
        );
    }

    #[test]
    fn invalid_requests_are_refused() {
        assert_eq!(reply_to("~25024642E00202FD2E\r"), "");
        assert_eq!(reply_to("~25014642E00202FD2F\r"), "~250146060000FDA8\r");
        // The one that would switch it off.
        assert_eq!(reply_to("~2501469C0000FD92\r"), "~250146040000FDAA\r");
    }
}
