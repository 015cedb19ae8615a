//! The frame, the same on the wire and on Bluetooth:
//!
//! ```text
//! request  DD  A5 or 5A  register  length  data  checksum  77
//! reply    DD  register  status    length  data  checksum  77
//! ```
//!
//! The checksum is the two's complement of a sum of bytes, high byte first: of register, length
//! and data in a request, of status, length and data in a reply.

use crate::protocol::checksum::negated_sum16;
use crate::protocol::{DecodeError, FrameShape, check};

pub(super) const START: u8 = 0xDD;
const END: u8 = 0x77;
pub const READ: u8 = 0xA5;
pub const WRITE: u8 = 0x5A;

/// Bytes around the data.
pub const ENVELOPE: usize = 7;

/// The request for the content of a register.
pub fn read(register: u8) -> Vec<u8> {
    encode(READ, register, &[])
}

/// The request that sets a register of one word.
pub fn write(register: u8, value: u16) -> Vec<u8> {
    encode(WRITE, register, &value.to_be_bytes())
}

/// A frame: of READ or WRITE and a register, or of a register and a status.
pub fn encode(first: u8, second: u8, data: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(data.len() + ENVELOPE);
    // No register has more than 110 bytes.
    frame.extend([START, first, second, data.len() as u8]);
    frame.extend(data);
    let checksum = negated_sum16(&frame[2..]).to_be_bytes();
    frame.extend(checksum.into_iter().chain([END]));
    frame
}

/// The fields of a frame: the two bytes before the length, and the data.
pub fn decode(frame: &[u8]) -> Result<(u8, u8, &[u8]), DecodeError> {
    let [_, first, covered @ .., high, low, end] = frame else {
        return Err(DecodeError::TooShort(frame.len()));
    };
    check(negated_sum16(covered), u16::from_be_bytes([*high, *low]))?;
    if *end != END {
        let reason = format!("it ends with {end:02X} instead of {END:02X}");
        return Err(DecodeError::Invalid(reason));
    }
    let [second, _length, data @ ..] = covered else {
        return Err(DecodeError::TooShort(frame.len()));
    };
    Ok((*first, *second, data))
}

/// A reply with the content of a register.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reply {
    pub register: u8,
}

impl FrameShape for Reply {
    /// Error replies have no data. The echo of a request passes every other test of a reply: it
    /// reads as one of register A5.
    fn may_begin(&self, bytes: &[u8]) -> bool {
        match *bytes {
            [START] => true,
            [START, register] | [START, register, _] => register == self.register,
            [START, register, status, length, ..] => {
                register == self.register && (status == 0 || length == 0)
            }
            _ => false,
        }
    }

    fn length(&self, bytes: &[u8]) -> Option<usize> {
        Some(usize::from(*bytes.get(3)?) + ENVELOPE)
    }

    fn is_valid(&self, frame: &[u8]) -> bool {
        decode(frame).is_ok()
    }
}

/// The data of a good reply.
pub(super) fn data(frame: &[u8]) -> Result<&[u8], DecodeError> {
    match decode(frame)? {
        (_, 0, data) => Ok(data),
        (_, code, _) => Err(DecodeError::Refused { code: code.into(), reason: refusal(code) }),
    }
}

/// 80 is in version 4 of the vendor's document, the others in version 13.
fn refusal(code: u8) -> &'static str {
    match code {
        0x80 => "unknown command",
        0x81 => "not allowed",
        0x82 => "checksum error",
        0x83 => "password needed",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::query::Framing;

    const CELLS: &[u8] =
        &[0xDD, 4, 0, 8, 0x0F, 0x45, 0x0F, 0x3D, 0x0F, 0x37, 0x0F, 0x3D, 0xFE, 0xC6, 0x77];

    fn find(register: u8, parts: &[&[u8]]) -> Framing {
        Reply { register }.find(&parts.concat())
    }

    /// The worked examples of the vendor's document.
    #[test]
    fn documented_frames_are_encoded() {
        assert_eq!(read(3), [0xDD, 0xA5, 3, 0, 0xFF, 0xFD, 0x77]);
        assert_eq!(read(0xAA), [0xDD, 0xA5, 0xAA, 0, 0xFF, 0x56, 0x77]);
        assert_eq!(write(0xE1, 2), [0xDD, 0x5A, 0xE1, 2, 0, 2, 0xFF, 0x1B, 0x77]);
        assert_eq!(encode(4, 0, &CELLS[4..12]), CELLS);
        // The sum of nothing is 0000.
        assert_eq!(data(&[0xDD, 0xE1, 0, 0, 0, 0, 0x77]), Ok(&[][..]));
    }

    #[test]
    fn length_decides_where_a_frame_ends() {
        assert_eq!(find(4, &[CELLS]), Framing::Frame(15));
        for length in 1..15 {
            assert_eq!(find(4, &[&CELLS[..length]]), Framing::NeedMore);
        }
        assert_eq!(find(4, &[&[0, 0x77], CELLS]), Framing::Junk(2));
    }

    #[test]
    fn other_registers_and_echoes_are_junk() {
        assert_eq!(find(3, &[CELLS]), Framing::Junk(15));
        assert_eq!(find(3, &[&read(3)]), Framing::Junk(7));
        assert_eq!(find(3, &[&[0xDD]]), Framing::NeedMore);
    }

    #[test]
    fn damaged_frame_keeps_its_error() {
        let mut damaged = CELLS.to_vec();
        damaged[5] ^= 1;
        assert_eq!(find(4, &[&damaged]), Framing::Damaged(15));
        assert_eq!(data(&damaged), Err(DecodeError::Checksum { expected: 0xFEC7, got: 0xFEC6 }));
        let mut open = CELLS.to_vec();
        open[14] = 0x76;
        assert_eq!(find(4, &[&open]), Framing::Damaged(15));
        let error = data(&open).unwrap_err().to_string();
        assert_eq!(error, "it ends with 76 instead of 77");
    }

    #[test]
    fn valid_frame_behind_an_incomplete_one_is_found() {
        assert_eq!(find(4, &[&[0xDD, 4, 0, 0xFF], CELLS]), Framing::Junk(4));
        assert_eq!(find(4, &[&[0xDD, 4, 0, 0xFF], &CELLS[..14]]), Framing::NeedMore);
        assert_eq!(find(4, &[&[0xDD, 4, 0x80, 0xFF], CELLS]), Framing::Junk(4), "no data");
    }

    #[test]
    fn error_reply_is_a_refusal() {
        let reply = [0xDD, 4, 0x80, 0, 0xFF, 0x80, 0x77];
        assert_eq!(find(4, &[&reply]), Framing::Frame(7));
        let refused = DecodeError::Refused { code: 0x80, reason: "unknown command" };
        assert_eq!(data(&reply), Err(refused));
        assert_eq!((refusal(0x81), refusal(0x7F)), ("not allowed", "unknown"));
    }
}
