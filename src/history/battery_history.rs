//! The history of one battery: every reading of the last hours, and minutes of the days before.

use std::time::Duration;

use super::packed::{Sample, Spread, SpreadSum};
use super::row_buffer::RowBuffer;
use crate::model::units::millis;
use crate::model::{DeviceState, Entry, EntryKey, Millis, Value, entries};

/// Every reading is kept for this long.
const FINE_SPAN: Duration = Duration::from_secs(2 * 3600);
/// Of more frequent readings, one per interval is kept.
const FINE_STEP: Duration = Duration::from_secs(5);
/// Older readings are combined into the lowest, mean and highest value of a minute.
const MINUTE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MinuteRow {
    /// Time of its last reading.
    pub(super) time: Millis,
    pub(super) samples: Vec<Sample>,
}

#[derive(Debug, Clone)]
pub(super) struct BatteryHistory {
    pub(super) fine: RowBuffer,
    pub(super) coarse: RowBuffer,
    minute: Option<Minute>,
}

impl BatteryHistory {
    pub(super) fn new(span: Duration) -> Self {
        let fine = RowBuffer::new(FINE_SPAN.min(span), FINE_STEP);
        BatteryHistory { fine, coarse: RowBuffer::new(span, MINUTE), minute: None }
    }

    /// Adds a reading and returns the minute before it if that has ended.
    pub(super) fn push(&mut self, time: Millis, samples: &[Sample]) -> Option<MinuteRow> {
        let ended = self.end_minute(Some(time));
        self.minute.get_or_insert_default().add(time, samples);
        let is_due = |newest: Millis| time.0.abs_diff(newest.0) >= millis(FINE_STEP);
        if self.fine.newest().is_none_or(is_due) {
            self.fine.push(time, samples);
        }
        ended
    }

    /// Ends the running minute unless `now` is in it; `None` ends it in any case.
    pub(super) fn end_minute(&mut self, now: Option<Millis>) -> Option<MinuteRow> {
        let present = now.map(minute_number);
        let minute = self.minute.take_if(|minute| Some(minute_number(minute.last)) != present)?;
        let row = minute.row();
        self.restore(&row);
        Some(row)
    }

    /// Adds a complete minute.
    pub(super) fn restore(&mut self, row: &MinuteRow) {
        self.coarse.push(row.time, &row.samples);
    }

    /// `elapsed`: since the last call.
    pub(super) fn expire(&mut self, now: Millis, elapsed: Duration) {
        self.fine.expire(now, elapsed);
        self.coarse.expire(now, elapsed);
    }

    /// Time of the newest row.
    pub(super) fn newest(&self) -> Option<Millis> {
        self.fine.newest().max(self.coarse.newest())
    }

    pub(super) fn size(&self) -> usize {
        self.fine.size() + self.coarse.size()
    }
}

/// Minutes since 1970.
pub(super) fn minute_number(time: Millis) -> u64 {
    time.0 / millis(MINUTE)
}

/// The readings of the running minute.
#[derive(Debug, Clone, Default)]
struct Minute {
    last: Millis,
    sums: Vec<(EntryKey, SpreadSum)>,
}

impl Minute {
    fn add(&mut self, time: Millis, samples: &[Sample]) {
        self.last = time;
        for (key, spread) in samples {
            // In the order of the catalogue, like the samples.
            let index = self.sums.binary_search_by_key(key, |(known, _)| *known);
            let index = index.unwrap_or_else(|index| {
                self.sums.insert(index, (*key, SpreadSum::EMPTY));
                index
            });
            self.sums[index].1.add(*spread);
        }
    }

    fn row(self) -> MinuteRow {
        let samples = self.sums.into_iter().filter_map(|(key, sum)| Some((key, sum.spread()?)));
        MinuteRow { time: self.last, samples: samples.collect() }
    }
}

/// Units of the recorded quantities. States and counts are not drawn in charts, and the resistances
/// of the cells would take more memory than anything else.
const UNITS: &[&str] = &["%", "V", "A", "W", "Wh", "kWh", "Ah", "°C"];

/// The recorded values of a reading.
pub(super) fn samples(state: &DeviceState) -> Vec<Sample> {
    let sample = |entry: Entry| {
        let kind = entry.quantity().kind;
        kind.unit().filter(|unit| UNITS.contains(unit))?;
        let Value::Decimal { mantissa, scale } = entry.value else { return None };
        let decimals = u32::from(kind.decimals());
        let value = mantissa.checked_mul(10_i64.checked_pow(decimals.checked_sub(scale)?)?)?;
        Some((entry.key, Spread::of(value)))
    };
    entries(state).into_iter().filter_map(sample).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volts(value: i64) -> [Sample; 1] {
        [(EntryKey::parse("pack_voltage").unwrap(), Spread::of(value))]
    }

    #[test]
    fn minute_has_lowest_mean_and_highest_value() {
        let mut battery = BatteryHistory::new(Duration::from_secs(3600));
        assert_eq!(battery.push(Millis(60_000), &volts(53_000)), None);
        assert_eq!(battery.push(Millis(70_000), &volts(52_000)), None);
        assert_eq!(battery.push(Millis(119_999), &volts(52_100)), None);
        let row = battery.push(Millis(120_000), &volts(1)).unwrap();
        assert_eq!(row.time, Millis(119_999));
        assert_eq!(row.samples[0].1, Spread { low: 52_000, mean: 52_367, high: 53_000 });
        assert_eq!(battery.end_minute(Some(Millis(179_000))), None, "still running");
        assert_eq!(battery.end_minute(Some(Millis(180_000))).unwrap().time, Millis(120_000));
        assert_eq!(battery.end_minute(None), None, "already ended");
    }

    #[test]
    fn frequent_readings_count_in_their_minute_but_are_thinned() {
        let mut battery = BatteryHistory::new(Duration::from_secs(48 * 3600));
        for half in 0..240_u64 {
            battery.push(Millis(half * 500), &volts(i64::try_from(half).unwrap()));
        }
        let fine: usize = battery.fine.blocks.iter().map(|block| block.rows).sum();
        assert_eq!(fine, 24);
        let row = battery.end_minute(None).unwrap();
        assert_eq!(row.samples[0].1, Spread { low: 120, mean: 180, high: 239 });
    }

    #[test]
    fn two_days_take_less_than_450_kilobytes() {
        // Readings every ten seconds; everything moves a little, all the time.
        let mut battery = BatteryHistory::new(Duration::from_secs(48 * 3600));
        let keys = (1..=40).map(|n| EntryKey::parse(&format!("cell_{n}_voltage")).unwrap());
        let keys: Vec<_> = keys.collect();
        for number in 0..48 * 360_u64 {
            let wave = |n: u64| Spread::of(i64::try_from(3300 + (number * (n + 7)) % 9).unwrap());
            let samples: Vec<Sample> = keys.iter().copied().zip((0..).map(wave)).collect();
            let time = Millis(1_771_097_625_510 + number * 10_000);
            battery.push(time, &samples);
            battery.expire(time, Duration::from_secs(10));
        }
        let size = battery.size();
        println!("48 h of 40 values every 10 s: {size} bytes");
        assert!(size < 450_000, "{size} bytes");
    }
}
