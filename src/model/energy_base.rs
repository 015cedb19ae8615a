//! What the energy counters of a battery start from: the totals of earlier runs.

use super::energy::{self, Energy, EnergyTotals};
use super::reading::Reading;

#[derive(Debug, Clone, Default)]
pub struct EnergyBase {
    /// Energy of earlier runs of the program; `None` until it is known.
    pub before_start: Option<EnergyTotals>,
    /// Where it is from; `None` until totals were found.
    source: Option<EnergySource>,
    /// Energy since the start that does not count, because the user has set lower totals.
    discount: EnergyTotals,
    /// Totals of the broker of which this battery cannot have reached one.
    pub refused: Option<EnergyTotals>,
}

/// Where the energy totals of an earlier run are from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnergySource {
    /// The history file, which only this program writes.
    File,
    /// The broker, where others may publish.
    Broker,
}

/// The result of [`DeviceState::restore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restored {
    /// The counters continue from these totals.
    Resumed(EnergyTotals),
    /// No totals of earlier runs exist.
    Zero,
    /// Another source has already restored the totals.
    AlreadyKnown,
    /// The battery cannot have reached these totals.
    Refused(EnergyTotals),
}

impl EnergyBase {
    /// Takes the totals of an earlier run; `None` when a source has been searched and has none.
    ///
    /// The first totals are added to what has been counted since the start. Those of later sources
    /// can only raise the sum to their own value, so that the same past is not counted twice and no
    /// total ever decreases. Against the file, the broker counts for no more than what may have been
    /// counted after the last write. Of two totals, an impossible one does not concern the other.
    pub fn restore(
        &mut self,
        found: Option<EnergyTotals>,
        source: EnergySource,
        since_start: EnergyTotals,
        last: Option<&Reading>,
    ) -> Restored {
        let known = self.before_start;
        let before = known.unwrap_or_default();
        let Some(found) = found else {
            self.before_start = Some(before);
            return if known.is_some() { Restored::AlreadyKnown } else { Restored::Zero };
        };
        let earlier = if known.is_some() { found.saturating_sub(since_start) } else { found };
        let mut raised = before.max(earlier);
        if self.source == Some(EnergySource::File) && source == EnergySource::Broker {
            let limit = last.and_then(energy::of_one_cycle).unwrap_or(energy::UNKNOWN_CYCLE);
            let added = raised.saturating_sub(before);
            if added.exceeds(limit) {
                self.refused = Some(found);
            }
            raised = before + added.where_at_most(limit);
        }
        self.before_start = Some(raised);
        self.source = self.source.or(Some(source));
        if let Some(reading) = last {
            self.check(reading);
        }
        match self.refused {
            Some(refused) => Restored::Refused(refused),
            None if known.is_some() => Restored::AlreadyKnown,
            None => Restored::Resumed(found),
        }
    }

    /// Sets the totals. `None` keeps one.
    pub fn set(
        &mut self,
        charged: Option<Energy>,
        discharged: Option<Energy>,
        since_start: EnergyTotals,
    ) {
        let present = self.totals(since_start).unwrap_or(since_start);
        let totals = EnergyTotals {
            charged: charged.unwrap_or(present.charged),
            discharged: discharged.unwrap_or(present.discharged),
        };
        self.before_start = Some(totals.saturating_sub(since_start));
        self.discount = since_start.saturating_sub(totals);
        // The user knows better than a source and than any estimate.
        self.source = Some(EnergySource::File);
        self.refused = None;
    }

    /// The totals, when the energy of earlier runs is known.
    pub fn totals(&self, since_start: EnergyTotals) -> Option<EnergyTotals> {
        Some((self.before_start? + since_start).saturating_sub(self.discount))
    }

    /// Drops totals of the broker that are more than a battery of this size can reach.
    pub fn check(&mut self, reading: &Reading) {
        let (Some(EnergySource::Broker), Some(before), Some(limit)) =
            (self.source, self.before_start, energy::of_a_lifetime(reading))
        else {
            return;
        };
        if before.exceeds(limit) {
            self.refused = Some(before);
            self.before_start = Some(before.where_at_most(limit));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::derived::Derived;
    use crate::model::device_state::DeviceState;
    use crate::model::profile::Profile;
    use crate::model::units::{MilliampHours, Millis, Millivolts, Uptime};

    fn totals(charged: u64, discharged: u64) -> EnergyTotals {
        EnergyTotals { charged: Energy(charged), discharged: Energy(discharged) }
    }

    fn read(state: &mut DeviceState, energy_since_start: EnergyTotals) -> Option<EnergyTotals> {
        let derived = Derived { energy_since_start, ..Derived::default() };
        state.accept((Millis(1), Uptime(0)), 1, Reading::default(), derived);
        state.snapshot.as_ref()?.derived.energy
    }

    #[test]
    fn earlier_energy_is_added_once() {
        let mut state = DeviceState::new(Profile::sample("b"));
        assert_eq!(read(&mut state, totals(3, 1)), None, "not restored yet");
        assert_eq!(
            state.restore(Some(totals(100, 50)), EnergySource::Broker),
            Restored::Resumed(totals(100, 50))
        );
        let energy = |state: &DeviceState| state.snapshot.as_ref().unwrap().derived.energy;
        assert_eq!(energy(&state), Some(totals(103, 51)), "added to the last reading");
        assert_eq!(read(&mut state, totals(7, 1)), Some(totals(107, 51)));
        // The published total, read back from the broker after a reconnect.
        assert_eq!(
            state.restore(Some(totals(107, 51)), EnergySource::Broker),
            Restored::AlreadyKnown
        );
        assert_eq!(energy(&state), Some(totals(107, 51)));
        // A second source with a larger total of the same past.
        assert_eq!(
            state.restore(Some(totals(110, 20)), EnergySource::Broker),
            Restored::AlreadyKnown
        );
        assert_eq!(energy(&state), Some(totals(110, 51)));
        assert_eq!(state.restore(None, EnergySource::Broker), Restored::AlreadyKnown);
        assert_eq!(energy(&state), Some(totals(110, 51)));
    }

    #[test]
    fn energy_starts_at_zero_without_earlier_totals() {
        let mut state = DeviceState::new(Profile::sample("b"));
        assert_eq!(state.restore(None, EnergySource::Broker), Restored::Zero);
        assert_eq!(read(&mut state, totals(3, 1)), Some(totals(3, 1)));
    }

    const KWH: u64 = 3_600_000_000_000;

    /// A battery of 5 kWh.
    fn read_five_kwh(state: &mut DeviceState) -> Option<EnergyTotals> {
        let mut reading = Reading::default();
        reading.pack.voltage = Some(Millivolts(50_000));
        reading.pack.full = Some(MilliampHours(100_000));
        state.accept((Millis(1), Uptime(1)), 1, reading, Derived::default());
        state.snapshot.as_ref()?.derived.energy
    }

    #[test]
    fn totals_of_the_broker_beyond_a_lifetime_are_refused() {
        let (possible, impossible) = (totals(99_999 * KWH, KWH), totals(999_999 * KWH, KWH));
        for read_first in [false, true] {
            let mut state = DeviceState::new(Profile::sample("b"));
            if read_first {
                read_five_kwh(&mut state);
                let restored = state.restore(Some(impossible), EnergySource::Broker);
                assert_eq!(restored, Restored::Refused(impossible));
            } else {
                state.restore(Some(impossible), EnergySource::Broker);
            }
            assert_eq!(read_five_kwh(&mut state), Some(totals(0, KWH)));
            assert_eq!(state.energy.refused, Some(impossible));
            let mut state = DeviceState::new(Profile::sample("b"));
            state.restore(Some(possible), EnergySource::Broker);
            assert_eq!(read_five_kwh(&mut state), Some(possible));
        }
    }

    #[test]
    fn file_beats_broker_except_for_the_last_cycle() {
        let mut state = DeviceState::new(Profile::sample("b"));
        read_five_kwh(&mut state);
        let kept = totals(100 * KWH, 90 * KWH);
        assert_eq!(state.restore(Some(kept), EnergySource::File), Restored::Resumed(kept));
        let jump = totals(106 * KWH, 90 * KWH);
        assert_eq!(state.restore(Some(jump), EnergySource::Broker), Restored::Refused(jump));
        assert_eq!(read_five_kwh(&mut state), Some(kept));
        let mut state = DeviceState::new(Profile::sample("b"));
        read_five_kwh(&mut state);
        state.restore(Some(kept), EnergySource::File);
        let later = totals(104 * KWH, 80 * KWH);
        assert_eq!(state.restore(Some(later), EnergySource::Broker), Restored::AlreadyKnown);
        assert_eq!(read_five_kwh(&mut state), Some(totals(104 * KWH, 90 * KWH)));
    }

    #[test]
    fn impossible_total_does_not_concern_the_other() {
        let (kept, mixed) = (totals(100 * KWH, 90 * KWH), totals(999_999 * KWH, 91 * KWH));
        let mut state = DeviceState::new(Profile::sample("b"));
        read_five_kwh(&mut state);
        state.restore(Some(mixed), EnergySource::Broker);
        assert_eq!(read_five_kwh(&mut state), Some(totals(0, 91 * KWH)));
        let mut state = DeviceState::new(Profile::sample("b"));
        read_five_kwh(&mut state);
        state.restore(Some(kept), EnergySource::File);
        assert_eq!(state.restore(Some(mixed), EnergySource::Broker), Restored::Refused(mixed));
        assert_eq!(read_five_kwh(&mut state), Some(totals(100 * KWH, 91 * KWH)));
    }

    #[test]
    fn counters_can_be_set_to_any_total() {
        let mut state = DeviceState::new(Profile::sample("b"));
        state.restore(Some(totals(100, 50)), EnergySource::Broker);
        read(&mut state, totals(7, 9));
        state.set_energy(Some(Energy(0)), None);
        let energy = state.snapshot.as_ref().and_then(|snapshot| snapshot.derived.energy);
        assert_eq!(energy, Some(totals(0, 59)));
        assert_eq!(read(&mut state, totals(10, 10)), Some(totals(3, 60)));
        state.set_energy(Some(Energy(1000)), Some(Energy(5)));
        assert_eq!(read(&mut state, totals(11, 12)), Some(totals(1001, 7)));
    }

    proptest! {
        #[test]
        fn restored_totals_never_decrease(found in prop::collection::vec(prop::option::of((0u64..1000, 0u64..1000)), 1..9)) {
            let mut state = DeviceState::new(Profile::sample("b"));
            let mut last = EnergyTotals::default();
            for (step, found) in (0u64..).zip(found) {
                let found = found.map(|(charged, discharged)| totals(charged, discharged));
                state.restore(found, EnergySource::Broker);
                let now = read(&mut state, totals(step, 2 * step)).expect("known");
                prop_assert_eq!(now.max(last), now);
                last = now;
            }
        }
    }
}
