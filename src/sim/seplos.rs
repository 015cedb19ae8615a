//! A Seplos V2 pack on RS485, the counterpart of `protocol::seplos`.

use super::SimBrand;
use super::ascii_pack::{self, AsciiPack, Marks, code, limit_state};
use super::payload::Payload;
use super::state::PackState;
use crate::model::Alarm;
use crate::protocol::seplos::{BOARD, EVENTS_1_TO_6, SWITCHES, SYSTEM};

const MARKS: Marks = Marks { version: 0x20, cid1: 0x46 };

pub static BRAND: SimBrand =
    ascii_pack::brand("seplos", 0..=15, |pack| Box::new(AsciiPack { marks: MARKS, content, pack }));

/// The group number of a recorded pack at address 0.
const GROUP: u8 = 1;

fn content(service: u8, info: &[u8], address: u8, state: &PackState) -> Result<Vec<u8>, u8> {
    let mut payload = Payload::default();
    match (service, info) {
        (0x42, [own]) if *own == address => live(payload.byte(0).byte(GROUP), state),
        (0x44, [own]) if *own == address => alarms(payload.byte(0).byte(GROUP), state),
        (0x4F, []) => &mut payload,
        (0x51, []) => {
            payload.text("1101-SP16", 10, b' ').extend([2, 7]).text("SIMULATED", 20, b' ')
        }
        (0x42 | 0x44, [_]) => return Err(code::DATA),
        (0x42 | 0x44 | 0x4F | 0x51, _) => return Err(code::FORMAT),
        _ => return Err(code::SERVICE),
    };
    Ok(payload.into_bytes())
}

fn live<'a>(payload: &'a mut Payload, state: &PackState) -> &'a mut Payload {
    payload.cells(state).sensors(state.sensors.iter().chain([&state.ambient, &state.mosfet]));
    payload.word(state.current.0 / 10).word(state.voltage.0 / 10).centi_ah(state.remaining);
    payload.byte(10).centi_ah(state.full).word(state.soc.0 / 10).centi_ah(state.design);
    // After the health come the voltage at the terminals and four words in reserve.
    payload.word(state.cycles).word(state.soh.0 / 10).word(state.voltage.0 / 10).words([0; 4])
}

fn alarms<'a>(payload: &'a mut Payload, state: &PackState) -> &'a mut Payload {
    use Alarm::*;
    let limits = |below, above| limit_state(state, below, above);
    let byte = |word| state.word(word) as u8;
    let last_sensors = [
        [AmbientUndertemperatureWarning, AmbientOvertemperatureWarning],
        [MosUndertemperatureWarning, MosOvertemperatureWarning],
    ];
    ascii_pack::warnings(payload, state, last_sensors);
    payload.byte(limits(DischargeOvercurrentWarning, ChargeOvercurrentWarning));
    payload.byte(limits(PackUndervoltageWarning, PackOvervoltageWarning));
    payload.byte(20).extend(EVENTS_1_TO_6.iter().map(byte));
    let disconnected = u8::from(state.alarms.contains(&CellDisconnected));
    payload.byte(byte(&SWITCHES)).extend(state.balancing_word(0).to_le_bytes());
    payload.byte(byte(&SYSTEM)).byte(disconnected).byte(0);
    payload.byte(0).byte(byte(&BOARD)).words([0; 3])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::units::{CentiPercent, DeciCelsius, MilliampHours, Milliamps, Millivolts};
    use crate::sim::{Battery, SimPack};

    /// The pack of a recorded frame.
    fn recorded() -> PackState {
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

    fn reply_to(request: &str) -> String {
        let mut pack =
            BRAND.pack(SimPack { battery: Battery::fixed(recorded()), ..SimPack::fixed(0) });
        String::from_utf8(pack.respond(request.as_bytes(), 0.0).unwrap_or_default()).unwrap()
    }

    #[test]
    fn live_values_equal_those_of_a_recorded_pack() {
        // syssi/esphome-seplos-bms, README.md; the voltage at the terminals differs.
        let reply = reply_to("~20004642E00200FD37\r");
        assert_eq!(
            &reply[..reply.len() - 25],
            "~2000460010960001100CD70CE90CF40CD60CEF0CE50CE10CDC0CE90CF00CE80CEF0CEA0CDA0CDE0CD8060B\
             A60BA00B970BA60BA50BA2FD5C14A0344E0A426803134650004603E8"
        );
        assert!(reply.ends_with("14A00000000000000000DC7A\r"), "{reply}");
    }

    #[test]
    fn invalid_requests_are_refused() {
        assert_eq!(reply_to("~20014642E00201FD35\r"), "");
        assert_eq!(reply_to("~200046930000FDA8\r"), "~200046040000FDB0\r");
        assert_eq!(reply_to("~20004642E00201FD36\r"), "~200046060000FDAE\r");
    }
}
