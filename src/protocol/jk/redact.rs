//! Record 03 contains three passcodes in plain text, and "4E 57" replies contain one. They are removed
//! from all traffic before it is recorded, also where the type of the battery is wrong or unknown, and
//! where bytes were lost, damaged or received twice. Then more than the passcodes is removed.
//!
//! The redaction sees the bytes before a chunk, but not those behind it, so it never depends on the end
//! of a frame. It adjusts the checksum: valid frames stay valid, and damaged frames stay damaged.

mod record;
mod reply;

use super::record::NOISE;

/// Removes the passcodes from what was received.
pub fn redact(bytes: &mut [u8]) {
    apply(bytes, false);
}

/// As [`redact`], where the type is known to be JK: text outside of records is a part of one that lost
/// its beginning.
pub fn redact_stream(bytes: &mut [u8]) {
    apply(bytes, true);
}

fn apply(bytes: &mut [u8], is_stream: bool) {
    let mut places = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at..].starts_with(NOISE) {
            at += NOISE.len();
        } else {
            places.push(at);
            at += 1;
        }
    }
    let seen: Vec<u8> = places.iter().map(|place| bytes[*place]).collect();
    let mut shown = seen.clone();
    record::redact(&seen, &mut shown, is_stream);
    reply::redact(&seen, &mut shown);
    for (place, byte) in places.into_iter().zip(shown) {
        bytes[place] = byte;
    }
}

#[cfg(test)]
mod tests;
