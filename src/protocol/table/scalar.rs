//! The small notations inside a profile: bytes, scales, values to compare with and UUIDs.

use std::fmt::Display;

use serde::Deserialize;

use crate::protocol::advertisement::is_match;
use crate::protocol::characteristic::{Characteristic, uuid16};

/// Bytes with gaps: `AA ?? 'text' {unit}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
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

impl TryFrom<String> for Bytes {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
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
                hex => tokens.extend(unhex(hex)?.into_iter().map(Token::Byte)),
            }
            rest = after.trim_start();
        }
        Ok(Bytes(tokens))
    }
}

/// Pairs of hexadecimal digits.
fn unhex(hex: &str) -> Result<Vec<u8>, String> {
    let wrong = || {
        format!(
            "`{hex}` is not a byte: write pairs of hexadecimal digits (`7E A1`), ?? for any byte, \
             text in single quotes, or {{unit}}, {{pack}}, {{check}}"
        )
    };
    if !hex.len().is_multiple_of(2) || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let pair = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).map_err(|_| wrong());
    (0..hex.len()).step_by(2).map(pair).collect()
}

/// Factor from the number in the frame to the unit of a key: `0.01` or `1/3600000`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Scale {
    pub numerator: i64,
    pub denominator: i64,
}

impl Default for Scale {
    fn default() -> Self {
        Scale { numerator: 1, denominator: 1 }
    }
}

impl TryFrom<String> for Scale {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is not a scale: write a number (0.01) or a fraction (1/36)");
        let (first, second) = text.split_once('/').unwrap_or((&text, "1"));
        let (whole, fraction) = first.trim().split_once('.').unwrap_or((first.trim(), ""));
        let digits = format!("{whole}{fraction}");
        let decimals = u32::try_from(fraction.len()).map_err(|_| wrong())?;
        let numerator: i64 = digits.parse().map_err(|_| wrong())?;
        let denominator: i64 = second.trim().parse().map_err(|_| wrong())?;
        let denominator = 10_i64.checked_pow(decimals).and_then(|ten| ten.checked_mul(denominator));
        match denominator {
            Some(denominator) if denominator > 0 && numerator != 0 => {
                Ok(Scale { numerator, denominator })
            }
            _ => Err(wrong()),
        }
    }
}

/// Values to compare with: `1`, `0x10`, `1..5`, `2, 7`, or a pattern for a text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(from = "String")]
pub struct Values(pub String);

impl From<String> for Values {
    fn from(text: String) -> Self {
        Values(text)
    }
}

impl Values {
    pub fn contain(&self, number: i64) -> bool {
        self.ranges().any(|(first, last)| (first..=last).contains(&number))
    }

    pub fn match_text(&self, text: &str) -> bool {
        self.0.split(',').any(|pattern| is_match(pattern.trim().as_bytes(), text.as_bytes()))
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

/// How many entries an array has.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Count {
    Fixed(usize),
    Variable(String),
    /// As many as there is room for.
    Rest,
}

impl TryFrom<String> for Count {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.starts_with('$') {
            return Ok(Count::Variable(text));
        }
        match integer(&text).map(usize::try_from) {
            Some(Ok(count)) => Ok(Count::Fixed(count)),
            _ if text == "rest" => Ok(Count::Rest),
            _ => Err(format!("`{text}` is not a count: write a number, a $variable or `rest`")),
        }
    }
}

/// A service, or a characteristic of one: `FFE0/FFE1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Channel(pub Characteristic);

impl TryFrom<String> for Channel {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (service, characteristic) = text
            .split_once('/')
            .ok_or_else(|| format!("`{text}` is not SERVICE/CHARACTERISTIC: write FFE0/FFE1"))?;
        let service = Uuid::try_from(service.to_owned())?.0;
        // `0002-...` of a long UUID: the characteristic differs in its first digits only.
        let uuid = match characteristic.strip_suffix('*') {
            Some(start) => {
                let start = u32::from_str_radix(start, 16).map_err(wrong_uuid(characteristic))?;
                service & !(0xFFFF_FFFF << 96) | u128::from(start) << 96
            }
            None => Uuid::try_from(characteristic.to_owned())?.0,
        };
        Ok(Channel(Characteristic { service, uuid }))
    }
}

/// Four hexadecimal digits, or all 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Uuid(pub u128);

impl TryFrom<String> for Uuid {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits = text.replace('-', "");
        match digits.len() {
            4 => u16::from_str_radix(&digits, 16).map(|short| Uuid(uuid16(short))),
            32 => u128::from_str_radix(&digits, 16).map(Uuid),
            _ => return Err(wrong_uuid(&text)("")),
        }
        .map_err(wrong_uuid(&text))
    }
}

fn wrong_uuid<E: Display>(text: &str) -> impl Fn(E) -> String + '_ {
    move |_| format!("`{text}` is not a UUID: write four hexadecimal digits (FFE0) or all 32")
}
