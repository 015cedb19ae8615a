//! Finds records of 300 bytes and acknowledgements of 20 bytes in a stream.
//!
//! The Bluetooth module is a bridge to the UART of the board: a notification may contain the end of one
//! record and the beginning of the next. Boards of the PB series and those with firmware 19 also send
//! `AT\r\n` to the module, mostly as a separate notification, but also before or behind a record
//! (measured: 700 times in 190 s).

use std::fmt;

use crate::protocol::receive_buffer::{ReceiveBuffer, work};
use crate::protocol::{DecodeError, Reader, check, text};

/// Length of a record with its checksum.
pub const RECORD: usize = 300;
/// Length of a command and of its acknowledgement.
pub const COMMAND: usize = 20;
pub const RECORD_HEADER: [u8; 4] = [0x55, 0xAA, 0xEB, 0x90];
/// Commands and acknowledgements start with this header.
pub const COMMAND_HEADER: [u8; 4] = [0xAA, 0x55, 0x90, 0xEB];

/// The command code of every acknowledgement.
const ACKNOWLEDGEMENT: u8 = 0xC8;

/// What boards send to the module repeatedly.
pub(crate) const NOISE: &[u8] = b"AT\r\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Settings = 1,
    Cells = 2,
    Device = 3,
    Logbook = 5,
}

impl Kind {
    fn of(code: u8) -> Option<Kind> {
        let kinds = [Kind::Settings, Kind::Cells, Kind::Device, Kind::Logbook];
        kinds.into_iter().find(|kind| *kind as u8 == code)
    }
}

/// A record with a valid checksum. It may contain passcodes, so `Debug` omits its bytes.
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
    pub fn parse(bytes: &[u8; RECORD]) -> Result<Record, DecodeError> {
        let (body, got) = (&bytes[..RECORD - 1], bytes[RECORD - 1]);
        check(checksum(body), got)?;
        let kind = Kind::of(bytes[4]).ok_or_else(|| {
            DecodeError::Unsupported(format!("a record of kind {:02X}", bytes[4]))
        })?;
        Ok(Record { kind, bytes: *bytes })
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Increases with every record of this kind.
    pub fn counter(&self) -> u8 {
        self.u8(5)
    }

    /// Positions are constants of the layouts and always inside of the record.
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

#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one at a time, and nearly all are records")]
pub enum StreamItem {
    Record(Record),
    Acknowledgement,
    /// Bytes with the header of a record.
    Invalid(DecodeError),
}

/// Assembles records from a stream. It buffers at most one of them.
#[derive(Debug, Default, Clone)]
pub struct Reassembly {
    /// Starts with a header or a part of one.
    buffer: ReceiveBuffer,
}

impl Reassembly {
    pub fn clear(&mut self) {
        self.buffer.clear();
    }

    /// Takes bytes from the front until an item is complete. `None`: all bytes were taken.
    pub fn receive(&mut self, bytes: &mut &[u8]) -> Option<StreamItem> {
        loop {
            if let Some(item) = self.next_item() {
                return Some(item);
            }
            let (part, rest) = bytes.split_at(self.incomplete_part(bytes));
            self.buffer.extend(part);
            *bytes = rest;
            let (&byte, rest) = rest.split_first()?;
            *bytes = rest;
            self.push(byte);
        }
    }

    /// How many of these bytes neither complete an item nor end noise.
    fn incomplete_part(&self, bytes: &[u8]) -> usize {
        let missing = self.length().map_or(0, |length| length.saturating_sub(self.buffer.len()));
        let part = bytes.iter().take(missing.saturating_sub(1));
        part.take_while(|&&byte| byte != b'\n').count()
    }

    /// `AT\r\n` is removed everywhere. No field contains these four bytes for longer than one record, so
    /// at most one record is lost.
    fn push(&mut self, byte: u8) {
        self.buffer.push(byte);
        if byte == b'\n' && self.buffer.ends_with(NOISE) {
            self.buffer.drop_last(NOISE.len());
        }
    }

    /// The next complete item.
    fn next_item(&mut self) -> Option<StreamItem> {
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
                    Some(true) => return Some(StreamItem::Acknowledgement),
                    Some(false) => continue,
                    None => return None,
                }
            }
            work::add(length);
            match Record::parse(self.buffer.first_chunk()?) {
                Ok(record) => {
                    self.buffer.consume(RECORD);
                    return Some(StreamItem::Record(record));
                }
                // The last byte may be the beginning of `AT\r\n` and not the checksum.
                Err(_) if self.noise_prefix() > self.buffer.len() - RECORD => return None,
                // A valid record may start behind a false header.
                Err(error) => {
                    self.buffer.consume(1);
                    return Some(StreamItem::Invalid(error));
                }
            }
        }
    }

    /// Removes the command at the front and returns whether it is an acknowledgement, not a damaged
    /// frame or an echo; `None` if it may still end with `AT\r\n`.
    fn take_command(&mut self) -> Option<bool> {
        let frame: [u8; COMMAND] = *self.buffer.first_chunk()?;
        if checksum(&frame[..COMMAND - 1]) == frame[COMMAND - 1] {
            self.buffer.consume(COMMAND);
            return Some(frame[4] == ACKNOWLEDGEMENT);
        }
        if self.noise_prefix() > self.buffer.len() - COMMAND {
            return None;
        }
        self.buffer.consume(1);
        Some(false)
    }

    /// Drops bytes until the buffer starts with a header, or with what may become one after a partial
    /// `AT\r\n`.
    fn drop_junk(&mut self) {
        let is_header_prefix = |rest: &[u8]| {
            [RECORD_HEADER, COMMAND_HEADER]
                .iter()
                .any(|header| rest.iter().zip(header).all(|(byte, expected)| byte == expected))
        };
        let stable = self.buffer.len() - self.noise_prefix();
        let start =
            (0..stable).find(|&at| self.buffer.get(at..stable).is_some_and(is_header_prefix));
        work::add(self.buffer.len());
        self.buffer.consume(start.unwrap_or(stable));
    }

    /// Length of the item at the front.
    fn length(&self) -> Option<usize> {
        match *self.buffer.first_chunk()? {
            RECORD_HEADER => Some(RECORD),
            COMMAND_HEADER => Some(COMMAND),
            _ => None,
        }
    }

    /// Number of bytes at the end that are a prefix of `AT\r\n`.
    fn noise_prefix(&self) -> usize {
        (1..NOISE.len()).rev().find(|&n| self.buffer.ends_with(&NOISE[..n])).unwrap_or(0)
    }
}

/// The last byte of commands and records.
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

    /// The items of a stream as text, the same however it is divided.
    fn found(bytes: &[u8]) -> Vec<String> {
        let whole = found_in_pieces(bytes, bytes.len());
        for size in [1, 7, 20] {
            assert_eq!(found_in_pieces(bytes, size), whole, "in pieces of {size}");
        }
        whole
    }

    fn found_in_pieces(bytes: &[u8], size: usize) -> Vec<String> {
        let mut reassembly = Reassembly::default();
        let mut items = Vec::new();
        for mut piece in bytes.chunks(size) {
            while let Some(item) = reassembly.receive(&mut piece) {
                items.push(item);
            }
            assert!(piece.is_empty() && reassembly.buffer.len() <= RECORD + NOISE.len());
        }
        let describe = |item: &StreamItem| match item {
            StreamItem::Record(record) => format!("{:?}", record.kind()),
            StreamItem::Acknowledgement => "ack".into(),
            StreamItem::Invalid(DecodeError::Checksum { .. }) => "damaged".into(),
            StreamItem::Invalid(error) => error.to_string(),
        };
        items.iter().map(describe).collect()
    }

    #[test]
    fn noise_is_removed_anywhere() {
        let whole = [record(2, 0x11), acknowledgement()].concat();
        for at in 0..whole.len() {
            let (head, tail) = whole.split_at(at);
            let noisy = [head, NOISE, NOISE, tail].concat();
            assert_eq!(found(&noisy), ["Cells", "ack"], "at {at}");
        }
    }

    #[test]
    fn checksum_equal_to_noise_is_kept() {
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
    fn kinds_are_distinguished() {
        let all = [record(1, 0), record(5, 0), record(7, 0), acknowledgement(), record(2, 0)];
        assert_eq!(
            found(&all.concat()),
            ["Settings", "Logbook", "a record of kind 07", "ack", "Cells"]
        );
        let echo = crate::protocol::jk::request(crate::protocol::jk::Command::Stream);
        assert_eq!(found(&[echo, record(2, 0)].concat()), ["Cells"]);
    }

    #[test]
    fn false_header_is_reported_at_the_end_of_the_record() {
        let mut damaged = record(2, 1);
        damaged[100] ^= 4;
        assert_eq!(found(&damaged), ["damaged"]);
        assert_eq!(found(&damaged[..250]), [] as [&str; 0]);
    }

    #[test]
    fn a_record_prints_nothing_of_itself() {
        let item = Reassembly::default().receive(&mut &record(3, b'7')[..]);
        assert_eq!(format!("{item:?}"), "Some(Record(Record(Device, 9)))");
    }
}
