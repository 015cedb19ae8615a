//! From the bytes of a reply to a reading, as the fields of a profile say.

use std::collections::BTreeMap;

use super::frame::unsigned;
use super::key::{Key, Meaning, NumberKey, SwitchKey};
use super::number::{Number, gather, signed};
use super::scalar::{Count, MAX_ENTRIES};
use super::schema::{Conditions, Field, Kind, Order, Registers};
use crate::model::Reading;
use crate::model::reading::{Cell, Module, Probe, SensorLocation};
use crate::model::units::{DeciCelsius, Millivolts};
use crate::protocol::bytes::text;
use crate::protocol::error::DecodeError;
use crate::protocol::values::ratio;

/// Cells of a stack; every real one has fewer.
const MAX_CELLS: usize = 512;

/// What the fields that begin with `$` have kept.
#[derive(Debug, Clone, Default)]
pub struct Variables {
    numbers: BTreeMap<&'static str, i64>,
    texts: BTreeMap<&'static str, String>,
}

impl Variables {
    pub fn set_number(&mut self, name: &'static str, number: i64) {
        self.numbers.insert(name, number);
    }

    pub fn set_text(&mut self, name: &'static str, text: String) {
        self.texts.insert(name, text);
    }

    pub fn number(&self, name: &str) -> Option<i64> {
        self.numbers.get(name).copied()
    }

    /// `none` stands for a variable without a value.
    pub fn meet(&self, conditions: &Conditions) -> bool {
        conditions.iter().all(|(name, values)| {
            match (self.number(name), self.texts.get(name.as_str())) {
                (Some(number), _) => values.contain(number),
                (None, Some(text)) => values.match_text(text),
                (None, None) => values.0 == "none",
            }
        })
    }
}

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
        let mut ends: BTreeMap<&str, usize> = BTreeMap::new();
        for field in fields.iter() {
            if !self.variables.meet(&field.condition) {
                continue;
            }
            let at = self.place(field, &ends)?;
            if let Some(count) = &field.count {
                let count = self.count(field, count, at)?;
                let step = field.step();
                ends.insert(field.key.name(), at + count * step);
                self.decode_array(field, at, count, first_cell, into)?;
            } else if field.kind == Kind::Text {
                self.decode_text(field, at, into)?;
            } else {
                self.decode_number(field, at, first_cell, into)?;
            }
        }
        if self.pack > 0 {
            let last = into.cells.len();
            if let Some(module) = into.modules.get_mut(usize::from(self.pack) - 1) {
                module.cells.end = last;
            }
        }
        Ok(())
    }

    /// Index of the first cell of this pack; a new pack begins behind the others.
    fn first_cell(&self, into: &mut Reading) -> usize {
        let Some(pack) = usize::from(self.pack).checked_sub(1) else { return 0 };
        if into.modules.len() <= pack {
            let end = into.cells.len();
            into.modules.resize(pack + 1, Module { cells: end..end, ..Module::default() });
        }
        into.modules[pack].cells.start
    }

    fn place(&self, field: &Field, ends: &BTreeMap<&str, usize>) -> Result<usize, DecodeError> {
        let at = match (&field.after, self.registers) {
            (Some(array), _) => {
                let end = ends.get(array.name()).copied().unwrap_or_default();
                i64::try_from(end).unwrap_or_default() + field.at
            }
            (None, Some(registers)) => registers.at + 2 * (field.at - registers.first),
            (None, None) => field.at,
        };
        usize::try_from(at).map_err(|_| DecodeError::TooShort(self.bytes.len()))
    }

    fn count(&self, field: &Field, count: &Count, at: usize) -> Result<usize, DecodeError> {
        let count = match count {
            Count::Fixed(count) => *count as i64,
            Count::Variable(name) => self.variables.number(name).unwrap_or_default(),
            Count::Rest => {
                let step = field.step().max(1);
                (self.bytes.len().saturating_sub(at) / step) as i64
            }
        };
        let count = count.saturating_sub(self.sum(&field.less));
        usize::try_from(count)
            .ok()
            .filter(|count| *count <= MAX_ENTRIES)
            .ok_or(DecodeError::OutOfRange { field: field.key.name(), value: count })
    }

    fn sum(&self, names: &[String]) -> i64 {
        names.iter().filter_map(|name| self.variables.number(name)).fold(0, i64::saturating_add)
    }

    /// The number at this place; `None` where it stands for "none".
    fn number(&self, field: &Field, at: usize) -> Result<Option<Number>, DecodeError> {
        let width = field.kind.width();
        let Some(bytes) = self.bytes.get(at..at.saturating_add(width)) else {
            return if field.optional { Ok(None) } else { Err(self.too_short()) };
        };
        let raw = unsigned(bytes, field.order.unwrap_or(self.order));
        if field.kind == Kind::F32 {
            let float = f32::from_bits(raw as u32);
            let millionths = f64::from(float) * 1e6;
            if !float.is_finite() || millionths.abs() > 1e15 {
                return Ok(None);
            }
            let number = Number { value: millionths.round() as i64, parts: 1_000_000 };
            let is_known = self.check_value(field, float.round() as i64)?;
            return Ok(is_known.then_some(number));
        }
        let mask = field.mask.unwrap_or(u64::MAX);
        let bits = (raw ^ field.xor) & mask;
        let number = match field.mask {
            Some(mask) => gather(bits, mask).cast_signed(),
            None => signed(bits, field.kind),
        };
        let is_known = self.check_value(field, number)?;
        Ok(is_known.then_some(Number { value: number.saturating_add(field.add), parts: 1 }))
    }

    /// Whether the number stands for a value.
    fn check_value(&self, field: &Field, number: i64) -> Result<bool, DecodeError> {
        if field.absent.as_ref().is_some_and(|absent| absent.contain(number)) {
            return Ok(false);
        }
        match &field.valid {
            Some(valid) if !valid.contain(number) => {
                Err(DecodeError::OutOfRange { field: field.key.name(), value: number })
            }
            _ => Ok(true),
        }
    }

    fn too_short(&self) -> DecodeError {
        DecodeError::TooShort(self.bytes.len())
    }

    fn scaled(&self, field: &Field, number: Number, factor: i64) -> i64 {
        let value = number.value.saturating_sub(self.sum(&field.less).saturating_mul(number.parts));
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
        match field.key {
            Key::SocOfFull => {
                soc(into.pack.full, into);
                return Ok(());
            }
            Key::SocOfDesign => {
                soc(into.pack.design, into);
                return Ok(());
            }
            _ => {}
        }
        let Some(number) = self.number(field, at)? else { return Ok(()) };
        match field.key {
            Key::Number(key) => self.set(key, self.scaled(field, number, key.factor), into)?,
            Key::Variable(name) => {
                let value = self.scaled(field, number, 1);
                self.variables.set_number(name, value);
            }
            Key::Switch(switch) => set_switch(switch, number.value != 0, into),
            Key::State(name) => *into.states.entry(name).or_default() |= number.value != 0,
            Key::Alarm(alarm) => into.alarms.note(alarm, number.value != 0),
            Key::Word(_) if !field.values.is_empty() => {
                for (values, meaning) in field.values.iter() {
                    note(*meaning, values.contain(number.value), into);
                }
            }
            Key::Word(name) => decode_bits(field, name, number.value.cast_unsigned(), into),
            Key::BalancingCells => {
                let cells = into.cells.get_mut(first_cell + field.first - 1..).unwrap_or_default();
                let width = field.kind.width() * 8;
                for (bit, cell) in cells.iter_mut().take(width).enumerate() {
                    cell.balancing = Some(number.value & 1 << bit != 0);
                }
            }
            Key::Refusal if number.value != 0 => {
                let code = u32::try_from(number.value).unwrap_or(u32::MAX);
                return Err(DecodeError::Refused { code, reason: "error code in the reply" });
            }
            _ => {}
        }
        Ok(())
    }

    fn set(
        &self,
        key: &'static NumberKey,
        value: i64,
        into: &mut Reading,
    ) -> Result<(), DecodeError> {
        let fits = (key.set)(into, value);
        if fits { Ok(()) } else { Err(DecodeError::OutOfRange { field: key.name, value }) }
    }

    fn decode_text(
        &mut self,
        field: &'static Field,
        at: usize,
        into: &mut Reading,
    ) -> Result<(), DecodeError> {
        let end = at.saturating_add(field.size).min(self.bytes.len());
        let Some(bytes) = self.bytes.get(at..end) else {
            return if field.optional { Ok(()) } else { Err(self.too_short()) };
        };
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        let Some(found) = text(&bytes[..end]) else { return Ok(()) };
        match field.key {
            Key::Text(key) if self.pack > 0 && key.name == "serial" => {
                if let Some(module) = into.modules.get_mut(usize::from(self.pack) - 1) {
                    module.serial = Some(found);
                }
            }
            Key::Text(key) => *(key.field)(&mut into.identity) = Some(found),
            Key::Variable(name) => self.variables.set_text(name, found),
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
        let step = field.step();
        let factor = match field.key {
            Key::Cells => 1000,
            Key::Temperatures => 10,
            Key::Number(key) => {
                let value = self.joined(field, at, count, step)?;
                return self.set(key, value, into);
            }
            // Only its end is of interest.
            _ => return Ok(()),
        };
        let mut values = Vec::new();
        for index in 0..count {
            let place = at + index * step;
            let number = self.number(field, place)?;
            let value = number.map(|number| number.scaled(field.scale, factor));
            let cell = match field.number {
                None => first_cell + field.first - 1 + index,
                Some(distance) => {
                    let place = usize::try_from(place as i64 + distance).unwrap_or(usize::MAX);
                    let number = self.bytes.get(place).ok_or(self.too_short())?;
                    first_cell + usize::from(number.saturating_sub(1))
                }
            };
            values.push((cell, value.and_then(|value| i32::try_from(value).ok())));
        }
        // Places without a cell or sensor follow the last one.
        let fitted = values.iter().rposition(|(_, value)| value.is_some());
        values.truncate(fitted.map_or(0, |last| last + 1));
        if field.key == Key::Temperatures {
            let probe = |(_, value): (usize, Option<i32>)| Probe {
                location: SensorLocation::Cells,
                value: value.map(DeciCelsius),
            };
            into.probes.extend(values.into_iter().map(probe));
            return Ok(());
        }
        for (cell, value) in values {
            if cell >= MAX_CELLS {
                return Err(DecodeError::OutOfRange {
                    field: "number of a cell",
                    value: cell as i64,
                });
            }
            if into.cells.len() <= cell {
                into.cells.resize(cell + 1, Cell::default());
            }
            into.cells[cell].voltage = value.map(Millivolts);
        }
        Ok(())
    }
}

impl Decoder<'_> {
    /// The masked bits of all entries as one number; the first entry has the lowest bits.
    fn joined(
        &self,
        field: &Field,
        at: usize,
        count: usize,
        step: usize,
    ) -> Result<i64, DecodeError> {
        let width = field.mask.map_or(8 * field.kind.width() as u32, u64::count_ones);
        let mut joined = 0_u64;
        for index in 0..count {
            let number = self.number(field, at + index * step)?.map_or(0, |number| number.value);
            let shifted = number.cast_unsigned().checked_shl(index as u32 * width);
            joined |= shifted.unwrap_or_default();
        }
        Ok(joined.cast_signed())
    }
}

fn soc(capacity: Option<crate::model::units::MilliampHours>, into: &mut Reading) {
    if let (Some(remaining), Some(capacity)) = (into.pack.remaining, capacity) {
        into.pack.soc = ratio(remaining, capacity);
    }
}

fn set_switch(switch: SwitchKey, on: bool, into: &mut Reading) {
    match switch {
        SwitchKey::Charging => into.switches.charging = Some(on),
        SwitchKey::Discharging => into.switches.discharging = Some(on),
    }
}

fn decode_bits(field: &Field, name: &'static str, word: u64, into: &mut Reading) {
    let mut unknown = word;
    for (bit, meaning) in field.bits.iter() {
        let on = word >> bit & 1 != 0;
        unknown &= !(1 << bit);
        note(*meaning, on, into);
    }
    into.alarms.note_unknown_bits(name, unknown);
}

fn note(meaning: Meaning, on: bool, into: &mut Reading) {
    match meaning {
        Meaning::Raises(alarm) => into.alarms.note(alarm, on),
        Meaning::Switch(switch) => set_switch(switch, on, into),
        Meaning::State(state) => *into.states.entry(state).or_default() |= on,
        Meaning::Ignored => {}
    }
}
