//! Energy in and out, integrated from the power.

use std::ops::Add;
use std::time::Duration;

use serde::Serialize;

use super::snapshot::LinkState;
use super::units::{MilliwattHours, Milliwatts, Uptime};
use super::value::Value;

/// Milliwatt-milliseconds in a milliwatt-hour.
const MWMS_PER_MWH: u64 = 3_600_000;
/// Milliwatt-hours in a kilowatt-hour.
const MWH_PER_KWH: u64 = 1_000_000;
/// A house battery of 100 kWh that is cycled daily needs centuries for this; more is no counter.
const LARGEST_KWH: u64 = 1_000_000;
/// A gigawatt: no battery has more, and its square times a day still fits the arithmetic.
const LARGEST_MW: i64 = 1_000_000_000_000;
/// Longer gaps between two reads are not counted: nobody knows what flowed. While a battery counts
/// as online its power is known well enough.
const INTERVALS: u32 = 5;

/// An amount of energy, exact: milliwatts times milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[serde(transparent)]
pub struct Energy(pub u64);

impl Energy {
    /// A number of kilowatt-hours as we publish it; `None` when it is none that a counter has.
    pub fn from_kwh(text: &str) -> Option<Self> {
        let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
        let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !is_number(whole) || !is_number(fraction) {
            return None;
        }
        let kwh: u64 = whole.parse().ok().filter(|kwh| *kwh <= LARGEST_KWH)?;
        let digits: String = fraction.chars().chain("000000".chars()).take(6).collect();
        let mwh = kwh * MWH_PER_KWH + digits.parse::<u64>().ok()?;
        Some(Energy(mwh * MWMS_PER_MWH))
    }

    /// So many milliwatt-hours; `None` when no counter has so many.
    pub fn of(amount: MilliwattHours) -> Option<Self> {
        let mwh = u64::try_from(amount.0).ok()?;
        (mwh / MWH_PER_KWH <= LARGEST_KWH).then(|| Energy(mwh * MWMS_PER_MWH))
    }

    /// Whole milliwatt-hours.
    pub fn milliwatt_hours(self) -> MilliwattHours {
        MilliwattHours(i64::try_from(self.0 / MWMS_PER_MWH).unwrap_or(i64::MAX))
    }

    /// As kilowatt-hours.
    pub fn kwh(self) -> Value {
        Value::decimal(self.milliwatt_hours().0, 6)
    }
}

impl Add for Energy {
    type Output = Energy;

    fn add(self, other: Energy) -> Energy {
        Energy(self.0.saturating_add(other.0))
    }
}

/// Energy that went in and came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
pub struct EnergyTotals {
    /// Into the battery.
    pub charged: Energy,
    /// Out of the battery.
    pub discharged: Energy,
}

impl EnergyTotals {
    /// What has to be added to `counted` so that neither total is below `self`.
    pub fn beyond(self, counted: EnergyTotals) -> EnergyTotals {
        let beyond = |all: Energy, part: Energy| Energy(all.0.saturating_sub(part.0));
        EnergyTotals {
            charged: beyond(self.charged, counted.charged),
            discharged: beyond(self.discharged, counted.discharged),
        }
    }

    /// The larger of each.
    pub fn max(self, other: EnergyTotals) -> EnergyTotals {
        EnergyTotals {
            charged: self.charged.max(other.charged),
            discharged: self.discharged.max(other.discharged),
        }
    }
}

impl Add for EnergyTotals {
    type Output = EnergyTotals;

    fn add(self, other: EnergyTotals) -> EnergyTotals {
        EnergyTotals {
            charged: self.charged + other.charged,
            discharged: self.discharged + other.discharged,
        }
    }
}

/// Counts the energy of one battery since the program started.
#[derive(Debug, Clone, Default)]
pub struct EnergyCounter {
    last: Option<(Uptime, Milliwatts)>,
    counted: EnergyTotals,
}

impl EnergyCounter {
    /// Books the power at a moment of a clock that never jumps, and returns what has been counted.
    ///
    /// Between two reads the power is taken as a straight line; where it changes its sign, each
    /// side gets its triangle.
    pub fn count(
        &mut self,
        at: Uptime,
        power: Option<Milliwatts>,
        interval_ms: u64,
    ) -> EnergyTotals {
        let Some(power) = power else { return self.counted };
        let power = Milliwatts(power.0.clamp(-LARGEST_MW, LARGEST_MW));
        if let Some((before, first)) = self.last {
            let elapsed = at.since(before);
            let usual = Duration::from_millis(interval_ms).saturating_mul(INTERVALS);
            if Duration::from_millis(elapsed) <= usual.max(LinkState::GRACE) {
                self.counted = self.counted + area(first, power, elapsed);
            }
        }
        self.last = Some((at, power));
        self.counted
    }

    /// What flows until the next read is not known; what was counted stays counted.
    pub fn interrupt(&mut self) {
        self.last = None;
    }
}

fn area(first: Milliwatts, second: Milliwatts, elapsed: u64) -> EnergyTotals {
    let (first, second, elapsed) = (i128::from(first.0), i128::from(second.0), i128::from(elapsed));
    let (charged, discharged) = if first.signum() * second.signum() < 0 {
        let span = (first - second).abs();
        let triangle = |side: i128| side * side * elapsed / (2 * span);
        (triangle(first.max(second)), triangle(first.min(second)))
    } else {
        let whole = (first + second) * elapsed / 2;
        (whole.max(0), (-whole).max(0))
    };
    let energy = |area: i128| Energy(u64::try_from(area).unwrap_or(u64::MAX));
    EnergyTotals { charged: energy(charged), discharged: energy(discharged) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KWH: u64 = MWMS_PER_MWH * MWH_PER_KWH;

    fn count(ledger: &mut EnergyCounter, second: u64, watts: i64) -> (u64, u64) {
        let power = Some(Milliwatts(watts * 1000));
        let totals = ledger.count(Uptime(second * 1000), power, 30_000);
        // Watt-seconds.
        (totals.charged.0 / 1_000_000, totals.discharged.0 / 1_000_000)
    }

    #[test]
    fn a_kilowatt_for_an_hour_is_a_kilowatt_hour() {
        let mut ledger = EnergyCounter::default();
        for second in (0..=3600).step_by(30) {
            ledger.count(Uptime(second * 1000), Some(Milliwatts(1_000_000)), 30_000);
        }
        assert_eq!(ledger.counted.charged, Energy(KWH));
        assert_eq!(ledger.counted.charged.kwh().to_string(), "1.0");
        assert_eq!(ledger.counted.discharged, Energy(0));
    }

    #[test]
    fn a_slope_counts_as_its_mean_and_a_change_of_sign_feeds_both() {
        let mut ledger = EnergyCounter::default();
        assert_eq!(count(&mut ledger, 0, 100), (0, 0));
        assert_eq!(count(&mut ledger, 10, 300), (2000, 0));
        assert_eq!(count(&mut ledger, 20, -100), (2000 + 1125, 125));
        assert_eq!(count(&mut ledger, 30, -100), (3125, 1125));
        assert_eq!(count(&mut ledger, 40, 0), (3125, 1625));
    }

    #[test]
    fn long_gaps_do_not_count_and_short_holes_do() {
        let mut ledger = EnergyCounter::default();
        count(&mut ledger, 0, 100);
        assert_eq!(count(&mut ledger, 150, 100), (15_000, 0), "five intervals");
        assert_eq!(count(&mut ledger, 301, 100), (15_000, 0), "more");
        ledger.count(Uptime(330_000), None, 30_000);
        assert_eq!(count(&mut ledger, 361, 100), (21_000, 0), "one read without power");
        let fast = ledger.count(Uptime(391_000), Some(Milliwatts(100_000)), 500);
        assert_eq!(fast.charged.0 / 1_000_000, 24_000, "a slow bus");
        assert_eq!(count(&mut ledger, 380, 100), (24_000, 0), "a clock that went back");
    }

    #[test]
    fn our_own_text_is_understood_and_nonsense_is_not() {
        assert_eq!(Energy::from_kwh("123.456"), Some(Energy(KWH / 1000 * 123_456)));
        assert_eq!(Energy::from_kwh(" 7\n"), Some(Energy(7 * KWH)));
        assert_eq!(Energy::from_kwh("0.0"), Some(Energy(0)));
        assert_eq!(
            Energy::from_kwh("0.12345678").map(|it| it.kwh().to_string()).as_deref(),
            Some("0.123456")
        );
        for wrong in ["", ".", "-1.0", "unknown", "NaN", "1e3", "1.2.3", "1000001", "٣", "+1"] {
            assert_eq!(Energy::from_kwh(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn no_counter_is_negative_or_larger_than_any_battery_gets() {
        for wrong in [-1, i64::MIN, i64::MAX, 1_000_001_000_000] {
            assert_eq!(Energy::of(MilliwattHours(wrong)), None, "{wrong}");
        }
    }

    fn reads() -> impl Strategy<Value = Vec<(u64, Option<i64>)>> {
        let power =
            prop::option::weighted(0.9, prop_oneof![-20_000_000i64..20_000_000, any::<i64>()]);
        prop::collection::vec((0u64..400_000, power), 0..50)
    }

    proptest! {
        #[test]
        fn totals_never_fall(reads in reads(), interval in 1u64..4_000_000) {
            let (mut ledger, mut at, mut last) = (EnergyCounter::default(), 0, EnergyTotals::default());
            for (elapsed, power) in reads {
                at += elapsed;
                let now = ledger.count(Uptime(at), power.map(Milliwatts), interval);
                prop_assert_eq!(now.max(last), now);
                last = now;
            }
        }

        #[test]
        fn what_is_counted_is_the_trapezoid(first in -20_000_000i64..20_000_000, second in -20_000_000i64..20_000_000, elapsed in 0u64..150_000) {
            let totals = area(Milliwatts(first), Milliwatts(second), elapsed);
            let net = i128::from(totals.charged.0) - i128::from(totals.discharged.0);
            let exact = i128::from(first + second) * i128::from(elapsed) / 2;
            prop_assert!((net - exact).abs() <= 1, "{} and {}", net, exact);
        }

        #[test]
        fn published_totals_come_back(mwh in 0u64..1_000_000 * MWH_PER_KWH) {
            let energy = Energy(mwh * MWMS_PER_MWH);
            prop_assert_eq!(Energy::from_kwh(&energy.kwh().to_string()), Some(energy));
            prop_assert_eq!(Energy::of(energy.milliwatt_hours()), Some(energy));
        }
    }
}
