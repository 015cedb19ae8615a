//! Calls of a driver.

use bms_reader::protocol::{CycleKind, Driver};
use proptest::prelude::*;

/// A call, in an order that may break the contract.
#[derive(Debug, Clone)]
pub(super) enum Call {
    Start,
    Reset,
    Advance,
    Timeout,
    Receive(Vec<u8>),
    /// One of the recorded answers, with one byte changed.
    Answer {
        which: usize,
        at: usize,
        with: u8,
    },
}

pub(super) fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        1 => Just(Call::Start),
        1 => Just(Call::Reset),
        8 => Just(Call::Advance),
        3 => Just(Call::Timeout),
        3 => prop::collection::vec(any::<u8>(), 0..300).prop_map(Call::Receive),
        3 => prop::collection::vec(prop::sample::select(b"~\r0123456789ABCDEF\xDD\xA5\xD2\x03\0".as_slice()), 0..60)
            .prop_map(Call::Receive),
        6 => (any::<usize>(), any::<usize>(), any::<u8>())
            .prop_map(|(which, at, with)| Call::Answer { which, at, with }),
    ]
}

pub(super) fn apply(driver: &mut dyn Driver, call: &Call, answers: &[&[u8]]) {
    match call {
        Call::Start => driver.start(CycleKind::Read),
        Call::Reset => driver.reset(),
        Call::Advance => driver.advance(),
        Call::Timeout => driver.handle_timeout(),
        Call::Receive(bytes) => driver.receive(bytes),
        Call::Answer { which, at, with } => {
            let mut bytes = answers[which % answers.len()].to_vec();
            let at = at % (bytes.len() + 1);
            if let Some(byte) = bytes.get_mut(at) {
                *byte = *with;
            }
            driver.receive(&bytes);
        }
    }
}

/// A stream of good, damaged and foreign frames between noise.
pub(super) fn stream() -> impl Strategy<Value = Vec<Call>> {
    prop::collection::vec(
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40).prop_map(Call::Receive),
            prop::collection::vec(prop::sample::select(b"~\r0\xDD\x03\x04\0".as_slice()), 0..10)
                .prop_map(Call::Receive),
            (any::<usize>(), any::<usize>(), any::<u8>())
                .prop_map(|(which, at, with)| Call::Answer { which, at, with }),
            // Past the end: undamaged.
            any::<usize>().prop_map(|which| Call::Answer { which, at: usize::MAX, with: 0 }),
        ],
        0..6,
    )
}

pub(super) fn bytes(stream: &[Call], answers: &[&[u8]]) -> Vec<u8> {
    let mut all = Vec::new();
    for call in stream {
        match call {
            Call::Receive(bytes) => all.extend_from_slice(bytes),
            Call::Answer { which, at, with } => {
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
