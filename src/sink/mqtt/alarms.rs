//! From the alarms that were told to those that are active: an event for each start and end. Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::model::DeviceState;

use super::discovery::{ALARM_ENDED, ALARM_STARTED};

/// The alarms that others know of, as they were told.
#[derive(Debug, Default)]
pub struct AlarmEvents {
    /// `None`: nothing was told yet, and nobody has said what an earlier run told.
    known: Option<Alarms>,
}

/// Battery and name: in a bank two members may have the same alarm.
type Key = (String, String);
type Alarms = BTreeMap<Key, Map<String, Value>>;

impl AlarmEvents {
    /// What an earlier run of the program has told, so that an alarm that outlasts a restart does
    /// not start twice. In the course of a run it is of no interest.
    pub fn remember(&mut self, list: Vec<Map<String, Value>>) {
        self.known.get_or_insert_with(|| by_key(list));
    }

    /// The events that lead from what was told to what is. The state is that of a good read.
    pub fn events(&self, state: &DeviceState) -> Vec<Value> {
        let none = Alarms::new();
        let known = self.known.as_ref().unwrap_or(&none);
        let now = by_key(active(state));
        let ended = known.iter().filter(|(key, _)| has_ended(key, &now, state));
        let started = now.iter().filter(|(key, _)| !known.contains_key(*key));
        let ends = ended.map(|(_, alarm)| event(ALARM_ENDED, alarm));
        ends.chain(started.map(|(_, alarm)| event(ALARM_STARTED, alarm))).collect()
    }

    /// Those events were told.
    pub fn told(&mut self, state: &DeviceState) {
        let known = self.known.get_or_insert_default();
        let now = by_key(active(state));
        known.retain(|key, _| !has_ended(key, &now, state));
        known.extend(now);
    }
}

/// An alarm that is not active has ended only if the battery knows about it.
fn has_ended(key: &Key, now: &Alarms, state: &DeviceState) -> bool {
    !now.contains_key(key) && state.knows_about(&key.0, &key.1)
}

/// The active alarms as the objects of the list.
pub fn active(state: &DeviceState) -> Vec<Map<String, Value>> {
    let objects = state.active_alarms().into_iter().map(|worry| json!(worry));
    objects.filter_map(|it| it.as_object().cloned()).collect()
}

fn by_key(list: Vec<Map<String, Value>>) -> Alarms {
    list.into_iter().filter_map(|it| Some((key(&it)?, it))).collect()
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
    use crate::sink::mqtt::test_data;

    /// A read with these alarms on and off.
    fn state(alarms: &[(Alarm, bool)]) -> DeviceState {
        let mut reading = test_data::reading(4);
        reading.alarms = crate::model::AlarmSet::default();
        for (alarm, active) in alarms {
            reading.alarms.note(*alarm, *active);
        }
        test_data::read(reading, 1)
    }

    fn told(events: &[Value]) -> Vec<(&str, &str)> {
        events
            .iter()
            .map(|it| (it["event_type"].as_str().unwrap(), it["name"].as_str().unwrap()))
            .collect()
    }

    /// What is to be told, all of which arrives.
    fn tell(alarms: &mut AlarmEvents, state: &DeviceState) -> Vec<Value> {
        let events = alarms.events(state);
        alarms.told(state);
        events
    }

    #[test]
    fn an_alarm_starts_once_and_ends_once() {
        use Alarm::{CellOvervoltage, FuseBlown};
        let mut alarms = AlarmEvents::default();
        let calm = state(&[(CellOvervoltage, false), (FuseBlown, false)]);
        let one = state(&[(CellOvervoltage, true), (FuseBlown, false)]);
        let both = state(&[(CellOvervoltage, true), (FuseBlown, true)]);
        assert!(tell(&mut alarms, &calm).is_empty());
        assert_eq!(told(&alarms.events(&one)).len(), 1, "and that one was lost on its way");
        let events = tell(&mut alarms, &one);
        assert_eq!(told(&events), [("started", "cell_overvoltage")]);
        assert_eq!(events[0]["words"], "Cell overvoltage: cell 4 of Rack battery at 3.312 V");
        assert!(tell(&mut alarms, &one).is_empty());
        assert_eq!(told(&tell(&mut alarms, &both)), [("started", "fuse_blown")]);
        let ends = tell(&mut alarms, &calm);
        assert_eq!(told(&ends), [("ended", "cell_overvoltage"), ("ended", "fuse_blown")]);
        assert_eq!(ends[0]["cell"], 4, "an end says what has ended");
        assert!(tell(&mut alarms, &calm).is_empty());
    }

    #[test]
    fn what_is_not_known_any_more_has_not_ended() {
        let mut alarms = AlarmEvents::default();
        tell(&mut alarms, &state(&[(Alarm::FuseBlown, true)]));
        assert!(tell(&mut alarms, &state(&[])).is_empty());
        assert!(tell(&mut alarms, &state(&[(Alarm::FuseBlown, true)])).is_empty());
        assert_eq!(told(&tell(&mut alarms, &state(&[(Alarm::FuseBlown, false)]))).len(), 1);
    }

    #[test]
    fn an_alarm_that_outlasts_a_restart_does_not_start_again() {
        let burning = state(&[(Alarm::FuseBlown, true)]);
        let mut alarms = AlarmEvents::default();
        alarms.remember(active(&burning));
        assert!(tell(&mut alarms, &burning).is_empty());
        alarms.remember(Vec::new());
        assert!(tell(&mut alarms, &burning).is_empty(), "a new connection changes nothing");
        let mut fresh = AlarmEvents::default();
        fresh.remember(Vec::new());
        assert_eq!(told(&tell(&mut fresh, &burning)), [("started", "fuse_blown")]);
        let mut ended = AlarmEvents::default();
        ended.remember(active(&burning));
        assert_eq!(
            told(&tell(&mut ended, &state(&[(Alarm::FuseBlown, false)]))),
            [("ended", "fuse_blown")]
        );
    }
}
