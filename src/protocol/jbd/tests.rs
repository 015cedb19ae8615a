use super::*;
use crate::protocol::{Pause, Step};

/// Register 03 of a pack with one cell, at rest, with these transistors on.
fn basic(fets: u8, locked: bool) -> Vec<u8> {
    let mut data = [0; 23];
    data[16] = u8::from(locked) << 4;
    (data[20], data[21]) = (fets, 1);
    reply(Query::Basic, 0, &data)
}

fn reply(query: Query, status: u8, data: &[u8]) -> Vec<u8> {
    frame::encode(query.register(), status, data)
}

/// A good reply to any request.
fn good(request: &[u8]) -> Vec<u8> {
    let query = ALL.into_iter().find(|query| is(*query, request));
    match query {
        Some(Query::Basic) => basic(3, false),
        Some(Query::Cells) => reply(Query::Cells, 0, &[0x0C, 0xE4]),
        Some(Query::Name) => reply(Query::Name, 0, b"SP04"),
        Some(Query::Counters) => reply(Query::Counters, 0, &[0; 24]),
        Some(Query::Switches) => reply(Query::Switches, 0, &[]),
        None => Vec::new(),
    }
}

const ALL: [Query; 5] = [Query::Basic, Query::Cells, Query::Name, Query::Counters, Query::Switches];

fn is(query: Query, request: &[u8]) -> bool {
    request[2] == query.register()
}

/// What a cycle did.
#[derive(Default)]
struct Cycle {
    requests: Vec<Vec<u8>>,
    pauses: Vec<Pause>,
    timeouts: Vec<Duration>,
}

/// Runs a cycle; an empty reply is a timeout.
fn run(driver: &mut dyn Driver, mut reply: impl FnMut(&[u8]) -> Vec<u8>) -> (Cycle, Step) {
    let (mut cycle, mut waiting) = (Cycle::default(), None);
    for _ in 0..200 {
        match driver.step() {
            Step::Pause(pause) => {
                cycle.pauses.push(pause);
                driver.advance();
            }
            Step::Send(request) => {
                waiting = Some(reply(&request));
                cycle.requests.push(request);
                driver.advance();
            }
            Step::Await(time) => match waiting.take() {
                Some(bytes) => {
                    cycle.timeouts.push(time);
                    driver.receive(&bytes);
                }
                None => driver.handle_timeout(),
            },
            end => return (cycle, end),
        }
    }
    panic!("no end");
}

fn driver() -> Runner {
    Runner::new(Jbd::new(&Options::default()))
}

#[test]
fn missing_counters_are_given_up() {
    for without in [reply(Query::Counters, 0x80, &[]), Vec::new()] {
        let mut driver = driver();
        let requested: Vec<bool> = (0..4)
            .map(|_| {
                driver.start(CycleKind::Read);
                let (cycle, end) = run(&mut driver, |request| {
                    if is(Query::Counters, request) { without.clone() } else { good(request) }
                });
                assert!(matches!(end, Step::Done(_)), "{end:?}");
                cycle.requests.iter().any(|request| is(Query::Counters, request))
            })
            .collect();
        assert_eq!(requested, [true, true, false, false]);
        driver.reset();
        let (cycle, _) = run(&mut driver, good);
        assert_eq!(cycle.requests.len(), 4, "a new session");
    }
}

#[test]
fn missing_counters_do_not_delay_a_read_over_bluetooth() {
    let timeout = Duration::from_secs(20);
    let options = Options { medium: Medium::Ble, timeout, ..Options::default() };
    let mut driver = Runner::new(Jbd::new(&options));
    let (cycle, end) =
        run(
            &mut driver,
            |request| {
                if is(Query::Counters, request) { Vec::new() } else { good(request) }
            },
        );
    assert!(matches!(end, Step::Done(_)), "{end:?}");
    assert_eq!(cycle.timeouts, [3, 3, 3, 1].map(Duration::from_secs));
}

#[test]
fn request_that_arrived_damaged_is_repeated() {
    let mut damaged = Some(reply(Query::Basic, 0x82, &[]));
    let (cycle, end) =
        run(&mut driver(), |request| damaged.take().unwrap_or_else(|| good(request)));
    assert_eq!(cycle.requests[..2], [frame::read(3), frame::read(3)]);
    assert!(matches!(end, Step::Done(_)));
}

/// Sets a switch of a board with these transistors on before and afterwards.
fn set_switch(switch: Switch, on: bool, before: u8, after: u8) -> (Cycle, Step) {
    let mut driver = driver();
    driver.start(CycleKind::Write(Setting { switch, on }));
    let mut fets = before;
    run(&mut driver, |request| {
        if is(Query::Basic, request) {
            return basic(fets, fets != 3);
        }
        fets = after;
        good(request)
    })
}

#[test]
fn write_changes_one_switch_and_reads_it_back() {
    // Bits of register E1 switch off: 1 charging, 2 discharging.
    let cases = [
        (Switch::Charging, false, 3, 2, 1),
        (Switch::Charging, true, 2, 3, 0),
        (Switch::Charging, true, 0, 1, 2),
        (Switch::Discharging, false, 3, 1, 2),
        (Switch::Discharging, false, 2, 0, 3),
        (Switch::Discharging, true, 0, 2, 1),
    ];
    for (switch, on, before, after, off) in cases {
        let (cycle, end) = set_switch(switch, on, before, after);
        assert_eq!(cycle.requests, [frame::read(3), frame::write(0xE1, off), frame::read(3)]);
        assert_eq!(cycle.pauses, [TURN_ROUND, TURN_ROUND, SWITCH_DELAY].map(Pause::Quiet));
        let Step::Done(reading) = end else { panic!("{end:?}") };
        assert_eq!(reading.switches.get(switch), Some(on));
    }
}

#[test]
fn ignored_write_is_visible_in_the_reading() {
    let (_, end) = set_switch(Switch::Charging, false, 3, 3);
    let Step::Done(reading) = end else { panic!("{end:?}") };
    assert_eq!(reading.switches.charging, Some(true));
}

#[test]
fn nothing_is_written_before_the_state_is_known() {
    let mut driver = driver();
    driver.start(CycleKind::Write(Setting { switch: Switch::Charging, on: false }));
    let (cycle, end) = run(&mut driver, |_| Vec::new());
    assert!(!cycle.requests.iter().any(|request| is(Query::Switches, request)));
    assert!(matches!(end, Step::Failed(ProtocolError::Timeout { .. })));
}

#[test]
fn refused_write_fails_the_cycle() {
    let mut driver = driver();
    driver.start(CycleKind::Write(Setting { switch: Switch::Charging, on: false }));
    let (_, end) = run(&mut driver, |request| match is(Query::Switches, request) {
        true => reply(Query::Switches, 0x80, &[]),
        false => good(request),
    });
    assert!(matches!(end, Step::Failed(ProtocolError::Refused { code: 0x80, .. })));
}

#[test]
fn balancing_is_no_switch() {
    let mut driver = driver();
    driver.start(CycleKind::Write(Setting { switch: Switch::Balancing, on: true }));
    assert!(run(&mut driver, good).0.requests.is_empty());
}

#[test]
fn reading_writes_nothing() {
    for query in ALL {
        let bytes = Jbd::new(&Options::default()).encode(query);
        assert_eq!(bytes[1] == frame::WRITE, query == Query::Switches, "{query:?}");
        assert_eq!(bytes[1] == frame::READ, PLAN.contains(&query), "{query:?}");
    }
}
