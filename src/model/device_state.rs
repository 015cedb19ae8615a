//! The state of one battery as the sinks see it.

use std::sync::Arc;
use std::time::Duration;

use super::derived::Derived;
use super::energy::{Energy, EnergyTotals};
use super::energy_base::{EnergyBase, EnergySource, Restored};
use super::fault::{Fault, FaultKind};
use super::health_report::HealthSummary;
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
    pub energy: EnergyBase,
    /// From the history of the battery.
    pub health: HealthSummary,
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
            energy: EnergyBase::default(),
            health: HealthSummary::default(),
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
        self.energy.check(&reading);
        let energy = self.energy.totals(derived.energy_since_start);
        self.snapshot = Some(Arc::new(Snapshot {
            device: self.profile.id.clone(),
            sequence: self.counters.reads,
            taken,
            took_ms,
            reading,
            derived: Derived { energy, ..derived },
        }));
    }

    /// See [`EnergyBase::restore`].
    pub fn restore(&mut self, found: Option<EnergyTotals>, source: EnergySource) -> Restored {
        let reading = self.snapshot.as_ref().map(|snapshot| &snapshot.reading);
        let restored = self.energy.restore(found, source, self.energy_since_start(), reading);
        self.refresh_energy();
        restored
    }

    /// Sets the totals, which may be lower than before. `None` keeps one.
    pub fn set_energy(&mut self, charged: Option<Energy>, discharged: Option<Energy>) {
        self.energy.set(charged, discharged, self.energy_since_start());
        self.refresh_energy();
    }

    fn energy_since_start(&self) -> EnergyTotals {
        self.snapshot
            .as_ref()
            .map_or(EnergyTotals::default(), |snapshot| snapshot.derived.energy_since_start)
    }

    /// Applies changed totals to the last read.
    fn refresh_energy(&mut self) {
        let Some(snapshot) = &mut self.snapshot else { return };
        let energy = self.energy.totals(snapshot.derived.energy_since_start);
        Arc::make_mut(snapshot).derived.energy = energy;
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
    use super::*;

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
}
