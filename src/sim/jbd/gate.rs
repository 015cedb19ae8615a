//! What a Bluetooth module wants before it lets anybody talk to the board: FF AA, command, length,
//! data, and the low byte of the sum over the last three.

use std::ops::Range;

/// What stands between the reader and the board.
#[derive(Debug)]
pub enum Gate {
    /// Nothing.
    Open,
    /// The link must be paired first.
    Unpaired,
    /// The handshake.
    Guarded(Guard),
}

impl Gate {
    pub fn guarded(mac: [u8; 6], key: &str, password: Option<&str>) -> Self {
        let bytes = |text: &str| text.as_bytes().to_vec();
        Gate::Guarded(Guard { mac, key: bytes(key), password: password.map(bytes), open: false })
    }

    pub fn connected(&mut self) {
        if let Gate::Guarded(guard) = self {
            guard.open = false;
        }
    }
}

/// The random byte of a recorded handshake.
const RANDOM: u8 = 0x62;

/// A module with a key and perhaps a password.
#[derive(Debug)]
pub struct Guard {
    mac: [u8; 6],
    key: Vec<u8>,
    password: Option<Vec<u8>>,
    open: bool,
}

/// Where the first word of the handshake lies.
pub fn find(buffer: &[u8]) -> Option<Range<usize>> {
    (0..buffer.len()).find_map(|start| match buffer[start..] {
        [0xFF, 0xAA, 0x10..=0x1F, length, ref rest @ ..] => {
            let length = usize::from(length);
            (rest.len() > length).then_some(start..start + 5 + length)
        }
        _ => None,
    })
}

impl Guard {
    pub fn is_open(&self) -> bool {
        self.open
    }

    pub fn answer(&mut self, word: &[u8]) -> Option<Vec<u8>> {
        let (check, covered) = word[2..].split_last()?;
        if *check != sum(covered) {
            return None;
        }
        let data = &covered[2..];
        let says = match (covered[0], &self.password) {
            (0x15, _) if data != self.key => 1,
            (0x15, None) => {
                self.open = true;
                2
            }
            (0x15, Some(_)) => 0,
            (0x17, _) => RANDOM,
            (0x18, Some(password)) => {
                let expected = password.iter().zip(self.mac);
                let expected = expected.map(|(secret, mac)| (mac ^ secret).wrapping_add(RANDOM));
                let right = expected.eq(data.iter().copied());
                self.open |= right;
                u8::from(!right)
            }
            _ => return None,
        };
        let said = [covered[0], 1, says];
        Some([&[0xFF, 0xAA], &said[..], &[sum(&said)]].concat())
    }
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_handshake_opens_it() {
        let Gate::Guarded(mut guard) =
            Gate::guarded([0xA4, 0xC1, 0x37, 0x04, 0x2D, 0xBE], "000000", Some("000000"))
        else {
            panic!("it is guarded");
        };
        let key = [0xFF, 0xAA, 0x15, 6, 0x30, 0x30, 0x30, 0x30, 0x30, 0x30, 0x3B];
        assert_eq!(guard.answer(&key).unwrap(), [0xFF, 0xAA, 0x15, 1, 0, 0x16]);
        let random = guard.answer(&[0xFF, 0xAA, 0x17, 0, 0x17]).unwrap();
        assert_eq!(random, [0xFF, 0xAA, 0x17, 1, 0x62, 0x7A]);
        assert!(!guard.is_open());
        let password = [0xFF, 0xAA, 0x18, 6, 0xF6, 0x53, 0x69, 0x96, 0x7F, 0xF0, 0xD5];
        let wrong = [0xFF, 0xAA, 0x18, 6, 0xF6, 0x53, 0x69, 0x96, 0x7F, 0xF1, 0xD6];
        assert_eq!(guard.answer(&wrong).unwrap(), [0xFF, 0xAA, 0x18, 1, 1, 0x1A]);
        assert_eq!(guard.answer(&password).unwrap(), [0xFF, 0xAA, 0x18, 1, 0, 0x19]);
        assert!(guard.is_open());
        assert_eq!(guard.answer(&[0xFF, 0xAA, 0x17, 0, 0x18]), None, "damaged");
        assert_eq!(find(&[&[0, 0xFF, 0xAA][..], &key].concat()), Some(3..14));
    }
}
