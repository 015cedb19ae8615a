//! Modbus RTU as batteries use it: frames of one device address, a function, data and a CRC, low
//! byte first.
//!
//! Only the length defines where a frame ends, and on a bus the address byte may occur among noise, so
//! a frame is looked for by what the reply to a request has to look like.

use super::checksum::crc16_modbus;
use super::{DecodeError, FrameShape, Reader, check};

pub const READ: u8 = 0x03;
/// Writes one register; a good reply equals the request.
pub const WRITE: u8 = 0x06;
/// Set in the function of an error reply.
const REFUSED: u8 = 0x80;
const CRC: usize = 2;
/// Address, function and code.
const REFUSAL: usize = 3 + CRC;
/// Address, function, register and value.
const WRITTEN: usize = 6 + CRC;

/// A request: for READ the first register and how many, for WRITE the register and its value.
pub fn request(address: u8, function: u8, register: u16, value: u16) -> Vec<u8> {
    let ([first, second], [third, fourth]) = (register.to_be_bytes(), value.to_be_bytes());
    with_crc(vec![address, function, first, second, third, fourth])
}

/// A frame with its CRC.
pub fn with_crc(mut frame: Vec<u8>) -> Vec<u8> {
    frame.extend(crc16_modbus(&frame).to_le_bytes());
    frame
}

/// A frame without its CRC, which must fit.
pub fn checked(frame: &[u8]) -> Result<&[u8], DecodeError> {
    let Some((covered, crc)) = frame.split_last_chunk::<CRC>() else {
        return Err(DecodeError::TooShort(frame.len()));
    };
    check(crc16_modbus(covered), u16::from_le_bytes(*crc))?;
    Ok(covered)
}

/// What a good reply looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// Address byte of the reply.
    pub address: u8,
    /// Function of the request.
    pub function: u8,
    /// Requested registers; has no meaning for WRITE.
    pub count: u8,
}

impl FrameShape for Expected {
    fn may_begin(&self, bytes: &[u8]) -> bool {
        let functions = [self.function, self.function | REFUSED];
        bytes.first() == Some(&self.address)
            && bytes.get(1).is_none_or(|function| functions.contains(function))
    }

    fn length(&self, bytes: &[u8]) -> Option<usize> {
        Some(match *bytes.get(1)? {
            READ => 3 + usize::from(*bytes.get(2)?) + CRC,
            function if function & REFUSED != 0 => REFUSAL,
            _ => WRITTEN,
        })
    }

    fn is_valid(&self, frame: &[u8]) -> bool {
        checked(frame).is_ok()
    }

    fn is_expected(&self, frame: &[u8]) -> bool {
        self.function != READ || frame.get(2) == Some(&self.count.saturating_mul(2))
    }
}

impl Expected {
    /// The data of a good reply: registers, or the register and value that were written.
    pub fn data<'a>(&self, frame: &'a [u8]) -> Result<Reader<'a>, DecodeError> {
        match *checked(frame)? {
            [_, function, code] if function & REFUSED != 0 => {
                Err(DecodeError::Refused { code: code.into(), reason: exception(code) })
            }
            [_, READ, _, ref data @ ..] if usize::from(self.count) * 2 == data.len() => {
                Ok(Reader::big_endian(data))
            }
            [_, WRITE, ref data @ ..] => Ok(Reader::big_endian(data)),
            [_, READ, _, ref data @ ..] => {
                let (got, wanted) = (data.len(), usize::from(self.count) * 2);
                let reason = format!("{got} bytes of registers instead of {wanted}");
                Err(DecodeError::Invalid(reason))
            }
            _ => Err(DecodeError::Length(frame.len())),
        }
    }
}

/// Exception codes of the Modbus application protocol.
pub(super) fn exception(code: u8) -> &'static str {
    match code {
        1 => "illegal function",
        2 => "illegal data address",
        3 => "illegal data value",
        4 => "device failure",
        5 => "acknowledged, still busy",
        6 => "device busy",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::query::Framing;

    const ONE_REGISTER: Expected = Expected { address: 0xD2, function: READ, count: 1 };

    #[test]
    fn request_equals_the_recorded_one() {
        let status = [0xD2, 0x03, 0x00, 0x00, 0x00, 0x3E, 0xD7, 0xB9];
        assert_eq!(request(0xD2, READ, 0, 62), status);
    }

    fn good() -> Vec<u8> {
        with_crc(vec![0xD2, 3, 2, 0x12, 0x34])
    }

    #[test]
    fn frame_is_found_among_noise_and_false_starts() {
        let good = good();
        assert_eq!(ONE_REGISTER.find(&good), Framing::Frame(7));
        assert_eq!(ONE_REGISTER.find(&good[..6]), Framing::NeedMore);
        assert_eq!(ONE_REGISTER.find(&[0, 1, 0xD2]), Framing::Junk(2));
        assert_eq!(ONE_REGISTER.find(&[0, 1, 2]), Framing::Junk(3));
        // A start that promises 200 bytes, and the reply behind it.
        let hidden = [&[0xD2, 3, 200][..], &good].concat();
        assert_eq!(ONE_REGISTER.find(&hidden), Framing::Junk(3));
        let mut damaged = good.clone();
        damaged[3] ^= 1;
        assert_eq!(ONE_REGISTER.find(&damaged), Framing::Damaged(7));
        let other_length = [0xD2, 3, 0, 1, 2];
        assert_eq!(ONE_REGISTER.find(&other_length), Framing::Junk(1));
    }

    #[test]
    fn data_is_returned_for_a_good_reply_only() {
        assert_eq!(ONE_REGISTER.data(&good()).unwrap().u16(), Ok(0x1234));
        let refusal = with_crc(vec![0xD2, 0x83, 2]);
        assert_eq!(ONE_REGISTER.find(&refusal), Framing::Frame(5));
        let error = ONE_REGISTER.data(&refusal).unwrap_err();
        assert!(matches!(error, DecodeError::Refused { code: 2, .. }), "{error}");
        let two = Expected { count: 2, ..ONE_REGISTER };
        let error = two.data(&good()).unwrap_err().to_string();
        assert_eq!(error, "2 bytes of registers instead of 4");
    }
}
