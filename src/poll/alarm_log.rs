//! Logs alarms that start and end.

use std::collections::BTreeMap;

use tracing::{info, warn};

use crate::model::{AlarmDiff, AlarmKey, DeviceState};

/// The alarms of a battery that were logged as started, with their messages.
#[derive(Debug, Default)]
pub(super) struct AlarmLog {
    active: BTreeMap<AlarmKey, String>,
}

impl AlarmLog {
    /// Logs the difference to a good read.
    pub(super) fn update(&mut self, state: &DeviceState) {
        let id = &state.profile.id;
        let diff = AlarmDiff::new(&self.active, state);
        for message in diff.ended.iter().filter_map(|key| self.active.remove(key)) {
            info!("{id}: alarm ended: {message}");
        }
        for (key, alarm) in diff.started {
            warn!("{id}: alarm: {}", alarm.message);
            self.active.insert(key, alarm.message);
        }
    }
}
