//! Estimates the time until the battery is full or empty.
//!
//! The current is averaged while it flows in one direction, and a published time stays until a new
//! one differs by a whole step. After a change of direction there is no estimate for a while: with
//! every cloud it would flip between "full in 2 h" and "empty in 3 h".

use super::derived::TimeEstimates;
use super::reading::{Activity, Pack};
use super::units::Uptime;

/// Time constant of the average.
const AVERAGE_MS: u64 = 300_000;
/// How long the current must have flowed in one direction.
const SETTLE_MS: u64 = 60_000;
/// After a gap this long between two reads, the average starts again.
const MAX_GAP_MS: u64 = 1_800_000;
/// Longer times are not published: such a current is as good as none.
const MAX_SECONDS: u32 = 100 * 3600;

/// The current since it last changed its direction.
#[derive(Debug, Clone)]
struct Trend {
    direction: Activity,
    since: Uptime,
    at: Uptime,
    /// Microamps, without a sign.
    average: i64,
    published: Option<u32>,
}

#[derive(Debug, Clone, Default)]
pub struct Forecast {
    trend: Option<Trend>,
}

impl Forecast {
    pub fn update(&mut self, at: Uptime, pack: &Pack) -> TimeEstimates {
        let mut estimates = TimeEstimates::default();
        // A read without a current does not end the trend.
        let Some(current) = pack.current else { return estimates };
        let direction = Activity::of(current);
        let now = i64::from(current.0).abs() * 1000;
        let trend = match self.trend.take() {
            Some(trend) if trend.direction == direction && at.since(trend.at) <= MAX_GAP_MS => {
                trend.extended(at, now)
            }
            _ => Trend { direction, since: at, at, average: now, published: None },
        };
        let trend = self.trend.insert(trend);
        match direction {
            Activity::Charging => {
                let missing = pack.full.zip(pack.remaining);
                let missing = missing.map(|(full, left)| full.0.saturating_sub(left.0));
                estimates.to_full = missing.and_then(|charge| trend.publish(charge));
            }
            Activity::Discharging => {
                estimates.to_empty = pack.remaining.and_then(|left| trend.publish(left.0));
            }
            Activity::Idle => self.trend = None,
        }
        estimates
    }
}

impl Trend {
    /// Begins as a plain mean and becomes an exponential one.
    fn extended(self, at: Uptime, now: i64) -> Self {
        let window = at.since(self.since).clamp(1, AVERAGE_MS);
        let elapsed = at.since(self.at).min(window);
        let step = i128::from(now - self.average) * i128::from(elapsed) / i128::from(window);
        let average = i64::try_from(i128::from(self.average) + step).unwrap_or(self.average);
        Trend { at, average, ..self }
    }

    /// Seconds until `charge` milliamp-hours have flowed, in steps. `None` while the current has
    /// not settled.
    fn publish(&mut self, charge: i64) -> Option<u32> {
        if self.at.since(self.since) < SETTLE_MS || self.average <= 0 {
            return None;
        }
        let seconds = i128::from(charge.max(0)) * 3_600_000 / i128::from(self.average);
        let seconds = u32::try_from(seconds).ok().filter(|seconds| *seconds <= MAX_SECONDS)?;
        let step = match seconds {
            0..3600 => 60,
            3600..14_400 => 300,
            _ => 900,
        };
        let unchanged =
            self.published.filter(|last| last.abs_diff(seconds) < step && seconds >= 60);
        self.published = Some(unchanged.unwrap_or((seconds + step / 2) / step * step));
        self.published
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::units::{MilliampHours, Milliamps};

    fn pack(current: i32, remaining: i64) -> Pack {
        Pack {
            current: Some(Milliamps(current)),
            remaining: Some(MilliampHours(remaining)),
            full: Some(MilliampHours(100_000)),
            ..Pack::default()
        }
    }

    /// The estimate after `count` reads, 10 s apart, from the second `from` on.
    fn run(forecast: &mut Forecast, from: u64, count: u64, pack: &Pack) -> TimeEstimates {
        let reads = (0..count).map(|n| Uptime((from + n * 10) * 1000));
        reads.map(|at| forecast.update(at, pack)).last().unwrap_or_default()
    }

    #[test]
    fn steady_current_estimates_the_time() {
        let mut forecast = Forecast::default();
        assert_eq!(
            run(&mut forecast, 0, 6, &pack(-10_000, 50_000)),
            TimeEstimates::default(),
            "too soon"
        );
        let empty = run(&mut forecast, 60, 1, &pack(-10_000, 50_000));
        assert_eq!(empty, TimeEstimates { to_full: None, to_empty: Some(5 * 3600) });
        let full = run(&mut Forecast::default(), 0, 9, &pack(20_000, 50_000));
        assert_eq!(full, TimeEstimates { to_full: Some(9000), to_empty: None });
    }

    #[test]
    fn no_estimate_without_current_or_capacity() {
        let mut forecast = Forecast::default();
        run(&mut forecast, 0, 9, &pack(-10_000, 50_000));
        assert_eq!(run(&mut forecast, 90, 1, &pack(0, 50_000)), TimeEstimates::default());
        assert_eq!(
            run(&mut forecast, 100, 9, &pack(-5, 50_000)),
            TimeEstimates::default(),
            "longer than the maximum"
        );
        let mut unknown = pack(10_000, 50_000);
        unknown.full = None;
        assert_eq!(run(&mut Forecast::default(), 0, 99, &unknown), TimeEstimates::default());
    }

    #[test]
    fn change_of_direction_pauses_the_estimate() {
        let mut forecast = Forecast::default();
        assert!(run(&mut forecast, 0, 30, &pack(-10_000, 50_000)).to_empty.is_some());
        assert_eq!(run(&mut forecast, 300, 6, &pack(10_000, 50_000)), TimeEstimates::default());
        assert!(run(&mut forecast, 360, 1, &pack(10_000, 50_000)).to_full.is_some());
    }

    #[test]
    fn last_minutes_count_down_to_zero() {
        let mut forecast = Forecast::default();
        let shown: Vec<u32> = (0..=60)
            .filter_map(|n| {
                forecast
                    .update(Uptime(n * 10_000), &pack(-6000, (600 - 10 * n as i64) * 6000 / 3600))
                    .to_empty
            })
            .collect();
        assert!(shown.is_sorted_by(|a, b| a >= b), "{shown:?}");
        assert_eq!(shown.last(), Some(&0));
    }

    proptest! {
        /// Noise in the current changes the published time at most twice.
        #[test]
        fn noisy_load_keeps_the_estimate_steady(noise in prop::collection::vec(-500i32..500, 60)) {
            let mut forecast = Forecast::default();
            run(&mut forecast, 0, 60, &pack(-10_000, 50_000));
            let mut shown: Vec<_> = noise
                .iter()
                .zip(60u64..)
                .filter_map(|(n, at)| forecast.update(Uptime(at * 10_000), &pack(-10_000 + n, 50_000)).to_empty)
                .collect();
            shown.dedup();
            prop_assert!(shown.len() <= 3, "{shown:?}");
        }

        #[test]
        fn estimates_stay_in_range(reads in prop::collection::vec((any::<u32>(), any::<i32>(), any::<i32>()), 0..60)) {
            let (mut forecast, mut at) = (Forecast::default(), 0);
            for (elapsed, current, remaining) in reads {
                at += u64::from(elapsed);
                let times = forecast.update(Uptime(at), &pack(current, remaining.into()));
                prop_assert!(times.to_full.is_none() || times.to_empty.is_none());
                prop_assert!(times.to_full.is_none_or(|it| it <= 100 * 3600 + 450));
            }
        }
    }
}
