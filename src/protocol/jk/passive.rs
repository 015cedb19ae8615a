//! Passive reading of a bus on which a board with address 0 polls the others. Own requests would disturb
//! it, so this only decodes the replies to the master.

use std::time::Duration;

use super::pb::{self, Topic};
use super::record::{Kind, RECORD, RECORD_HEADER, Record};
use crate::model::Reading;
use crate::protocol::receive_buffer::ReceiveBuffer;

/// Time in which a master polls all of its packs (measured: 4.4 s; more packs take longer).
pub(super) const POLL_ROUND: Duration = Duration::from_secs(8);

/// Address of the board that polls the others.
pub(super) const MASTER: u8 = 0;

/// Traffic between other devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BusEvent {
    /// A master polls this address.
    Trigger(u8),
    /// A record, whose address is not known yet.
    Record(Box<Record>),
    /// The preceding record came from this address.
    Acknowledgement(u8, Topic),
}

/// Parses the traffic of a bus.
#[derive(Debug, Default)]
pub(super) struct BusParser {
    /// At most one record.
    buffer: ReceiveBuffer,
}

impl BusParser {
    pub(super) fn clear(&mut self) {
        self.buffer.clear();
    }

    /// Returns the event that this byte completes.
    pub(super) fn push(&mut self, byte: u8) -> Option<BusEvent> {
        self.buffer.push(byte);
        loop {
            let incomplete = Self::is_prefix(&self.buffer);
            if let Some((event, length)) = self.front() {
                self.buffer.consume(length);
                return Some(event);
            }
            if incomplete || self.buffer.is_empty() {
                return None;
            }
            self.buffer.consume(1);
        }
    }

    /// Whether these bytes are the beginning of an event.
    fn is_prefix(bytes: &[u8]) -> bool {
        let matches = |pattern: &[u8], from: usize| {
            bytes.iter().skip(from).zip(pattern).all(|(byte, expected)| byte == expected)
        };
        let record = matches(&RECORD_HEADER, 0) && bytes.len() < RECORD;
        // The address comes first, then function and register.
        let write = matches(&[0x10, 0x16], 1) && bytes.len() < pb::TRIGGER;
        record || write
    }

    fn front(&self) -> Option<(BusEvent, usize)> {
        if let Some((address, topic)) = pb::acknowledged(&self.buffer) {
            return Some((BusEvent::Acknowledgement(address, topic), pb::ACKNOWLEDGEMENT));
        }
        if let Some((address, _)) = pb::triggered(&self.buffer) {
            return Some((BusEvent::Trigger(address), pb::TRIGGER));
        }
        let bytes =
            self.buffer.first_chunk().filter(|_| self.buffer.starts_with(&RECORD_HEADER))?;
        let record = Record::parse(bytes).ok()?;
        Some((BusEvent::Record(Box::new(record)), RECORD))
    }
}

/// Reads the pack at one address of such a bus.
#[derive(Debug, Default)]
pub(super) struct PassiveReader {
    address: u8,
    parser: BusParser,
    /// A record whose address is not known yet.
    pending: Option<Box<Record>>,
    /// Settings and device information, whenever the master polled them.
    known: Reading,
    /// The first live values of this cycle.
    pub(super) reading: Option<Reading>,
    /// Traffic of this protocol was received in this cycle.
    pub(super) busy: bool,
}

impl PassiveReader {
    pub(super) fn new(address: u8) -> Self {
        PassiveReader { address, ..PassiveReader::default() }
    }

    /// Begins a cycle; partial events are dropped.
    pub(super) fn start(&mut self) {
        let known = std::mem::take(&mut self.known);
        *self = PassiveReader { address: self.address, known, ..PassiveReader::default() };
    }

    pub(super) fn reset(&mut self) {
        *self = PassiveReader::new(self.address);
    }

    pub(super) fn push(&mut self, byte: u8) {
        let Some(event) = self.parser.push(byte) else { return };
        self.busy = true;
        match event {
            BusEvent::Acknowledgement(address, _) => self.assign(address),
            BusEvent::Trigger(_) => self.assign(MASTER),
            BusEvent::Record(record) => {
                self.assign(MASTER);
                self.pending = Some(record);
            }
        }
    }

    /// A record without an acknowledgement is the master's own.
    pub(super) fn on_timeout(&mut self) {
        self.assign(MASTER);
    }

    fn assign(&mut self, address: u8) {
        let Some(record) = self.pending.take().filter(|_| address == self.address) else { return };
        if record.kind() == Kind::Cells {
            let mut reading = self.known.clone();
            pb::decode(&record, &mut reading);
            self.reading.get_or_insert(reading);
        } else {
            pb::decode(&record, &mut self.known);
        }
    }
}
