//! The frame: `~` version, address, CID1, service or code, length, data, checksum, CR, all in hex.

use crate::sim::Spoil;

const VERSION: u8 = 0x22;
const CID1: u8 = 0x4A;

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

/// What stands between the last `~` and the CR at the end, if it has the characters of a frame of
/// this protocol.
pub fn body(request: &[u8]) -> Option<&[u8]> {
    let request = request.strip_suffix(b"\r")?;
    let body = &request[request.iter().rposition(|byte| *byte == b'~')? + 1..];
    let ours = body.len() >= 16 && body.is_ascii() && byte(body, 2)? == CID1;
    ours.then_some(body)
}

/// The address in a body.
pub fn address(body: &[u8]) -> Option<u8> {
    byte(body, 1)
}

/// The service and the data of a request, or the code with which a pack refuses it.
pub fn checked(body: &[u8]) -> Result<(u8, Vec<u8>), u8> {
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
    if byte(body, 0) != Some(VERSION) {
        return Err(code::VERSION);
    }
    let data: Option<Vec<u8>> = (0..info.len() / 2).map(|index| byte(info, index)).collect();
    Ok((byte(body, 3).ok_or(code::FORMAT)?, data.ok_or(code::FORMAT)?))
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

/// A whole frame.
pub fn frame(address: u8, code: u8, info: &[u8]) -> Vec<u8> {
    // No answer comes near the 2047 bytes that the field can count.
    let length = (info.len() * 2) as u16 & 0xFFF;
    let length = length_nibble(length) << 12 | length;
    let mut text = format!("{VERSION:02X}{address:02X}{CID1:02X}{code:02X}{length:04X}");
    for byte in info {
        text += &format!("{byte:02X}");
    }
    format!("~{text}{:04X}\r", sum(text.as_bytes())).into_bytes()
}

fn length_nibble(length: u16) -> u16 {
    let nibbles = (length & 0xF) + (length >> 4 & 0xF) + (length >> 8 & 0xF);
    nibbles.wrapping_neg() & 0xF
}

fn sum(text: &[u8]) -> u16 {
    text.iter().fold(0_u16, |sum, byte| sum.wrapping_sub(u16::from(*byte)))
}

pub fn spoil(spoil: Spoil, answer: &[u8]) -> Vec<u8> {
    let body = body(answer).unwrap_or_default();
    let address = address(body).unwrap_or_default();
    match spoil {
        Spoil::Refused(code) => frame(address, code, &[]),
        Spoil::Foreign => {
            let (_, info) = checked(body).unwrap_or_default();
            frame((address + 1) % 16, code::OK, &info)
        }
        Spoil::Checksum => {
            let mut answer = answer.to_vec();
            if let [.., last, _cr] = answer.as_mut_slice() {
                *last = if *last == b'0' { b'1' } else { b'0' };
            }
            answer
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_examples_of_the_vendor() {
        assert_eq!(frame(1, 0x42, &[1]), b"~22014A42E00201FD28\r");
        assert_eq!(frame(1, 0x4F, &[]), b"~22014A4F0000FD8C\r");
        assert_eq!(frame(15, 0x42, &[15]), b"~220F4A42E0020FFCFE\r");
        assert_eq!(frame(0, 0xB0, &[0, 1, 4, 0xFF, 0]), b"~22004AB0600A000104FF00FB6D\r");
        assert_eq!(length_nibble(18), 0xD);
        assert_eq!(length_nibble(0x88), 0);
        assert_eq!(sum(b"20014043E00200"), 0xFD3B);
    }

    #[test]
    fn each_damage_has_its_code() {
        let check = |text: &[u8]| checked(body(text).unwrap());
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
            assert_eq!(body(silent.as_bytes()), None, "{silent:?}");
        }
        assert_eq!(body(b"\x00U~2201~22014A4F0000FD8C\r"), Some(&b"22014A4F0000FD8C"[..]));
    }

    #[test]
    fn spoiled_answers_are_wrong_in_one_way_only() {
        let good = frame(15, code::OK, &[0xC8]);
        assert_eq!(spoil(Spoil::Foreign, &good), frame(0, code::OK, &[0xC8]));
        assert_eq!(spoil(Spoil::Refused(6), &good), frame(15, 6, &[]));
        let damaged = spoil(Spoil::Checksum, &good);
        assert_eq!(checked(body(&damaged).unwrap()), Err(code::CHECKSUM));
        assert_eq!(damaged.iter().zip(&good).filter(|(a, b)| a != b).count(), 1);
    }
}
