//! A Pylontech module as the reader meets it on RS485: the other side of `protocol::pylontech`.
//!
//! Layouts: the maker's document V3.3 and captured frames, which the tests below compare with.

use super::SimBrand;
use super::ascii_frame::{self, Info, Marks, code};
use super::ascii_pack::{AsciiPack, cell_states, limit_state};
use super::state::PackState;
use crate::model::Alarm::{
    CellFailure, CellOvertemperature, CellOvervoltage, CellUndertemperature, CellUndervoltage,
    ChargeOvercurrent, ChargeOvertemperature, DischargeOvercurrent, DischargeOvertemperature,
    MosOvertemperature, MosUndertemperature, PackOvervoltage, PackUndervoltage,
};

const MARKS: Marks = Marks { version: 0x20, cid1: 0x46 };

/// Pylontech, for the registry: the modules of the first group.
pub static BRAND: SimBrand = SimBrand {
    name: "pylontech",
    addresses: 2..=15,
    new: |address, battery, faults| {
        Box::new(AsciiPack { marks: MARKS, answer, address, battery, faults })
    },
    request_end: ascii_frame::request_end,
    stream: None,
    notification: None,
    corrupt: |corrupt, answer| MARKS.corrupt(corrupt, answer),
};

/// Address of the first module, which also speaks for its group.
const FIRST: u8 = 2;

fn answer(service: u8, info: &[u8], address: u8, state: &PackState) -> Result<Vec<u8>, u8> {
    let mut answer = Info::default();
    let head = match info {
        [own] if *own == address => address,
        // One module, of a group of one.
        [0xFF] if address == FIRST => 1,
        [_] => return Err(code::DATA),
        _ => 0,
    };
    match (service, head) {
        (0x42 | 0x44 | 0x92 | 0x93 | 0x96, 0) => return Err(code::FORMAT),
        (0x42, _) => live(answer.byte(0x10).byte(head), state),
        (0x44, _) => alarms(answer.byte(0).byte(head), state),
        (0x47, _) => {
            answer.byte(0x10).word(3650).word(3050).word(2800).word(3331).word(2631).word(900);
            answer.word(54_000).word(46_000).word(43_000).word(3331).word(2631).word(-900);
        }
        (0x51, _) => {
            answer.text("US3000", 10, b' ').byte(2).byte(7).text("SIMULATED", 20, b' ');
        }
        (0x92, _) => {
            answer.byte(address).word(53_250).word(47_000).word(370).word(-370).byte(0xC0);
        }
        (0x93, _) => {
            answer.byte(address).text(&format!("SIMPYLON{address:08}"), 16, b' ');
        }
        (0x96, _) => {
            answer.byte(address).byte(1).byte(2).byte(1).byte(4).byte(0);
        }
        _ => return Err(code::SERVICE),
    }
    Ok(answer.into_bytes())
}

/// One module of service 42.
fn live(info: &mut Info, state: &PackState) {
    info.byte(state.cells.len() as u8);
    for cell in &state.cells {
        info.word(cell.0);
    }
    info.byte(1 + state.sensors.len() as u8).kelvin(state.mosfet);
    for sensor in &state.sensors {
        info.kelvin(*sensor);
    }
    info.word(state.current.0 / 100).word(state.voltage.0);
    let cycles = i32::try_from(state.cycles).unwrap_or(i32::MAX);
    let (remaining, full) = (state.remaining.0, state.full.0);
    if full < 0xFFFF {
        info.word(remaining as i32).byte(2).word(full as i32).word(cycles);
    } else {
        info.word(0xFFFF).byte(4).word(0xFFFF).word(cycles).wide(remaining).wide(full);
    }
}

/// One module of service 44.
fn alarms(info: &mut Info, state: &PackState) {
    let either = |alarm| limit_state(state, alarm, alarm);
    info.byte(state.cells.len() as u8).extend(cell_states(
        state,
        CellUndervoltage,
        CellOvervoltage,
    ));
    info.byte(1 + state.sensors.len() as u8);
    info.byte(limit_state(state, MosUndertemperature, MosOvertemperature));
    for _ in &state.sensors {
        info.byte(limit_state(state, CellUndertemperature, CellOvertemperature));
    }
    info.byte(either(ChargeOvercurrent));
    info.byte(limit_state(state, PackUndervoltage, PackOvervoltage));
    info.byte(either(DischargeOvercurrent));
    info.byte(state.bits(&[
        Some(PackOvervoltage),
        Some(CellUndervoltage),
        Some(ChargeOvercurrent),
        None,
        Some(DischargeOvercurrent),
        Some(DischargeOvertemperature),
        Some(ChargeOvertemperature),
        Some(PackUndervoltage),
    ]));
    // Bit 3: the module itself supplies its electronics.
    info.byte(u8::from(state.charging) << 1 | u8::from(state.discharging) << 2 | 8);
    let moving = u8::from(state.current.0 < 0) << 6 | u8::from(state.current.0 > 0) << 7;
    info.byte(moving).byte(state.bits(&[Some(CellFailure)])).byte(0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::units::{DeciCelsius, MilliampHours, Milliamps, Millivolts};
    use crate::sim::battery::Battery;
    use crate::sim::faults::Faults;

    /// The module of a captured frame of a UP2500.
    fn captured() -> PackState {
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

    fn ask(state: PackState, request: &str) -> String {
        let battery = Battery::fixed(state);
        let mut pack = (BRAND.new)(2, battery, Faults::default());
        let answer = pack.respond(request.as_bytes(), 0.0).unwrap_or_default();
        String::from_utf8(answer).unwrap()
    }

    #[test]
    fn live_values_are_those_of_a_captured_module() {
        // Frankkkkk/python-pylontech, tests/test_basic.py.
        assert_eq!(
            ask(captured(), "~20024642E00202FD33\r"),
            "~20024600D05E1002080D020D020D020D030D000D010D010D03050B7D0B690B690B690B73FFFA680EFFFF04\
             FFFF00000174E401B198E906\r"
        );
    }

    #[test]
    fn a_small_module_has_the_narrow_fields() {
        let state = PackState {
            full: MilliampHours(50_000),
            remaining: MilliampHours(33_500),
            ..captured()
        };
        let answer = ask(state, "~20024642E00202FD33\r");
        assert!(answer.contains("82DC02C3500000"), "{answer}");
    }

    #[test]
    fn others_are_not_answered_and_nonsense_is_refused() {
        assert_eq!(ask(captured(), "~20034642E00203FD31\r"), "");
        assert_eq!(ask(captured(), "~200246420000FDAC\r"), "~200246050000FDAD\r");
        assert_eq!(ask(captured(), "~20024642E00203FD32\r"), "~200246060000FDAC\r");
        assert!(ask(captured(), "~20024642E002FFFD09\r").starts_with("~20024600D05E100108"));
        // The one that would switch it off.
        assert_eq!(ask(captured(), "~20024695E00202FD2B\r"), "~200246040000FDAE\r");
    }
}
