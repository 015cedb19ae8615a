//! JBD over Bluetooth: boards that sleep, and modules that require a handshake.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use bms_reader::model::reading::{Setting, Switch};
use bms_reader::model::{FaultKind, Secret};
use bms_reader::protocol::driver::Medium;
use bms_reader::protocol::jbd::INFO;
use bms_reader::protocol::{CycleKind, Driver, Options};
use bms_reader::sim::Responder;
use bms_reader::sim::SimPack;
use bms_reader::sim::jbd::{BRAND, GREETING, JbdPack};
use common::{Outcome, play};

const MAC: [u8; 6] = [0xA4, 0xC1, 0x37, 0x04, 0x2D, 0xBE];

fn options(password: Option<&str>) -> Options {
    let password = password.map(Secret::new);
    Options { medium: Medium::Ble, mac: Some(MAC), password, ..Options::default() }
}

fn driver(password: Option<&str>) -> Box<dyn Driver> {
    INFO.driver(&options(password))
}

/// A cycle with a simulated board, in notifications of the size that real modules send.
fn cycle(driver: &mut dyn Driver, pack: &mut JbdPack) -> Outcome {
    let notification = BRAND.notification.unwrap();
    let outcome = play(driver, |request| {
        let answer = pack.respond(request, 0.0).unwrap_or_default();
        answer.chunks(notification).map(<[u8]>::to_vec).collect()
    });
    let outcome = outcome.unwrap();
    assert!(outcome.asked.iter().all(|request| is_read_only(request)), "{:02X?}", outcome.asked);
    outcome
}

/// A register is read, or it is one of the three commands of the handshake.
fn is_read_only(request: &[u8]) -> bool {
    matches!(request, [0xDD, 0xA5, ..] | [0xFF, 0xAA, 0x15 | 0x17 | 0x18, ..])
}

fn commands(asked: &[Vec<u8>]) -> Vec<u8> {
    asked.iter().map(|request| request[2]).collect()
}

#[test]
fn open_board_is_read_without_handshake() {
    let mut driver = driver(Some("123456"));
    let first = cycle(driver.as_mut(), &mut JbdPack::new(SimPack::fixed(1)));
    assert_eq!(commands(&first.asked), [3, 4, 5, 0xAA]);
    assert_eq!(first.reading().identity.model.as_deref(), Some("JBD-SIM16S100A"));
}

#[test]
fn sleeping_board_is_asked_again() {
    for greeting in [Vec::new(), vec![GREETING.to_vec()]] {
        let mut pack = JbdPack::new(SimPack::fixed(1));
        let mut asleep = Some(greeting);
        let outcome = play(driver(None).as_mut(), |request| match asleep.take() {
            Some(greeting) => greeting,
            None => vec![pack.respond(request, 0.0).unwrap()],
        });
        let outcome = outcome.unwrap();
        assert_eq!(commands(&outcome.asked), [3, 3, 4, 5, 0xAA]);
        assert!(outcome.reading().received.cell_info);
    }
}

#[test]
fn silent_board_costs_three_timeouts() {
    let mut driver = driver(None);
    for _ in 0..2 {
        driver.start(CycleKind::Read);
        let outcome = play(driver.as_mut(), |_| Vec::new()).unwrap();
        assert_eq!(commands(&outcome.asked), [3, 3, 0x15]);
        assert_eq!(outcome.error().kind(), FaultKind::Timeout);
    }
}

#[test]
fn silence_within_a_cycle_is_not_retried() {
    let mut pack = JbdPack::new(SimPack::fixed(1));
    let outcome = play(driver(None).as_mut(), |request| match request[2] {
        3 => vec![pack.respond(request, 0.0).unwrap()],
        _ => Vec::new(),
    });
    let outcome = outcome.unwrap();
    assert_eq!(commands(&outcome.asked), [3, 4]);
    assert_eq!(outcome.error().kind(), FaultKind::Timeout);
}

#[test]
fn handshake_opens_the_module_and_is_repeated_on_the_next_link() {
    let cases = [
        ("no password", "000000", None, None, vec![0x15]),
        ("the factory's", "000000", Some("000000"), None, vec![0x15, 0x17, 0x18]),
        ("its owner's", "000000", Some("123123"), Some("123123"), vec![0x15, 0x17, 0x18]),
        ("another key", "654321", None, Some("654321"), vec![0x15, 0x15]),
    ];
    for (module, key, set, known, handshake) in cases {
        let mut pack = JbdPack::new(SimPack::fixed(1)).with_handshake(MAC, key, set);
        let mut driver = driver(known);
        let read = [3, 4, 5, 0xAA];
        let first = cycle(driver.as_mut(), &mut pack);
        assert_eq!(commands(&first.asked), [&[3, 3][..], &handshake, &read].concat(), "{module}");
        let first = first.reading();
        assert!(first.received.cell_info, "{module}");

        driver.start(CycleKind::Read);
        let second = cycle(driver.as_mut(), &mut pack);
        assert_eq!(commands(&second.asked), [3, 4, 0xAA], "{module}: it is open");
        assert_eq!(second.reading(), first, "{module}");

        pack.connected();
        driver.reset();
        let third = cycle(driver.as_mut(), &mut pack);
        assert_eq!(commands(&third.asked), [&handshake[..], &read].concat(), "{module}");
    }
}

#[test]
fn module_that_locks_again_gets_another_handshake() {
    let mut pack = JbdPack::new(SimPack::fixed(1)).with_handshake(MAC, "000000", None);
    let mut driver = driver(None);
    cycle(driver.as_mut(), &mut pack).reading();
    pack.connected();
    driver.start(CycleKind::Read);
    let again = cycle(driver.as_mut(), &mut pack);
    assert_eq!(commands(&again.asked), [3, 3, 0x15, 3, 4, 0xAA]);
}

#[test]
fn refused_secret_is_explained() {
    let cases = [
        ("wrong password", "000000", Some("123123"), Some("111111"), "refused the password"),
        ("no password", "000000", Some("123123"), None, "requires a password"),
        ("too long", "000000", Some("123123"), Some("1231234"), "six characters"),
        ("wrong key", "654321", None, Some("111111"), "refused the key"),
        ("no key", "654321", None, None, "refused the key"),
    ];
    for (case, key, set, known, words) in cases {
        let mut pack = JbdPack::new(SimPack::fixed(1)).with_handshake(MAC, key, set);
        let mut driver = driver(known);
        for _ in 0..2 {
            driver.start(CycleKind::Read);
            let error = cycle(driver.as_mut(), &mut pack).error();
            assert_eq!(error.kind(), FaultKind::AuthFailed, "{case}");
            let text = error.to_string();
            assert!(text.contains(words), "{case}: {text}");
            assert!(error.hint().contains("BMS_PASSWORD"), "{case}: {}", error.hint());
            assert!(!text.contains(known.unwrap_or("123123")), "{case}: {text}");
        }
    }
}

#[test]
fn password_without_bluetooth_address_is_refused() {
    let mut pack = JbdPack::new(SimPack::fixed(1)).with_handshake(MAC, "000000", Some("123123"));
    let mut driver = INFO.driver(&Options { mac: None, ..options(Some("123123")) });
    let error = cycle(driver.as_mut(), &mut pack).error().to_string();
    assert!(error.contains("Bluetooth address"), "{error}");
}

/// Some modules refuse the factory password and answer requests all the same.
#[test]
fn refused_factory_password_does_not_prevent_reading() {
    let mut pack = JbdPack::new(SimPack::fixed(1));
    let mut guessed = false;
    let outcome = play(driver(None).as_mut(), |request| match *request {
        [0xFF, 0xAA, 0x15, ..] => vec![b"\xFF\xAA\x15\x01\x00\x16".to_vec()],
        [0xFF, 0xAA, 0x17, ..] => vec![b"\xFF\xAA\x17\x01\x62\x7A".to_vec()],
        [0xFF, 0xAA, 0x18, ..] => {
            guessed = true;
            vec![b"\xFF\xAA\x18\x01\x01\x1A".to_vec()]
        }
        _ if guessed => vec![pack.respond(request, 0.0).unwrap()],
        _ => Vec::new(),
    });
    assert!(outcome.unwrap().reading().received.cell_info);
}

#[test]
fn module_that_echoes_everything_requires_pairing() {
    let mut driver = driver(None);
    for _ in 0..2 {
        driver.start(CycleKind::Read);
        let outcome = cycle(driver.as_mut(), &mut JbdPack::new(SimPack::fixed(1)).with_pairing());
        assert_eq!(commands(&outcome.asked), [3, 3]);
        let error = outcome.error();
        assert_eq!(error.kind(), FaultKind::AuthFailed);
        assert!(error.to_string().contains("paired with the password"), "{error}");
    }
}

#[test]
fn single_echo_is_ignored() {
    let mut pack = JbdPack::new(SimPack::fixed(1));
    let mut echo = Some(());
    let outcome = play(driver(None).as_mut(), |request| match echo.take() {
        Some(()) => vec![request.to_vec()],
        None => vec![[request, &pack.respond(request, 0.0).unwrap()].concat()],
    });
    assert!(outcome.unwrap().reading().received.cell_info);
}

#[test]
fn switch_is_set_and_read_back() {
    let mut pack = JbdPack::new(SimPack::fixed(1));
    let mut driver = driver(None);
    for (switch, on, expected) in [
        (Switch::Charging, false, (false, true)),
        (Switch::Discharging, false, (false, false)),
        (Switch::Charging, true, (true, false)),
        (Switch::Discharging, true, (true, true)),
    ] {
        driver.start(CycleKind::Write(Setting { switch, on }));
        let outcome =
            play(driver.as_mut(), |request| vec![pack.respond(request, 0.0).unwrap()]).unwrap();
        assert_eq!(commands(&outcome.asked), [3, 0xE1, 3]);
        let switches = outcome.reading().switches;
        assert_eq!((switches.charging, switches.discharging), (Some(expected.0), Some(expected.1)));
    }
}
