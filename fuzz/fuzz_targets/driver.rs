//! Any driver of the registry, with a battery that answers whatever the fuzzer likes.
#![no_main]

use bms_reader::protocol::driver::Side;
use bms_reader::protocol::{CycleKind, drivers};
use bms_reader_fuzz::{Input, cycle, options};

/// The rest of the input answers each request.
const WHOLE: u8 = 0x10;

// Several cycles, so that what a session remembers is used, too.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let info = input.pick(drivers(), |info| info.name);
    let (flags, address, piece) = (input.byte(), input.byte(), input.byte());
    let mut driver = info.driver(&options(info, flags, address));
    let answers = input.0;
    for kind in [CycleKind::Read, CycleKind::Identify, CycleKind::Read] {
        let mut next = || input.chunk().map(<[u8]>::to_vec);
        let mut again = Some(answers.to_vec());
        cycle(driver.as_mut(), kind, piece.into(), |request| match flags & WHOLE {
            0 => next(),
            // Nothing more follows until the next request.
            _ if request.is_empty() => again.take(),
            _ => again.take().or_else(|| Some(answers.to_vec())),
        });
    }
    driver.redact(Side::Battery, &mut answers.to_vec());
    driver.redact(Side::Reader, &mut answers.to_vec());
});
