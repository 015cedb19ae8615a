//! The newest rows of one battery at one resolution, in blocks of packed rows.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::horizon::Horizon;
use super::packed::{Block, Sample, Spread};
use crate::model::{EntryKey, Millis};

/// Rows per block. A block begins with complete values and is dropped as a whole.
const ROWS: usize = 120;

/// Rows in the order in which they were added, bounded by their age and by their number.
#[derive(Debug, Clone)]
pub(super) struct RowBuffer {
    span: Duration,
    max_rows: usize,
    horizon: Horizon,
    /// Rows are added to the last one. Shared, so that a query can read a copy while rows are added.
    pub(super) blocks: VecDeque<Arc<Block>>,
}

impl RowBuffer {
    /// Keeps rows for `span`; they are at least `step` apart.
    pub(super) fn new(span: Duration, step: Duration) -> Self {
        let expected = span.as_millis() / step.as_millis().max(1);
        let max_rows = usize::try_from(expected).unwrap_or(usize::MAX).saturating_add(2 * ROWS);
        RowBuffer { span, max_rows, horizon: Horizon::default(), blocks: VecDeque::new() }
    }

    /// Adds a row. A new column starts a new block.
    pub(super) fn push(&mut self, time: Millis, samples: &[Sample]) {
        let newest = self.blocks.back().filter(|block| block.rows < ROWS);
        let mut row = newest.and_then(|block| arrange(&block.columns, samples));
        if row.is_none() {
            let columns = self.columns_with(samples);
            row = arrange(&columns, samples);
            if let Some(full) = self.blocks.back_mut() {
                Arc::make_mut(full).close();
            }
            self.blocks.push_back(Arc::new(Block::new(columns)));
        }
        if let (Some(block), Some(row)) = (self.blocks.back_mut(), row) {
            Arc::make_mut(block).push(time, &row);
        }
        while self.blocks.len() > 1 && self.rows() > self.max_rows {
            self.blocks.pop_front();
        }
    }

    fn rows(&self) -> usize {
        self.blocks.iter().map(|block| block.rows).sum()
    }

    /// The present columns and the new ones of a row.
    fn columns_with(&self, samples: &[Sample]) -> Arc<[EntryKey]> {
        let columns = self.blocks.back().map(|block| block.columns.clone()).unwrap_or_default();
        let new = samples.iter().map(|(key, _)| *key).filter(|key| !columns.contains(key));
        let new: Vec<_> = new.collect();
        if new.is_empty() {
            return columns;
        }
        columns.iter().copied().chain(new).collect()
    }

    /// Drops old blocks, never the newest one. `elapsed`: since the last call.
    pub(super) fn expire(&mut self, now: Millis, elapsed: Duration) {
        let Some(first) = self.blocks.front() else { return };
        let end = now.before(self.span);
        let horizon = self.horizon.advance(first.oldest..=first.newest, end, elapsed);
        while self.blocks.len() > 1
            && self.blocks.front().is_some_and(|block| block.newest < horizon)
        {
            self.blocks.pop_front();
        }
    }

    /// Time of the newest row.
    pub(super) fn newest(&self) -> Option<Millis> {
        self.blocks.back().map(|block| block.newest)
    }

    pub(super) fn size(&self) -> usize {
        self.blocks.iter().map(|block| block.size()).sum()
    }
}

/// The samples in the order of the columns; `None` if a sample has no column.
pub(super) fn arrange(columns: &[EntryKey], samples: &[Sample]) -> Option<Vec<Option<Spread>>> {
    let mut row = vec![None; columns.len()];
    let mut next = 0;
    for (key, spread) in samples {
        // Samples are nearly always in the order of the columns.
        let mut indices = (next..columns.len()).chain(0..next);
        let index = indices.find(|index| columns[*index] == *key)?;
        row[index] = Some(*spread);
        next = index + 1;
    }
    Some(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn sample(key: &str, value: i64) -> Sample {
        (EntryKey::parse(key).unwrap(), Spread::of(value))
    }

    fn rows(buffer: &RowBuffer) -> Vec<(u64, Vec<(String, i64)>)> {
        let mut list = Vec::new();
        for block in &buffer.blocks {
            block.for_each(|time, values| {
                let known = block.columns.iter().zip(values);
                let known =
                    known.filter_map(|(key, value)| Some((key.to_string(), (*value)?.mean)));
                list.push((time.0, known.collect()));
            });
        }
        list
    }

    #[test]
    fn columns_appear_and_disappear() {
        let mut buffer = RowBuffer::new(SECOND * 3600, SECOND);
        buffer.push(Millis(1), &[sample("soc", 1), sample("soh", 2)]);
        buffer.push(Millis(2), &[sample("soh", 3)]);
        buffer.push(Millis(3), &[sample("power", 4), sample("soc", 5)]);
        buffer.push(Millis(4), &[sample("soh", 6)]);
        let of = |list: &[(&str, i64)]| list.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect();
        let expected: Vec<(u64, Vec<(String, i64)>)> = vec![
            (1, of(&[("soc", 1), ("soh", 2)])),
            (2, of(&[("soh", 3)])),
            (3, of(&[("soc", 5), ("power", 4)])),
            (4, of(&[("soh", 6)])),
        ];
        assert_eq!(rows(&buffer), expected);
        assert_eq!(buffer.blocks.len(), 2);
    }

    #[test]
    fn rows_are_bounded_by_age_and_number() {
        let mut buffer = RowBuffer::new(SECOND * 1000, SECOND);
        for second in 0..5000 {
            buffer.push(Millis(second * 1000), &[sample("soc", 7)]);
            buffer.expire(Millis(second * 1000), SECOND);
        }
        let kept = rows(&buffer);
        assert!((1000..1000 + 2 * ROWS).contains(&kept.len()), "{}", kept.len());
        assert_eq!(kept.last().unwrap().0, 4_999_000);

        // A wrong clock makes no row old.
        buffer.expire(Millis(315_360_000_000), SECOND * 10);
        assert_eq!(rows(&buffer).len(), kept.len());

        // While the clock stands still, no row grows old.
        for _ in 0..5000 {
            buffer.push(Millis(0), &[sample("soc", 7)]);
        }
        assert!(rows(&buffer).len() <= 1000 + 3 * ROWS);
    }
}
