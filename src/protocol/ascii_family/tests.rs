use super::*;
use crate::protocol::testing::next_request;
use crate::protocol::{Driver, Runner, Step};

static LIVE: Service = Service::new(0x42, "live", Part::Live, ADDRESS, |_, info, into| {
    into.pack.cycles = Some(Reader::big_endian(info).u8()?.into());
    Ok(())
});
static ALARMS: Service =
    Service::new(0x44, "alarms", Part::Alarms, ADDRESS, |_, info, into| note_all(info, into));
static NAME: Service = Service::new(0x51, "name", Part::Identity, None, manufacturer);
static LAYOUT: Layout = Layout {
    version: 0x20,
    reply_versions: &[0x20],
    cid1: 0x46,
    plan: &[&LIVE, &ALARMS, &NAME],
    alternative: Alternative::WholeGroup,
    is_service,
};

fn note_all(info: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    let limits = [Alarm::CellUndervoltage, Alarm::CellOvervoltage];
    info.iter().for_each(|&state| note_state(state, limits, "states", into));
    Ok(())
}

fn driver(address: u8) -> Runner {
    Runner::new(Pack::new(&LAYOUT, &Options { address, ..Options::default() }))
}

fn request(driver: &mut Runner) -> Option<Frame> {
    Frame::parse(&next_request(driver)?).ok()
}

fn service(driver: &mut Runner) -> Option<u8> {
    request(driver).map(|frame| frame.cid2)
}

fn reply(address: u8, code: u8, info: &[u8]) -> Vec<u8> {
    Frame { version: 0x20, address, cid1: 0x46, cid2: code, info: info.to_vec() }.encode()
}

#[test]
fn battery_without_alarms_is_still_asked_for_its_name() {
    let mut driver = driver(3);
    assert_eq!(service(&mut driver), Some(0x42));
    driver.receive(&reply(3, 0, &[1]));
    assert_eq!(service(&mut driver), Some(0x44));
    driver.handle_timeout();
    assert!(matches!(driver.step(), Step::Done(_)));
    driver.start(CycleKind::Read);
    assert_eq!(service(&mut driver), Some(0x42));
    driver.receive(&reply(3, 0, &[1]));
    assert_eq!(service(&mut driver), Some(0x51), "failed requests come last");
    driver.reset();
    service(&mut driver);
    driver.receive(&reply(3, 0, &[1]));
    assert_eq!(service(&mut driver), Some(0x44), "a new session");
}

#[test]
fn missing_alarms_fail_the_cycle_once_they_were_known() {
    let mut driver = driver(3);
    service(&mut driver);
    driver.receive(&reply(3, 0, &[1]));
    service(&mut driver);
    driver.receive(&reply(3, 0, &[0, 2]));
    service(&mut driver);
    driver.handle_timeout();
    let Step::Done(reading) = driver.step() else { panic!("{:?}", driver.step()) };
    assert_eq!(reading.alarms.get(Alarm::CellOvervoltage), Some(true));
    driver.start(CycleKind::Read);
    service(&mut driver);
    driver.receive(&reply(3, 0, &[1]));
    assert_eq!(service(&mut driver), Some(0x44));
    driver.handle_timeout();
    assert!(matches!(driver.step(), Step::Failed(ProtocolError::Timeout { .. })));
}

#[test]
fn refused_address_is_requested_as_a_group_and_back() {
    let mut driver = driver(0x34);
    request(&mut driver);
    driver.receive(&reply(0x34, 0x06, &[]));
    driver.handle_timeout();
    let group = request(&mut driver).unwrap();
    assert_eq!((group.address, group.info), (0x32, vec![0xFF]));
    driver.receive(&reply(0x34, 0, &[1]));
    assert!(matches!(driver.step(), Step::Await(_)), "not the first module of the group");
    driver.receive(&reply(0x32, 0x06, &[]));
    assert!(matches!(driver.step(), Step::Failed(ProtocolError::Refused { code: 6, .. })));
    driver.start(CycleKind::Read);
    assert_eq!(request(&mut driver).map(|frame| frame.address), Some(0x34));
}

#[test]
fn requests_of_another_reader_are_no_replies() {
    let mut driver = driver(3);
    request(&mut driver);
    driver.receive(&reply(3, 0x44, &[3]));
    assert!(matches!(driver.step(), Step::Await(_)));
    let other = Frame { version: 0x25, address: 3, cid1: 0x46, cid2: 0, info: vec![1] };
    driver.receive(&other.encode());
    let Step::Failed(error) = driver.step() else { panic!("{:?}", driver.step()) };
    assert!(error.to_string().contains("version 25 instead of 20"), "{error}");
}

#[test]
fn state_bytes_raise_the_alarm_of_the_crossed_limit() {
    let mut into = Reading::default();
    note_all(&[0x00, 0x01, 0x81], &mut into).unwrap();
    assert_eq!(into.alarms.active().collect::<Vec<_>>(), [Alarm::CellUndervoltage]);
    assert_eq!(into.alarms.get(Alarm::CellOvervoltage), Some(false));
    assert_eq!(into.alarms.unknown_bits().collect::<Vec<_>>(), [("states", 0x81)]);
    note_all(&[0xF0], &mut into).unwrap();
    assert_eq!(into.alarms.get(Alarm::OtherFailure), Some(true));
}
