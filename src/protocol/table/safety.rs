//! Requests that change a battery are refused when a profile is loaded.

use super::frame::{Numbers, compose};
use super::scalar::{Bytes, Token};
use super::schema::{Profile, Request};
use crate::protocol::checksum::crc16_modbus;

/// Functions of Modbus that write: coils, registers, masked and mixed access.
const MODBUS_WRITES: [u8; 7] = [0x05, 0x06, 0x0F, 0x10, 0x15, 0x16, 0x17];

/// What the known write requests of a family begin with; `None` is any byte.
const WRITES: &[(&str, &[Option<u8>])] = &[
    ("JBD", &[Some(0xDD), Some(0x5A)]),
    ("JK", &[Some(0xAA), Some(0x55), Some(0x90), Some(0xEB), Some(0x1D)]),
    ("ANT", &[Some(0x7E), Some(0xA1), Some(0x51)]),
    ("ANT", &[Some(0x7E), Some(0xA1), Some(0x22)]),
    ("ANT", &[Some(0x7E), Some(0xA1), Some(0x23)]),
    ("ANT", &[Some(0xA5), Some(0xA5)]),
    ("Braun Power", &[Some(0x7B), None, Some(0x02)]),
    ("JBD UP16S", &[None, Some(0x79)]),
    ("TDT", &[Some(0x7E), None, None, Some(0x06)]),
    ("TDT", &[Some(0x1E), None, None, Some(0x06)]),
    ("NEEY", &[Some(0xAA), Some(0x55), Some(0x11), Some(0x00)]),
    ("ALLPOWERS", &[Some(0xA5), Some(0x65), Some(0x00), Some(0xB1)]),
    ("TianPower", &[Some(0x55), Some(0x05)]),
    ("Telit Terminal I/O", &[Some(b'+'), Some(b'+'), Some(b'+')]),
];

/// Commands of a family, by the bytes before them.
const COMMANDS: &[(&str, &[Option<u8>], &[u8])] = &[
    ("LiTime", &[Some(0), Some(0), Some(4), Some(1)], &[0x01, 0x02, 0x0A, 0x0B, 0x0C, 0x0D, 0x60]),
    ("HumsiENK", &[Some(0xAA)], &[0x50, 0x51, 0x52, 0x53, 0x5B, 0x5C, 0x5D, 0x66, 0x67, 0x68]),
    ("Braun Power", &[Some(0x7B)], &[0x1D, 0x1E, 0xE2, 0xFA, 0xFB, 0xFC]),
    (
        "RoyPow",
        &[Some(0xEA), Some(0xD1), Some(0x01), None, Some(0xFF)],
        &[0x0F, 0x10, 0x12, 0x13, 0x18, 0x19, 0x1A, 0x1B, 0x1C, 0x20, 0x21, 0x22, 0x23, 0x24, 0xFE],
    ),
    ("Seplos", &[Some(0x7E), Some(0x10), None, Some(0x46)], &[0x63, 0x64, 0x65, 0xA1, 0xAA]),
];

/// Whether a request of a profile is one that only reads, as far as the family is known.
pub fn check(profile: &Profile, request: &Request) -> Result<(), String> {
    if let (Some(modbus), Some(_)) = (&profile.modbus, request.read) {
        let function = request.function.unwrap_or(modbus.function);
        return match function {
            1..=4 => Ok(()),
            _ => Err(format!("Modbus function {function} does not only read; 1 to 4 do")),
        };
    }
    let Some(send) = &request.send else { return Ok(()) };
    if send.0.contains(&Token::Any) {
        return Err("`??` has no meaning in `send`: every byte must be known".into());
    }
    if send.0.contains(&Token::Check) && profile.frame.check.is_none() {
        return Err("`{check}` needs `frame: {check: ...}`".into());
    }
    only_reads(&compose(profile, request, Numbers { unit: 1, pack: 1 }))
}

/// A greeting is sent as it is, so it has no gaps.
pub fn check_greeting(greeting: &Bytes) -> Result<(), String> {
    let byte = |token: &Token| if let Token::Byte(byte) = token { Some(*byte) } else { None };
    let bytes: Option<Vec<u8>> = greeting.0.iter().map(byte).collect();
    only_reads(&bytes.ok_or("a greeting consists of bytes and texts in single quotes only")?)
}

fn only_reads(bytes: &[u8]) -> Result<(), String> {
    match writes(bytes) {
        Some(family) => Err(format!(
            "this request changes settings of a battery ({family}). A profile only reads"
        )),
        None => Ok(()),
    }
}

/// The family of which this is a write request.
fn writes(bytes: &[u8]) -> Option<&'static str> {
    let begins = |start: &[Option<u8>]| {
        bytes.len() > start.len()
            && start.iter().zip(bytes).all(|(expected, byte)| expected.is_none_or(|it| it == *byte))
    };
    if let Some((frame, crc)) = bytes.split_last_chunk::<2>()
        && frame.len() >= 4
        && MODBUS_WRITES.contains(&frame[1])
        && crc16_modbus(frame).to_le_bytes() == *crc
    {
        return Some("a Modbus write");
    }
    let command = |(_, start, commands): &&(_, &[Option<u8>], &[u8])| {
        begins(start) && commands.contains(&bytes[start.len()])
    };
    let family = WRITES.iter().find(|(_, start)| begins(start)).map(|(family, _)| *family);
    family.or_else(|| COMMANDS.iter().find(command).map(|(family, _, _)| *family))
}
