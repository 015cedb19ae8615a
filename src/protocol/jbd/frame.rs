//! The frame, the same on the wire and on Bluetooth:
//!
//! ```text
//! question  DD  A5 or 5A  register  length  data  checksum  77
//! answer    DD  register  status    length  data  checksum  77
//! ```
//!
//! The checksum is the two's complement of a sum of bytes, high byte first: of register, length
//! and data in a question, of status, length and data in an answer.

use crate::protocol::ProtocolError;
use crate::protocol::query::Framing;

const START: u8 = 0xDD;
const END: u8 = 0x77;
const READ: u8 = 0xA5;
const WRITE: u8 = 0x5A;

/// Bytes around the data.
const ENVELOPE: usize = 7;

/// Asks for the content of a register.
pub(super) fn read(register: u8) -> Vec<u8> {
    question(READ, register, &[])
}

/// Sets a register of one word.
pub(super) fn write(register: u8, value: u16) -> Vec<u8> {
    question(WRITE, register, &value.to_be_bytes())
}

fn question(what: u8, register: u8, data: &[u8]) -> Vec<u8> {
    // No question of ours has more than two bytes of data.
    let length = u8::try_from(data.len()).unwrap_or(u8::MAX);
    let mut frame = vec![START, what, register, length];
    frame.extend_from_slice(data);
    frame.extend_from_slice(&checksum(&frame[2..]).to_be_bytes());
    frame.push(END);
    frame
}

/// The checksum over these bytes.
pub fn checksum(covered: &[u8]) -> u16 {
    covered.iter().fold(0_u16, |sum, &byte| sum.wrapping_add(byte.into())).wrapping_neg()
}

/// Where the first answer that is about this register ends.
///
/// Only the length tells where a frame ends, as data may hold the end byte. A wrong length, or a
/// start byte among noise, therefore hides what follows: a frame that turns out damaged is left by
/// one byte, and one that does not come to its end gives way to a whole and sound one behind it.
pub(super) fn find(register: u8, buffer: &[u8]) -> Framing {
    match buffer.iter().position(|&byte| byte == START) {
        None => return Framing::Junk(buffer.len()),
        Some(0) => {}
        Some(count) => return Framing::Junk(count),
    }
    if !may_begin(register, buffer) {
        return Framing::Junk(1);
    }
    match whole(buffer) {
        Some(frame) if frame.damage().is_none() => Framing::Frame(frame.0.len()),
        Some(frame) => Framing::Damaged(frame.0.len()),
        None => {
            let sound = |from: &usize| {
                let rest = &buffer[*from..];
                may_begin(register, rest) && whole(rest).is_some_and(|it| it.damage().is_none())
            };
            (1..buffer.len()).find(sound).map_or(Framing::NeedMore, Framing::Junk)
        }
    }
}

/// Whether an answer of this register can begin so. Answers that say no carry no data. The echo of
/// a question passes every other test of an answer: it reads as one of register A5.
fn may_begin(register: u8, bytes: &[u8]) -> bool {
    match *bytes {
        [START] => true,
        [START, about] | [START, about, _] => about == register,
        [START, about, status, length, ..] => about == register && (status == 0 || length == 0),
        _ => false,
    }
}

fn whole(bytes: &[u8]) -> Option<Frame<'_>> {
    bytes.get(..usize::from(*bytes.get(3)?) + ENVELOPE).map(Frame)
}

/// As many bytes as the length field of an answer promises.
#[derive(Debug, Clone, Copy)]
struct Frame<'a>(&'a [u8]);

/// What is wrong with an answer as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    Checksum { expected: u16, got: u16 },
    End(u8),
}

impl<'a> Frame<'a> {
    /// From the status to the end of the data, and what comes behind it.
    fn parts(self) -> (&'a [u8], &'a [u8]) {
        self.0[2..].split_at(self.0.len() - ENVELOPE + 2)
    }

    fn damage(self) -> Option<Damage> {
        let (covered, tail) = self.parts();
        let [high, low, end] = *tail else { return None };
        let (expected, got) = (checksum(covered), u16::from_be_bytes([high, low]));
        if expected != got {
            return Some(Damage::Checksum { expected, got });
        }
        (end != END).then_some(Damage::End(end))
    }
}

/// The data of an answer that says yes.
pub(super) fn data<'a>(frame: &'a [u8], query: &str) -> Result<&'a [u8], ProtocolError> {
    let query = || query.to_owned();
    let Some(frame) = whole(frame) else {
        return Err(ProtocolError::BadFrame { query: query(), reason: "it is no frame".into() });
    };
    match frame.damage() {
        Some(Damage::Checksum { expected, got }) => {
            let (expected, got) = (expected.into(), got.into());
            return Err(ProtocolError::BadChecksum { query: query(), expected, got });
        }
        Some(Damage::End(end)) => {
            let reason = format!("it ends with {end:02X} instead of {END:02X}");
            return Err(ProtocolError::BadFrame { query: query(), reason });
        }
        None => {}
    }
    match frame.parts().0 {
        [0, _length, data @ ..] => Ok(data),
        [code, ..] => Err(ProtocolError::Refused {
            query: query(),
            code: (*code).into(),
            reason: refusal(*code),
        }),
        [] => Err(ProtocolError::BadFrame { query: query(), reason: "it is empty".into() }),
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

    const CELLS: &[u8] =
        &[0xDD, 4, 0, 8, 0x0F, 0x45, 0x0F, 0x3D, 0x0F, 0x37, 0x0F, 0x3D, 0xFE, 0xC6, 0x77];

    fn after(front: &[u8], rest: &[u8]) -> Framing {
        find(4, &[front, rest].concat())
    }

    #[test]
    fn worked_examples_of_the_vendor() {
        assert_eq!(read(3), [0xDD, 0xA5, 3, 0, 0xFF, 0xFD, 0x77]);
        assert_eq!(read(0xAA), [0xDD, 0xA5, 0xAA, 0, 0xFF, 0x56, 0x77]);
        assert_eq!(write(0xE1, 2), [0xDD, 0x5A, 0xE1, 2, 0, 2, 0xFF, 0x1B, 0x77]);
        assert_eq!(checksum(&[0, 0]), 0, "a sum of nothing is 0000");
        assert_eq!(data(&[0xDD, 0xE1, 0, 0, 0, 0, 0x77], "it"), Ok(&[][..]));
    }

    #[test]
    fn the_length_decides_where_a_frame_ends() {
        assert_eq!(find(4, CELLS), Framing::Frame(15));
        for length in 1..15 {
            assert_eq!(find(4, &CELLS[..length]), Framing::NeedMore);
        }
        assert_eq!(find(4, &[]), Framing::Junk(0));
        assert_eq!(after(&[0, 0x77], CELLS), Framing::Junk(2));
    }

    #[test]
    fn other_registers_and_echoes_are_passed_over() {
        assert_eq!(find(3, CELLS), Framing::Junk(1));
        assert_eq!(find(3, &read(3)), Framing::Junk(1));
        assert_eq!(find(3, &[0xDD]), Framing::NeedMore, "it may become one");
    }

    #[test]
    fn a_damaged_frame_is_left_by_one_byte_and_keeps_its_error() {
        let mut damaged = CELLS.to_vec();
        damaged[5] ^= 1;
        assert_eq!(find(4, &damaged), Framing::Damaged(15));
        assert!(matches!(
            data(&damaged, "it"),
            Err(ProtocolError::BadChecksum { expected: 0xFEC7, got: 0xFEC6, .. })
        ));
        let mut open = CELLS.to_vec();
        open[14] = 0x76;
        assert_eq!(find(4, &open), Framing::Damaged(15));
        let error = data(&open, "it").unwrap_err().to_string();
        assert!(error.ends_with("it ends with 76 instead of 77"), "{error}");
    }

    #[test]
    fn a_sound_frame_behind_one_without_end_is_found() {
        assert_eq!(after(&[0xDD, 4, 0, 0xFF], CELLS), Framing::Junk(4));
        assert_eq!(after(&[0xDD, 4, 0, 0xFF], &CELLS[..14]), Framing::NeedMore);
        assert_eq!(after(&[0xDD, 4, 0x80, 0xFF], CELLS), Framing::Junk(1), "a no has no data");
    }

    #[test]
    fn a_no_has_words() {
        let no = [0xDD, 4, 0x80, 0, 0xFF, 0x80, 0x77];
        assert_eq!(find(4, &no), Framing::Frame(7));
        let error = data(&no, "the cells").unwrap_err();
        assert_eq!(error.to_string(), "the battery refused the cells: unknown command (code 80)");
        assert_eq!((refusal(0x81), refusal(0x7F)), ("not allowed", "unknown"));
    }
}
