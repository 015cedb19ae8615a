//! The ASCII frame of the Chinese telecom standard YD/T 1363, which Daren calls DR-1363 and which
//! Pylontech, PACE and Seplos use too:
//!
//! ```text
//! ~ VER ADR CID1 CID2 LENGTH INFO CHKSUM CR
//! 1  2   2   2    2     4     n     4    1   characters
//! ```
//!
//! Between `~` and CR everything is hex text. LENGTH holds the number of INFO *characters* in its
//! low twelve bits and a check nibble above them. A reply has its return code where the
//! request had CID2, so it does not identify its request.

use super::{DecodeError, Framing, check};

const SOI: u8 = b'~';
const EOI: u8 = b'\r';
/// Characters from VER to LENGTH.
const HEAD: usize = 12;
const CHECKSUM: usize = 4;
/// LENGTH counts characters in twelve bits, two for each byte.
pub const MAX_INFO: usize = 0xFFF / 2;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub version: u8,
    /// Address of the battery, in requests and replies.
    pub address: u8,
    pub cid1: u8,
    /// Service of a request, return code of a reply.
    pub cid2: u8,
    pub info: Vec<u8>,
}

/// LENGTH for this many characters of INFO.
pub fn length_field(characters: u16) -> u16 {
    let digits = characters & 0x0FFF;
    let sum = (digits >> 8) + (digits >> 4 & 0xF) + (digits & 0xF);
    (sum.wrapping_neg() & 0xF) << 12 | digits
}

/// CHKSUM, which covers the characters from VER to the end of INFO.
pub use super::checksum::negated_sum16 as checksum;

impl Frame {
    /// The characters on the line. LENGTH has no room for more than [`MAX_INFO`] bytes: what is
    /// beyond is left out.
    pub fn encode(&self) -> Vec<u8> {
        let info = self.info.get(..MAX_INFO).unwrap_or(&self.info);
        let head = [self.version, self.address, self.cid1, self.cid2];
        // `info` is at most 2047 bytes long, so twice its length fits.
        let length = length_field(u16::try_from(info.len() * 2).unwrap_or_default());
        let characters = [hex(&head), hex(&length.to_be_bytes()), hex(info)].concat();
        let sum = hex(&checksum(&characters).to_be_bytes());
        [&[SOI], &characters[..], &sum, &[EOI]].concat()
    }

    /// Decodes what [`find`] has found. Lower-case digits are accepted; the checksum covers the
    /// characters as received.
    pub fn parse(frame: &[u8]) -> Result<Frame, DecodeError> {
        let invalid = |reason: &str| Err(DecodeError::Invalid(reason.to_owned()));
        let [SOI, text @ .., EOI] = frame else { return invalid("no start or end mark") };
        if let Some(position) = text.iter().position(|c| !c.is_ascii_hexdigit()) {
            return invalid(&format!("character {position} is no hex digit"));
        }
        let Some((covered, sum)) = text.split_last_chunk::<CHECKSUM>() else {
            return Err(DecodeError::TooShort(text.len()));
        };
        let Some((head, info)) = covered.split_first_chunk::<HEAD>() else {
            return Err(DecodeError::TooShort(text.len()));
        };
        let [version, address, cid1, cid2, high, low] = unhex(head)[..] else {
            return Err(DecodeError::TooShort(text.len()));
        };
        let field = u16::from_be_bytes([high, low]);
        check(length_field(field), field)?;
        let (promised, present) = (usize::from(field & 0x0FFF), info.len());
        if promised != present || present % 2 != 0 {
            let reason =
                format!("the frame promises {promised} characters of payload and has {present}");
            return invalid(&reason);
        }
        let sum = unhex(sum).iter().fold(0, |sum, &byte| sum << 8 | u16::from(byte));
        check(checksum(covered), sum)?;
        Ok(Frame { version, address, cid1, cid2, info: unhex(info) })
    }
}

/// What the buffer begins with. `~` occurs only at the start of a frame, so a second one before the
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

/// The bytes of text that consists of hex digits.
fn unhex(text: &[u8]) -> Vec<u8> {
    text.chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

fn digit(c: u8) -> u8 {
    char::from(c).to_digit(16).unwrap_or_default() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(info: &[u8]) -> Frame {
        Frame { version: 0x22, address: 1, cid1: 0x4A, cid2: 0x42, info: info.to_vec() }
    }

    #[test]
    fn check_nibble_of_the_length_wraps() {
        // 018 is the worked example of the Basen document; 088 adds up to 16.
        let cases = [(0, 0), (18, 0xD012), (0x88, 0x0088), (0x0C6, 0xE0C6), (0xFFF, 0x3FFF)];
        for (characters, field) in cases {
            assert_eq!(length_field(characters), field, "{characters}");
        }
    }

    /// The worked examples of the Basen document.
    #[test]
    fn documented_requests_are_encoded() {
        let request = |address, cid2, info: &[u8]| {
            Frame { version: 0x22, address, cid1: 0x4A, cid2, info: info.to_vec() }.encode()
        };
        assert_eq!(request(1, 0x42, &[1]), b"~22014A42E00201FD28\r");
        assert_eq!(request(1, 0x4F, &[]), b"~22014A4F0000FD8C\r");
        assert_eq!(request(15, 0x42, &[15]), b"~220F4A42E0020FFCFE\r");
        assert_eq!(request(0, 0xB0, &[0, 1, 4, 0xFF, 0]), b"~22004AB0600A000104FF00FB6D\r");
    }

    #[test]
    fn encoded_frames_can_be_parsed() {
        for info in [&[][..], &[1], &[0; MAX_INFO]] {
            let frame = request(info);
            let line = frame.encode();
            assert_eq!(find(&line), Framing::Frame(line.len()));
            assert_eq!(Frame::parse(&line), Ok(frame));
        }
    }

    #[test]
    fn payload_beyond_the_length_field_is_cut() {
        let line = request(&[7; MAX_INFO + 1]).encode();
        assert_eq!(Frame::parse(&line), Ok(request(&[7; MAX_INFO])));
    }

    #[test]
    fn malformed_frames_are_rejected() {
        let mut odd = b"22014A42F0010".to_vec();
        let sum = checksum(&odd);
        odd.extend(hex(&sum.to_be_bytes()));
        let odd = [b"~", &odd[..], b"\r"].concat();
        for (frame, reason) in [
            (&b""[..], "no start or end mark"),
            (b"~", "no start or end mark"),
            (b"~\r", "it ends after 0 bytes"),
            (b"~22014A420000FD9\r", "it ends after 15 bytes"),
            (b"~2201x\r", "character 4 is no hex digit"),
            (b"~22014A42D00201FD28\r", "wrong checksum"),
            (b"~22014A42E00201FD29\r", "wrong checksum"),
            (&odd, "the frame promises 1 characters of payload and has 1"),
        ] {
            let error = Frame::parse(frame).unwrap_err().to_string();
            assert_eq!(error, reason, "{}", frame.escape_ascii());
        }
    }

    #[test]
    fn frame_begins_at_the_last_mark_before_its_end() {
        assert_eq!(find(b""), Framing::NeedMore);
        assert_eq!(find(b"~22"), Framing::NeedMore);
        assert_eq!(find(b"\x00U"), Framing::Junk(2));
        assert_eq!(find(b"\x00U~22"), Framing::Junk(2));
        assert_eq!(find(b"~2201~22\r"), Framing::Junk(5));
        assert_eq!(find(b"22\r~22\r"), Framing::Junk(3));
        assert_eq!(find(b"~22\r~22\r"), Framing::Frame(4));
    }
}
