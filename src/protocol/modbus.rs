//! Modbus RTU as brands of batteries use it: frames of one device address, a function, data and a
//! CRC, low byte first.
//!
//! Nothing but the length tells where a frame ends, and on a bus the address byte may occur among
//! noise, so a frame is looked for by what the answer to our question has to look like.

use super::bytes::Reader;
use super::checksum::crc16_modbus as crc;
use super::query::Framing;
use crate::protocol::ProtocolError;

/// Reads holding registers.
pub const READ: u8 = 0x03;
/// Writes one register; a good answer repeats the question.
pub const WRITE: u8 = 0x06;
/// Set in the function of an answer that says no.
const REFUSED: u8 = 0x80;
const CRC: usize = 2;
/// Address, function and code.
const REFUSAL: usize = 3 + CRC;
/// Address, function, register and value.
const WRITTEN: usize = 6 + CRC;

/// A question: for READ the first register and how many, for WRITE the register and its value.
pub fn question(address: u8, function: u8, register: u16, value: u16) -> Vec<u8> {
    let mut frame = vec![address, function];
    frame.extend(register.to_be_bytes());
    frame.extend(value.to_be_bytes());
    frame.extend(crc(&frame).to_le_bytes());
    frame
}

/// What a good answer looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// Address byte of the answer.
    pub address: u8,
    /// Function of the question.
    pub function: u8,
    /// Registers asked for; for WRITE it does not matter.
    pub count: u8,
}

impl Expected {
    /// Where the first answer in `buffer` is. One that cannot be whole yet gives way to a sound one
    /// behind it: it may have been noise.
    pub fn find(self, buffer: &[u8]) -> Framing {
        match (0..buffer.len()).find(|&at| self.may_begin(&buffer[at..])) {
            None => return Framing::Junk(buffer.len()),
            Some(0) => {}
            Some(count) => return Framing::Junk(count),
        }
        match self.whole(buffer) {
            Some(frame) if is_sound(frame) => Framing::Frame(frame.len()),
            Some(frame) if self.is_wanted(frame) => Framing::Damaged(frame.len()),
            Some(_) => Framing::Junk(1),
            None => {
                let sound = |at: &usize| {
                    let rest = &buffer[*at..];
                    self.may_begin(rest) && self.whole(rest).is_some_and(is_sound)
                };
                (1..buffer.len()).find(sound).map_or(Framing::NeedMore, Framing::Junk)
            }
        }
    }

    fn may_begin(self, bytes: &[u8]) -> bool {
        let answers = [self.function, self.function | REFUSED];
        bytes.first() == Some(&self.address)
            && bytes.get(1).is_none_or(|function| answers.contains(function))
    }

    /// As many bytes as the frame at the front has by its own account.
    fn whole(self, bytes: &[u8]) -> Option<&[u8]> {
        let length = match *bytes.get(1)? {
            READ => 3 + usize::from(*bytes.get(2)?) + CRC,
            function if function & REFUSED != 0 => REFUSAL,
            _ => WRITTEN,
        };
        bytes.get(..length)
    }

    /// Whether it has the length of the answer, so that its damage is worth telling.
    fn is_wanted(self, frame: &[u8]) -> bool {
        self.function != READ || frame.get(2) == Some(&self.count.saturating_mul(2))
    }

    /// The data of an answer that says yes: register bytes, or the register and value written.
    pub fn data<'a>(self, frame: &'a [u8], query: &str) -> Result<Reader<'a>, ProtocolError> {
        let query = || query.to_owned();
        let damaged = |reason: String| ProtocolError::BadFrame { query: query(), reason };
        let Some((covered, sum)) = frame.split_last_chunk::<CRC>() else {
            return Err(damaged("it has no checksum".into()));
        };
        let (expected, got) = (crc(covered), u16::from_le_bytes(*sum));
        if expected != got {
            let (expected, got) = (expected.into(), got.into());
            return Err(ProtocolError::BadChecksum { query: query(), expected, got });
        }
        match covered {
            [_, function, code] if function & REFUSED != 0 => Err(ProtocolError::Refused {
                query: query(),
                code: (*code).into(),
                reason: exception(*code),
            }),
            [_, READ, _, data @ ..] if usize::from(self.count) * 2 == data.len() => {
                Ok(Reader::big_endian(data))
            }
            [_, READ, _, data @ ..] => {
                let wanted = usize::from(self.count) * 2;
                Err(damaged(format!("{} bytes of registers instead of {wanted}", data.len())))
            }
            [_, WRITE, data @ ..] => Ok(Reader::big_endian(data)),
            _ => Err(damaged("it is of no known function".into())),
        }
    }
}

fn is_sound(frame: &[u8]) -> bool {
    let Some((covered, sum)) = frame.split_last_chunk::<CRC>() else { return false };
    crc(covered) == u16::from_le_bytes(*sum)
}

/// Exception codes of the Modbus application protocol.
fn exception(code: u8) -> &'static str {
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

    const ASKED: Expected = Expected { address: 0xD2, function: READ, count: 1 };
    const GOOD: [u8; 7] = [0xD2, 3, 2, 0x12, 0x34, 0x81, 0x60];

    #[test]
    fn questions_are_as_recorded() {
        let status = [0xD2, 0x03, 0x00, 0x00, 0x00, 0x3E, 0xD7, 0xB9];
        assert_eq!(question(0xD2, READ, 0, 62), status);
    }

    fn good() -> Vec<u8> {
        let mut frame = GOOD[..5].to_vec();
        frame.extend(crc(&frame).to_le_bytes());
        frame
    }

    #[test]
    fn a_frame_is_found_among_noise_and_behind_false_starts() {
        let good = good();
        assert_eq!(ASKED.find(&good), Framing::Frame(7));
        assert_eq!(ASKED.find(&good[..6]), Framing::NeedMore);
        assert_eq!(ASKED.find(&[0, 1, 0xD2]), Framing::Junk(2));
        assert_eq!(ASKED.find(&[0, 1, 2]), Framing::Junk(3));
        // A start that promises 200 bytes, and the answer behind it.
        let hidden = [&[0xD2, 3, 200][..], &good].concat();
        assert_eq!(ASKED.find(&hidden), Framing::Junk(3));
        let mut damaged = good.clone();
        damaged[3] ^= 1;
        assert_eq!(ASKED.find(&damaged), Framing::Damaged(7));
        assert_eq!(ASKED.find(&[0xD2, 3, 0, 1, 2]), Framing::Junk(1), "not what was asked for");
    }

    #[test]
    fn refusals_and_other_lengths_are_told() {
        let mut refusal = vec![0xD2, 0x83, 2];
        refusal.extend(crc(&refusal).to_le_bytes());
        assert_eq!(ASKED.find(&refusal), Framing::Frame(5));
        let error = ASKED.data(&refusal, "x").unwrap_err();
        assert!(matches!(error, ProtocolError::Refused { code: 2, .. }), "{error}");
        let two = Expected { count: 2, ..ASKED };
        let error = two.data(&good(), "x").unwrap_err().to_string();
        assert!(error.contains("2 bytes of registers instead of 4"), "{error}");
        assert_eq!(ASKED.data(&good(), "x").unwrap().u16(), Ok(0x1234));
    }
}
