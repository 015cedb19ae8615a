//! Integer newtypes: a quantity is a whole number of a small unit, so that equality is exact and
//! the text has the right digits. The unit is in the name; nothing else converts.

use serde::{Deserialize, Serialize};

/// Declares one newtype a line: name, representation, and the power of ten between its small unit
/// and the unit people read (3: thousandths).
macro_rules! units {
    ($($(#[$doc:meta])* $name:ident($repr:ty) = $scale:literal;)*) => {$(
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $repr);

        impl $name {
            /// Digits behind the point when written in the unit that people read.
            pub const SCALE: u32 = $scale;
        }

        impl From<$name> for crate::model::Value {
            fn from(quantity: $name) -> Self {
                crate::model::Value::decimal(i64::from(quantity.0), $scale)
            }
        }
    )*};
}

units! {
    /// Volts in thousandths.
    Millivolts(i32) = 3;
    /// Amperes in thousandths; positive while charging.
    Milliamps(i32) = 3;
    /// Watts in thousandths; signed like the current.
    Milliwatts(i64) = 3;
    /// Ampere-hours in thousandths.
    MilliampHours(i64) = 3;
    /// Watt-hours in thousandths.
    MilliwattHours(i64) = 3;
    /// Degrees Celsius in tenths.
    DeciCelsius(i32) = 1;
    /// Per cent in hundredths (Daren reports 0.01 %).
    CentiPercent(i32) = 2;
    /// Milliohms in thousandths.
    Microohms(i32) = 3;
}

impl Milliwatts {
    /// Voltage times current, rounded to the nearest milliwatt.
    pub fn product(voltage: Millivolts, current: Milliamps) -> Self {
        let microwatts = i64::from(voltage.0) * i64::from(current.0);
        Self(divide_rounded(microwatts, 1000))
    }
}

/// Division that rounds half away from zero, as people do on paper.
pub(crate) fn divide_rounded(numerator: i64, denominator: i64) -> i64 {
    let half = denominator / 2;
    if numerator < 0 { (numerator - half) / denominator } else { (numerator + half) / denominator }
}

/// Milliseconds since some moment of this run: unlike [`Millis`] it never jumps and never goes back, so it measures
/// how long something lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Uptime(pub u64);

impl Uptime {
    /// Time that passed since `earlier`.
    pub fn since(self, earlier: Uptime) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Milliseconds since the Unix epoch; handed in by whoever owns a clock.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// Time that passed since `earlier`; zero when the clock went backwards.
    pub fn since(self, earlier: Millis) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// ISO 8601 in UTC, to the second: `2026-02-14T19:33:45Z`.
    pub fn iso8601(self) -> String {
        let seconds = self.0 / 1000;
        let (year, month, day) = civil_date(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// Days since 1970-01-01 to year, month, day in the Gregorian calendar (the era arithmetic of
/// Howard Hinnant's "chrono-compatible low-level date algorithms").
fn civil_date(days: u64) -> (u64, u64, u64) {
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
    fn power_is_rounded_once_and_keeps_the_sign() {
        assert_eq!(Milliwatts::product(Millivolts(53_020), Milliamps(-11_160)).0, -591_703);
        assert_eq!(Milliwatts::product(Millivolts(1), Milliamps(500)).0, 1);
        assert_eq!(Milliwatts::product(Millivolts(1), Milliamps(-500)).0, -1);
    }

    #[test]
    fn iso_dates_cross_leap_days() {
        assert_eq!(Millis(0).iso8601(), "1970-01-01T00:00:00Z");
        assert_eq!(Millis(951_782_400_000).iso8601(), "2000-02-29T00:00:00Z");
        assert_eq!(Millis(1_771_097_625_510).iso8601(), "2026-02-14T19:33:45Z");
        assert_eq!(Millis(4_107_542_399_000).iso8601(), "2100-02-28T23:59:59Z");
    }
}
