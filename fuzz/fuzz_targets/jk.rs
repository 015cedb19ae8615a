#![no_main]

mod drive;

use bms_reader::protocol::driver::Medium;
use bms_reader::protocol::jk::INFO;
use bms_reader::protocol::jk::record::{RECORD, RECORD_HEADER, checksum};
use bms_reader::protocol::jk::secrets::{Redactor, TtlRedactor};
use bms_reader::protocol::{Options, Step};

// Records are full of FF, where `drive` cuts, so the whole input answers every question, too: as it
// is, and as the inside of records with a sound checksum.
libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    drive::drive(&INFO, input);
    let wire = |variant: &str| Options { variant: Some(variant.into()), ..Options::default() };
    let radio = Options { medium: Medium::Ble, ..Options::default() };
    let sound: Vec<u8> = input.chunks(RECORD - 6).flat_map(record).collect();
    for options in [radio, wire("ttl"), wire("pb"), Options { address: 0, ..wire("pb") }] {
        for answer in [input, &sound] {
            hear(&options, answer);
        }
    }
    Redactor::default().redact(&mut sound.clone());
    TtlRedactor::default().redact(&mut input.to_vec());
});

/// The first byte chooses the kind.
fn record(inside: &[u8]) -> Vec<u8> {
    let mut bytes = [&RECORD_HEADER[..], &[inside[0] % 6], inside].concat();
    bytes.resize(RECORD - 1, 0);
    bytes.push(checksum(&bytes));
    bytes
}

fn hear(options: &Options, answer: &[u8]) {
    let mut driver = (INFO.new)(options);
    let mut heard = false;
    for _ in 0..100 {
        match driver.step() {
            Step::Send(_) | Step::Pause(_) => {
                heard = false;
                driver.advance();
            }
            Step::Await(_) if heard => driver.handle_timeout(),
            Step::Await(_) => {
                heard = true;
                driver.receive(answer);
            }
            Step::Done(_) | Step::Failed(_) => return,
        }
    }
    panic!("no end");
}
