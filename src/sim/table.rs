//! The battery side of every brand that is data: its profile in reverse.

mod encode;

use super::{Corruption, Responder, SimPack};
use crate::protocol::checksum::crc16_modbus;
use crate::protocol::driver::Medium;
use crate::protocol::table::frame::{Numbers, compose};
use crate::protocol::table::key::Key;
use crate::protocol::table::scalar::Count;
use crate::protocol::table::schema::{Field, Profile, Request};
use crate::protocol::table::{MAX_PACKS, medium_name};
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

    /// The request, with the numbers for which it has these bytes.
    fn find(&self, bytes: &[u8]) -> Option<(&'static Request, Numbers)> {
        let unit = match self.medium {
            Medium::Serial => self.pack.address,
            // The profile knows it.
            Medium::Ble => self.profile.units.first().copied().unwrap_or(1),
        };
        let medium = medium_name(self.medium);
        let sent = self.profile.requests.iter().filter(|request| {
            let condition = request.condition.of("$medium");
            condition.is_none_or(|values| values.match_text(medium))
                && (request.send.is_some() || request.read.is_some())
        });
        let each = sent.flat_map(|it| numbers(self.profile, it, unit));
        each.into_iter()
            .find(|(request, numbers)| compose(self.profile, request, *numbers) == bytes)
    }

    fn replies(&mut self, request: &'static Request, numbers: Numbers, seconds: f64) -> Vec<u8> {
        let mut state = self.pack.state(seconds);
        if let Some(cells) = room(self.profile).filter(|room| *room < state.cells.len()) {
            state = state.with_cells(cells);
        }
        let encoder = Encoder::new(self.profile, self.medium, &state);
        let is_refusal = |field: &Field| matches!(field.key, Key::Exception);
        let replies = request.replies.iter().filter(|it| !it.fields.iter().any(is_refusal));
        let frames = replies.flat_map(|reply| encoder.reply(request, reply, numbers));
        frames.flatten().collect()
    }
}

/// Number of cells for which the replies have room; `None` where it is not fixed.
fn room(profile: &'static Profile) -> Option<usize> {
    let arrays = fields(profile).filter(|field| matches!(field.key, Key::Cells));
    let ends = arrays.map(|field| match (&field.count, field.number) {
        (Some(Count::Fixed(count)), None) => Some(field.first - 1 + count),
        _ => None,
    });
    ends.collect::<Option<Vec<_>>>()?.into_iter().max()
}

/// The request for every pack that it is repeated for.
fn numbers(
    profile: &Profile,
    request: &'static Request,
    unit: u8,
) -> Vec<(&'static Request, Numbers)> {
    let packs = if request.packs.is_some() { 1..=MAX_PACKS } else { 0..=0 };
    let of = |pack| {
        let modbus = (profile.modbus.is_some() && pack > 0).then_some(pack);
        Numbers { unit: request.unit.or(modbus).unwrap_or(unit), pack }
    };
    packs.map(|pack| (request, of(pack))).collect()
}

impl Responder for TablePack {
    fn respond(&mut self, request: &[u8], seconds: f64) -> Option<Vec<u8>> {
        let (request, numbers) = self.find(request)?;
        Some(self.replies(request, numbers, seconds))
    }

    fn unsolicited(&mut self, seconds: f64) -> Option<Vec<u8>> {
        let unasked = |it: &&Request| it.send.is_none() && it.read.is_none();
        let requests: Vec<&'static Request> =
            self.profile.requests.iter().filter(unasked).collect();
        let numbers = Numbers { unit: self.pack.address, pack: 0 };
        let frames = requests.into_iter().map(|request| self.replies(request, numbers, seconds));
        let bytes: Vec<u8> = frames.flatten().collect();
        (!bytes.is_empty()).then_some(bytes)
    }
}

/// Length of the first request in a buffer.
pub fn request_end(profile: &'static Profile, buffer: &[u8]) -> Option<usize> {
    let mut may_continue = false;
    // On a wire the address is configured.
    let is_any = profile.units.is_empty() || profile.serial.is_some();
    for unit in (0..=u8::MAX).filter(|unit| is_any || profile.units.contains(unit)) {
        for request in &profile.requests {
            for (request, numbers) in numbers(profile, request, unit) {
                let bytes = compose(profile, request, numbers);
                if !bytes.is_empty() && buffer.starts_with(&bytes) {
                    return Some(bytes.len());
                }
                may_continue |= bytes.starts_with(buffer);
            }
        }
    }
    (!may_continue).then_some(1)
}

/// A reply with the fault, where its form allows it.
pub fn corrupt(profile: &Profile, corruption: Corruption, reply: &[u8]) -> Vec<u8> {
    let mut bytes = reply.to_vec();
    let prefix = profile.modbus.as_ref().map(|modbus| modbus.prefix.0.len());
    match (corruption, prefix) {
        (Corruption::Checksum, _) => {
            let tail = profile.frame.tail.0.len() + 1;
            if let Some(byte) = bytes.len().checked_sub(tail).and_then(|at| bytes.get_mut(at)) {
                *byte ^= 1;
            }
            bytes
        }
        (Corruption::Foreign, Some(prefix)) if bytes.len() > prefix + 4 => {
            bytes[prefix] = bytes[prefix].wrapping_add(1);
            bytes.truncate(bytes.len() - 2);
            with_crc(bytes, prefix)
        }
        (Corruption::Refused(code), Some(prefix)) if bytes.len() > prefix + 4 => {
            bytes[prefix + 1] |= 0x80;
            bytes[prefix + 2] = code;
            bytes.truncate(prefix + 3);
            with_crc(bytes, prefix)
        }
        // The other brands have neither addresses nor error codes that a profile describes.
        _ => Vec::new(),
    }
}

fn with_crc(mut bytes: Vec<u8>, prefix: usize) -> Vec<u8> {
    let crc = crc16_modbus(&bytes[prefix..]);
    bytes.extend(crc.to_le_bytes());
    bytes
}
