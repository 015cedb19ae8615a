use super::*;
use crate::protocol::modbus::with_crc;
use crate::protocol::testing::next_request;
use crate::protocol::{Driver, Pause, ProtocolError, Reader, Step};

const D2_STATUS: &[u8] = &[0xD2, 3, 0, 0, 0, 0x3E, 0xD7, 0xB9];
const P81_FIRST: &[u8] = &[0x81, 3, 0, 0, 0, 0x40, 0x5B, 0xFA];
const A5_TOTALS: &[u8] = &[0xA5, 0x40, 0x90, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0x7D];
const APP_TOTALS: &[u8] = &[0xA5, 0x80, 0x90, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0xBD];
/// 52.8 V, 0 A, 50 %.
const A5_REPLY: &[u8] = &[0xA5, 1, 0x90, 8, 2, 0x10, 0, 0, 0x75, 0x30, 1, 0xF4, 0xEA];

fn driver(options: Options) -> Runner {
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
fn every_failure_bit_has_an_alarm_of_its_own() {
    let bits = status::FAILURES.iter().flat_map(|word| word.bits);
    let alarms: Vec<_> = bits.filter_map(|(_, bit)| bit.alarm()).collect();
    let distinct: std::collections::BTreeSet<_> = alarms.iter().collect();
    assert_eq!(distinct.len(), alarms.len(), "{alarms:?}");
}

#[test]
fn dialects_are_tried_in_turn_by_reading() {
    let requests = requests_without_reply(on(Medium::Serial));
    assert_eq!(requests, [D2_STATUS, P81_FIRST, A5_TOTALS]);
    let requests = requests_without_reply(on(Medium::Ble));
    assert_eq!(requests, [D2_STATUS, P81_FIRST, APP_TOTALS, A5_TOTALS]);
}

#[test]
fn variant_selects_the_dialect() {
    for (variant, request) in [("d2", D2_STATUS), ("p81", P81_FIRST), ("a5", A5_TOTALS)] {
        assert!(INFO.variants.contains(&variant));
        let variant = Some(variant.to_owned());
        let requests = requests_without_reply(Options { variant, ..Options::default() });
        assert_eq!(requests, [request]);
    }
}

#[test]
fn number_of_the_board_is_in_the_address_byte() {
    let requests = requests_without_reply(Options { address: 2, ..Options::default() });
    assert_eq!(requests[0], [0x82, 3, 0, 0, 0, 0x40, 0x5B, 0xC9], "no D2, it has no numbers");
    assert_eq!(requests[1], a5::encode(0x41, 0x90, [0; 8]));
}

#[test]
fn proven_dialect_is_kept_until_a_new_connection() {
    let mut driver = driver(on(Medium::Serial));
    next_request(&mut driver);
    driver.handle_timeout();
    next_request(&mut driver);
    driver.handle_timeout();
    assert_eq!(next_request(&mut driver).as_deref(), Some(A5_TOTALS));
    driver.receive(A5_REPLY);
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

/// A reply with the D2 status.
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
fn write_is_confirmed_and_read_back() {
    let mut driver = driver(on(Medium::Serial));
    driver.start(CycleKind::Write(Setting { switch: Switch::Charging, on: false }));
    assert_eq!(next_request(&mut driver).as_deref(), Some(D2_STATUS));
    driver.receive(&status(1, 1));
    let write = [0xD2, 6, 0, 0xA5, 0, 0, 0x8A, 0x4A];
    assert_eq!(next_request(&mut driver).as_deref(), Some(&write[..]));
    driver.receive(&write);
    assert_eq!(driver.step(), Step::Pause(Pause::Quiet(SWITCH_DELAY)), "before reading back");
    assert_eq!(next_request(&mut driver).as_deref(), Some(D2_STATUS));
    driver.receive(&status(0, 1));
    let Step::Done(reading) = driver.step() else { panic!("{:?}", driver.step()) };
    assert_eq!(reading.switches.charging, Some(false));
    assert_eq!(reading.switches.discharging, Some(true));
}

#[test]
fn write_finds_the_dialect_first() {
    let mut driver = driver(on(Medium::Serial));
    driver.start(CycleKind::Write(Setting { switch: Switch::Discharging, on: true }));
    next_request(&mut driver);
    driver.handle_timeout();
    next_request(&mut driver);
    driver.handle_timeout();
    next_request(&mut driver);
    driver.receive(A5_REPLY);
    let write = [0xA5, 0x40, 0xD9, 8, 1, 0, 0, 0, 0, 0, 0, 0, 0xC7];
    assert_eq!(next_request(&mut driver).as_deref(), Some(&write[..]));
    // The board reports that it stays off.
    let refused = a5::encode(1, 0xD9, [0; 8]);
    for _ in 0..=RETRIES {
        driver.receive(&refused);
        driver.handle_timeout();
        next_request(&mut driver);
    }
    let Step::Failed(error) = driver.step() else { panic!("{:?}", driver.step()) };
    assert!(error.to_string().contains("the board reports off instead"), "{error}");
}

#[test]
fn balancing_is_no_switch() {
    let mut driver = driver(on(Medium::Serial));
    driver.start(CycleKind::Write(Setting { switch: Switch::Balancing, on: true }));
    assert!(matches!(driver.step(), Step::Done(_)));
}

#[test]
fn balancer_has_no_charge_and_no_switches() {
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
fn balancing_needs_a_cell_for_each_bit() {
    let mut into = Reading::default();
    into.cells.resize(4, Default::default());
    registers::note_balancing(0b1_0000, &mut into);
    assert_eq!(into.cells[0].balancing, None);
    registers::note_balancing(0b1001, &mut into);
    let on: Vec<_> = into.cells.iter().map(|cell| cell.balancing).collect();
    assert_eq!(on, [Some(true), Some(false), Some(false), Some(true)]);
}

#[test]
fn level_1_warns_and_higher_levels_protect() {
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
