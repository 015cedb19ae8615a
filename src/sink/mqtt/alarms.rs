//! From the alarms that were told to those that are active: an event for each start and end. Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::model::DeviceState;

use super::discovery::{ALARM_ENDED, ALARM_STARTED};

/// The alarms that others know of, as they were told.
#[derive(Debug, Default)]
pub struct ToldAlarms {
    /// `None`: nothing was told yet, and nobody has said what an earlier run told.
    known: Option<BTreeMap<Key, Map<String, Value>>>,
}

/// Battery and name: in a bank two members may have the same alarm.
type Key = (String, String);

impl ToldAlarms {
    /// What an earlier run of the program has told, so that an alarm that outlasts a restart does
    /// not start twice. In the course of a run it is of no interest.
    pub fn remember(&mut self, list: Vec<Map<String, Value>>) {
        if self.known.is_none() {
            self.known = Some(list.into_iter().filter_map(|it| Some((key(&it)?, it))).collect());
        }
    }

    /// The events that lead from what was told to what is. The state is that of a good read.
    pub fn events(&mut self, state: &DeviceState) -> Vec<Value> {
        let known = self.known.get_or_insert_default();
        let objects = active(state);
        let now: BTreeMap<Key, Map<String, Value>> =
            objects.into_iter().filter_map(|it| Some((key(&it)?, it))).collect();
        let mut events = Vec::new();
        known.retain(|key, told| {
            let ended = !now.contains_key(key) && state.knows_about(&key.0, &key.1);
            if ended {
                events.push(event(ALARM_ENDED, told));
            }
            !ended
        });
        for (key, alarm) in now {
            if known.insert(key, alarm.clone()).is_none() {
                events.push(event(ALARM_STARTED, &alarm));
            }
        }
        events
    }
}

/// The active alarms as the objects of the list.
pub fn active(state: &DeviceState) -> Vec<Map<String, Value>> {
    let objects = state.worries().into_iter().map(|worry| json!(worry));
    objects.filter_map(|it| it.as_object().cloned()).collect()
}

fn key(alarm: &Map<String, Value>) -> Option<Key> {
    let text = |field: &str| alarm.get(field)?.as_str().map(str::to_owned);
    Some((text("battery")?, text("name")?))
}

fn event(kind: &str, alarm: &Map<String, Value>) -> Value {
    let mut event = Map::from_iter([("event_type".to_owned(), json!(kind))]);
    event.extend(alarm.clone());
    Value::Object(event)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Alarm;
    use crate::sink::mqtt::sample;

    /// A read with these alarms on and off.
    fn state(alarms: &[(Alarm, bool)]) -> DeviceState {
        let mut reading = sample::reading(4);
        reading.alarms = crate::model::AlarmSet::default();
        for (alarm, active) in alarms {
            reading.alarms.note(*alarm, *active);
        }
        sample::read(reading, 1)
    }

    fn told(events: &[Value]) -> Vec<(&str, &str)> {
        events
            .iter()
            .map(|it| (it["event_type"].as_str().unwrap(), it["name"].as_str().unwrap()))
            .collect()
    }

    #[test]
    fn an_alarm_starts_once_and_ends_once() {
        use Alarm::{CellOvervoltage, FuseBlown};
        let mut alarms = ToldAlarms::default();
        let calm = state(&[(CellOvervoltage, false), (FuseBlown, false)]);
        let one = state(&[(CellOvervoltage, true), (FuseBlown, false)]);
        let both = state(&[(CellOvervoltage, true), (FuseBlown, true)]);
        assert!(alarms.events(&calm).is_empty());
        let events = alarms.events(&one);
        assert_eq!(told(&events), [("started", "cell_overvoltage")]);
        assert_eq!(events[0]["words"], "Cell overvoltage: cell 4 of Rack battery at 3.312 V");
        assert!(alarms.events(&one).is_empty());
        assert_eq!(told(&alarms.events(&both)), [("started", "fuse_blown")]);
        let ends = alarms.events(&calm);
        assert_eq!(told(&ends), [("ended", "cell_overvoltage"), ("ended", "fuse_blown")]);
        assert_eq!(ends[0]["cell"], 4, "an end says what has ended");
        assert!(alarms.events(&calm).is_empty());
    }

    #[test]
    fn what_is_not_known_any_more_has_not_ended() {
        let mut alarms = ToldAlarms::default();
        alarms.events(&state(&[(Alarm::FuseBlown, true)]));
        assert!(alarms.events(&state(&[])).is_empty());
        assert!(alarms.events(&state(&[(Alarm::FuseBlown, true)])).is_empty());
        assert_eq!(told(&alarms.events(&state(&[(Alarm::FuseBlown, false)]))).len(), 1);
    }

    #[test]
    fn an_alarm_that_outlasts_a_restart_does_not_start_again() {
        let burning = state(&[(Alarm::FuseBlown, true)]);
        let mut alarms = ToldAlarms::default();
        alarms.remember(active(&burning));
        assert!(alarms.events(&burning).is_empty());
        alarms.remember(Vec::new());
        assert!(alarms.events(&burning).is_empty(), "a new connection changes nothing");
        let mut fresh = ToldAlarms::default();
        fresh.remember(Vec::new());
        assert_eq!(told(&fresh.events(&burning)), [("started", "fuse_blown")]);
        let mut ended = ToldAlarms::default();
        ended.remember(active(&burning));
        assert_eq!(
            told(&ended.events(&state(&[(Alarm::FuseBlown, false)]))),
            [("ended", "fuse_blown")]
        );
    }
}
