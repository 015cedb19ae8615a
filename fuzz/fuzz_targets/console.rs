//! Text consoles: the fuzzer writes what is between the echo of a command and the prompt.
#![no_main]

use std::sync::LazyLock;

use bms_reader::protocol::{CycleKind, DriverInfo, console, drivers};
use bms_reader_fuzz::{Input, cycle, options};

static CONSOLES: LazyLock<Vec<&'static DriverInfo>> =
    LazyLock::new(|| drivers().iter().copied().filter(|info| info.text).collect());

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let info = input.pick(&CONSOLES, |info| info.name);
    let flags = input.byte();
    let mut driver = info.driver(&options(info, flags, 1));
    for kind in [CycleKind::Read, CycleKind::Read] {
        cycle(driver.as_mut(), kind, usize::MAX, |request| {
            if request.is_empty() || input.is_empty() {
                return None;
            }
            let prompt = if flags & 0x20 == 0 { console::PROMPT } else { "pylon_debug>" };
            Some([request, b"\r@\r\n", input.text(), b"\r\n$$\r\n", prompt.as_bytes()].concat())
        });
    }
});
