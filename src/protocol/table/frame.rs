//! Recognising the replies that a profile describes, and composing them.

use super::number::{put, unsigned};
use super::scalar::{Bytes, Token, unhex};
use super::schema::{Check, CheckKind, Frame, Length, MAX_FRAME, Profile, Reply, Request};
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

    /// A byte of a pattern; `None` for any byte.
    fn byte(self, token: Token) -> Option<u8> {
        match token {
            Token::Byte(byte) => Some(byte),
            Token::Unit => Some(self.unit),
            Token::Pack => Some(self.pack),
            Token::Any | Token::Check => None,
        }
    }
}

/// One kind of reply to a request.
#[derive(Debug, Clone)]
pub struct Shape<'a> {
    pub reply: &'a Reply,
    frame: &'a Frame,
    head: Vec<Option<u8>>,
    tail: Vec<Option<u8>>,
}

impl<'a> Shape<'a> {
    pub fn new(profile: &'a Profile, reply: &'a Reply, numbers: Numbers) -> Self {
        let bytes = |bytes: &Option<Bytes>| {
            bytes.iter().flat_map(|it| &it.0).map(|token| numbers.byte(*token)).collect()
        };
        Shape { reply, frame: &profile.frame, head: bytes(&reply.head), tail: bytes(&reply.tail) }
    }

    pub fn may_begin(&self, bytes: &[u8]) -> bool {
        matches(&self.head, bytes) && (!self.frame.text || self.may_be_text(bytes))
    }

    /// Between head and tail are digits only, and a head that can be any byte is none.
    fn may_be_text(&self, bytes: &[u8]) -> bool {
        let is_digit = |byte: &u8| byte.is_ascii_hexdigit() || *byte == 0;
        let (head, rest) = bytes.split_at(self.head.len().min(bytes.len()));
        let inside = self.reply.size.map_or(rest.len(), |size| {
            size.saturating_sub(self.head.len() + self.tail.len()).min(rest.len())
        });
        let rest = &rest[..inside];
        let digits = rest.iter().take_while(|byte| is_digit(byte)).count();
        let ends =
            digits == inside || self.reply.size.is_none() && matches(&self.tail, &rest[digits..]);
        ends && (self.head != [None] || !head.first().is_some_and(is_digit))
    }

    /// Length of the frame that begins here; `None` where that needs more bytes.
    pub fn length(&self, bytes: &[u8]) -> Option<usize> {
        if let Some(size) = self.reply.size {
            return Some(size);
        }
        if let Some(length) = self.reply.length {
            let field = bytes.get(length.at..length.at + length.kind.width())?;
            let number = unsigned(field, length.order.unwrap_or_default());
            let whole = i64::try_from(number).unwrap_or(i64::MAX).saturating_add(length.add);
            return Some(usize::try_from(whole).unwrap_or(0).clamp(self.head.len() + 1, MAX_FRAME));
        }
        let (start, width) = (self.head.len(), self.tail.len().max(1));
        let mut ends = start + width..=bytes.len();
        ends.find(|end| matches(&self.tail, &bytes[end - width..*end]) || *end == MAX_FRAME)
    }

    /// The bytes in which a profile counts its places: the whole frame without checksum and tail or,
    /// for a text, the bytes that its digits stand for. Another frame than this one is foreign.
    pub fn open(&self, frame: &[u8]) -> Result<Vec<u8>, DecodeError> {
        if !self.may_begin(frame) || self.length(frame) != Some(frame.len()) {
            return Err(DecodeError::Foreign);
        }
        let too_short = || DecodeError::TooShort(frame.len());
        let inner = frame.len().checked_sub(self.tail.len()).ok_or_else(too_short)?;
        if !matches(&self.tail, &frame[inner..]) {
            return Err(DecodeError::Invalid("the frame has another end".into()));
        }
        let mut bytes = frame[..inner].to_vec();
        if self.frame.text {
            let mut digits = bytes.split_off(self.head.len().min(inner));
            digits.retain(|digit| *digit != 0);
            let message = "it has something else than hexadecimal digits";
            bytes = unhex(&digits).ok_or_else(|| DecodeError::Invalid(message.into()))?;
        }
        if let Some(key) = self.frame.unmask {
            let key = *bytes.get(key).ok_or_else(too_short)?;
            bytes.iter_mut().for_each(|byte| *byte ^= key);
        }
        let Some(check) = &self.reply.check else { return Ok(bytes) };
        let start = bytes.len().checked_sub(check.kind.width()).ok_or_else(too_short)?;
        let found = unsigned(&bytes[start..], check.order.unwrap_or_default()) as u32;
        bytes.truncate(start);
        match &check.accept {
            Some(accept) if accept.contain(found.into()) => {}
            _ => error::check(check.of(&bytes), found)?,
        }
        Ok(bytes)
    }

    /// The frame of which [`open`](Self::open) returns these bytes; their length decides its length.
    pub fn close(&self, body: &[u8]) -> Vec<u8> {
        let edge = |bytes: &[Option<u8>]| bytes.iter().map(|byte| byte.unwrap_or(0x5E)).collect();
        let (head, tail): (Vec<u8>, Vec<u8>) = (edge(&self.head), edge(&self.tail));
        let (text, width) = (self.frame.text, self.reply.check.as_ref().map_or(0, Check::width));
        let start = if text { 0 } else { head.len() };
        let outside = tail.len() + if text { head.len() } else { 0 };
        let mut bytes = body.to_vec();
        bytes.resize(bytes.len().max(start), 0);
        for (byte, head) in bytes[..start].iter_mut().zip(&self.head) {
            *byte = head.unwrap_or(*byte);
        }
        // The head may tell the length.
        let is_known = |length: &Length| self.head.get(length.at).copied().flatten().is_some();
        if self.reply.size.is_some() || self.reply.length.as_ref().is_some_and(is_known) {
            let inside = self.length(&bytes).unwrap_or_default().saturating_sub(outside);
            let size = if text { inside / 2 } else { inside };
            bytes.resize(size.saturating_sub(width).max(start), 0);
        } else if let (Some(length), false) = (self.reply.length, text) {
            let whole = (bytes.len() + width + outside) as i64 - length.add;
            let order = length.order.unwrap_or_default();
            put(&mut bytes, length.at, length.kind.width(), order, whole.cast_unsigned());
        }
        if let Some(check) = &self.reply.check {
            check.append(&mut bytes);
        }
        if text { [head, hex(&bytes), tail].concat() } else { [bytes, tail].concat() }
    }

    /// A checksum protects the content.
    pub fn is_checked(&self) -> bool {
        self.reply.check.as_ref().is_some_and(|check| check.width() > 0)
    }
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| format!("{byte:02X}").into_bytes()).collect()
}

/// Whether the bytes can be the beginning of the pattern, or begin with it.
fn matches(pattern: &[Option<u8>], bytes: &[u8]) -> bool {
    pattern.iter().zip(bytes).all(|(expected, byte)| expected.is_none_or(|it| it == *byte))
}

/// The bytes of a request.
pub fn compose(profile: &Profile, request: &Request, numbers: Numbers) -> Vec<u8> {
    let mut bytes = Vec::new();
    for token in request.send.iter().flat_map(|send| &send.0) {
        match request_check(profile, request) {
            Some(check) if *token == Token::Check => check.append(&mut bytes),
            _ => bytes.push(numbers.byte(*token).unwrap_or_default()),
        }
    }
    bytes
}

/// The checksum of a request is that of its reply.
pub fn request_check<'a>(profile: &'a Profile, request: &'a Request) -> Option<&'a Check> {
    let own = request.replies.first().and_then(|reply| reply.check.as_ref());
    own.or(profile.frame.check.as_ref())
}

impl Check {
    pub fn width(&self) -> usize {
        self.kind.width()
    }

    /// The checksum of a frame that ends with these bytes.
    fn of(&self, bytes: &[u8]) -> u32 {
        let covered = bytes.get(self.from..).unwrap_or_default();
        if self.digits { self.kind.of(&hex(covered)) } else { self.kind.of(covered) }
    }

    fn append(&self, bytes: &mut Vec<u8>) {
        let (sum, at, order) = (self.of(bytes), bytes.len(), self.order.unwrap_or_default());
        put(bytes, at, self.width(), order, sum.into());
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
