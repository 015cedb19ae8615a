//! The newest rows of one battery at one resolution, in blocks of packed rows.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::packed::{Before, Block, Series, Spread};
use crate::model::units::Millis;

/// Rows in a block: each begins with whole values, and is forgotten as a whole.
const ROWS: usize = 120;

/// One value of a row.
pub(super) type Sample = (Series, Spread);

/// Rows, oldest first, bounded by their age and, should the clock jump, by their number.
#[derive(Debug, Clone)]
pub(super) struct Ring {
    span: Duration,
    most: usize,
    /// The newest block is the one that grows. Shared, so that a question can be answered from a
    /// copy while new rows come in.
    blocks: VecDeque<Arc<Block>>,
    before: Before,
}

impl Ring {
    /// Keeps rows for `span`, which come `step` apart or farther.
    pub(super) fn new(span: Duration, step: Duration) -> Self {
        let expected = span.as_millis() / step.as_millis().max(1);
        let most = usize::try_from(expected).unwrap_or(usize::MAX).saturating_add(2 * ROWS);
        let (_, before) = Block::new(Arc::default());
        Ring { span, most, blocks: VecDeque::new(), before }
    }

    /// Adds a row. A column that is new begins a new block.
    pub(super) fn push(&mut self, time: Millis, samples: &[Sample]) {
        let newest = self.blocks.back().filter(|block| block.rows() < ROWS);
        let row = newest.and_then(|block| arrange(block.columns(), samples));
        let row = row.unwrap_or_else(|| {
            let columns = self.columns_with(samples);
            let row = arrange(&columns, samples).unwrap_or_default();
            self.start_block(columns);
            row
        });
        if let Some(block) = self.blocks.back_mut() {
            Arc::make_mut(block).push(&mut self.before, time, &row);
        }
        self.forget(time);
    }

    /// The columns so far and those that a row brings.
    fn columns_with(&self, samples: &[Sample]) -> Arc<[Series]> {
        let Some(block) = self.blocks.back() else {
            return samples.iter().map(|(series, _)| series.clone()).collect();
        };
        let columns = block.columns();
        let is_new = |series: &Series| columns.iter().all(|column| column.key != series.key);
        let new: Vec<_> = samples.iter().map(|(series, _)| series).filter(|s| is_new(s)).collect();
        if new.is_empty() {
            return columns.clone();
        }
        columns.iter().chain(new).cloned().collect()
    }

    fn start_block(&mut self, columns: Arc<[Series]>) {
        if let Some(full) = self.blocks.back_mut() {
            Arc::make_mut(full).close();
        }
        let (block, before) = Block::new(columns);
        self.blocks.push_back(Arc::new(block));
        self.before = before;
    }

    /// Forgets what is too old; the newest block stays.
    pub(super) fn forget(&mut self, now: Millis) {
        let span = u64::try_from(self.span.as_millis()).unwrap_or(u64::MAX);
        let mut rows: usize = self.blocks.iter().map(|block| block.rows()).sum();
        while let Some(block) = self.blocks.front()
            && self.blocks.len() > 1
            && (now.since(block.last()) > span || rows > self.most)
        {
            rows -= block.rows();
            self.blocks.pop_front();
        }
    }

    /// Time of the newest row.
    pub(super) fn newest(&self) -> Option<Millis> {
        self.blocks.back().map(|block| block.last())
    }

    /// The blocks, oldest first.
    pub(super) fn blocks(&self) -> impl Iterator<Item = &Arc<Block>> {
        self.blocks.iter()
    }

    /// Memory that it takes.
    pub(super) fn size(&self) -> usize {
        self.blocks.iter().map(|block| block.size()).sum()
    }
}

/// The samples in the order of the columns; `None` when there is no column for one of them.
fn arrange(columns: &[Series], samples: &[Sample]) -> Option<Vec<Option<Spread>>> {
    let mut row = vec![None; columns.len()];
    let mut next = 0;
    for (series, spread) in samples {
        // Nearly always the samples come in the order of the columns.
        let places = (next..columns.len()).chain(0..next);
        let mut places = places.filter(|place| columns[*place].key == series.key);
        let place = places.next()?;
        row[place] = Some(*spread);
        next = place + 1;
    }
    Some(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn sample(key: &str, value: i64) -> Sample {
        (Series { key: key.into(), unit: "V", decimals: 3 }, Spread::of(value))
    }

    fn rows(ring: &Ring) -> Vec<(u64, Vec<(String, i64)>)> {
        let mut list = Vec::new();
        for block in ring.blocks() {
            block.each(|time, values| {
                let known = block.columns().iter().zip(values);
                let known = known.filter_map(|(s, value)| Some((s.key.clone(), (*value)?.mean)));
                list.push((time.0, known.collect()));
            });
        }
        list
    }

    #[test]
    fn columns_may_come_and_go() {
        let mut ring = Ring::new(SECOND * 3600, SECOND);
        ring.push(Millis(1), &[sample("a", 1), sample("b", 2)]);
        ring.push(Millis(2), &[sample("b", 3)]);
        ring.push(Millis(3), &[sample("c", 4), sample("a", 5)]);
        ring.push(Millis(4), &[sample("b", 6)]);
        let of = |list: &[(&str, i64)]| list.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect();
        let expected: Vec<(u64, Vec<(String, i64)>)> = vec![
            (1, of(&[("a", 1), ("b", 2)])),
            (2, of(&[("b", 3)])),
            (3, of(&[("a", 5), ("c", 4)])),
            (4, of(&[("b", 6)])),
        ];
        assert_eq!(rows(&ring), expected);
        assert_eq!(ring.blocks.len(), 2);
    }

    #[test]
    fn old_rows_go_and_a_clock_that_jumps_does_not_keep_them_all() {
        let mut ring = Ring::new(SECOND * 1000, SECOND);
        for second in 0..5000 {
            ring.push(Millis(second * 1000), &[sample("a", 7)]);
        }
        let kept = rows(&ring);
        assert!((1000..1000 + 2 * ROWS).contains(&kept.len()), "{}", kept.len());
        assert_eq!(kept.last().unwrap().0, 4_999_000);

        // A clock that stands still makes nothing old.
        for _ in 0..5000 {
            ring.push(Millis(0), &[sample("a", 7)]);
        }
        assert!(rows(&ring).len() <= 1000 + 3 * ROWS);
    }
}
