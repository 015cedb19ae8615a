#![no_main]

mod drive;

use bms_reader::protocol::Options;
use bms_reader::protocol::daly::{INFO, VARIANTS};

// The dialects are found by asking; each of them alone is reached sooner.
libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    drive::drive(&INFO, input);
    for variant in VARIANTS {
        let variant = Some((*variant).to_owned());
        drive::drive_with(&INFO, &Options { variant, ..Options::default() }, input);
    }
});
