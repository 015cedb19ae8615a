//! Blocks of LZ4: unpacks what `build.rs` has packed, and packs what waits in the history file.

/// Shortest repetition that the format has.
pub const MIN_MATCH: usize = 4;
/// Places that are remembered while packing.
const PLACES: usize = 1 << 12;

/// Packs bytes into a block: fast rather than small.
pub fn pack(bytes: &[u8]) -> Vec<u8> {
    let (mut packed, mut places) = (Vec::new(), vec![usize::MAX; PLACES]);
    let (mut at, mut literals) = (0, 0);
    while let Some(start) = bytes[at..].first_chunk::<MIN_MATCH>() {
        // The multiplier of Knuth: the highest bits depend on all bytes.
        let hash = u32::from_le_bytes(*start).wrapping_mul(2_654_435_761) as usize >> 20;
        let before = std::mem::replace(&mut places[hash % PLACES], at);
        let distance = at.checked_sub(before).and_then(|distance| u16::try_from(distance).ok());
        let length = distance.map_or(0, |_| common(&bytes[before..], &bytes[at..]));
        if length < MIN_MATCH {
            at += 1;
            continue;
        }
        append(&mut packed, &bytes[literals..at], distance.map(|distance| (length, distance)));
        at += length;
        literals = at;
    }
    append(&mut packed, &bytes[literals..], None);
    packed
}

/// The number of equal bytes at the start of both.
pub fn common(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

/// Adds literals, and a repetition with its length and distance, which only the end of a block lacks.
pub fn append(packed: &mut Vec<u8>, literals: &[u8], repetition: Option<(usize, u16)>) {
    let (length, distance) = repetition.unwrap_or((MIN_MATCH, 0));
    let (length, count) = (length - MIN_MATCH, literals.len());
    packed.push((count.min(15) << 4 | length.min(15)) as u8);
    append_rest(packed, count);
    packed.extend(literals);
    if repetition.is_some() {
        packed.extend(distance.to_le_bytes());
        append_rest(packed, length);
    }
}

/// The part of a number that four bits cannot hold.
fn append_rest(packed: &mut Vec<u8>, number: usize) {
    let Some(rest) = number.checked_sub(15) else { return };
    packed.extend(std::iter::repeat_n(255, rest / 255));
    packed.push((rest % 255) as u8);
}

/// Unpacks a block of LZ4, as far as this length.
pub fn unpack(mut packed: &[u8], length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < length
        && let Some((token, rest)) = packed.split_first()
    {
        packed = rest;
        let count = number(token >> 4, &mut packed);
        let (literals, rest) = packed.split_at(count.min(packed.len()));
        bytes.extend(literals);
        let Some((distance, rest)) = rest.split_first_chunk() else { break };
        packed = rest;
        let count = number(token & 15, &mut packed) + 4;
        let distance = usize::from(u16::from_le_bytes(*distance));
        let Some(start) = bytes.len().checked_sub(distance) else { break };
        if count <= distance {
            bytes.extend_from_within(start..start + count);
            continue;
        }
        // What is repeated reaches into its own copy.
        for at in start..start + count {
            bytes.extend(bytes.get(at).copied());
        }
    }
    bytes
}

/// A number of four bits, which goes on in further bytes if all of them are set.
fn number(nibble: u8, packed: &mut &[u8]) -> usize {
    let (mut number, mut is_open) = (usize::from(nibble), nibble == 15);
    while let (true, Some((byte, rest))) = (is_open, packed.split_first()) {
        (number, is_open, *packed) = (number + usize::from(*byte), *byte == 255, rest);
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_literals_and_repetitions_are_unpacked() {
        // 16 literals, then 300 bytes from the distance of one byte.
        let packed = [&[0xFF, 1][..], b"abcdefghijklmnop", &[1, 0, 255, 26, 0x10, b'x']].concat();
        let expected = format!("abcdefghijklmno{}x", "p".repeat(301));
        assert_eq!(String::from_utf8(unpack(&packed, 317)).unwrap(), expected);
    }

    #[test]
    fn packed_bytes_are_unpacked() {
        let readings = (0..400).map(|n| format!("battery,id=a soc={}.5,power={n} {n}\n", n % 7));
        let readings = readings.collect::<String>();
        let noise = (0..9000_u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect::<Vec<_>>();
        let far = [&noise[..], &vec![0; 70_000], &noise].concat();
        for bytes in [&b""[..], b"abc", &[7; 1000], readings.as_bytes(), &far] {
            assert_eq!(unpack(&pack(bytes), bytes.len()), bytes);
        }
        assert!(pack(readings.as_bytes()).len() * 2 < readings.len());
    }

    #[test]
    fn damaged_blocks_end_early() {
        for packed in [&b"\xFF\xFF"[..], b"\x10a\x05\x00", b"\x40ab", b"\x10a\x01"] {
            assert!(unpack(packed, usize::MAX).len() < 20);
        }
    }
}
