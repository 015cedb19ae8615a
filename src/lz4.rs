//! Unpacks what `build.rs` has packed.

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
    fn damaged_blocks_end_early() {
        for packed in [&b"\xFF\xFF"[..], b"\x10a\x05\x00", b"\x40ab", b"\x10a\x01"] {
            assert!(unpack(packed, usize::MAX).len() < 20);
        }
    }
}
