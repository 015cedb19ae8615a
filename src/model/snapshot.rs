//! A reading with everything that sinks need to know about it, and the state of its battery.

use std::sync::Arc;

use super::fault::{Fault, FaultKind};
use super::profile::{DeviceId, Profile};
use super::reading::Reading;
use super::units::{DeciCelsius, Millis, Millivolts, Milliwatts};

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

/// What follows from a reading alone (see `derive`).
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
    /// Any alarm is active; `None` when the make reports none at all.
    pub problem: Option<bool>,
    /// Lowest and highest cell voltage of each module of a stack.
    pub modules: Vec<Option<(Millivolts, Millivolts)>>,
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
    /// Name and place; changes only by `cmd/config`.
    pub profile: Arc<Profile>,
    /// Whether it answers.
    pub link: LinkState,
    /// The last good read, with its own time.
    pub snapshot: Option<Arc<Snapshot>>,
    /// The last attempt; `None` before the first one ended.
    pub attempt: Option<Attempt>,
    /// Strength of its Bluetooth signal in dBm, when it was last heard.
    pub rssi: Option<i16>,
    /// What happened so far.
    pub counters: Counters,
}

impl DeviceState {
    /// A battery that was not asked yet.
    pub fn new(profile: Profile) -> Self {
        DeviceState {
            profile: Arc::new(profile),
            link: LinkState::Connecting,
            snapshot: None,
            attempt: None,
            rssi: None,
            counters: Counters::default(),
        }
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
    /// Failed reads since the last good one.
    pub consecutive_errors: u32,
    /// Times the link was opened again.
    pub reconnects: u64,
    /// Failed reads by kind, in the order of [`FaultKind::ALL`].
    pub kinds: [u64; FaultKind::ALL.len()],
}

impl Counters {
    /// Counts a failed read.
    pub fn note_fault(&mut self, kind: FaultKind) {
        self.errors += 1;
        if let Some(count) = self.kinds.get_mut(kind as usize) {
            *count += 1;
        }
    }

    /// Failed reads of each kind that happened.
    pub fn faults(&self) -> impl Iterator<Item = (FaultKind, u64)> {
        let kinds = FaultKind::ALL.iter().copied().zip(self.kinds);
        kinds.filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_fault_has_a_count_of_its_own() {
        let mut counters = Counters::default();
        for (number, kind) in FaultKind::ALL.iter().enumerate() {
            (0..=number).for_each(|_| counters.note_fault(*kind));
        }
        let expected = FaultKind::ALL.iter().copied().zip(1..);
        assert_eq!(counters.faults().collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        let most = u64::try_from(FaultKind::ALL.len()).unwrap();
        assert_eq!(counters.errors, most * (most + 1) / 2);
    }
}
