use super::*;
use crate::protocol::DecodeError;
use crate::protocol::query::Runner;
use crate::protocol::{CycleKind, Driver, Step};

static LIVE: Service = Service {
    cid2: 0x42,
    title: "live",
    part: Part::Live,
    addressed: true,
    decode: |_, info, into| {
        into.pack.cycles = Some(Reader::big_endian(info).u8()?.into());
        Ok(())
    },
};
static ALARMS: Service = Service {
    cid2: 0x44,
    title: "alarms",
    part: Part::Alarms,
    addressed: true,
    decode: |_, info, into| note_all(info, into),
};
static NAME: Service = Service {
    cid2: 0x51,
    title: "name",
    part: Part::Name,
    addressed: false,
    decode: |_, info, into| manufacturer(info, into),
};
static LAYOUT: Layout = Layout {
    version: 0x20,
    answers: &[0x20],
    cid1: 0x46,
    plan: &[&LIVE, &ALARMS, &NAME],
    groups: true,
};

fn note_all(info: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    let limits = [Alarm::CellUndervoltage, Alarm::CellOvervoltage];
    info.iter().for_each(|&state| note_state(state, limits, "states", into));
    Ok(())
}

fn driver(address: u8) -> Runner<Pack> {
    Runner::new(Pack::new(&LAYOUT, &Options { address, ..Options::default() }))
}

/// Goes on until something is awaited or the cycle is over; gives the last question.
fn question(driver: &mut Runner<Pack>) -> Option<Frame> {
    let mut sent = None;
    loop {
        match driver.step() {
            Step::Pause(_) => driver.advance(),
            Step::Send(bytes) => {
                sent = Frame::parse(&bytes).ok();
                driver.advance();
            }
            _ => return sent,
        }
    }
}

fn asked(driver: &mut Runner<Pack>) -> Option<u8> {
    question(driver).map(|frame| frame.cid2)
}

fn answer(address: u8, code: u8, info: &[u8]) -> Vec<u8> {
    Frame { version: 0x20, address, cid1: 0x46, cid2: code, info: info.to_vec() }.encode()
}

#[test]
fn a_battery_that_keeps_its_alarms_to_itself_still_tells_its_name() {
    let mut driver = driver(3);
    assert_eq!(asked(&mut driver), Some(0x42));
    driver.receive(&answer(3, 0, &[1]));
    assert_eq!(asked(&mut driver), Some(0x44));
    driver.handle_timeout();
    assert!(matches!(driver.step(), Step::Done(_)));
    driver.start(CycleKind::Read);
    assert_eq!(asked(&mut driver), Some(0x42));
    driver.receive(&answer(3, 0, &[1]));
    assert_eq!(asked(&mut driver), Some(0x51), "the alarms have to wait");
    driver.reset();
    asked(&mut driver);
    driver.receive(&answer(3, 0, &[1]));
    assert_eq!(asked(&mut driver), Some(0x44), "a new link, a new chance");
}

#[test]
fn alarms_that_were_told_once_have_to_be_told_again() {
    let mut driver = driver(3);
    asked(&mut driver);
    driver.receive(&answer(3, 0, &[1]));
    asked(&mut driver);
    driver.receive(&answer(3, 0, &[0, 2]));
    asked(&mut driver);
    driver.handle_timeout();
    let Step::Done(reading) = driver.step() else { panic!("{:?}", driver.step()) };
    assert_eq!(reading.alarms.get(Alarm::CellOvervoltage), Some(true));
    driver.start(CycleKind::Read);
    asked(&mut driver);
    driver.receive(&answer(3, 0, &[1]));
    assert_eq!(asked(&mut driver), Some(0x44));
    driver.handle_timeout();
    assert!(matches!(driver.step(), Step::Failed(ProtocolError::Timeout { .. })));
}

#[test]
fn a_refused_address_is_asked_of_its_group_and_back_again() {
    let mut driver = driver(0x34);
    question(&mut driver);
    driver.receive(&answer(0x34, 0x06, &[]));
    driver.handle_timeout();
    let group = question(&mut driver).unwrap();
    assert_eq!((group.address, group.info), (0x32, vec![0xFF]));
    driver.receive(&answer(0x34, 0, &[1]));
    assert!(matches!(driver.step(), Step::Await(_)), "it is not the one that was asked");
    driver.receive(&answer(0x32, 0x06, &[]));
    assert!(matches!(driver.step(), Step::Failed(ProtocolError::Refused { code: 6, .. })));
    driver.start(CycleKind::Read);
    assert_eq!(question(&mut driver).map(|frame| frame.address), Some(0x34));
}

#[test]
fn questions_of_another_reader_and_other_versions_are_no_answers() {
    let mut driver = driver(3);
    question(&mut driver);
    driver.receive(&answer(3, 0x44, &[3]));
    assert!(matches!(driver.step(), Step::Await(_)));
    let other = Frame { version: 0x25, address: 3, cid1: 0x46, cid2: 0, info: vec![1] };
    driver.receive(&other.encode());
    let Step::Failed(error) = driver.step() else { panic!("{:?}", driver.step()) };
    assert!(error.to_string().contains("version 25 instead of 20"), "{error}");
}

#[test]
fn states_say_on_which_side_of_its_limits_a_value_is() {
    let mut into = Reading::default();
    note_all(&[0x00, 0x01, 0x81], &mut into).unwrap();
    assert_eq!(into.alarms.active().collect::<Vec<_>>(), [Alarm::CellUndervoltage]);
    assert_eq!(into.alarms.get(Alarm::CellOvervoltage), Some(false));
    assert_eq!(into.alarms.unknown_bits().collect::<Vec<_>>(), [("states", 0x81)]);
    note_all(&[0xF0], &mut into).unwrap();
    assert_eq!(into.alarms.get(Alarm::OtherFailure), Some(true));
}

#[test]
fn shares_are_rounded_and_plausible() {
    let share = |remaining, full| share(MilliampHours(remaining), MilliampHours(full));
    assert_eq!(share(33_500, 50_000), Some(CentiPercent(6700)));
    assert_eq!(share(2, 3), Some(CentiPercent(6667)));
    assert_eq!(share(50_500, 50_000), Some(CentiPercent(10_100)));
    assert_eq!(share(60_000, 50_000), None);
    assert_eq!(share(1, 0), None);
}

#[test]
fn a_sensor_that_is_not_there_has_no_temperature() {
    assert_eq!(kelvin(2971), Some(DeciCelsius(240)));
    assert_eq!(kelvin(2531), Some(DeciCelsius(-200)));
    assert_eq!(kelvin(0), None);
    assert_eq!(kelvin(0xFFFF), None);
}
