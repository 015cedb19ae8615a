//! The newest state of every battery: the only state that tasks share.
//!
//! Each battery has a slot that keeps the newest value only, so a slow or dead sink can neither
//! block a line nor grow memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use crate::model::{DeviceId, DeviceState, Profile, Restored, Totals};

/// A handle on all slots; cheap to clone.
#[derive(Debug, Clone)]
pub struct Board {
    slots: Arc<BTreeMap<DeviceId, watch::Sender<DeviceState>>>,
}

impl Board {
    /// A board with a slot for each battery; the set never changes afterwards.
    pub fn new(profiles: impl IntoIterator<Item = Profile>) -> Self {
        let slot =
            |profile: Profile| (profile.id.clone(), watch::Sender::new(DeviceState::new(profile)));
        Board { slots: Arc::new(profiles.into_iter().map(slot).collect()) }
    }

    /// Every battery, in the order of the ids.
    pub fn devices(&self) -> impl Iterator<Item = &DeviceId> {
        self.slots.keys()
    }

    /// Follows one battery. The receiver starts with the present state marked as unseen.
    pub fn follow(&self, device: &DeviceId) -> Option<watch::Receiver<DeviceState>> {
        let mut receiver = self.slots.get(device)?.subscribe();
        receiver.mark_changed();
        Some(receiver)
    }

    /// The present state of one battery.
    pub fn latest(&self, device: &DeviceId) -> Option<DeviceState> {
        Some(self.slots.get(device)?.borrow().clone())
    }

    /// Changes the state of one battery and wakes whoever follows it.
    pub fn update(&self, device: &DeviceId, change: impl FnOnce(&mut DeviceState)) {
        if let Some(slot) = self.slots.get(device) {
            slot.send_modify(change);
        }
    }

    /// Hands over the energy counters of an earlier run (see [`DeviceState::restore`]). `None`: no
    /// such battery.
    pub fn restore(&self, device: &DeviceId, found: Option<Totals>) -> Option<Restored> {
        let mut restored = None;
        self.update(device, |state| restored = Some(state.restore(found)));
        restored
    }
}
