//! The newest state of every battery, shared by all tasks.
//!
//! Only the newest state is kept, so a slow sink can neither block a line nor grow memory. The board
//! also holds the state of the broker.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::watch;

use crate::model::health_report::HealthSummary;
use crate::model::staleness::{MAX_FAILURES, MAX_PAUSE};
use crate::model::units::millis;
use crate::model::{
    BrokerState, DeviceId, DeviceState, EnergySource, EnergyTotals, Fault, FaultKind, LinkState,
    Millis, Profile, Restored, Uptime,
};
use crate::remedy;

/// A handle; cheap to clone.
#[derive(Debug, Clone)]
pub struct Board {
    slots: Arc<BTreeMap<DeviceId, watch::Sender<DeviceState>>>,
    /// Counts the changes of all slots and of the broker.
    changes: Arc<watch::Sender<u64>>,
    /// `None` when no broker is configured.
    broker: Arc<watch::Sender<Option<BrokerState>>>,
    /// Messages that wait for the broker.
    pub mqtt_queue: Arc<AtomicUsize>,
    /// Set where notifications are configured.
    pub notifications: Arc<OnceLock<Arc<NotificationCounts>>>,
    pub outputs: Arc<Outputs>,
    /// Time of the last check for a pause, in milliseconds on the boot-time clock.
    last_check: Arc<AtomicU64>,
}

/// Counts since the start of the program.
#[derive(Debug, Default)]
pub struct NotificationCounts {
    /// Messages that a service has accepted.
    pub sent: AtomicU64,
    /// Attempts to send one that failed.
    pub failed: AtomicU64,
    /// Events that were never sent, because a service was away for too long.
    pub left_out: AtomicU64,
}

/// The outputs that repeat readings until they are confirmed. Each is set where it is configured.
#[derive(Debug, Default)]
pub struct Outputs {
    /// A server for line protocol.
    pub influx: OnceLock<Arc<OutputCounts>>,
    /// The broker, with missed readings.
    pub backfill: OnceLock<Arc<OutputCounts>>,
}

/// Readings for such an output, since the start of the program.
#[derive(Debug, Default)]
pub struct OutputCounts {
    /// Confirmed by the other side.
    pub written: AtomicU64,
    /// Refused, or gone because the output was away for too long.
    pub dropped: AtomicU64,
    /// Kept until the other side confirms them.
    pub waiting: AtomicU64,
}

impl Board {
    /// The set of batteries never changes afterwards.
    pub fn new(profiles: impl IntoIterator<Item = Profile>) -> Self {
        let slot =
            |profile: Profile| (profile.id.clone(), watch::Sender::new(DeviceState::new(profile)));
        Board {
            slots: Arc::new(profiles.into_iter().map(slot).collect()),
            changes: Arc::default(),
            broker: Arc::default(),
            mqtt_queue: Arc::default(),
            notifications: Arc::default(),
            outputs: Arc::default(),
            last_check: Arc::default(),
        }
    }

    pub fn devices(&self) -> impl Iterator<Item = &DeviceId> {
        self.slots.keys()
    }

    /// The receiver starts with the present state marked as unseen.
    pub fn subscribe(&self, device: &DeviceId) -> Option<watch::Receiver<DeviceState>> {
        let mut receiver = self.slots.get(device)?.subscribe();
        receiver.mark_changed();
        Some(receiver)
    }

    /// Subscribes to every battery.
    pub fn updates(&self) -> Updates {
        let slots = self.devices().filter_map(|device| self.subscribe(device)).collect();
        Updates { slots, changes: self.changes.subscribe() }
    }

    /// Wakes the subscribers only when it differs.
    pub fn update_health(&self, device: &DeviceId, health: HealthSummary) {
        self.update_if(device, |state| std::mem::replace(&mut state.health, health) != health);
    }

    /// Notifies of the change of any battery, and of the broker.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub fn latest(&self, device: &DeviceId) -> Option<DeviceState> {
        Some(self.slots.get(device)?.borrow().clone())
    }

    pub fn states(&self) -> impl Iterator<Item = DeviceState> {
        self.slots.values().map(|slot| slot.borrow().clone())
    }

    /// Changes the state of one battery and wakes its subscribers.
    pub fn update(&self, device: &DeviceId, change: impl FnOnce(&mut DeviceState)) {
        self.update_if(device, |state| {
            change(state);
            true
        });
    }

    /// Wakes the subscribers only when the profile differs afterwards.
    pub fn update_profile(&self, device: &DeviceId, change: impl FnOnce(&mut Profile)) {
        self.update_if(device, |state| {
            let mut profile = Profile::clone(&state.profile);
            change(&mut profile);
            let before = std::mem::replace(&mut state.profile, Arc::new(profile));
            state.profile != before
        });
    }

    fn update_if(&self, device: &DeviceId, change: impl FnOnce(&mut DeviceState) -> bool) {
        if self.slots.get(device).is_some_and(|slot| slot.send_if_modified(change)) {
            self.count_change();
        }
    }

    /// A failed attempt by a task that crashed and could not record it.
    pub fn record_crash(&self, device: &DeviceId, reason: &str, time: Millis, now: Uptime) {
        let message = format!("the task crashed: {reason}");
        let fault = Fault::new(FaultKind::BadFrame, message, remedy::CRASH.text());
        self.update(device, |state| {
            state.record_attempt(time, 0, false, Some(fault));
            let failed = state.counters.consecutive_errors >= MAX_FAILURES;
            if failed && (state.link == LinkState::Connecting || state.is_stale(now)) {
                state.mark_offline(time);
            }
        });
    }

    fn count_change(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// See [`DeviceState::restore`]. `None` when there is no such battery.
    pub fn restore(
        &self,
        device: &DeviceId,
        found: Option<EnergyTotals>,
        source: EnergySource,
    ) -> Option<Restored> {
        let mut restored = None;
        self.update(device, |state| restored = Some(state.restore(found, source)));
        restored
    }

    /// Marks batteries offline whose values grew old while the process was stopped or the machine
    /// slept: the first task to wake must not take them for current. Call it before old states are
    /// shown, and at least every [`MAX_PAUSE`].
    pub fn detect_pause(&self, now: Uptime, time: Millis) {
        let before = Uptime(self.last_check.fetch_max(now.0, Ordering::Relaxed));
        if before == Uptime(0) || now.since(before) < millis(MAX_PAUSE) {
            return;
        }
        for device in self.slots.keys() {
            self.update_if(device, |state| {
                let expired = state.link == LinkState::Online && state.is_stale(now);
                if expired {
                    state.mark_offline(time);
                }
                expired
            });
        }
    }

    /// `None` when no broker is configured.
    pub fn broker(&self) -> Option<BrokerState> {
        self.broker.borrow().clone()
    }

    pub fn subscribe_broker(&self) -> watch::Receiver<Option<BrokerState>> {
        self.broker.subscribe()
    }

    pub fn update_broker(&self, change: impl FnOnce(&mut BrokerState)) {
        self.broker.send_modify(|state| change(state.get_or_insert_default()));
        self.count_change();
    }
}

/// The changed states of all batteries. A state that is replaced in time is never seen.
#[derive(Debug)]
pub struct Updates {
    slots: Vec<watch::Receiver<DeviceState>>,
    changes: watch::Receiver<u64>,
}

impl Updates {
    /// Waits for changed states, ordered by id; the first call returns all of them. Never ends on a
    /// board without batteries. Cancel-safe.
    pub async fn next(&mut self) -> Vec<DeviceState> {
        loop {
            self.changes.borrow_and_update();
            let changed = self.slots.iter_mut().filter(|slot| slot.has_changed().unwrap_or(false));
            let states: Vec<_> = changed.map(|slot| slot.borrow_and_update().clone()).collect();
            if !states.is_empty() {
                return states;
            }
            if self.changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_grew_old_during_a_pause_are_offline() {
        let board = Board::new(["slow", "fast", "unread"].map(Profile::sample));
        let id = |name| DeviceId::new(name).unwrap();
        let link = |name| board.latest(&id(name)).unwrap().link;
        for (name, interval_ms) in [("slow", 60_000), ("fast", 5_000)] {
            board.update_profile(&id(name), |profile| profile.interval_ms = interval_ms);
            board.update(&id(name), |state| {
                state.accept((Millis(0), Uptime(1_000)), 1, Default::default(), Default::default());
            });
        }
        // The reads are late, but the program runs.
        for second in 1..=100 {
            board.detect_pause(Uptime(second * 1000), Millis(7));
        }
        assert_eq!(link("fast"), LinkState::Online);
        board.detect_pause(Uptime(130_000), Millis(8));
        let offline = LinkState::Offline { since: Millis(8) };
        let links = ["slow", "fast", "unread"].map(link);
        assert_eq!(links, [LinkState::Online, offline, LinkState::Connecting]);
    }

    #[tokio::test]
    async fn updates_begin_with_every_state() {
        let board = Board::new(["a", "b", "c"].map(Profile::sample));
        let mut updates = board.updates();
        let names = |states: Vec<DeviceState>| -> Vec<String> {
            states.into_iter().map(|state| state.profile.id.to_string()).collect()
        };
        assert_eq!(names(updates.next().await), ["a", "b", "c"]);
        for id in ["c", "a", "c"] {
            board.update(&DeviceId::new(id).unwrap(), |state| state.counters.reads += 1);
        }
        assert_eq!(names(updates.next().await), ["a", "c"]);
        let b = DeviceId::new("b").unwrap();
        board.update_profile(&b, |profile| profile.adapter = Some("hci1".to_owned()));
        assert_eq!(names(updates.next().await), ["b"]);
        board.update_profile(&b, |profile| profile.adapter = Some("hci1".to_owned()));
        let nothing = tokio::time::timeout(std::time::Duration::from_millis(20), updates.next());
        assert!(nothing.await.is_err());
    }
}
