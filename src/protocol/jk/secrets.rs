//! Record 03 shows three passcodes in clear. Whoever keeps what was said has to take them out.

use super::record::{NOISE, RECORD, RECORD_HEADER};

/// Where they stand: of the device, of the dealer, of the settings.
const PASSCODES: [std::ops::Range<usize>; 3] = [62..78, 97..102, 118..134];
/// The fifth byte of a record is its kind.
const DEVICE: u8 = 3;

/// Takes the passcodes out of what a board says, however it is cut. The checksum follows, so a
/// sound record stays sound and a damaged one stays damaged by as much as it was.
#[derive(Debug, Default, Clone)]
pub struct Blanker {
    /// How far the record reaches that is going by, or what may become one.
    position: usize,
    /// Sum of what was taken out of it.
    removed: u8,
}

impl Blanker {
    /// Blanks the next piece.
    pub fn blank(&mut self, piece: &mut [u8]) {
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
            *self = Blanker::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::jk::record::checksum;

    fn record(kind: u8) -> Vec<u8> {
        let mut bytes = [&RECORD_HEADER[..], &[kind, 9], &[b'7'; RECORD - 7]].concat();
        bytes.push(checksum(&bytes));
        bytes
    }

    fn blanked(bytes: &[u8], cut: usize) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        let mut blanker = Blanker::default();
        bytes.chunks_mut(cut).for_each(|piece| blanker.blank(piece));
        bytes
    }

    #[test]
    fn passcodes_are_taken_out_and_the_checksum_follows() {
        for cut in [1, 7, 20, 128, 300] {
            let sound = blanked(&record(3), cut);
            assert_eq!(checksum(&sound[..299]), sound[299]);
            let gone: Vec<usize> = (6..299).filter(|&at| sound[at] == 0).collect();
            assert_eq!(gone, PASSCODES.into_iter().flatten().collect::<Vec<_>>());

            let mut damaged = record(3);
            damaged[200] ^= 1;
            let damaged = blanked(&damaged, cut);
            assert_ne!(checksum(&damaged[..299]), damaged[299]);
            assert_eq!(damaged[62..78], [0; 16]);
        }
    }

    #[test]
    fn what_stands_around_it_changes_nothing() {
        let half = [&b"\x55\xAA\x55"[..], &record(2)[..200], &record(1)].concat();
        assert_eq!(blanked(&half, 64), half);
        let stream = [half.clone(), NOISE.to_vec(), record(3), record(3)].concat();
        let expected = [half, NOISE.to_vec(), blanked(&record(3), 300), blanked(&record(3), 300)];
        assert_eq!(blanked(&stream, 150), expected.concat());
    }

    #[test]
    fn noise_within_a_record_stays_and_moves_nothing() {
        let (head, tail) = (record(3)[..70].to_vec(), record(3)[70..].to_vec());
        let noisy = [head, NOISE.to_vec(), tail].concat();
        let mut left = blanked(&noisy, 304);
        assert_eq!(left.drain(70..74).collect::<Vec<_>>(), NOISE);
        assert_eq!(left, blanked(&record(3), 300));
    }
}
