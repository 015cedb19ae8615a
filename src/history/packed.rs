//! Rows of numbers in few bytes: each value is the difference to the one before, in as few bytes
//! as it needs. A cell at rest costs one byte a row.

use std::sync::Arc;

use crate::model::units::Millis;

/// What a column holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// Key of the catalogue, with its number: `cell_3_voltage`.
    pub key: String,
    /// Unit of the catalogue.
    pub unit: &'static str,
    /// Values are whole numbers of `10^-decimals` units.
    pub decimals: u32,
}

/// The values of a stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    pub low: i64,
    pub mean: i64,
    pub high: i64,
}

impl Spread {
    /// A single value.
    pub fn of(value: i64) -> Self {
        Spread { low: value, mean: value, high: value }
    }
}

/// Some rows in a row, with the same columns.
#[derive(Debug, Clone)]
pub(super) struct Block {
    columns: Arc<[Series]>,
    rows: usize,
    last: Millis,
    bytes: Vec<u8>,
}

/// What the next row is compared with.
#[derive(Debug, Clone)]
pub(super) struct Before {
    time: i64,
    means: Vec<i64>,
}

impl Before {
    fn new(columns: usize) -> Self {
        Before { time: 0, means: vec![0; columns] }
    }
}

impl Block {
    /// An empty block, and what its first row is compared with.
    pub(super) fn new(columns: Arc<[Series]>) -> (Self, Before) {
        let before = Before::new(columns.len());
        (Block { columns, rows: 0, last: Millis(0), bytes: Vec::new() }, before)
    }

    pub(super) fn columns(&self) -> &Arc<[Series]> {
        &self.columns
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Time of the newest row.
    pub(super) fn last(&self) -> Millis {
        self.last
    }

    /// Memory that it takes.
    pub(super) fn size(&self) -> usize {
        size_of::<Self>() + self.bytes.capacity()
    }

    /// No row will follow.
    pub(super) fn close(&mut self) {
        self.bytes.shrink_to_fit();
    }

    /// Adds a row with a value, or none, for each column.
    pub(super) fn push(&mut self, before: &mut Before, time: Millis, values: &[Option<Spread>]) {
        let moment = i64::try_from(time.0).unwrap_or(i64::MAX);
        put_signed(&mut self.bytes, moment.wrapping_sub(before.time));
        before.time = moment;
        for (value, mean) in values.iter().zip(&mut before.means) {
            let Some(spread) = value else {
                self.bytes.push(0);
                continue;
            };
            let single = *spread == Spread::of(spread.mean);
            // One is added, because zero stands for an unknown value.
            let step = zigzag(spread.mean.wrapping_sub(*mean));
            put(&mut self.bytes, (u128::from(step) << 1 | u128::from(!single)) + 1);
            if !single {
                put(&mut self.bytes, u128::from(spread.mean.abs_diff(spread.low)));
                put(&mut self.bytes, u128::from(spread.high.abs_diff(spread.mean)));
            }
            *mean = spread.mean;
        }
        self.last = time;
        self.rows += 1;
    }

    /// Shows each row, oldest first.
    pub(super) fn each(&self, mut show: impl FnMut(Millis, &[Option<Spread>])) {
        let mut before = Before::new(self.columns.len());
        let mut values = vec![None; self.columns.len()];
        let mut bytes = self.bytes.as_slice();
        for _ in 0..self.rows {
            before.time = before.time.wrapping_add(take_signed(&mut bytes));
            for (value, mean) in values.iter_mut().zip(&mut before.means) {
                *value = take_spread(&mut bytes, mean);
            }
            show(Millis(u64::try_from(before.time).unwrap_or(0)), &values);
        }
    }
}

fn take_spread(bytes: &mut &[u8], mean: &mut i64) -> Option<Spread> {
    let token = take(bytes).checked_sub(1)?;
    *mean = mean.wrapping_add(unzigzag((token >> 1) as u64));
    let mut spread = Spread::of(*mean);
    if token & 1 == 1 {
        spread.low = mean.wrapping_sub_unsigned(take(bytes) as u64);
        spread.high = mean.wrapping_add_unsigned(take(bytes) as u64);
    }
    Some(spread)
}

/// Small differences of either sign become small numbers.
fn zigzag(value: i64) -> u64 {
    (value.wrapping_shl(1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

fn put_signed(bytes: &mut Vec<u8>, value: i64) {
    put(bytes, u128::from(zigzag(value)));
}

fn take_signed(bytes: &mut &[u8]) -> i64 {
    unzigzag(take(bytes) as u64)
}

/// Seven bits a byte, the lowest first; the highest bit says that more follow.
fn put(bytes: &mut Vec<u8>, mut value: u128) {
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn take(bytes: &mut &[u8]) -> u128 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let Some((byte, rest)) = bytes.split_first() else { break };
        *bytes = rest;
        value |= u128::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn columns(count: usize) -> Arc<[Series]> {
        let series = |n| Series { key: format!("k{n}"), unit: "V", decimals: 3 };
        (0..count).map(series).collect()
    }

    fn spread() -> impl Strategy<Value = Option<Spread>> {
        let near = (-60_000..60_000_i64, 0..50_i64, 0..50_i64);
        let near =
            near.prop_map(|(mean, down, up)| Spread { low: mean - down, mean, high: mean + up });
        let far = [any::<i64>(), any::<i64>(), any::<i64>()].prop_map(|mut three| {
            three.sort_unstable();
            Spread { low: three[0], mean: three[1], high: three[2] }
        });
        prop_oneof![
            Just(None),
            near.prop_map(Some),
            any::<i64>().prop_map(|v| Some(Spread::of(v))),
            far.prop_map(Some)
        ]
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(
            rows in prop::collection::vec((0..=i64::MAX as u64, prop::collection::vec(spread(), 4)), 0..20)
        ) {
            let (mut block, mut before) = Block::new(columns(4));
            for (time, values) in &rows {
                block.push(&mut before, Millis(*time), values);
            }
            let mut seen = Vec::new();
            block.each(|time, values| seen.push((time.0, values.to_vec())));
            prop_assert_eq!(seen, rows);
        }
    }

    #[test]
    fn a_quiet_row_takes_a_byte_a_value() {
        let (mut block, mut before) = Block::new(columns(20));
        for number in 0..=100_u64 {
            let values = [Some(Spread::of(3300 + i64::try_from(number % 2).unwrap())); 20];
            block.push(&mut before, Millis(1_771_097_625_510 + number * 10_000), &values);
        }
        assert!(block.bytes.len() < 101 * 24 + 30, "{} bytes", block.bytes.len());
    }
}
