//! The energy of one battery by local day.

use std::time::Duration;

use crate::model::units::millis;
use crate::model::{EnergyTotals, Millis, TimeZone};

/// Six years. A day takes 24 bytes of memory.
pub(super) const MAX_DAYS: u16 = 2200;

const DAY: Duration = Duration::from_secs(86_400);

/// What was counted in a day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Day {
    /// Days since 1970-01-01 in local time.
    pub number: u32,
    pub energy: EnergyTotals,
}

/// Days in their order.
#[derive(Debug, Clone, Default)]
pub(super) struct EnergyDays {
    /// Time and totals of the last reading.
    last: Option<(Millis, EnergyTotals)>,
    pub(super) days: Vec<Day>,
    /// What was counted since the last call of `take_unwritten`.
    unwritten: Vec<Day>,
}

impl EnergyDays {
    /// Counts what was added to `since_start`, the totals since the start of the program, after the last reading.
    ///
    /// The totals are counted with a clock that is never set, so a jump of the time of day moves energy to another
    /// day at most, and none is lost or counted twice.
    pub(super) fn count(&mut self, zone: &TimeZone, time: Millis, since_start: EnergyTotals) {
        let last = self.last.replace((time, since_start));
        let (before, totals) = last.unwrap_or((time, EnergyTotals::default()));
        // Lower totals are those of another run.
        let continues = since_start.max(totals) == since_start;
        let counted = if continues { since_start.saturating_sub(totals) } else { since_start };
        if counted == EnergyTotals::default() {
            return;
        }
        let (number, midnight) = zone.day(time);
        let (elapsed, today) = (time.since(before), time.since(midnight));
        // A rarely read battery has a part of its energy from the day before.
        let part = match today < elapsed && elapsed < millis(DAY) {
            true => counted.share(today, elapsed),
            false => counted,
        };
        let rest = counted.saturating_sub(part);
        for (number, energy) in [(number.saturating_sub(1), rest), (number, part)] {
            if energy != EnergyTotals::default() {
                let day = Day { number, energy };
                self.restore(day);
                add(&mut self.unwritten, day);
            }
        }
    }

    /// Adds what was counted in an earlier run.
    pub(super) fn restore(&mut self, day: Day) {
        add(&mut self.days, day);
        if self.days.len() > usize::from(MAX_DAYS) {
            self.days.remove(0);
        }
    }

    /// Whole milliwatt-hours, which is what the file stores; the rest stays.
    pub(super) fn take_unwritten(&mut self) -> Vec<Day> {
        let newest = self.days.last().map(|day| day.number);
        let mut taken = Vec::new();
        for day in &mut self.unwritten {
            let energy = day.energy.whole_milliwatt_hours();
            day.energy = day.energy.saturating_sub(energy);
            taken.push(Day { energy, ..*day });
        }
        self.unwritten.retain(|day| Some(day.number) == newest);
        taken.retain(|day| day.energy != EnergyTotals::default());
        taken
    }
}

/// Adds the energy to the day in the list.
pub(super) fn add(days: &mut Vec<Day>, day: Day) {
    match days.binary_search_by_key(&day.number, |known| known.number) {
        Ok(index) => days[index].energy = days[index].energy + day.energy,
        Err(index) => days.insert(index, day),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Energy;

    fn totals(charged: u64, discharged: u64) -> EnergyTotals {
        EnergyTotals { charged: Energy(charged), discharged: Energy(discharged) }
    }

    fn day(number: u32, charged: u64, discharged: u64) -> Day {
        Day { number, energy: totals(charged, discharged) }
    }

    /// Counts at this hour after 1970-01-01, in UTC.
    fn count(days: &mut EnergyDays, hour: u64, charged: u64, discharged: u64) {
        let zone = TimeZone::default();
        days.count(&zone, Millis(hour * 3_600_000), totals(charged, discharged));
    }

    #[test]
    fn energy_across_midnight_is_divided() {
        let mut days = EnergyDays::default();
        count(&mut days, 10, 100, 7);
        assert_eq!(days.days, [day(0, 100, 7)], "since the start of the program");
        count(&mut days, 22, 100, 7);
        count(&mut days, 25, 130, 10);
        assert_eq!(days.days, [day(0, 120, 9), day(1, 10, 1)]);
    }

    #[test]
    fn lower_totals_are_those_of_another_run() {
        let mut days = EnergyDays::default();
        for (hour, charged, discharged) in [(1, 100, 7), (2, 100, 9), (3, 40, 9), (4, 50, 12)] {
            count(&mut days, hour, charged, discharged);
        }
        assert_eq!(days.days, [day(0, 150, 9 + 9 + 3)]);
    }

    #[test]
    fn jump_of_the_clock_neither_loses_nor_duplicates_energy() {
        let mut days = EnergyDays::default();
        for (hour, charged) in [(50, 10), (51, 20), (87_600, 30), (52, 40), (1, 50), (53, 60)] {
            count(&mut days, hour, charged, 0);
        }
        assert_eq!(days.days, [day(0, 10, 0), day(2, 40, 0), day(3650, 10, 0)]);
    }

    #[test]
    fn number_of_days_is_limited() {
        let mut days = EnergyDays::default();
        (0..u32::from(MAX_DAYS) + 5).for_each(|number| days.restore(day(number, 1, 1)));
        assert_eq!((days.days.len(), days.days[0].number), (MAX_DAYS.into(), 5));
    }

    #[test]
    fn fractions_are_written_with_the_next_milliwatt_hour() {
        let mut days = EnergyDays::default();
        let mwh = 3_600_000;
        count(&mut days, 1, mwh + mwh / 2, mwh - 1);
        assert_eq!(days.take_unwritten(), [day(0, mwh, 0)]);
        count(&mut days, 2, 2 * mwh, mwh);
        assert_eq!(days.take_unwritten(), [day(0, mwh, mwh)]);
        assert_eq!(days.take_unwritten(), []);
        assert_eq!(days.days, [day(0, 2 * mwh, mwh)]);
    }
}
