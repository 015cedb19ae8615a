//! Counts energy by integrating the power.

use std::time::Duration;

use super::energy::{Energy, EnergyTotals};
use super::staleness::GRACE_PERIOD;
use super::units::{Milliwatts, Uptime};

/// A gigawatt: no battery has more, and its square times a day still fits into `i128`.
const MAX_MW: i64 = 1_000_000_000_000;
/// A gap between two reads that is longer than this many intervals is not counted, because the
/// power in between is unknown. Gaps up to [`GRACE_PERIOD`] always count.
const MAX_INTERVALS: u32 = 5;

/// The energy of one battery since the program started.
#[derive(Debug, Clone, Default)]
pub struct EnergyCounter {
    last: Option<(Uptime, Milliwatts)>,
    totals: EnergyTotals,
}

impl EnergyCounter {
    /// Adds a read and returns the totals. The power is taken as linear between two reads; when it
    /// changes its sign, both totals grow.
    pub fn count(
        &mut self,
        at: Uptime,
        power: Option<Milliwatts>,
        interval_ms: u64,
    ) -> EnergyTotals {
        let Some(power) = power else { return self.totals };
        let power = Milliwatts(power.0.clamp(-MAX_MW, MAX_MW));
        if let Some((before, first)) = self.last {
            let elapsed = at.since(before);
            let expected = Duration::from_millis(interval_ms).saturating_mul(MAX_INTERVALS);
            if Duration::from_millis(elapsed) <= expected.max(GRACE_PERIOD) {
                self.totals = self.totals + integrate(first, power, elapsed);
            }
        }
        self.last = Some((at, power));
        self.totals
    }

    /// The time until the next read does not count.
    pub fn interrupt(&mut self) {
        self.last = None;
    }
}

fn integrate(first: Milliwatts, second: Milliwatts, elapsed: u64) -> EnergyTotals {
    let (first, second, elapsed) = (i128::from(first.0), i128::from(second.0), i128::from(elapsed));
    let (charged, discharged) = if first.signum() * second.signum() < 0 {
        let span = (first - second).abs();
        let triangle = |side: i128| side * side * elapsed / (2 * span);
        (triangle(first.max(second)), triangle(first.min(second)))
    } else {
        let area = (first + second) * elapsed / 2;
        (area.max(0), (-area).max(0))
    };
    let energy = |area: i128| Energy(u64::try_from(area).unwrap_or(u64::MAX));
    EnergyTotals { charged: energy(charged), discharged: energy(discharged) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn count(counter: &mut EnergyCounter, second: u64, watts: i64) -> (u64, u64) {
        let power = Some(Milliwatts(watts * 1000));
        let totals = counter.count(Uptime(second * 1000), power, 30_000);
        // Watt-seconds.
        (totals.charged.0 / 1_000_000, totals.discharged.0 / 1_000_000)
    }

    #[test]
    fn one_kilowatt_for_an_hour_is_one_kilowatt_hour() {
        let mut counter = EnergyCounter::default();
        for second in (0..=3600).step_by(30) {
            counter.count(Uptime(second * 1000), Some(Milliwatts(1_000_000)), 30_000);
        }
        assert_eq!(counter.totals.charged.kwh().to_string(), "1.0");
        assert_eq!(counter.totals.discharged, Energy(0));
    }

    #[test]
    fn change_of_sign_counts_in_both_totals() {
        let mut counter = EnergyCounter::default();
        assert_eq!(count(&mut counter, 0, 100), (0, 0));
        assert_eq!(count(&mut counter, 10, 300), (2000, 0));
        assert_eq!(count(&mut counter, 20, -100), (2000 + 1125, 125));
        assert_eq!(count(&mut counter, 30, -100), (3125, 1125));
        assert_eq!(count(&mut counter, 40, 0), (3125, 1625));
    }

    #[test]
    fn long_gaps_do_not_count() {
        let mut counter = EnergyCounter::default();
        count(&mut counter, 0, 100);
        assert_eq!(count(&mut counter, 150, 100), (15_000, 0), "five intervals");
        assert_eq!(count(&mut counter, 301, 100), (15_000, 0), "more than five");
        counter.count(Uptime(330_000), None, 30_000);
        assert_eq!(count(&mut counter, 361, 100), (21_000, 0), "one read without power");
        let fast = counter.count(Uptime(391_000), Some(Milliwatts(100_000)), 500);
        assert_eq!(fast.charged.0 / 1_000_000, 24_000, "grace period");
        assert_eq!(count(&mut counter, 380, 100), (24_000, 0), "clock goes back");
    }

    fn reads() -> impl Strategy<Value = Vec<(u64, Option<i64>)>> {
        let power =
            prop::option::weighted(0.9, prop_oneof![-20_000_000i64..20_000_000, any::<i64>()]);
        prop::collection::vec((0u64..400_000, power), 0..50)
    }

    proptest! {
        #[test]
        fn totals_never_decrease(reads in reads(), interval in 1u64..4_000_000) {
            let (mut counter, mut at, mut last) = (EnergyCounter::default(), 0, EnergyTotals::default());
            for (elapsed, power) in reads {
                at += elapsed;
                let now = counter.count(Uptime(at), power.map(Milliwatts), interval);
                prop_assert_eq!(now.max(last), now);
                last = now;
            }
        }

        #[test]
        fn net_energy_is_the_trapezoid(first in -20_000_000i64..20_000_000, second in -20_000_000i64..20_000_000, elapsed in 0u64..150_000) {
            let totals = integrate(Milliwatts(first), Milliwatts(second), elapsed);
            let net = i128::from(totals.charged.0) - i128::from(totals.discharged.0);
            let exact = i128::from(first + second) * i128::from(elapsed) / 2;
            prop_assert!((net - exact).abs() <= 1, "{} and {}", net, exact);
        }
    }
}
