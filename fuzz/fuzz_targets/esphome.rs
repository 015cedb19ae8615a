//! What an ESPHome device sends.
#![no_main]

use bms_reader::transport::esphome::Key;
use bms_reader::transport::esphome::session::{Event, Session};
use bms_reader_fuzz::Input;
use tokio::time::Instant;

/// The device is known and has a port, so that the input begins with what it sends then.
const READY: u8 = 1;
/// Key pairs take most of the time.
const ENCRYPTED: u8 = 0x1E;
/// Replies of a device: hello, and its description with one serial port.
const KNOWN: &[u8] = b"\0\x04\x02\x08\x01\x10\x10\0\x13\x0A\x12\x03lab\xCA\x01\x0B\x0A\x07BMS bus\x10\x02";

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let flags = input.byte();
    let key = (flags & ENCRYPTED == ENCRYPTED).then_some(Key([7; 32]));
    let mut now = Instant::now();
    let mut session = Session::new(key.as_ref(), now).expect("random numbers");
    if flags & READY != 0 && key.is_none() {
        session.receive(KNOWN, now).expect("a device");
        session.open_port(0, 9600, now).expect("a port");
    }
    let mut received = 0;
    while !input.is_empty() {
        let result = match input.byte() {
            0 => {
                now = session.deadline();
                session.handle_timeout(now)
            }
            1 => session.open_port(1, 9600, now),
            2 => session.close_port(0),
            _ => {
                let piece = input.chunk().unwrap_or_default();
                received += piece.len();
                session.receive(piece, now)
            }
        };
        let sent = session.take_outgoing().len();
        assert!(sent <= 200 + 40 * received, "{sent} bytes for {received}");
        while let Some(event) = session.next_event() {
            if let Event::Data { bytes, .. } = event {
                assert!((1..=received).contains(&bytes.len()));
            }
        }
        if result.is_err() {
            break;
        }
    }
});
