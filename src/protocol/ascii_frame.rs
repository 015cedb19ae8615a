//! The ASCII frame of the Chinese telecom standard YD/T 1363, which Daren calls DR-1363 and which
//! Pylontech, PACE and Seplos use too:
//!
//! ```text
//! ~ VER ADR CID1 CID2 LENGTH INFO CHKSUM CR
//! 1  2   2   2    2     4     n     4    1   characters
//! ```
//!
//! Between `~` and CR everything is hex text. LENGTH holds the number of INFO *characters* in its
//! low twelve bits and a check nibble above them. An answer has its return code where the
//! question had CID2, so it does not say which question it answers.

use super::query::Framing;
use crate::protocol::ProtocolError;

const SOI: u8 = b'~';
const EOI: u8 = b'\r';
/// Characters from VER to LENGTH.
const HEAD: usize = 12;
const CHECKSUM: usize = 4;
/// LENGTH counts characters in twelve bits, two for each byte.
pub const MAX_INFO: usize = 0xFFF / 2;

/// A frame with a sound checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Protocol version.
    pub version: u8,
    /// Address of the battery, in questions and answers.
    pub address: u8,
    /// Kind of device.
    pub cid1: u8,
    /// Service of a question, return code of an answer.
    pub cid2: u8,
    /// Payload.
    pub info: Vec<u8>,
}

/// What is wrong with a frame; found in this order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No `~` in front or no CR at the end.
    #[error("no start or end mark")]
    Unmarked,
    /// Shorter than a frame without payload.
    #[error("only {characters} characters long")]
    Stub {
        /// Between `~` and CR.
        characters: usize,
    },
    /// Something else than hex text.
    #[error("character {position} is no hex digit")]
    NotHex {
        /// Counted from the one after `~`.
        position: usize,
    },
    /// The check nibble of LENGTH is wrong.
    #[error("length field {field:04X} fails its own check")]
    LengthCheck {
        /// As received.
        field: u16,
        /// As it should be.
        expected: u16,
    },
    /// Characters were lost or added.
    #[error("the frame promises {promised} characters of payload and has {present}")]
    Length {
        /// By LENGTH.
        promised: usize,
        /// Counted.
        present: usize,
    },
    /// CHKSUM is wrong.
    #[error("checksum {got:04X} instead of {expected:04X}")]
    Checksum {
        /// Computed.
        expected: u16,
        /// As received.
        got: u16,
    },
}

impl FrameError {
    /// The same as the failure of a question.
    pub fn in_answer_to(self, query: String) -> ProtocolError {
        match self {
            FrameError::LengthCheck { field: got, expected }
            | FrameError::Checksum { expected, got } => {
                ProtocolError::BadChecksum { query, expected: expected.into(), got: got.into() }
            }
            other => ProtocolError::BadFrame { query, reason: other.to_string() },
        }
    }
}

/// LENGTH for so many characters of INFO.
pub fn length_field(characters: u16) -> u16 {
    let digits = characters & 0x0FFF;
    let sum = (digits >> 8) + (digits >> 4 & 0xF) + (digits & 0xF);
    (sum.wrapping_neg() & 0xF) << 12 | digits
}

/// CHKSUM over the characters from VER to the end of INFO.
pub fn checksum(characters: &[u8]) -> u16 {
    characters.iter().fold(0u16, |sum, &c| sum.wrapping_add(c.into())).wrapping_neg()
}

impl Frame {
    /// The characters on the line. LENGTH has no room for more than [`MAX_INFO`] bytes: what is
    /// beyond is left out.
    pub fn encode(&self) -> Vec<u8> {
        let info = self.info.get(..MAX_INFO).unwrap_or(&self.info);
        let head = [self.version, self.address, self.cid1, self.cid2];
        // `info` is at most 2047 bytes long, so twice its length fits.
        let length = length_field(u16::try_from(info.len() * 2).unwrap_or_default());
        let mut characters = hex(&head);
        characters.extend(hex(&length.to_be_bytes()));
        characters.extend(hex(info));
        let sum = checksum(&characters);
        let mut frame = vec![SOI];
        frame.extend(characters);
        frame.extend(hex(&sum.to_be_bytes()));
        frame.push(EOI);
        frame
    }

    /// Takes apart what [`find`] has found. Lower-case digits are accepted; the checksum covers
    /// the characters as they came.
    pub fn parse(frame: &[u8]) -> Result<Frame, FrameError> {
        let [SOI, text @ .., EOI] = frame else { return Err(FrameError::Unmarked) };
        if let Some(position) = text.iter().position(|c| !c.is_ascii_hexdigit()) {
            return Err(FrameError::NotHex { position });
        }
        let stub = || FrameError::Stub { characters: text.len() };
        let (covered, sum) = text.split_last_chunk::<CHECKSUM>().ok_or_else(stub)?;
        let (head, info) = covered.split_first_chunk::<HEAD>().ok_or_else(stub)?;
        let [version, address, cid1, cid2, high, low] = unhex(head)[..] else { return Err(stub()) };

        let field = u16::from_be_bytes([high, low]);
        let expected = length_field(field);
        if field != expected {
            return Err(FrameError::LengthCheck { field, expected });
        }
        let promised = usize::from(field & 0x0FFF);
        if promised != info.len() || info.len() % 2 != 0 {
            return Err(FrameError::Length { promised, present: info.len() });
        }
        let (expected, got) = (checksum(covered), number(sum));
        if expected != got {
            return Err(FrameError::Checksum { expected, got });
        }
        Ok(Frame { version, address, cid1, cid2, info: unhex(info) })
    }
}

/// Where the first frame is. `~` occurs only at the start of a frame, so a second one before the
/// CR means that the end of an earlier frame was lost.
pub fn find(buffer: &[u8]) -> Framing {
    let end = buffer.iter().position(|&c| c == EOI);
    let candidate = end.map_or(buffer, |end| &buffer[..end]);
    match (candidate.iter().rposition(|&c| c == SOI), end) {
        (Some(0), Some(end)) => Framing::Frame(end + 1),
        (Some(0), None) => Framing::NeedMore,
        (Some(start), _) => Framing::Junk(start),
        (None, Some(end)) => Framing::Junk(end + 1),
        (None, None) if buffer.is_empty() => Framing::NeedMore,
        (None, None) => Framing::Junk(buffer.len()),
    }
}

/// Return codes: 01 to 06 are in every document of the family, 07 and E1 to E4 in Seplos's, 09 in
/// PACE's, 90 and 91 in Pylontech's.
pub fn refusal(code: u8) -> &'static str {
    match code {
        0x01 => "version error",
        0x02 => "checksum error",
        0x03 => "length checksum error",
        0x04 => "cid2 invalid",
        0x05 => "command format error",
        0x06 => "invalid data",
        0x07 => "no data",
        0x09 => "write error",
        0x90 => "address error",
        0x91 => "communication error",
        0xE1 => "cid1 invalid",
        0xE2 => "execution failure",
        0xE3 => "device fault",
        0xE4 => "no permission",
        _ => "unknown",
    }
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    bytes.iter().flat_map(|b| [b >> 4, b & 0xF]).map(|n| DIGITS[usize::from(n)]).collect()
}

/// The bytes of hex text; whoever calls has checked that there is nothing else.
fn unhex(text: &[u8]) -> Vec<u8> {
    text.chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

fn number(text: &[u8; 4]) -> u16 {
    text.iter().fold(0, |value, &c| value << 4 | u16::from(digit(c)))
}

fn digit(c: u8) -> u8 {
    match c {
        b'0'..=b'9' => c - b'0',
        b'A'..=b'F' => c - b'A' + 10,
        b'a'..=b'f' => c - b'a' + 10,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(info: &[u8]) -> Frame {
        Frame { version: 0x22, address: 1, cid1: 0x4A, cid2: 0x42, info: info.to_vec() }
    }

    #[test]
    fn the_check_nibble_wraps() {
        // 018 is the worked example of the Basen document; 088 adds up to 16.
        let cases = [(0, 0), (18, 0xD012), (0x88, 0x0088), (0x0C6, 0xE0C6), (0xFFF, 0x3FFF)];
        for (characters, field) in cases {
            assert_eq!(length_field(characters), field, "{characters}");
        }
    }

    #[test]
    fn what_is_encoded_can_be_parsed() {
        for info in [&[][..], &[1], &[0; MAX_INFO]] {
            let frame = question(info);
            let line = frame.encode();
            assert_eq!(find(&line), Framing::Frame(line.len()));
            assert_eq!(Frame::parse(&line), Ok(frame));
        }
    }

    #[test]
    fn a_payload_beyond_the_length_field_is_cut() {
        let line = question(&[7; MAX_INFO + 1]).encode();
        assert_eq!(Frame::parse(&line), Ok(question(&[7; MAX_INFO])));
    }

    #[test]
    fn stubs_and_odd_lengths_are_refused() {
        assert_eq!(Frame::parse(b""), Err(FrameError::Unmarked));
        assert_eq!(Frame::parse(b"~"), Err(FrameError::Unmarked));
        assert_eq!(Frame::parse(b"~\r"), Err(FrameError::Stub { characters: 0 }));
        assert_eq!(Frame::parse(b"~22014A420000FD9\r"), Err(FrameError::Stub { characters: 15 }));
        assert_eq!(Frame::parse(b"~2201x\r"), Err(FrameError::NotHex { position: 4 }));
        let mut odd = b"22014A42F0010".to_vec();
        let sum = checksum(&odd);
        odd.extend(hex(&sum.to_be_bytes()));
        let odd = [b"~", &odd[..], b"\r"].concat();
        assert_eq!(Frame::parse(&odd), Err(FrameError::Length { promised: 1, present: 1 }));
    }

    #[test]
    fn a_frame_begins_at_the_last_mark_before_its_end() {
        assert_eq!(find(b""), Framing::NeedMore);
        assert_eq!(find(b"~22"), Framing::NeedMore);
        assert_eq!(find(b"\x00U"), Framing::Junk(2));
        assert_eq!(find(b"\x00U~22"), Framing::Junk(2));
        assert_eq!(find(b"~2201~22\r"), Framing::Junk(5));
        assert_eq!(find(b"22\r~22\r"), Framing::Junk(3));
        assert_eq!(find(b"~22\r~22\r"), Framing::Frame(4));
    }
}
