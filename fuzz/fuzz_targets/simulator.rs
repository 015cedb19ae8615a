//! Simulated batteries of every brand, with a reader that sends whatever the fuzzer likes.
#![no_main]

use bms_reader::sim::{Bus, Faults, brands};
use bms_reader_fuzz::Input;

/// Far more than any reply; the noise of a fault included.
const MAX_REPLY: usize = 64 * 1024;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let brand = input.pick(brands(), |brand| brand.name);
    let faults = String::from_utf8_lossy(input.text());
    let Ok(rules) = bms_reader::sim::faults::parse(&faults) else { return };
    let addresses = [*brand.addresses.start(), *brand.addresses.end()];
    let mut bus = Bus::with_batteries(brand, &addresses, 1, Faults::new(rules));
    let mut requests = bus.connect();
    let mut seconds = 0.0;
    while let Some(bytes) = input.chunk() {
        requests.push(bytes);
        while let Some(request) = requests.next_request() {
            assert!(!request.is_empty(), "an empty request");
            assert!(bus.reply(&request, seconds).len() <= MAX_REPLY, "a huge reply");
        }
        assert!(bus.unsolicited(seconds).len() <= MAX_REPLY, "a huge reply");
        seconds += 1.0;
    }
});
