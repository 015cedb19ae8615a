//! Records of 300 bytes and acknowledgements of 20, found in a stream that respects no borders.
//!
//! A Bluetooth module of this brand is a bridge to the board's UART: a notification may hold the end
//! of one record and the beginning of the next. Boards of the PB series and those with firmware 19
//! also mix in `AT\r\n`, meant for the module, mostly as a notification of its own, but also in
//! front of or behind a record (measured: 700 times in 190 s).

use std::fmt;

use crate::protocol::DecodeError;
use crate::protocol::bytes::{Reader, text};
use crate::protocol::error::check;

/// Length of a record, checksum included.
pub const RECORD: usize = 300;
/// Length of a command and of its acknowledgement.
pub const COMMAND: usize = 20;
/// A record begins so.
pub const RECORD_HEADER: [u8; 4] = [0x55, 0xAA, 0xEB, 0x90];
/// A command and its acknowledgement begin so.
pub const COMMAND_HEADER: [u8; 4] = [0xAA, 0x55, 0x90, 0xEB];

/// The code of a command that is the battery's answer to any other.
const ACKNOWLEDGEMENT: u8 = 0xC8;

/// What boards say to the module, over and over.
pub(super) const NOISE: &[u8] = b"AT\r\n";

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 01.
    Settings,
    /// 02.
    Cells,
    /// 03.
    Device,
    /// 05, which is never asked for.
    Logbook,
}

impl Kind {
    fn of(code: u8) -> Option<Kind> {
        Some(match code {
            1 => Kind::Settings,
            2 => Kind::Cells,
            3 => Kind::Device,
            5 => Kind::Logbook,
            _ => return None,
        })
    }
}

/// A record with a sound checksum. It may hold passcodes, so it never prints its bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    kind: Kind,
    bytes: [u8; RECORD],
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Record({:?}, {})", self.kind, self.counter())
    }
}

impl Record {
    /// Looks whether these bytes are one.
    pub fn parse(bytes: &[u8; RECORD]) -> Result<Record, DecodeError> {
        let (body, got) = (&bytes[..RECORD - 1], bytes[RECORD - 1]);
        check(checksum(body), got)?;
        let kind = Kind::of(bytes[4]).ok_or_else(|| {
            DecodeError::Unsupported(format!("a record of kind {:02X}", bytes[4]))
        })?;
        Ok(Record { kind, bytes: *bytes })
    }

    /// What it is about.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Counts the records of its kind.
    pub fn counter(&self) -> u8 {
        self.u8(5)
    }

    /// Positions are constants of the layouts, all of them inside the record.
    fn at(&self, position: usize) -> Reader<'_> {
        Reader::little_endian(&self.bytes).at(position)
    }

    pub(super) fn u8(&self, at: usize) -> u8 {
        self.at(at).u8().unwrap_or_default()
    }

    pub(super) fn u16(&self, at: usize) -> u16 {
        self.at(at).u16().unwrap_or_default()
    }

    pub(super) fn i16(&self, at: usize) -> i16 {
        self.at(at).i16().unwrap_or_default()
    }

    pub(super) fn u32(&self, at: usize) -> u32 {
        self.at(at).u32().unwrap_or_default()
    }

    pub(super) fn i32(&self, at: usize) -> i32 {
        self.at(at).i32().unwrap_or_default()
    }

    pub(super) fn f32(&self, at: usize) -> f32 {
        self.at(at).f32().unwrap_or_default()
    }

    /// The text of a field that ends at its first NUL.
    pub(super) fn text(&self, at: usize, length: usize) -> Option<String> {
        let field = self.bytes.get(at..at + length).unwrap_or_default();
        let end = field.iter().position(|&byte| byte == 0).unwrap_or(length);
        text(field.get(..end).unwrap_or_default())
    }
}

/// Something that was found in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// A record.
    Record(Box<Record>),
    /// The battery has heard a command.
    Acknowledged,
    /// It looked like a record.
    Flawed(DecodeError),
}

/// Puts records together. It holds at most one of them.
#[derive(Debug, Default, Clone)]
pub struct Reassembly {
    /// Begins with a header or a part of one.
    buffer: Vec<u8>,
}

impl Reassembly {
    /// Forgets what was begun.
    pub fn clear(&mut self) {
        self.buffer.clear();
    }

    /// Takes the next byte. Whatever it completes is told by [`next_word`](Self::next_word), which
    /// has to be asked before the next byte, until it says nothing.
    ///
    /// The noise is taken out wherever it stands. No field holds these four bytes for longer than
    /// one record, so at worst one record is lost.
    pub fn push(&mut self, byte: u8) {
        self.buffer.push(byte);
        if byte == b'\n' && self.buffer.ends_with(NOISE) {
            self.buffer.truncate(self.buffer.len() - NOISE.len());
        }
    }

    /// The next thing that is complete.
    pub fn next_word(&mut self) -> Option<Word> {
        loop {
            let length = self.length().or_else(|| {
                self.drop_junk();
                self.length()
            })?;
            if self.buffer.len() < length {
                return None;
            }
            if length == COMMAND {
                match self.take_command() {
                    Some(true) => return Some(Word::Acknowledged),
                    Some(false) => continue,
                    None => return None,
                }
            }
            match Record::parse(self.buffer.first_chunk()?) {
                Ok(record) => {
                    self.buffer.drain(..RECORD);
                    return Some(Word::Record(Box::new(record)));
                }
                // What looks like the checksum may be the beginning of the noise.
                Err(_) if self.noise_begun() > self.buffer.len() - RECORD => return None,
                // Behind a false header a true one may stand.
                Err(flaw) => {
                    self.buffer.remove(0);
                    return Some(Word::Flawed(flaw));
                }
            }
        }
    }

    /// Takes the command at the front away: is it an acknowledgement? It is not when it is damaged
    /// or an echo of ours; `None` when the noise has begun in its place.
    fn take_command(&mut self) -> Option<bool> {
        let frame: [u8; COMMAND] = *self.buffer.first_chunk()?;
        if checksum(&frame[..COMMAND - 1]) == frame[COMMAND - 1] {
            self.buffer.drain(..COMMAND);
            return Some(frame[4] == ACKNOWLEDGEMENT);
        }
        if self.noise_begun() > self.buffer.len() - COMMAND {
            return None;
        }
        self.buffer.remove(0);
        Some(false)
    }

    /// Makes the buffer begin with a header, or with what may become one when the noise that has
    /// begun behind it is over.
    fn drop_junk(&mut self) {
        let begins = |rest: &[u8]| {
            [RECORD_HEADER, COMMAND_HEADER]
                .iter()
                .any(|header| rest.iter().zip(header).all(|(byte, expected)| byte == expected))
        };
        let settled = self.buffer.len() - self.noise_begun();
        let start = (0..settled).find(|&at| self.buffer.get(at..settled).is_some_and(begins));
        self.buffer.drain(..start.unwrap_or(settled));
    }

    /// How long the thing at the front is.
    fn length(&self) -> Option<usize> {
        match *self.buffer.first_chunk()? {
            RECORD_HEADER => Some(RECORD),
            COMMAND_HEADER => Some(COMMAND),
            _ => None,
        }
    }

    /// How many bytes at the end are the beginning of the noise.
    fn noise_begun(&self) -> usize {
        (1..NOISE.len()).rev().find(|&n| self.buffer.ends_with(&NOISE[..n])).unwrap_or(0)
    }
}

/// At the end of commands and records.
pub use crate::protocol::checksum::sum8 as checksum;

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, filling: u8) -> Vec<u8> {
        let mut bytes = [&RECORD_HEADER[..], &[kind, 9], &[filling; RECORD - 7]].concat();
        bytes.push(checksum(&bytes));
        bytes
    }

    fn acknowledgement() -> Vec<u8> {
        let mut bytes = [&COMMAND_HEADER[..], &[0xC8, 1, 1], &[0; COMMAND - 8]].concat();
        bytes.push(checksum(&bytes));
        bytes
    }

    /// What is found, each thing in a word.
    fn found(bytes: &[u8]) -> Vec<String> {
        let mut reassembly = Reassembly::default();
        let mut words = Vec::new();
        for &byte in bytes {
            reassembly.push(byte);
            words.extend(std::iter::from_fn(|| reassembly.next_word()));
            assert!(reassembly.buffer.len() <= RECORD + NOISE.len());
        }
        let word = |word: &Word| match word {
            Word::Record(record) => format!("{:?}", record.kind()),
            Word::Acknowledged => "ack".into(),
            Word::Flawed(DecodeError::Checksum { .. }) => "damaged".into(),
            Word::Flawed(error) => error.to_string(),
        };
        words.iter().map(word).collect()
    }

    #[test]
    fn the_noise_may_stand_anywhere() {
        let whole = [record(2, 0x11), acknowledgement()].concat();
        for at in 0..whole.len() {
            let (head, tail) = whole.split_at(at);
            let noisy = [head, NOISE, NOISE, tail].concat();
            assert_eq!(found(&noisy), ["Cells", "ack"], "at {at}");
        }
    }

    #[test]
    fn a_checksum_that_looks_like_the_noise_is_a_checksum() {
        let filling = (0..=255).find(|&filling| record(2, filling)[RECORD - 1] == b'A').unwrap();
        assert_eq!(found(&record(2, filling)), ["Cells"]);
        let two = [record(2, filling), record(1, 0)].concat();
        assert_eq!(found(&two), ["Cells", "Settings"]);
    }

    #[test]
    fn a_false_header_hides_nothing() {
        let good = record(3, 1);
        assert_eq!(found(&[&RECORD_HEADER, &good[..]].concat()), ["damaged", "Device"]);
        let half = &record(2, 7)[..150];
        assert_eq!(found(&[half, &good, &good].concat()), ["damaged", "Device", "Device"]);
        assert_eq!(found(&[&COMMAND_HEADER, &good[..]].concat()), ["Device"]);
        assert_eq!(found(&[b"\x55\xAA", &good[..]].concat()), ["Device"]);
    }

    #[test]
    fn kinds_are_told_apart() {
        let all = [record(1, 0), record(5, 0), record(7, 0), acknowledgement(), record(2, 0)];
        assert_eq!(
            found(&all.concat()),
            ["Settings", "Logbook", "a record of kind 07", "ack", "Cells"]
        );
        let echo = crate::protocol::jk::request(crate::protocol::jk::Command::Stream);
        assert_eq!(found(&[echo, record(2, 0)].concat()), ["Cells"]);
    }

    #[test]
    fn a_lone_false_header_is_told_when_a_record_would_have_ended() {
        let mut damaged = record(2, 1);
        damaged[100] ^= 4;
        assert_eq!(found(&damaged), ["damaged"]);
        assert_eq!(found(&damaged[..250]), [] as [&str; 0]);
    }

    #[test]
    fn a_record_prints_nothing_of_itself() {
        let bytes = record(3, b'7');
        let mut reassembly = Reassembly::default();
        bytes.iter().for_each(|&byte| reassembly.push(byte));
        assert_eq!(format!("{:?}", reassembly.next_word()), "Some(Record(Record(Device, 9)))");
    }
}
