//! Requests that change a battery are refused when a profile is loaded.

use super::frame::{Numbers, compose, request_check};
use super::scalar::{Bytes, Token};
use super::schema::{MAX_PACKS, Profile, Request};
use crate::protocol::checksum::crc16_modbus;

/// Functions of Modbus that write: coils, registers, masked and mixed access.
const MODBUS_WRITES: [u8; 7] = [0x05, 0x06, 0x0F, 0x10, 0x15, 0x16, 0x17];

/// What the write requests of each family begin with.
const FAMILIES: &str = include_str!("families.txt");

/// Whether a request of a profile is one that only reads, as far as the family is known.
pub fn check(profile: &Profile, request: &Request) -> Result<(), String> {
    let Some(send) = &request.send else { return Ok(()) };
    if send.0.contains(&Token::Any) {
        return Err("`??` has no meaning in `send`: every byte must be known".into());
    }
    if send.0.contains(&Token::Check) && request_check(profile, request).is_none() {
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
    let mut rules = FAMILIES.lines().filter(|line| !line.starts_with('#'));
    rules.find_map(|line| {
        let (family, rule) = line.split_once(": ")?;
        let starts = |starts: &str, bytes| starts.split(", ").any(|start| begins(start, bytes));
        let is_write = match rule.split_once(": ") {
            None => starts(rule, bytes),
            Some((all, reads)) => {
                let rest = bytes.get(all.split(' ').count()..).unwrap_or_default();
                begins(all, bytes) && !starts(reads, rest)
            }
        };
        is_write.then_some(family)
    })
}

fn begins(start: &str, bytes: &[u8]) -> bool {
    let mut rest = bytes.iter();
    start.split(' ').all(|pair| {
        let byte = rest.next();
        byte.is_some_and(|byte| pair == "??" || u8::from_str_radix(pair, 16) == Ok(*byte))
    })
}
