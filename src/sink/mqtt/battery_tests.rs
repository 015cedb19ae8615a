use std::time::Duration;

use super::*;
use crate::model::Alarm;
use crate::model::units::Millis;
use crate::sink::mqtt::test_data::{self, settings};
use crate::sink::mqtt::{Discovery, Publish};

fn battery() -> Battery {
    Battery::new(Topics::new("bms/{id}", "homeassistant", &test_data::profile()))
}

fn texts(messages: &[Message]) -> BTreeMap<&str, &str> {
    messages.iter().map(|message| (&*message.topic, &*message.payload)).collect()
}

#[test]
fn a_second_read_sends_only_what_moved() {
    let (mut battery, settings, start) = (battery(), settings(), Instant::now());
    let first = battery.values(&test_data::read(test_data::reading(16), 1), &settings, start);
    assert_eq!(texts(&first)["bms/rack/cell_16_voltage"], "3.324");
    assert!(first.iter().all(|message| message.retain && !message.confirmed));

    let mut reading = test_data::reading(16);
    reading.cells[2] = crate::model::reading::Cell::of(crate::model::units::Millivolts(3300));
    let later = start + Duration::from_secs(30);
    let second = battery.values(&test_data::read(reading.clone(), 2), &settings, later);
    let topics: Vec<_> = texts(&second).into_keys().collect();
    let moved = [
        "bms/rack/cell_3_voltage",
        "bms/rack/cell_voltage_diff",
        "bms/rack/last_update",
        "bms/rack/min_cell",
        "bms/rack/min_cell_voltage",
    ];
    assert_eq!(topics, moved);

    let refreshed = start + Duration::from_secs(301);
    let third = battery.values(&test_data::read(reading, 3), &settings, refreshed);
    assert_eq!(third.len(), first.len() - 5 + 1, "all but those sent a moment ago");
}

#[test]
fn the_same_read_is_not_sent_again_as_if_it_were_new() {
    let mut settings = settings();
    settings.publish = Publish::All;
    let (mut battery, now) = (battery(), Instant::now());
    let mut state = test_data::read(test_data::reading(4), 1);
    battery.values(&state, &settings, now);
    state.counters.errors = 1;
    let topics = |messages: Vec<Message>| -> Vec<String> {
        messages.into_iter().map(|message| message.topic).collect()
    };
    // A failed attempt: only what concerns the attempt itself.
    let of_the_link = ["bms/rack/read_errors", "bms/rack/readings_rejected"];
    assert_eq!(topics(battery.values(&state, &settings, now)), of_the_link);
    state.link = LinkState::Offline { since: Millis(1) };
    battery.start_over();
    assert_eq!(topics(battery.values(&state, &settings, now)), of_the_link);
    let offline = Message::fact("bms/rack/online", "false");
    assert_eq!(battery.online(&state), Some(offline));
    state.link = LinkState::Online;
    assert!(battery.values(&state, &settings, now).len() > 20);
}

#[test]
fn a_value_that_vanished_is_cleared() {
    let (mut battery, settings, now) = (battery(), settings(), Instant::now());
    battery.values(&test_data::read(test_data::reading(4), 1), &settings, now);
    let mut reading = test_data::reading(4);
    reading.pack.soh = None;
    let next = battery.values(&test_data::read(reading, 2), &settings, now);
    let about: Vec<_> = next.iter().filter(|it| it.topic == "bms/rack/soh").collect();
    let expected = [Message::event("bms/rack/soh", "None"), Message::erase("bms/rack/soh")];
    assert_eq!(about, [&expected[0], &expected[1]], "Home Assistant needs a word for unknown");
    let back = battery.values(&test_data::read(test_data::reading(4), 3), &settings, now);
    assert_eq!(texts(&back)["bms/rack/soh"], "100.0");

    let quiet = Settings { discovery: Discovery::Off, ..settings };
    let mut reading = test_data::reading(4);
    reading.pack.soh = None;
    let next = battery.values(&test_data::read(reading, 4), &quiet, now);
    assert_eq!(texts(&next)["bms/rack/soh"], "", "nobody there knows that word");
}

#[test]
fn a_cell_that_is_gone_takes_its_value_along() {
    let (mut battery, settings, now) = (battery(), settings(), Instant::now());
    for (cells, sequence) in [(4, 1), (3, 2)] {
        let state = test_data::read(test_data::reading(cells), sequence);
        let messages = battery.discovery(&state, &settings, "bms/bridge/c/online");
        if cells == 3 {
            assert!(messages.contains(&Message::erase("bms/rack/cell_4_voltage")));
        }
        battery.values(&state, &settings, now);
    }
}

#[test]
fn discovery_is_not_repeated_with_every_read() {
    let (mut battery, settings) = (battery(), settings());
    let bridge = "bms/bridge/c/online";
    let before = battery.discovery(&test_data::unread(), &settings, bridge);
    assert_eq!(before.len(), 5);
    assert!(battery.discovery(&test_data::unread(), &settings, bridge).is_empty());
    assert!(
        battery.discovery(&test_data::read(test_data::reading(4), 1), &settings, bridge).len() > 20
    );
    let again = test_data::read(test_data::reading(4), 2);
    assert!(battery.discovery(&again, &settings, bridge).is_empty());

    let mut profile = test_data::profile();
    profile.interval_ms = 600_000;
    let mut slower = test_data::read(test_data::reading(4), 3);
    slower.profile = Arc::new(profile);
    assert!(!battery.discovery(&slower, &settings, bridge).is_empty(), "values live longer now");
}

#[test]
fn what_is_known_at_times_has_an_entity_all_the_time() {
    let mut battery = battery();
    let mut state = test_data::read(test_data::reading(4), 1);
    let snapshot = state.snapshot.as_mut().expect("a read");
    Arc::make_mut(snapshot).derived.times = Default::default();
    battery.found_entity("sensor", "time_to_full");
    battery.found_entity("binary_sensor", "connection");
    let messages = battery.discovery(&state, &settings(), "bms/bridge/c/online");
    for key in ["time_to_full", "time_to_empty"] {
        let topic = format!("homeassistant/sensor/rack/{key}/config");
        let told: Vec<_> = messages.iter().filter(|it| it.topic == topic).collect();
        assert!(told.len() == 1 && !told[0].payload.is_empty(), "{key}: {told:?}");
    }
    let values = battery.values(&state, &settings(), Instant::now());
    let gone =
        [Message::event("bms/rack/time_to_full", "None"), Message::erase("bms/rack/time_to_full")];
    assert!(values.ends_with(&gone), "what an earlier run has left: {values:?}");
    assert!(values.iter().all(|it| it.topic != "bms/rack/connection"));
}

#[test]
fn a_bank_that_starts_without_a_member_keeps_its_entities() {
    let mut battery = battery();
    let mut state = test_data::read(test_data::reading(4), 1);
    let mut look = |missing: Vec<crate::model::DeviceId>| {
        let snapshot = Arc::make_mut(state.snapshot.as_mut().expect("a read"));
        let whole = crate::model::bank::BankSummary { missing, ..Default::default() };
        snapshot.derived.bank = Some(Box::new(whole));
        battery.found_entity("sensor", "pack_voltage_spread");
        let messages = battery.discovery(&state, &settings(), "bms/bridge/c/online");
        messages.iter().any(|it| it.payload.is_empty())
    };
    let member = test_data::profile().id;
    assert!(!look(vec![member]), "the sums are only not known now");
    assert!(look(Vec::new()), "complete, and there is no spread");
}

#[test]
fn alarms_are_a_list_in_words() {
    let mut battery = battery();
    let mut reading = test_data::reading(4);
    let first = battery.facts(&test_data::read(reading.clone(), 1));
    let list = r#"[{"name":"low_soc_warning","battery":"rack","words":"Low state of charge warning: Rack battery at 64.0 %","value":64.0,"unit":"%","source":"bms","severity":"warning"}]"#;
    assert_eq!(texts(&first)["bms/rack/alarms"], list);
    assert!(battery.facts(&test_data::read(reading.clone(), 2)).is_empty());
    reading.alarms = crate::model::AlarmSet::default();
    let calm = battery.facts(&test_data::read(reading.clone(), 3));
    assert_eq!(calm, [Message::fact("bms/rack/alarms", "[]")], "limits of ours are watched");
    battery.start_over();
    reading.cells.clear();
    let mute = battery.facts(&test_data::read(reading, 4));
    assert_eq!(texts(&mute).into_keys().collect::<Vec<_>>(), ["bms/rack/meta"]);
}

#[test]
fn an_alarm_is_an_event_once_and_not_again_on_a_new_connection() {
    let mut battery = battery();
    let mut state = test_data::read(test_data::reading(4), 1);
    battery.remember_alarms(Vec::new());
    let events = battery.events(&state);
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].topic.as_str(), events[0].retain), ("bms/rack/event", false));
    let event: Value = serde_json::from_str(&events[0].payload).expect("JSON");
    assert_eq!(
        (&event["event_type"], &event["name"]),
        (&json!("started"), &json!("low_soc_warning"))
    );
    assert_eq!(battery.events(&state), events, "it was not told yet");
    battery.events_told(&state);
    battery.start_over();
    battery.repeat();
    battery.remember_alarms(Vec::new());
    assert!(battery.events(&state).is_empty());

    let mut reading = test_data::reading(4);
    reading.alarms = crate::model::AlarmSet::default();
    reading.alarms.note(Alarm::LowSocWarning, false);
    let mut silent = test_data::read(reading.clone(), 2);
    silent.link = LinkState::Offline { since: Millis(1) };
    assert!(battery.events(&silent).is_empty(), "nobody knows");
    battery.events_told(&silent);
    assert_eq!(battery.events(&test_data::read(reading, 3)).len(), 1);
    state.snapshot = None;
    assert!(battery.events(&state).is_empty());
}

#[test]
fn true_comes_behind_the_values_and_false_before_them() {
    let (mut battery, settings, now) = (battery(), settings(), Instant::now());
    let mut state = test_data::read(test_data::reading(4), 1);
    let place = |messages: &[Message], topic: &str| {
        messages.iter().position(|it| it.topic == topic).expect("said")
    };
    let online = battery.report(&state, &settings, now);
    for earlier in ["alarms", "soc", "read_errors"] {
        let earlier = place(&online, &format!("bms/rack/{earlier}"));
        assert!(earlier < place(&online, "bms/rack/online"));
    }
    state.link = LinkState::Offline { since: Millis(1) };
    state.counters.errors = 1;
    let offline = battery.report(&state, &settings, now);
    assert_eq!(place(&offline, "bms/rack/online"), 0);
    assert_eq!(place(&offline, "bms/rack/read_errors"), 1);
}

#[test]
fn meta_says_who_and_where() {
    let unread = meta(&test_data::unread());
    assert_eq!(
        unread.to_string(),
        r#"{"id":"rack","name":"Rack battery","type":"daren","port":"/dev/ttyUSB0","address":"1"}"#
    );
    let read = meta(&test_data::read(test_data::reading(4), 1));
    assert_eq!(read["model"], "DR-48100");
    assert_eq!(read["sw_rev"], "4.1");
    assert_eq!(read["serial_number"], "C0B1D2");
}

#[test]
fn each_attempt_has_one_raw() {
    let mut battery = battery();
    assert_eq!(battery.raw(&test_data::unread()), None);
    let state = test_data::read(test_data::reading(4), 1);
    let raw = battery.raw(&state).expect("one");
    assert!(!raw.retain && raw.topic == "bms/rack/raw");
    assert_eq!(battery.raw(&state), None);
    battery.start_over();
    assert_eq!(battery.raw(&state), None, "it is no news on a new connection");
    assert!(battery.raw(&test_data::read(test_data::reading(4), 2)).is_some());
}
