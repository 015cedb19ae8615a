//! JK records with a valid checksum around whatever the fuzzer likes: the fuzzer cannot find one by
//! itself.
#![no_main]

use bms_reader::protocol::driver::{Medium, Side};
use bms_reader::protocol::jk::INFO;
use bms_reader::protocol::jk::record::{RECORD, RECORD_HEADER, checksum};
use bms_reader::protocol::{Options, Step};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let records: Vec<u8> = input.chunks(RECORD - 6).flat_map(record).collect();
    let bus = |address| Options { address, variant: Some("pb".into()), ..Options::default() };
    for options in [Options { medium: Medium::Ble, ..Options::default() }, bus(1), bus(0)] {
        read(&options, &records);
    }
});

/// The first byte chooses the kind.
fn record(inside: &[u8]) -> Vec<u8> {
    let mut bytes = [&RECORD_HEADER[..], &[inside[0] % 6], inside].concat();
    bytes.resize(RECORD - 1, 0);
    bytes.push(checksum(&bytes));
    bytes
}

fn read(options: &Options, answer: &[u8]) {
    let mut driver = INFO.driver(options);
    driver.redact(Side::Battery, &mut answer.to_vec());
    let mut answered = false;
    for _ in 0..100 {
        match driver.step() {
            Step::Send(_) | Step::Pause(_) => {
                answered = false;
                driver.advance();
            }
            Step::Await(_) if answered => driver.handle_timeout(),
            Step::Await(_) => {
                answered = true;
                driver.receive(answer);
            }
            Step::Done(_) | Step::Failed(_) => return,
        }
    }
    panic!("no end");
}
