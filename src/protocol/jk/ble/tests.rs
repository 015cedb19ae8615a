use super::*;
use crate::model::Switch;
use crate::protocol::jk::record::checksum;

/// A record of this kind with these bytes in it.
fn record(kind: u8, fields: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0x55, 0xAA, 0xEB, 0x90, kind, 0];
    bytes.resize(299, 0);
    for (at, field) in fields {
        bytes[*at..at + field.len()].copy_from_slice(field);
    }
    bytes.push(checksum(&bytes));
    bytes
}

fn device() -> Vec<u8> {
    record(3, &[(6, b"JK_X"), (30, b"15.41")])
}

fn settings(charge: u8) -> Vec<u8> {
    record(1, &[(118, &[charge]), (122, &[1]), (126, &[1]), (130, &[0x40, 0x9C])])
}

/// One cell of so many millivolts.
fn live(millivolts: u16, charge: u8) -> Vec<u8> {
    let voltage = millivolts.to_le_bytes();
    record(2, &[(6, &voltage), (70, &[1]), (198, &[charge, 1]), (214, &[0xFF])])
}

fn acknowledgement() -> Vec<u8> {
    let mut bytes = vec![0xAA, 0x55, 0x90, 0xEB, 0xC8, 1, 1];
    bytes.resize(19, 0);
    bytes.push(checksum(&bytes));
    bytes
}

fn driver() -> JkBle {
    let timeout = Duration::from_secs(20);
    JkBle::new(&Options { timeout, ..Options::default() })
}

/// Sends what is to be sent; the codes of the questions.
fn request(driver: &mut JkBle) -> Vec<u8> {
    let mut codes = Vec::new();
    while let Step::Send(bytes) = driver.step() {
        codes.push(bytes[4]);
        driver.advance();
    }
    codes
}

fn cell(driver: &mut JkBle) -> Option<i32> {
    match driver.step() {
        Step::Done(reading) => Some(reading.cells[0].voltage.unwrap().0),
        _ => None,
    }
}

/// A session whose stream runs.
fn running() -> JkBle {
    let mut driver = driver();
    request(&mut driver);
    driver.receive(&[device(), acknowledgement()].concat());
    request(&mut driver);
    driver.receive(&[settings(1), acknowledgement(), live(3300, 1)].concat());
    driver
}

#[test]
fn session_sends_two_requests_then_receives() {
    let mut driver = driver();
    assert_eq!(request(&mut driver), [0x97]);
    driver.receive(&device());
    assert_eq!(driver.step(), Step::Await(ACKNOWLEDGEMENT_TIMEOUT));
    driver.receive(&acknowledgement());
    assert_eq!(request(&mut driver), [0x96]);
    driver.receive(&[settings(1), acknowledgement(), live(3300, 1)].concat());
    assert_eq!(cell(&mut driver), Some(3300));
    for millivolts in 3301..3310 {
        driver.start(CycleKind::Read);
        assert!(matches!(driver.step(), Step::Await(_)), "no write per cycle");
        driver.receive(&live(millivolts, 1));
        assert_eq!(cell(&mut driver), Some(millivolts.into()));
    }
    let Step::Done(reading) = driver.step() else { panic!() };
    assert_eq!(reading.identity.model.as_deref(), Some("JK_X"));
    assert_eq!(reading.pack.design.map(|design| design.0), Some(40_000));
    assert!(
        reading.received.device_info && reading.received.settings && reading.received.cell_info
    );
}

#[test]
fn missing_acknowledgement_delays_briefly() {
    let mut driver = driver();
    request(&mut driver);
    driver.receive(&device());
    driver.handle_timeout();
    assert_eq!(request(&mut driver), [0x96]);
}

#[test]
fn stopped_stream_is_requested_again() {
    let mut driver = running();
    driver.start(CycleKind::Read);
    driver.handle_timeout();
    assert_eq!(request(&mut driver), [0x96]);
    driver.receive(&live(3311, 1));
    assert_eq!(cell(&mut driver), Some(3311));

    driver.start(CycleKind::Read);
    driver.handle_timeout();
    request(&mut driver);
    driver.handle_timeout();
    assert!(matches!(driver.step(), Step::Failed(ProtocolError::Timeout { received: 0, .. })));
    driver.start(CycleKind::Read);
    assert_eq!(request(&mut driver), [0x96], "who it is was not forgotten");
}

#[test]
fn lost_settings_are_requested_once_more() {
    let mut driver = driver();
    request(&mut driver);
    driver.receive(&[device(), acknowledgement()].concat());
    request(&mut driver);
    driver.receive(&[acknowledgement(), live(3300, 1)].concat());
    assert_eq!(request(&mut driver), [0x96]);
    driver.receive(&[acknowledgement(), live(3301, 1)].concat());
    assert_eq!(cell(&mut driver), Some(3301));
    driver.start(CycleKind::Read);
    driver.receive(&live(3302, 1));
    assert_eq!(cell(&mut driver), Some(3302));
}

#[test]
fn board_without_device_information_is_read() {
    let mut driver = driver();
    for questions in [&[0x97_u8][..], &[0x97], &[]] {
        driver.start(CycleKind::Read);
        assert_eq!(request(&mut driver), questions);
        driver.handle_timeout();
        request(&mut driver);
        driver.receive(&[settings(1), live(3300, 1)].concat());
        assert_eq!(cell(&mut driver), Some(3300));
    }
}

#[test]
fn damage_is_reported_instead_of_a_timeout() {
    let mut driver = running();
    driver.start(CycleKind::Read);
    let mut damaged = live(3300, 1);
    damaged[8] ^= 1;
    driver.receive(&damaged);
    driver.handle_timeout();
    request(&mut driver);
    driver.handle_timeout();
    assert!(matches!(driver.step(), Step::Failed(ProtocolError::BadChecksum { .. })));
}

fn switch_off() -> CycleKind {
    CycleKind::Write(Setting { switch: Switch::Charging, on: false })
}

#[test]
fn switch_is_read_back_until_the_transistor_follows() {
    let mut driver = running();
    driver.start(switch_off());
    let Step::Send(order) = driver.step() else { panic!() };
    assert_eq!(order[4..10], [0x1D, 4, 0, 0, 0, 0]);
    driver.advance();
    driver.receive(&live(3300, 1));
    driver.receive(&acknowledgement());
    assert_eq!(request(&mut driver), [0x96]);
    driver.receive(&[live(3300, 0), settings(0), acknowledgement()].concat());
    assert!(matches!(driver.step(), Step::Await(_)), "it was not read back yet");
    driver.receive(&live(3300, 1));
    assert!(matches!(driver.step(), Step::Await(_)), "it has not followed yet");
    driver.receive(&live(3300, 0));
    let Step::Done(reading) = driver.step() else { panic!() };
    assert_eq!(reading.switches.charging, Some(false));
    assert!(!reading.states["charge_switch"]);
}

#[test]
fn unchanged_switch_is_reported_as_it_is() {
    let mut driver = running();
    driver.start(switch_off());
    request(&mut driver);
    driver.handle_timeout();
    assert_eq!(request(&mut driver), [0x96]);
    driver.receive(&settings(1));
    (0..MAX_CHECKS).for_each(|_| driver.receive(&live(3300, 1)));
    let Step::Done(reading) = driver.step() else { panic!() };
    assert_eq!(reading.switches.charging, Some(true));
}

#[test]
fn switch_command_waits_for_the_layout() {
    let mut driver = driver();
    driver.start(switch_off());
    assert_eq!(request(&mut driver), [0x97]);
    driver.receive(&[device(), acknowledgement()].concat());
    assert_eq!(request(&mut driver), [0x96]);
    driver.receive(&[settings(1), acknowledgement(), live(3300, 1)].concat());
    assert_eq!(request(&mut driver), [0x1D]);
}

#[test]
fn balancer_never_gets_a_charge_command() {
    let float = 3.3_f32.to_le_bytes();
    let balancer = record(2, &[(6, &float), (214, &[1])]);
    let settings = record(1, &[(38, &3.0_f32.to_le_bytes()), (114, &[1])]);
    let mut driver = driver();
    driver.start(switch_off());
    request(&mut driver);
    driver.receive(&[device(), acknowledgement()].concat());
    request(&mut driver);
    driver.receive(&[settings, balancer].concat());
    assert!(matches!(driver.step(), Step::Failed(ProtocolError::Unsupported { .. })));
}
