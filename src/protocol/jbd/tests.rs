use super::*;
use crate::protocol::{CycleKind, Step};

/// Register 03 of a pack with one cell, at rest, with these transistors on.
fn basic(fets: u8, locked: bool) -> Vec<u8> {
    let mut data = [0; 23];
    data[16] = u8::from(locked) << 4;
    (data[20], data[21]) = (fets, 1);
    answer(Query::Basic, 0, &data)
}

fn answer(query: Query, status: u8, data: &[u8]) -> Vec<u8> {
    let mut frame = vec![0xDD, query.register(), status, data.len() as u8];
    frame.extend_from_slice(data);
    frame.extend_from_slice(&checksum(&frame[2..]).to_be_bytes());
    frame.push(0x77);
    frame
}

fn good(query: Query) -> Vec<u8> {
    match query {
        Query::Basic => basic(3, false),
        Query::Cells => answer(query, 0, &[0x0C, 0xE4]),
        Query::Name => answer(query, 0, b"SP04"),
        Query::Counters => answer(query, 0, &[0; 24]),
        Query::Switches => answer(query, 0, &[]),
    }
}

/// Plays a cycle. Gives the questions, the pauses before them, and the end.
fn play(
    driver: &mut dyn Driver,
    mut reply: impl FnMut(&[u8]) -> Vec<u8>,
) -> (Vec<Vec<u8>>, Vec<Duration>, Step) {
    let (mut asked, mut pauses, mut waiting) = (Vec::new(), Vec::new(), None);
    for _ in 0..200 {
        match driver.step() {
            Step::Pause(time) => {
                pauses.push(time);
                driver.advance();
            }
            Step::Send(question) => {
                waiting = Some(reply(&question));
                asked.push(question);
                driver.advance();
            }
            Step::Await(_) => match waiting.take() {
                Some(bytes) => driver.receive(&bytes),
                None => driver.handle_timeout(),
            },
            end => return (asked, pauses, end),
        }
    }
    panic!("no end");
}

fn asks(query: Query, question: &[u8]) -> bool {
    question[2] == query.register()
}

const ALL: [Query; 5] = [Query::Basic, Query::Cells, Query::Name, Query::Counters, Query::Switches];

fn honest(question: &[u8]) -> Vec<u8> {
    ALL.into_iter().find(|query| asks(*query, question)).map(good).unwrap_or_default()
}

fn driver() -> Runner<Jbd> {
    Runner::new(Jbd::new(&Options::default()))
}

#[test]
fn counters_that_a_board_does_not_have_are_given_up() {
    for without in [answer(Query::Counters, 0x80, &[]), Vec::new()] {
        let mut driver = driver();
        let counted: Vec<bool> = (0..4)
            .map(|_| {
                driver.start(CycleKind::Read);
                let (asked, _, end) = play(&mut driver, |question| {
                    let it = asks(Query::Counters, question);
                    if it { without.clone() } else { honest(question) }
                });
                assert!(matches!(end, Step::Done(_)), "{end:?}");
                asked.iter().any(|question| asks(Query::Counters, question))
            })
            .collect();
        assert_eq!(counted, [true, true, false, false]);
        driver.reset();
        let (asked, ..) = play(&mut driver, honest);
        assert_eq!(asked.len(), 4, "a new session asks again");
    }
}

#[test]
fn counters_delay_no_read_over_bluetooth_for_long() {
    let timeout = Duration::from_secs(20);
    let options = Options { medium: Medium::Ble, timeout, ..Options::default() };
    let mut driver = Runner::new(Jbd::new(&options));
    let (mut question, mut waits) = (Vec::new(), Vec::new());
    loop {
        match driver.step() {
            Step::Pause(_) => driver.advance(),
            Step::Send(bytes) => {
                question = bytes;
                driver.advance();
            }
            Step::Await(limit) => {
                waits.push(limit.as_secs());
                match asks(Query::Counters, &question) {
                    true => driver.handle_timeout(),
                    false => driver.receive(&honest(&question)),
                }
            }
            end => break assert!(matches!(end, Step::Done(_)), "{end:?}"),
        }
    }
    assert_eq!(waits, [3, 3, 3, 1]);
}

#[test]
fn a_question_that_arrived_damaged_is_repeated() {
    let mut damaged = Some(answer(Query::Basic, 0x82, &[]));
    let (asked, _, end) =
        play(&mut driver(), |question| damaged.take().unwrap_or_else(|| honest(question)));
    assert_eq!(asked[..2], [request(3), request(3)]);
    assert!(matches!(end, Step::Done(_)));
}

/// What is sent to turn a switch of a board with these transistors on, and how it ends when the
/// board has others on afterwards.
fn turn(switch: Switch, on: bool, before: u8, after: u8) -> (Vec<Vec<u8>>, Vec<Duration>, Step) {
    let mut driver = driver();
    driver.start(CycleKind::Write(Setting { switch, on }));
    let mut fets = before;
    play(&mut driver, |question| {
        if asks(Query::Basic, question) {
            return basic(fets, fets != 3);
        }
        fets = after;
        honest(question)
    })
}

#[test]
fn an_order_changes_one_switch_and_is_read_back() {
    let cases = [
        (Switch::Charging, false, 3, 2, order(false, true)),
        (Switch::Charging, true, 2, 3, order(true, true)),
        (Switch::Charging, true, 0, 1, order(true, false)),
        (Switch::Discharging, false, 3, 1, order(true, false)),
        (Switch::Discharging, false, 2, 0, order(false, false)),
        (Switch::Discharging, true, 0, 2, order(false, true)),
    ];
    for (switch, on, before, after, expected) in cases {
        let (asked, pauses, end) = turn(switch, on, before, after);
        assert_eq!(asked, [request(3), expected, request(3)]);
        assert_eq!(pauses, [GAP, GAP, TURN], "the transistors get their time");
        let Step::Done(reading) = end else { panic!("{end:?}") };
        assert_eq!(reading.switches.get(switch), Some(on));
    }
}

#[test]
fn a_board_that_does_not_obey_is_seen_through() {
    let (_, _, end) = turn(Switch::Charging, false, 3, 3);
    let Step::Done(reading) = end else { panic!("{end:?}") };
    assert_eq!(reading.switches.charging, Some(true));
}

#[test]
fn nothing_is_ordered_blindly() {
    let order_sent = |reply: &dyn Fn(&[u8]) -> Vec<u8>| {
        let mut driver = driver();
        driver.start(CycleKind::Write(Setting { switch: Switch::Charging, on: false }));
        let (asked, _, end) = play(&mut driver, reply);
        (asked.iter().any(|question| asks(Query::Switches, question)), end)
    };
    let (sent, end) = order_sent(&|_| Vec::new());
    assert!(!sent && matches!(end, Step::Failed(ProtocolError::Timeout { .. })));

    let no = answer(Query::Switches, 0x80, &[]);
    let (sent, end) =
        order_sent(&|it| if asks(Query::Switches, it) { no.clone() } else { honest(it) });
    assert!(sent && matches!(end, Step::Failed(ProtocolError::Refused { code: 0x80, .. })));
}

#[test]
fn balancing_is_no_switch_of_this_brand() {
    let mut driver = driver();
    driver.start(CycleKind::Write(Setting { switch: Switch::Balancing, on: true }));
    assert_eq!(play(&mut driver, honest).0, Vec::<Vec<u8>>::new());
}

#[test]
fn reading_writes_nothing_and_the_order_is_the_documented_one() {
    for query in ALL {
        let bytes = Jbd::new(&Options::default()).encode(query);
        assert_eq!(bytes[1] == 0x5A, query == Query::Switches, "{query:?}");
        assert_eq!(bytes[1] == 0xA5, PLAN.contains(&query), "{query:?}");
    }
    let frames = [(true, true), (false, true), (true, false), (false, false)]
        .map(|(charging, discharging)| order(charging, discharging)[4..7].to_vec());
    assert_eq!(frames, [[0, 0, 0xFF], [0, 1, 0xFF], [0, 2, 0xFF], [0, 3, 0xFF]]);
}
