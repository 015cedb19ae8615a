//! A Daren pack on RS485, the counterpart of `protocol::daren`. No error reply of a real pack is
//! known; the codes follow the vendor's document.

use super::SimBrand;
use super::ascii_pack::{self, AsciiPack, Marks, code};
use super::payload::Payload;
use super::state::PackState;
use crate::model::Alarm;
use crate::protocol::daren::status::{ALARM, CURRENT, FET, IO, TEMPERATURE, VOLTAGE};

const MARKS: Marks = Marks { version: 0x22, cid1: 0x4A };

pub static BRAND: SimBrand =
    ascii_pack::brand("daren", 0..=15, |pack| Box::new(AsciiPack { marks: MARKS, content, pack }));

/// For live values the documents disagree on INFO: 01 or the address.
fn content(service: u8, info: &[u8], address: u8, state: &PackState) -> Result<Vec<u8>, u8> {
    let mut payload = Payload::default();
    match (service, info) {
        (0x42, [group]) if *group == 1 || *group == address => live(&mut payload, state),
        (0x47, [_]) => parameters(&mut payload, state, address),
        (0x4F, []) => payload.byte(0xC8),
        (0x51, []) => {
            for text in ["T1_G", "SIM48100", "16S100A"] {
                payload.text(text, 10, b' ');
            }
            payload.extend([1, 0, 2, 1, 1])
        }
        // How often each protection triggered. Six further words follow the eight known ones.
        (0x83, [_, 1]) => payload.extend([0x83, 1]).word(3).word(1).words([0; 12]),
        (0xB0, [group, 1, module @ (3 | 4), 0xFF, 0]) => {
            let data = if *module == 3 { nameplate(address) } else { capacities(state) };
            payload.extend([0xB0, *group, 1, *module, 0xFF, data.len() as u8]).extend(data)
        }
        (0x42 | 0x47 | 0x83 | 0xB0, [_, ..]) => return Err(code::DATA),
        (0x42 | 0x47 | 0x4F | 0x51 | 0x83 | 0xB0, _) => return Err(code::FORMAT),
        _ => return Err(code::SERVICE),
    };
    Ok(payload.into_bytes())
}

fn live<'a>(payload: &'a mut Payload, state: &PackState) -> &'a mut Payload {
    payload.byte(0).word(state.soc.0).word(state.voltage.0 / 10).cells(state);
    payload.words([state.ambient, state.average, state.mosfet].map(|value| value.0));
    payload.byte(state.sensors.len() as u8).words(state.sensors.iter().map(|value| value.0));
    // No internal resistance; and the user byte is 1 on every recorded pack with this layout.
    payload.word(state.current.0 / 10).word(0).word(state.soh.0 / 100).byte(1);
    payload.centi_ah(state.full).centi_ah(state.remaining).word(state.cycles);
    let word = |word| state.word(word) as i64;
    // 0x20 is the current limit "10 A", set on all recorded packs.
    payload.words([&VOLTAGE, &CURRENT, &TEMPERATURE, &ALARM].map(word)).word(word(&FET) | 0x20);
    // The masks of single cells stayed empty on a recorded pack with a cell in overvoltage.
    payload.words([0; 4]).word(state.balancing_word(0)).word(state.balancing_word(16));
    let system_failure = u8::from(state.alarms.contains(&Alarm::SystemFailure));
    payload.words([0; 4]).byte(system_failure << 5).word(word(&IO))
}

/// Service 47: limits and bar codes.
fn parameters<'a>(payload: &'a mut Payload, state: &PackState, address: u8) -> &'a mut Payload {
    payload.byte(0).words([3650, 2500, 60, -5, 12_000, 3650, 2500]);
    payload.word(state.cells.len() as u32).word(12_000).centi_ah(state.full).words([1440, 0]);
    payload.text(&format!("SIMPACK{address:04}"), 20, 0);
    payload.text(&format!("SIMBMS{address:04}"), 20, 0)
}

/// Service B0, module 3: serial number and product of the pack, serial number of the board, date of
/// manufacture, manufacturer.
fn nameplate(address: u8) -> Vec<u8> {
    let mut payload = Payload::default();
    payload.text(&format!("SIMPACK{address:04}"), 30, 0).text("SIM-JC48100", 30, 0);
    payload.text(&format!("SIMBMS{address:04}"), 30, 0).extend([25, 6, 13]);
    payload.text("SIMULATED", 20, 0);
    payload.into_bytes()
}

/// Service B0, module 4: capacities and the totals, in Ah and in 0.1 kWh.
fn capacities(state: &PackState) -> Vec<u8> {
    /// Mean voltage of a full pack of sixteen cells: 0.1 kWh are 100 000 mWh.
    const MEAN_MILLIVOLTS: i64 = 51_200;
    let mut payload = Payload::default();
    payload.centi_ah(state.remaining).centi_ah(state.full).centi_ah(state.design);
    let totals = [state.charged.0, state.discharged.0];
    for charge in totals {
        payload.four_bytes(charge / 1000);
    }
    payload.words(totals.map(|charge| charge * MEAN_MILLIVOLTS / 1000 / 100_000));
    payload.into_bytes()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::units::{CentiPercent, DeciCelsius, MilliampHours, Milliamps, Millivolts};

    fn data(service: u8, info: &[u8], state: &PackState) -> String {
        let data = content(service, info, 1, state).unwrap();
        data.iter().map(|byte| format!("{byte:02X}")).collect()
    }

    /// The pack of a recorded frame: charging, cell 16 at 3.694 V, two warnings.
    fn recorded() -> PackState {
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
    fn live_values_equal_those_of_a_recorded_pack() {
        // infertux/tr1363, tests (test_status_frame).
        assert_eq!(
            data(0x42, &[1], &recorded()),
            "0027101532100D2B0D2C0D2A0D290D2C0D2A0D2B0D2C0D2A0D2A0D2E0D2B0D2D0D2B0D2C0E6E01220118\
             01220401180122012201220077000000610157C357C300DA011000010000000100230000000000000000\
             800000000000000000000000000000"
        );
    }

    #[test]
    fn further_cells_fill_the_second_balancing_mask() {
        let mut state = recorded().with_cells(20);
        state.balancing[19] = true;
        let info = content(0x42, &[1], 1, &state).unwrap();
        assert_eq!((info[5], info.len()), (20, 59 + 40 + 8));
        assert_eq!(info[info.len() - 15..info.len() - 11], [0x80, 0, 0, 8]);
    }

    #[test]
    fn capacities_equal_those_of_a_recorded_pack() {
        let mut state = recorded();
        (state.remaining, state.full) = (MilliampHours(99_650), MilliampHours(102_920));
        (state.charged, state.discharged) = (MilliampHours(237_000), MilliampHours(153_000));
        // m0n5t3r/esphome-daren-bms, tests.cpp; without its kWh words, whose scale is disputed.
        let capacities = data(0xB0, &[1, 1, 4, 0xFF, 0], &state);
        assert!(capacities.starts_with("B0010104FF1226ED28342710000000ED00000099"), "{capacities}");
    }

    #[test]
    fn fixed_replies_have_the_length_of_recorded_ones() {
        let state = PackState::at_rest();
        assert_eq!(data(0x4F, &[], &state), "C8");
        for (service, info, length) in [
            (0x51, &[][..], 35),
            (0x83, &[1, 1], 30),
            (0x47, &[1], 65),
            (0xB0, &[1, 1, 3, 0xFF, 0], 6 + 113),
        ] {
            assert_eq!(data(service, info, &state).len(), 2 * length, "{service:02X}");
        }
    }

    #[test]
    fn invalid_requests_are_refused() {
        let content = |service, info: &[u8]| content(service, info, 1, &PackState::at_rest());
        assert_eq!(content(0x42, &[7]), Err(code::DATA));
        assert_eq!(content(0x42, &[]), Err(code::FORMAT));
        assert_eq!(content(0x99, &[1]), Err(code::SERVICE));
        assert_eq!(content(0xB0, &[1, 1, 9, 0xFF, 0]), Err(code::DATA));
        // Operation 2 would write.
        assert_eq!(content(0xB0, &[1, 2, 3, 0xFF, 0]), Err(code::DATA));
    }
}
