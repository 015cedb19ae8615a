//! Rows of numbers, delta-encoded: each value is stored as the difference to the previous one, in
//! as few bytes as possible. The voltage of a cell at rest takes one byte per row.

use std::sync::Arc;

use crate::model::units::divide_rounded;
use crate::model::{EntryKey, Millis};

/// The values of a period, as whole numbers of the smallest decimal place of their quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    pub low: i64,
    pub mean: i64,
    pub high: i64,
}

impl Spread {
    pub fn of(value: i64) -> Self {
        Spread { low: value, mean: value, high: value }
    }
}

/// One value of a row.
pub(super) type Sample = (EntryKey, Spread);

/// Combines the spreads of several rows into one.
#[derive(Debug, Clone, Copy)]
pub(super) struct SpreadSum {
    low: i64,
    high: i64,
    total: i64,
    count: i64,
}

impl SpreadSum {
    pub(super) const EMPTY: SpreadSum =
        SpreadSum { low: i64::MAX, high: i64::MIN, total: 0, count: 0 };

    pub(super) fn add(&mut self, spread: Spread) {
        self.low = self.low.min(spread.low);
        self.high = self.high.max(spread.high);
        self.total = self.total.saturating_add(spread.mean);
        self.count += 1;
    }

    /// `None` if nothing was added.
    pub(super) fn spread(self) -> Option<Spread> {
        let mean = || divide_rounded(self.total, self.count);
        (self.count > 0).then(|| Spread { low: self.low, mean: mean(), high: self.high })
    }
}

/// Consecutive rows with the same columns.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) columns: Arc<[EntryKey]>,
    pub(super) rows: usize,
    /// Time of the first row.
    pub(super) oldest: Millis,
    /// Time of the newest row. The next row is stored as the differences to it and to `means`.
    pub(super) newest: Millis,
    means: Vec<i64>,
    bytes: Vec<u8>,
}

impl Block {
    pub(super) fn new(columns: Arc<[EntryKey]>) -> Self {
        let means = vec![0; columns.len()];
        Block { columns, rows: 0, oldest: Millis(0), newest: Millis(0), means, bytes: Vec::new() }
    }

    pub(super) fn size(&self) -> usize {
        size_of::<Self>() + self.bytes.capacity() + self.means.len() * size_of::<i64>()
    }

    /// Frees what only `push` needs. No row may follow.
    pub(super) fn close(&mut self) {
        self.bytes.shrink_to_fit();
        self.means = Vec::new();
    }

    /// Adds a row with a value, or none, for each column.
    pub(super) fn push(&mut self, time: Millis, values: &[Option<Spread>]) {
        let step = time.0.wrapping_sub(self.newest.0) as i64;
        put(&mut self.bytes, zigzag(step).into());
        if self.rows == 0 {
            self.oldest = time;
        }
        self.newest = time;
        for (value, mean) in values.iter().zip(&mut self.means) {
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
        self.rows += 1;
    }

    /// Visits the rows, oldest first.
    pub(super) fn for_each(&self, mut visit: impl FnMut(Millis, &[Option<Spread>])) {
        let mut time = Millis(0);
        let mut means = vec![0; self.columns.len()];
        let mut values = vec![None; self.columns.len()];
        let mut bytes = self.bytes.as_slice();
        for _ in 0..self.rows {
            time.0 = time.0.wrapping_add_signed(unzigzag(take(&mut bytes) as u64));
            for (value, mean) in values.iter_mut().zip(&mut means) {
                *value = take_spread(&mut bytes, mean);
            }
            visit(time, &values);
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

/// Seven bits per byte, the lowest first; the highest bit is set if more bytes follow.
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

    fn columns(count: usize) -> Arc<[EntryKey]> {
        let series = |n| EntryKey::parse(&format!("cell_{n}_voltage")).unwrap();
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
        fn unpacked_rows_equal_packed_rows(
            rows in prop::collection::vec((0..=i64::MAX as u64, prop::collection::vec(spread(), 4)), 0..20)
        ) {
            let mut block = Block::new(columns(4));
            for (time, values) in &rows {
                block.push(Millis(*time), values);
            }
            let mut seen = Vec::new();
            block.for_each(|time, values| seen.push((time.0, values.to_vec())));
            prop_assert_eq!(seen, rows);
        }
    }

    #[test]
    fn steady_value_takes_one_byte() {
        let mut block = Block::new(columns(20));
        for number in 0..=100_u64 {
            let values = [Some(Spread::of(3300 + i64::try_from(number % 2).unwrap())); 20];
            block.push(Millis(1_771_097_625_510 + number * 10_000), &values);
        }
        assert!(block.bytes.len() < 101 * 24 + 30, "{} bytes", block.bytes.len());
    }
}
