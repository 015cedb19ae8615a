#![no_main]

use bms_reader::protocol::ascii_frame::{self, Frame};
use bms_reader::protocol::query::Framing;

// Framing makes progress, a frame lies within the buffer, and a parsed frame survives being encoded
// and parsed again.
libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let mut rest = input;
    loop {
        match ascii_frame::find(rest) {
            Framing::NeedMore => break,
            Framing::Junk(count) => {
                assert!(count > 0);
                rest = &rest[count..];
            }
            Framing::Frame(count) => {
                if let Ok(frame) = Frame::parse(&rest[..count]) {
                    assert_eq!(Frame::parse(&frame.encode()), Ok(frame));
                }
                rest = &rest[count..];
            }
            // Its frames have an end mark, so a damaged one hides no other.
            Framing::Damaged(_) => unreachable!(),
        }
    }
});
