//! The runner with a toy protocol: request `a?`, reply `a;`, damaged reply `a!;`, refusal `no;`,
//! reply of another battery `z;`.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::{Alarm, DeciCelsius, Probe};

#[derive(Debug)]
struct Toy;

/// `a` is required, `b` may fail, `c` and `d` are requested once.
const REQUESTS: &[char] = &['a', 'b', 'c', 'd'];

impl RequestReply for Toy {
    type Query = char;

    fn plan(&self) -> &'static [char] {
        REQUESTS
    }

    fn need(&self, query: char) -> Need {
        match query {
            'a' => Need::Required,
            'b' => Need::Optional,
            _ => Need::Once,
        }
    }

    fn describe(&self, query: char) -> String {
        query.to_string()
    }

    fn encode(&self, query: char) -> Vec<u8> {
        format!("{query}?").into_bytes()
    }

    fn frame(&self, _query: char, buffer: &[u8]) -> Framing {
        match buffer.iter().position(|&c| c == b';') {
            Some(end) => Framing::Frame(end + 1),
            None => Framing::NeedMore,
        }
    }

    fn decode(&mut self, query: char, frame: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
        // To be discarded when the frame turns out bad.
        into.alarms.note(Alarm::LowBattery, true);
        match frame {
            [b'z', ..] => Err(DecodeError::Foreign),
            b"no;" => Err(DecodeError::Refused { code: 7, reason: "no" }),
            [letter, b';'] if char::from(*letter) == query => {
                into.alarms = Default::default();
                let value = Some(DeciCelsius(i32::from(*letter)));
                into.probes
                    .push(Probe { location: crate::model::reading::SensorLocation::Cells, value });
                Ok(())
            }
            [.., b'!', b';'] => Err(DecodeError::Checksum { expected: 1, got: 2 }),
            _ => Err(DecodeError::OtherRequest),
        }
    }

    fn pacing(&self, _query: char) -> Pacing {
        Pacing {
            timeout: Duration::from_secs(2),
            gap: Duration::from_millis(1),
            settle: Duration::from_millis(300),
            retries: 2,
        }
    }
}

/// Runs a cycle: each item is the reply to one request; `""` is a timeout. Returns the requests and
/// the end.
fn play(runner: &mut Runner, answers: &[&str]) -> (String, Step) {
    let mut asked = String::new();
    let mut answers = answers.iter();
    for _ in 0..200 {
        match runner.step() {
            Step::Pause(_) => runner.advance(),
            Step::Send(bytes) => {
                asked.push(char::from(bytes[0]));
                runner.advance();
            }
            Step::Await(_) => {
                if let RunnerState::Receiving = runner.state {
                    runner.receive(answers.next().unwrap_or(&"").as_bytes());
                }
                if matches!(runner.step(), Step::Await(_)) {
                    runner.handle_timeout();
                }
            }
            end => return (asked, end),
        }
    }
    panic!("no end");
}

/// The letters in the reading.
fn letters(step: &Step) -> String {
    let Step::Done(reading) = step else { panic!("{step:?}") };
    assert!(reading.alarms.is_empty(), "a value of a bad frame");
    let letter = |probe: &Probe| char::from(u8::try_from(probe.value.unwrap().0).unwrap());
    let mut letters: Vec<char> = reading.probes.iter().map(letter).collect();
    letters.sort_unstable();
    letters.into_iter().collect()
}

fn error(step: Step) -> ProtocolError {
    let Step::Failed(error) = step else { panic!("{step:?}") };
    error
}

#[test]
fn need_once_is_requested_once_and_in_every_reading() {
    let mut runner = Runner::new(Toy);
    let (asked, end) = play(&mut runner, &["a;", "b;", "c;", "d;"]);
    assert_eq!((asked.as_str(), letters(&end).as_str()), ("abcd", "abcd"));
    runner.start(CycleKind::Read);
    let (asked, end) = play(&mut runner, &["a;", "b;"]);
    assert_eq!((asked.as_str(), letters(&end).as_str()), ("ab", "abcd"));
    runner.reset();
    let (asked, end) = play(&mut runner, &["a;", "b;", "c;", "d;"]);
    assert_eq!((asked.as_str(), letters(&end).as_str()), ("abcd", "abcd"));
}

#[test]
fn identify_fails_only_when_nothing_is_known() {
    let identify = |runner: &mut Runner, answers: &[&str]| {
        runner.start(CycleKind::Identify);
        play(runner, answers)
    };
    let mut runner = Runner::new(Toy);
    let (asked, end) = identify(&mut runner, &["", "d;"]);
    assert_eq!((asked.as_str(), letters(&end).as_str()), ("cd", "d"), "a timeout is no end");
    let (asked, end) = identify(&mut runner, &[""]);
    assert_eq!((asked.as_str(), letters(&end).as_str()), ("c", "d"), "the rest is known");

    let (asked, end) = identify(&mut Runner::new(Toy), &["no;", ""]);
    assert_eq!(asked, "cd");
    assert!(matches!(error(end), ProtocolError::Refused { .. }), "the more specific one");
    let (_, end) = identify(&mut Runner::new(Toy), &["", ""]);
    assert!(matches!(error(end), ProtocolError::Timeout { .. }));
}

#[test]
fn timeout_ends_the_optional_requests_of_a_cycle() {
    let mut runner = Runner::new(Toy);
    let cycles = [
        (&["a;", "b;", ""][..], "abc", "ab"),
        (&["a;", "b;", "d;", ""], "abdc", "abd"),
        (&["a;", "b;"], "ab", "abd"),
        (&["a;", ""], "ab", "ad"),
    ];
    for (answers, asked, got) in cycles {
        let (questions, end) = play(&mut runner, answers);
        assert_eq!((questions.as_str(), letters(&end).as_str()), (asked, got));
        runner.start(CycleKind::Read);
    }
    let (asked, end) = play(&mut runner, &[""]);
    assert_eq!(asked, "a");
    assert_eq!(error(end), ProtocolError::Timeout { query: "a".to_owned(), received: 0 });
}

#[test]
fn refused_request_is_given_up_at_once() {
    let mut runner = Runner::new(Toy);
    let (asked, end) = play(&mut runner, &["a;", "no;", "no;", "d;"]);
    assert_eq!((asked.as_str(), letters(&end).as_str()), ("abcd", "ad"));
    runner.start(CycleKind::Read);
    let (asked, end) = play(&mut runner, &["a;", "b;"]);
    assert_eq!((asked.as_str(), letters(&end).as_str()), ("ab", "abd"));
}

#[test]
fn damaged_reply_is_requested_again_up_to_the_limit() {
    let mut runner = Runner::new(Toy);
    let (asked, end) = play(&mut runner, &["a!;", "a!;", "a;", "b;", "c!;", "c!;", "c!;"]);
    assert_eq!((asked.as_str(), letters(&end).as_str()), ("aaabccc", "ab"));
    runner.start(CycleKind::Read);
    let (asked, end) = play(&mut runner, &["a!;", "a!;", "a!;", "a;"]);
    assert_eq!(asked, "aaa");
    assert!(matches!(error(end), ProtocolError::BadChecksum { .. }));
}

#[test]
fn valid_reply_after_noise_needs_no_second_request() {
    let mut runner = Runner::new(Toy);
    let (asked, end) =
        play(&mut runner, &["x;a!;z;a;", "b?b;", "c?;c;", "d;trailing noise that never ends"]);
    assert_eq!((asked.as_str(), letters(&end).as_str()), ("abcd", "abcd"));
}

#[test]
fn most_specific_error_is_reported() {
    type Check = fn(&ProtocolError) -> bool;
    let cases: &[(&[&str], Check)] = &[
        (&["half"], |e| matches!(e, ProtocolError::Timeout { received: 4, .. })),
        (&["a?"], |e| matches!(e, ProtocolError::Timeout { received: 0, .. })),
        (&["z;"], |e| matches!(e, ProtocolError::Timeout { received: 2, .. })),
        (&["a!;", ""], |e| matches!(e, ProtocolError::BadChecksum { .. })),
        (&["what;", "a!;", "half"], |e| matches!(e, ProtocolError::BadFrame { .. })),
        (&["a!;", "no;"], |e| matches!(e, ProtocolError::Refused { .. })),
    ];
    for (answers, fits) in cases {
        let error = error(play(&mut Runner::new(Toy), answers).1);
        assert!(fits(&error), "{answers:?}: {error:?}");
    }
}

#[test]
fn abandoned_cycle_leaves_nothing_behind() {
    for steps in 0..8 {
        let mut runner = Runner::new(Toy);
        for _ in 0..steps {
            match runner.step() {
                Step::Await(_) => runner.receive(b"a;b"),
                _ => runner.advance(),
            }
        }
        runner.start(CycleKind::Read);
        let (asked, end) = play(&mut runner, &["a;", "b;", "c;", "d;"]);
        assert_eq!((asked.as_str(), letters(&end).as_str()), ("abcd", "abcd"), "after {steps}");
    }
}

proptest! {
    /// With any bytes in any chunks the buffer is bounded, and the newest bytes are kept.
    #[test]
    fn buffer_is_bounded(
        chunks in prop::collection::vec(prop::collection::vec(b'A'..=b'Z', 0..3000), 0..8),
    ) {
        let mut runner = Runner::new(Toy);
        runner.advance();
        runner.advance();
        for chunk in &chunks {
            runner.receive(chunk);
            prop_assert!(runner.buffer.len() < BUFFER);
            prop_assert!(runner.buffer.capacity() <= 4 * BUFFER);
        }
        let all = chunks.concat();
        prop_assert!(all.ends_with(&runner.buffer));
        prop_assert!(runner.buffer.len() >= all.len().min(BUFFER / 2));
    }
}
