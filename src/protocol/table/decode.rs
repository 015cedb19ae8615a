//! From the bytes of a reply to a reading, as the fields of a profile say.

use super::key::{Key, NumberKey};
use super::layout::{Layout, Variables};
use super::number::{gather, scaled, signed, unsigned};
use super::scalar::Scale;
use super::schema::{Field, Kind};
use crate::model::Reading;
use crate::model::reading::{Cell, Module, Probe, SensorLocation};
use crate::model::units::{DeciCelsius, Millivolts, Unit};
use crate::protocol::bytes::text;
use crate::protocol::error::DecodeError;
use crate::protocol::modbus::exception;
use crate::protocol::values::ratio;

/// Cells of a stack; every real one has fewer.
const MAX_CELLS: usize = 512;

/// Decodes the fields of one reply.
#[derive(Debug)]
pub struct Decoder<'a> {
    /// As [`Shape::open`](super::frame::Shape::open) returns them.
    pub bytes: &'a [u8],
    /// Number of the pack, from 1; 0 for the whole battery.
    pub pack: u8,
    pub variables: &'a mut Variables,
}

impl Decoder<'_> {
    pub fn decode(
        &mut self,
        fields: &'static [Field],
        into: &mut Reading,
    ) -> Result<(), DecodeError> {
        let first_cell = self.first_cell(into);
        let mut layout = Layout::default();
        for field in fields {
            if !self.variables.meet(&field.condition) {
                continue;
            }
            let at = layout.place(field).ok_or_else(|| self.too_short())?;
            let rest = self.bytes.len().saturating_sub(at) / field.step();
            let entries = layout.entries(field, (at, rest), self.variables);
            for index in 0..entries.map_err(|value| out_of_range(field, value))? {
                let (at, cell) = (at + index * field.step(), first_cell + field.first - 1 + index);
                match field.kind {
                    Kind::Text => self.decode_text(field, at, into)?,
                    _ => self.decode_number(field, at, cell, into)?,
                }
            }
            // Places without a sensor follow the last one.
            while into.probes.pop_if(|probe| probe.value.is_none()).is_some() {}
        }
        let (last, pack) = (into.cells.len(), &mut into.pack);
        // Some batteries report capacities only.
        if let (None, Some(remaining)) = (pack.soc, pack.remaining) {
            pack.soc = pack.full.or(pack.design).and_then(|capacity| ratio(remaining, capacity));
        }
        if let Some(module) = self.module(into) {
            module.cells.end = last;
        }
        Ok(())
    }

    /// Index of the first cell of this pack; a new pack begins behind the others.
    fn first_cell(&self, into: &mut Reading) -> usize {
        let end = into.cells.len();
        if into.modules.len() < usize::from(self.pack) {
            let module = Module { cells: end..end, ..Module::default() };
            into.modules.resize(self.pack.into(), module);
        }
        self.module(into).map_or(0, |module| module.cells.start)
    }

    fn module<'b>(&self, into: &'b mut Reading) -> Option<&'b mut Module> {
        into.modules.get_mut(usize::from(self.pack).checked_sub(1)?)
    }

    fn too_short(&self) -> DecodeError {
        DecodeError::TooShort(self.bytes.len())
    }

    /// The bytes of a value; `None` where the reply may end before it and does.
    fn bytes(&self, field: &Field, at: usize, size: usize) -> Result<Option<&[u8]>, DecodeError> {
        match self.bytes.get(at..at.saturating_add(size)) {
            None if !field.optional => Err(self.too_short()),
            bytes => Ok(bytes),
        }
    }

    /// The number at this place, in the [parts](Kind::parts) of its type; `None` where it stands for
    /// "none".
    fn number(&self, field: &Field, at: usize) -> Result<Option<i64>, DecodeError> {
        let Some(bytes) = self.bytes(field, at, field.kind.width())? else { return Ok(None) };
        let bits = unsigned(bytes, field.order.unwrap_or_default()) ^ field.xor;
        let number = match (field.kind, field.mask) {
            (Kind::F32, _) => {
                let parts = f64::from(f32::from_bits(bits as u32)) * field.kind.parts() as f64;
                // No number is in no range.
                if !(-1e15..=1e15).contains(&parts) {
                    return Ok(None);
                }
                parts.round() as i64
            }
            (_, Some(mask)) => gather(bits, mask).cast_signed(),
            (kind, None) => signed(bits, kind),
        };
        let whole = scaled(number, field.kind.parts(), Scale::default(), 1);
        if field.absent.as_ref().is_some_and(|absent| absent.contain(whole)) {
            return Ok(None);
        }
        match &field.valid {
            Some(valid) if !valid.contain(whole) => Err(out_of_range(field, whole)),
            _ => Ok(Some(number.saturating_add(field.add.saturating_mul(field.kind.parts())))),
        }
    }

    /// `cell` is the index of the cell, where it is one.
    fn decode_number(
        &mut self,
        field: &'static Field,
        at: usize,
        cell: usize,
        into: &mut Reading,
    ) -> Result<(), DecodeError> {
        let number = self.number(field, at)?;
        let in_units = |factor| Some(scaled(number?, field.kind.parts(), field.scale, factor));
        if let Key::Sensor(location) = field.key {
            add_sensor(location, in_units(10).and_then(Unit::from_i64), into);
        }
        let Some(value) = number else { return Ok(()) };
        let is_on = value != 0;
        match field.key {
            Key::Number(key) => set(field, key, in_units(key.factor), into)?,
            Key::Cells => set_cell(cell, in_units(1000).and_then(Unit::from_i64), into)?,
            Key::CellRange => widen_range(in_units(1000).and_then(Unit::from_i64), into),
            Key::Variable(name) => self.variables.set(name, in_units(1).unwrap_or_default()),
            Key::Flag(flag) => flag.note(is_on, into),
            Key::Word(_) if !field.values.is_empty() => {
                field.values.iter().for_each(|(it, flag)| flag.note(it.contain(value), into));
            }
            Key::Word(name) => {
                let mut unknown = value.cast_unsigned();
                for (bit, flag) in field.bits.iter() {
                    flag.note(value >> bit & 1 != 0, into);
                    unknown &= !(1 << bit);
                }
                into.alarms.note_unknown_bits(name, unknown);
            }
            Key::BalancingCells => {
                let cells = into.cells.get_mut(cell..).unwrap_or_default().iter_mut();
                for (bit, cell) in cells.take(field.kind.width() * 8).enumerate() {
                    cell.balancing = Some(value >> bit & 1 != 0);
                }
            }
            Key::Refusal | Key::Exception if is_on => {
                let code = u32::try_from(value).unwrap_or(u32::MAX);
                let is_modbus = matches!(field.key, Key::Exception);
                let reason =
                    if is_modbus { exception(code as u8) } else { "error code in the reply" };
                return Err(DecodeError::Refused { code, reason });
            }
            _ => {}
        }
        Ok(())
    }

    fn decode_text(
        &mut self,
        field: &'static Field,
        at: usize,
        into: &mut Reading,
    ) -> Result<(), DecodeError> {
        let size = field.size.min(self.bytes.len().saturating_sub(at));
        let Some(bytes) = self.bytes(field, at, size)? else { return Ok(()) };
        let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        match (field.key, text(bytes)) {
            // That of the first pack stands for the battery.
            (Key::Text(key), Some(text)) if self.pack < 2 => {
                *(key.field)(&mut into.identity) = Some(text);
            }
            (Key::Variable(name), Some(text)) => self.variables.set(name, text),
            _ => {}
        }
        Ok(())
    }
}

fn out_of_range(field: &Field, value: i64) -> DecodeError {
    DecodeError::OutOfRange { field: field.key.name(), value }
}

fn set(
    field: &Field,
    key: &NumberKey,
    value: Option<i64>,
    into: &mut Reading,
) -> Result<(), DecodeError> {
    let before = if field.sum { (key.access)(into, None) } else { None };
    let value = value.unwrap_or_default().saturating_add(before.unwrap_or_default());
    let fits = (key.access)(into, Some(value)).is_some();
    if fits { Ok(()) } else { Err(out_of_range(field, value)) }
}

fn set_cell(
    index: usize,
    voltage: Option<Millivolts>,
    into: &mut Reading,
) -> Result<(), DecodeError> {
    if index >= MAX_CELLS {
        return Err(DecodeError::OutOfRange { field: "number of a cell", value: index as i64 });
    }
    into.cells.resize(into.cells.len().max(index + 1), Cell::default());
    into.cells[index].voltage = voltage;
    Ok(())
}

/// The cells of a battery that reports their range only.
fn widen_range(voltage: Option<Millivolts>, into: &mut Reading) {
    if into.modules.is_empty() {
        into.modules.push(Module::default());
    }
    let range = into.modules[0].range.into_iter().flat_map(|(low, high)| [low, high]);
    let all = range.chain(voltage);
    into.modules[0].range = all.clone().min().zip(all.max());
}

/// Sensors at the cells are numbered. Of the others in a stack, the hottest one is of interest.
fn add_sensor(location: SensorLocation, value: Option<DeciCelsius>, into: &mut Reading) {
    let is_known = |it: &&mut Probe| it.location == location && location != SensorLocation::Cells;
    match into.probes.iter_mut().find(is_known) {
        Some(probe) => probe.value = probe.value.max(value),
        None => into.probes.push(Probe { location, value }),
    }
}
