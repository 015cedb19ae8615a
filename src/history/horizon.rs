//! How far back rows are kept.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::model::Millis;
use crate::model::units::millis;

/// The horizon moves at most this much faster than time passes, to catch up after a long stop.
const CATCH_UP: u32 = 2;

/// Rows before the horizon are deleted.
///
/// The clock alone does not decide: one that is ten years ahead for a minute would delete everything.
/// The horizon therefore begins at the oldest row and moves with the time that has really passed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Horizon(Millis);

impl Horizon {
    /// Moves towards `end` and returns the new horizon.
    ///
    /// `first`: times of the oldest rows that are deleted together. `elapsed`: time on a monotonic
    /// clock since the last call.
    pub(super) fn advance(
        &mut self,
        first: RangeInclusive<Millis>,
        end: Millis,
        elapsed: Duration,
    ) -> Millis {
        let (oldest, newest) = first.into_inner();
        // There is nothing to delete before the oldest row.
        let start = self.0.clamp(oldest.min(newest), oldest.max(newest));
        let step = millis(elapsed.saturating_mul(CATCH_UP));
        self.0 = Millis(start.0.saturating_add(step));
        self.0.min(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn horizon_moves_no_faster_than_time_passes() {
        let (mut horizon, first) = (Horizon::default(), Millis(1_000_000)..=Millis(9_000_000));
        let end = Millis(2_000_000_000);
        assert_eq!(horizon.advance(first.clone(), end, Duration::ZERO), Millis(1_000_000));
        assert_eq!(horizon.advance(first.clone(), end, MINUTE), Millis(1_120_000));
        assert_eq!(horizon.advance(first.clone(), end, MINUTE), Millis(1_240_000));
        assert_eq!(horizon.advance(first, Millis(1_100_000), MINUTE), Millis(1_100_000));
    }

    #[test]
    fn gaps_are_skipped() {
        let (mut horizon, end) = (Horizon::default(), Millis(2_000_000_000));
        horizon.advance(Millis(0)..=Millis(0), end, MINUTE);
        let later = Millis(1_000_000_000);
        assert_eq!(horizon.advance(later..=later, end, MINUTE), Millis(1_000_120_000));
    }
}
