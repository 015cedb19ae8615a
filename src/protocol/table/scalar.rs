//! The small notations inside a profile: bytes, scales, values to compare with and UUIDs.

use std::ops::RangeInclusive;

use super::built_in;
use crate::did_you_mean::closest;
use crate::protocol::advertisement::is_match;
use crate::protocol::characteristic::{Characteristic, uuid16};

/// A value that is written as a text.
pub trait Notation: Sized {
    /// The error is a message for people.
    fn parse(text: &str) -> Result<Self, String>;
}

/// Bytes with gaps: `AA ?? 'text' {unit}`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bytes(pub Vec<Token>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    Byte(u8),
    /// `??`: any byte.
    Any,
    /// `{unit}`: the address of the battery.
    Unit,
    /// `{pack}`: the number of the pack, where a request is repeated for each pack.
    Pack,
    /// `{check}`: the checksum of the frame.
    Check,
}

impl Bytes {
    /// The bytes without gaps.
    pub fn fixed(&self) -> Vec<u8> {
        let fixed = |token: &Token| if let Token::Byte(byte) = token { Some(*byte) } else { None };
        self.0.iter().filter_map(fixed).collect()
    }
}

impl Notation for Bytes {
    fn parse(text: &str) -> Result<Self, String> {
        let mut tokens = Vec::new();
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            if let Some(quoted) = rest.strip_prefix('\'') {
                let (inside, after) =
                    quoted.split_once('\'').ok_or("a text in single quotes does not end")?;
                tokens.extend(inside.bytes().map(Token::Byte));
                rest = after.trim_start();
                continue;
            }
            let end = rest.find([' ', '\'']).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            match word {
                "??" => tokens.push(Token::Any),
                "{unit}" => tokens.push(Token::Unit),
                "{pack}" => tokens.push(Token::Pack),
                "{check}" => tokens.push(Token::Check),
                hex => tokens.extend(unhex(hex.as_bytes()).ok_or_else(|| {
                    format!(
                        "`{hex}` is not a byte: write pairs of hexadecimal digits (`7E A1`), ?? for any byte, \
                         text in single quotes, or {{unit}}, {{pack}}, {{check}}"
                    )
                })?.into_iter().map(Token::Byte)),
            }
            rest = after.trim_start();
        }
        Ok(Bytes(tokens))
    }
}

/// Pairs of hexadecimal digits.
pub fn unhex(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let pair = |pair: &[u8]| match *pair {
        [high, low] => u8::try_from(digit(high)? << 4 | digit(low)?).ok(),
        _ => None,
    };
    digits.chunks(2).map(pair).collect()
}

/// Numbers that are added, and the parts of a scale.
pub const FACTORS: RangeInclusive<i64> = -1_000_000_000_000..=1_000_000_000_000;

/// Factor from the number in the frame to the unit of a key: `0.01` or `1/3600000`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    pub numerator: i64,
    pub denominator: i64,
}

impl Default for Scale {
    fn default() -> Self {
        Scale { numerator: 1, denominator: 1 }
    }
}

impl Notation for Scale {
    fn parse(text: &str) -> Result<Self, String> {
        let (first, second) = text.split_once('/').unwrap_or((text, "1"));
        let (whole, fraction) = first.trim().split_once('.').unwrap_or((first.trim(), ""));
        let parts = || {
            let numerator: i64 = format!("{whole}{fraction}").parse().ok()?;
            let ten = 10_i64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
            let denominator = ten.checked_mul(second.trim().parse().ok()?)?;
            let is_allowed = |number| number != 0 && FACTORS.contains(&number);
            (is_allowed(numerator) && is_allowed(denominator) && denominator > 0)
                .then_some(Scale { numerator, denominator })
        };
        parts().ok_or_else(|| {
            format!("`{text}` is not a scale: write a number (0.01) or a fraction (1/36)")
        })
    }
}

/// Values to compare with: `1`, `0x10`, `1..5`, `2, 7`, or a pattern for a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Values(pub String);

impl Notation for Values {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(Values(text.to_owned()))
    }
}

impl Values {
    pub fn contain(&self, number: i64) -> bool {
        self.ranges().any(|(first, last)| (first..=last).contains(&number))
    }

    /// Whether the text is one of these numbers, or matches a pattern.
    pub fn match_text(&self, text: &str) -> bool {
        let matches = |pattern: &str| is_match(pattern.trim().as_bytes(), text.as_bytes());
        integer(text).is_some_and(|number| self.contain(number)) || self.0.split(',').any(matches)
    }

    /// A number among these values.
    pub fn example(&self) -> Option<i64> {
        self.ranges().next().map(|(first, _)| first)
    }

    fn ranges(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        self.0.split(',').filter_map(|part| match part.split_once("..") {
            Some((first, last)) => Some((integer(first)?, integer(last)?)),
            None => integer(part).map(|number| (number, number)),
        })
    }
}

/// `12`, `-40` or `0x1A`.
pub fn integer(text: &str) -> Option<i64> {
    let text = text.trim();
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => i64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Entries of one array.
pub const MAX_ENTRIES: usize = 128;

/// How many entries an array has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Count {
    Fixed(usize),
    Variable(String),
    /// As many as there is room for.
    Rest,
}

impl Notation for Count {
    fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with('$') {
            return Ok(Count::Variable(text.to_owned()));
        }
        match integer(text).map(usize::try_from) {
            Some(Ok(count)) if count <= MAX_ENTRIES => Ok(Count::Fixed(count)),
            _ if text == "rest" => Ok(Count::Rest),
            _ => Err(format!(
                "`{text}` is not a count: write a number up to {MAX_ENTRIES}, a $variable or `rest`"
            )),
        }
    }
}

/// The name of a profile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Name(pub String);

impl Notation for Name {
    fn parse(text: &str) -> Result<Self, String> {
        let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        match text.len() {
            1..=32 if text.bytes().all(valid) => Ok(Name(text.to_owned())),
            _ => Err(format!(
                "`{text}` is not a name: write up to 32 lower case letters, digits and -"
            )),
        }
    }
}

/// The name of a profile in the program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuiltIn(pub String);

impl Notation for BuiltIn {
    fn parse(text: &str) -> Result<Self, String> {
        if built_in::names().any(|name| name == text) {
            return Ok(BuiltIn(text.to_owned()));
        }
        let hint = match closest(text, built_in::names()) {
            Some((near, _)) => format!("did you mean `{near}`?"),
            None => format!("there are {}", built_in::names().collect::<Vec<_>>().join(", ")),
        };
        Err(format!("there is no built-in profile `{text}`; {hint}"))
    }
}

/// A service, or a characteristic of one: `FFE0/FFE1`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Channel(pub Characteristic);

impl Notation for Channel {
    fn parse(text: &str) -> Result<Self, String> {
        let (service, characteristic) = text
            .split_once('/')
            .ok_or_else(|| format!("`{text}` is not SERVICE/CHARACTERISTIC: write FFE0/FFE1"))?;
        let service = Uuid::parse(service)?.0;
        // `0002-...` of a long UUID: the characteristic differs in its first digits only.
        let uuid = match characteristic.strip_suffix('*') {
            Some(start) => {
                let start =
                    u32::from_str_radix(start, 16).map_err(|_| wrong_uuid(characteristic))?;
                service & !(0xFFFF_FFFF << 96) | u128::from(start) << 96
            }
            None => Uuid::parse(characteristic)?.0,
        };
        Ok(Channel(Characteristic { service, uuid }))
    }
}

/// Four hexadecimal digits, or all 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uuid(pub u128);

impl Notation for Uuid {
    fn parse(text: &str) -> Result<Self, String> {
        let digits = text.replace('-', "");
        let number = u128::from_str_radix(&digits, 16).ok();
        match (digits.len(), number) {
            (4, Some(short)) => Ok(Uuid(uuid16(short as u16))),
            (32, Some(long)) => Ok(Uuid(long)),
            _ => Err(wrong_uuid(text)),
        }
    }
}

fn wrong_uuid(text: &str) -> String {
    format!("`{text}` is not a UUID: write four hexadecimal digits (FFE0) or all 32")
}
