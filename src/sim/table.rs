//! The battery side of every brand that is data: its profile in reverse.

mod encode;

use super::{Corruption, Responder, SimPack};
use crate::protocol::driver::Medium;
use crate::protocol::modbus::with_crc;
use crate::protocol::table::frame::{Numbers, compose};
use crate::protocol::table::key::Key;
use crate::protocol::table::layout::medium_name;
use crate::protocol::table::scalar::Count;
use crate::protocol::table::schema::{Field, Profile, Request};
use encode::{Encoder, fields};

/// A simulated battery of one brand.
#[derive(Debug)]
pub struct TablePack {
    profile: &'static Profile,
    medium: Medium,
    pack: SimPack,
}

impl TablePack {
    pub fn new(profile: &'static Profile, medium: Medium, pack: SimPack) -> Self {
        TablePack { profile, medium, pack }
    }

    fn replies(&mut self, request: &'static Request, numbers: Numbers, seconds: f64) -> Vec<u8> {
        let mut state = self.pack.state(seconds);
        if let Some(cells) = room(self.profile).filter(|room| *room < state.cells.len()) {
            state = state.with_cells(cells);
        }
        let encoder = Encoder::new(self.profile, self.medium, &state);
        let is_refusal = |field: &Field| matches!(field.key, Key::Exception);
        let replies = request.replies.iter().filter(|it| !it.fields.iter().any(is_refusal));
        replies.flat_map(|reply| encoder.reply(reply, numbers)).collect()
    }
}

/// Number of cells for which the replies have room; `None` where it is not fixed.
fn room(profile: &'static Profile) -> Option<usize> {
    let arrays = fields(profile).filter(|field| matches!(field.key, Key::Cells));
    let ends = arrays.map(|field| match &field.count {
        Some(Count::Fixed(count)) => Some(field.first - 1 + count),
        _ => None,
    });
    ends.collect::<Option<Vec<_>>>()?.into_iter().max()
}

/// The bytes of all requests to a unit, for every pack that they are repeated for.
fn composed(
    profile: &'static Profile,
    unit: Option<u8>,
) -> impl Iterator<Item = (&'static Request, Numbers, Vec<u8>)> {
    let sent = profile.requests.iter().filter(|request| request.send.is_some());
    let each = sent.flat_map(|request| request.pack_numbers().map(move |pack| (request, pack)));
    each.map(move |(request, pack)| {
        let numbers = Numbers::of(profile, request, unit, pack);
        (request, numbers, compose(profile, request, numbers))
    })
}

impl Responder for TablePack {
    fn respond(&mut self, request: &[u8], seconds: f64) -> Option<Vec<u8>> {
        let unit = match self.medium {
            Medium::Serial => Some(self.pack.address),
            // The profile knows it.
            Medium::Ble => self.profile.units.first().copied(),
        };
        let medium = medium_name(self.medium);
        let (request, numbers, _) = composed(self.profile, unit).find(|(known, _, bytes)| {
            let media = known.condition.of("$medium");
            bytes == request && media.is_none_or(|media| media.match_text(medium))
        })?;
        Some(self.replies(request, numbers, seconds))
    }

    fn unsolicited(&mut self, seconds: f64) -> Option<Vec<u8>> {
        let numbers = Numbers { unit: self.pack.address, pack: 0 };
        let unasked = self.profile.requests.iter().filter(|request| request.send.is_none());
        let bytes: Vec<u8> =
            unasked.flat_map(|request| self.replies(request, numbers, seconds)).collect();
        (!bytes.is_empty()).then_some(bytes)
    }
}

/// Length of the first request in a buffer.
pub fn request_end(profile: &'static Profile, buffer: &[u8]) -> Option<usize> {
    let mut may_continue = buffer.is_empty();
    // On a wire the address is configured.
    let is_any = profile.units.is_empty() || profile.serial.is_some();
    for unit in (0..=u8::MAX).filter(|unit| is_any || profile.units.contains(unit)) {
        for (_, _, bytes) in composed(profile, Some(unit)) {
            if !bytes.is_empty() && buffer.starts_with(&bytes) {
                return Some(bytes.len());
            }
            may_continue |= bytes.starts_with(buffer);
        }
    }
    (!may_continue).then_some(1)
}

/// A reply with the fault, where its form allows it.
pub fn corrupt(profile: &Profile, corruption: Corruption, reply: &[u8]) -> Vec<u8> {
    let mut bytes = reply.to_vec();
    match (corruption, reply, &profile.modbus) {
        (Corruption::Checksum, ..) => {
            let tail = profile.frame.tail.0.len() + 1;
            if let Some(byte) = bytes.len().checked_sub(tail).and_then(|at| bytes.get_mut(at)) {
                *byte ^= 1;
            }
            bytes
        }
        (Corruption::Foreign, [unit, rest @ .., _, _], Some(_)) => {
            with_crc([&[unit.wrapping_add(1)], rest].concat())
        }
        (Corruption::Refused(code), [unit, function, ..], Some(_)) => {
            with_crc(vec![*unit, function | 0x80, code])
        }
        // The other brands have neither addresses nor error codes that a profile describes.
        _ => Vec::new(),
    }
}
