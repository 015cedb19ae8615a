//! A bus on which a board with address 0 asks the others: whoever else speaks there disturbs it, so
//! we only listen to what the others tell it.

use std::time::Duration;

use super::pb::{self, Topic};
use super::record::{Kind, RECORD, RECORD_HEADER, Record};
use crate::model::Reading;

/// A master asks all of its packs once in so long (measured: 4.4 s), and more packs take longer.
pub(super) const ROUND: Duration = Duration::from_secs(8);

/// What somebody else said on the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// A master asks this address.
    Trigger(u8),
    /// A record, of whom is not known yet.
    Record(Box<Record>),
    /// The record before was that of this address.
    Acknowledgement(u8, Topic),
}

/// Takes what is said on a bus apart.
#[derive(Debug, Default)]
pub(super) struct Ear {
    /// Less than a record.
    buffer: Vec<u8>,
}

impl Ear {
    pub(super) fn clear(&mut self) {
        self.buffer.clear();
    }

    /// Takes the next byte; what it completes.
    pub(super) fn hear(&mut self, byte: u8) -> Option<Heard> {
        self.buffer.push(byte);
        loop {
            let waits = Self::begins(&self.buffer);
            if let Some((heard, length)) = self.front() {
                self.buffer.drain(..length);
                return Some(heard);
            }
            if waits || self.buffer.is_empty() {
                return None;
            }
            self.buffer.remove(0);
        }
    }

    /// Whether these bytes may become something.
    fn begins(bytes: &[u8]) -> bool {
        let matches = |pattern: &[u8], from: usize| {
            bytes.iter().skip(from).zip(pattern).all(|(byte, expected)| byte == expected)
        };
        let record = matches(&RECORD_HEADER, 0) && bytes.len() < RECORD;
        // The address comes first, then function and register.
        let write = matches(&[0x10, 0x16], 1) && bytes.len() < pb::TRIGGER;
        record || write
    }

    fn front(&self) -> Option<(Heard, usize)> {
        if let Some((address, topic)) = pb::acknowledged(&self.buffer) {
            return Some((Heard::Acknowledgement(address, topic), pb::ACKNOWLEDGEMENT));
        }
        if let Some((address, _)) = pb::triggered(&self.buffer) {
            return Some((Heard::Trigger(address), pb::TRIGGER));
        }
        let bytes =
            self.buffer.first_chunk().filter(|_| self.buffer.starts_with(&RECORD_HEADER))?;
        let record = Record::parse(bytes).ok()?;
        Some((Heard::Record(Box::new(record)), RECORD))
    }
}

/// Follows one address of such a bus.
#[derive(Debug)]
pub(super) struct Listener {
    address: u8,
    ear: Ear,
    /// A record whose owner has not been named.
    pending: Option<Box<Record>>,
    /// What the settings and the device information said, whenever the master asked for them.
    known: Reading,
    reading: Option<Reading>,
    /// Anything at all of the protocol was heard.
    busy: bool,
}

impl Listener {
    pub(super) fn new(address: u8) -> Self {
        Listener {
            address,
            ear: Ear::default(),
            pending: None,
            known: Reading::default(),
            reading: None,
            busy: false,
        }
    }

    /// A new cycle: what was heard in part has gone by.
    pub(super) fn start(&mut self) {
        self.ear.clear();
        self.pending = None;
        self.reading = None;
        self.busy = false;
    }

    /// Forgets the session.
    pub(super) fn reset(&mut self) {
        *self = Listener::new(self.address);
    }

    pub(super) fn hear(&mut self, byte: u8) {
        let Some(heard) = self.ear.hear(byte) else { return };
        self.busy = true;
        match heard {
            Heard::Acknowledgement(address, _) => {
                if let Some(record) = self.pending.take() {
                    self.attribute(address, &record);
                }
            }
            Heard::Trigger(_) => self.unnamed(),
            Heard::Record(record) => {
                self.unnamed();
                self.pending = Some(record);
            }
        }
    }

    /// The time is over.
    pub(super) fn silence(&mut self) {
        self.unnamed();
    }

    /// A record that nobody acknowledges is the master's own.
    fn unnamed(&mut self) {
        if let Some(record) = self.pending.take() {
            self.attribute(0, &record);
        }
    }

    fn attribute(&mut self, address: u8, record: &Record) {
        if address != self.address {
            return;
        }
        if record.kind() == Kind::Cells {
            let mut reading = self.known.clone();
            pb::note(record, &mut reading);
            self.reading.get_or_insert(reading);
        } else {
            pb::note(record, &mut self.known);
        }
    }

    /// The first live values of this cycle.
    pub(super) fn reading(&self) -> Option<&Reading> {
        self.reading.as_ref()
    }

    /// Somebody speaks this protocol here.
    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }
}
