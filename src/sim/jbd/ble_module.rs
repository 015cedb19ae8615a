//! The Bluetooth module in front of a board, the counterpart of `protocol::jbd::handshake`.

use std::ops::Range;

use crate::protocol::jbd::handshake::{encode, scramble};

/// What a module requires before it passes anything on to the board.
#[derive(Debug)]
pub enum BleModule {
    Nothing,
    /// It repeats every request until the connection is paired.
    Pairing,
    Handshake(Handshake),
}

/// The random byte of a recorded handshake.
const RANDOM: u8 = 0x62;

/// The handshake with a key and possibly a password.
#[derive(Debug)]
pub struct Handshake {
    pub mac: [u8; 6],
    pub key: Vec<u8>,
    pub password: Option<Vec<u8>>,
    pub done: bool,
}

/// Where the first request of a handshake is.
pub fn find(buffer: &[u8]) -> Option<Range<usize>> {
    (0..buffer.len()).find_map(|start| match buffer[start..] {
        [0xFF, 0xAA, 0x10..=0x1F, length, ref rest @ ..] => {
            let length = usize::from(length);
            (rest.len() > length).then_some(start..start + 5 + length)
        }
        _ => None,
    })
}

impl Handshake {
    pub fn reply(&mut self, request: &[u8]) -> Option<Vec<u8>> {
        let (command, data) = (request[2], &request[4..request.len() - 1]);
        if encode(command, data) != request {
            return None;
        }
        let reply = match (command, &self.password) {
            (0x15, _) if data != self.key => 1,
            (0x15, None) => {
                self.done = true;
                2
            }
            (0x15, Some(_)) => 0,
            (0x17, _) => RANDOM,
            (0x18, Some(password)) => {
                let password = password[..].try_into().ok()?;
                let accepted = data == scramble(password, self.mac, RANDOM);
                self.done |= accepted;
                u8::from(!accepted)
            }
            _ => return None,
        };
        Some(encode(command, &[reply]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_handshake_is_accepted() {
        let mut handshake = Handshake {
            mac: [0xA4, 0xC1, 0x37, 0x04, 0x2D, 0xBE],
            key: b"000000".to_vec(),
            password: Some(b"000000".to_vec()),
            done: false,
        };
        let key = [0xFF, 0xAA, 0x15, 6, 0x30, 0x30, 0x30, 0x30, 0x30, 0x30, 0x3B];
        assert_eq!(handshake.reply(&key).unwrap(), [0xFF, 0xAA, 0x15, 1, 0, 0x16]);
        let random = handshake.reply(&[0xFF, 0xAA, 0x17, 0, 0x17]).unwrap();
        assert_eq!(random, [0xFF, 0xAA, 0x17, 1, 0x62, 0x7A]);
        assert!(!handshake.done);
        let password = [0xFF, 0xAA, 0x18, 6, 0xF6, 0x53, 0x69, 0x96, 0x7F, 0xF0, 0xD5];
        let wrong = [0xFF, 0xAA, 0x18, 6, 0xF6, 0x53, 0x69, 0x96, 0x7F, 0xF1, 0xD6];
        assert_eq!(handshake.reply(&wrong).unwrap(), [0xFF, 0xAA, 0x18, 1, 1, 0x1A]);
        assert_eq!(handshake.reply(&password).unwrap(), [0xFF, 0xAA, 0x18, 1, 0, 0x19]);
        assert!(handshake.done);
        assert_eq!(handshake.reply(&[0xFF, 0xAA, 0x17, 0, 0x18]), None, "damaged");
        assert_eq!(find(&[&[0, 0xFF, 0xAA][..], &key].concat()), Some(3..14));
    }
}
