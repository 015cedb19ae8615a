//! What may happen to a driver.

use bms_reader::protocol::{CycleKind, Driver};
use proptest::prelude::*;

/// What can be done to a driver, in an order that may break the contract.
#[derive(Debug, Clone)]
pub(super) enum Act {
    Start,
    Reset,
    Advance,
    Silence,
    Receive(Vec<u8>),
    /// One of the recorded answers, with one byte changed.
    Answer {
        which: usize,
        at: usize,
        with: u8,
    },
}

pub(super) fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        1 => Just(Act::Start),
        1 => Just(Act::Reset),
        8 => Just(Act::Advance),
        3 => Just(Act::Silence),
        3 => prop::collection::vec(any::<u8>(), 0..300).prop_map(Act::Receive),
        3 => prop::collection::vec(prop::sample::select(b"~\r0123456789ABCDEF\xDD\xA5\xD2\x03\0".as_slice()), 0..60)
            .prop_map(Act::Receive),
        6 => (any::<usize>(), any::<usize>(), any::<u8>())
            .prop_map(|(which, at, with)| Act::Answer { which, at, with }),
    ]
}

pub(super) fn perform(driver: &mut dyn Driver, act: &Act, answers: &[&[u8]]) {
    match act {
        Act::Start => driver.start(CycleKind::Read),
        Act::Reset => driver.reset(),
        Act::Advance => driver.advance(),
        Act::Silence => driver.handle_timeout(),
        Act::Receive(bytes) => driver.receive(bytes),
        Act::Answer { which, at, with } => {
            let mut bytes = answers[which % answers.len()].to_vec();
            let at = at % (bytes.len() + 1);
            if let Some(byte) = bytes.get_mut(at) {
                *byte = *with;
            }
            driver.receive(&bytes);
        }
    }
}

/// A stream in which good, damaged and foreign frames stand among noise.
pub(super) fn stream() -> impl Strategy<Value = Vec<Act>> {
    prop::collection::vec(
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40).prop_map(Act::Receive),
            prop::collection::vec(prop::sample::select(b"~\r0\xDD\x03\x04\0".as_slice()), 0..10)
                .prop_map(Act::Receive),
            (any::<usize>(), any::<usize>(), any::<u8>())
                .prop_map(|(which, at, with)| Act::Answer { which, at, with }),
            // Past the end: undamaged.
            any::<usize>().prop_map(|which| Act::Answer { which, at: usize::MAX, with: 0 }),
        ],
        0..6,
    )
}

pub(super) fn bytes(stream: &[Act], answers: &[&[u8]]) -> Vec<u8> {
    let mut all = Vec::new();
    for act in stream {
        match act {
            Act::Receive(bytes) => all.extend_from_slice(bytes),
            Act::Answer { which, at, with } => {
                let from = all.len();
                all.extend_from_slice(answers[which % answers.len()]);
                if let Some(byte) = all.get_mut(from.saturating_add(*at)) {
                    *byte = *with;
                }
            }
            _ => unreachable!("a stream is made of bytes"),
        }
    }
    all
}
