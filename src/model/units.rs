//! Quantities as whole numbers of a small unit, so that equality is exact. The unit is in the name.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A quantity that is a whole number of a small unit.
pub trait Unit: Copy + Ord {
    /// Decimal places in the unit that people read: 3 for thousandths.
    const SCALE: u32;

    fn to_i64(self) -> i64;

    /// `None` when the number does not fit.
    fn from_i64(number: i64) -> Option<Self>;
}

macro_rules! units {
    ($($(#[$doc:meta])* $name:ident($repr:ty) = $scale:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $repr);

        impl Unit for $name {
            const SCALE: u32 = $scale;

            fn to_i64(self) -> i64 {
                self.0.into()
            }

            fn from_i64(number: i64) -> Option<Self> {
                number.try_into().ok().map(Self)
            }
        }
    )*};
}

units! {
    Millivolts(i32) = 3;
    Milliamps(i32) = 3;
    /// Signed like the current.
    Milliwatts(i64) = 3;
    MilliampHours(i64) = 3;
    MilliwattHours(i64) = 3;
    /// Tenths of a degree Celsius.
    DeciCelsius(i32) = 1;
    /// Hundredths of a per cent, the resolution of Daren.
    CentiPercent(i32) = 2;
    Microohms(i32) = 3;
}

/// A count, which has no unit.
impl Unit for u32 {
    const SCALE: u32 = 0;

    fn to_i64(self) -> i64 {
        self.into()
    }

    fn from_i64(number: i64) -> Option<Self> {
        number.try_into().ok()
    }
}

impl Milliwatts {
    /// Voltage times current, rounded to the nearest milliwatt.
    pub fn product(voltage: Millivolts, current: Milliamps) -> Self {
        let microwatts = voltage.to_i64() * current.to_i64();
        Self(divide_rounded(microwatts, 1000))
    }
}

/// Division that rounds half away from zero.
pub(crate) fn divide_rounded(numerator: i64, denominator: i64) -> i64 {
    let half = denominator / 2;
    if numerator < 0 { (numerator - half) / denominator } else { (numerator + half) / denominator }
}

/// The arithmetic mean; `None` for an empty list.
pub(crate) fn mean<T: Unit>(values: &[T]) -> Option<T> {
    let count = i64::try_from(values.len()).ok().filter(|count| *count > 0)?;
    let sum = values.iter().map(|value| value.to_i64()).try_fold(0_i64, i64::checked_add)?;
    T::from_i64(divide_rounded(sum, count))
}

/// Milliseconds on a monotonic clock, for durations: unlike [`Millis`], it never jumps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Uptime(pub u64);

impl Uptime {
    /// Milliseconds since `earlier`; zero when `earlier` is later.
    pub fn since(self, earlier: Uptime) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Milliseconds since the Unix epoch.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// Milliseconds since `earlier`; zero when the clock was set back in between.
    pub fn since(self, earlier: Millis) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The time `duration` earlier, not before 1970.
    pub fn before(self, duration: Duration) -> Millis {
        Millis(self.0.saturating_sub(millis(duration)))
    }

    /// The time `duration` later.
    pub fn after(self, duration: Duration) -> Millis {
        Millis(self.0.saturating_add(millis(duration)))
    }

    /// ISO 8601 in UTC, to the second: `2026-02-14T19:33:45Z`.
    pub fn iso8601(self) -> String {
        let seconds = self.0 / 1000;
        let (year, month, day) = civil_date(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// Whole milliseconds of a duration, saturating.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Days since 1970-01-01 to year, month, day in the Gregorian calendar (the era arithmetic of
/// Howard Hinnant's "chrono-compatible low-level date algorithms").
pub(super) fn civil_date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn product_is_rounded_and_keeps_the_sign() {
        assert_eq!(Milliwatts::product(Millivolts(53_020), Milliamps(-11_160)).0, -591_703);
        assert_eq!(Milliwatts::product(Millivolts(1), Milliamps(500)).0, 1);
        assert_eq!(Milliwatts::product(Millivolts(1), Milliamps(-500)).0, -1);
    }

    #[test]
    fn iso8601_handles_leap_days() {
        assert_eq!(Millis(0).iso8601(), "1970-01-01T00:00:00Z");
        assert_eq!(Millis(951_782_400_000).iso8601(), "2000-02-29T00:00:00Z");
        assert_eq!(Millis(1_771_097_625_510).iso8601(), "2026-02-14T19:33:45Z");
        assert_eq!(Millis(4_107_542_399_000).iso8601(), "2100-02-28T23:59:59Z");
    }
}
