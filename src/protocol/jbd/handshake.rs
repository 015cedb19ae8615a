//! What newer Bluetooth modules (firmware 4) want before they pass anything on:
//!
//! ```text
//! FF  AA  command  length  data  checksum
//! ```
//!
//! with the low byte of the sum over command, length and data as the checksum. Each frame fits one
//! notification. The app sends its key (15); when a password is set, it asks for a random byte (17)
//! and answers with the password mixed with it (18). Commands 16, which changes the password, and
//! 1D, which opens the module for the vendor, are never sent.

const HEAD: [u8; 2] = [0xFF, 0xAA];

/// Length of a key and of a password.
pub(super) const SECRET: usize = 6;

/// What the module is told or asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// 15: the key of the app.
    Key([u8; SECRET]),
    /// 17: a random byte, please.
    Random,
    /// 18: the password, scrambled.
    Password([u8; SECRET]),
}

impl Word {
    fn command(self) -> u8 {
        match self {
            Word::Key(_) => 0x15,
            Word::Random => 0x17,
            Word::Password(_) => 0x18,
        }
    }

    pub(super) fn encode(self) -> Vec<u8> {
        let data: &[u8] = match &self {
            Word::Key(secret) | Word::Password(secret) => secret,
            Word::Random => &[],
        };
        // At most six bytes.
        let length = data.len() as u8;
        let mut frame = [&HEAD[..], &[self.command(), length], data].concat();
        frame.push(sum(&frame[2..]));
        frame
    }

    /// The one byte that answers this word, if it is there.
    pub(super) fn answer(self, heard: &[u8]) -> Option<u8> {
        heard.windows(6).find_map(|window| match *window {
            [0xFF, 0xAA, command, 1, data, check] if command == self.command() => {
                (sum(&[command, 1, data]) == check).then_some(data)
            }
            _ => None,
        })
    }
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, &byte| sum.wrapping_add(byte))
}

/// The password as command 18 wants it: mixed with the address, in the order in which it is
/// printed, and the random byte. Five captured frames come out of this.
pub fn scramble(password: [u8; 6], mac: [u8; 6], random: u8) -> [u8; 6] {
    std::array::from_fn(|index| (mac[index] ^ password[index]).wrapping_add(random))
}

/// Overwrites what [`Word::Key`] and [`Word::Password`] carry: the password can be computed from
/// the second, too.
pub(super) fn redact(said: &mut [u8]) {
    for start in 0..said.len() {
        let Some([0xFF, 0xAA, 0x15 | 0x18, 6, rest @ ..]) = said.get_mut(start..) else { continue };
        let shown = rest.len().min(SECRET);
        rest.iter_mut().take(shown).for_each(|byte| *byte = b'0');
        if rest.len() > SECRET {
            let sound = said.get(start + 2..start + 4 + SECRET).map(sum);
            if let (Some(sum), Some(check)) = (sound, said.get_mut(start + 4 + SECRET)) {
                *check = sum;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_passed_on_holds_no_secret() {
        let mut said = [&[0xDD, 0xA5][..], &Word::Key(*b"123456").encode()].concat();
        redact(&mut said);
        assert_eq!(said, [&[0xDD, 0xA5][..], &Word::Key(*b"000000").encode()].concat());
        let mut said = Word::Password([1, 2, 3, 4, 5, 6]).encode();
        said.truncate(7);
        redact(&mut said);
        assert_eq!(said, [0xFF, 0xAA, 0x18, 6, 0x30, 0x30, 0x30], "a piece of one");
    }

    #[test]
    fn recorded_words_are_said_as_recorded() {
        assert_eq!(
            Word::Key(*b"000000").encode(),
            [0xFF, 0xAA, 0x15, 6, 0x30, 0x30, 0x30, 0x30, 0x30, 0x30, 0x3B]
        );
        assert_eq!(Word::Random.encode(), [0xFF, 0xAA, 0x17, 0, 0x17]);
        let scrambled = scramble(*b"000000", [0xA4, 0xC1, 0x37, 0x04, 0x2D, 0xBE], 0x62);
        assert_eq!(
            Word::Password(scrambled).encode(),
            [0xFF, 0xAA, 0x18, 6, 0xF6, 0x53, 0x69, 0x96, 0x7F, 0xF0, 0xD5]
        );
    }

    #[test]
    fn only_the_answer_to_the_word_counts() {
        let random = [0, 0xFF, 0xAA, 0x17, 1, 0x62, 0x7A];
        assert_eq!(Word::Random.answer(&random), Some(0x62));
        assert_eq!(Word::Random.answer(&random[..6]), None, "not yet whole");
        assert_eq!(Word::Key(*b"000000").answer(&random), None);
        assert_eq!(Word::Random.answer(&Word::Random.encode()), None, "an echo");
        let damaged = [0xFF, 0xAA, 0x17, 1, 0x62, 0x7B];
        assert_eq!(Word::Random.answer(&damaged), None);
    }
}
