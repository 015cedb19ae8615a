use super::*;
use crate::protocol::bytes::Reader;
use crate::protocol::modbus::with_crc;
use crate::protocol::testing::next_request;
use crate::protocol::{Driver, ProtocolError, Step};

const D2_STATUS: &[u8] = &[0xD2, 3, 0, 0, 0, 0x3E, 0xD7, 0xB9];
const P81_FIRST: &[u8] = &[0x81, 3, 0, 0, 0, 0x40, 0x5B, 0xFA];
const A5_TOTALS: &[u8] = &[0xA5, 0x40, 0x90, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0x7D];
const APP_TOTALS: &[u8] = &[0xA5, 0x80, 0x90, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0xBD];
/// 52.8 V, 0 A, 50 %.
const A5_ANSWER: &[u8] = &[0xA5, 1, 0x90, 8, 2, 0x10, 0, 0, 0x75, 0x30, 1, 0xF4, 0xEA];

fn driver(options: Options) -> Runner<Daly> {
    Runner::new(Daly::new(&options))
}

fn on(medium: Medium) -> Options {
    Options { medium, ..Options::default() }
}

/// The requests of one cycle without any reply.
fn requests_without_reply(options: Options) -> Vec<Vec<u8>> {
    let mut driver = driver(options);
    let mut requests = Vec::new();
    while let Some(request) = next_request(&mut driver) {
        requests.push(request);
        driver.handle_timeout();
    }
    requests
}

#[test]
fn the_dialects_are_tried_one_after_the_other_with_questions_that_only_read() {
    let asked = requests_without_reply(on(Medium::Serial));
    assert_eq!(asked, [D2_STATUS, P81_FIRST, A5_TOTALS]);
    let asked = requests_without_reply(on(Medium::Ble));
    assert_eq!(asked, [D2_STATUS, P81_FIRST, APP_TOTALS, A5_TOTALS]);
}

#[test]
fn the_operator_may_know_the_dialect() {
    for (variant, question) in [("d2", D2_STATUS), ("p81", P81_FIRST), ("a5", A5_TOTALS)] {
        assert!(INFO.variants.contains(&variant));
        let variant = Some(variant.to_owned());
        let asked = requests_without_reply(Options { variant, ..Options::default() });
        assert_eq!(asked, [question]);
    }
}

#[test]
fn boards_with_a_number_are_asked_by_it() {
    let asked = requests_without_reply(Options { address: 2, ..Options::default() });
    assert_eq!(asked[0], [0x82, 3, 0, 0, 0, 0x40, 0x5B, 0xC9], "no D2, it has no numbers");
    assert_eq!(asked[1], a5::encode(0x41, 0x90, [0; 8]));
}

#[test]
fn what_has_answered_is_asked_again_until_the_link_is_new() {
    let mut driver = driver(on(Medium::Serial));
    next_request(&mut driver);
    driver.handle_timeout();
    next_request(&mut driver);
    driver.handle_timeout();
    assert_eq!(next_request(&mut driver).as_deref(), Some(A5_TOTALS));
    driver.receive(A5_ANSWER);
    let counts = a5::encode(0x40, 0x94, [0; 8]);
    assert_eq!(next_request(&mut driver), Some(counts));
    driver.handle_timeout();
    assert!(matches!(driver.step(), Step::Failed(ProtocolError::Timeout { .. })));
    driver.start(CycleKind::Read);
    assert_eq!(next_request(&mut driver).as_deref(), Some(A5_TOTALS));
    driver.handle_timeout();
    assert!(matches!(driver.step(), Step::Failed(_)), "no other dialect is tried");
    driver.reset();
    assert_eq!(next_request(&mut driver).as_deref(), Some(D2_STATUS));
}

/// A D2 status in which only the switches matter, and one of a balancer.
fn status(charging: u16, discharging: u16) -> Vec<u8> {
    let mut registers = [0_u16; 62];
    registers[0x28..=0x2A].copy_from_slice(&[528, 30_000, 500]);
    registers[0x31] = 4;
    registers[0x33] = 7;
    registers[0x35] = charging;
    registers[0x36] = discharging;
    let mut frame = vec![0xD2, 3, 124];
    frame.extend(registers.iter().flat_map(|register| register.to_be_bytes()));
    with_crc(frame)
}

#[test]
fn an_order_is_repeated_by_the_board_and_the_status_proves_it() {
    let mut driver = driver(on(Medium::Serial));
    driver.start(CycleKind::Write(Setting { switch: Switch::Charging, on: false }));
    assert_eq!(next_request(&mut driver).as_deref(), Some(D2_STATUS));
    driver.receive(&status(1, 1));
    let order = [0xD2, 6, 0, 0xA5, 0, 0, 0x8A, 0x4A];
    assert_eq!(next_request(&mut driver).as_deref(), Some(&order[..]));
    driver.receive(&order);
    assert_eq!(driver.step(), Step::Pause(SWITCH_DELAY), "the board needs a moment");
    assert_eq!(next_request(&mut driver).as_deref(), Some(D2_STATUS));
    driver.receive(&status(0, 1));
    let Step::Done(reading) = driver.step() else { panic!("{:?}", driver.step()) };
    assert_eq!(reading.switches.charging, Some(false));
    assert_eq!(reading.switches.discharging, Some(true));
}

#[test]
fn an_order_finds_its_dialect_first() {
    let mut driver = driver(on(Medium::Serial));
    driver.start(CycleKind::Write(Setting { switch: Switch::Discharging, on: true }));
    next_request(&mut driver);
    driver.handle_timeout();
    next_request(&mut driver);
    driver.handle_timeout();
    next_request(&mut driver);
    driver.receive(A5_ANSWER);
    let order = [0xA5, 0x40, 0xD9, 8, 1, 0, 0, 0, 0, 0, 0, 0, 0xC7];
    assert_eq!(next_request(&mut driver).as_deref(), Some(&order[..]));
    // The board says that it stays off.
    let mut refused = vec![0xA5, 1, 0xD9, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    refused.push(refused.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte)));
    for _ in 0..=RETRIES {
        driver.receive(&refused);
        driver.handle_timeout();
        next_request(&mut driver);
    }
    let Step::Failed(error) = driver.step() else { panic!("{:?}", driver.step()) };
    assert!(error.to_string().contains("the board reports off instead"), "{error}");
}

#[test]
fn balancing_cannot_be_ordered() {
    let mut driver = driver(on(Medium::Serial));
    driver.start(CycleKind::Write(Setting { switch: Switch::Balancing, on: true }));
    assert!(matches!(driver.step(), Step::Done(_)));
}

#[test]
fn a_balancer_has_no_charge_and_no_switches() {
    let mut registers = [0_u16; 62];
    registers[0x28..=0x2A].copy_from_slice(&[133, 30_000, 0]);
    registers[0x31] = 4;
    let bytes: Vec<u8> = registers.iter().flat_map(|register| register.to_be_bytes()).collect();
    let mut into = Reading::default();
    let Request::Registers { first, count, decode } = DIALECTS[0].plan[0].request else { panic!() };
    let registers = Registers::read(first, count, &mut Reader::big_endian(&bytes)).unwrap();
    decode(&registers, &mut into).unwrap();
    assert_eq!(into.cells.len(), 4);
    assert_eq!((into.pack.soc, into.pack.current, into.switches.charging), (None, None, None));
}

#[test]
fn bits_of_cells_that_do_not_exist_are_no_balancing() {
    let mut into = Reading::default();
    into.cells.resize(4, Default::default());
    registers::note_balancing(0b1_0000, &mut into);
    assert_eq!(into.cells[0].balancing, None);
    registers::note_balancing(0b1001, &mut into);
    let on: Vec<_> = into.cells.iter().map(|cell| cell.balancing).collect();
    assert_eq!(on, [Some(true), Some(false), Some(false), Some(true)]);
}

#[test]
fn levels_warn_before_they_act() {
    use crate::model::Alarm;
    for (byte, active) in [
        (0b000, &[][..]),
        (0b001, &[Alarm::CellOvervoltageWarning]),
        (0b010, &[Alarm::CellOvervoltage]),
        (0b111, &[Alarm::CellOvervoltage]),
        (0b001_000, &[Alarm::CellUndervoltageWarning]),
    ] {
        let mut into = Reading::default();
        let mut bytes = [0; status::FLAGS.len()];
        bytes[0] = byte;
        status::note_levels(bytes, &mut into);
        assert_eq!(into.alarms.active().collect::<Vec<_>>(), active, "{byte:b}");
    }
}
