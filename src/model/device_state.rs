//! The state of one battery as the sinks see it.

use std::sync::Arc;

use super::derived::Derived;
use super::energy::EnergyTotals;
use super::fault::{Fault, FaultKind};
use super::profile::Profile;
use super::reading::Reading;
use super::snapshot::Snapshot;
use super::units::Millis;

/// Every attempt, good or bad, is one change of this state.
#[derive(Debug, Clone)]
pub struct DeviceState {
    /// Changed by `cmd/config` and by the detection of the battery.
    pub profile: Arc<Profile>,
    pub link: LinkState,
    /// Not read, on request.
    pub paused: bool,
    /// The last good read.
    pub snapshot: Option<Arc<Snapshot>>,
    /// `None` until the first attempt has ended.
    pub attempt: Option<Attempt>,
    /// Bluetooth signal strength in dBm.
    pub rssi: Option<i16>,
    pub counters: Counters,
    /// Energy of earlier runs of the program; `None` until it is known.
    pub energy_before_start: Option<EnergyTotals>,
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
}

impl DeviceState {
    pub fn new(profile: Profile) -> Self {
        DeviceState {
            profile: Arc::new(profile),
            link: LinkState::Connecting,
            paused: false,
            snapshot: None,
            attempt: None,
            rssi: None,
            counters: Counters::default(),
            energy_before_start: None,
        }
    }

    /// Records an attempt and counts its fault.
    pub fn record_attempt(
        &mut self,
        ended: Millis,
        took_ms: u64,
        connected: bool,
        fault: Option<Fault>,
    ) {
        let number = self.attempt.as_ref().map_or(0, |attempt| attempt.number) + 1;
        match &fault {
            Some(fault) => self.counters.count_fault(fault.kind),
            None => self.counters.consecutive_errors = 0,
        }
        self.attempt = Some(Attempt { number, ended, took_ms, connected, fault });
    }

    /// A battery that is already offline keeps its time.
    pub fn mark_offline(&mut self, now: Millis) {
        if !matches!(self.link, LinkState::Offline { .. }) {
            self.link = LinkState::Offline { since: now };
        }
    }

    /// Stores a good read.
    pub fn accept(&mut self, taken: Millis, took_ms: u64, reading: Reading, derived: Derived) {
        self.counters.reads += 1;
        self.link = LinkState::Online;
        let energy = self.energy_before_start.map(|before| before + derived.energy_since_start);
        self.snapshot = Some(Arc::new(Snapshot {
            device: self.profile.id.clone(),
            sequence: self.counters.reads,
            taken,
            took_ms,
            reading,
            derived: Derived { energy, ..derived },
        }));
    }

    /// Takes the energy totals of an earlier run; `None` when a source has been searched and has
    /// none.
    ///
    /// The first totals are added to what has been counted since the start. Those of later sources
    /// can only raise the sum to their own value, so that the same past is not counted twice and no
    /// total ever decreases.
    pub fn restore(&mut self, found: Option<EnergyTotals>) -> Restored {
        let since_start = self
            .snapshot
            .as_ref()
            .map_or(EnergyTotals::default(), |snapshot| snapshot.derived.energy_since_start);
        let found_or_zero = found.unwrap_or_default();
        let (before, restored) = match self.energy_before_start {
            Some(before) => {
                (before.max(found_or_zero.saturating_sub(since_start)), Restored::AlreadyKnown)
            }
            None => (found_or_zero, found.map_or(Restored::Zero, Restored::Resumed)),
        };
        self.energy_before_start = Some(before);
        if let Some(snapshot) = &mut self.snapshot {
            Arc::make_mut(snapshot).derived.energy = Some(before + since_start);
        }
        restored
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// No good read since the start.
    Connecting,
    Online,
    Offline {
        since: Millis,
    },
}

/// One attempt to read the battery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// From 1.
    pub number: u64,
    pub ended: Millis,
    pub took_ms: u64,
    /// The port was open, or the Bluetooth connection was established.
    pub connected: bool,
    /// `None` for a good read.
    pub fault: Option<Fault>,
}

/// Counts since the start of the program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    pub reads: u64,
    pub errors: u64,
    /// Failed reads because of an implausible reading.
    pub rejected: u64,
    /// Failed reads since the last good one.
    pub consecutive_errors: u32,
    pub reconnects: u64,
    /// Failed reads in the order of [`FaultKind::ALL`].
    pub faults_by_kind: [u64; FaultKind::ALL.len()],
}

impl Counters {
    pub fn count_fault(&mut self, kind: FaultKind) {
        self.errors += 1;
        self.consecutive_errors = self.consecutive_errors.saturating_add(1);
        if let Some(count) = self.faults_by_kind.get_mut(kind as usize) {
            *count += 1;
        }
    }

    /// Without the kinds that never occurred.
    pub fn faults(&self) -> impl Iterator<Item = (FaultKind, u64)> {
        let kinds = FaultKind::ALL.iter().copied().zip(self.faults_by_kind);
        kinds.filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::energy::Energy;

    fn totals(charged: u64, discharged: u64) -> EnergyTotals {
        EnergyTotals { charged: Energy(charged), discharged: Energy(discharged) }
    }

    fn read(state: &mut DeviceState, energy_since_start: EnergyTotals) -> Option<EnergyTotals> {
        let derived = Derived { energy_since_start, ..Derived::default() };
        state.accept(Millis(1), 1, Reading::default(), derived);
        state.snapshot.as_ref()?.derived.energy
    }

    #[test]
    fn faults_are_counted_by_kind() {
        let mut counters = Counters::default();
        for (number, kind) in FaultKind::ALL.iter().enumerate() {
            (0..=number).for_each(|_| counters.count_fault(*kind));
        }
        let expected = FaultKind::ALL.iter().copied().zip(1..);
        assert_eq!(counters.faults().collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        let kinds = u64::try_from(FaultKind::ALL.len()).unwrap();
        assert_eq!(counters.errors, kinds * (kinds + 1) / 2);
    }

    #[test]
    fn attempts_are_numbered_and_their_faults_counted() {
        let mut state = DeviceState::new(Profile::sample("b"));
        let fault = Fault::new(FaultKind::Timeout, "no answer", "look at the cable");
        for (fault, in_a_row) in [(None, 0), (Some(&fault), 1), (Some(&fault), 2), (None, 0)] {
            state.record_attempt(Millis(7), 5, true, fault.cloned());
            assert_eq!(state.counters.consecutive_errors, in_a_row);
        }
        assert_eq!(state.counters.errors, 2);
        assert_eq!(state.counters.faults().collect::<Vec<_>>(), [(FaultKind::Timeout, 2)]);
        assert_eq!(state.attempt.map(|attempt| (attempt.number, attempt.fault)), Some((4, None)));
    }

    #[test]
    fn earlier_energy_is_added_once() {
        let mut state = DeviceState::new(Profile::sample("b"));
        assert_eq!(read(&mut state, totals(3, 1)), None, "not restored yet");
        assert_eq!(state.restore(Some(totals(100, 50))), Restored::Resumed(totals(100, 50)));
        let energy = |state: &DeviceState| state.snapshot.as_ref().unwrap().derived.energy;
        assert_eq!(energy(&state), Some(totals(103, 51)), "added to the last reading");
        assert_eq!(read(&mut state, totals(7, 1)), Some(totals(107, 51)));
        // The published total, read back from the broker after a reconnect.
        assert_eq!(state.restore(Some(totals(107, 51))), Restored::AlreadyKnown);
        assert_eq!(energy(&state), Some(totals(107, 51)));
        // A second source with a larger total of the same past.
        assert_eq!(state.restore(Some(totals(110, 20))), Restored::AlreadyKnown);
        assert_eq!(energy(&state), Some(totals(110, 51)));
        assert_eq!(state.restore(None), Restored::AlreadyKnown);
        assert_eq!(energy(&state), Some(totals(110, 51)));
    }

    #[test]
    fn energy_starts_at_zero_without_earlier_totals() {
        let mut state = DeviceState::new(Profile::sample("b"));
        assert_eq!(state.restore(None), Restored::Zero);
        assert_eq!(read(&mut state, totals(3, 1)), Some(totals(3, 1)));
    }

    proptest! {
        #[test]
        fn restored_totals_never_decrease(found in prop::collection::vec(prop::option::of((0u64..1000, 0u64..1000)), 1..9)) {
            let mut state = DeviceState::new(Profile::sample("b"));
            let mut last = EnergyTotals::default();
            for (step, found) in (0u64..).zip(found) {
                state.restore(found.map(|(charged, discharged)| totals(charged, discharged)));
                let now = read(&mut state, totals(step, 2 * step)).expect("known");
                prop_assert_eq!(now.max(last), now);
                last = now;
            }
        }
    }
}
