//! A reading with everything that sinks need to know about it, and the state of its battery.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::bank::BankSummary;
use super::energy::EnergyTotals;
use super::fault::{Fault, FaultKind};
use super::forecast::TimeEstimates;
use super::profile::{DeviceId, Profile};
use super::reading::Reading;
use super::thresholds::{Threshold, ThresholdStatus};
use super::units::{DeciCelsius, Milliamps, Millis, Millivolts, Milliwatts};

/// One good read of one battery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Whose.
    pub device: DeviceId,
    /// Counts good reads; starts at 1.
    pub sequence: u64,
    /// When the read ended.
    pub taken: Millis,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// What the battery said.
    pub reading: Reading,
    /// What follows from it.
    pub derived: Derived,
}

/// What follows from a reading (see `derive`) and from those before it (see `past`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Derived {
    /// Signed like the current.
    pub power: Option<Milliwatts>,
    /// Number (from 1) and voltage of the lowest cell.
    pub lowest_cell: Option<(usize, Millivolts)>,
    /// Number (from 1) and voltage of the highest cell.
    pub highest_cell: Option<(usize, Millivolts)>,
    /// Lowest cell sensor.
    pub min_temp: Option<DeciCelsius>,
    /// Highest cell sensor.
    pub max_temp: Option<DeciCelsius>,
    /// The battery's own mean, or the mean of the cell sensors.
    pub avg_temp: Option<DeciCelsius>,
    /// The battery's own word, or the sign of the current.
    pub activity: Option<Activity>,
    /// Any alarm is active; `None` when the brand reports none at all and no limit is watched.
    pub problem: Option<bool>,
    /// Lowest and highest cell voltage of each module of a stack.
    pub modules: Vec<Option<(Millivolts, Millivolts)>>,
    /// How it stands to the limits of ours.
    pub thresholds: BTreeMap<Threshold, ThresholdStatus>,
    /// Energy that was counted since the program started.
    pub energy_since_start: EnergyTotals,
    /// Energy that was counted altogether; `None` until it is known what was counted before.
    pub energy: Option<EnergyTotals>,
    /// How long it will last.
    pub times: TimeEstimates,
    /// What only a bank has.
    pub bank: Option<Box<BankSummary>>,
}

/// The `status` key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Current flows in.
    Charging,
    /// Current flows out.
    Discharging,
    /// No current.
    Idle,
}

impl Activity {
    /// Every state, for Home Assistant's list of options.
    pub const ALL: &[Activity] = &[Activity::Charging, Activity::Discharging, Activity::Idle];

    /// What a current of this sign does.
    pub fn of(current: Milliamps) -> Self {
        match current.0 {
            0 => Activity::Idle,
            1.. => Activity::Charging,
            _ => Activity::Discharging,
        }
    }

    /// The word of the contract.
    pub fn name(self) -> &'static str {
        match self {
            Activity::Charging => "charging",
            Activity::Discharging => "discharging",
            Activity::Idle => "idle",
        }
    }
}

/// Everything that sinks know about one battery. Each attempt, good or bad, is one new state.
#[derive(Debug, Clone)]
pub struct DeviceState {
    /// Name and place; changes by `cmd/config`, and when it is found out what and where it is.
    pub profile: Arc<Profile>,
    /// Whether it answers.
    pub link: LinkState,
    /// It is left alone on request.
    pub paused: bool,
    /// The last good read, with its own time.
    pub snapshot: Option<Arc<Snapshot>>,
    /// The last attempt; `None` before the first one ended.
    pub attempt: Option<Attempt>,
    /// Strength of its Bluetooth signal in dBm, when it was last heard.
    pub rssi: Option<i16>,
    /// What happened so far.
    pub counters: Counters,
    /// Energy that was counted before the program started; `None` until somebody knows.
    pub energy_before_start: Option<EnergyTotals>,
}

/// What became of the energy counters of an earlier run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restored {
    /// They go on from there.
    Resumed(EnergyTotals),
    /// Nobody has kept them: they start at zero.
    Zero,
    /// They were known already.
    AlreadyKnown,
}

impl DeviceState {
    /// A battery that was not asked yet.
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

    /// Books an attempt, and counts its fault where it has one.
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

    /// It counts as offline; since when is kept where it did before.
    pub fn mark_offline(&mut self, now: Millis) {
        if !matches!(self.link, LinkState::Offline { .. }) {
            self.link = LinkState::Offline { since: now };
        }
    }

    /// Takes over a good read.
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

    /// Takes over the energy counters of an earlier run, from whoever has kept them; `None` says
    /// that somebody looked and found nothing.
    ///
    /// What was found is added to what has been counted since the start. Whoever comes later can
    /// only raise the totals to what it has found, so that the same past, kept twice, is not
    /// counted twice, and no total ever falls.
    pub fn restore(&mut self, found: Option<EnergyTotals>) -> Restored {
        let counted = self
            .snapshot
            .as_ref()
            .map_or(EnergyTotals::default(), |it| it.derived.energy_since_start);
        let restored = match (self.energy_before_start, found) {
            (None, Some(found)) => {
                self.energy_before_start = Some(found);
                Restored::Resumed(found)
            }
            (None, None) => {
                self.energy_before_start = Some(EnergyTotals::default());
                Restored::Zero
            }
            (Some(before), Some(found)) => {
                self.energy_before_start = Some(before.max(found.beyond(counted)));
                Restored::AlreadyKnown
            }
            (Some(_), None) => Restored::AlreadyKnown,
        };
        if let Some(snapshot) = &mut self.snapshot {
            Arc::make_mut(snapshot).derived.energy =
                self.energy_before_start.map(|before| before + counted);
        }
        restored
    }
}

/// Whether a battery answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// Not heard of since the start.
    Connecting,
    /// Its last good read is recent.
    Online,
    /// It failed to answer for too long.
    Offline {
        /// When that was decided.
        since: Millis,
    },
}

impl LinkState {
    /// Failed reads in a row until a battery is offline.
    pub const FAILURES: u32 = 3;
    /// A battery that answered so recently is never offline: on a slow bus the reads of a fast
    /// battery come late.
    pub const GRACE: Duration = Duration::from_secs(30);

    /// How long a reading holds without another one, where one comes at this interval.
    pub fn patience(interval: Duration) -> Duration {
        interval.saturating_mul(Self::FAILURES).max(Self::GRACE)
    }
}

/// One try at a read, however it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Counts attempts; starts at 1.
    pub number: u64,
    /// When it ended.
    pub ended: Millis,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// The port was open or the link up.
    pub connected: bool,
    /// `None`: it was good.
    pub fault: Option<Fault>,
}

/// What happened since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Good reads.
    pub reads: u64,
    /// Failed reads.
    pub errors: u64,
    /// Those of them that brought a reading that no battery gives.
    pub rejected: u64,
    /// Failed reads since the last good one.
    pub consecutive_errors: u32,
    /// TimeEstimates the link was opened again.
    pub reconnects: u64,
    /// Failed reads by kind, in the order of [`FaultKind::ALL`].
    pub faults_by_kind: [u64; FaultKind::ALL.len()],
}

impl Counters {
    /// Counts a failed read.
    pub fn count_fault(&mut self, kind: FaultKind) {
        self.errors += 1;
        self.consecutive_errors = self.consecutive_errors.saturating_add(1);
        if let Some(count) = self.faults_by_kind.get_mut(kind as usize) {
            *count += 1;
        }
    }

    /// Failed reads of each kind that happened.
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
    fn every_kind_of_fault_has_a_count_of_its_own() {
        let mut counters = Counters::default();
        for (number, kind) in FaultKind::ALL.iter().enumerate() {
            (0..=number).for_each(|_| counters.count_fault(*kind));
        }
        let expected = FaultKind::ALL.iter().copied().zip(1..);
        assert_eq!(counters.faults().collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        let most = u64::try_from(FaultKind::ALL.len()).unwrap();
        assert_eq!(counters.errors, most * (most + 1) / 2);
    }

    #[test]
    fn every_attempt_is_one_more_and_its_fault_is_counted() {
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
    fn what_was_counted_before_is_added_once() {
        let mut state = DeviceState::new(Profile::sample("b"));
        assert_eq!(read(&mut state, totals(3, 1)), None, "nobody knows yet");
        assert_eq!(state.restore(Some(totals(100, 50))), Restored::Resumed(totals(100, 50)));
        let energy = |state: &DeviceState| state.snapshot.as_ref().unwrap().derived.energy;
        assert_eq!(energy(&state), Some(totals(103, 51)), "the present read knows it at once");
        assert_eq!(read(&mut state, totals(7, 1)), Some(totals(107, 51)));
        // Our own value, read back from the broker after the sink was started again.
        assert_eq!(state.restore(Some(totals(107, 51))), Restored::AlreadyKnown);
        assert_eq!(energy(&state), Some(totals(107, 51)));
        // A second keeper that knows more of the same past.
        assert_eq!(state.restore(Some(totals(110, 20))), Restored::AlreadyKnown);
        assert_eq!(energy(&state), Some(totals(110, 51)));
        assert_eq!(state.restore(None), Restored::AlreadyKnown);
        assert_eq!(energy(&state), Some(totals(110, 51)));
    }

    #[test]
    fn without_a_keeper_it_starts_at_zero() {
        let mut state = DeviceState::new(Profile::sample("b"));
        assert_eq!(state.restore(None), Restored::Zero);
        assert_eq!(read(&mut state, totals(3, 1)), Some(totals(3, 1)));
    }

    proptest! {
        #[test]
        fn no_keeper_makes_a_total_fall(found in prop::collection::vec(prop::option::of((0u64..1000, 0u64..1000)), 1..9)) {
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
