//! What a profile contains: a brand of battery as data. `docs/profiles.md` describes every key.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::key::{Flag, Key};
use super::scalar::{BuiltIn, Bytes, Channel, Count, FACTORS, Name, Scale, Uuid, Values};
use super::yaml::tree::Node;
use super::yaml::{Pairs, Place, Read, Result, Rule, block, put};
use crate::protocol::query::Need;

/// Packs of a stack that are asked one after the other.
pub const MAX_PACKS: u8 = 32;
/// Longest reply that is accepted; every real one is shorter.
pub const MAX_FRAME: usize = 2048;

// Numbers that no profile needs are refused, so that nothing overflows later.
/// Bytes of a frame, or registers.
const PLACES: RangeInclusive<i64> = -0x1_0000..=0x1_FFFF;
const OFFSETS: RangeInclusive<i64> = 0..=MAX_FRAME as i64;
const SIZES: RangeInclusive<i64> = 1..=MAX_FRAME as i64;
/// Functions of Modbus that read.
const READS: RangeInclusive<i64> = 1..=4;
const CELLS: RangeInclusive<i64> = 1..=512;

/// All of these variables have one of these values.
pub type Conditions = Pairs<String, Values>;

impl Conditions {
    pub fn of(&self, variable: &str) -> Option<&Values> {
        self.iter().find(|(name, _)| name == variable).map(|(_, values)| values)
    }
}

block! {
    Profile at place {
        /// Value of `BMS_TYPE`.
        name: Name = required,
        /// The brand as people know it.
        title: String = required,
        /// Other names that people search for.
        brands: Vec<String>,
        /// What the profile was verified with.
        verified: String,
        /// The brand with the same frames: its requests and the form of its frames hold here too.
        like: Option<BuiltIn>,
        /// Patterns in an advertisement, each of which is enough.
        scan: Vec<ScanMark>,
        /// Characteristics to look for, the usual ones first.
        ble: Vec<Gatt>,
        serial: Option<Serial>,
        order: Order,
        frame: Frame,
        modbus: Option<Modbus>,
        /// Addresses to try over Bluetooth, where none is configured: `{unit}` in the requests.
        units: Vec<u8>,
        /// Time to wait for a reply.
        timeout: Option<Duration>,
        /// Silence before each request, counted from the last byte on the line; 0.01 by wire and
        /// none over Bluetooth where it is not given.
        gap: Option<Duration>,
        /// The battery sends unasked, or goes on sending once it was asked.
        streams: bool,
        requests: Vec<Request>,
    }
}

block! {
    /// Parts of an advertisement, all of which must match.
    ScanMark at place {
        /// `*` stands for any characters, `?` for one, `[0-9]` for one of these.
        name: Option<String>,
        service: Option<Uuid>,
        /// Company id of the manufacturer data.
        manufacturer: Option<u16>,
        /// What the manufacturer data begins with.
        data: Bytes,
        /// The beginning of the address: `C8:47:80`.
        address: Option<String>,
        /// Devices that are no battery of this brand advertise the same.
        shared: bool,
    }
}

block! {
    Gatt at place {
        notify: Vec<Channel>,
        /// Values to read: a request is the number of one.
        read: Vec<Channel>,
        /// Absent where nothing is ever written.
        write: Option<Channel>,
        /// Write with a response even where the module also allows to write without one.
        response: bool,
        /// Written once after subscribing, where the module has the characteristic.
        greeting: Vec<Greeting>,
    }
}

block! {
    Greeting at place {
        to: Channel = required,
        bytes: Bytes = required,
    }
}

block! {
    Serial at place {
        /// Baud rates, the usual one first.
        baud: Vec<u32> = required,
        first_address: u8 = 1,
        last_address: u8 = 1,
    }
}

/// Defines an enum whose first name is the default.
macro_rules! choice {
    ($(#[$meta:meta])* $name:ident { $first:ident $first_key:literal, $($variant:ident $key:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub enum $name {
            #[default]
            $first,
            $($variant,)*
        }

        impl Read for $name {
            fn read(node: &Node) -> Result<Self> {
                node.one_of(&[($first_key, $name::$first), $(($key, $name::$variant)),*])
            }
        }
    };
}

choice! {
    /// The order of the bytes of a number. Swapped: the low word first, each with its high byte first.
    Order { Big "big", Little "little", Swapped "swapped", }
}

block! {
    /// How the replies are recognised.
    #[derive(Default)]
    Frame {
        /// What every reply begins with.
        head: Bytes,
        /// Where the length stands; without it and without a size, a frame ends at its tail.
        length: Option<Length>,
        /// Length of a whole frame where all have the same.
        size: Option<usize> [SIZES],
        check: Option<Check>,
        /// What every reply ends with, behind the checksum.
        tail: Bytes,
        /// Between head and tail are hexadecimal digits; places count their bytes.
        text: bool,
        /// The byte with which all bytes are combined by exclusive or.
        unmask: Option<usize> [OFFSETS],
    }
}

block! {
    /// The length of a frame: the number in it plus `add`.
    #[derive(Copy, Default)]
    Length {
        at: usize [OFFSETS] = required,
        kind "type": Kind,
        order: Option<Order>,
        add: i64 [PLACES] = required,
    }
}

block! {
    #[derive(Default)]
    Check {
        kind "type": CheckKind = required,
        order: Option<Order>,
        /// The first byte that it covers; the last one is the byte before it.
        from: usize [OFFSETS],
        /// It covers the hexadecimal digits and not their bytes.
        digits: bool,
        /// Values that some firmware sends in place of a checksum.
        accept: Option<Values>,
    }
}

choice! {
    /// None is in place of the checksum of all frames. Inverted is FF minus the sum, negated zero
    /// minus the sum, CRC-8 that of Maxim, and the last one the low byte of the CRC-32 of zlib.
    CheckKind {
        None "none",
        Sum8 "sum8",
        InvertedSum8 "inverted-sum8",
        Xor8 "xor8",
        Sum16 "sum16",
        NegatedSum16 "negated-sum16",
        Crc8 "crc8",
        Crc16Modbus "crc16-modbus",
        Crc16Xmodem "crc16-xmodem",
        Crc32Low "crc32-low",
    }
}

block! {
    /// Requests are reads of registers, and places are registers.
    Modbus {
        /// Function of the requests.
        function: u8 [READS] = 3,
    }
}

block! {
    Request at place {
        /// For messages.
        name: Option<String>,
        /// The bytes; missing where the battery sends unasked.
        send: Option<Bytes>,
        /// First register and number of registers, for Modbus.
        read: Option<(u16, u16)>,
        /// In place of the one that all requests have.
        function: Option<u8> [READS],
        /// In place of the one that all requests have.
        unit: Option<u8>,
        need: Need,
        /// Time to wait for a reply, in place of the time for all requests.
        timeout: Option<Duration>,
        /// Time to wait for optional replies that may follow.
        linger: Option<Duration>,
        /// Variable with the number of packs: the request is repeated for each.
        packs: Option<String>,
        /// Only where these variables have these values.
        condition "if": Conditions,
        replies: Vec<Reply>,
    }
}

impl Request {
    /// The packs that it is repeated for; 0 is the whole battery.
    pub fn pack_numbers(&self) -> RangeInclusive<u8> {
        if self.packs.is_some() { 1..=MAX_PACKS } else { 0..=0 }
    }
}

impl Read for Need {
    fn read(node: &Node) -> Result<Self> {
        node.one_of(&[
            ("required", Need::Required),
            ("optional", Need::Optional),
            ("steady", Need::Steady),
            ("once", Need::Once),
        ])
    }
}

block! {
    #[derive(Default)]
    Reply at place {
        /// What it begins with, in place of the head of all frames.
        head: Option<Bytes>,
        /// Length of the whole frame, where it is always the same.
        size: Option<usize> [SIZES],
        length: Option<Length>,
        /// In place of the tail of all frames.
        tail: Option<Bytes>,
        /// In place of the checksum of all frames.
        check: Option<Check>,
        /// The request is complete without it.
        optional: bool,
        fields: Vec<Field>,
    }
}

block! {
    #[derive(Default)]
    Field at place {
        key: Key = required,
        /// Byte of the frame, or register.
        at: i64 [PLACES],
        /// Key of a field before it: `at` counts bytes from its end.
        after: Option<String>,
        kind "type": Kind,
        order: Option<Order>,
        /// Bits of the number that count; the lowest of them becomes bit 0.
        mask: Option<u64> [1..=i64::MAX],
        xor: u64,
        /// Added before scaling.
        add: i64 [FACTORS],
        scale: Scale,
        /// Numbers in the frame that stand for "none".
        absent: Option<Values>,
        /// Any other number in the frame makes the reply invalid.
        valid: Option<Values>,
        /// Added to the value that the key has already.
        sum: bool,
        condition "if": Conditions,
        /// The reply may end before it.
        optional: bool,
        /// Makes it an array.
        count: Option<Count>,
        /// Bytes from one entry to the next.
        step: Option<usize> [SIZES],
        /// Number of the first cell.
        first: usize [CELLS] = 1,
        /// Length of a text.
        size: usize [OFFSETS],
        /// Meanings of the bits of a status word.
        bits: Pairs<u8, Flag>,
        /// Meanings of the values of a status word that is a number.
        values: Pairs<Values, Flag>,
        /// What a simulated battery sends here, where it is not known from the key.
        sim: Option<i64> [FACTORS],
    }
}

impl Field {
    /// Bytes from one entry of an array to the next.
    pub fn step(&self) -> usize {
        self.step.unwrap_or(self.kind.width())
    }
}

choice! {
    /// How a number is written. A text has `size` characters, padded with blanks, NUL or FF.
    Kind {
        U8 "u8",
        U16 "u16",
        U24 "u24",
        U32 "u32",
        U64 "u64",
        I8 "i8",
        I16 "i16",
        I24 "i24",
        I32 "i32",
        F32 "f32",
        Text "text",
    }
}

impl Kind {
    /// Bytes of a number.
    pub fn width(self) -> usize {
        match self {
            Kind::U8 | Kind::I8 | Kind::Text => 1,
            Kind::U16 | Kind::I16 => 2,
            Kind::U24 | Kind::I24 => 3,
            Kind::U32 | Kind::I32 | Kind::F32 => 4,
            Kind::U64 => 8,
        }
    }

    pub fn is_signed(self) -> bool {
        matches!(self, Kind::I8 | Kind::I16 | Kind::I24 | Kind::I32)
    }

    /// Into how many parts of one its numbers are divided.
    pub fn parts(self) -> i64 {
        if self == Kind::F32 { 1_000_000 } else { 1 }
    }
}
