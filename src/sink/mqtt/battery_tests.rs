use super::*;
use crate::model::derived::BankSummary;
use crate::model::{Alarm, AlarmSet, Cell, Millis, Millivolts, Reading};
use crate::sink::mqtt::Publish;
use crate::sink::mqtt::test_data::{self, reading, settings, state, unread_state};
use crate::sink::mqtt::topics::DiscoveryTarget;

const BRIDGE: &str = "bms/bridge/c/online";
/// When the reads of [`test_data::state`] ended.
const NOW: Uptime = test_data::READ_AT;

fn battery() -> PublishedBattery {
    PublishedBattery::new(&settings(), &test_data::profile())
}

fn restore_entity(battery: &mut PublishedBattery, component: &str, key: &str) {
    let target = DiscoveryTarget::Entity(component.to_owned(), key.to_owned());
    let components = object(json!({ key: { "platform": component } }));
    battery.restore(RetainedState::Discovery(target, components));
}

fn without_soh() -> Reading {
    let mut reading = reading(4);
    reading.pack.soh = None;
    reading
}

fn payloads(messages: &[Message]) -> BTreeMap<&str, &str> {
    messages.iter().map(|message| (&*message.topic, &*message.payload)).collect()
}

fn topics_of(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| &*message.topic).collect()
}

#[test]
fn second_read_publishes_changed_values_only() {
    let (mut battery, settings, start) = (battery(), settings(), NOW);
    let first = battery.values(&state(reading(16), 1), &settings, start);
    assert_eq!(payloads(&first)["bms/rack/cell_16_voltage"], "3.324");
    assert!(first.iter().all(|message| message.retain && !message.at_least_once));

    let mut reading = reading(16);
    reading.cells[2] = Cell::of(Millivolts(3300));
    let later = Uptime(start.0 + 30_000);
    let second = battery.values(&state(reading.clone(), 2), &settings, later);
    let changed = [
        "bms/rack/cell_3_voltage",
        "bms/rack/cell_voltage_diff",
        "bms/rack/last_update",
        "bms/rack/min_cell",
        "bms/rack/min_cell_voltage",
    ];
    assert_eq!(payloads(&second).into_keys().collect::<Vec<_>>(), changed);

    let refreshed = Uptime(start.0 + 301_000);
    let mut third = state(reading, 3);
    third.read_at = Some(refreshed);
    let third = battery.values(&third, &settings, refreshed);
    assert_eq!(third.len(), first.len() - 5 + 1, "all but those sent recently");
}

#[test]
fn counters_wait_for_those_of_the_broker() {
    let (mut battery, settings) = (battery(), settings());
    let counters = ["bms/rack/energy_charged", "bms/rack/energy_discharged"];
    let published = |messages: &[Message]| {
        let payloads = payloads(messages);
        counters.map(|topic| payloads.contains_key(topic))
    };
    let first = battery.values(&state(reading(16), 1), &settings, NOW);
    assert_eq!(published(&first), [false; 2]);
    assert!(payloads(&first).contains_key("bms/rack/soc"));
    battery.energy_restored = true;
    let second = battery.values(&state(reading(16), 2), &settings, NOW);
    assert_eq!(published(&second), [true; 2]);
}

#[test]
fn values_of_an_old_read_are_not_published_again() {
    let settings = Settings { publish: Publish::All, ..settings() };
    let (mut battery, now) = (battery(), NOW);
    let mut state = state(reading(4), 1);
    battery.values(&state, &settings, now);
    state.counters.errors = 1;
    // A failed attempt: only what concerns the attempt itself.
    let of_the_link = ["bms/rack/read_errors", "bms/rack/readings_rejected"];
    assert_eq!(topics_of(&battery.values(&state, &settings, now)), of_the_link);
    state.link = LinkState::Offline { since: Millis(1) };
    battery.reset();
    assert_eq!(topics_of(&battery.values(&state, &settings, now)), of_the_link);
    let report = battery.report(&state, &settings, now);
    assert_eq!(report[0], Message::retained("bms/rack/online", "false"));
    state.link = LinkState::Online;
    assert!(battery.values(&state, &settings, now).len() > 20);
}

#[test]
fn stale_reading_is_never_published_as_online() {
    let (mut battery, settings) = (battery(), settings());
    let state = state(reading(4), 1);
    let (fresh, stale) = (Uptime(NOW.0 + 90_000), Uptime(NOW.0 + 90_001));
    let old = battery.report(&state, &settings, stale);
    assert_eq!(payloads(&old)["bms/rack/online"], "false");
    assert!(
        !topics_of(&old).contains(&"bms/rack/soc") && !topics_of(&old).contains(&"bms/rack/alarms")
    );
    let current = battery.report(&state, &settings, fresh);
    assert_eq!(payloads(&current)["bms/rack/online"], "true");
    assert_eq!(payloads(&current)["bms/rack/soc"], "64.0");
    // The next read is late; only failed reads make the battery offline.
    assert!(battery.report(&state, &settings, stale).is_empty());
    battery.reset_values();
    let reconnected = battery.report(&state, &settings, stale);
    assert_eq!(payloads(&reconnected)["bms/rack/online"], "false");
    assert!(!topics_of(&reconnected).contains(&"bms/rack/soc"));
}

#[test]
fn missing_value_becomes_unknown_and_is_cleared() {
    let (mut battery, settings, now) = (battery(), settings(), NOW);
    battery.values(&state(reading(4), 1), &settings, now);
    let mut messages = battery.values(&state(without_soh(), 2), &settings, now);
    messages.retain(|message| message.topic == "bms/rack/soh");
    let expected = [Message::event("bms/rack/soh", "None"), Message::clear("bms/rack/soh")];
    assert_eq!(messages, expected);
    let again = battery.values(&state(reading(4), 3), &settings, now);
    assert_eq!(payloads(&again)["bms/rack/soh"], "100.0");
}

#[test]
fn without_discovery_missing_value_is_only_cleared() {
    let (mut battery, now) = (battery(), NOW);
    let settings = Settings { discovery: Discovery::Off, ..settings() };
    battery.values(&state(reading(4), 1), &settings, now);
    let mut messages = battery.values(&state(without_soh(), 2), &settings, now);
    messages.retain(|message| message.topic == "bms/rack/soh");
    assert_eq!(messages, [Message::clear("bms/rack/soh")]);
}

#[test]
fn value_of_a_removed_cell_is_cleared() {
    let (mut battery, settings) = (battery(), settings());
    let four = state(reading(4), 1);
    battery.discovery(&four, &settings, BRIDGE);
    battery.values(&four, &settings, NOW);
    let messages = battery.discovery(&state(reading(3), 2), &settings, BRIDGE);
    assert!(messages.contains(&Message::clear("bms/rack/cell_4_voltage")));
}

#[test]
fn discovery_is_published_when_its_input_changes() {
    let (mut battery, settings) = (battery(), settings());
    assert_eq!(battery.discovery(&unread_state(), &settings, BRIDGE).len(), 5);
    assert!(battery.discovery(&unread_state(), &settings, BRIDGE).is_empty());
    assert!(battery.discovery(&state(reading(4), 1), &settings, BRIDGE).len() > 20);
    assert!(battery.discovery(&state(reading(4), 2), &settings, BRIDGE).is_empty());

    let mut slower = state(reading(4), 3);
    Arc::make_mut(&mut slower.profile).interval_ms = 600_000;
    let messages = battery.discovery(&slower, &settings, BRIDGE);
    assert!(!messages.is_empty(), "the expiry has changed");
}

#[test]
fn intermittent_quantity_always_has_an_entity() {
    let mut battery = battery();
    let mut state = state(reading(4), 1);
    let snapshot = state.snapshot.as_mut().expect("a read");
    Arc::make_mut(snapshot).derived.times = Default::default();
    restore_entity(&mut battery, "sensor", "time_to_full");
    restore_entity(&mut battery, "binary_sensor", "connection");
    let messages = battery.discovery(&state, &settings(), BRIDGE);
    for key in ["time_to_full", "time_to_empty"] {
        let topic = format!("homeassistant/sensor/rack/{key}/config");
        let found: Vec<_> = messages.iter().filter(|message| message.topic == topic).collect();
        assert!(found.len() == 1 && !found[0].payload.is_empty(), "{key}: {found:?}");
    }
    let values = battery.values(&state, &settings(), NOW);
    let cleared =
        [Message::event("bms/rack/time_to_full", "None"), Message::clear("bms/rack/time_to_full")];
    assert!(values.ends_with(&cleared), "the value of an earlier run: {values:?}");
    assert!(!topics_of(&values).contains(&"bms/rack/connection"));
}

#[test]
fn incomplete_bank_keeps_its_entities() {
    let mut battery = battery();
    let mut state = state(reading(4), 1);
    let mut clears_an_entity = |missing| {
        let snapshot = Arc::make_mut(state.snapshot.as_mut().expect("a read"));
        let summary = BankSummary { missing, ..Default::default() };
        snapshot.derived.bank = Some(Box::new(summary));
        restore_entity(&mut battery, "sensor", "pack_voltage_spread");
        let messages = battery.discovery(&state, &settings(), BRIDGE);
        messages.iter().any(|message| message.payload.is_empty())
    };
    assert!(!clears_an_entity(vec![test_data::profile().id]), "the spread may come back");
    assert!(clears_an_entity(Vec::new()), "complete, and there is no spread");
}

#[test]
fn active_alarms_are_published_as_a_list() {
    let mut battery = battery();
    let mut reading = reading(4);
    let first = battery.active_alarms(&state(reading.clone(), 1), NOW);
    let list = r#"[{"name":"low_soc_warning","battery":"rack","words":"Rack battery: charge low, now 64 % (BMS warning)","value":64.0,"unit":"%","source":"bms","severity":"warning"}]"#;
    assert_eq!(first, Some(Message::retained("bms/rack/alarms", list)));
    assert_eq!(battery.active_alarms(&state(reading.clone(), 2), NOW), None);
    reading.alarms = AlarmSet::default();
    let none = Some(Message::retained("bms/rack/alarms", "[]"));
    assert_eq!(battery.active_alarms(&state(reading.clone(), 3), NOW), none, "thresholds are set");
    battery.reset();
    reading.cells.clear();
    assert_eq!(battery.active_alarms(&state(reading, 4), NOW), None, "nothing can raise an alarm");
}

#[test]
fn alarm_event_is_published_once_across_connections() {
    let mut battery = battery();
    let state = state(reading(4), 1);
    battery.restore(RetainedState::Alarms(Vec::new()));
    let events = battery.alarm_events(&state);
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].topic.as_str(), events[0].retain), ("bms/rack/event", false));
    let event: Value = serde_json::from_str(&events[0].payload).expect("JSON");
    assert_eq!(
        (&event["event_type"], &event["name"]),
        (&json!("started"), &json!("low_soc_warning"))
    );
    assert_eq!(battery.alarm_events(&state), events, "it did not arrive");
    battery.alarms.mark_published(&state);
    battery.reset();
    battery.invalidate();
    battery.restore(RetainedState::Alarms(Vec::new()));
    assert!(battery.alarm_events(&state).is_empty());
}

#[test]
fn alarm_of_an_offline_battery_does_not_end() {
    let mut battery = battery();
    battery.alarms.mark_published(&state(reading(4), 1));
    let mut reading = reading(4);
    reading.alarms = AlarmSet::default();
    reading.alarms.note(Alarm::LowSocWarning, false);
    let mut offline = state(reading.clone(), 2);
    offline.link = LinkState::Offline { since: Millis(1) };
    assert!(battery.alarm_events(&offline).is_empty());
    battery.alarms.mark_published(&offline);
    let mut online = state(reading, 3);
    assert_eq!(battery.alarm_events(&online).len(), 1);
    online.snapshot = None;
    assert!(battery.alarm_events(&online).is_empty());
}

#[test]
fn online_follows_the_values_and_offline_precedes_them() {
    let (mut battery, settings, now) = (battery(), settings(), NOW);
    let mut state = state(reading(4), 1);
    let position = |messages: &[Message], topic: &str| {
        messages.iter().position(|message| message.topic == topic).expect("published")
    };
    let online = battery.report(&state, &settings, now);
    for key in ["alarms", "soc", "read_errors"] {
        let earlier = position(&online, &format!("bms/rack/{key}"));
        assert!(earlier < position(&online, "bms/rack/online"));
    }
    state.link = LinkState::Offline { since: Millis(1) };
    state.counters.errors = 1;
    let offline = battery.report(&state, &settings, now);
    assert_eq!(position(&offline, "bms/rack/online"), 0);
    assert_eq!(position(&offline, "bms/rack/read_errors"), 1);
}

#[test]
fn meta_contains_profile_and_identity() {
    let unread = meta(&unread_state());
    assert_eq!(
        unread.to_string(),
        r#"{"id":"rack","name":"Rack battery","type":"daren","port":"/dev/ttyUSB0","address":"1"}"#
    );
    let read = meta(&state(reading(4), 1));
    assert_eq!(read["model"], "DR-48100");
    assert_eq!(read["sw_rev"], "4.1");
    assert_eq!(read["serial_number"], "C0B1D2");
}

#[test]
fn raw_is_published_once_per_attempt() {
    let mut battery = battery();
    assert_eq!(battery.raw(&unread_state()), None);
    let state = state(reading(4), 1);
    let raw = battery.raw(&state).expect("one");
    assert!(!raw.retain && raw.topic == "bms/rack/raw");
    assert_eq!(battery.raw(&state), None);
    battery.reset();
    assert_eq!(battery.raw(&state), None, "a new connection repeats none");
    assert!(battery.raw(&test_data::state(reading(4), 2)).is_some());
}
