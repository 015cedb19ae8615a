//! Which alarms have started and which have ended.

use std::collections::BTreeMap;

use super::derived::{ActiveAlarm, AlarmKey};
use super::device_state::DeviceState;

/// The difference between the alarms that were reported last and those of a good read.
#[derive(Debug)]
pub struct AlarmDiff {
    pub started: BTreeMap<AlarmKey, ActiveAlarm>,
    pub ended: Vec<AlarmKey>,
}

impl AlarmDiff {
    pub fn new<T>(reported: &BTreeMap<AlarmKey, T>, state: &DeviceState) -> Self {
        let mut started: BTreeMap<_, _> =
            state.active_alarms().into_iter().map(|alarm| (alarm.key(), alarm)).collect();
        // An alarm that the reading does not cover has not ended.
        let has_ended = |key: &&AlarmKey| !started.contains_key(*key) && state.covers_alarm(key);
        let ended = reported.keys().filter(has_ended).cloned().collect();
        started.retain(|key, _| !reported.contains_key(key));
        AlarmDiff { started, ended }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::derive::derive;
    use crate::model::reading::Reading;
    use crate::model::units::Millis;
    use crate::model::{Alarm, Profile};

    fn state(alarms: &[(Alarm, bool)]) -> DeviceState {
        let mut reading = Reading::default();
        for (alarm, active) in alarms {
            reading.alarms.note(*alarm, *active);
        }
        let mut state = DeviceState::new(Profile::sample("rack"));
        let derived = derive(&reading);
        state.accept((Millis(1), crate::model::Uptime(0)), 0, reading, derived);
        state
    }

    #[test]
    fn only_alarms_that_the_reading_covers_end() {
        let key = ("rack".to_owned(), "fuse_blown".to_owned());
        let [none, one] = [BTreeMap::new(), BTreeMap::from([(key.clone(), ())])];
        let diff = |reported: &BTreeMap<AlarmKey, ()>, alarms: &[(Alarm, bool)]| {
            let diff = AlarmDiff::new(reported, &state(alarms));
            (diff.started.into_keys().collect::<Vec<_>>(), diff.ended)
        };
        let [started, ended] = [(vec![key.clone()], vec![]), (vec![], vec![key])];
        let unchanged = (vec![], vec![]);
        assert_eq!(diff(&none, &[(Alarm::FuseBlown, false)]), unchanged);
        assert_eq!(diff(&none, &[(Alarm::FuseBlown, true)]), started);
        assert_eq!(diff(&one, &[(Alarm::FuseBlown, true)]), unchanged);
        assert_eq!(diff(&one, &[]), unchanged, "the battery did not report the alarm this time");
        assert_eq!(diff(&one, &[(Alarm::FuseBlown, false)]), ended);
    }
}
