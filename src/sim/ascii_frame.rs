//! The frame of Daren, Pylontech, PACE and Seplos packs: `~` version, address, CID1, service or
//! code, length, data, checksum, CR, all in hex.
//!
//! It is not the reader's encoder on purpose: a mistake in a shared one would hide itself.

use crate::model::units::{DeciCelsius, MilliampHours};
use crate::sim::Corruption;

/// What marks the frames of one brand.
#[derive(Debug, Clone, Copy)]
pub struct Marks {
    pub version: u8,
    pub cid1: u8,
}

/// Return codes of the document.
pub mod code {
    pub const OK: u8 = 0x00;
    pub const VERSION: u8 = 0x01;
    pub const CHECKSUM: u8 = 0x02;
    pub const LENGTH: u8 = 0x03;
    pub const SERVICE: u8 = 0x04;
    pub const FORMAT: u8 = 0x05;
    pub const DATA: u8 = 0x06;
}

/// The address in a body.
pub fn address(body: &[u8]) -> Option<u8> {
    byte(body, 1)
}

impl Marks {
    /// What stands between the last `~` and the CR at the end, if it has the characters of a frame
    /// of this brand.
    pub fn body(self, request: &[u8]) -> Option<&[u8]> {
        let request = request.strip_suffix(b"\r")?;
        let body = &request[request.iter().rposition(|byte| *byte == b'~')? + 1..];
        let ours = body.len() >= 16 && body.is_ascii() && byte(body, 2)? == self.cid1;
        ours.then_some(body)
    }

    /// The service and the data of a request, or the code with which a pack refuses it.
    pub fn checked(self, body: &[u8]) -> Result<(u8, Vec<u8>), u8> {
        let (signed, checksum) = body.split_at(body.len() - 4);
        let info = &signed[12..];
        let length = word(body, 4).ok_or(code::FORMAT)?;
        if length >> 12 != length_nibble(length & 0xFFF) {
            return Err(code::LENGTH);
        }
        if usize::from(length & 0xFFF) != info.len() || info.len() % 2 != 0 {
            return Err(code::FORMAT);
        }
        if word(checksum, 0) != Some(sum(signed)) {
            return Err(code::CHECKSUM);
        }
        if byte(body, 0) != Some(self.version) {
            return Err(code::VERSION);
        }
        let data: Option<Vec<u8>> = (0..info.len() / 2).map(|index| byte(info, index)).collect();
        Ok((byte(body, 3).ok_or(code::FORMAT)?, data.ok_or(code::FORMAT)?))
    }

    /// A whole frame.
    pub fn frame(self, address: u8, code: u8, info: &[u8]) -> Vec<u8> {
        let Marks { version, cid1 } = self;
        // No answer comes near the 2047 bytes that the field can count.
        let length = (info.len() * 2) as u16 & 0xFFF;
        let length = length_nibble(length) << 12 | length;
        let mut text = format!("{version:02X}{address:02X}{cid1:02X}{code:02X}{length:04X}");
        for byte in info {
            text += &format!("{byte:02X}");
        }
        format!("~{text}{:04X}\r", sum(text.as_bytes())).into_bytes()
    }

    /// The answer, wrong in one way.
    pub fn corrupt(self, corrupt: Corruption, answer: &[u8]) -> Vec<u8> {
        let body = self.body(answer).unwrap_or_default();
        let address = address(body).unwrap_or_default();
        match corrupt {
            Corruption::Refused(code) => self.frame(address, code, &[]),
            Corruption::Foreign => {
                let (_, info) = self.checked(body).unwrap_or_default();
                self.frame((address + 1) % 16, code::OK, &info)
            }
            Corruption::Checksum => {
                let mut answer = answer.to_vec();
                if let [.., last, _cr] = answer.as_mut_slice() {
                    *last = if *last == b'0' { b'1' } else { b'0' };
                }
                answer
            }
        }
    }
}

/// Where the first request in a buffer ends.
pub fn request_end(buffer: &[u8]) -> Option<usize> {
    buffer.iter().position(|byte| *byte == b'\r').map(|cr| cr + 1)
}

/// The byte that the `index`-th pair of hex digits stands for.
fn byte(text: &[u8], index: usize) -> Option<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let pair = text.get(2 * index..2 * index + 2)?;
    u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()
}

/// The number that four hex digits from the `index`-th pair on stand for.
fn word(text: &[u8], index: usize) -> Option<u16> {
    Some(u16::from_be_bytes([byte(text, index)?, byte(text, index + 1)?]))
}

fn length_nibble(length: u16) -> u16 {
    let nibbles = (length & 0xF) + (length >> 4 & 0xF) + (length >> 8 & 0xF);
    nibbles.wrapping_neg() & 0xF
}

fn sum(text: &[u8]) -> u16 {
    text.iter().fold(0_u16, |sum, byte| sum.wrapping_sub(u16::from(*byte)))
}

/// The data part of a frame while it is put together.
#[derive(Default)]
pub struct Info(Vec<u8>);

impl Info {
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub fn extend(&mut self, bytes: impl IntoIterator<Item = u8>) -> &mut Self {
        self.0.extend(bytes);
        self
    }

    /// Three bytes.
    pub fn wide(&mut self, value: i64) -> &mut Self {
        self.extend((value as u32).to_be_bytes().into_iter().skip(1))
    }

    /// Tenths of a kelvin.
    pub fn kelvin(&mut self, value: DeciCelsius) -> &mut Self {
        self.word(value.0 + 2731)
    }

    pub fn byte(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    /// The low 16 bits, as the pack has no more: counters wrap there, and signs survive.
    pub fn word(&mut self, value: i32) -> &mut Self {
        self.0.extend((value as u16).to_be_bytes());
        self
    }

    pub fn words(&mut self, count: usize, value: i32) -> &mut Self {
        for _ in 0..count {
            self.word(value);
        }
        self
    }

    pub fn temperature(&mut self, value: DeciCelsius) -> &mut Self {
        self.word(value.0)
    }

    pub fn capacity(&mut self, value: MilliampHours) -> &mut Self {
        self.word((value.0 / 10) as i32)
    }

    /// Exactly `width` characters, filled up or cut.
    pub fn text(&mut self, text: &str, width: usize, padding: u8) -> &mut Self {
        let padding = std::iter::repeat(padding);
        self.0.extend(text.bytes().chain(padding).take(width));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAREN: Marks = Marks { version: 0x22, cid1: 0x4A };

    #[test]
    fn worked_examples_of_the_vendor() {
        assert_eq!(DAREN.frame(1, 0x42, &[1]), b"~22014A42E00201FD28\r");
        assert_eq!(DAREN.frame(1, 0x4F, &[]), b"~22014A4F0000FD8C\r");
        assert_eq!(DAREN.frame(15, 0x42, &[15]), b"~220F4A42E0020FFCFE\r");
        assert_eq!(DAREN.frame(0, 0xB0, &[0, 1, 4, 0xFF, 0]), b"~22004AB0600A000104FF00FB6D\r");
        assert_eq!(length_nibble(18), 0xD);
        assert_eq!(length_nibble(0x88), 0);
        assert_eq!(sum(b"20014043E00200"), 0xFD3B);
    }

    #[test]
    fn each_damage_has_its_code() {
        let check = |text: &[u8]| DAREN.checked(DAREN.body(text).unwrap());
        assert_eq!(check(b"~22014A42E00201FD28\r"), Ok((0x42, vec![1])));
        assert_eq!(check(b"~22014A42E00201FD29\r"), Err(code::CHECKSUM));
        assert_eq!(check(b"~22014A42E00202FD28\r"), Err(code::CHECKSUM));
        assert_eq!(check(b"~22014A42D00201FD28\r"), Err(code::LENGTH));
        assert_eq!(check(b"~22014A42C00401FD28\r"), Err(code::FORMAT));
        assert_eq!(check(b"~20014A42E00201FD2A\r"), Err(code::VERSION));
        for silent in [
            "",
            "\r",
            "~\r",
            "~22014642E00201FD28\r",
            "22014A42E00201FD28\r",
            "~22014A42E00201FD28",
        ] {
            assert_eq!(DAREN.body(silent.as_bytes()), None, "{silent:?}");
        }
        assert_eq!(DAREN.body(b"\x00U~2201~22014A4F0000FD8C\r"), Some(&b"22014A4F0000FD8C"[..]));
    }

    #[test]
    fn spoiled_answers_are_wrong_in_one_way_only() {
        let good = DAREN.frame(15, code::OK, &[0xC8]);
        assert_eq!(DAREN.corrupt(Corruption::Foreign, &good), DAREN.frame(0, code::OK, &[0xC8]));
        assert_eq!(DAREN.corrupt(Corruption::Refused(6), &good), DAREN.frame(15, 6, &[]));
        let damaged = DAREN.corrupt(Corruption::Checksum, &good);
        assert_eq!(DAREN.checked(DAREN.body(&damaged).unwrap()), Err(code::CHECKSUM));
        assert_eq!(damaged.iter().zip(&good).filter(|(a, b)| a != b).count(), 1);
    }
}
