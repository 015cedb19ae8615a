//! The quantities of a battery that were seen so far: each has an entity in Home Assistant.

use crate::model::entries::intermittent;
use crate::model::{DeviceState, Entry, EntryKey, entries};

/// One value of the catalogue, or one member of a family such as the cells.
#[derive(Debug, Clone, Copy)]
pub struct SeenQuantity {
    pub key: EntryKey,
    /// The module of a stack that it belongs to, counted from 1.
    pub module: Option<usize>,
    /// Home Assistant shows the entity by default.
    pub enabled: bool,
}

/// In the order of the catalogue.
#[derive(Debug, Clone, Default)]
pub struct SeenQuantities(pub Vec<SeenQuantity>);

impl SeenQuantities {
    /// Adds what the battery has now; true when that changed the set.
    ///
    /// A single quantity that was seen once stays: a value that is sometimes unknown must not come
    /// and go as an entity. A family follows the battery (another pack may have fewer cells), but a
    /// family that is missing completely was merely not read this time.
    pub fn update(&mut self, state: &DeviceState) -> bool {
        let seen = |Entry { key, module, enabled, .. }| SeenQuantity { key, module, enabled };
        let entries = entries(state);
        // `collect` would keep the memory of the values.
        let mut now = Vec::with_capacity(entries.len());
        now.extend(entries.into_iter().map(seen));
        for key in intermittent(state) {
            if !contains(&now, key) {
                let enabled = key.quantity().enabled;
                insert(&mut now, SeenQuantity { key, module: None, enabled });
            }
        }
        let is_same = |now: &[SeenQuantity], old: &[SeenQuantity]| {
            now.iter().map(|new| new.key).eq(old.iter().map(|old| old.key))
        };
        if is_same(&now, &self.0) {
            self.0 = now;
            return false;
        }
        // A module that was removed takes all its quantities with it.
        let has_modules = now.iter().any(|new| new.module.is_some());
        let removed = |module: Option<usize>| {
            has_modules && module.is_some() && now.iter().all(|new| new.module != module)
        };
        let is_kept = |old: &&SeenQuantity| !contains(&now, old.key) && !removed(old.module);
        let kept: Vec<_> = self.0.iter().filter(is_kept).copied().collect();
        kept.into_iter().for_each(|old| insert(&mut now, old));
        let changed = !is_same(&now, &self.0);
        self.0 = now;
        changed
    }
}

/// Whether the list, which is in the order of the catalogue, has a member of the family of this key.
fn contains(list: &[SeenQuantity], key: EntryKey) -> bool {
    let index = list.partition_point(|seen| seen.key.row() < key.row());
    list.get(index).is_some_and(|seen| seen.key.row() == key.row())
}

fn insert(list: &mut Vec<SeenQuantity>, new: SeenQuantity) {
    let index = list.partition_point(|seen| seen.key < new.key);
    list.insert(index, new);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Alarm, AlarmSet};
    use crate::sink::mqtt::test_data;

    fn pack() -> DeviceState {
        test_data::state(test_data::reading(16), 1)
    }

    fn keys(seen: &SeenQuantities) -> Vec<String> {
        seen.0.iter().map(|seen| seen.key.to_string()).collect()
    }

    #[test]
    fn single_quantity_stays_and_family_follows_the_battery() {
        let mut seen = SeenQuantities::default();
        assert!(seen.update(&pack()));
        let all = keys(&seen);
        assert!(!seen.update(&test_data::state(test_data::reading(16), 2)));

        let mut reading = test_data::reading(15);
        reading.pack.soh = None;
        assert!(seen.update(&test_data::state(reading, 3)));
        let fewer = keys(&seen);
        let gone: Vec<_> = all.iter().filter(|key| !fewer.contains(key)).collect();
        assert_eq!(gone, ["cell_16_voltage"]);
        assert!(fewer.contains(&"soh".to_owned()));
    }

    #[test]
    fn family_that_was_not_read_stays() {
        let mut seen = SeenQuantities::default();
        seen.update(&pack());
        let mut reading = test_data::reading(1);
        reading.cells.clear();
        reading.alarms = AlarmSet::default();
        assert!(!seen.update(&test_data::state(reading, 2)));
    }

    #[test]
    fn order_is_that_of_the_catalogue() {
        let mut seen = SeenQuantities::default();
        seen.update(&pack());
        let mut reading = test_data::reading(16);
        reading.alarms.note(Alarm::FuseBlown, false);
        assert!(seen.update(&test_data::state(reading, 2)));
        assert!(seen.0.iter().map(|seen| seen.key).is_sorted());
    }

    #[test]
    fn removed_module_takes_its_unread_quantities_with_it() {
        let stack = |modules: usize, serial: Option<&str>| {
            let mut reading = test_data::stack(modules).snapshot.expect("a read").reading.clone();
            for module in &mut reading.modules {
                module.serial = serial.map(str::to_owned);
            }
            test_data::state(reading, 1)
        };
        let mut seen = SeenQuantities::default();
        seen.update(&stack(3, Some("HPTST")));
        seen.update(&stack(2, None));
        let serials = keys(&seen).iter().filter(|key| key.ends_with("serial_number")).count();
        assert_eq!(serials, 2, "those of the other modules were merely not read");
        assert!(seen.0.iter().all(|seen| seen.module != Some(3)));
    }
}
