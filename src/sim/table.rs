//! The battery side of every brand that is data: its profile in reverse.

mod encode;

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::OnceLock;

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

#[derive(Debug)]
struct Requests {
    all: BTreeSet<Vec<u8>>,
    longest: usize,
}

/// A brand that is data, with all requests that its batteries understand.
#[derive(Debug)]
pub struct TableBrand {
    pub profile: &'static Profile,
    /// Composed once, because a line of noise is compared with all of them at each byte.
    requests: OnceLock<Requests>,
}

impl TableBrand {
    pub(super) fn new(profile: &'static Profile) -> Self {
        TableBrand { profile, requests: OnceLock::new() }
    }

    fn requests(&self) -> &Requests {
        self.requests.get_or_init(|| {
            // On a wire the address is configured.
            let is_any = self.profile.units.is_empty() || self.profile.serial.is_some();
            let units = (0..=u8::MAX).filter(|unit| is_any || self.profile.units.contains(unit));
            let all = units.flat_map(|unit| composed(self.profile, Some(unit)));
            let all: BTreeSet<_> =
                all.map(|(_, _, bytes)| bytes).filter(|bytes| !bytes.is_empty()).collect();
            Requests { longest: all.iter().map(Vec::len).max().unwrap_or_default(), all }
        })
    }

    /// Length of the first request in a buffer.
    pub fn request_end(&self, buffer: &[u8]) -> Option<usize> {
        let Requests { all, longest } = self.requests();
        let head = |length| buffer.get(..length).is_some_and(|head| all.contains(head));
        if let Some(length) = (1..=*longest).find(|length| head(*length)) {
            return Some(length);
        }
        let next = all.range::<[u8], _>((Bound::Included(buffer), Bound::Unbounded)).next();
        let may_continue = buffer.is_empty() || next.is_some_and(|it| it.starts_with(buffer));
        (!may_continue).then_some(1)
    }
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
