//! Queries of the history. The answer has a number of points that fits on a screen.
//!
//! An hour of which readings or minutes are kept is answered from them, every other from the hours of the last year.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::battery_history::{BatteryHistory, HOUR, hour_number, minute_number};
use super::packed::{Block, Spread, SpreadSum};
use crate::model::units::millis;
use crate::model::{EntryKey, Millis};

/// Points of an answer; a step that would give more is lengthened.
const MAX_POINTS: u64 = 3000;
/// Points of an answer if the query has no step.
const DEFAULT_POINTS: u64 = 600;
/// Round steps in seconds.
const STEPS: &[u64] = &[
    1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10_800, 21_600,
    43_200, 86_400,
];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    pub from: Millis,
    /// Inclusive, like `from`.
    pub to: Millis,
    /// Readings within one step are one point. `None`: the step depends on the range.
    pub step: Option<Duration>,
    /// Keys of the catalogue; `None` for all.
    pub keys: Option<Vec<EntryKey>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// May be longer than requested.
    pub step: Duration,
    /// Time of the oldest row of the battery, whatever the query.
    pub oldest: Option<Millis>,
    /// Time of the last reading of each point; a step without readings has no point.
    pub times: Vec<Millis>,
    /// For each key, a value per point.
    pub columns: Vec<(EntryKey, Vec<Option<Spread>>)>,
}

impl Query {
    fn contains(&self, time: Millis) -> bool {
        (self.from..=self.to).contains(&time)
    }

    fn step(&self) -> Duration {
        let seconds = self.to.since(self.from).div_ceil(1000);
        let wanted = self.step.unwrap_or_else(|| {
            let least = seconds.div_ceil(DEFAULT_POINTS);
            let round = STEPS.iter().copied().find(|step| *step >= least);
            Duration::from_secs(round.unwrap_or(least))
        });
        wanted.max(Duration::from_secs(seconds.div_ceil(MAX_POINTS).max(1)))
    }
}

#[derive(Debug, Default)]
struct Point {
    last: Millis,
    /// In the order of the columns; shorter if the point was complete before a column appeared.
    sums: Vec<SpreadSum>,
}

impl BatteryHistory {
    /// Uses single readings where available and minutes otherwise. The readings are not always the
    /// newer rows: if the clock is set after the start, the first ones have the date of another year.
    /// A minute in which the program was started again has a row of the earlier run, too.
    pub(super) fn answer(&self, query: &Query) -> Answer {
        let (mut first_of_minute, mut detailed) = (BTreeMap::new(), BTreeSet::new());
        for block in &self.fine.blocks {
            block.for_each(|time, _| {
                let first = first_of_minute.entry(minute_number(time)).or_insert(time);
                *first = time.min(*first);
                detailed.insert(hour_number(time));
            });
        }
        for block in &self.coarse.blocks {
            block.for_each(|time, _| {
                detailed.insert(hour_number(time));
            });
        }
        let mut step = query.step();
        // Hours with gaps in between would look like missing data.
        if query.step.is_none() {
            for block in &self.hours.blocks {
                block.for_each(|time, _| {
                    if query.contains(time) && !detailed.contains(&hour_number(time)) {
                        step = step.max(HOUR);
                    }
                });
            }
        }
        let mut answer =
            AnswerBuilder { query, step, columns: Vec::new(), points: BTreeMap::new() };
        for block in &self.fine.blocks {
            answer.add(block, &|_| true);
        }
        for block in &self.coarse.blocks {
            answer.add(block, &|time| {
                first_of_minute.get(&minute_number(time)).is_none_or(|first| time < *first)
            });
        }
        for block in &self.hours.blocks {
            answer.add(block, &|time| !detailed.contains(&hour_number(time)));
        }
        Answer { oldest: self.oldest(), ..answer.build() }
    }
}

struct AnswerBuilder<'a> {
    query: &'a Query,
    step: Duration,
    columns: Vec<EntryKey>,
    points: BTreeMap<u64, Point>,
}

impl AnswerBuilder<'_> {
    fn add(&mut self, block: &Block, wanted: &dyn Fn(Millis) -> bool) {
        let columns: Vec<_> = block.columns.iter().map(|key| self.column(*key)).collect();
        let step = millis(self.step).max(1);
        block.for_each(|time, values| {
            if !self.query.contains(time) || !wanted(time) {
                return;
            }
            let point = self.points.entry(time.0 / step).or_default();
            point.last = point.last.max(time);
            point.sums.resize(self.columns.len(), SpreadSum::EMPTY);
            for (column, value) in columns.iter().zip(values) {
                if let (Some(column), Some(spread)) = (column, value) {
                    point.sums[*column].add(*spread);
                }
            }
        });
    }

    /// Index of the column in the answer; `None` if it was not requested.
    fn column(&mut self, key: EntryKey) -> Option<usize> {
        if self.query.keys.as_ref().is_some_and(|keys| !keys.contains(&key)) {
            return None;
        }
        let known = self.columns.iter().position(|column| *column == key);
        Some(known.unwrap_or_else(|| {
            self.columns.push(key);
            self.columns.len() - 1
        }))
    }

    fn build(self) -> Answer {
        let column = |(index, key): (usize, EntryKey)| {
            let value = |point: &Point| point.sums.get(index)?.spread();
            (key, self.points.values().map(value).collect())
        };
        Answer {
            step: self.step,
            oldest: None,
            times: self.points.values().map(|point| point.last).collect(),
            columns: self.columns.into_iter().enumerate().map(column).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::battery_history::HistoryRow;
    use super::*;

    const HOUR: u64 = 3_600_000;

    fn key(key: &str) -> EntryKey {
        EntryKey::parse(key).unwrap()
    }

    fn sample(name: &str, value: i64) -> (EntryKey, Spread) {
        (key(name), Spread::of(value))
    }

    /// A reading every 30 s for `hours`; `soc` counts the readings.
    fn battery(hours: u64) -> BatteryHistory {
        let mut battery = BatteryHistory::new(Duration::from_secs(48 * 3600));
        for number in 0..hours * 120 {
            let samples = [sample("soc", i64::try_from(number).unwrap()), sample("soh", 5)];
            battery.push(Millis(number * 30_000), &samples);
            battery.expire(Millis(number * 30_000), Duration::from_secs(30));
        }
        battery
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
    fn point_has_extremes_and_mean_of_its_step() {
        let mut query = query(0, 10 * HOUR, Some(3600));
        query.keys = Some(["soc", "power"].map(key).to_vec());
        let answer = battery(10).answer(&query);
        assert_eq!(answer.times.len(), 10);
        assert_eq!(answer.times[0], Millis(HOUR - 30_000));
        let [(column, values)] = answer.columns.as_slice() else { panic!("{answer:?}") };
        assert_eq!(*column, key("soc"));
        assert_eq!(values[0], Some(Spread { low: 0, mean: 60, high: 119 }));
        assert_eq!(values[9], Some(Spread { low: 1080, mean: 1140, high: 1199 }));
    }

    #[test]
    fn older_readings_are_combined_into_minutes() {
        let answer = battery(10).answer(&query(0, 10 * HOUR, Some(30)));
        let steps: Vec<u64> =
            answer.times.windows(2).map(|pair| pair[1].since(pair[0]) / 1000).collect();
        assert_eq!((steps[0], steps[steps.len() - 1]), (60, 30));
        assert_eq!(*answer.times.last().unwrap(), Millis(10 * HOUR - 30_000));
        let fine = steps.iter().filter(|step| **step == 30).count();
        assert!((240..=400).contains(&fine), "{fine}");
        assert!(steps.iter().all(|step| *step == 60 || *step == 30), "no gap, nothing twice");
    }

    #[test]
    fn clock_set_after_start_hides_no_minutes() {
        let mut battery = BatteryHistory::new(Duration::from_secs(48 * 3600));
        let row = |minute: u64, value| HistoryRow {
            time: Millis(30 * HOUR + minute * 60_000),
            samples: vec![sample("soc", value)],
        };
        battery.restore(&row(0, 1));
        battery.restore(&row(1, 2));
        for (time, value) in [(HOUR, 3), (30 * HOUR + 120_000, 4), (30 * HOUR + 125_000, 5)] {
            battery.push(Millis(time), &[sample("soc", value)]);
        }
        let answer = battery.answer(&query(30 * HOUR, 31 * HOUR, Some(2)));
        let means: Vec<_> = answer.columns[0].1.iter().map(|spread| spread.unwrap().mean).collect();
        assert_eq!(means, [1, 2, 4, 5]);
    }

    #[test]
    fn minute_of_a_restart_has_the_points_of_both_runs() {
        let mut battery = BatteryHistory::new(Duration::from_secs(48 * 3600));
        battery
            .restore(&HistoryRow { time: Millis(HOUR + 5_000), samples: vec![sample("soc", 1)] });
        for (time, value) in [(HOUR + 9_000, 2), (HOUR + 59_000, 3), (HOUR + 65_000, 4)] {
            battery.push(Millis(time), &[sample("soc", value)]);
        }
        let answer = battery.answer(&query(HOUR, 2 * HOUR, Some(1)));
        let means: Vec<_> = answer.columns[0].1.iter().map(|spread| spread.unwrap().mean).collect();
        assert_eq!(means, [1, 2, 3, 4]);
    }

    #[test]
    fn hours_answer_for_what_is_no_longer_kept_in_detail() {
        let mut battery = battery(0);
        // Ten days, two of which are kept in detail, with a gap of six hours.
        for number in (0..240 * 60).filter(|number| !(6000..6360).contains(number)) {
            let sample = sample("soc", i64::try_from(number).unwrap());
            battery.push(Millis(number * 60_000), &[sample]);
            battery.expire(Millis(number * 60_000), Duration::from_secs(60));
        }
        let answer = battery.answer(&query(0, 240 * HOUR, None));
        assert_eq!((answer.step.as_secs(), answer.oldest), (3600, Some(Millis(59 * 60_000))));
        // The hours of the gap have no point.
        assert_eq!(answer.times.len(), 240 - 6);
        let values = &answer.columns[0].1;
        assert_eq!(values[0], Some(Spread { low: 0, mean: 30, high: 59 }));
        assert_eq!(values[106 - 6], Some(Spread { low: 6360, mean: 6390, high: 6419 }));
        assert_eq!(values[233].unwrap().high, 240 * 60 - 1);
        // A requested step is kept; nothing is answered twice.
        let answer = battery.answer(&query(0, 240 * HOUR, Some(300)));
        let steps: Vec<_> = answer.times.windows(2).map(|pair| pair[1].since(pair[0])).collect();
        assert_eq!((answer.step.as_secs(), steps[0], *steps.last().unwrap()), (300, HOUR, 300_000));
        // What is kept in detail has no coarser step.
        assert_eq!(battery.answer(&query(200 * HOUR, 240 * HOUR, None)).step.as_secs(), 300);
    }

    #[test]
    fn number_of_points_is_bounded() {
        let all = query(0, 744 * HOUR, Some(1));
        assert!(744 * 3600 / all.step().as_secs() <= MAX_POINTS);
        assert_eq!(query(0, 48 * HOUR, None).step().as_secs(), 300);
        assert_eq!(query(0, HOUR, None).step().as_secs(), 10);
        assert_eq!(query(5, 5, None).step().as_secs(), 1);
        assert_eq!(
            query(0, u64::MAX, Some(1)).step().as_secs(),
            u64::MAX.div_ceil(1000).div_ceil(3000)
        );
    }

    #[test]
    fn step_without_readings_has_no_point() {
        let mut battery = battery(1);
        battery.push(Millis(20 * HOUR), &[sample("soc", 1)]);
        let answer = battery.answer(&query(0, 48 * HOUR, None));
        let gap = answer.times.windows(2).find(|pair| pair[1].since(pair[0]) > 10 * HOUR);
        assert!(gap.is_some(), "{:?}", answer.times);
        let b = &answer.columns.iter().find(|(column, _)| *column == key("soh")).unwrap().1;
        assert_eq!(b.last(), Some(&None));
    }
}
