//! A caller that obeys a driver and gives it whatever the fuzzer likes.

use bms_reader::protocol::{CycleKind, DriverInfo, Options, Step};

/// More calls of `step` than any cycle may need.
const STEPS: usize = 200;

/// Splits the input at FF bytes (which no text protocol has, and binary ones rarely): each piece
/// answers one question, in chunks of a length that the first byte says. Two cycles, so that what
/// a session remembers is used too.
pub fn drive(info: &DriverInfo, input: &[u8]) {
    drive_with(info, &Options::default(), input);
}

/// The same for a battery of which the operator has said more.
pub fn drive_with(info: &DriverInfo, options: &Options, input: &[u8]) {
    let Some((&cut, input)) = input.split_first() else { return };
    let mut answers = input.split(|&byte| byte == 0xFF);
    let mut driver = (info.new)(options);
    for _ in 0..2 {
        driver.start(CycleKind::Read);
        let mut answer: Option<&[u8]> = None;
        let mut steps = 0;
        loop {
            steps += 1;
            assert!(steps <= STEPS, "no end after {STEPS} steps");
            let step = driver.step();
            assert_eq!(step, driver.step(), "step changes something");
            match step {
                Step::Pause(_) => driver.advance(),
                Step::Send(request) => {
                    assert!(!request.is_empty(), "an empty question");
                    driver.advance();
                    answer = answers.next();
                }
                Step::Await(_) => match answer.take() {
                    Some(bytes) => {
                        bytes.chunks(usize::from(cut).max(1)).for_each(|chunk| driver.receive(chunk));
                    }
                    None => driver.handle_timeout(),
                },
                Step::Done(_) | Step::Failed(_) => break,
            }
        }
    }
}
