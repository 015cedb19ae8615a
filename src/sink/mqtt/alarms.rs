//! An event for each alarm that starts or ends.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::model::{AlarmDiff, AlarmKey, DeviceState, LinkState};

use super::discovery::{ALARM_ENDED, ALARM_STARTED};
use super::json::object;
use super::limits::{MAX_ALARM_TEXT, MAX_ALARMS};

/// The retained list, with our own fields only: anyone may have written it, and what ends is
/// published again. `None` for other payloads.
pub fn parse_list(payload: &[u8]) -> Option<Vec<Map<String, Value>>> {
    let list: Vec<Map<String, Value>> = serde_json::from_slice(payload).ok()?;
    Some(list.into_iter().take(MAX_ALARMS).filter_map(own_fields).collect())
}

fn own_fields(mut alarm: Map<String, Value>) -> Option<Map<String, Value>> {
    alarm.retain(|field, value| match field.as_str() {
        "battery" | "name" | "source" | "severity" => value.as_str().is_some_and(is_word),
        "words" | "unit" => match value {
            Value::String(text) => {
                *text = escaped(text);
                true
            }
            _ => false,
        },
        "cell" | "value" => value.is_number(),
        _ => false,
    });
    key(&alarm).map(|_| alarm)
}

fn is_word(text: &str) -> bool {
    text.len() <= 64
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

/// Without control characters and HTML.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars().filter(|c| !c.is_control()).take(MAX_ALARM_TEXT) {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// The alarms of one battery that were published.
#[derive(Debug, Default)]
pub struct AlarmEvents {
    /// `None` until a read is published or the retained list of an earlier run arrives.
    published: Option<Alarms>,
}

type Alarms = BTreeMap<AlarmKey, Map<String, Value>>;

impl AlarmEvents {
    /// Takes the retained list of an earlier run, so that an alarm that outlasts a restart does
    /// not start twice. Ignored once a read was published.
    pub fn remember(&mut self, list: Vec<Map<String, Value>>) {
        self.published.get_or_insert_with(|| by_key(list));
    }

    /// The events between what was published and the present read; none while the battery does not
    /// answer.
    pub fn events(&self, state: &DeviceState) -> Vec<Value> {
        if !is_read(state) {
            return Vec::new();
        }
        let none = Alarms::new();
        let published = self.published.as_ref().unwrap_or(&none);
        let diff = AlarmDiff::new(published, state);
        let ended = diff.ended.iter().filter_map(|key| published.get(key));
        let ended = ended.map(|alarm| event(ALARM_ENDED, alarm.clone()));
        let started = diff.started.values().map(|alarm| event(ALARM_STARTED, object(json!(alarm))));
        ended.chain(started).collect()
    }

    /// The events of this read have arrived.
    pub fn mark_published(&mut self, state: &DeviceState) {
        if is_read(state) {
            let published = self.published.get_or_insert_default();
            for key in AlarmDiff::new(published, state).ended {
                published.remove(&key);
            }
            published.extend(by_key(active(state)));
        }
    }
}

fn is_read(state: &DeviceState) -> bool {
    state.link == LinkState::Online && state.snapshot.is_some()
}

/// The active alarms as the JSON objects of the list.
pub fn active(state: &DeviceState) -> Vec<Map<String, Value>> {
    state.active_alarms().iter().map(|alarm| object(json!(alarm))).collect()
}

fn by_key(list: Vec<Map<String, Value>>) -> Alarms {
    list.into_iter().filter_map(|alarm| Some((key(&alarm)?, alarm))).collect()
}

fn key(alarm: &Map<String, Value>) -> Option<AlarmKey> {
    let text = |field: &str| alarm.get(field)?.as_str().map(str::to_owned);
    Some((text("battery")?, text("name")?))
}

fn event(kind: &str, alarm: Map<String, Value>) -> Value {
    let mut event = Map::from_iter([("event_type".to_owned(), json!(kind))]);
    event.extend(alarm);
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
        test_data::state(reading, 1)
    }

    fn summaries(events: &[Value]) -> Vec<String> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let summary = |event: &Value| text(&event["event_type"]) + " " + &text(&event["name"]);
        events.iter().map(summary).collect()
    }

    /// The events, all of which arrive.
    fn published(alarms: &mut AlarmEvents, state: &DeviceState) -> Vec<Value> {
        let events = alarms.events(state);
        alarms.mark_published(state);
        events
    }

    #[test]
    fn alarm_starts_once_and_ends_once() {
        use Alarm::{CellOvervoltage, FuseBlown};
        let mut alarms = AlarmEvents::default();
        let none = state(&[(CellOvervoltage, false), (FuseBlown, false)]);
        let one = state(&[(CellOvervoltage, true), (FuseBlown, false)]);
        let both = state(&[(CellOvervoltage, true), (FuseBlown, true)]);
        assert!(published(&mut alarms, &none).is_empty());
        assert_eq!(alarms.events(&one).len(), 1, "and this one was lost");
        let events = published(&mut alarms, &one);
        assert_eq!(summaries(&events), ["started cell_overvoltage"]);
        let words = "Rack battery: cell voltage high, now 3.312 V (BMS protection)";
        assert_eq!(events[0]["words"], words);
        assert!(published(&mut alarms, &one).is_empty());
        let events = published(&mut alarms, &both);
        assert_eq!(summaries(&events), ["started fuse_blown"]);
        let ended = published(&mut alarms, &none);
        let expected = ["ended cell_overvoltage", "ended fuse_blown"];
        assert_eq!(summaries(&ended), expected);
        assert_eq!(ended[0]["value"], 3.312, "an end repeats the alarm");
        assert!(published(&mut alarms, &none).is_empty());
    }

    #[test]
    fn alarm_missing_from_a_read_has_not_ended() {
        let mut alarms = AlarmEvents::default();
        published(&mut alarms, &state(&[(Alarm::FuseBlown, true)]));
        assert!(published(&mut alarms, &state(&[])).is_empty());
        assert!(published(&mut alarms, &state(&[(Alarm::FuseBlown, true)])).is_empty());
        assert_eq!(published(&mut alarms, &state(&[(Alarm::FuseBlown, false)])).len(), 1);
    }

    #[test]
    fn remembered_alarm_does_not_start_again() {
        let blown = state(&[(Alarm::FuseBlown, true)]);
        let mut alarms = AlarmEvents::default();
        alarms.remember(active(&blown));
        assert!(published(&mut alarms, &blown).is_empty());
        alarms.remember(Vec::new());
        assert!(published(&mut alarms, &blown).is_empty(), "a new connection changes nothing");
        let mut fresh = AlarmEvents::default();
        fresh.remember(Vec::new());
        let events = published(&mut fresh, &blown);
        assert_eq!(summaries(&events), ["started fuse_blown"]);
    }

    #[test]
    fn only_own_fields_of_the_retained_list_are_read_back() {
        let list =
            br#"[{"battery": "rack", "name": "fuse_blown", "words": "<img src=x>\u0007 Fuse",
            "cell": 4, "value": "<b>", "script": "x", "severity": {"a": 1}, "source": "bms"},
            {"battery": "rack", "name": "<b>", "words": "x"}, {"words": "x"}]"#;
        let expected = json!([{"battery": "rack", "name": "fuse_blown",
            "words": "&lt;img src=x&gt; Fuse", "cell": 4, "source": "bms"}]);
        assert_eq!(json!(parse_list(list)), expected);
        let many = json!(vec![json!({"battery": "rack", "name": "x"}); 300]).to_string();
        assert_eq!(parse_list(many.as_bytes()).expect("a list").len(), MAX_ALARMS);
        let own = active(&state(&[(Alarm::FuseBlown, true), (Alarm::CellOvervoltage, true)]));
        assert_eq!(parse_list(json!(own).to_string().as_bytes()), Some(own));
    }

    #[test]
    fn remembered_alarm_that_is_over_ends() {
        let mut alarms = AlarmEvents::default();
        alarms.remember(active(&state(&[(Alarm::FuseBlown, true)])));
        let events = published(&mut alarms, &state(&[(Alarm::FuseBlown, false)]));
        assert_eq!(summaries(&events), ["ended fuse_blown"]);
    }
}
