//! The history of one battery: every reading of the last hours, minutes of the days before, and hours of a year.

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
/// The values of a year are those of its hours.
pub(super) const HOUR: Duration = Duration::from_secs(3600);
/// With a leap day.
pub(super) const YEAR: Duration = Duration::from_secs(366 * 24 * 3600);
/// Quantities that are kept for a year: those of the charts. Each takes about 50 kB of memory.
const YEARLY: [&str; 10] = [
    "soc",
    "soh",
    "pack_voltage",
    "pack_current",
    "power",
    "min_temp",
    "max_temp",
    "min_cell_voltage",
    "max_cell_voltage",
    "cell_voltage_diff",
];
/// Hours that wait to be written. Without a file they are dropped every minute.
const MAX_UNWRITTEN: usize = 800;

/// The readings of a minute, or of an hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HistoryRow {
    /// Time of the last reading.
    pub(super) time: Millis,
    pub(super) samples: Vec<Sample>,
}

#[derive(Debug, Clone)]
pub(super) struct BatteryHistory {
    pub(super) fine: RowBuffer,
    pub(super) coarse: RowBuffer,
    pub(super) hours: RowBuffer,
    minute: Option<Period>,
    hour: Option<Period>,
    unwritten: Vec<HistoryRow>,
}

impl BatteryHistory {
    pub(super) fn new(span: Duration) -> Self {
        let fine = RowBuffer::new(FINE_SPAN.min(span), FINE_STEP);
        BatteryHistory {
            fine,
            coarse: RowBuffer::new(span, MINUTE),
            hours: RowBuffer::new(YEAR, HOUR),
            minute: None,
            hour: None,
            unwritten: Vec::new(),
        }
    }

    /// Adds a reading and returns the minute before it if that has ended.
    pub(super) fn push(&mut self, time: Millis, samples: &[Sample]) -> Option<HistoryRow> {
        let ended = self.end_minute(Some(time));
        self.minute.get_or_insert_default().add(time, samples);
        let is_due = |newest: Millis| time.0.abs_diff(newest.0) >= millis(FINE_STEP);
        if self.fine.newest().is_none_or(is_due) {
            self.fine.push(time, samples);
        }
        ended
    }

    /// Ends the running minute unless `now` is in it; `None` ends it in any case.
    pub(super) fn end_minute(&mut self, now: Option<Millis>) -> Option<HistoryRow> {
        let present = now.map(minute_number);
        let ended = self.minute.take_if(|minute| Some(minute_number(minute.last)) != present);
        let ended = ended.map(Period::row);
        if let Some(row) = &ended {
            self.restore(row);
            self.add_to_hour(row);
        }
        // At the stop the hour goes on: the next run has its minutes from the file.
        if let Some(now) = now {
            self.end_hour(now);
        }
        ended
    }

    /// Adds a complete minute.
    pub(super) fn restore(&mut self, row: &HistoryRow) {
        self.coarse.push(row.time, &row.samples);
    }

    /// Adds a complete hour.
    pub(super) fn restore_hour(&mut self, row: &HistoryRow) {
        self.hours.push(row.time, &row.samples);
    }

    /// An hour is made from its minutes, so that those in the file continue it after a restart.
    pub(super) fn add_to_hour(&mut self, minute: &HistoryRow) {
        self.end_hour(minute.time);
        let is_kept = |key: &EntryKey| YEARLY.contains(&key.quantity().key);
        let samples = minute.samples.iter().filter(|(key, _)| is_kept(key)).copied();
        self.hour.get_or_insert_default().add(minute.time, &samples.collect::<Vec<_>>());
    }

    /// Ends the running hour unless `now` is in it.
    fn end_hour(&mut self, now: Millis) {
        let ended = self.hour.take_if(|hour| hour_number(hour.last) != hour_number(now));
        // A battery without any of the quantities has no hours.
        if let Some(row) = ended.map(Period::row).filter(|row| !row.samples.is_empty()) {
            self.restore_hour(&row);
            self.unwritten.push(row);
            self.unwritten.drain(..self.unwritten.len().saturating_sub(MAX_UNWRITTEN));
        }
    }

    /// Hours that ended since the last call.
    pub(super) fn take_unwritten(&mut self) -> Vec<HistoryRow> {
        std::mem::take(&mut self.unwritten)
    }

    /// `elapsed`: since the last call.
    pub(super) fn expire(&mut self, now: Millis, elapsed: Duration) {
        self.fine.expire(now, elapsed);
        self.coarse.expire(now, elapsed);
        self.hours.expire(now, elapsed);
    }

    /// Time of the oldest row.
    pub(super) fn oldest(&self) -> Option<Millis> {
        let first = |rows: &RowBuffer| rows.blocks.front().map(|block| block.oldest);
        [&self.fine, &self.coarse, &self.hours].into_iter().filter_map(first).min()
    }

    /// Time of the newest row.
    pub(super) fn newest(&self) -> Option<Millis> {
        self.fine.newest().max(self.coarse.newest()).max(self.hours.newest())
    }

    pub(super) fn size(&self) -> usize {
        self.fine.size() + self.coarse.size() + self.hours.size()
    }
}

/// Minutes since 1970.
pub(super) fn minute_number(time: Millis) -> u64 {
    time.0 / millis(MINUTE)
}

/// Hours since 1970.
pub(super) fn hour_number(time: Millis) -> u64 {
    time.0 / millis(HOUR)
}

/// The readings of the running minute, or the minutes of the running hour.
#[derive(Debug, Clone, Default)]
struct Period {
    last: Millis,
    sums: Vec<(EntryKey, SpreadSum)>,
}

impl Period {
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

    fn row(self) -> HistoryRow {
        let samples = self.sums.into_iter().filter_map(|(key, sum)| Some((key, sum.spread()?)));
        HistoryRow { time: self.last, samples: samples.collect() }
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
    fn hour_is_made_from_its_minutes() {
        let mut battery = BatteryHistory::new(Duration::from_secs(3600));
        let samples = |value| {
            let others = ["cell_1_voltage", "remaining_capacity"];
            let others = others.map(|key| (EntryKey::parse(key).unwrap(), Spread::of(1)));
            [&volts(value)[..], &others].concat()
        };
        let minute = 60_000;
        // Hours 1 and 3; the second minute has two readings.
        for (time, value) in [(60, 53_000), (61, 51_000), (61, 52_000), (185, 50_000)] {
            battery.push(Millis(time * minute), &samples(value));
        }
        let [row] = battery.take_unwritten().try_into().unwrap();
        assert_eq!(row.time, Millis(61 * minute));
        let expected = Spread { low: 51_000, mean: 52_250, high: 53_000 };
        assert_eq!(row.samples, [(volts(0)[0].0, expected)], "what charts show");
        battery.end_minute(Some(Millis(239 * minute)));
        assert_eq!(battery.take_unwritten(), [], "still running");
        battery.end_minute(Some(Millis(240 * minute)));
        assert_eq!(battery.take_unwritten()[0].time, Millis(185 * minute), "no hour is made up");
        assert_eq!(battery.oldest(), Some(Millis(60 * minute)));
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
