//! Numbers that no profile needs are refused, so that nothing overflows later.

use std::fmt::Display;
use std::ops::RangeInclusive;

use super::frame::MAX_FRAME;
use super::scalar::{Bytes, Count, Token};
use super::schema::{Check, Field, Length, Profile, Reply, Request};

/// Places: bytes of a frame, or registers.
const PLACES: RangeInclusive<i64> = -0x1_0000..=0x1_FFFF;
const SIZES: RangeInclusive<usize> = 1..=MAX_FRAME;
const SIZES_FROM_ZERO: RangeInclusive<usize> = 0..=MAX_FRAME;
/// Numbers that are added, and the parts of a scale.
const FACTORS: RangeInclusive<i64> = -1_000_000_000_000..=1_000_000_000_000;
const COUNTS: RangeInclusive<usize> = 0..=128;
const CELLS: RangeInclusive<usize> = 1..=512;

fn within<T: PartialOrd + Display>(
    key: &str,
    number: impl Into<Option<T>>,
    allowed: &RangeInclusive<T>,
) -> Result<(), String> {
    let Some(number) = number.into() else { return Ok(()) };
    if allowed.contains(&number) {
        return Ok(());
    }
    Err(format!("`{key}` is {number}, but must be from {} to {}", allowed.start(), allowed.end()))
}

pub fn check_request(request: &Request) -> Result<(), String> {
    if let Some(registers) = &request.registers {
        within("first", registers.first, &PLACES)?;
        within("at", registers.at, &PLACES)?;
    }
    Ok(())
}

/// The form of a reply, with what it takes from the form of all frames.
pub fn check_reply(profile: &Profile, reply: &Reply) -> Result<(), String> {
    let frame = &profile.frame;
    let size = reply.size.or(frame.size);
    within("size", size, &SIZES)?;
    within("unmask", frame.unmask, &SIZES_FROM_ZERO)?;
    if let Some(Length { at, add, .. }) = reply.length.or(frame.length) {
        within("length: at", at, &SIZES_FROM_ZERO)?;
        within("length: add", add, &PLACES)?;
    }
    let check: Option<&Check> = reply.check.as_ref().or(frame.check.as_ref());
    within("check: from", check.map(|check| check.from), &SIZES_FROM_ZERO)?;
    for (key, bytes) in [
        ("head", reply.head.as_ref().unwrap_or(&frame.head)),
        ("tail", reply.tail.as_ref().unwrap_or(&frame.tail)),
    ] {
        if bytes.0.contains(&Token::Check) {
            return Err(format!("`{key}` has no {{check}}; `check` describes the checksum"));
        }
    }
    let length = |bytes: &Option<Bytes>, all: &Bytes| bytes.as_ref().unwrap_or(all).0.len();
    let check = check.map_or(0, |check| check.kind.width() * if frame.text { 2 } else { 1 });
    let edges = length(&reply.head, &frame.head) + length(&reply.tail, &frame.tail) + check;
    match size {
        Some(size) if size < edges => Err(format!(
            "`size` is {size}, but head, tail and checksum are {edges} bytes; it is the size of the whole frame"
        )),
        _ => Ok(()),
    }
}

pub fn check_field(field: &Field) -> Result<(), String> {
    within("at", field.at, &PLACES)?;
    within("number", field.number, &PLACES)?;
    within("add", field.add, &FACTORS)?;
    within("scale", field.scale.numerator, &FACTORS)?;
    within("scale", field.scale.denominator, &FACTORS)?;
    within("sim", field.sim, &FACTORS)?;
    within("size", field.size, &SIZES_FROM_ZERO)?;
    within("step", field.step, &SIZES)?;
    within("first", field.first, &CELLS)?;
    match field.count {
        Some(Count::Fixed(count)) => within("count", count, &COUNTS),
        _ => Ok(()),
    }
}
