//! From the bytes of a reply to a reading, as the fields of a profile say.

use super::frame::unsigned;
use super::key::{Key, NumberKey};
use super::layout::{Layout, Variable, Variables};
use super::number::{Number, gather, signed};
use super::schema::{Field, Kind, Order, Registers};
use crate::model::Reading;
use crate::model::reading::{Cell, Module, Probe, SensorLocation};
use crate::model::units::{DeciCelsius, MilliampHours, Millivolts};
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
    pub order: Order,
    pub registers: Option<Registers>,
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
        let mut layout = Layout::new(self.registers);
        for field in fields {
            if !self.variables.meet(&field.condition) {
                continue;
            }
            let at = layout.place(field).ok_or_else(|| self.too_short())?;
            if let Some(count) = &field.count {
                let rest = self.bytes.len().saturating_sub(at) / field.step();
                let count = layout
                    .entries(field, (count, at, rest), self.variables)
                    .map_err(|value| out_of_range(field, value))?;
                self.decode_array(field, at, count, first_cell, into)?;
            } else if field.kind == Kind::Text {
                self.decode_text(field, at, into)?;
            } else {
                match field.key {
                    Key::SocOfFull => set_soc(into.pack.full, into),
                    Key::SocOfDesign => set_soc(into.pack.design, into),
                    _ => self.decode_number(field, at, first_cell, into)?,
                }
            }
        }
        let last = into.cells.len();
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
    fn bytes(&self, field: &Field, at: usize, end: usize) -> Result<Option<&[u8]>, DecodeError> {
        match self.bytes.get(at..end) {
            None if !field.optional => Err(self.too_short()),
            bytes => Ok(bytes),
        }
    }

    /// The number at this place; `None` where it stands for "none".
    fn number(&self, field: &Field, at: usize) -> Result<Option<Number>, DecodeError> {
        let end = at.saturating_add(field.kind.width());
        let Some(bytes) = self.bytes(field, at, end)? else { return Ok(None) };
        let raw = unsigned(bytes, field.order.unwrap_or(self.order));
        let (number, exact) = if field.kind == Kind::F32 {
            let float = f32::from_bits(raw as u32);
            let millionths = f64::from(float) * 1e6;
            if !float.is_finite() || millionths.abs() > 1e15 {
                return Ok(None);
            }
            let exact = Number { value: millionths.round() as i64, parts: 1_000_000 };
            (float.round() as i64, exact)
        } else {
            let bits = raw ^ field.xor;
            let number = match field.mask {
                Some(mask) => gather(bits, mask).cast_signed(),
                None => signed(bits, field.kind),
            };
            (number, Number { value: number.saturating_add(field.add), parts: 1 })
        };
        if field.absent.as_ref().is_some_and(|absent| absent.contain(number)) {
            return Ok(None);
        }
        match &field.valid {
            Some(valid) if !valid.contain(number) => Err(out_of_range(field, number)),
            _ => Ok(Some(exact)),
        }
    }

    fn scaled(&self, field: &Field, number: Number, factor: i64) -> i64 {
        let less = self.variables.sum(&field.less).saturating_mul(number.parts);
        let value = number.value.saturating_sub(less);
        let value = Number { value, ..number }.scaled(field.scale, factor);
        let negative = !field.negative.is_empty() && self.variables.meet(&field.negative);
        if negative { value.saturating_neg() } else { value }
    }

    fn decode_number(
        &mut self,
        field: &'static Field,
        at: usize,
        first_cell: usize,
        into: &mut Reading,
    ) -> Result<(), DecodeError> {
        let Some(number) = self.number(field, at)? else { return Ok(()) };
        let (value, is_on) = (number.value, number.value != 0);
        match field.key {
            Key::Number(key) => set(key, self.scaled(field, number, key.factor), into)?,
            Key::Variable(name) => {
                let value = self.scaled(field, number, 1);
                self.variables.set(name, Variable::Number(value));
            }
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
                let cells = into.cells.get_mut(first_cell + field.first - 1..).unwrap_or_default();
                let width = field.kind.width() * 8;
                for (bit, cell) in cells.iter_mut().take(width).enumerate() {
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
        let end = at.saturating_add(field.size).min(self.bytes.len());
        let Some(bytes) = self.bytes(field, at, end)? else { return Ok(()) };
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        let Some(found) = text(&bytes[..end]) else { return Ok(()) };
        match field.key {
            Key::Text(key) if self.pack > 0 && key.name == "serial" => {
                if let Some(module) = self.module(into) {
                    module.serial = Some(found);
                }
            }
            Key::Text(key) => *(key.field)(&mut into.identity) = Some(found),
            Key::Variable(name) => self.variables.set(name, Variable::Text(found)),
            _ => {}
        }
        Ok(())
    }

    fn decode_array(
        &mut self,
        field: &'static Field,
        at: usize,
        count: usize,
        first_cell: usize,
        into: &mut Reading,
    ) -> Result<(), DecodeError> {
        let places = (0..count).map(|index| at + index * field.step());
        let factor = match field.key {
            Key::Cells => 1000,
            Key::Temperatures => 10,
            Key::Number(key) => return set(key, self.joined(field, places)?, into),
            // Only its end is of interest.
            _ => return Ok(()),
        };
        let mut values = Vec::new();
        for (index, place) in places.enumerate() {
            let value = self.number(field, place)?.map(|it| it.scaled(field.scale, factor));
            let index = match field.number {
                None => field.first - 1 + index,
                Some(distance) => {
                    let place = usize::try_from(place as i64 + distance).unwrap_or(usize::MAX);
                    let number = self.bytes.get(place).ok_or(self.too_short())?;
                    usize::from(number.saturating_sub(1))
                }
            };
            values.push((index, value.and_then(|value| i32::try_from(value).ok())));
        }
        // Places without a cell or sensor follow the last one.
        let fitted = values.iter().rposition(|(_, value)| value.is_some());
        values.truncate(fitted.map_or(0, |last| last + 1));
        for (index, value) in values {
            if factor == 10 {
                let value = value.map(DeciCelsius);
                into.probes.push(Probe { location: SensorLocation::Cells, value });
                continue;
            }
            let cell = first_cell + index;
            if cell >= MAX_CELLS {
                let (field, value) = ("number of a cell", cell as i64);
                return Err(DecodeError::OutOfRange { field, value });
            }
            if into.cells.len() <= cell {
                into.cells.resize(cell + 1, Cell::default());
            }
            into.cells[cell].voltage = value.map(Millivolts);
        }
        Ok(())
    }

    /// The masked bits of all entries as one number; the first entry has the lowest bits.
    fn joined(
        &self,
        field: &Field,
        places: impl Iterator<Item = usize>,
    ) -> Result<i64, DecodeError> {
        let width = field.mask.map_or(8 * field.kind.width() as u32, u64::count_ones);
        let mut joined = 0_u64;
        for (index, place) in (0..).zip(places) {
            let number = self.number(field, place)?.map_or(0, |number| number.value);
            joined |= number.cast_unsigned().checked_shl(index * width).unwrap_or_default();
        }
        Ok(joined.cast_signed())
    }
}

fn out_of_range(field: &Field, value: i64) -> DecodeError {
    DecodeError::OutOfRange { field: field.key.name(), value }
}

fn set(key: &'static NumberKey, value: i64, into: &mut Reading) -> Result<(), DecodeError> {
    let fits = (key.access)(into, Some(value)).is_some();
    if fits { Ok(()) } else { Err(DecodeError::OutOfRange { field: key.name, value }) }
}

fn set_soc(capacity: Option<MilliampHours>, into: &mut Reading) {
    if let (Some(remaining), Some(capacity)) = (into.pack.remaining, capacity) {
        into.pack.soc = ratio(remaining, capacity);
    }
}
