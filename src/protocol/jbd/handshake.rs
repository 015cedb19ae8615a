//! What newer Bluetooth modules (firmware 4) require before they pass anything on:
//!
//! ```text
//! FF  AA  command  length  data  checksum
//! ```
//!
//! with the low byte of the sum over command, length and data as the checksum. Each frame fits one
//! notification. The app sends its key (15); when a password is set, it requests a random byte (17)
//! and replies with the password mixed with it (18). Commands 16, which changes the password, and
//! 1D, which opens the module for the vendor, are never sent.

use crate::protocol::checksum::sum8;

/// Length of a key and of a password.
pub(super) const SECRET: usize = 6;

/// A request to the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// The key of the app.
    Key([u8; SECRET]),
    Random,
    Password([u8; SECRET]),
}

impl Request {
    fn command_and_data(&self) -> (u8, &[u8]) {
        match self {
            Request::Key(secret) => (0x15, secret),
            Request::Random => (0x17, &[]),
            Request::Password(secret) => (0x18, secret),
        }
    }

    pub(super) fn encode(self) -> Vec<u8> {
        let (command, data) = self.command_and_data();
        encode(command, data)
    }

    /// The reply, which is one byte, if it is among the received bytes.
    pub(super) fn reply(self, received: &[u8]) -> Option<u8> {
        let (command, _) = self.command_and_data();
        let reply = |window: &[u8]| {
            let data = window.get(4).copied()?;
            (window == encode(command, &[data])).then_some(data)
        };
        received.windows(6).find_map(reply)
    }
}

/// A frame. Data are at most six bytes.
pub fn encode(command: u8, data: &[u8]) -> Vec<u8> {
    let covered = [&[command, data.len() as u8], data].concat();
    [&[0xFF, 0xAA], &covered[..], &[sum8(&covered)]].concat()
}

/// The password as command 18 sends it: mixed with the address, in the order in which it is
/// printed, and the random byte. Five recorded frames confirm this.
pub fn scramble(password: [u8; 6], mac: [u8; 6], random: u8) -> [u8; 6] {
    std::array::from_fn(|index| (mac[index] ^ password[index]).wrapping_add(random))
}

/// Overwrites the data of [`Request::Key`] and [`Request::Password`]: the password can be computed
/// from the second, too.
pub(super) fn redact(bytes: &mut [u8]) {
    for start in 0..bytes.len() {
        let Some([0xFF, 0xAA, 0x15 | 0x18, 6, rest @ ..]) = bytes.get_mut(start..) else {
            continue;
        };
        rest.iter_mut().take(SECRET).for_each(|byte| *byte = b'0');
        if let Some(frame) = bytes.get_mut(start..start + 5 + SECRET) {
            frame[4 + SECRET] = sum8(&frame[2..4 + SECRET]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redacted_requests_have_no_secret() {
        let mut bytes = [&[0xDD, 0xA5][..], &Request::Key(*b"123456").encode()].concat();
        redact(&mut bytes);
        assert_eq!(bytes, [&[0xDD, 0xA5][..], &Request::Key(*b"000000").encode()].concat());
        let mut incomplete = Request::Password([1, 2, 3, 4, 5, 6]).encode();
        incomplete.truncate(7);
        redact(&mut incomplete);
        assert_eq!(incomplete, [0xFF, 0xAA, 0x18, 6, 0x30, 0x30, 0x30]);
    }

    #[test]
    fn recorded_requests_are_encoded() {
        assert_eq!(
            Request::Key(*b"000000").encode(),
            [0xFF, 0xAA, 0x15, 6, 0x30, 0x30, 0x30, 0x30, 0x30, 0x30, 0x3B]
        );
        assert_eq!(Request::Random.encode(), [0xFF, 0xAA, 0x17, 0, 0x17]);
        let scrambled = scramble(*b"000000", [0xA4, 0xC1, 0x37, 0x04, 0x2D, 0xBE], 0x62);
        assert_eq!(
            Request::Password(scrambled).encode(),
            [0xFF, 0xAA, 0x18, 6, 0xF6, 0x53, 0x69, 0x96, 0x7F, 0xF0, 0xD5]
        );
    }

    #[test]
    fn only_the_reply_to_the_request_counts() {
        let random = [0, 0xFF, 0xAA, 0x17, 1, 0x62, 0x7A];
        assert_eq!(Request::Random.reply(&random), Some(0x62));
        assert_eq!(Request::Random.reply(&random[..6]), None, "incomplete");
        assert_eq!(Request::Key(*b"000000").reply(&random), None);
        assert_eq!(Request::Random.reply(&Request::Random.encode()), None, "an echo");
        let damaged = [0xFF, 0xAA, 0x17, 1, 0x62, 0x7B];
        assert_eq!(Request::Random.reply(&damaged), None);
    }
}
