use super::*;
use crate::model::{CentiPercent, DeciCelsius, MilliampHours, Milliamps, Millivolts};
use crate::sim::Battery;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn reply_to(dialect: Dialect, state: PackState, request: &str) -> Option<String> {
    let pack = SimPack { battery: Battery::fixed(state), ..SimPack::fixed(1) };
    DalyPack { dialect, pack }.respond(&unhex(request), 0.0).map(|reply| hex(&reply))
}

/// The 24 cells of a recorded D2 board at rest.
fn recorded() -> PackState {
    let mut state = PackState::at_rest().with_cells(24);
    let cells = [
        3292, 3291, 3292, 3292, 3292, 3292, 3294, 3292, 3292, 3292, 3292, 3292, 3292, 3292, 3294,
        3292, 3292, 3292, 3292, 3292, 3292, 3294, 3292, 3292,
    ];
    state.cells = cells.map(Millivolts).to_vec();
    state.voltage = Millivolts(79_000);
    state.current = Milliamps(0);
    state.soc = CentiPercent(3330);
    state.remaining = MilliampHours(104_500);
    state.cycles = 0;
    state.sensors = [160, 140, 160, 160].map(DeciCelsius).to_vec();
    state
}

#[test]
fn d2_status_equals_that_of_a_recorded_board() {
    // syssi/esphome-daly-bms, docs/pdus.
    let reply = reply_to(Dialect::D2, recorded(), "d2030000003ed7b9").unwrap();
    assert!(reply.starts_with("d2037c0cdc0cdb0cdc0cdc0cdc0cdc0cde0cdc0cdc"), "{reply}");
    assert!(reply.contains("0000000000000000000000380036003800380028"), "{reply}");
    assert!(reply.contains("03167530014d0cde0cdb"), "{reply}");
    assert_eq!(reply.len(), 2 * 129);
}

#[test]
fn a5_replies_equal_those_of_recorded_boards() {
    let mut state = PackState::at_rest().with_cells(16);
    state.voltage = Millivolts(53_200);
    state.current = Milliamps(-2_100);
    state.soc = CentiPercent(8880);
    // mpp-solar, tests/integration/test_protocol_daly.py.
    assert_eq!(
        reply_to(Dialect::A5, state, "a58090080000000000000000bd").unwrap(),
        "a5019008021400007545037889"
    );
    let cells = reply_to(Dialect::A5, PackState::at_rest(), "a5409508000000000000000082").unwrap();
    assert_eq!(cells.len(), 2 * 13 * 7, "six frames for sixteen cells, and one more");
    assert!(cells.starts_with("a5019508010ced0cf00cf22a"), "{cells}");
}

#[test]
fn p81_boards_reply_from_another_address() {
    let reply = reply_to(Dialect::P81, PackState::at_rest(), "8103000000405bfa").unwrap();
    assert!(reply.starts_with("5103800ced0cf0"), "{reply}");
    assert_eq!(reply_to(Dialect::P81, PackState::at_rest(), "8203000000405bc9"), None);
}

#[test]
fn other_dialects_are_ignored() {
    let requests = ["d2030000003ed7b9", "8103000000405bfa", "a540900800000000000000007d"];
    for (dialect, own) in [(Dialect::D2, 0), (Dialect::P81, 1), (Dialect::A5, 2)] {
        for (index, request) in requests.iter().enumerate() {
            let reply = reply_to(dialect, PackState::at_rest(), request);
            assert_eq!(reply.is_some(), index == own, "{dialect:?}, {request}");
        }
    }
}

#[test]
fn writes_set_a_switch_and_are_confirmed() {
    for (dialect, order, confirmation) in [
        (Dialect::D2, "d20600a500008a4a", "d20600a500008a4a"),
        (Dialect::A5, "a540da080000000000000000c7", "a501da08000000000000000088"),
    ] {
        let mut board = DalyPack { dialect, pack: SimPack::fixed(1) };
        let reply = board.respond(&unhex(order), 0.0).unwrap();
        assert_eq!(hex(&reply), confirmation);
        let state = board.pack.state(0.0);
        assert_eq!((state.charging, state.discharging), (false, true));
    }
    // The clock, which the vendor's app sets while it probes, has no effect.
    assert_eq!(reply_to(Dialect::D2, PackState::at_rest(), "d20600d4000199eb"), None);
}

#[test]
fn requests_are_found_after_noise() {
    let request = unhex("d2030000003ed7b9");
    assert_eq!(BRAND.request_end(&[&[0, 1][..], &request].concat()), Some(10));
    assert_eq!(BRAND.request_end(&request[..7]), None);
    let request = unhex("a540900800000000000000007d");
    assert_eq!(BRAND_A5.request_end(&[&[0xA5][..], &request].concat()), Some(14));
}
