//! Recognising the replies that a profile describes, and composing them.

use super::scalar::{Bytes, Token, unhex};
use super::schema::{Check, CheckKind, Length, MAX_FRAME, Order, Profile, Reply, Request};
use crate::protocol::checksum::{
    crc8_maxim, crc16_modbus, crc16_xmodem, crc32, negated_sum16, sum8, sum16, xor8,
};
use crate::protocol::error::{self, DecodeError};

/// What `{unit}` and `{pack}` stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Numbers {
    pub unit: u8,
    pub pack: u8,
}

impl Numbers {
    pub fn of(profile: &Profile, request: &Request, unit: Option<u8>, pack: u8) -> Self {
        // Modbus addresses the packs of a stack by their numbers.
        let own = (profile.modbus.is_some() && pack > 0).then_some(pack);
        Numbers { unit: request.unit.or(own).or(unit).unwrap_or(1), pack }
    }
}

/// One kind of reply, with everything that the profile says about its form.
#[derive(Debug, Clone)]
pub struct Shape<'a> {
    head: Vec<Option<u8>>,
    tail: Vec<Option<u8>>,
    size: Option<usize>,
    length: Option<Length>,
    check: Option<&'a Check>,
    order: Order,
    text: bool,
    unmask: Option<usize>,
}

impl<'a> Shape<'a> {
    pub fn new(profile: &'a Profile, reply: &'a Reply, numbers: Numbers) -> Self {
        let frame = &profile.frame;
        let bytes = |own: &'a Option<Bytes>, all: &'a Bytes| {
            resolve(own.as_ref().unwrap_or(all), numbers).collect()
        };
        Shape {
            head: bytes(&reply.head, &frame.head),
            tail: bytes(&reply.tail, &frame.tail),
            size: reply.size.or(frame.size),
            length: reply.length.or(frame.length),
            check: reply.check.as_ref().or(frame.check.as_ref()),
            order: profile.order,
            text: frame.text,
            unmask: frame.unmask,
        }
    }

    pub fn may_begin(&self, bytes: &[u8]) -> bool {
        matches(&self.head, bytes) && (!self.text || self.may_be_text(bytes))
    }

    /// Between head and tail are digits only, and a head that can be any byte is none.
    fn may_be_text(&self, bytes: &[u8]) -> bool {
        let is_digit = |byte: &u8| byte.is_ascii_hexdigit() || *byte == 0;
        let (head, rest) = bytes.split_at(self.head.len().min(bytes.len()));
        let inside = self
            .size
            .map_or(rest.len(), |size| size.saturating_sub(self.head.len() + self.tail.len()));
        let rest = &rest[..inside.min(rest.len())];
        let digits = rest.iter().take_while(|byte| is_digit(byte)).count();
        let ends =
            digits == rest.len() || self.size.is_none() && matches(&self.tail, &rest[digits..]);
        ends && (self.head != [None] || !head.first().is_some_and(is_digit))
    }

    /// Length of the frame that begins here; `None` where that needs more bytes.
    pub fn length(&self, bytes: &[u8]) -> Option<usize> {
        if let Some(size) = self.size {
            return Some(size);
        }
        if let Some(length) = self.length {
            let end = length.at + length.kind.width();
            let field = bytes.get(length.at..end)?;
            let number = unsigned(field, length.order.unwrap_or(self.order));
            let whole = i64::try_from(number).unwrap_or(i64::MAX).saturating_add(length.add);
            return Some(usize::try_from(whole).unwrap_or(0).clamp(self.head.len() + 1, MAX_FRAME));
        }
        let (start, width) = (self.head.len(), self.tail.len().max(1));
        let mut ends = (start..bytes.len()).map(|at| at + width).filter(|end| *end <= bytes.len());
        ends.find(|end| matches(&self.tail, &bytes[end - width..*end]) || *end == MAX_FRAME)
    }

    /// The bytes in which a profile counts its places: the whole frame without checksum and tail or,
    /// for a text, the bytes that its digits stand for.
    pub fn open(&self, frame: &[u8]) -> Result<Vec<u8>, DecodeError> {
        let too_short = DecodeError::TooShort(frame.len());
        let inner = frame.len().checked_sub(self.tail.len()).ok_or(too_short.clone())?;
        if !matches(&self.head, frame) || !matches(&self.tail, &frame[inner..]) {
            return Err(DecodeError::Invalid("the frame has another start or end".into()));
        }
        let mut bytes = frame[..inner].to_vec();
        let mut digits = Vec::new();
        if self.text {
            digits = bytes.split_off(self.head.len().min(inner));
            digits.retain(|digit| *digit != 0);
            let message = "it has something else than hexadecimal digits";
            bytes = unhex(&digits).ok_or_else(|| DecodeError::Invalid(message.into()))?;
        }
        if let Some(key) = self.unmask {
            let key = *bytes.get(key).ok_or(too_short.clone())?;
            bytes.iter_mut().for_each(|byte| *byte ^= key);
        }
        let Some(check) = self.check else { return Ok(bytes) };
        let width = check.kind.width();
        let start = bytes.len().checked_sub(width).ok_or(too_short.clone())?;
        let found = unsigned(&bytes[start..], check.order.unwrap_or(self.order)) as u32;
        let covered = match check.digits {
            true => digits.get(check.from..digits.len().saturating_sub(2 * width)),
            false => bytes.get(check.from..start),
        };
        let expected = check.kind.of(covered.ok_or(too_short)?);
        bytes.truncate(start);
        let accepted = check.accept.as_ref().is_some_and(|accept| accept.contain(found.into()));
        let right = if accepted { Ok(()) } else { error::check(expected, found) };
        right.map(|()| bytes)
    }

    /// The frame of which [`open`](Self::open) returns these bytes; their length decides its length.
    pub fn close(&self, body: &[u8]) -> Vec<u8> {
        let start = if self.text { 0 } else { self.head.len() };
        let mut bytes = body.to_vec();
        bytes.resize(bytes.len().max(start), 0);
        if !self.text {
            for (byte, head) in bytes.iter_mut().zip(&self.head) {
                *byte = head.unwrap_or(*byte);
            }
        }
        let width = self.check.map_or(0, |check| check.kind.width());
        let outside = self.tail.len() + if self.text { self.head.len() } else { 0 };
        let own = match (self.size, self.length) {
            (Some(size), _) => Some(size),
            // The head may tell the length.
            (None, Some(length)) if matches!(self.head.get(length.at), Some(Some(_))) => {
                self.length(&bytes)
            }
            _ => None,
        };
        if let Some(size) = own {
            let size = size.saturating_sub(outside) / if self.text { 2 } else { 1 };
            bytes.resize(size.saturating_sub(width).max(start), 0);
        } else if let (Some(length), false) = (self.length, self.text) {
            let whole = (bytes.len() + width + outside) as i64 - length.add;
            let order = length.order.unwrap_or(self.order);
            put(&mut bytes, length.at, length.kind.width(), order, whole.cast_unsigned());
        }
        let mut digits = hex(&bytes);
        if let Some(check) = self.check {
            let covered = match check.digits {
                true => digits.get(check.from..),
                false => bytes.get(check.from..),
            };
            let covered = covered.unwrap_or_default();
            let (sum, at) = (check.kind.of(covered), bytes.len());
            put(&mut bytes, at, width, check.order.unwrap_or(self.order), sum.into());
            digits = hex(&bytes);
        }
        let edge = |bytes: &[Option<u8>]| bytes.iter().map(|byte| byte.unwrap_or(0x5E)).collect();
        let tail: Vec<u8> = edge(&self.tail);
        match self.text {
            true => [edge(&self.head), digits, tail].concat(),
            false => [bytes, tail].concat(),
        }
    }

    /// A checksum protects the content.
    pub fn is_checked(&self) -> bool {
        self.check.is_some_and(|check| check.kind != CheckKind::None)
    }
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| format!("{byte:02X}").into_bytes()).collect()
}

/// Whether the bytes can be the beginning of the pattern, or begin with it.
fn matches(pattern: &[Option<u8>], bytes: &[u8]) -> bool {
    pattern.iter().zip(bytes).all(|(expected, byte)| expected.is_none_or(|it| it == *byte))
}

/// The bytes of a pattern; `None` for any byte.
pub fn resolve(bytes: &Bytes, numbers: Numbers) -> impl Iterator<Item = Option<u8>> + '_ {
    bytes.0.iter().map(move |token| match token {
        Token::Byte(byte) => Some(*byte),
        Token::Unit => Some(numbers.unit),
        Token::Pack => Some(numbers.pack),
        Token::Any | Token::Check => None,
    })
}

/// The bytes of a request.
pub fn compose(profile: &Profile, request: &Request, numbers: Numbers) -> Vec<u8> {
    let mut bytes = Vec::new();
    for token in request.send.iter().flat_map(|send| &send.0) {
        match (token, request_check(profile, request)) {
            (Token::Byte(byte), _) => bytes.push(*byte),
            (Token::Unit, _) => bytes.push(numbers.unit),
            (Token::Pack, _) => bytes.push(numbers.pack),
            (Token::Check, Some(check)) => {
                let sum = check.kind.of(bytes.get(check.from..).unwrap_or_default());
                let (at, order) = (bytes.len(), check.order.unwrap_or(profile.order));
                put(&mut bytes, at, check.kind.width(), order, sum.into());
            }
            (Token::Any | Token::Check, _) => bytes.push(0),
        }
    }
    bytes
}

/// The checksum of a request is that of its reply.
pub fn request_check<'a>(profile: &'a Profile, request: &'a Request) -> Option<&'a Check> {
    let own = request.replies.first().and_then(|reply| reply.check.as_ref());
    own.or(profile.frame.check.as_ref())
}

/// An unsigned number.
pub fn unsigned(field: &[u8], order: Order) -> u64 {
    let append = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
    match order {
        Order::Big => field.iter().fold(0, append),
        Order::Little => field.iter().rev().fold(0, append),
        Order::Swapped => field.chunks(2).rev().flatten().fold(0, append),
    }
}

/// Writes the low bytes of a number; the buffer grows as needed.
pub fn put(bytes: &mut Vec<u8>, at: usize, width: usize, order: Order, number: u64) {
    if bytes.len() < at + width {
        bytes.resize(at + width, 0);
    }
    let big = number.to_be_bytes();
    let field = &mut bytes[at..at + width];
    field.copy_from_slice(&big[8 - width..]);
    match order {
        Order::Big => {}
        Order::Little => field.reverse(),
        Order::Swapped => {
            field.reverse();
            field.chunks_mut(2).for_each(<[u8]>::reverse);
        }
    }
}

impl CheckKind {
    /// Number of its bytes, and how it is computed.
    fn algorithm(self) -> (usize, fn(&[u8]) -> u32) {
        match self {
            CheckKind::None => (0, |_| 0),
            CheckKind::Sum8 => (1, |bytes| sum8(bytes).into()),
            CheckKind::InvertedSum8 => (1, |bytes| (!sum8(bytes)).into()),
            CheckKind::Xor8 => (1, |bytes| xor8(bytes).into()),
            CheckKind::Sum16 => (2, |bytes| sum16(bytes).into()),
            CheckKind::NegatedSum16 => (2, |bytes| negated_sum16(bytes).into()),
            CheckKind::Crc8 => (1, |bytes| crc8_maxim(bytes).into()),
            CheckKind::Crc16Modbus => (2, |bytes| crc16_modbus(bytes).into()),
            CheckKind::Crc16Xmodem => (2, |bytes| crc16_xmodem(bytes).into()),
            CheckKind::Crc32Low => (1, |bytes| crc32(bytes) & 0xFF),
        }
    }

    pub fn width(self) -> usize {
        self.algorithm().0
    }

    pub fn of(self, bytes: &[u8]) -> u32 {
        self.algorithm().1(bytes)
    }
}
