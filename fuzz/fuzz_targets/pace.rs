#![no_main]

mod drive;

use bms_reader::protocol::pace::INFO;

libfuzzer_sys::fuzz_target!(|input: &[u8]| drive::drive(&INFO, input));
