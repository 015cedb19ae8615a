//! Boards of the PB series on RS485: a Modbus write without effect triggers a record as used over
//! Bluetooth, followed by the acknowledgement of the write.
//!
//! ```text
//! addr 10 16 20 00 01 02 00 00 crc  ->  55 AA EB 90 ... (300), often 00, addr 10 16 20 00 01 crc
//! ```
//!
//! Only the acknowledgement contains the address. Plain Modbus reads exist too, but lose half of the
//! replies on a quiet bus (measured by dbus-serialbattery).

use std::time::Duration;

use super::cells::{self, Layout};
use super::device_info;
use super::record::{Kind, RECORD, RECORD_HEADER, Record};
use crate::model::Reading;
use crate::protocol::modbus::{checked, with_crc};
use crate::protocol::{DecodeError, Framing, Need, Options, Pacing, RequestReply};

/// Lengths of a trigger and of its acknowledgement.
pub(crate) const TRIGGER: usize = 11;
pub(super) const ACKNOWLEDGEMENT: usize = 8;

/// The records that can be triggered. A write to any other register would change the board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    Live,
    Settings,
    Device,
}

const PLAN: &[Topic] = &[Topic::Live, Topic::Settings, Topic::Device];

impl Topic {
    /// The low byte of the register, the kind of its record, and a title.
    fn details(self) -> (u8, Kind, &'static str) {
        match self {
            Topic::Live => (0x20, Kind::Cells, "trigger 1620 (live values)"),
            Topic::Settings => (0x1E, Kind::Settings, "trigger 161E (settings)"),
            Topic::Device => (0x1C, Kind::Device, "trigger 161C (device information)"),
        }
    }

    pub(crate) fn register(self) -> u8 {
        self.details().0
    }
}

pub fn trigger(topic: Topic, address: u8) -> Vec<u8> {
    with_crc(vec![address, 0x10, 0x16, topic.register(), 0, 1, 2, 0, 0])
}

/// Address and topic of a trigger.
pub(crate) fn triggered(bytes: &[u8]) -> Option<(u8, Topic)> {
    written(bytes, TRIGGER).filter(|_| bytes.get(6..9) == Some(&[2, 0, 0]))
}

/// Address and topic of an acknowledgement.
pub(super) fn acknowledged(bytes: &[u8]) -> Option<(u8, Topic)> {
    written(bytes, ACKNOWLEDGEMENT)
}

fn written(bytes: &[u8], length: usize) -> Option<(u8, Topic)> {
    let &[address, 0x10, 0x16, register, 0, 1, ..] = checked(bytes.get(..length)?).ok()? else {
        return None;
    };
    let topic = PLAN.iter().find(|topic| topic.register() == register)?;
    Some((address, *topic))
}

/// The acknowledgement, which starts at most one byte behind the record, with its end.
fn trailer(behind: &[u8]) -> Option<(usize, u8, Topic)> {
    (0..2).find_map(|pad| {
        let (address, topic) = acknowledged(behind.get(pad..)?)?;
        Some((pad + ACKNOWLEDGEMENT, address, topic))
    })
}

pub(super) fn decode(record: &Record, into: &mut Reading) {
    match record.kind() {
        Kind::Cells => cells::decode(record, Layout::Cells32, into),
        Kind::Settings => device_info::settings(record, into),
        Kind::Device => device_info::device(record, into),
        Kind::Logbook => {}
    }
}

/// The conversation with the board at one address on a bus without a master.
#[derive(Debug)]
pub(super) struct Pb {
    address: u8,
    timeout: Duration,
}

impl Pb {
    pub(super) fn new(options: &Options) -> Self {
        Pb { address: options.address, timeout: options.timeout }
    }
}

impl RequestReply for Pb {
    type Query = Topic;

    fn plan(&self) -> &'static [Topic] {
        PLAN
    }

    /// Settings may be changed with the phone app meanwhile, the identity not. Firmware from 15.36 on
    /// sometimes does not answer the request for it.
    fn need(&self, topic: Topic) -> Need {
        match topic {
            Topic::Live => Need::Required,
            Topic::Settings => Need::Optional,
            Topic::Device => Need::Once,
        }
    }

    fn describe(&self, topic: Topic) -> String {
        let (_, _, title) = topic.details();
        format!("{title} at address {}", self.address)
    }

    fn encode(&self, topic: Topic) -> Vec<u8> {
        trigger(topic, self.address)
    }

    fn frame(&self, _topic: Topic, buffer: &[u8]) -> Framing {
        let header = RECORD_HEADER.len();
        match buffer.windows(header).position(|seen| seen == RECORD_HEADER) {
            None if buffer.len() < header => Framing::NeedMore,
            None => Framing::Junk(buffer.len() + 1 - header),
            Some(0) => match buffer.get(RECORD..).map(|behind| (behind.len(), trailer(behind))) {
                Some((_, Some((end, ..)))) => Framing::Frame(RECORD + end),
                // Without an acknowledgement.
                Some((length, None)) if length > ACKNOWLEDGEMENT => Framing::Frame(RECORD),
                _ => Framing::NeedMore,
            },
            Some(start) => Framing::Junk(start),
        }
    }

    fn decode(
        &mut self,
        topic: Topic,
        frame: &[u8],
        into: &mut Reading,
    ) -> Result<(), DecodeError> {
        let Some((bytes, behind)) = frame.split_first_chunk() else {
            return Err(DecodeError::Foreign);
        };
        match trailer(behind) {
            Some((_, address, answered)) if (address, answered) == (self.address, topic) => {}
            _ => return Err(DecodeError::Foreign),
        }
        let record = Record::parse(bytes)?;
        if record.kind() != topic.details().1 {
            return Err(DecodeError::Foreign);
        }
        decode(&record, into);
        Ok(())
    }

    /// The vendor's tool waits 100 ms between two triggers, dbus-serialbattery 120 ms.
    fn pacing(&self, _query: Topic) -> Pacing {
        Pacing {
            timeout: self.timeout,
            gap: Duration::from_millis(120),
            settle: Duration::from_millis(200),
            retries: 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sound_writes_to_the_known_registers_count() {
        let valid = trigger(Topic::Live, 3);
        assert_eq!(valid, [3, 0x10, 0x16, 0x20, 0, 1, 2, 0, 0, 0xCF, 0x91]);
        assert_eq!(triggered(&valid), Some((3, Topic::Live)));
        assert_eq!(acknowledged(&valid), None);
        for at in 0..valid.len() {
            let mut other = valid.clone();
            other[at] ^= 1;
            assert_eq!(triggered(&other), None, "byte {at}");
        }
        assert_eq!(triggered(&valid[..10]), None);
        let answer = [3, 0x10, 0x16, 0x1C, 0, 1, 0xC5, 0xA5];
        assert_eq!(acknowledged(&answer), Some((3, Topic::Device)));
        assert_eq!(triggered(&answer), None);
    }
}
