//! How long until the battery is full or empty, steady enough to be read.
//!
//! The current is averaged while it flows in one direction, and a shown time stays until a new one
//! differs by a whole step. Where the direction changes, nothing is said for a while: a time that
//! flips between "full in 2 h" and "empty in 3 h" with every cloud helps nobody.

use super::reading::Pack;
use super::units::Uptime;

/// The average looks back so far.
const MEMORY_MS: u64 = 300_000;
/// The current must have flowed in one direction for so long.
const SETTLED_MS: u64 = 60_000;
/// A pause between two reads after which the past says nothing about the present.
const FORGET_MS: u64 = 1_800_000;
/// A current that needs longer than this is as good as none.
const LONGEST_S: i64 = 100 * 3600;

/// Which end the battery is heading for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Full,
    Empty,
}

/// Seconds until an end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimeEstimates {
    /// While charging.
    pub to_full: Option<u32>,
    /// While discharging.
    pub to_empty: Option<u32>,
}

#[derive(Debug, Clone)]
struct Trend {
    heading: Direction,
    since: Uptime,
    at: Uptime,
    /// Microamps, without a sign.
    average: i64,
    shown: Option<u32>,
}

/// The recent past of one battery's current.
#[derive(Debug, Clone, Default)]
pub struct Forecast {
    course: Option<Trend>,
}

impl Forecast {
    /// Takes note of a reading at a moment of a clock that never jumps.
    pub fn look(&mut self, at: Uptime, pack: &Pack) -> TimeEstimates {
        // One read without a current is a hole, not a rest.
        let Some(current) = pack.current else { return TimeEstimates::default() };
        let heading = match current.0.signum() {
            1 => Direction::Full,
            -1 => Direction::Empty,
            _ => {
                self.course = None;
                return TimeEstimates::default();
            }
        };
        let now = i64::from(current.0).abs() * 1000;
        let course = match self.course.take() {
            Some(course) if course.heading == heading && at.since(course.at) <= FORGET_MS => {
                course.goes_on(at, now)
            }
            _ => Trend { heading, since: at, at, average: now, shown: None },
        };
        let course = self.course.insert(course);
        let charge = match heading {
            Direction::Full => {
                pack.full.zip(pack.remaining).map(|(full, left)| full.0.saturating_sub(left.0))
            }
            Direction::Empty => pack.remaining.map(|left| left.0),
        };
        let seconds = charge.and_then(|charge| course.seconds(charge));
        let shown = seconds.map(|seconds| course.show(seconds));
        match heading {
            Direction::Full => TimeEstimates { to_full: shown, to_empty: None },
            Direction::Empty => TimeEstimates { to_full: None, to_empty: shown },
        }
    }
}

impl Trend {
    /// The plain mean at first, an exponential one with a limited memory later.
    fn goes_on(self, at: Uptime, now: i64) -> Self {
        let elapsed = at.since(self.at);
        let memory = at.since(self.since).clamp(1, MEMORY_MS);
        let share = |part: u64| i128::from(part.min(memory));
        let step = i128::from(now - self.average) * share(elapsed) / share(memory);
        let average = i64::try_from(i128::from(self.average) + step).unwrap_or(self.average);
        Trend { at, average, ..self }
    }

    /// Seconds for so many milliamp-hours, where the course is settled and leads anywhere.
    fn seconds(&self, charge: i64) -> Option<u32> {
        let settled = self.at.since(self.since) >= SETTLED_MS && self.average > 0;
        let seconds = i128::from(charge.max(0)) * 3_600_000 / i128::from(self.average.max(1));
        u32::try_from(seconds).ok().filter(|s| settled && i64::from(*s) <= LONGEST_S)
    }

    /// What is shown for it: rounded, and unmoved by less than a step.
    fn show(&mut self, seconds: u32) -> u32 {
        let step = match seconds {
            0..3600 => 60,
            3600..14_400 => 300,
            _ => 900,
        };
        let stays = self.shown.filter(|shown| shown.abs_diff(seconds) < step && seconds >= 60);
        let shown = stays.unwrap_or((seconds + step / 2) / step * step);
        self.shown = Some(shown);
        shown
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

    /// Reads every 10 s from the given second on; the last answer.
    fn run(forecast: &mut Forecast, from: u64, count: u64, pack: &Pack) -> TimeEstimates {
        let reads = (0..count).map(|n| Uptime((from + n * 10) * 1000));
        reads.map(|at| forecast.look(at, pack)).last().unwrap_or_default()
    }

    #[test]
    fn a_steady_current_gives_the_quotient() {
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
    fn at_rest_and_without_a_capacity_there_is_nothing_to_say() {
        let mut forecast = Forecast::default();
        run(&mut forecast, 0, 9, &pack(-10_000, 50_000));
        assert_eq!(run(&mut forecast, 90, 1, &pack(0, 50_000)), TimeEstimates::default());
        assert_eq!(
            run(&mut forecast, 100, 9, &pack(-5, 50_000)),
            TimeEstimates::default(),
            "for months"
        );
        let mut unknown = pack(10_000, 50_000);
        unknown.full = None;
        assert_eq!(run(&mut Forecast::default(), 0, 99, &unknown), TimeEstimates::default());
    }

    #[test]
    fn a_change_of_direction_is_answered_with_silence_first() {
        let mut forecast = Forecast::default();
        assert!(run(&mut forecast, 0, 30, &pack(-10_000, 50_000)).to_empty.is_some());
        assert_eq!(run(&mut forecast, 300, 6, &pack(10_000, 50_000)), TimeEstimates::default());
        assert!(run(&mut forecast, 360, 1, &pack(10_000, 50_000)).to_full.is_some());
    }

    #[test]
    fn the_last_minutes_count_down_to_nothing() {
        let mut forecast = Forecast::default();
        let shown: Vec<u32> = (0..=60)
            .filter_map(|n| {
                forecast
                    .look(Uptime(n * 10_000), &pack(-6000, (600 - 10 * n as i64) * 6000 / 3600))
                    .to_empty
            })
            .collect();
        assert!(shown.is_sorted_by(|a, b| a >= b), "{shown:?}");
        assert_eq!(shown.last(), Some(&0));
    }

    proptest! {
        /// A load that switches between two currents moves the shown time no more than twice.
        #[test]
        fn a_noisy_load_does_not_make_it_dance(noise in prop::collection::vec(-500i32..500, 60)) {
            let mut forecast = Forecast::default();
            run(&mut forecast, 0, 60, &pack(-10_000, 50_000));
            let mut shown: Vec<_> = noise
                .iter()
                .zip(60u64..)
                .filter_map(|(n, at)| forecast.look(Uptime(at * 10_000), &pack(-10_000 + n, 50_000)).to_empty)
                .collect();
            shown.dedup();
            prop_assert!(shown.len() <= 3, "{shown:?}");
        }

        #[test]
        fn no_history_of_currents_breaks_it(reads in prop::collection::vec((any::<u32>(), any::<i32>(), any::<i32>()), 0..60)) {
            let (mut forecast, mut at) = (Forecast::default(), 0);
            for (elapsed, current, remaining) in reads {
                at += u64::from(elapsed);
                let times = forecast.look(Uptime(at), &pack(current, remaining.into()));
                prop_assert!(times.to_full.is_none() || times.to_empty.is_none());
                prop_assert!(times.to_full.is_none_or(|it| it <= 100 * 3600 + 450));
            }
        }
    }
}
