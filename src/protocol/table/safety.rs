//! Requests that change a battery are refused when a profile is loaded.

use super::MAX_PACKS;
use super::frame::{Numbers, compose};
use super::scalar::{Bytes, Token};
use super::schema::{Profile, Request};
use crate::protocol::checksum::crc16_modbus;

/// Functions of Modbus that write: coils, registers, masked and mixed access.
const MODBUS_WRITES: [u8; 7] = [0x05, 0x06, 0x0F, 0x10, 0x15, 0x16, 0x17];

/// What the known write requests of a family begin with; `??` is any byte.
const WRITES: &[(&str, &[&str])] = &[
    ("JBD", &["DD 5A"]),
    ("a JBD module", &["FF AA 16"]),
    ("ANT", &["A5 A5"]),
    ("Braun Power", &["7B ?? 02", "7B 1D", "7B 1E", "7B E2", "7B FA", "7B FB", "7B FC"]),
    ("JBD UP16S", &["?? 79"]),
    (
        "JK",
        &["4E 57 ?? ?? ?? ?? ?? ?? 01", "4E 57 ?? ?? ?? ?? ?? ?? 02", "4E 57 ?? ?? ?? ?? ?? ?? 05"],
    ),
    ("Daly", &["A5 ?? 00 08", "A5 ?? 21 08", "A5 ?? D9 08", "A5 ?? DA 08"]),
    ("NEEY", &["AA 55 11 00", "AA 55 11 03"]),
    ("ALLPOWERS", &["A5 65 00 B1"]),
    ("TianPower", &["55 00", "55 01", "55 02", "55 03", "55 05", "55 06", "55 07"]),
    ("Saftkiste", &["F0 FF 04", "F0 FF 05"]),
    ("ABC", &["DD C0"]),
    ("Telit Terminal I/O", &["2B 2B 2B"]),
    (
        "TDT",
        &[
            "7E ?? ?? 06",
            "1E ?? ?? 06",
            "?? ?? ?? 03 00 79 00",
            "?? ?? ?? 03 00 7A 00",
            "?? ?? ?? 03 00 82 00",
            "?? ?? ?? 03 00 83 00",
            "?? ?? ?? 03 00 84 00",
            "?? ?? ?? 03 00 85 00",
            "?? ?? ?? 03 00 86 00",
        ],
    ),
    (
        "HumsiENK",
        &["AA 50", "AA 51", "AA 52", "AA 53", "AA 5B", "AA 5C", "AA 5D", "AA 66", "AA 67", "AA 68"],
    ),
    (
        "Seplos",
        &["7E 10 ?? 46 63", "7E 10 ?? 46 64", "7E 10 ?? 46 65", "7E 10 ?? 46 A1", "7E 10 ?? 46 AA"],
    ),
    // Text: `:` address function, `~` version address CID1 CID2.
    ("E&J", &["3A ?? ?? 30 35", "3A ?? ?? 30 36"]),
    (
        "Daren",
        &[
            "7E ?? ?? ?? ?? 34 41 34 35",
            "7E ?? ?? ?? ?? 34 41 34 39",
            "7E ?? ?? ?? ?? 34 41 34 45",
            "7E ?? ?? ?? ?? 34 41 38",
            "7E ?? ?? ?? ?? 34 41 39 30",
        ],
    ),
    (
        "Pylontech",
        &[
            "7E ?? ?? ?? ?? 34 36 34 35",
            "7E ?? ?? ?? ?? 34 36 34 39",
            "7E ?? ?? ?? ?? 34 36 34 45",
            "7E ?? ?? ?? ?? 34 36 39 34",
            "7E ?? ?? ?? ?? 34 36 39 35",
        ],
    ),
];

/// Families of which only these requests are known to read: the start of all, and what follows it.
const READS: &[(&str, &str, &[&str])] = &[
    ("ANT", "7E A1", &["01", "02"]),
    ("LiTime", "00 00 04 01", &["13", "16"]),
    ("JK", "AA 55 90 EB", &["96", "97", "A1"]),
    ("RoyPow", "EA D1 01 04 FF", &["01", "02", "03", "04", "05", "11"]),
    ("Greenway", "46 16", &["01"]),
    ("ECO-WORTHY", "FF 08", &["02 00 0B 01 00 64 01", "02 00 0B 01 00 14 01"]),
    ("PaceEX", "9A 00 00", &["0A 00", "0A 01", "0A 02", "00 01", "00 02"]),
    ("PowerXtreme", "3C ?? 3A", &["53 54", "57 41", "53 52", "4E 41"]),
    ("Büttner", "41 50 50 2B", &["41 45 4E", "4E 45 54", "52 44 4E"]),
];

/// Whether a request of a profile is one that only reads, as far as the family is known.
pub fn check(profile: &Profile, request: &Request) -> Result<(), String> {
    let Some(send) = &request.send else { return Ok(()) };
    if send.0.contains(&Token::Any) {
        return Err("`??` has no meaning in `send`: every byte must be known".into());
    }
    if send.0.contains(&Token::Check) && profile.frame.check.is_none() {
        return Err("`{check}` needs `frame: {check: ...}`".into());
    }
    numbers(profile, send).try_for_each(|numbers| only_reads(&compose(profile, request, numbers)))
}

/// A greeting is sent as it is, so it has no gaps.
pub fn check_greeting(greeting: &Bytes) -> Result<(), String> {
    let bytes = greeting.fixed();
    if bytes.len() < greeting.0.len() {
        return Err("a greeting consists of bytes and texts in single quotes only".to_owned());
    }
    only_reads(&bytes)
}

fn only_reads(bytes: &[u8]) -> Result<(), String> {
    match writes(bytes) {
        Some(family) => Err(format!(
            "this request may change settings of a battery ({family}). A profile only reads"
        )),
        None => Ok(()),
    }
}

/// Everything that `{unit}` and `{pack}` can stand for in a request.
fn numbers<'a>(profile: &'a Profile, send: &'a Bytes) -> impl Iterator<Item = Numbers> + 'a {
    let serial = profile.serial.as_ref().filter(|_| send.0.contains(&Token::Unit));
    let addresses = serial.map_or(1..=1, |serial| serial.first_address..=serial.last_address);
    let packs = if send.0.contains(&Token::Pack) { 1..=MAX_PACKS } else { 1..=1 };
    let units = profile.units.iter().copied().chain(addresses);
    units.flat_map(move |unit| packs.clone().map(move |pack| Numbers { unit, pack }))
}

/// The family of which this may be a write request.
fn writes(bytes: &[u8]) -> Option<&'static str> {
    if let Some((frame, crc)) = bytes.split_last_chunk::<2>()
        && frame.len() >= 4
        && MODBUS_WRITES.contains(&frame[1])
        && crc16_modbus(frame).to_le_bytes() == *crc
    {
        return Some("a Modbus write");
    }
    let write = WRITES.iter().find(|(_, starts)| starts.iter().any(|it| begins(it, bytes)));
    write.map(|(family, _)| *family).or_else(|| {
        let other = READS.iter().find(|(_, start, reads)| {
            let rest = bytes.get(start.split(' ').count()..).unwrap_or_default();
            begins(start, bytes) && !reads.iter().any(|read| begins(read, rest))
        });
        other.map(|(family, ..)| *family)
    })
}

fn begins(start: &str, bytes: &[u8]) -> bool {
    let mut rest = bytes.iter();
    start.split(' ').all(|pair| {
        let byte = rest.next();
        byte.is_some_and(|byte| pair == "??" || u8::from_str_radix(pair, 16) == Ok(*byte))
    })
}
