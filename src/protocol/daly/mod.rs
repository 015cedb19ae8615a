//! Daly boards. They speak three dialects that have little in common but the maker: [A5](a5) of
//! older boards, [D2](d2) of newer ones and of balancers, and a [third one](p81); each on wires and,
//! with a module, over Bluetooth. Nothing on a board tells which one it speaks, so they are tried
//! one after the other with questions that only read; a wrong one is ignored by every board that
//! was seen. `BMS_VARIANT` (`a5`, `d2`, `p81`) says which one it is.

mod a5;
mod d2;
mod p81;
mod status;
mod way;

use std::time::Duration;

use super::advertisement::AdvertisementMatcher;
use super::bytes::Reader;
use super::info::{
    Characteristic, DriverInfo, GattChannel, GattProfile, SerialDefaults, WriteMode,
};
use super::modbus::{self, READ, WRITE};
use super::query::{Answer, Framing, Need, Pacing, RequestReply, Runner};
use crate::model::Reading;
use crate::model::reading::{Setting, Switch};
use crate::protocol::{CycleKind, Medium, Options};
use crate::protocol::{DecodeError, ProtocolError};
use a5::{Counts, command};
use way::{Dialect, Query, VARIANTS};

/// What the rest of the program knows about this brand.
pub static INFO: DriverInfo = DriverInfo {
    serial: SerialDefaults::new(&[9600], 1),
    gatt: Some(GattProfile { channels: CHANNELS, streams: false }),
    matchers: &[AdvertisementMatcher::Name("DL-*"), AdvertisementMatcher::Name("JHB-*")],
    addresses: 1..=15,
    variants: VARIANTS,
    controls: &[Switch::Charging, Switch::Discharging],
    verified: "recorded frames of fifteen boards in three dialects; most alarms and all switching \
               from documents only",
    ..DriverInfo::new("daly", "Daly", |options| Box::new(Runner::new(Daly::new(options))))
};

/// Some modules refuse subscriptions to the first.
const CHANNELS: &[GattChannel] = &[
    GattChannel {
        notify: &[Characteristic::short(0xFFF0, 0xFFF1)],
        write: Characteristic::short(0xFFF0, 0xFFF2),
        write_mode: WriteMode::Auto,
    },
    GattChannel {
        notify: &[Characteristic::short(0xFF00, 0xFF01)],
        write: Characteristic::short(0xFF00, 0xFF02),
        write_mode: WriteMode::Auto,
    },
];

fn counted(field: &'static str, count: u16, least: u8, most: u8) -> Result<usize, DecodeError> {
    if (u16::from(least)..=most.into()).contains(&count) {
        Ok(count.into())
    } else {
        Err(DecodeError::OutOfRange { field, value: count.into() })
    }
}

/// Tenths of a per cent, as hundredths.
fn soc(raw: u16) -> Result<i32, DecodeError> {
    if raw <= 1000 {
        Ok(i32::from(raw) * 10)
    } else {
        Err(DecodeError::OutOfRange { field: "soc", value: raw.into() })
    }
}

/// Tenths of an ampere; no board carries a thousand amperes.
fn amps(tenths: i32) -> Result<i32, DecodeError> {
    if tenths.abs() < 10_000 {
        Ok(tenths)
    } else {
        Err(DecodeError::OutOfRange { field: "current", value: tenths.into() })
    }
}

/// A board needs 20 ms of quiet between its answer and the next question.
const GAP: Duration = Duration::from_millis(50);
/// Answers of several frames go on for up to 15 frames after the last cell.
const LONG_GAP: Duration = Duration::from_millis(230);
/// Between an order and the look at what became of it.
const TURN: Duration = Duration::from_millis(500);
const SETTLE: Duration = Duration::from_millis(300);
const RETRIES: u8 = 2;
/// Boards answer within 400 ms, or do not speak the dialect.
const TRIAL: Duration = Duration::from_secs(1);
/// On Bluetooth the operator's limit is for a whole read.
const RADIO_ANSWER: Duration = Duration::from_secs(3);

/// A conversation with one board.
#[derive(Debug)]
struct Daly {
    number: u8,
    timeout: Duration,
    /// In the order of what a trial costs.
    ways: Vec<Dialect>,
    way: usize,
    proven: bool,
    counts: Counts,
    wanted: Option<Setting>,
    /// What was answered last, as it decides how long the line has to be left quiet.
    last: Option<Query>,
}

impl Daly {
    fn new(options: &Options) -> Self {
        let (timeout, a5): (_, &[Dialect]) = match options.medium {
            Medium::Serial => (options.timeout, &[Dialect::A5]),
            Medium::Ble => (options.timeout.min(RADIO_ANSWER), &[Dialect::A5App, Dialect::A5]),
        };
        // A board of the D2 dialect has no number: on a bus all of them would answer.
        let unnumbered = [Dialect::D2, Dialect::P81];
        let numbered = [Dialect::P81];
        let modbus: &[Dialect] = if options.address == 1 { &unnumbered } else { &numbered };
        let ways = match options.variant.as_deref() {
            Some("d2") => vec![Dialect::D2],
            Some("p81") => vec![Dialect::P81],
            Some("a5") => a5.to_vec(),
            _ => [modbus, a5].concat(),
        };
        Daly {
            number: options.address,
            timeout,
            ways,
            way: 0,
            proven: false,
            counts: Counts::default(),
            wanted: None,
            last: None,
        }
    }

    fn way(&self) -> Dialect {
        self.ways.get(self.way).copied().unwrap_or(Dialect::D2)
    }

    fn turning(&self) -> bool {
        self.last == Some(Query::Turn)
    }

    /// The registers of a question, for a dialect that has registers.
    fn registers(query: Query) -> Option<(u16, u8)> {
        Some(match query {
            Query::Status => d2::STATUS,
            Query::Board => d2::BOARD,
            Query::Settings => d2::SETTINGS,
            Query::Versions => d2::VERSIONS,
            Query::First => p81::FIRST,
            Query::Second => p81::SECOND,
            Query::About => p81::VERSIONS,
            _ => return None,
        })
    }

    /// The command of a question or an order in the A5 dialect.
    fn command(&self, query: Query) -> u8 {
        match query {
            Query::Counts => command::COUNTS,
            Query::Cells => command::CELLS,
            Query::Switches => command::SWITCHES,
            Query::Temperatures => command::TEMPERATURES,
            Query::Balancing => command::BALANCING,
            Query::Failures => command::FAILURES,
            Query::Rated => command::RATED,
            Query::Turn if self.wants(Switch::Charging) => a5::CHARGING,
            Query::Turn => a5::DISCHARGING,
            _ => command::TOTALS,
        }
    }

    fn wants(&self, switch: Switch) -> bool {
        self.wanted.is_some_and(|wanted| wanted.switch == switch)
    }

    fn on(&self) -> bool {
        self.wanted.is_some_and(|wanted| wanted.on)
    }

    /// Address bytes of a question and of its answer.
    fn addresses(&self) -> (u8, u8) {
        const WIRE: u8 = 0x40;
        const APP: u8 = 0x80;
        let number = self.number;
        match self.way() {
            Dialect::D2 => (d2::ADDRESS, d2::ADDRESS),
            Dialect::P81 => (p81::ASKED.wrapping_add(number), p81::ANSWERS.wrapping_add(number)),
            Dialect::A5 => (WIRE.wrapping_add(number).wrapping_sub(1), number),
            Dialect::A5App => (APP.wrapping_add(number).wrapping_sub(1), number),
        }
    }

    fn frames_of(&self, query: Query) -> a5::Expected {
        let Counts { cells, sensors } = self.counts;
        let command = self.command(query);
        let frames = a5::frames(command, cells, sensors);
        a5::Expected { board: self.addresses().1, command, frames }
    }

    fn registers_of(&self, query: Query) -> modbus::Expected {
        let (_, address) = self.addresses();
        match Daly::registers(query) {
            Some((_, count)) => modbus::Expected { address, function: READ, count },
            None => modbus::Expected { address, function: WRITE, count: 0 },
        }
    }

    /// `None`: the answer is somebody else's.
    fn read_a5(
        &mut self,
        query: Query,
        frame: &[u8],
        into: &mut Reading,
    ) -> Result<Option<()>, ProtocolError> {
        let expected = self.frames_of(query);
        let title = self.describe(query);
        let Some(data) = expected.data(frame, &title)? else { return Ok(None) };
        let decoded = match query {
            Query::Cells => {
                a5::cells(&expected.series_data(frame), self.counts, into);
                Ok(())
            }
            Query::Temperatures => {
                a5::temperatures(&expected.series_data(frame), self.counts, into);
                Ok(())
            }
            // The answer to an order has the new state in front.
            Query::Turn if (data[0] != 0) != self.on() => {
                let actual = if self.on() { "off" } else { "on" };
                Err(DecodeError::Invalid(format!("the board reports {actual} instead")))
            }
            _ => a5::single(expected.command, data, &mut self.counts, into),
        };
        decoded.map(Some).map_err(|misfit| bad(title, misfit))
    }

    fn read_registers(
        &self,
        query: Query,
        frame: &[u8],
        into: &mut Reading,
    ) -> Result<(), ProtocolError> {
        let title = self.describe(query);
        let mut reader: Reader<'_> = self.registers_of(query).data(frame, &title)?;
        let reader = &mut reader;
        let decoded = match query {
            Query::Status => d2::status(reader, into),
            Query::Board => d2::board(reader, into),
            Query::Settings => d2::settings(reader, into),
            Query::Versions => d2::versions(reader, into),
            Query::First => p81::first(reader, into),
            Query::Second => p81::second(reader, into),
            Query::About => p81::versions(reader, into),
            // That it was heard says that it repeats the order; the status tells the rest.
            _ => Ok(()),
        };
        decoded.map_err(|misfit| bad(title, misfit))
    }
}

fn bad(query: String, misfit: DecodeError) -> ProtocolError {
    ProtocolError::BadFrame { query, reason: misfit.to_string() }
}

impl RequestReply for Daly {
    type Query = Query;

    fn plan(&self) -> &'static [Query] {
        self.way().plan()
    }

    /// The live question goes first: it finds the dialect, and wakes the board.
    fn write_plan(&mut self, setting: Setting) -> Vec<Query> {
        if !INFO.controls.contains(&setting.switch) {
            return Vec::new();
        }
        self.wanted = Some(setting);
        vec![self.way().live(), Query::Turn, self.way().proof()]
    }

    /// An answer names its command, or has a length that only it has.
    fn is_self_describing(&self, query: Query) -> bool {
        query != Query::Turn
    }

    fn need(&self, query: Query) -> Need {
        match query {
            _ if self.turning() => Need::Required,
            Query::Totals | Query::Counts | Query::Cells | Query::Turn => Need::Required,
            Query::Status | Query::First => Need::Required,
            Query::Settings | Query::Versions | Query::About | Query::Rated => Need::Once,
            _ => Need::Steady,
        }
    }

    fn describe(&self, query: Query) -> String {
        match (self.way(), Daly::registers(query)) {
            (_, Some((first, count))) => format!("{query:?} ({count} registers from {first:02X})"),
            (Dialect::D2 | Dialect::P81, None) => format!("{query:?} (an order)"),
            (Dialect::A5 | Dialect::A5App, None) => {
                format!("{query:?} (command {:02X})", self.command(query))
            }
        }
    }

    fn encode(&self, query: Query) -> Vec<u8> {
        let (address, _) = self.addresses();
        let charging = self.wants(Switch::Charging);
        match (self.way(), Daly::registers(query)) {
            (_, Some((first, count))) => modbus::question(address, READ, first, count.into()),
            (Dialect::D2, None) => {
                let register = if charging { d2::CHARGING } else { d2::DISCHARGING };
                modbus::question(address, WRITE, register, self.on().into())
            }
            (Dialect::P81, None) => {
                let register = if charging { p81::CHARGING } else { p81::DISCHARGING };
                modbus::question(address, WRITE, register, self.on().into())
            }
            (Dialect::A5 | Dialect::A5App, None) => {
                let state = query == Query::Turn && self.on();
                a5::question(address, self.command(query), state.into())
            }
        }
    }

    /// A good write of the D2 dialect is repeated to the letter.
    fn reply_equals_request(&self, query: Query) -> bool {
        query == Query::Turn && self.way() == Dialect::D2
    }

    fn frame(&self, query: Query, buffer: &[u8]) -> Framing {
        match self.way() {
            Dialect::D2 | Dialect::P81 => self.registers_of(query).find(buffer),
            Dialect::A5 | Dialect::A5App => self.frames_of(query).find(buffer),
        }
    }

    fn decode(
        &mut self,
        query: Query,
        frame: &[u8],
        into: &mut Reading,
    ) -> Result<Answer, ProtocolError> {
        match self.way() {
            Dialect::D2 | Dialect::P81 => self.read_registers(query, frame, into)?,
            Dialect::A5 | Dialect::A5App => {
                if self.read_a5(query, frame, into)?.is_none() {
                    return Ok(Answer::Foreign);
                }
            }
        }
        self.proven = true;
        self.last = Some(query);
        Ok(Answer::Ours)
    }

    fn pacing(&self, _query: Query) -> Pacing {
        let gap = match self.last {
            Some(Query::Turn) => TURN,
            Some(Query::Cells | Query::Temperatures) => LONG_GAP,
            _ => GAP,
        };
        let timeout = if self.proven { self.timeout } else { self.timeout.min(TRIAL) };
        Pacing { timeout, gap, settle: SETTLE, retries: RETRIES }
    }

    /// As long as no dialect was answered, the next one is tried in the same cycle.
    fn fallback_plan(&mut self, query: Query, kind: CycleKind) -> Option<Vec<Query>> {
        if self.proven || query != self.way().live() {
            return None;
        }
        self.way = (self.way + 1) % self.ways.len().max(1);
        if self.way == 0 {
            return None;
        }
        Some(match kind {
            CycleKind::Write(setting) => self.write_plan(setting),
            CycleKind::Read | CycleKind::Identify => self.way().plan().to_vec(),
        })
    }

    fn reset(&mut self) {
        self.way = 0;
        self.proven = false;
        self.counts = Counts::default();
        self.wanted = None;
        self.last = None;
    }
}

#[cfg(test)]
mod tests;
