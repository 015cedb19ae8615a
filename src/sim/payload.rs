//! Building the data of a reply.

use super::state::PackState;
use crate::model::{DeciCelsius, MilliampHours};

/// Numbers have the high byte first.
#[derive(Default)]
pub struct Payload(Vec<u8>);

impl Payload {
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub fn extend(&mut self, bytes: impl IntoIterator<Item = u8>) -> &mut Self {
        self.0.extend(bytes);
        self
    }

    pub fn byte(&mut self, value: u8) -> &mut Self {
        self.extend([value])
    }

    /// The low 16 bits, as a pack has no more: counters wrap, and signs survive.
    pub fn word(&mut self, value: impl Into<i64>) -> &mut Self {
        self.extend((value.into() as u16).to_be_bytes())
    }

    pub fn words<T: Into<i64>>(&mut self, values: impl IntoIterator<Item = T>) -> &mut Self {
        values.into_iter().for_each(|value| {
            self.word(value);
        });
        self
    }

    /// The low 24 bits.
    pub fn three_bytes(&mut self, value: i64) -> &mut Self {
        self.extend((value as u32).to_be_bytes().into_iter().skip(1))
    }

    /// The low 32 bits.
    pub fn four_bytes(&mut self, value: i64) -> &mut Self {
        self.extend((value as u32).to_be_bytes())
    }

    /// Tenths of a kelvin.
    pub fn sensors<'a>(&mut self, values: impl IntoIterator<Item = &'a DeciCelsius>) -> &mut Self {
        let values: Vec<_> = values.into_iter().map(|value| value.0 + 2731).collect();
        self.byte(values.len() as u8).words(values)
    }

    /// Hundredths of an ampere-hour.
    pub fn centi_ah(&mut self, value: MilliampHours) -> &mut Self {
        self.word(value.0 / 10)
    }

    /// Exactly `width` characters, padded or cut.
    pub fn text(&mut self, text: &str, width: usize, padding: u8) -> &mut Self {
        let padding = std::iter::repeat(padding);
        self.extend(text.bytes().chain(padding).take(width))
    }

    /// The voltages of all cells, with their number in front.
    pub fn cells(&mut self, state: &PackState) -> &mut Self {
        self.byte(state.cells.len() as u8).words(state.cells.iter().map(|cell| cell.0))
    }
}
