//! The state of one battery as the sinks see it.

use std::sync::Arc;
use std::time::Duration;

use super::derived::Derived;
use super::energy::{self, Energy, EnergyTotals};
use super::fault::{Fault, FaultKind};
use super::profile::Profile;
use super::reading::Reading;
use super::snapshot::Snapshot;
use super::staleness;
use super::units::{Millis, Uptime};

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
    /// When it ended, on the boot-time clock. Of a bank: when that of its oldest member ended.
    pub read_at: Option<Uptime>,
    /// `None` until the first attempt has ended.
    pub attempt: Option<Attempt>,
    /// Bluetooth signal strength in dBm.
    pub rssi: Option<i16>,
    pub counters: Counters,
    /// Energy of earlier runs of the program; `None` until it is known.
    pub energy_before_start: Option<EnergyTotals>,
    /// Where it is from; `None` until totals were found.
    energy_source: Option<EnergySource>,
    /// Energy since the start that does not count, because the user has set lower totals.
    energy_discount: EnergyTotals,
    /// Totals of the broker that this battery cannot have reached.
    pub energy_refused: Option<EnergyTotals>,
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

impl DeviceState {
    pub fn new(profile: Profile) -> Self {
        DeviceState {
            profile: Arc::new(profile),
            link: LinkState::Connecting,
            paused: false,
            snapshot: None,
            read_at: None,
            attempt: None,
            rssi: None,
            counters: Counters::default(),
            energy_before_start: None,
            energy_source: None,
            energy_discount: EnergyTotals::default(),
            energy_refused: None,
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

    /// Whether the last good read is too old to pass for the present state.
    pub fn is_stale(&self, now: Uptime) -> bool {
        let interval = Duration::from_millis(self.profile.interval_ms);
        self.read_at.is_some_and(|read_at| staleness::is_stale(read_at, now, interval))
    }

    /// Stores a good read that ended at `read_at`.
    pub fn accept(
        &mut self,
        (taken, read_at): (Millis, Uptime),
        took_ms: u64,
        reading: Reading,
        derived: Derived,
    ) {
        self.read_at = Some(read_at);
        self.counters.reads += 1;
        self.link = LinkState::Online;
        self.check_energy(&reading);
        let energy = self.energy(derived.energy_since_start);
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
    /// total ever decreases. Against the file, the broker counts for no more than what may have been
    /// counted after the last write.
    pub fn restore(&mut self, found: Option<EnergyTotals>, source: EnergySource) -> Restored {
        let since_start = self.energy_since_start();
        let Some(before) = self.energy_before_start else {
            self.energy_before_start = Some(found.unwrap_or_default());
            self.energy_source = found.map(|_| source);
            self.refresh_energy();
            return match (self.energy_refused, found) {
                (Some(refused), _) => Restored::Refused(refused),
                (None, Some(found)) => Restored::Resumed(found),
                (None, None) => Restored::Zero,
            };
        };
        let Some(found) = found else { return Restored::AlreadyKnown };
        let raised = before.max(found.saturating_sub(since_start));
        let from_file = self.energy_source == Some(EnergySource::File);
        if from_file && source == EnergySource::Broker {
            let reading = self.snapshot.as_ref().map(|snapshot| &snapshot.reading);
            let limit = reading.and_then(energy::of_one_cycle).unwrap_or(energy::UNKNOWN_CYCLE);
            if raised.saturating_sub(before).exceeds(limit) {
                self.energy_refused = Some(found);
                return Restored::Refused(found);
            }
        }
        self.energy_before_start = Some(raised);
        self.energy_source = self.energy_source.or(Some(source));
        self.refresh_energy();
        match self.energy_refused {
            Some(refused) => Restored::Refused(refused),
            None => Restored::AlreadyKnown,
        }
    }

    /// Sets the totals, which may be lower than before. `None` keeps one.
    pub fn set_energy(&mut self, charged: Option<Energy>, discharged: Option<Energy>) {
        let since_start = self.energy_since_start();
        let present = self.energy(since_start).unwrap_or(since_start);
        let totals = EnergyTotals {
            charged: charged.unwrap_or(present.charged),
            discharged: discharged.unwrap_or(present.discharged),
        };
        self.energy_before_start = Some(totals.saturating_sub(since_start));
        self.energy_discount = since_start.saturating_sub(totals);
        // The user knows better than a source and than any estimate.
        self.energy_source = Some(EnergySource::File);
        self.energy_refused = None;
        self.refresh_energy();
    }

    fn energy_since_start(&self) -> EnergyTotals {
        self.snapshot
            .as_ref()
            .map_or(EnergyTotals::default(), |snapshot| snapshot.derived.energy_since_start)
    }

    /// The totals, when the energy of earlier runs is known.
    fn energy(&self, since_start: EnergyTotals) -> Option<EnergyTotals> {
        let before = self.energy_before_start?;
        Some((before + since_start).saturating_sub(self.energy_discount))
    }

    /// Applies changed totals to the last read.
    fn refresh_energy(&mut self) {
        let Some(mut snapshot) = self.snapshot.take() else { return };
        self.check_energy(&snapshot.reading);
        let energy = self.energy(snapshot.derived.energy_since_start);
        Arc::make_mut(&mut snapshot).derived.energy = energy;
        self.snapshot = Some(snapshot);
    }

    /// Drops totals of the broker that are more than a battery of this size can reach.
    fn check_energy(&mut self, reading: &Reading) {
        let (Some(EnergySource::Broker), Some(before), Some(limit)) =
            (self.energy_source, self.energy_before_start, energy::of_a_lifetime(reading))
        else {
            return;
        };
        if before.exceeds(limit) {
            self.energy_refused = Some(before);
            self.energy_before_start = Some(EnergyTotals::default());
            self.energy_source = None;
        }
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
    use crate::model::units::{MilliampHours, Millivolts};

    fn totals(charged: u64, discharged: u64) -> EnergyTotals {
        EnergyTotals { charged: Energy(charged), discharged: Energy(discharged) }
    }

    fn read(state: &mut DeviceState, energy_since_start: EnergyTotals) -> Option<EnergyTotals> {
        let derived = Derived { energy_since_start, ..Derived::default() };
        state.accept((Millis(1), Uptime(0)), 1, Reading::default(), derived);
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
            assert_eq!(read_five_kwh(&mut state), Some(EnergyTotals::default()));
            assert_eq!(state.energy_refused, Some(impossible));
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
