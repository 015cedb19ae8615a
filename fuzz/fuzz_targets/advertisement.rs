//! Which brands an advertisement may belong to.
#![no_main]

use std::collections::BTreeSet;

use bms_reader::protocol::advertisement::Advertisement;
use bms_reader::protocol::detection::{ble_candidates, recognise};
use bms_reader::protocol::uuid16;
use bms_reader_fuzz::Input;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let address: Vec<String> = input.take(6).iter().map(|byte| format!("{byte:02X}")).collect();
    let services: Vec<u128> = (0..input.byte()).map_while(|_| service(&mut input)).collect();
    let company = |input: &mut Input<'_>| Some((input.word(), input.chunk()?.to_vec()));
    let manufacturer: Vec<_> = (0..input.byte()).map_while(|_| company(&mut input)).collect();
    let name = String::from_utf8_lossy(input.0);
    let device = Advertisement {
        name: (!name.is_empty()).then_some(&*name),
        address: &address.join(":"),
        services: &services,
        manufacturer: &manufacturer,
    };
    let guesses = recognise(&device);
    let brands: BTreeSet<_> = guesses.iter().map(|guess| guess.driver.name).collect();
    assert_eq!(brands.len(), guesses.len(), "a brand is named twice");
    for candidate in ble_candidates(Some(&device)) {
        let name = candidate.driver.name;
        let guess = guesses.iter().find(|guess| guess.driver.name == name);
        assert_eq!(candidate.recognised, guess.is_some(), "{name}");
        let is_likely = guess.is_some_and(|guess| guess.likely);
        assert!(is_likely || !candidate.driver.unchecked, "{name} is tried without a reason");
    }
});

/// A short UUID, or behind zero a long one.
fn service(input: &mut Input<'_>) -> Option<u128> {
    match input.word() {
        0 => Some(u128::from_be_bytes(input.take(16).try_into().ok()?)),
        short => Some(uuid16(short)),
    }
}
