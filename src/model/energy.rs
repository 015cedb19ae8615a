//! Amounts of energy.

use std::fmt;
use std::ops::Add;

use super::reading::Reading;
use super::units::MilliwattHours;
use super::value::Value;

const MWMS_PER_MWH: u64 = 3_600_000;
const MWH_PER_KWH: u64 = 1_000_000;
/// A battery of 100 kWh with one cycle a day needs decades for this: more is not a counter.
const MAX_KWH: u64 = 1_000_000;

/// An exact amount of energy: milliwatts times milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Energy(pub u64);

impl Energy {
    /// Parses a counter as it is published; `None` for other texts and for impossible amounts.
    pub fn from_kwh(text: &str) -> Option<Self> {
        let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
        let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !is_number(whole) || !is_number(fraction) {
            return None;
        }
        let kwh: u64 = whole.parse().ok().filter(|kwh| *kwh <= MAX_KWH)?;
        let digits: String = fraction.chars().chain("000000".chars()).take(6).collect();
        let mwh = kwh * MWH_PER_KWH + digits.parse::<u64>().ok()?;
        Some(Energy(mwh * MWMS_PER_MWH))
    }

    /// `None` for amounts that no counter reaches.
    pub fn of(amount: MilliwattHours) -> Option<Self> {
        let mwh = u64::try_from(amount.0).ok()?;
        (mwh / MWH_PER_KWH <= MAX_KWH).then(|| Energy(mwh * MWMS_PER_MWH))
    }

    pub fn milliwatt_hours(self) -> MilliwattHours {
        MilliwattHours(i64::try_from(self.0 / MWMS_PER_MWH).unwrap_or(i64::MAX))
    }

    pub fn kwh(self) -> Value {
        Value::decimal(self.milliwatt_hours().0, 6)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct EnergyTotals {
    pub charged: Energy,
    /// Out of the battery.
    pub discharged: Energy,
}

impl EnergyTotals {
    fn combine(self, other: EnergyTotals, with: impl Fn(u64, u64) -> u64) -> EnergyTotals {
        EnergyTotals {
            charged: Energy(with(self.charged.0, other.charged.0)),
            discharged: Energy(with(self.discharged.0, other.discharged.0)),
        }
    }

    /// Whether one of them is more than `limit`.
    pub fn exceeds(self, limit: Energy) -> bool {
        self.charged.max(self.discharged) > limit
    }

    /// Zero where one is more than `limit`.
    pub fn where_at_most(self, limit: Energy) -> EnergyTotals {
        let limit = EnergyTotals { charged: limit, discharged: limit };
        self.combine(limit, |amount, limit| if amount > limit { 0 } else { amount })
    }

    /// Zero where `other` is larger.
    pub fn saturating_sub(self, other: EnergyTotals) -> EnergyTotals {
        self.combine(other, u64::saturating_sub)
    }

    /// The part of `part / whole`, for example of a time.
    pub fn share(self, part: u64, whole: u64) -> EnergyTotals {
        let share = |amount: u64| u128::from(amount) * u128::from(part) / u128::from(whole.max(1));
        self.combine(self, |amount, _| u64::try_from(share(amount)).unwrap_or(u64::MAX))
    }

    /// Rounded down.
    pub fn whole_milliwatt_hours(self) -> EnergyTotals {
        self.combine(self, |amount, _| amount / MWMS_PER_MWH * MWMS_PER_MWH)
    }

    /// The larger one of each total.
    pub fn max(self, other: EnergyTotals) -> EnergyTotals {
        self.combine(other, u64::max)
    }
}

/// More full cycles than any battery survives.
const LIFETIME_CYCLES: u64 = 20_000;
/// Batteries that report a tiny capacity by mistake keep their counters up to this total.
const MIN_LIFETIME: Energy = Energy(10_000 * MWH_PER_KWH * MWMS_PER_MWH);
/// One full cycle of a battery of unknown capacity.
pub const UNKNOWN_CYCLE: Energy = Energy(5 * MWH_PER_KWH * MWMS_PER_MWH);

/// The energy of one full charge; `None` when voltage or capacity are unknown.
pub fn of_one_cycle(reading: &Reading) -> Option<Energy> {
    let pack = &reading.pack;
    let capacity = [pack.full, pack.design, pack.remaining].into_iter().flatten().max()?;
    let capacity = u64::try_from(capacity.0).ok().filter(|capacity| *capacity > 0)?;
    let voltage = u64::try_from(pack.voltage?.0).ok().filter(|voltage| *voltage > 0)?;
    let mwh = capacity.checked_mul(voltage)? / 1000;
    mwh.checked_mul(MWMS_PER_MWH).map(Energy)
}

/// More than the battery can count in its life.
pub fn of_a_lifetime(reading: &Reading) -> Option<Energy> {
    let lifetime = of_one_cycle(reading)?.0.saturating_mul(LIFETIME_CYCLES);
    Some(Energy(lifetime).max(MIN_LIFETIME))
}

impl fmt::Display for EnergyTotals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [charged, discharged] =
            [self.charged, self.discharged].map(|energy| energy.kwh().rounded(3));
        write!(f, "{charged} kWh in and {discharged} kWh out")
    }
}

impl Add for EnergyTotals {
    type Output = EnergyTotals;

    fn add(self, other: EnergyTotals) -> EnergyTotals {
        self.combine(other, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KWH: u64 = MWMS_PER_MWH * MWH_PER_KWH;

    #[test]
    fn published_text_is_parsed_and_other_text_rejected() {
        assert_eq!(Energy::from_kwh("123.456"), Some(Energy(KWH / 1000 * 123_456)));
        assert_eq!(Energy::from_kwh(" 7\n"), Some(Energy(7 * KWH)));
        assert_eq!(Energy::from_kwh("0.0"), Some(Energy(0)));
        let long = Energy::from_kwh("0.12345678").unwrap();
        assert_eq!(long.kwh().to_string(), "0.123456");
        for wrong in ["", ".", "-1.0", "unknown", "NaN", "1e3", "1.2.3", "1000001", "٣", "+1"] {
            assert_eq!(Energy::from_kwh(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn negative_and_impossible_amounts_are_rejected() {
        for wrong in [-1, i64::MIN, i64::MAX, 1_000_001_000_000] {
            assert_eq!(Energy::of(MilliwattHours(wrong)), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn published_totals_are_parsed_unchanged(mwh in 0u64..1_000_000 * MWH_PER_KWH) {
            let energy = Energy(mwh * MWMS_PER_MWH);
            prop_assert_eq!(Energy::from_kwh(&energy.kwh().to_string()), Some(energy));
            prop_assert_eq!(Energy::of(energy.milliwatt_hours()), Some(energy));
        }
    }
}
