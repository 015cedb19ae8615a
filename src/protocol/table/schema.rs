//! What a profile contains: a brand of battery as data. `docs/profiles.md` describes every key.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::built_in;
use super::key::{Key, Meaning};
use super::scalar::{Bytes, Channel, Count, Scale, Uuid, Values};
use crate::did_you_mean::closest;
use crate::protocol::query::Need;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Value of `BMS_TYPE`.
    #[serde(deserialize_with = "name")]
    pub name: String,
    /// The brand as people know it.
    pub title: String,
    /// Other names that people search for.
    #[serde(default)]
    pub brands: Vec<String>,
    /// What the profile was verified with.
    #[serde(default)]
    pub verified: String,
    /// The brand with the same frames: its requests and the form of its frames hold here too.
    #[serde(default, deserialize_with = "known_profile")]
    pub like: Option<String>,
    /// Patterns in an advertisement, each of which is enough.
    #[serde(default)]
    pub scan: Vec<ScanMark>,
    /// Characteristics to look for, the usual ones first.
    #[serde(default)]
    pub ble: Vec<Gatt>,
    pub serial: Option<Serial>,
    #[serde(default)]
    pub order: Order,
    #[serde(default)]
    pub frame: Frame,
    pub modbus: Option<Modbus>,
    /// Addresses to try over Bluetooth, where none is configured: `{unit}` in the requests.
    #[serde(default)]
    pub units: Vec<u8>,
    /// Seconds to wait for a reply.
    pub timeout: Option<f32>,
    /// Seconds of silence before each request.
    #[serde(default)]
    pub gap: f32,
    /// The battery sends unasked, or goes on sending once it was asked.
    #[serde(default)]
    pub streams: bool,
    #[serde(default)]
    pub requests: Vec<Request>,
}

fn name<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    match name.len() {
        1..=32 if name.bytes().all(valid) => Ok(name),
        _ => Err(serde::de::Error::custom(format!(
            "`{name}` is not a name: write up to 32 lower case letters, digits and -"
        ))),
    }
}

fn known_profile<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    let name = String::deserialize(deserializer)?;
    if built_in::text(&name).is_some() {
        return Ok(Some(name));
    }
    let hint = match closest(&name, built_in::names()) {
        Some((near, _)) => format!("did you mean `{near}`?"),
        None => format!("there are {}", built_in::names().collect::<Vec<_>>().join(", ")),
    };
    let message = format!("there is no built-in profile `{name}`; {hint}");
    Err(serde::de::Error::custom(message))
}

/// Parts of an advertisement, all of which must match.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScanMark {
    /// `*` stands for any characters, `?` for one, `[0-9]` for one of these.
    pub name: Option<String>,
    pub service: Option<Uuid>,
    /// Company id of the manufacturer data.
    pub manufacturer: Option<u16>,
    /// What the manufacturer data begins with.
    #[serde(default)]
    pub data: Bytes,
    /// The beginning of the address: `C8:47:80`.
    pub address: Option<String>,
    /// Devices that are no battery of this brand advertise the same.
    #[serde(default)]
    pub shared: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gatt {
    pub notify: Vec<Channel>,
    /// Absent where nothing is ever written.
    pub write: Option<Channel>,
    /// Write with a response even where the module also allows to write without one.
    #[serde(default)]
    pub response: bool,
    /// Written once after subscribing, where the module has the characteristic.
    #[serde(default)]
    pub greeting: Vec<Greeting>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Greeting {
    pub to: Channel,
    pub bytes: Bytes,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Serial {
    /// Baud rates, the usual one first.
    pub baud: Vec<u32>,
    #[serde(default = "one")]
    pub first_address: u8,
    #[serde(default = "one")]
    pub last_address: u8,
}

fn one() -> u8 {
    1
}

/// The order of the bytes of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    #[default]
    Big,
    Little,
    /// The low word first, each word with its high byte first.
    Swapped,
}

/// How the replies are recognised.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frame {
    /// What every reply begins with.
    #[serde(default)]
    pub head: Bytes,
    /// Where the length stands; without it and without a size, a frame ends at its tail.
    pub length: Option<Length>,
    /// Length of a whole frame where all have the same.
    pub size: Option<usize>,
    pub check: Option<Check>,
    /// What every reply ends with, behind the checksum.
    #[serde(default)]
    pub tail: Bytes,
    /// Between head and tail are hexadecimal digits; places count their bytes.
    #[serde(default)]
    pub text: bool,
    /// The byte with which all bytes are combined by exclusive or.
    pub unmask: Option<usize>,
}

/// The length of a frame: the number in it plus `add`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Length {
    pub at: usize,
    #[serde(default, rename = "type")]
    pub kind: Kind,
    pub order: Option<Order>,
    pub add: i64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    #[serde(rename = "type")]
    pub kind: CheckKind,
    pub order: Option<Order>,
    /// The first byte that it covers; the last one is the byte before it.
    #[serde(default)]
    pub from: usize,
    /// It covers the hexadecimal digits and not their bytes.
    #[serde(default)]
    pub digits: bool,
    /// Values that some firmware sends in place of a checksum.
    pub accept: Option<Values>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckKind {
    /// No checksum, in place of the one of all frames.
    None,
    Sum8,
    /// FF minus the sum.
    InvertedSum8,
    Xor8,
    Sum16,
    /// Zero minus the sum.
    NegatedSum16,
    /// CRC-8 of Maxim.
    Crc8,
    Crc16Modbus,
    Crc16Xmodem,
    /// The low byte of the CRC-32 of zlib.
    Crc32Low,
}

/// Requests are reads of registers, and places are registers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Modbus {
    /// Function of the requests.
    #[serde(default = "read_registers")]
    pub function: u8,
    /// Bytes before each frame, which the CRC does not cover.
    #[serde(default)]
    pub prefix: Bytes,
    /// Replies may have more registers than were requested.
    #[serde(default)]
    pub longer: bool,
}

fn read_registers() -> u8 {
    3
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Line in the file.
    pub line: usize,
    /// For messages.
    pub name: Option<String>,
    /// The bytes; missing where the battery sends unasked.
    pub send: Option<Bytes>,
    /// First register and number of registers, for Modbus.
    pub read: Option<(u16, u16)>,
    /// In place of the one that all requests have.
    pub function: Option<u8>,
    /// In place of the one that all requests have.
    pub unit: Option<u8>,
    #[serde(default)]
    pub need: Need,
    /// Seconds to wait for a reply, in place of the time for all requests.
    pub timeout: Option<f32>,
    /// Replies may repeat until nothing more arrives for this many seconds.
    pub linger: Option<f32>,
    /// Variable with the number of packs: the request is repeated for each.
    pub packs: Option<String>,
    /// Only where these variables have these values.
    #[serde(default, rename = "if")]
    pub condition: Conditions,
    /// Number of the first place, where it is not the first byte of the frame: places count words
    /// from here.
    pub registers: Option<Registers>,
    #[serde(default)]
    pub replies: Vec<Reply>,
}

/// Places are registers of 16 bits, the first of which is at a byte of the frame.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registers {
    pub first: i64,
    pub at: i64,
}

/// All of these variables have one of these values.
pub type Conditions = BTreeMap<String, Values>;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    /// What it begins with, in place of the head of all frames.
    pub head: Option<Bytes>,
    /// Length of the whole frame, where it is always the same.
    pub size: Option<usize>,
    pub length: Option<Length>,
    /// In place of the tail of all frames.
    pub tail: Option<Bytes>,
    /// In place of the checksum of all frames.
    pub check: Option<Check>,
    /// The request is complete without it.
    #[serde(default)]
    pub optional: bool,
    #[serde(default)]
    pub fields: Vec<Field>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// Line in the file.
    pub line: usize,
    pub key: Key,
    /// Byte of the frame, or register.
    #[serde(default)]
    pub at: i64,
    /// Key of an array: `at` counts bytes from its end.
    pub after: Option<Key>,
    #[serde(default, rename = "type")]
    pub kind: Kind,
    pub order: Option<Order>,
    /// Bits of the number that count; the lowest of them becomes bit 0.
    pub mask: Option<u64>,
    #[serde(default)]
    pub xor: u64,
    /// Added before scaling.
    #[serde(default)]
    pub add: i64,
    #[serde(default)]
    pub scale: Scale,
    /// Numbers in the frame that stand for "none".
    pub absent: Option<Values>,
    /// Any other number in the frame makes the reply invalid.
    pub valid: Option<Values>,
    /// The value is negative where this holds.
    #[serde(default)]
    pub negative: Conditions,
    #[serde(default, rename = "if")]
    pub condition: Conditions,
    /// The reply may end before it.
    #[serde(default)]
    pub optional: bool,
    /// Makes it an array.
    pub count: Option<Count>,
    /// Variables that are subtracted from the count, or from the number before scaling.
    #[serde(default)]
    pub less: Vec<String>,
    /// Bytes from one entry to the next.
    pub step: Option<usize>,
    /// Number of the first cell.
    #[serde(default = "one_cell")]
    pub first: usize,
    /// Distance from an entry to the byte with the number of its cell.
    pub number: Option<i64>,
    /// Length of a text.
    #[serde(default)]
    pub size: usize,
    /// Meanings of the bits of a status word.
    #[serde(default)]
    pub bits: BTreeMap<u8, Meaning>,
    /// Meanings of the values of a status word that is a number.
    #[serde(default)]
    pub values: BTreeMap<Values, Meaning>,
    /// What a simulated battery sends here, where it is not known from the key.
    pub sim: Option<i64>,
}

fn one_cell() -> usize {
    1
}

/// How a number is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    #[default]
    U8,
    U16,
    U24,
    U32,
    U64,
    I8,
    I16,
    I24,
    I32,
    /// The highest bit is the sign, the others are the absolute value.
    Sm16,
    Sm32,
    F32,
    /// `size` characters, padded with blanks, NUL or FF.
    Text,
}

impl Kind {
    /// Bytes of a number.
    pub fn width(self) -> usize {
        match self {
            Kind::U8 | Kind::I8 | Kind::Text => 1,
            Kind::U16 | Kind::I16 | Kind::Sm16 => 2,
            Kind::U24 | Kind::I24 => 3,
            Kind::U32 | Kind::I32 | Kind::Sm32 | Kind::F32 => 4,
            Kind::U64 => 8,
        }
    }
}
