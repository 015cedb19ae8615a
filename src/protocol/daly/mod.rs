//! Daly boards. They speak three dialects that have little in common but the vendor: [A5](a5) of
//! older boards, [D2](d2) of newer ones and of balancers, and a [third one](p81); each on wires and,
//! with a module, over Bluetooth. Nothing on a board shows which one it speaks, so they are tried
//! one after the other with requests that only read; every board that was seen ignores the other
//! dialects. `BMS_VARIANT` (`a5`, `d2`, `p81`) selects one.

pub(crate) mod a5;
mod d2;
mod dialect;
mod p81;
mod query;
mod registers;
pub(crate) mod status;
mod values;

use std::time::Duration;

use super::modbus::{self, READ, WRITE};
use super::{
    AdvertisementMatcher, CycleKind, DecodeError, DriverInfo, FrameShape, Framing, GattChannel,
    GattProfile, Medium, Need, Options, Pacing, RequestReply, Runner, SerialDefaults, short,
};
use crate::model::{Reading, Setting, Switch};
use a5::Counts;
use dialect::{DIALECTS, Dialect};
use query::{Query, Request, SET_SWITCH};
use registers::Registers;

pub static INFO: DriverInfo = DriverInfo {
    serial: SerialDefaults::new(&[9600], 1),
    gatt: Some(GattProfile { channels: CHANNELS, streams: false }),
    matchers: MATCHERS,
    addresses: 1..=15,
    variants: &["a5", "d2", "p81"],
    controls: &[Switch::Charging, Switch::Discharging],
    verified: "recorded frames of fifteen boards in three dialects; most alarms and all switching \
               from documents only",
    ..DriverInfo::new("daly", "Daly", |options| Box::new(Runner::new(Daly::new(options))))
};

/// Owners rename their boards; the manufacturer data contains the address and `DL` or `JHB`. The
/// company ids are no assigned ones: the first byte of the data belongs to the mark.
const MATCHERS: &[AdvertisementMatcher] = &[
    AdvertisementMatcher::Name("DL-*"),
    AdvertisementMatcher::Name("JHB-*"),
    AdvertisementMatcher::ManufacturerData(0x0104, &[0x01]),
    AdvertisementMatcher::ManufacturerData(0x0302, &[0x16]),
    AdvertisementMatcher::ManufacturerData(0x0303, &[0x00]),
    AdvertisementMatcher::ManufacturerData(0x0402, &[0x27]),
];

/// Some modules refuse subscriptions to the first.
const CHANNELS: &[GattChannel] = &[
    GattChannel::new(&[short(0xFFF0, 0xFFF1)], short(0xFFF0, 0xFFF2)),
    GattChannel::new(&[short(0xFF00, 0xFF01)], short(0xFF00, 0xFF02)),
];

/// Without 20 ms of quiet between its reply and the next request, a board does not reply
/// (dbus-serialbattery).
const GAP: Duration = Duration::from_millis(20);
/// Replies of several frames may continue after the last cell, with at most this long between two
/// frames.
const LONG_GAP: Duration = Duration::from_millis(80);
/// Between setting a switch and reading it back.
const SWITCH_DELAY: Duration = Duration::from_millis(500);
const SETTLE: Duration = Duration::from_millis(300);
const RETRIES: u8 = 2;
/// Boards reply within 400 ms, or do not speak the dialect.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(1);
/// On Bluetooth the operator's limit is for a whole read.
const BLE_TIMEOUT: Duration = Duration::from_secs(3);

/// A conversation with one board.
#[derive(Debug)]
struct Daly {
    number: u8,
    timeout: Duration,
    /// Possible dialects, in the order of trials.
    dialects: Vec<&'static Dialect>,
    session: Session,
}

#[derive(Debug, Default)]
struct Session {
    /// Index of the dialect in use.
    current: usize,
    /// The dialect in use had a reply.
    proven: bool,
    counts: Counts,
    setting: Option<Setting>,
    /// The last request with a reply, which decides how long the line has to be left quiet.
    last: Option<&'static Query>,
}

impl Daly {
    fn new(options: &Options) -> Self {
        let timeout = match options.medium {
            Medium::Serial => options.timeout,
            Medium::Ble => options.timeout.min(BLE_TIMEOUT),
        };
        let variant = options.variant.as_deref().filter(|name| INFO.variants.contains(name));
        let is_possible = |dialect: &&&Dialect| match variant {
            _ if dialect.ble_only && options.medium != Medium::Ble => false,
            Some(variant) => dialect.variant == variant,
            None => dialect.numbered || options.address == 1,
        };
        Daly {
            number: options.address,
            timeout,
            dialects: DIALECTS.iter().filter(is_possible).copied().collect(),
            session: Session::default(),
        }
    }

    fn dialect(&self) -> &'static Dialect {
        self.dialects.get(self.session.current).copied().unwrap_or(DIALECTS[0])
    }

    /// Register or command of the switch to set.
    fn switch(&self) -> u16 {
        match self.session.setting.map(|setting| setting.switch) {
            Some(Switch::Charging) => self.dialect().charging,
            _ => self.dialect().discharging,
        }
    }

    fn on(&self) -> bool {
        self.session.setting.is_some_and(|setting| setting.on)
    }

    fn command(&self, query: &Query) -> u8 {
        match query.request {
            Request::Command(command) => command,
            // Commands of switches have eight bits.
            _ => self.switch() as u8,
        }
    }

    fn expected_frames(&self, query: &Query) -> a5::Expected {
        let (_, board) = (self.dialect().addresses)(self.number);
        a5::Expected::new(board, self.command(query), self.session.counts)
    }

    fn expected_registers(&self, query: &Query) -> modbus::Expected {
        let (_, address) = (self.dialect().addresses)(self.number);
        match query.request {
            Request::Registers { count, .. } => modbus::Expected { address, function: READ, count },
            _ => modbus::Expected { address, function: WRITE, count: 0 },
        }
    }
}

impl RequestReply for Daly {
    type Query = &'static Query;

    fn plan(&self) -> &'static [&'static Query] {
        self.dialect().plan
    }

    /// The live values come first: they find the dialect, and wake the board.
    fn write_plan(&mut self, setting: Setting) -> Vec<&'static Query> {
        if !INFO.controls.contains(&setting.switch) {
            return Vec::new();
        }
        self.session.setting = Some(setting);
        let dialect = self.dialect();
        dialect.plan.iter().take(1).copied().chain([&SET_SWITCH, dialect.read_back]).collect()
    }

    /// A reply contains its command, or has a length that only it has.
    fn is_self_describing(&self, query: &'static Query) -> bool {
        query != &SET_SWITCH
    }

    fn need(&self, query: &'static Query) -> Need {
        if self.session.last == Some(&SET_SWITCH) { Need::Required } else { query.need }
    }

    fn describe(&self, query: &'static Query) -> String {
        let title = query.title;
        match query.request {
            Request::Registers { first, count, .. } => {
                format!("{title} ({count} registers from {first:02X})")
            }
            _ if self.dialect().modbus => format!("{title} (register {:02X})", self.switch()),
            _ => format!("{title} (command {:02X})", self.command(query)),
        }
    }

    fn encode(&self, query: &'static Query) -> Vec<u8> {
        let (address, _) = (self.dialect().addresses)(self.number);
        match query.request {
            Request::Registers { first, count, .. } => {
                modbus::request(address, READ, first, count.into())
            }
            _ if self.dialect().modbus => {
                modbus::request(address, WRITE, self.switch(), self.on().into())
            }
            _ => {
                let state = query == &SET_SWITCH && self.on();
                let data = [state.into(), 0, 0, 0, 0, 0, 0, 0];
                a5::encode(address, self.command(query), data)
            }
        }
    }

    /// A board confirms a write by repeating it, in D2 from the same address.
    fn reply_equals_request(&self, query: &'static Query) -> bool {
        let (request, reply) = (self.dialect().addresses)(self.number);
        query == &SET_SWITCH && self.dialect().modbus && request == reply
    }

    fn frame(&self, query: &'static Query, buffer: &[u8]) -> Framing {
        match self.dialect().modbus {
            true => self.expected_registers(query).find(buffer),
            false => self.expected_frames(query).find_reply(buffer),
        }
    }

    fn decode(
        &mut self,
        query: &'static Query,
        frame: &[u8],
        into: &mut Reading,
    ) -> Result<(), DecodeError> {
        if self.dialect().modbus {
            let mut reader = self.expected_registers(query).data(frame)?;
            if let Request::Registers { first, count, decode } = query.request {
                decode(&Registers::read(first, count, &mut reader)?, into)?;
            }
        } else {
            let expected = self.expected_frames(query);
            // The reply to a write begins with the new state.
            if query == &SET_SWITCH && (expected.data(frame)?[0] != 0) != self.on() {
                let actual = if self.on() { "off" } else { "on" };
                return Err(DecodeError::Invalid(format!("the board reports {actual} instead")));
            }
            expected.decode(frame, &mut self.session.counts, into)?;
        }
        self.session.proven = true;
        self.session.last = Some(query);
        Ok(())
    }

    fn pacing(&self, _query: &'static Query) -> Pacing {
        let gap = match self.session.last {
            Some(last) if last == &SET_SWITCH => SWITCH_DELAY,
            Some(last) if last == &a5::CELLS || last == &a5::TEMPERATURES => LONG_GAP,
            _ => GAP,
        };
        let timeout =
            if self.session.proven { self.timeout } else { self.timeout.min(TRIAL_TIMEOUT) };
        Pacing { timeout, gap, settle: SETTLE, retries: RETRIES }
    }

    /// As long as no dialect had a reply, the next one is tried in the same cycle.
    fn fallback_plan(
        &mut self,
        query: &'static Query,
        kind: CycleKind,
    ) -> Option<Vec<&'static Query>> {
        if self.session.proven || self.plan().first() != Some(&query) {
            return None;
        }
        self.session.current = (self.session.current + 1) % self.dialects.len().max(1);
        if self.session.current == 0 {
            return None;
        }
        Some(match kind {
            CycleKind::Write(setting) => self.write_plan(setting),
            CycleKind::Read | CycleKind::Identify => self.plan().to_vec(),
        })
    }

    fn reset(&mut self) {
        self.session = Session::default();
    }
}

#[cfg(test)]
mod tests;
