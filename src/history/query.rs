//! Questions about the past, answered in steps that fit on a screen.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::packed::{Block, Series, Spread};
use super::track::{MINUTE, Track, millis};
use crate::model::units::{Millis, divide_rounded};

/// An answer has at most so many points; the step grows until they suffice.
const MOST_POINTS: u64 = 3000;
/// Points where nobody asks for a step.
const POINTS: u64 = 600;
/// Steps that people think in, in seconds.
const STEPS: &[u64] = &[
    1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10_800, 21_600,
    43_200, 86_400,
];

/// What somebody wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    pub from: Millis,
    pub to: Millis,
    /// Readings within such a time are one point; `None`: what fits a screen.
    pub step: Option<Duration>,
    /// Keys of the catalogue; `None`: all of them.
    pub keys: Option<Vec<String>>,
}

/// The past, in points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Readings within this time are one point.
    pub step: Duration,
    /// The last reading of each point; a time without readings has no point.
    pub times: Vec<Millis>,
    /// For each key a value for each point.
    pub columns: Vec<(Series, Vec<Option<Spread>>)>,
}

impl Query {
    /// The step of the answer.
    fn step(&self) -> Duration {
        let seconds = self.to.since(self.from).div_ceil(1000);
        let wanted = self.step.unwrap_or_else(|| {
            let least = seconds.div_ceil(POINTS);
            let nice = STEPS.iter().copied().find(|step| *step >= least);
            Duration::from_secs(nice.unwrap_or(least))
        });
        wanted.max(Duration::from_secs(seconds.div_ceil(MOST_POINTS).max(1)))
    }
}

/// What is gathered for one key within one step.
#[derive(Debug, Clone, Copy)]
struct Sum {
    low: i64,
    high: i64,
    total: i64,
    count: i64,
}

impl Sum {
    fn add(sum: &mut Option<Sum>, Spread { low, mean, high }: Spread) {
        let sum = sum.get_or_insert(Sum { low, high, total: 0, count: 0 });
        sum.low = sum.low.min(low);
        sum.high = sum.high.max(high);
        sum.total = sum.total.saturating_add(mean);
        sum.count += 1;
    }

    fn spread(self) -> Spread {
        Spread { low: self.low, mean: divide_rounded(self.total, self.count), high: self.high }
    }
}

#[derive(Debug, Default)]
struct Point {
    last: Millis,
    sums: Vec<Option<Sum>>,
}

impl Track {
    /// Single readings where there are any, and the other minutes. Not simply the older ones: a
    /// clock that is set after the start leaves readings of another year before those of a file.
    pub(super) fn answer(&self, query: &Query) -> Answer {
        let step = query.step();
        let mut gathered = Gathered { query, step, columns: Vec::new(), points: BTreeMap::new() };
        let minute = |time: Millis| time.0 / millis(MINUTE);
        let mut fine = BTreeSet::new();
        for block in self.fine.blocks() {
            block.each(|time, _| {
                fine.insert(minute(time));
            });
            gathered.add(block, |_| true);
        }
        for block in self.coarse.blocks() {
            gathered.add(block, |time| !fine.contains(&minute(time)));
        }
        gathered.answer()
    }
}

struct Gathered<'a> {
    query: &'a Query,
    step: Duration,
    columns: Vec<Series>,
    points: BTreeMap<u64, Point>,
}

impl Gathered<'_> {
    fn add(&mut self, block: &Block, wanted: impl Fn(Millis) -> bool) {
        let places: Vec<Option<usize>> =
            block.columns().iter().map(|series| self.place(series)).collect();
        let step = u64::try_from(self.step.as_millis()).unwrap_or(u64::MAX).max(1);
        let (from, to) = (self.query.from, self.query.to);
        block.each(|time, values| {
            if time < from || time > to || !wanted(time) {
                return;
            }
            let point = self.points.entry(time.0 / step).or_default();
            point.last = point.last.max(time);
            point.sums.resize(self.columns.len().max(point.sums.len()), None);
            for (place, value) in places.iter().zip(values) {
                if let (Some(place), Some(spread)) = (place, value) {
                    Sum::add(&mut point.sums[*place], *spread);
                }
            }
        });
    }

    /// Where a column of a block goes; `None` when nobody asked for it.
    fn place(&mut self, series: &Series) -> Option<usize> {
        if self.query.keys.as_ref().is_some_and(|keys| !keys.contains(&series.key)) {
            return None;
        }
        let known = self.columns.iter().position(|column| column.key == series.key);
        Some(known.unwrap_or_else(|| {
            self.columns.push(series.clone());
            self.columns.len() - 1
        }))
    }

    fn answer(self) -> Answer {
        let value = |point: &Point, place: usize| point.sums.get(place).copied().flatten();
        let column = |(place, series)| {
            let values = self.points.values().map(|point| value(point, place).map(Sum::spread));
            (series, values.collect())
        };
        Answer {
            step: self.step,
            times: self.points.values().map(|point| point.last).collect(),
            columns: self.columns.into_iter().enumerate().map(column).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::track::MinuteRow;
    use super::*;

    const HOUR: u64 = 3_600_000;

    fn sample(key: &str, value: i64) -> (Series, i64) {
        (Series { key: key.into(), unit: "V", decimals: 3 }, value)
    }

    /// A reading every 30 s for `hours`; `a` counts the readings.
    fn track(hours: u64) -> Track {
        let mut track = Track::new(Duration::from_secs(48 * 3600));
        for number in 0..hours * 120 {
            let values = vec![sample("a", i64::try_from(number).unwrap()), sample("b", 5)];
            track.note(Millis(number * 30_000), values);
        }
        track
    }

    fn query(from: u64, to: u64, step: Option<u64>) -> Query {
        Query {
            from: Millis(from),
            to: Millis(to),
            step: step.map(Duration::from_secs),
            keys: None,
        }
    }

    #[test]
    fn a_step_holds_the_extremes_and_the_mean_of_what_is_in_it() {
        let mut query = query(0, 10 * HOUR, Some(3600));
        query.keys = Some(vec!["a".into(), "unheard_of".into()]);
        let answer = track(10).answer(&query);
        assert_eq!(answer.times.len(), 10);
        assert_eq!(answer.times[0], Millis(HOUR - 30_000));
        let [(series, values)] = answer.columns.as_slice() else { panic!("{answer:?}") };
        assert_eq!(series.key, "a");
        assert_eq!(values[0], Some(Spread { low: 0, mean: 60, high: 119 }));
        assert_eq!(values[9], Some(Spread { low: 1080, mean: 1140, high: 1199 }));
    }

    #[test]
    fn recent_readings_are_single_and_older_ones_minutes() {
        let answer = track(10).answer(&query(0, 10 * HOUR, Some(30)));
        let steps: Vec<u64> =
            answer.times.windows(2).map(|pair| pair[1].since(pair[0]) / 1000).collect();
        assert_eq!((steps[0], steps[steps.len() - 1]), (60, 30));
        assert_eq!(*answer.times.last().unwrap(), Millis(10 * HOUR - 30_000));
        let fine = steps.iter().filter(|step| **step == 30).count();
        assert!((240..=400).contains(&fine), "{fine}");
        assert!(steps.iter().all(|step| *step == 60 || *step == 30), "no gap, nothing twice");
    }

    #[test]
    fn a_clock_that_is_set_after_the_start_hides_nothing() {
        let mut track = Track::new(Duration::from_secs(48 * 3600));
        let row = |minute: u64, value| MinuteRow {
            time: Millis(30 * HOUR + minute * 60_000),
            samples: vec![(sample("a", 0).0, Spread::of(value))],
        };
        track.restore(&row(0, 1));
        track.restore(&row(1, 2));
        for (time, value) in [(HOUR, 3), (30 * HOUR + 120_000, 4), (30 * HOUR + 125_000, 5)] {
            track.note(Millis(time), vec![sample("a", value)]);
        }
        let answer = track.answer(&query(30 * HOUR, 31 * HOUR, Some(2)));
        let means: Vec<_> = answer.columns[0].1.iter().map(|it| it.unwrap().mean).collect();
        assert_eq!(means, [1, 2, 4, 5]);
    }

    #[test]
    fn an_answer_is_bounded_whatever_is_asked() {
        let all = query(0, 744 * HOUR, Some(1));
        assert!(744 * 3600 / all.step().as_secs() <= MOST_POINTS);
        assert_eq!(query(0, 48 * HOUR, None).step().as_secs(), 300);
        assert_eq!(query(0, HOUR, None).step().as_secs(), 10);
        assert_eq!(query(5, 5, None).step().as_secs(), 1);
        assert_eq!(
            query(0, u64::MAX, Some(1)).step().as_secs(),
            u64::MAX.div_ceil(1000).div_ceil(3000)
        );
    }

    #[test]
    fn times_without_readings_have_no_point() {
        let mut track = track(1);
        track.note(Millis(20 * HOUR), vec![sample("a", 1)]);
        let answer = track.answer(&query(0, 48 * HOUR, None));
        let gap = answer.times.windows(2).find(|pair| pair[1].since(pair[0]) > 10 * HOUR);
        assert!(gap.is_some(), "{:?}", answer.times);
        let b = &answer.columns.iter().find(|(series, _)| series.key == "b").unwrap().1;
        assert_eq!(b.last(), Some(&None));
    }
}
