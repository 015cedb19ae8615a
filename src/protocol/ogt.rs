//! Offgridtec LiFePo4 Smart, whose names are `SmartBat-A…` and `SmartBat-B…`. Each request reads one
//! register as text; a key from the name is mixed into every byte. Sources: aiobmsble,
//! syssi/esphome-ogt-bms. The packs of 2019 and the newest ones speak other protocols.

use std::time::Duration;

use super::info::{Characteristic, short};
use super::values::{centi_percent, deci_kelvin};
use super::{
    AdvertisementMatcher, CycleKind, DecodeError, Driver, DriverInfo, FrameShape, Framing,
    GattChannel, GattProfile, Need, Options, Pacing, ProtocolError, RequestReply, Runner, Step,
};
use crate::model::Reading;
use crate::model::reading::{Cell, Probe, SensorLocation};
use crate::model::units::{MilliampHours, Milliamps, Millivolts};

pub static INFO: DriverInfo = DriverInfo {
    gatt: Some(GattProfile { channels: &[CHANNEL], streams: false }),
    matchers: &[AdvertisementMatcher::Name("SmartBat-[AB]*")],
    text: true,
    unchecked: true,
    verified: "constructed frames",
    ..DriverInfo::new("ogt", "Offgridtec Smart", new)
};

const NOTIFY: Characteristic = short(0xFFF0, 0xFFF4);
const CHANNEL: GattChannel = GattChannel::new(&[NOTIFY], short(0xFFF0, 0xFFF6));

fn new(options: &Options) -> Box<dyn Driver> {
    match options.name.as_deref().and_then(Kind::of) {
        Some((kind, key)) => {
            let timeout = options.timeout.min(TIMEOUT);
            Box::new(Runner::new(Ogt { timeout, kind, key, no_more_cells: false }))
        }
        None => Box::new(NoKey),
    }
}

const TIMEOUT: Duration = Duration::from_secs(3);
const SETTLE: Duration = Duration::from_millis(300);
const RETRIES: u8 = 2;

/// Added to the key for each digit of the number in the name.
const DIGITS: [u8; 16] = [2, 5, 4, 3, 1, 4, 1, 6, 8, 3, 7, 2, 5, 8, 9, 3];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    A,
    B,
}

impl Kind {
    /// The kind and the key of a battery with this name.
    fn of(name: &str) -> Option<(Kind, u8)> {
        let name = name.trim().to_ascii_uppercase();
        let rest = name.strip_prefix("SMARTBAT-")?;
        let (kind, base) = match rest.as_bytes().first()? {
            b'A' => (Kind::A, 5),
            b'B' => (Kind::B, 8),
            _ => return None,
        };
        let end = rest[1..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |end| end + 1);
        let number: u32 = rest[1..end].parse().ok()?;
        let digits = format!("{number:04x}");
        let values = digits.chars().filter_map(|digit| digit.to_digit(16));
        Some((kind, values.map(|digit| DIGITS[digit as usize]).fold(base, u8::wrapping_add)))
    }

    fn request(self) -> &'static [u8] {
        match self {
            Kind::A => b"+RAA",
            Kind::B => b"+R16",
        }
    }
}

/// What a register contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Soc,
    Remaining,
    Voltage,
    Temperature,
    Current,
    Cycles,
    Full,
    Design,
    Cell,
}

/// A register and its length in bytes. With three bytes, the last is a factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Query {
    field: Field,
    register: u8,
    length: u8,
}

macro_rules! registers {
    ($($field:ident $register:literal $length:literal),* $(,)?) => {
        &[$(Query { field: Field::$field, register: $register, length: $length }),*]
    };
}

const REGISTERS_A: &[Query] = registers![
    Soc 0x02 1, Remaining 0x04 3, Voltage 0x08 2, Temperature 0x0C 2, Current 0x10 3,
    Cycles 0x2C 2, Full 0x06 3, Design 0x3C 3,
];

/// The cells are in descending registers until one is refused.
const REGISTERS_B: &[Query] = registers![
    Soc 0x0D 1, Remaining 0x0F 3, Voltage 0x09 2, Temperature 0x08 2, Current 0x0A 3,
    Cycles 0x17 2, Cell 0x3F 2, Cell 0x3E 2, Cell 0x3D 2, Cell 0x3C 2, Cell 0x3B 2, Cell 0x3A 2,
    Cell 0x39 2, Cell 0x38 2, Cell 0x37 2, Cell 0x36 2, Cell 0x35 2, Cell 0x34 2, Cell 0x33 2,
    Cell 0x32 2, Cell 0x31 2, Cell 0x30 2, Full 0x10 3, Design 0x18 3,
];

#[derive(Debug)]
struct Ogt {
    timeout: Duration,
    kind: Kind,
    key: u8,
    /// A register of a cell was refused in this cycle.
    no_more_cells: bool,
}

impl Ogt {
    fn mix(&self, bytes: &[u8]) -> Vec<u8> {
        bytes.iter().map(|byte| byte ^ self.key).collect()
    }
}

/// `+RD,` and a line.
impl FrameShape for Ogt {
    fn may_begin(&self, bytes: &[u8]) -> bool {
        bytes.iter().zip(b"+RD,").all(|(byte, expected)| byte ^ self.key == *expected)
    }

    fn length(&self, bytes: &[u8]) -> Option<usize> {
        const LONGEST: usize = 16;
        let end = self.mix(b"\r\n");
        let end = bytes.windows(2).position(|pair| pair == end).map(|end| end + 2);
        end.or((bytes.len() > LONGEST).then_some(LONGEST))
    }

    fn is_valid(&self, frame: &[u8]) -> bool {
        let hex = |byte: &u8| byte.is_ascii_hexdigit();
        let text = self.mix(frame);
        let content = text.strip_prefix(b"+RD,").and_then(|text| text.strip_suffix(b"\r\n"));
        content.is_some_and(|text| text == b"Err" || text.iter().all(hex))
    }
}

impl RequestReply for Ogt {
    type Query = Query;

    fn plan(&self) -> &'static [Query] {
        match self.kind {
            Kind::A => REGISTERS_A,
            Kind::B => REGISTERS_B,
        }
    }

    fn is_self_describing(&self, query: Query) -> bool {
        query.field != Field::Cell
    }

    fn need(&self, query: Query) -> Need {
        match query.field {
            Field::Soc | Field::Voltage | Field::Current => Need::Required,
            Field::Full | Field::Design => Need::Once,
            _ => Need::Steady,
        }
    }

    fn describe(&self, query: Query) -> String {
        format!("register {:02X}", query.register)
    }

    fn encode(&self, query: Query) -> Vec<u8> {
        let numbers = format!("{:02X}{:02X}", query.register, query.length);
        self.mix(&[self.kind.request(), numbers.as_bytes()].concat())
    }

    fn frame(&self, _query: Query, buffer: &[u8]) -> Framing {
        self.find(buffer)
    }

    fn decode(
        &mut self,
        query: Query,
        frame: &[u8],
        into: &mut Reading,
    ) -> Result<(), DecodeError> {
        let text = self.mix(frame);
        let text = text.strip_suffix(b"\r\n").and_then(|text| text.strip_prefix(b"+RD,"));
        let text =
            text.and_then(|text| std::str::from_utf8(text).ok()).ok_or(DecodeError::Empty)?;
        if text == "Err" {
            self.no_more_cells |= query.field == Field::Cell;
            return Err(DecodeError::Refused { code: 0, reason: "it has no such register" });
        }
        let invalid = || DecodeError::Invalid(format!("`{text}` is no value of a register"));
        let digits = text.as_bytes().chunks(2).map(|pair| {
            std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok())
        });
        let digits: Vec<u8> = digits.collect::<Option<_>>().ok_or_else(invalid)?;
        let (&register, value) = digits.split_first().ok_or_else(invalid)?;
        if register != query.register {
            return Err(DecodeError::Foreign);
        }
        let (value, factor) = match *value {
            [low, high] => (u16::from_le_bytes([low, high]), 1),
            [low, high, factor] => (u16::from_le_bytes([low, high]), i32::from(factor.max(1))),
            _ => return Err(invalid()),
        };
        self.decode_value(query.field, value, factor, into);
        Ok(())
    }

    fn pacing(&self, _query: Query) -> Pacing {
        let settle = SETTLE.min(self.timeout);
        Pacing { timeout: self.timeout, gap: Duration::ZERO, settle, retries: RETRIES }
    }

    fn begin(&mut self, query: Query) {
        self.no_more_cells &= query.field == Field::Cell;
    }

    fn is_due(&self, query: Query) -> bool {
        query.field != Field::Cell || !self.no_more_cells
    }
}

impl Ogt {
    fn decode_value(&self, field: Field, value: u16, factor: i32, into: &mut Reading) {
        let charge = MilliampHours(i64::from(value) * i64::from(factor));
        let signed = i32::from(value.cast_signed()) * factor;
        let pack = &mut into.pack;
        match field {
            Field::Soc => pack.soc = centi_percent(i64::from(value) * 100),
            Field::Remaining => pack.remaining = Some(charge),
            Field::Full => pack.full = Some(charge),
            Field::Design => pack.design = Some(charge),
            Field::Voltage => pack.voltage = Some(Millivolts(i32::from(value) * factor)),
            Field::Current if self.kind == Kind::A => pack.current = Some(Milliamps(signed * 10)),
            Field::Current => pack.current = Some(Milliamps(signed)),
            Field::Cycles => pack.cycles = Some(value.into()),
            Field::Temperature => {
                let value = deci_kelvin(value);
                into.probes.push(Probe { location: SensorLocation::Cells, value });
            }
            Field::Cell => into.cells.push(Cell::of(Millivolts(value.into()))),
        }
    }
}

/// A battery whose name is unknown, or is none that a key can be computed from.
struct NoKey;

impl Driver for NoKey {
    fn reset(&mut self) {}

    fn start(&mut self, _kind: CycleKind) {}

    fn step(&mut self) -> Step {
        let reason = "the key is computed from the name that the battery advertises, and it is not \
            SmartBat-A or SmartBat-B with a number";
        Step::Failed(ProtocolError::Login { reason: reason.to_owned() })
    }

    fn advance(&mut self) {}

    fn receive(&mut self, _bytes: &[u8]) {}

    fn handle_timeout(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_computed_from_the_name() {
        assert_eq!(Kind::of("SmartBat-A12345"), Some((Kind::A, 0x10)));
        assert_eq!(Kind::of("SmartBat-B12294 "), Some((Kind::B, 0x10)));
        // 7 has the digits 0007: three times 2, once 6.
        assert_eq!(Kind::of("SmartBat-A7"), Some((Kind::A, 5 + 3 * 2 + 6)));
        for other in ["SmartBat-C1", "SmartBat-A", "SmartBattery-1", "SmartBat-A99999999999", ""] {
            assert_eq!(Kind::of(other), None, "{other}");
        }
    }

    #[test]
    fn charge_is_never_negative() {
        let ogt = Ogt { timeout: TIMEOUT, kind: Kind::A, key: 0, no_more_cells: false };
        let mut reading = Reading::default();
        ogt.decode_value(Field::Remaining, 0x9C40, 10, &mut reading);
        ogt.decode_value(Field::Current, 0xFF85, 1, &mut reading);
        assert_eq!(reading.pack.remaining, Some(MilliampHours(400_000)));
        assert_eq!(reading.pack.current, Some(Milliamps(-1230)));
    }
}
