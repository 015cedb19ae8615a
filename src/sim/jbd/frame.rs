//! The frame: DD, what, register, length, data, checksum, 77; an answer has the register first
//! and then a code.

use std::ops::Range;

use crate::sim::Corruption;

/// Codes of the vendor's document.
pub mod code {
    pub const OK: u8 = 0x00;
    pub const UNKNOWN: u8 = 0x80;
    pub const NOT_ALLOWED: u8 = 0x81;
    pub const CHECKSUM: u8 = 0x82;
}

/// What somebody asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// It is an order.
    pub writes: bool,
    /// About what.
    pub register: u8,
    /// What is to be written.
    pub data: Vec<u8>,
    /// The checksum fits.
    pub sound: bool,
}

/// Where the first request lies, sound or not.
pub fn find(buffer: &[u8]) -> Option<Range<usize>> {
    (0..buffer.len()).find_map(|start| match buffer[start..] {
        [0xDD, 0xA5 | 0x5A, _, length, ref rest @ ..] => {
            let tail = usize::from(length) + 2;
            (rest.get(tail) == Some(&0x77)).then(|| start..start + 5 + tail)
        }
        _ => None,
    })
}

/// Takes a request apart that was found.
pub fn parse(request: &[u8]) -> Request {
    let tail = request.len() - 3;
    Request {
        writes: request[1] == 0x5A,
        register: request[2],
        data: request[4..tail].to_vec(),
        sound: sum(&request[2..tail]).to_be_bytes() == request[tail..tail + 2],
    }
}

/// A whole answer.
pub fn answer(register: u8, code: u8, data: &[u8]) -> Vec<u8> {
    // No register holds more than 110 bytes.
    let covered = [&[code, data.len() as u8], data].concat();
    [&[0xDD, register], &covered[..], &sum(&covered).to_be_bytes(), &[0x77]].concat()
}

fn sum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes.iter().map(|byte| u32::from(*byte)).sum();
    (0x1_0000 - sum) as u16
}

/// There are no addresses: somebody else's answer is one about another register.
pub fn corrupt(corrupt: Corruption, answer: &[u8]) -> Vec<u8> {
    let mut answer = answer.to_vec();
    match (corrupt, answer.as_mut_slice()) {
        (Corruption::Refused(code), [0xDD, register, ..]) => {
            return self::answer(*register, code, &[]);
        }
        (Corruption::Foreign, [0xDD, register, ..]) => *register ^= 0x08,
        (Corruption::Checksum, [0xDD, .., low, 0x77] | [0xFF, .., low]) => *low ^= 1,
        _ => {}
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_examples_of_the_vendor() {
        let cells = [0x0F, 0x45, 0x0F, 0x3D, 0x0F, 0x37, 0x0F, 0x3D];
        assert_eq!(answer(4, code::OK, &cells)[12..], [0xFE, 0xC6, 0x77]);
        assert_eq!(answer(0xE1, code::OK, &[]), [0xDD, 0xE1, 0, 0, 0, 0, 0x77]);
        let order = [0xDD, 0x5A, 0xE1, 2, 0, 2, 0xFF, 0x1B, 0x77];
        let expected = Request { writes: true, register: 0xE1, data: vec![0, 2], sound: true };
        assert_eq!(parse(&order), expected);
    }

    #[test]
    fn spoiled_answers_are_wrong_in_one_way_only() {
        let good = answer(4, code::OK, &[1, 2]);
        assert_eq!(corrupt(Corruption::Refused(0x80), &good), answer(4, 0x80, &[]));
        assert_eq!(corrupt(Corruption::Foreign, &good), answer(0x0C, code::OK, &[1, 2]));
        let damaged = corrupt(Corruption::Checksum, &good);
        assert_eq!(damaged.iter().zip(&good).filter(|(a, b)| a != b).count(), 1);
    }
}
