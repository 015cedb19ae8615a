//! The newest state of every battery: the only state that tasks share.
//!
//! Each battery has a slot that keeps the newest value only, so a slow or dead sink can neither
//! block a line nor grow memory. Beside the slots hangs what else sinks tell people: how the broker
//! does, and what was found where nothing is configured.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;

use crate::model::{
    BrokerState, DeviceId, DeviceState, DiscoveredDevice, EnergyTotals, Profile, Restored,
};

/// A handle on all slots; cheap to clone.
#[derive(Debug, Clone)]
pub struct Board {
    slots: Arc<BTreeMap<DeviceId, watch::Sender<DeviceState>>>,
    /// Counts changes of any slot.
    changes: Arc<watch::Sender<u64>>,
    /// `None`: no broker is configured.
    broker: Arc<watch::Sender<Option<BrokerState>>>,
    mqtt_queue: QueueLength,
    discovered: Arc<watch::Sender<Vec<DiscoveredDevice>>>,
}

impl Board {
    /// A board with a slot for each battery; the set never changes afterwards.
    pub fn new(profiles: impl IntoIterator<Item = Profile>) -> Self {
        let slot =
            |profile: Profile| (profile.id.clone(), watch::Sender::new(DeviceState::new(profile)));
        Board {
            slots: Arc::new(profiles.into_iter().map(slot).collect()),
            changes: Arc::default(),
            broker: Arc::default(),
            mqtt_queue: QueueLength::default(),
            discovered: Arc::default(),
        }
    }

    /// Every battery, in the order of the ids.
    pub fn devices(&self) -> impl Iterator<Item = &DeviceId> {
        self.slots.keys()
    }

    /// Follows one battery. The receiver starts with the present state marked as unseen.
    pub fn subscribe(&self, device: &DeviceId) -> Option<watch::Receiver<DeviceState>> {
        let mut receiver = self.slots.get(device)?.subscribe();
        receiver.mark_changed();
        Some(receiver)
    }

    /// Follows every battery at once.
    pub fn updates(&self) -> Updates {
        let slots = self.devices().filter_map(|device| self.subscribe(device)).collect();
        Updates { slots, changes: self.changes.subscribe() }
    }

    /// Tells that any battery has changed, for those who follow several one by one.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The present state of one battery.
    pub fn latest(&self, device: &DeviceId) -> Option<DeviceState> {
        Some(self.slots.get(device)?.borrow().clone())
    }

    /// The present states of all batteries, in the order of the ids.
    pub fn states(&self) -> impl Iterator<Item = DeviceState> {
        self.slots.values().map(|slot| slot.borrow().clone())
    }

    /// Changes the state of one battery and wakes whoever follows it.
    pub fn update(&self, device: &DeviceId, change: impl FnOnce(&mut DeviceState)) {
        if let Some(slot) = self.slots.get(device) {
            slot.send_modify(change);
            self.changes.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    /// Changes what is known of a battery's name and place; nobody is woken when it stays as it was.
    pub fn update_profile(&self, device: &DeviceId, change: impl FnOnce(&mut Profile)) {
        let Some(slot) = self.slots.get(device) else { return };
        let changed = slot.send_if_modified(|state| {
            let mut profile = Profile::clone(&state.profile);
            change(&mut profile);
            let differs = profile != *state.profile;
            if differs {
                state.profile = Arc::new(profile);
            }
            differs
        });
        if changed {
            self.changes.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    /// Hands over the energy counters of an earlier run (see [`DeviceState::restore`]). `None`: no
    /// such battery.
    pub fn restore(&self, device: &DeviceId, found: Option<EnergyTotals>) -> Option<Restored> {
        let mut restored = None;
        self.update(device, |state| restored = Some(state.restore(found)));
        restored
    }

    /// How the connection to the broker stands; `None` where none is configured.
    pub fn broker(&self) -> Option<BrokerState> {
        self.broker.borrow().clone()
    }

    /// Changes what is known of the broker.
    pub fn update_broker(&self, change: impl FnOnce(&mut BrokerState)) {
        self.broker.send_modify(|state| change(state.get_or_insert_default()));
    }

    /// Messages on their way to the broker.
    pub fn mqtt_queue(&self) -> &QueueLength {
        &self.mqtt_queue
    }

    /// What was found where no battery is configured.
    pub fn discovered(&self) -> Vec<DiscoveredDevice> {
        self.discovered.borrow().clone()
    }

    /// Replaces what was found.
    pub fn set_discovered(&self, discovered: Vec<DiscoveredDevice>) {
        self.discovered.send_replace(discovered);
    }
}

/// The length of a queue, written by whoever owns the queue.
#[derive(Debug, Clone, Default)]
pub struct QueueLength(Arc<AtomicUsize>);

impl QueueLength {
    /// So many wait now.
    pub fn set(&self, number: usize) {
        self.0.store(number, Ordering::Relaxed);
    }

    /// So many waited when last told.
    pub fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Follows every battery; a state that is replaced before it is seen is never seen.
#[derive(Debug)]
pub struct Updates {
    slots: Vec<watch::Receiver<DeviceState>>,
    changes: watch::Receiver<u64>,
}

impl Updates {
    /// The states that are new, in the order of the ids; at first all of them. Waits until there
    /// is one, for ever where the board has no battery. Cancel-safe.
    pub async fn next(&mut self) -> Vec<DeviceState> {
        loop {
            self.changes.borrow_and_update();
            let fresh = self.slots.iter_mut().filter(|slot| slot.has_changed().unwrap_or(false));
            let states: Vec<_> = fresh.map(|slot| slot.borrow_and_update().clone()).collect();
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

    #[tokio::test]
    async fn news_begin_with_everything_and_go_on_with_what_changed() {
        let board = Board::new(["a", "b", "c"].map(Profile::sample));
        let mut news = board.updates();
        let names = |states: Vec<DeviceState>| -> Vec<String> {
            states.into_iter().map(|state| state.profile.id.to_string()).collect()
        };
        assert_eq!(names(news.next().await), ["a", "b", "c"]);
        for id in ["c", "a", "c"] {
            board.update(&DeviceId::new(id).unwrap(), |state| state.counters.reads += 1);
        }
        assert_eq!(names(news.next().await), ["a", "c"]);
        let b = DeviceId::new("b").unwrap();
        board.update_profile(&b, |profile| profile.adapter = Some("hci1".to_owned()));
        assert_eq!(names(news.next().await), ["b"]);
        board.update_profile(&b, |profile| profile.adapter = Some("hci1".to_owned()));
        let nothing = tokio::time::timeout(std::time::Duration::from_millis(20), news.next());
        assert!(nothing.await.is_err());
    }
}
