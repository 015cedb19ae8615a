//! When each alarm started and ended, and the values of the battery at its start.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::model::{
    ActiveAlarm, AlarmDiff, AlarmKey, DeviceId, DeviceState, Millis, Snapshot, entries,
};

/// The newest are kept, with less than a kilobyte each.
pub(super) const MAX_RECORDS: u16 = 500;
/// Values that are recorded with an alarm.
const VALUES: [&str; 9] = [
    "pack_voltage",
    "pack_current",
    "soc",
    "min_cell_voltage",
    "max_cell_voltage",
    "min_cell",
    "max_cell",
    "min_temp",
    "max_temp",
];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlarmRecord {
    pub device: DeviceId,
    pub name: String,
    pub start: Millis,
    /// `None` while the alarm is active, or while the battery does not report whether it is.
    pub end: Option<Millis>,
    /// The alarm as in `alarms` of the `raw` JSON, with the values of the battery as `values`.
    pub details: String,
}

impl AlarmRecord {
    pub(super) fn is_same(&self, other: &AlarmRecord) -> bool {
        (self.start, &self.device, &self.name) == (other.start, &other.device, &other.name)
    }
}

/// The records of all batteries in the order in which they were added.
#[derive(Debug, Default)]
pub(super) struct AlarmRecords {
    pub(super) records: Vec<AlarmRecord>,
    open: BTreeMap<AlarmKey, Millis>,
    /// New and changed ones since the last call of `take_unwritten`.
    unwritten: Vec<AlarmRecord>,
}

impl AlarmRecords {
    /// Records the alarms that started or ended with this reading.
    pub(super) fn record(&mut self, state: &DeviceState, snapshot: &Snapshot) {
        // The alarms of a bank are those of its members.
        if snapshot.derived.bank.is_some() {
            return;
        }
        let AlarmDiff { started, ended } = AlarmDiff::new(&self.open, state);
        for key in ended {
            let Some(start) = self.open.remove(&key) else { continue };
            let is_it = |record: &&mut AlarmRecord| {
                record.start == start && record.device.as_str() == key.0 && record.name == key.1
            };
            if let Some(record) = self.records.iter_mut().rev().find(is_it) {
                record.end = Some(snapshot.taken);
                merge(&mut self.unwritten, record.clone());
            }
        }
        for alarm in started.into_values() {
            let record = AlarmRecord {
                device: alarm.battery.clone(),
                name: alarm.name.to_string(),
                start: snapshot.taken,
                end: None,
                details: details(&alarm, state).to_string(),
            };
            merge(&mut self.unwritten, record.clone());
            self.restore(record);
        }
    }

    /// Adds a record of this or an earlier run.
    pub(super) fn restore(&mut self, record: AlarmRecord) {
        if record.end.is_none() {
            let key = (record.device.to_string(), record.name.clone());
            self.open.insert(key, record.start);
        }
        self.records.push(record);
        if self.records.len() > usize::from(MAX_RECORDS) {
            self.records.remove(0);
        }
    }

    pub(super) fn take_unwritten(&mut self) -> Vec<AlarmRecord> {
        std::mem::take(&mut self.unwritten)
    }
}

/// Adds a record, or replaces the earlier state of the same one.
pub(super) fn merge(records: &mut Vec<AlarmRecord>, record: AlarmRecord) {
    match records.iter_mut().find(|known| known.is_same(&record)) {
        Some(known) => *known = record,
        None => records.push(record),
    }
    if records.len() > usize::from(MAX_RECORDS) {
        records.remove(0);
    }
}

fn details(alarm: &ActiveAlarm, state: &DeviceState) -> Value {
    let mut details = json!(alarm);
    let values = entries(state).into_iter().filter_map(|entry| {
        let key = entry.key.to_string();
        VALUES.contains(&key.as_str()).then(|| (key, entry.value.to_json()))
    });
    details["values"] = values.collect::<Map<_, _>>().into();
    details
}
