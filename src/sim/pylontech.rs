//! A Pylontech module on RS485, the counterpart of `protocol::pylontech`.

use super::SimBrand;
use super::ascii_pack::{self, AsciiPack, Marks, cell_states, code, limit_state};
use super::payload::Payload;
use super::state::PackState;
use crate::model::Alarm;
use crate::protocol::pylontech::{STATUS_1, STATUS_2};

const MARKS: Marks = Marks { version: 0x20, cid1: 0x46 };

/// The modules of the first group.
pub static BRAND: SimBrand = ascii_pack::brand("pylontech", 2..=15, |pack| {
    Box::new(AsciiPack { marks: MARKS, content, pack })
});

/// Address of the first module, which also replies for its group.
const FIRST: u8 = 2;

fn content(service: u8, info: &[u8], address: u8, state: &PackState) -> Result<Vec<u8>, u8> {
    let mut payload = Payload::default();
    let head = match info {
        [own] if *own == address => address,
        // One module, of a group of one.
        [0xFF] if address == FIRST => 1,
        [_] => return Err(code::DATA),
        _ => 0,
    };
    match (service, head) {
        (0x42 | 0x44 | 0x92 | 0x93 | 0x96, 0) => return Err(code::FORMAT),
        (0x42, _) => live(payload.byte(0x10).byte(head), state),
        (0x44, _) => alarms(payload.byte(0).byte(head), state),
        (0x47, _) => {
            payload.byte(0x10).words([3650, 3050, 2800, 3331, 2631, 900]);
            payload.words([54_000, 46_000, 43_000, 3331, 2631, -900])
        }
        (0x51, _) => payload.text("US3000", 10, b' ').extend([2, 7]).text("SIMULATED", 20, b' '),
        (0x92, _) => payload.byte(address).words([53_250, 47_000, 370, -370]).byte(0xC0),
        (0x93, _) => payload.byte(address).text(&format!("SIMPYLON{address:08}"), 16, b' '),
        (0x96, _) => payload.extend([address, 1, 2, 1, 4, 0]),
        _ => return Err(code::SERVICE),
    };
    Ok(payload.into_bytes())
}

/// One module of service 42.
fn live<'a>(payload: &'a mut Payload, state: &PackState) -> &'a mut Payload {
    payload.cells(state).sensors([&state.mosfet].into_iter().chain(&state.sensors));
    payload.word(state.current.0 / 100).word(state.voltage.0);
    let (remaining, full, cycles) = (state.remaining.0, state.full.0, state.cycles);
    if full < 0xFFFF {
        payload.word(remaining).byte(2).word(full).word(cycles)
    } else {
        payload.word(0xFFFF).byte(4).word(0xFFFF).word(cycles);
        payload.three_bytes(remaining).three_bytes(full)
    }
}

/// One module of service 44.
fn alarms<'a>(payload: &'a mut Payload, state: &PackState) -> &'a mut Payload {
    use Alarm::*;
    let limits = |below, above| limit_state(state, below, above);
    payload.extend(cell_states(state, CellUndervoltage, CellOvervoltage));
    payload.byte(1 + state.sensors.len() as u8);
    payload.byte(limits(MosUndertemperature, MosOvertemperature));
    for _ in &state.sensors {
        payload.byte(limits(CellUndertemperature, CellOvertemperature));
    }
    payload.byte(limits(ChargeOvercurrent, ChargeOvercurrent));
    payload.byte(limits(PackUndervoltage, PackOvervoltage));
    payload.byte(limits(DischargeOvercurrent, DischargeOvercurrent));
    // Bit 3: the module itself supplies its electronics.
    payload.byte(state.word(&STATUS_1) as u8).byte(state.word(&STATUS_2) as u8 | 8);
    let moving = u8::from(state.current.0 < 0) << 6 | u8::from(state.current.0 > 0) << 7;
    payload.byte(moving).byte(state.alarms.contains(&CellFailure).into()).byte(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::units::{DeciCelsius, MilliampHours, Milliamps, Millivolts};
    use crate::sim::{Battery, SimPack};

    /// The module of a recorded frame of a UP2500.
    fn recorded() -> PackState {
        let mut state = PackState::at_rest().with_cells(8);
        state.cells = [3330, 3330, 3330, 3331, 3328, 3329, 3329, 3331].map(Millivolts).to_vec();
        state.voltage = Millivolts(26_638);
        state.current = Milliamps(-600);
        (state.full, state.remaining) = (MilliampHours(111_000), MilliampHours(95_460));
        state.cycles = 0;
        state.mosfet = DeciCelsius(210);
        state.sensors = [190, 190, 190, 200].map(DeciCelsius).to_vec();
        state
    }

    fn reply_to(state: PackState, request: &str) -> String {
        let battery = Battery::fixed(state);
        let mut pack = BRAND.pack(SimPack { battery, ..SimPack::fixed(2) });
        let reply = pack.respond(request.as_bytes(), 0.0).unwrap_or_default();
        String::from_utf8(reply).unwrap()
    }

    #[test]
    fn live_values_equal_those_of_a_recorded_module() {
        // Frankkkkk/python-pylontech, tests/test_basic.py.
        assert_eq!(
            reply_to(recorded(), "~20024642E00202FD33\r"),
            "~20024600D05E1002080D020D020D020D030D000D010D010D03050B7D0B690B690B690B73FFFA680EFFFF04\
             FFFF00000174E401B198E906\r"
        );
    }

    #[test]
    fn small_module_has_the_narrow_fields() {
        let state = PackState {
            full: MilliampHours(50_000),
            remaining: MilliampHours(33_500),
            ..recorded()
        };
        let reply = reply_to(state, "~20024642E00202FD33\r");
        assert!(reply.contains("82DC02C3500000"), "{reply}");
    }

    #[test]
    fn invalid_requests_are_refused() {
        assert_eq!(reply_to(recorded(), "~20034642E00203FD31\r"), "");
        assert_eq!(reply_to(recorded(), "~200246420000FDAC\r"), "~200246050000FDAD\r");
        assert_eq!(reply_to(recorded(), "~20024642E00203FD32\r"), "~200246060000FDAC\r");
        assert!(reply_to(recorded(), "~20024642E002FFFD09\r").starts_with("~20024600D05E100108"));
        // The one that would switch it off.
        assert_eq!(reply_to(recorded(), "~20024695E00202FD2B\r"), "~200246040000FDAE\r");
    }
}
