//! Büttner and Dometic Tempra batteries, behind a Telit Terminal I/O module. Sources: recorded
//! frames, Wannesgarrevoet/nbus-esp32.
//!
//! The module passes data on only to a client that has granted credits, one for each notification:
//! the greeting grants 255, which is enough for one read. Text commands open the stream of frames
//! `23 85 pack register data(4)`, which have no checksum. `+++`, which hangs up, and other commands
//! than the three below are never sent.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::info::{Characteristic, short};
use super::query::Progress;
use super::values::{centi_percent, deci_celsius};
use super::{
    AdvertisementMatcher, DecodeError, Driver, DriverInfo, FrameShape, Framing, GattChannel,
    GattProfile, Need, Options, Pacing, Reader, RequestReply, Runner, Side, text,
};
use crate::model::reading::{Cell, Module, Probe, SensorLocation};
use crate::model::units::{MilliampHours, Milliamps, Millivolts, MilliwattHours, mean};
use crate::model::{Reading, Secret};

pub static INFO: DriverInfo = DriverInfo {
    gatt: Some(GattProfile { channels: &[CHANNEL], streams: false }),
    matchers: &[
        AdvertisementMatcher::ManufacturerData(2117, &[0x14, 0x85]),
        AdvertisementMatcher::Name("KAA_*_TLB*"),
    ],
    unchecked: true,
    verified: "recorded frames",
    ..DriverInfo::new("dometic", "Dometic / Büttner Tempra", new)
};

const fn terminal_io(short_uuid: u128) -> Characteristic {
    const BASE: u128 = 0x0000_0000_0000_1000_8000_0080_2500_0000;
    Characteristic { service: short(0xFEFB, 0).service, uuid: BASE | short_uuid << 96 }
}

/// The recorded client returns the MTU that the module indicates, then grants credits.
const CHANNEL: GattChannel = GattChannel {
    greeting: &[(terminal_io(9), &[0x9B, 0x00]), (terminal_io(3), &[0xFF])],
    ..GattChannel::new(&[terminal_io(0x0A), terminal_io(4), terminal_io(2)], terminal_io(1))
};

fn new(options: &Options) -> Box<dyn Driver> {
    Box::new(Runner::new(Dometic {
        timeout: options.ble_timeout(),
        secret: options.password.clone(),
        opened: false,
        packs: BTreeMap::new(),
        kept: BTreeMap::new(),
        known: BTreeSet::new(),
    }))
}

/// Time for further packs when it is not known yet how many there are.
const FURTHER_PACKS: Duration = Duration::from_secs(3);

const FRAME: usize = 8;
const VALUES: u8 = 0x02;
const DESIGN: u8 = 0x07;
const SOC: u8 = 0x0B;
const TEMPERATURE: u8 = 0x0C;
const SOH: u8 = 0x0E;
const ENERGY: u8 = 0x36;
const LETTERS: u8 = 0x54;
const NUMBER: u8 = 0x55;
const CELLS: [u8; 2] = [0x56, 0x57];

/// A pack is complete with these. The others come rarely.
const REQUIRED: &[u8] = &[VALUES, SOC, TEMPERATURE, SOH, ENERGY, CELLS[0], CELLS[1]];

type Registers = BTreeMap<u8, [u8; 4]>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Query {
    Login,
    Network,
    Open,
    Stream,
}

#[derive(Debug)]
struct Dometic {
    timeout: Duration,
    secret: Option<Secret>,
    /// The stream was opened on this connection.
    opened: bool,
    /// What each pack has sent in this cycle.
    packs: BTreeMap<u8, Registers>,
    /// The rare registers of each pack.
    kept: BTreeMap<u8, Registers>,
    /// Packs of the last complete reading.
    known: BTreeSet<u8>,
}

/// A frame of a battery.
struct Register;

impl FrameShape for Register {
    fn may_begin(&self, bytes: &[u8]) -> bool {
        bytes.iter().zip([0x23, 0x85]).all(|(byte, expected)| *byte == expected)
    }

    fn length(&self, _bytes: &[u8]) -> Option<usize> {
        Some(FRAME)
    }

    /// There is no checksum, so only plausible values count.
    fn is_valid(&self, frame: &[u8]) -> bool {
        let &[_, _, _, register, a, b, c, d] = frame else { return false };
        let (first, second) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let is_cell = |raw: u16| raw == 0 || (1000..=5000).contains(&raw);
        match register {
            VALUES => (500..=7000).contains(&first),
            DESIGN => first == 0 && (1..=2000).contains(&second),
            SOC | SOH => a <= 100,
            TEMPERATURE => (100..=1500).contains(&first),
            LETTERS => [b, c, d].iter().all(u8::is_ascii_alphanumeric),
            0x56 | 0x57 => is_cell(first) && is_cell(second),
            _ => true,
        }
    }

    fn is_expected(&self, _frame: &[u8]) -> bool {
        false
    }
}

impl Query {
    /// What the answer begins with.
    fn answer(self) -> &'static [u8] {
        match self {
            Query::Login => b"MST+AEN",
            Query::Network => b"MST+NET",
            Query::Open => b"MST+DCO",
            Query::Stream => b"",
        }
    }
}

impl RequestReply for Dometic {
    type Query = Query;

    fn plan(&self) -> &'static [Query] {
        &[Query::Login, Query::Network, Query::Open, Query::Stream]
    }

    fn is_self_describing(&self, query: Query) -> bool {
        query == Query::Stream
    }

    fn need(&self, _query: Query) -> Need {
        Need::Required
    }

    fn describe(&self, query: Query) -> String {
        match query {
            Query::Login if self.secret.is_none() => "the login without a password",
            Query::Login => "the login with the password",
            Query::Network => "the request for the network",
            Query::Open => "the request for the stream",
            Query::Stream => "the stream",
        }
        .to_owned()
    }

    fn encode(&self, query: Query) -> Vec<u8> {
        match (query, &self.secret) {
            (Query::Login, Some(secret)) => format!("APP+AEN={}", secret.expose()).into_bytes(),
            (Query::Login, None) => b"APP+AEN".to_vec(),
            (Query::Network, _) => b"APP+NET".to_vec(),
            (Query::Open, _) => b"APP+RDN=1".to_vec(),
            (Query::Stream, _) => Vec::new(),
        }
    }

    /// The texts have no end mark.
    fn frame(&self, query: Query, buffer: &[u8]) -> Framing {
        if query == Query::Stream {
            return Register.find(buffer);
        }
        let answer = query.answer();
        match buffer.windows(answer.len()).position(|window| window == answer) {
            Some(0) => Framing::Frame(answer.len()),
            Some(start) => Framing::Junk(start),
            None => Framing::Junk(buffer.len().saturating_sub(answer.len() - 1)),
        }
    }

    fn decode(
        &mut self,
        query: Query,
        frame: &[u8],
        into: &mut Reading,
    ) -> Result<(), DecodeError> {
        if query != Query::Stream {
            self.opened |= query == Query::Open;
            return Ok(());
        }
        let &[_, _, pack, register, a, b, c, d] = frame else {
            return Err(DecodeError::Length(frame.len()));
        };
        let data = [a, b, c, d];
        match register {
            DESIGN | LETTERS | NUMBER => {
                self.kept.entry(pack).or_default().insert(register, data);
            }
            _ if REQUIRED.contains(&register) => {
                self.packs.entry(pack).or_default().insert(register, data);
            }
            // The meaning of the others is not known.
            _ => return Err(DecodeError::Foreign),
        }
        if self.is_complete() { self.fill(into) } else { Ok(()) }
    }

    fn pacing(&self, _query: Query) -> Pacing {
        Pacing { timeout: self.timeout, settle: self.timeout, ..Pacing::default() }
    }

    fn begin(&mut self, query: Query) {
        if query == Query::Stream {
            let packs = std::mem::take(&mut self.packs);
            let is_complete = packs.values().all(is_complete);
            self.known = if is_complete { packs.into_keys().collect() } else { BTreeSet::new() };
        }
    }

    fn progress(&self, query: Query) -> Progress {
        match query {
            Query::Stream if !self.is_complete() => Progress::Missing,
            Query::Stream if self.known.is_empty() => Progress::Enough(FURTHER_PACKS),
            _ => Progress::Complete,
        }
    }

    fn is_due(&self, query: Query) -> bool {
        query == Query::Stream || !self.opened
    }

    fn redact(&self, side: Side, bytes: &mut [u8]) {
        if side == Side::Reader {
            redact(bytes);
        }
    }

    fn reset(&mut self) {
        self.opened = false;
    }
}

fn is_complete(pack: &Registers) -> bool {
    REQUIRED.iter().all(|register| pack.contains_key(register))
}

impl Dometic {
    fn is_complete(&self) -> bool {
        let is_here = |pack: &u8| self.packs.contains_key(pack);
        !self.packs.is_empty()
            && self.packs.values().all(is_complete)
            && self.known.iter().all(is_here)
    }

    /// A reading of all packs, which are in parallel.
    fn fill(&self, into: &mut Reading) -> Result<(), DecodeError> {
        let mut reading = Reading::default();
        let (mut voltages, mut socs, mut sohs) = (Vec::new(), Vec::new(), Vec::new());
        let (mut current, mut energy, mut charge) = (0, 0, 0);
        let mut design = Some(0);
        for (pack, registers) in &self.packs {
            let kept = self.kept.get(pack);
            let rare = |register: u8| kept.and_then(|kept| kept.get(&register));
            let register = |register: u8| {
                let data = registers.get(&register).ok_or(DecodeError::Missing("register"))?;
                Ok::<_, DecodeError>(Reader::big_endian(data))
            };
            let mut values = register(VALUES)?;
            let voltage = i32::from(values.u16()?) * 10;
            let raw = values.u16()?;
            let amount = i32::from(raw & 0x7FFF) * 10;
            // The highest bit is the direction.
            current += if raw & 0x8000 != 0 { -amount } else { amount };
            let watt_hours = i64::from(register(ENERGY)?.u16()?);
            energy += watt_hours * 1000;
            charge += watt_hours * 1_000_000 / i64::from(voltage.max(1));
            voltages.push(Millivolts(voltage));
            socs.extend(centi_percent(i64::from(register(SOC)?.u8()?) * 100));
            sohs.extend(centi_percent(i64::from(register(SOH)?.u8()?) * 100));
            let amp_hours = rare(DESIGN).map(|data| i64::from(u32::from_be_bytes(*data)));
            design = design.zip(amp_hours).map(|(sum, amp_hours)| sum + amp_hours * 1000);
            let value = deci_celsius(i32::from(register(TEMPERATURE)?.u16()?) - 500);
            reading.probes.push(Probe { location: SensorLocation::Cells, value });
            let first = reading.cells.len();
            for part in CELLS {
                let fitted = register(part)?.u16s(2)?.into_iter().filter(|raw| *raw > 0);
                reading.cells.extend(fitted.map(|raw| Cell::of(Millivolts(raw.into()))));
            }
            let serial = rare(LETTERS).zip(rare(NUMBER)).and_then(|(letters, number)| {
                let number = u32::from_be_bytes([0, number[1], number[2], number[3]]);
                Some(format!("{}{number}", text(&letters[1..])?))
            });
            let cells = first..reading.cells.len();
            reading.modules.push(Module { serial, cells, range: None });
        }
        let pack = &mut reading.pack;
        (pack.voltage, pack.current) = (mean(&voltages), Some(Milliamps(current)));
        (pack.soc, pack.soh) = (mean(&socs), mean(&sohs));
        pack.remaining_energy = Some(MilliwattHours(energy));
        pack.remaining = Some(MilliampHours(charge));
        pack.design = design.map(MilliampHours);
        if let [only] = &mut reading.modules[..] {
            reading.identity.serial = only.serial.take();
            reading.modules.clear();
        }
        *into = reading;
        Ok(())
    }
}

/// Overwrites the secret of a login, which ends where the next command begins.
fn redact(bytes: &mut [u8]) {
    const LOGIN: &[u8] = b"APP+AEN=";
    let mut secret = false;
    for at in 0..bytes.len() {
        if bytes[..at].ends_with(LOGIN) {
            secret = true;
        }
        secret &= !bytes[at..].starts_with(b"APP+");
        if secret {
            bytes[at] = b'0';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redacted_login_has_no_secret() {
        let mut bytes = b"APP+AEN=s3cretAPP+NETAPP+AEN=x".to_vec();
        redact(&mut bytes);
        assert_eq!(bytes, b"APP+AEN=000000APP+NETAPP+AEN=0");
    }

    #[test]
    fn packs_are_added_up() {
        let mut driver = Dometic {
            timeout: Options::default().ble_timeout(),
            secret: None,
            opened: true,
            packs: BTreeMap::new(),
            kept: BTreeMap::new(),
            known: BTreeSet::new(),
        };
        let mut reading = Reading::default();
        for (pack, values) in [(0, [0x05, 0x30, 0x81, 0x11]), (15, [0x05, 0x2F, 0x00, 0x24])] {
            let rest =
                [(SOC, 92), (TEMPERATURE, 2), (SOH, 100), (ENERGY, 7), (0x56, 13), (0x57, 13)];
            let frames = rest.map(|(register, first)| (register, [first, 0x20, 0x0D, 0x00]));
            for (register, data) in [(VALUES, values)].into_iter().chain(frames) {
                let frame = [&[0x23, 0x85, pack, register], &data[..]].concat();
                assert!(Register.is_valid(&frame), "{frame:x?}");
                driver.decode(Query::Stream, &frame, &mut reading).unwrap();
            }
        }
        let pack = &reading.pack;
        assert_eq!(
            (pack.voltage, pack.current),
            (Some(Millivolts(13_275)), Some(Milliamps(-2370)))
        );
        assert_eq!((reading.modules.len(), reading.cells.len(), pack.design), (2, 8, None));
    }
}
