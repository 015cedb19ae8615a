use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::model::{Alarm, DeviceState};
use crate::sink::mqtt::test_data;

const CHANGES: Publish = Publish::Changes(Duration::from_secs(300));

fn with_subject<T>(state: &DeviceState, look: impl FnOnce(&Subject<'_>) -> T) -> T {
    let topics = Topics::new("bms/{id}", "homeassistant", &state.profile);
    look(&Subject {
        profile: &state.profile,
        identity: state.snapshot.as_ref().map(|snapshot| &snapshot.reading.identity),
        modules: state.snapshot.as_ref().map_or(&[], |snapshot| &snapshot.reading.modules),
        topics: &topics,
        bridge: "bms/bridge/bms-reader-rack/online",
        publish: CHANGES,
    })
}

fn known(state: &DeviceState) -> Known {
    let mut known = Known::default();
    known.update(state);
    known
}

fn pack() -> DeviceState {
    test_data::read(test_data::reading(16), 1)
}

/// The version is no part of what the snapshots are to guard.
fn text(payload: &Value) -> String {
    let text = serde_json::to_string_pretty(payload).expect("JSON");
    text.replace(&format!("\"{}\"", env!("CARGO_PKG_VERSION")), "\"[version]\"")
}

#[test]
fn a_pack_of_16_cells_by_entity() {
    let state = pack();
    let all = with_subject(&state, |subject| {
        let list = entities(subject, &known(&state));
        let one = |entity: &Entity| {
            let topic = subject.topics.entity(entity.component, &entity.key);
            format!("{topic}\n{}\n", text(&entity_payload(subject, entity)))
        };
        list.iter().map(one).collect::<String>()
    });
    insta::assert_snapshot!(all);
}

#[test]
fn a_pack_of_16_cells_by_device() {
    let state = pack();
    let all = with_subject(&state, |subject| {
        let list = entities(subject, &known(&state));
        let components = list.iter().map(|e| (e.key.clone(), component(e))).collect();
        text(&device_payload(subject, None, components))
    });
    insta::assert_snapshot!(all);
}

#[test]
fn a_module_is_a_device_under_its_stack() {
    let state = test_data::stack(2);
    let payload = |module: usize| {
        with_subject(&state, |subject| {
            let list = entities(subject, &known(&state));
            let key = format!("module_{module}_cell_voltage_diff");
            let entity = list.iter().find(|entity| entity.key == key).expect("an entity");
            entity_payload(subject, entity)
        })
    };
    let device = json!({
        "identifiers": ["bms_reader_rack_module_1"],
        "name": "Rack battery module 1",
        "manufacturer": "Daren",
        "via_device": "bms_reader_rack",
        "serial_number": "HPTST1",
    });
    assert_eq!(payload(1)["device"], device);
    assert_eq!(payload(1)["name"], "Cell voltage difference");
    assert_eq!(payload(1)["unique_id"], "rack_module_1_cell_voltage_diff");
    assert_eq!(payload(1)["state_topic"], "bms/rack/module_1_cell_voltage_diff");
    assert_eq!(payload(2)["device"].get("serial_number"), None, "unknown is absent");
}

#[test]
fn the_cells_of_a_stack_wait_until_somebody_wants_them() {
    for (modules, shown) in [(2, true), (3, false)] {
        let state = test_data::stack(modules);
        with_subject(&state, |subject| {
            for entity in entities(subject, &known(&state)) {
                let enabled = entity.body.get("enabled_by_default") != Some(&json!(false));
                if entity.key.starts_with("cell_") && entity.key.ends_with("_voltage") {
                    assert_eq!(enabled, shown, "{} of {modules} modules", entity.key);
                }
                if entity.key.starts_with("module_") {
                    assert!(enabled);
                }
            }
        });
    }
}

#[test]
fn a_module_that_is_gone_takes_even_what_was_not_read_this_time() {
    let with_serials = |modules: usize, told: bool| {
        let mut reading = test_data::stack(modules).snapshot.expect("a read").reading.clone();
        for module in &mut reading.modules {
            module.serial = told.then(|| "HPTST".to_owned());
        }
        test_data::read(reading, 1)
    };
    let mut known = known(&with_serials(3, true));
    known.update(&with_serials(2, false));
    let serials: Vec<_> = known.0.iter().filter(|it| it.key.ends_with("serial_number")).collect();
    assert_eq!(serials.len(), 2, "those of the others were only not read");
    assert!(known.0.iter().all(|it| it.module != Some(3)));
}

#[test]
fn before_the_first_read_only_the_link_is_known() {
    let state = test_data::unread();
    let keys = with_subject(&state, |subject| {
        entities(subject, &known(&state)).into_iter().map(|e| e.key).collect::<Vec<_>>()
    });
    assert_eq!(keys, ["connection", "read", "alarm", "read_errors", "readings_rejected"]);
}

/// Home Assistant rejects an entity whose unit or state class does not fit its class.
#[test]
fn classes_units_and_state_classes_fit_together() {
    for quantity in CATALOG {
        let look = look(quantity);
        let get = |key: &str| look.get(key).and_then(Value::as_str);
        let units: &[Option<&str>] = match get("device_class") {
            Some("battery") => &[Some("%")],
            Some("voltage") => &[Some("V"), Some("mV")],
            Some("current") => &[Some("A")],
            Some("power") => &[Some("W")],
            Some("energy_storage") => &[Some("Wh"), Some("kWh")],
            Some("energy") => &[Some("Wh"), Some("kWh")],
            Some("temperature") => &[Some("°C")],
            Some("duration") => &[Some("ms"), Some("s")],
            Some("signal_strength") => &[Some("dBm")],
            Some("enum" | "timestamp" | "problem") => &[None],
            Some(other) => panic!("{}: is {other} a class?", quantity.key),
            None => &[None, Some("Ah"), Some("%"), Some("mΩ")],
        };
        assert!(units.contains(&get("unit_of_measurement")), "{}", quantity.key);
        let state_class = get("state_class");
        match get("device_class") {
            Some("enum" | "timestamp" | "problem") => assert_eq!(state_class, None),
            Some("energy") => assert_ne!(state_class, Some("measurement"), "{}", quantity.key),
            Some(_) => assert_eq!(state_class, Some("measurement"), "{}", quantity.key),
            None => {}
        }
        let digits = look.get("suggested_display_precision").and_then(Value::as_u64);
        if state_class.is_some() || get("unit_of_measurement").is_some() {
            let digits = digits.expect(quantity.key);
            assert!(digits <= quantity.decimals.into(), "{}", quantity.key);
        }
    }
}

#[test]
fn every_entity_has_what_home_assistant_needs() {
    let state = pack();
    with_subject(&state, |subject| {
        let mut ids = std::collections::BTreeSet::new();
        for entity in entities(subject, &known(&state)) {
            let payload = entity_payload(subject, &entity);
            let unique = payload["unique_id"].as_str().expect("a unique id").to_owned();
            assert_eq!(unique, format!("rack_{}", entity.key));
            assert!(ids.insert(unique));
            let suggested = payload["default_entity_id"].as_str().expect("an entity id");
            assert!(suggested.starts_with(&format!("{}.", entity.component)));
            assert_eq!(payload["availability_mode"], "all");
            assert_eq!(payload["origin"]["name"], ORIGIN);
            assert_eq!(payload["device"]["identifiers"], json!(["bms_reader_rack"]));
            assert_eq!(payload["device"]["model"], "DR-48100");
            let named = payload.get("name").is_some() || payload.get("device_class").is_some();
            assert!(named, "{} has no name", entity.key);
            // The catalogue keys are legal levels of a discovery topic.
            let topic = subject.topics.entity(entity.component, &entity.key);
            let legal = |c: char| c.is_ascii_alphanumeric() || "_-/".contains(c);
            assert!(topic.chars().all(legal), "{topic}");
        }
    });
}

/// The switch shows the battery's own word, and there is none unless the operator allowed it.
#[test]
fn switches_appear_where_control_is_allowed() {
    let mut state = pack();
    let switches = |state: &DeviceState| {
        with_subject(state, |subject| {
            let list = entities(subject, &known(state));
            list.into_iter().filter(|it| it.component == "switch").collect::<Vec<_>>()
        })
    };
    assert_eq!(switches(&state), []);
    Arc::make_mut(&mut state.profile).controls = vec![Switch::Charging];
    let list = switches(&state);
    let [switch] = list.as_slice() else { panic!("{list:?}") };
    assert_eq!(switch.body["command_topic"], "bms/rack/cmd/charging");
    assert_eq!(switch.body["state_topic"], "bms/rack/charging_enabled");
    assert_eq!(switch.body["optimistic"], false);
    assert_eq!(switch.key, "charging_switch");
}

#[test]
fn ids_that_home_assistant_would_change_are_made_fit() {
    let mut profile = test_data::profile();
    profile.id = crate::model::DeviceId::new("Rack-2").expect("an id");
    let state = DeviceState::new(profile);
    with_subject(&state, |subject| {
        let body = identity_of(subject, "sensor", "soc");
        assert_eq!(body["unique_id"], "Rack-2_soc");
        assert_eq!(body["object_id"], "rack_2_soc");
        assert_eq!(body["default_entity_id"], "sensor.rack_2_soc");
    });
}

#[test]
fn values_expire_later_than_they_are_refreshed() {
    for (interval_ms, publish, least) in [
        (500, Publish::All, 120),
        (60_000, Publish::All, 300),
        (30_000, CHANGES, 630),
        (3_600_000, CHANGES, 18_000),
    ] {
        let mut profile = test_data::profile();
        profile.interval_ms = interval_ms;
        let state = DeviceState::new(profile);
        let expiry = with_subject(&state, |s| expiry(&Subject { publish, ..*s }));
        assert_eq!(expiry, Duration::from_secs(least), "{interval_ms} {publish:?}");
    }
}

#[test]
fn single_quantities_stay_and_families_follow_the_battery() {
    let keys = |known: &Known| known.0.iter().map(|it| it.key.clone()).collect::<Vec<_>>();
    let mut known = Known::default();
    assert!(known.update(&pack()));
    let all = keys(&known);
    assert!(!known.update(&test_data::read(test_data::reading(16), 2)));

    let mut reading = test_data::reading(15);
    reading.pack.soh = None;
    assert!(known.update(&test_data::read(reading, 3)));
    let fewer = keys(&known);
    let gone: Vec<_> = all.iter().filter(|key| !fewer.contains(key)).collect();
    assert_eq!(gone, ["cell_16_voltage"]);
    assert!(fewer.contains(&"soh".to_owned()));

    let mut reading = test_data::reading(1);
    reading.cells.clear();
    reading.alarms = crate::model::AlarmSet::default();
    let poor = test_data::read(reading, 4);
    assert!(!known.update(&poor), "cells and alarms were only not read this time");

    let mut reading = test_data::reading(15);
    reading.alarms.note(Alarm::FuseBlown, false);
    assert!(known.update(&test_data::read(reading, 5)));
    let order: Vec<_> = known.0.iter().map(|it| position(it.quantity)).collect();
    assert!(order.is_sorted(), "the order of the catalogue");
}
