#![no_main]

mod drive;

use bms_reader::protocol::Options;
use bms_reader::protocol::pylontech_sc0500::INFO;

// Without a barcode the user's prompt is enough; with one there is a log-in.
libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    drive::drive(&INFO, input);
    let barcode = Some("PPTAP00000000050".to_owned());
    drive::drive_with(&INFO, &Options { barcode, ..Options::default() }, input);
});
