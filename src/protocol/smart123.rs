//! 123\SmartBMS of the third generation, by 123electric. Commands and values are lines of text that
//! end with CR; the values come for about a second after each ping. Sources:
//! 123electric/123SmartBMS-Venus, dudeofea/123SmartBMS_Python_Client, aiobmsble.
//!
//! Settings have the form of the login, so nothing but the commands below is ever sent.

use std::collections::BTreeMap;
use std::time::Duration;

use super::checksum::sum8;
use super::info::Characteristic;
use super::query::Progress;
use super::values::{centi_percent, deci_celsius};
use super::{
    AdvertisementMatcher, DecodeError, Driver, DriverInfo, Framing, GattChannel, GattProfile, Need,
    Options, Pacing, ProtocolError, RequestReply, Runner, Side, StatusWord, status_word,
};
use crate::model::reading::{Cell, Probe, SensorLocation};
use crate::model::units::{Milliamps, Millivolts};
use crate::model::{Reading, Secret};

pub static INFO: DriverInfo = DriverInfo {
    gatt: Some(GattProfile { channels: &[CHANNEL], streams: false }),
    matchers: &[
        AdvertisementMatcher::Name("123\\SmartBMS*"),
        AdvertisementMatcher::Manufacturer(2330),
    ],
    text: true,
    unchecked: true,
    verified: "constructed lines",
    ..DriverInfo::new("123smart", "123\\SmartBMS", new)
};

const fn nordic_uart(short: u128) -> Characteristic {
    const SERVICE: u128 = 0x6E40_0001_B5A3_F393_E0A9_E50E_24DC_CA9E;
    Characteristic { service: SERVICE, uuid: SERVICE + ((short - 1) << 96) }
}

const CHANNEL: GattChannel = GattChannel::new(&[nordic_uart(3)], nordic_uart(2));

fn new(options: &Options) -> Box<dyn Driver> {
    Box::new(Runner::new(Smart123 {
        timeout: options.timeout.min(TIMEOUT),
        pin: options.password.clone(),
        logged_in: false,
        numbering: None,
        received: Received::default(),
    }))
}

const TIMEOUT: Duration = Duration::from_secs(3);
const SETTLE: Duration = Duration::from_millis(300);
/// Without a ping the values stop after about a second.
const PING_INTERVAL: Duration = Duration::from_millis(600);
const LONGEST_LINE: usize = 100;
/// Temperature of 0 °C.
const FREEZING: i32 = 0x114;

/// Set for every cell.
const CHARGING: u8 = 1 << 0;
const DISCHARGING: u8 = 1 << 1;

static STATUS: StatusWord = status_word!("cell_status"; 2 CommunicationFailure,
    3 CellUndervoltage, 4 CellOvervoltage, 5 CellUndertemperature, 6 CellOvertemperature,
    7 "soc_not_calibrated");

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Query {
    Login,
    Start,
    /// Repeated until the reading is complete; the last one has the longest time limit.
    Ping,
    LastPing,
    Version,
}

const PLAN: &[Query] = &[
    Query::Login,
    Query::Start,
    Query::Ping,
    Query::Ping,
    Query::Ping,
    Query::Ping,
    Query::LastPing,
    Query::Version,
];

#[derive(Debug)]
struct Smart123 {
    timeout: Duration,
    pin: Option<Secret>,
    logged_in: bool,
    numbering: Option<Numbering>,
    received: Received,
}

/// How cells above 9 are numbered: decimal for aiobmsble, hexadecimal for the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Numbering {
    Decimal,
    Hexadecimal,
}

/// What has arrived of a reading.
#[derive(Debug, Default)]
struct Received {
    pack: bool,
    energy: bool,
    health: bool,
    /// Number of cells as text.
    count: String,
    /// Number of the last cell line.
    last: String,
    /// By the text of their numbers.
    cells: BTreeMap<String, CellLine>,
}

#[derive(Debug, Clone, Copy)]
struct CellLine {
    voltage: Millivolts,
    temperature: i32,
    status: u8,
}

fn hex(text: &str) -> Result<i32, DecodeError> {
    let is_hex = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = i32::from_str_radix(text, 16).ok().filter(|_| is_hex);
    number.ok_or_else(|| DecodeError::NotANumber { field: "field".into(), text: text.into() })
}

/// A number whose sensor may be missing, which is an X for each digit or nothing.
fn measured(text: &str) -> Result<Option<i32>, DecodeError> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.bytes().all(|byte| byte == b'X') {
        Ok(None)
    } else {
        hex(digits).map(|it| Some(sign * it))
    }
}

/// The content of an answer whose last field is the low byte of the sum of the characters before.
fn checked(line: &str) -> Option<&str> {
    let (content, sum) = line.rsplit_once('_')?;
    let characters: Vec<u8> = content.bytes().filter(|byte| *byte != b'_').collect();
    (sum.len() == 2 && hex(sum).ok()? == i32::from(sum8(&characters))).then_some(content)
}

impl Smart123 {
    fn decode_values(&mut self, line: &str, into: &mut Reading) -> Result<(), DecodeError> {
        let fields: Vec<&str> = line.split('_').collect();
        match fields[..] {
            ["U", voltage, _, pack, _] => {
                let (voltage, current) = (measured(voltage)?, measured(pack)?);
                into.pack.voltage = voltage.map(|raw| Millivolts(raw.saturating_mul(5)));
                into.pack.current = current.map(|raw| Milliamps(raw.saturating_mul(50)));
                self.received.pack = true;
            }
            ["C", index, count, voltage, temperature, status, ..] if fields.len() <= 7 => {
                self.decode_cell(index, count, [voltage, temperature, status])?;
                self.put_cells(into);
            }
            ["E", _, _, _, soc] => {
                into.pack.soc = centi_percent(i64::from(hex(soc)?) * 100);
                self.received.energy = true;
            }
            ["H", soh, ..] => {
                into.pack.soh = centi_percent(i64::from(hex(soh)?) * 100);
                self.received.health = true;
            }
            _ => return Err(DecodeError::Foreign),
        }
        Ok(())
    }

    /// The line after that of cell 09 shows how cells are numbered.
    fn decode_cell(
        &mut self,
        index: &str,
        count: &str,
        rest: [&str; 3],
    ) -> Result<(), DecodeError> {
        let [voltage, temperature, status] = rest;
        let is_number = |text: &str| text.len() == 2 && hex(text).is_ok();
        let status =
            u8::try_from(hex(status)?).ok().filter(|_| is_number(index) && is_number(count));
        let line = CellLine {
            voltage: Millivolts(hex(voltage)?.saturating_mul(5)),
            temperature: hex(temperature)?.saturating_sub(FREEZING),
            status: status.ok_or(DecodeError::Missing("cell status"))?,
        };
        if [index, count].iter().any(|text| text.bytes().any(|byte| !byte.is_ascii_digit())) {
            self.numbering = Some(Numbering::Hexadecimal);
        } else if self.received.last == "09" && index == "10" {
            self.numbering = Some(Numbering::Decimal);
        }
        let received = &mut self.received;
        if received.count != count {
            received.cells.clear();
        }
        (received.count, received.last) = (count.to_owned(), index.to_owned());
        received.cells.insert(index.to_owned(), line);
        Ok(())
    }

    /// The lines of all cells, in order.
    fn cells(&self) -> Option<Vec<CellLine>> {
        let Received { count, cells, .. } = &self.received;
        let numbering = match count.strip_prefix('0') {
            Some(_) => self.numbering.unwrap_or(Numbering::Decimal),
            None => self.numbering?,
        };
        let (radix, text): (u32, fn(u32) -> String) = match numbering {
            Numbering::Decimal => (10, |number| format!("{number:02}")),
            Numbering::Hexadecimal => (16, |number| format!("{number:02X}")),
        };
        let count = u32::from_str_radix(count, radix).ok().filter(|count| *count > 0)?;
        (1..=count).map(|number| cells.get(&text(number)).copied()).collect()
    }

    fn is_complete(&self) -> bool {
        let Received { pack, energy, health, .. } = self.received;
        pack && energy && health && self.cells().is_some()
    }

    fn put_cells(&self, into: &mut Reading) {
        let Some(all) = self.cells() else { return };
        into.cells = all.iter().map(|line| Cell::of(line.voltage)).collect();
        let probe = |line: &CellLine| Probe {
            location: SensorLocation::Cells,
            value: deci_celsius(line.temperature.saturating_mul(10)),
        };
        into.probes = all.iter().map(probe).collect();
        let is_set = |bit: u8| Some(all.iter().all(|line| line.status & bit != 0));
        into.switches.charging = is_set(CHARGING);
        into.switches.discharging = is_set(DISCHARGING);
        let any = all.iter().fold(0, |any, line| any | line.status);
        into.alarms = Default::default();
        STATUS.decode(any & !(CHARGING | DISCHARGING), into);
    }
}

impl RequestReply for Smart123 {
    type Query = Query;

    fn plan(&self) -> &'static [Query] {
        PLAN
    }

    fn is_self_describing(&self, query: Query) -> bool {
        !matches!(query, Query::Login | Query::Start)
    }

    fn need(&self, query: Query) -> Need {
        match query {
            Query::Version => Need::Once,
            _ => Need::Required,
        }
    }

    fn describe(&self, query: Query) -> String {
        match query {
            Query::Login => "the login with the PIN",
            Query::Start => "the start of the values",
            Query::Ping | Query::LastPing => "the request for values",
            Query::Version => "the request for the version",
        }
        .to_owned()
    }

    fn encode(&self, query: Query) -> Vec<u8> {
        match query {
            Query::Login => {
                format!("PW{}!\r", self.pin.as_ref().map_or("", Secret::expose)).into_bytes()
            }
            Query::Start => b"E!\r".to_vec(),
            Query::Ping | Query::LastPing => b"$".to_vec(),
            Query::Version => b"V@\r".to_vec(),
        }
    }

    fn frame(&self, _query: Query, buffer: &[u8]) -> Framing {
        match buffer.iter().position(|byte| *byte == b'\r') {
            Some(end) => Framing::Frame(end + 1),
            None if buffer.len() > LONGEST_LINE => Framing::Junk(buffer.len()),
            None => Framing::NeedMore,
        }
    }

    /// A line that is incomplete or unreadable is left out, as the next one follows soon.
    fn decode(
        &mut self,
        query: Query,
        frame: &[u8],
        into: &mut Reading,
    ) -> Result<(), DecodeError> {
        let line = String::from_utf8_lossy(frame);
        let line = line.trim();
        match (query, line) {
            (Query::Login | Query::Start, "OK") => {
                self.logged_in |= query == Query::Login;
                Ok(())
            }
            (Query::Login | Query::Start, "NA" | "WRONG" | "KO") => {
                Err(DecodeError::Refused { code: 0, reason: "the PIN is wrong or missing" })
            }
            (Query::Login | Query::Start, _) => Err(DecodeError::Foreign),
            (Query::Ping | Query::LastPing, _) => {
                self.decode_values(line, into).map_err(|_| DecodeError::Foreign)
            }
            (Query::Version, _) => {
                let version = checked(line).ok_or(DecodeError::Foreign)?;
                let digits = version.get(..2).zip(version.get(2..4)).filter(|_| version.len() == 4);
                let (numbers, build) = digits.ok_or(DecodeError::Foreign)?;
                let (major, minor) = numbers.split_at(1);
                into.identity.software = Some(format!("{major}.{minor}.{}", hex(build)?));
                Ok(())
            }
        }
    }

    fn pacing(&self, query: Query) -> Pacing {
        let timeout = match query {
            Query::Version => self.timeout.min(Duration::from_secs(1)),
            _ => self.timeout,
        };
        Pacing { timeout, settle: SETTLE.min(timeout), retries: 0, gap: Duration::ZERO }
    }

    fn is_retryable(&mut self, _query: Query, _error: &ProtocolError) -> bool {
        false
    }

    fn begin(&mut self, query: Query) {
        if query == Query::Start {
            self.received = Received::default();
        }
    }

    fn progress(&self, query: Query) -> Progress {
        match query {
            Query::Ping if !self.is_complete() => Progress::Enough(PING_INTERVAL),
            Query::LastPing if !self.is_complete() => Progress::Missing,
            _ => Progress::Complete,
        }
    }

    fn is_due(&self, query: Query) -> bool {
        match query {
            Query::Login => self.pin.is_some() && !self.logged_in,
            Query::Ping | Query::LastPing => !self.is_complete(),
            _ => true,
        }
    }

    fn redact(&self, side: Side, bytes: &mut [u8]) {
        if side == Side::Reader {
            redact(bytes);
        }
    }

    fn reset(&mut self) {
        self.logged_in = false;
        self.numbering = None;
    }
}

/// Overwrites the PIN in `PW<pin>!`.
fn redact(bytes: &mut [u8]) {
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"PW") {
            at += 2;
            while at < bytes.len() && !matches!(bytes[at], b'!' | b'\r') {
                bytes[at] = b'0';
                at += 1;
            }
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests;
