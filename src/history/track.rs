//! The past of one battery: every reading of the last hours, and minutes of the days before.

use std::time::Duration;

use super::packed::{Series, Spread};
use super::ring::{Ring, Sample};
use crate::model::entries::{Entry, entries};
use crate::model::units::{Millis, divide_rounded};
use crate::model::{DeviceState, Value};

/// So long every reading is kept.
const FINE_SPAN: Duration = Duration::from_secs(2 * 3600);
/// Of readings that come faster, one in this time.
const FINE_STEP: Duration = Duration::from_secs(5);
/// Older ones are kept as least, mean and greatest value of a minute.
pub(super) const MINUTE: Duration = Duration::from_secs(60);

/// A row of the minutes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MinuteRow {
    /// When the last reading in it was taken.
    pub time: Millis,
    pub samples: Vec<(Series, Spread)>,
}

/// The past of one battery.
#[derive(Debug, Clone)]
pub(super) struct Track {
    pub(super) fine: Ring,
    pub(super) coarse: Ring,
    minute: Option<Minute>,
}

impl Track {
    pub(super) fn new(span: Duration) -> Self {
        let fine = Ring::new(FINE_SPAN.min(span), FINE_STEP);
        Track { fine, coarse: Ring::new(span, MINUTE), minute: None }
    }

    /// Adds a reading; gives the minute that it ends.
    pub(super) fn note(&mut self, time: Millis, values: Vec<(Series, i64)>) -> Option<MinuteRow> {
        let number = time.0 / millis(MINUTE);
        let ended = self.minute.take_if(|minute| minute.number != number);
        let ended = ended.map(|minute| self.end(minute));
        let minute = self.minute.get_or_insert_with(|| Minute::new(number));
        minute.add(time, &values);
        let rests =
            self.fine.newest().is_some_and(|newest| time.0.abs_diff(newest.0) < millis(FINE_STEP));
        if !rests {
            let samples: Vec<Sample> =
                values.into_iter().map(|(series, value)| (series, Spread::of(value))).collect();
            self.fine.push(time, &samples);
        }
        ended
    }

    /// Ends the minute that runs, unless it is the present one; `None` ends any.
    pub(super) fn end_minute(&mut self, now: Option<Millis>) -> Option<MinuteRow> {
        let present = now.map(|now| now.0 / millis(MINUTE));
        let minute = self.minute.take_if(|minute| Some(minute.number) != present)?;
        Some(self.end(minute))
    }

    fn end(&mut self, minute: Minute) -> MinuteRow {
        let row = minute.row();
        self.coarse.push(row.time, &row.samples);
        row
    }

    /// Takes back a minute that was kept elsewhere.
    pub(super) fn restore(&mut self, row: &MinuteRow) {
        self.coarse.push(row.time, &row.samples);
    }

    /// Forgets what is too old.
    pub(super) fn forget(&mut self, now: Millis) {
        self.fine.forget(now);
        self.coarse.forget(now);
    }

    /// Time of the newest row.
    pub(super) fn newest(&self) -> Option<Millis> {
        self.fine.newest().max(self.coarse.newest())
    }

    /// Memory that it takes.
    pub(super) fn size(&self) -> usize {
        self.fine.size() + self.coarse.size()
    }
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The readings of a minute that is not over.
#[derive(Debug, Clone)]
struct Minute {
    number: u64,
    last: Millis,
    sums: Vec<Sum>,
}

#[derive(Debug, Clone)]
struct Sum {
    series: Series,
    low: i64,
    high: i64,
    total: i64,
    count: i64,
}

impl Minute {
    fn new(number: u64) -> Self {
        Minute { number, last: Millis(0), sums: Vec::new() }
    }

    fn add(&mut self, time: Millis, values: &[(Series, i64)]) {
        self.last = time;
        for (series, value) in values {
            match self.sums.iter_mut().find(|sum| sum.series.key == series.key) {
                Some(sum) => {
                    sum.low = sum.low.min(*value);
                    sum.high = sum.high.max(*value);
                    sum.total = sum.total.saturating_add(*value);
                    sum.count += 1;
                }
                None => {
                    let (low, high, total) = (*value, *value, *value);
                    self.sums.push(Sum { series: series.clone(), low, high, total, count: 1 });
                }
            }
        }
    }

    fn row(self) -> MinuteRow {
        let sample = |sum: Sum| {
            let mean = divide_rounded(sum.total, sum.count);
            (sum.series, Spread { low: sum.low, mean, high: sum.high })
        };
        MinuteRow { time: self.last, samples: self.sums.into_iter().map(sample).collect() }
    }
}

/// Units of what is worth a chart. States and counts are not drawn, and the resistances of the
/// cells would take more room than anything else.
const UNITS: &[&str] = &["%", "V", "A", "W", "Wh", "kWh", "Ah", "°C"];

/// What of a reading has a past.
pub(super) fn samples(state: &DeviceState) -> Vec<(Series, i64)> {
    let sample = |entry: Entry| {
        let unit = entry.quantity.kind.unit().filter(|unit| UNITS.contains(unit))?;
        let Value::Decimal { mantissa, scale } = entry.value else { return None };
        let decimals = u32::from(entry.quantity.kind.decimals());
        let value = mantissa.checked_mul(10_i64.checked_pow(decimals.checked_sub(scale)?)?)?;
        Some((Series { key: entry.key, unit, decimals }, value))
    };
    entries(state).into_iter().filter_map(sample).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volts(value: i64) -> Vec<(Series, i64)> {
        vec![(Series { key: "pack_voltage".into(), unit: "V", decimals: 3 }, value)]
    }

    #[test]
    fn a_minute_has_its_least_mean_and_greatest_value() {
        let mut track = Track::new(Duration::from_secs(3600));
        assert_eq!(track.note(Millis(60_000), volts(53_000)), None);
        assert_eq!(track.note(Millis(70_000), volts(52_000)), None);
        assert_eq!(track.note(Millis(119_999), volts(52_100)), None);
        let row = track.note(Millis(120_000), volts(1)).unwrap();
        assert_eq!(row.time, Millis(119_999));
        assert_eq!(row.samples[0].1, Spread { low: 52_000, mean: 52_367, high: 53_000 });
        assert_eq!(track.end_minute(Some(Millis(179_000))), None, "it still runs");
        assert_eq!(track.end_minute(Some(Millis(180_000))).unwrap().time, Millis(120_000));
        assert_eq!(track.end_minute(None), None, "it was ended");
    }

    #[test]
    fn fast_readings_count_in_their_minute_but_are_not_all_kept() {
        let mut track = Track::new(Duration::from_secs(48 * 3600));
        for half in 0..240_u64 {
            track.note(Millis(half * 500), volts(i64::try_from(half).unwrap()));
        }
        let fine: usize = track.fine.blocks().map(|block| block.rows()).sum();
        assert_eq!(fine, 24);
        let row = track.end_minute(None).unwrap();
        assert_eq!(row.samples[0].1, Spread { low: 120, mean: 180, high: 239 });
    }

    #[test]
    fn two_days_of_a_battery_are_small() {
        // Readings every ten seconds; everything moves a little, all the time.
        let mut track = Track::new(Duration::from_secs(48 * 3600));
        let keys: Vec<Series> =
            (0..40).map(|n| Series { key: format!("k{n}"), unit: "V", decimals: 3 }).collect();
        for number in 0..48 * 360_u64 {
            let wave = |n: u64| i64::try_from(3300 + (number * (n + 7)) % 9).unwrap();
            let values = keys.iter().cloned().zip((0..).map(wave)).collect();
            track.note(Millis(1_771_097_625_510 + number * 10_000), values);
        }
        let size = track.size();
        println!("48 h of 40 values every 10 s: {size} bytes");
        assert!(size < 450_000, "{size} bytes");
    }
}
