//! D-powercore: the packs of electric surfboards, over Bluetooth.
//!
//! Each message travels in pages of 20 bytes: `[length] [page in the high, pages in the low nibble]`
//! and 18 bytes, of which those beyond the message are stale. The receiver of a page acknowledges it
//! by returning it with bit 7 of the length set; the battery sends the next page only then. Inside
//! is `3A 05 03 command length(2) data sum(2) 0D 0A`. Nothing but the requests 60, 61, 62, the
//! unlock 64 and acknowledgements is ever sent.

use std::time::Duration;

use super::checksum::sum16;
use super::query::Progress;
use super::values::{cells, centi_percent, count, deci_kelvin};
use super::{
    AdvertisementMatcher, DecodeError, Driver, DriverInfo, FrameShape, Framing, GattChannel,
    GattProfile, Need, Options, Pacing, ProtocolError, Reader, RequestReply, Runner, check, short,
};
use crate::model::Reading;
use crate::model::reading::{Probe, SensorLocation};
use crate::model::units::{MilliampHours, Milliamps, Millivolts};

pub static INFO: DriverInfo = DriverInfo {
    gatt: Some(GattProfile { channels: CHANNELS, streams: false }),
    matchers: &[AdvertisementMatcher::Name("DXB-*"), AdvertisementMatcher::Name("TBA-*")],
    verified: "recorded frames",
    ..DriverInfo::new("dpwrcore", "D-powercore", new)
};

const CHANNELS: &[GattChannel] =
    &[GattChannel::new(&[short(0xFFF0, 0xFFF4)], short(0xFFF0, 0xFFF3))];

fn new(options: &Options) -> Box<dyn Driver> {
    Box::new(Runner::new(Dpwrcore {
        timeout: options.ble_timeout(),
        unlock: options.name.as_deref().and_then(unlock_code),
        unlocked: false,
        command: 0,
        message: Vec::new(),
        page: None,
        acknowledged: false,
    }))
}

/// The battery may accept the unlock without an answer.
const UNLOCK_LINGER: Duration = Duration::from_secs(1);

const PAGE: usize = 20;
/// Bytes of a message in one page.
const CONTENT: usize = PAGE - 2;
/// Bytes of a message besides its data.
const OVERHEAD: usize = 10;

const UNLOCK: u8 = 0x64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Query {
    /// A request, answered with the first page.
    Ask(u8),
    /// An acknowledgement, answered with the next page if there is one.
    Acknowledge(u8),
}

/// The longest answers are those to 62 with 32 cells: five pages.
macro_rules! plan {
    ($($command:expr),*) => {
        &[$(
            Query::Ask($command),
            Query::Acknowledge($command), Query::Acknowledge($command),
            Query::Acknowledge($command), Query::Acknowledge($command),
            Query::Acknowledge($command),
        )*]
    };
}
const PLAN: &[Query] = plan![UNLOCK, 0x60, 0x61, 0x62];

#[derive(Debug)]
struct Dpwrcore {
    timeout: Duration,
    /// What the batteries named `DXB-…` must receive first.
    unlock: Option<[u8; 2]>,
    unlocked: bool,
    /// What was received of the answer to this command.
    command: u8,
    message: Vec<u8>,
    /// The last page of this message.
    page: Option<[u8; PAGE]>,
    acknowledged: bool,
}

/// The last four hexadecimal digits of the name of a battery that has to be unlocked.
fn unlock_code(name: &str) -> Option<[u8; 2]> {
    let name = name.trim();
    name.get(..4).filter(|start| start.eq_ignore_ascii_case("DXB-"))?;
    let digits = name.get(name.len().checked_sub(4)?..)?;
    u16::from_str_radix(digits, 16).ok().map(u16::to_be_bytes)
}

/// A request in its page. The length of a request counts two bytes more, and its data do not count
/// in the length inside.
fn request(command: u8, data: &[u8]) -> Vec<u8> {
    let covered = [&[0x03, 0x05, command, 0, 0], data].concat();
    let sum = sum16(&covered).to_be_bytes();
    let message = [&[0x3A], &covered[..], &sum, b"\r\n"].concat();
    let mut page = vec![message.len() as u8 + 2, 0x11];
    page.extend(message);
    page.resize(PAGE, 0);
    page
}

/// Length of a message of which at least the first six bytes are known.
fn length(message: &[u8]) -> Option<usize> {
    let data = u16::from_be_bytes([*message.get(4)?, *message.get(5)?]);
    Some(OVERHEAD + usize::from(data))
}

impl Dpwrcore {
    /// Whether these are the first bytes of the next page of this message, whose first page
    /// contains the length of all.
    fn begins_page(&self, command: u8, bytes: &[u8]) -> bool {
        let mut message = self.message.clone();
        message.extend(bytes.iter().skip(2).take(CONTENT));
        let start = [0x3A, 0x05, 0x03, command];
        if !message.iter().zip(start).all(|(byte, expected)| *byte == expected) {
            return false;
        }
        let Some(total) = length(&message) else { return true };
        let (number, pages) = (self.message.len() / CONTENT + 1, total.div_ceil(CONTENT));
        let size = total.saturating_sub(self.message.len()).min(CONTENT);
        let head = [size, number << 4 | pages];
        pages <= 15 && bytes.iter().zip(head).all(|(byte, expected)| usize::from(*byte) == expected)
    }

    fn forget_message(&mut self) {
        self.message.clear();
        self.page = None;
    }

    fn is_complete(&self) -> bool {
        length(&self.message).is_some_and(|length| self.message.len() >= length)
    }
}

/// The next page of the answer to a command.
struct Page<'a>(&'a Dpwrcore, u8);

impl FrameShape for Page<'_> {
    fn may_begin(&self, bytes: &[u8]) -> bool {
        self.0.begins_page(self.1, bytes)
    }

    fn length(&self, _bytes: &[u8]) -> Option<usize> {
        Some(PAGE)
    }

    fn is_valid(&self, _frame: &[u8]) -> bool {
        true
    }
}

impl RequestReply for Dpwrcore {
    type Query = Query;

    fn plan(&self) -> &'static [Query] {
        PLAN
    }

    fn need(&self, query: Query) -> Need {
        match query {
            Query::Ask(0x60) | Query::Acknowledge(0x60) => Need::Required,
            Query::Ask(UNLOCK) | Query::Acknowledge(UNLOCK) => Need::Optional,
            _ => Need::Steady,
        }
    }

    fn describe(&self, query: Query) -> String {
        match query {
            Query::Ask(UNLOCK) | Query::Acknowledge(UNLOCK) => "the unlock command".to_owned(),
            Query::Ask(command) | Query::Acknowledge(command) => format!("command {command:02X}"),
        }
    }

    fn encode(&self, query: Query) -> Vec<u8> {
        match (query, self.page) {
            (Query::Ask(UNLOCK), _) => request(UNLOCK, &self.unlock.unwrap_or_default()),
            (Query::Ask(command), _) => request(command, &[]),
            (Query::Acknowledge(_), page) => {
                let mut page = page.unwrap_or_default();
                page[0] |= 0x80;
                page.to_vec()
            }
        }
    }

    fn frame(&self, query: Query, buffer: &[u8]) -> Framing {
        let (Query::Ask(command) | Query::Acknowledge(command)) = query;
        Page(self, command).find(buffer)
    }

    fn decode(
        &mut self,
        query: Query,
        frame: &[u8],
        into: &mut Reading,
    ) -> Result<(), DecodeError> {
        let page: [u8; PAGE] = frame.try_into().map_err(|_| DecodeError::Length(frame.len()))?;
        let content = usize::from(page[0]).min(CONTENT);
        self.message.extend(&page[2..2 + content]);
        (self.page, self.acknowledged) = (Some(page), false);
        if !self.is_complete() {
            return Ok(());
        }
        let message = std::mem::take(&mut self.message);
        let (Query::Ask(command) | Query::Acknowledge(command)) = query;
        decode_message(command, &message, into)
    }

    fn pacing(&self, query: Query) -> Pacing {
        let timeout = match query {
            Query::Ask(UNLOCK) => self.timeout.min(UNLOCK_LINGER),
            _ => self.timeout,
        };
        Pacing { timeout, settle: timeout, ..Pacing::default() }
    }

    /// The battery would not send a single page again, so the next cycle asks for all of them.
    fn is_retryable(&mut self, _query: Query, _error: &ProtocolError) -> bool {
        false
    }

    fn begin(&mut self, query: Query) {
        match query {
            Query::Ask(command) => {
                self.forget_message();
                self.command = command;
                self.unlocked |= command == UNLOCK;
            }
            Query::Acknowledge(_) => self.acknowledged = true,
        }
    }

    fn progress(&self, query: Query) -> Progress {
        match query {
            Query::Ask(UNLOCK) if self.page.is_none() => Progress::Enough(UNLOCK_LINGER),
            _ => Progress::Complete,
        }
    }

    fn is_due(&self, query: Query) -> bool {
        match query {
            Query::Ask(UNLOCK) => self.unlock.is_some() && !self.unlocked,
            Query::Ask(_) => true,
            Query::Acknowledge(command) => {
                command == self.command && self.page.is_some() && !self.acknowledged
            }
        }
    }

    fn has_reply(&self, query: Query) -> bool {
        matches!(query, Query::Ask(_)) || !self.message.is_empty()
    }

    fn reset(&mut self) {
        self.unlocked = false;
        self.forget_message();
    }
}

fn decode_message(command: u8, message: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    let end = length(message).unwrap_or_default();
    let message = message.get(..end).ok_or(DecodeError::TooShort(message.len()))?;
    let covered = &message[1..end - 4];
    check(sum16(covered), Reader::big_endian(message).at(end - 4).u16()?)?;
    let at = |position| Reader::big_endian(&message[..end - 4]).at(position);
    let pack = &mut into.pack;
    match command {
        0x60 => {
            pack.voltage = Some(Millivolts(i32::from(at(6).u16()?) * 100));
            pack.current = Some(Milliamps(i32::from(at(8).i16()?) * 100));
            pack.full = Some(MilliampHours(at(10).u16()?.into()));
            pack.remaining = Some(MilliampHours(at(12).u16()?.into()));
            pack.soc = centi_percent(i64::from(at(14).u8()?) * 100);
            pack.error_code = Some(at(15).u8()?.into());
        }
        0x61 => {
            pack.cycles = Some(at(8).u16()?.into());
            let value = deci_kelvin(at(12).u16()?);
            into.probes.push(Probe { location: SensorLocation::Cells, value });
        }
        0x62 => {
            let number = count("cell count", at(6).u8()?, 1..=32)?;
            into.cells = cells(&at(7).u16s(number)?);
        }
        _ => match at(6).u8()? {
            0x32 => {}
            code => {
                let reason = "the battery refused the code from its name";
                return Err(DecodeError::Refused { code: code.into(), reason });
            }
        },
    }
    Ok(())
}
