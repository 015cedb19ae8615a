#![no_main]

mod drive;

use bms_reader::protocol::Options;
use bms_reader::protocol::seplos::INFO;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    drive::drive(&INFO, input);
    // The address of the recorded frames.
    drive::drive_with(&INFO, &Options { address: 0, ..Options::default() }, input);
});
