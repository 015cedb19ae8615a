//! Record 03 contains three passcodes in plain text, and "4E 57" replies contain one. They are removed
//! before traffic is recorded.
//!
//! Both redactors work on pieces of any size. They adjust the checksum, so valid frames stay valid and
//! damaged frames stay damaged.

use super::record::{NOISE, RECORD, RECORD_HEADER};
use super::tags;
use super::ttl::{HEAD, HEADER, LONGEST, TAIL};

/// Positions of the passcodes of the device, the dealer and the settings.
const PASSCODES: [std::ops::Range<usize>; 3] = [62..78, 97..102, 118..134];
/// The fifth byte of a record is its kind.
const DEVICE: u8 = 3;

/// Removes the passcodes from records.
#[derive(Debug, Default, Clone)]
pub struct Redactor {
    /// Bytes of the current record, or of its beginning, seen so far.
    position: usize,
    /// Sum of the removed bytes.
    removed: u8,
}

impl Redactor {
    pub fn redact(&mut self, piece: &mut [u8]) {
        let mut at = 0;
        while let Some(rest) = piece.get_mut(at..).filter(|rest| !rest.is_empty()) {
            if rest.starts_with(NOISE) {
                at += NOISE.len();
            } else if let Some(byte) = rest.first_mut() {
                self.pass(byte);
                at += 1;
            }
        }
    }

    fn pass(&mut self, byte: &mut u8) {
        let header = RECORD_HEADER.get(self.position).or((self.position == 4).then_some(&DEVICE));
        if header.is_some_and(|expected| expected != byte) {
            self.position = 0;
            if *byte != RECORD_HEADER[0] {
                return;
            }
        }
        if PASSCODES.iter().any(|field| field.contains(&self.position)) {
            self.removed = self.removed.wrapping_add(*byte);
            *byte = 0;
        }
        self.position += 1;
        if self.position == RECORD {
            *byte = byte.wrapping_sub(self.removed);
            *self = Redactor::default();
        }
    }
}

/// Removes the password from "4E 57" replies.
#[derive(Debug, Default, Clone)]
pub struct TtlRedactor {
    /// Bytes of the current reply, or of its beginning, seen so far.
    position: usize,
    /// Length of the current reply.
    end: usize,
    /// The current tag and the bytes left of its value. The value of cells starts with its length.
    tag: Option<u8>,
    left: usize,
    /// Sum of all bytes and of the removed ones.
    sum: u32,
    removed: u32,
}

impl TtlRedactor {
    const PASSWORD: u8 = 0xB2;
    /// Its value starts with its length.
    const CELLS: u8 = 0x79;

    pub fn redact(&mut self, piece: &mut [u8]) {
        piece.iter_mut().for_each(|byte| self.pass(byte));
    }

    fn pass(&mut self, byte: &mut u8) {
        let original = *byte;
        if HEADER.get(self.position).is_some_and(|expected| *expected != original) {
            *self = TtlRedactor::default();
            if original != HEADER[0] {
                return;
            }
        }
        match self.position {
            2 => self.end = usize::from(original) << 8,
            3 => {
                self.end += usize::from(original) + HEADER.len();
                if !(HEAD + TAIL..=LONGEST).contains(&self.end) {
                    *self = TtlRedactor::default();
                    return;
                }
            }
            at if at >= HEAD && at + TAIL < self.end => self.pass_data(byte),
            _ => {}
        }
        // The sum is in the last two of its four bytes, the end mark before them.
        let shown = self.sum & 0xFFFF;
        let without = shown.wrapping_sub(self.removed) & 0xFFFF;
        let difference = match self.end.saturating_sub(self.position) {
            2 => (without >> 8).wrapping_sub(shown >> 8),
            1 => without.wrapping_sub(shown),
            _ => 0,
        };
        if self.position + 4 < self.end || self.position < HEAD {
            self.sum += u32::from(original);
        }
        // Each of the two bytes of the sum is adjusted separately, so only the low byte counts.
        *byte = byte.wrapping_add(difference.to_le_bytes()[0]);
        self.position += 1;
        if self.position > 3 && self.position >= self.end {
            *self = TtlRedactor::default();
        }
    }

    fn pass_data(&mut self, byte: &mut u8) {
        match self.tag {
            // The length of an unknown tag is unknown, so everything behind it is removed.
            Some(tag) if self.left == usize::MAX => {
                if tag == Self::CELLS {
                    self.left = usize::from(*byte);
                    self.tag = Some(tag).filter(|_| self.left > 0);
                } else {
                    self.remove(byte);
                }
            }
            Some(tag) => {
                if tag == Self::PASSWORD {
                    self.remove(byte);
                }
                self.left -= 1;
                self.tag = Some(tag).filter(|_| self.left > 0);
            }
            None => {
                self.tag = Some(*byte);
                self.left = tags::length(*byte).unwrap_or(usize::MAX);
            }
        }
    }

    fn remove(&mut self, byte: &mut u8) {
        self.removed += u32::from(*byte);
        *byte = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::jk::record::checksum;

    /// An answer with these tags.
    fn answer(data: &[u8]) -> Vec<u8> {
        let mut frame = HEADER.to_vec();
        let length = u16::try_from(HEAD + data.len() + TAIL - HEADER.len()).unwrap();
        frame.extend(length.to_be_bytes());
        frame.extend([0, 0, 0, 0, 6, 0, 1]);
        frame.extend(data);
        frame.extend([0, 0, 0, 0, 0x68]);
        let sum: u32 = frame.iter().map(|&byte| u32::from(byte)).sum();
        frame.extend((sum & 0xFFFF).to_be_bytes());
        frame
    }

    fn tags(password: &[u8; 10]) -> Vec<u8> {
        let cells = [0x79, 3, 1, 0xB2, 0xB2, 0x85, 0xB2, 0x83, 0xB2, 0x79];
        [&cells[..], &[0xB2], password, &[0xC0, 1]].concat()
    }

    #[test]
    fn password_is_removed_and_sum_adjusted() {
        // Sums that lose their high byte and such that do not.
        for password in [*b"1234567890", [0xFF; 10], [1, 0, 0, 0, 0, 0, 0, 0, 0, 0], [0; 10]] {
            let reply = [&b"\x4E\x4E"[..], &answer(&tags(&password)), b"\0\x57"].concat();
            let expected = [&b"\x4E\x4E"[..], &answer(&tags(&[0; 10])), b"\0\x57"].concat();
            for cut in [1, 3, 10, 64] {
                let mut bytes = [&reply[..], &reply].concat();
                let mut redactor = TtlRedactor::default();
                bytes.chunks_mut(cut).for_each(|piece| redactor.redact(piece));
                assert_eq!(bytes, [&expected[..], &expected].concat(), "{password:?}, {cut}");
            }
        }
    }

    #[test]
    fn everything_behind_an_unknown_tag_is_removed() {
        let mut bytes = answer(&[0x85, 50, 0x77, 0xB2, b'1', b'2']);
        TtlRedactor::default().redact(&mut bytes);
        assert_eq!(bytes, answer(&[0x85, 50, 0x77, 0, 0, 0]));
    }

    fn record(kind: u8) -> Vec<u8> {
        let mut bytes = [&RECORD_HEADER[..], &[kind, 9], &[b'7'; RECORD - 7]].concat();
        bytes.push(checksum(&bytes));
        bytes
    }

    fn redacted(bytes: &[u8], cut: usize) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        let mut redactor = Redactor::default();
        bytes.chunks_mut(cut).for_each(|piece| redactor.redact(piece));
        bytes
    }

    #[test]
    fn passcodes_are_removed_and_checksum_adjusted() {
        for cut in [1, 7, 20, 128, 300] {
            let sound = redacted(&record(3), cut);
            assert_eq!(checksum(&sound[..299]), sound[299]);
            let gone: Vec<usize> = (6..299).filter(|&at| sound[at] == 0).collect();
            assert_eq!(gone, PASSCODES.into_iter().flatten().collect::<Vec<_>>());

            let mut damaged = record(3);
            damaged[200] ^= 1;
            let damaged = redacted(&damaged, cut);
            assert_ne!(checksum(&damaged[..299]), damaged[299]);
            assert_eq!(damaged[62..78], [0; 16]);
        }
    }

    #[test]
    fn surrounding_bytes_have_no_effect() {
        let half = [&b"\x55\xAA\x55"[..], &record(2)[..200], &record(1)].concat();
        assert_eq!(redacted(&half, 64), half);
        let stream = [half.clone(), NOISE.to_vec(), record(3), record(3)].concat();
        let expected = [half, NOISE.to_vec(), redacted(&record(3), 300), redacted(&record(3), 300)];
        assert_eq!(redacted(&stream, 150), expected.concat());
    }

    #[test]
    fn noise_within_a_record_is_kept() {
        let (head, tail) = (record(3)[..70].to_vec(), record(3)[70..].to_vec());
        let noisy = [head, NOISE.to_vec(), tail].concat();
        let mut left = redacted(&noisy, 304);
        assert_eq!(left.drain(70..74).collect::<Vec<_>>(), NOISE);
        assert_eq!(left, redacted(&record(3), 300));
    }
}
