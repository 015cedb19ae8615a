use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::model::DeviceState;
use crate::model::catalog::CATALOG;
use crate::sink::mqtt::test_data;
use crate::sink::mqtt::topics::DiscoveryTarget;

const CHANGES: Publish = Publish::Changes(Duration::from_secs(300));

fn with_context<T>(state: &DeviceState, test: impl FnOnce(&Context<'_>) -> T) -> T {
    let topics = Topics::new("bms/{id}", "homeassistant", &state.profile);
    let bridge = "bms/bridge/bms-reader-rack/online";
    test(&Context { state, topics: &topics, bridge, publish: CHANGES, dashboard: None })
}

fn topic_of(context: &Context<'_>, entity: &Entity) -> String {
    let Entity { component, key, .. } = entity.clone();
    context.topics.discovery(&DiscoveryTarget::Entity(component.to_owned(), key))
}

fn entities_of(context: &Context<'_>) -> Vec<Entity> {
    let mut seen = SeenQuantities::default();
    seen.update(context.state);
    entities(context, &seen)
}

fn pack() -> DeviceState {
    test_data::state(test_data::reading(16), 1)
}

/// Snapshots must not change with the version.
fn text(payload: &Value) -> String {
    let text = serde_json::to_string_pretty(payload).expect("JSON");
    text.replace(&format!("\"{}\"", env!("CARGO_PKG_VERSION")), "\"[version]\"")
}

#[test]
fn entity_discovery_snapshot() {
    let state = pack();
    let all = with_context(&state, |context| {
        let list = entities_of(context);
        let one = |entity: &Entity| {
            let topic = topic_of(context, entity);
            format!("{topic}\n{}\n", text(&entity_payload(context, entity)))
        };
        list.iter().map(one).collect::<String>()
    });
    insta::assert_snapshot!(all);
}

#[test]
fn device_discovery_snapshot() {
    let state = pack();
    let all = with_context(&state, |context| {
        let list = entities_of(context);
        let components =
            list.iter().map(|entity| (entity.key.clone(), component(entity))).collect();
        text(&device_payload(context, None, components))
    });
    insta::assert_snapshot!(all);
}

#[test]
fn module_is_a_device_below_its_stack() {
    let state = test_data::stack(2);
    let payload = |module: usize| {
        with_context(&state, |context| {
            let list = entities_of(context);
            let key = format!("module_{module}_cell_voltage_diff");
            let entity = list.iter().find(|entity| entity.key == key).expect("an entity");
            entity_payload(context, entity)
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
fn device_links_to_its_page() {
    for (dashboard, expected) in [
        (None, None),
        (Some("http://10.0.0.5:8099/"), Some("http://10.0.0.5:8099/#/rack")),
        (Some("homeassistant://app/a1_bms_reader"), Some("homeassistant://app/a1_bms_reader")),
    ] {
        let state = test_data::stack(1);
        for module in [None, Some(1)] {
            let device =
                with_context(&state, |context| device(&Context { dashboard, ..*context }, module));
            let url = device.get("configuration_url").and_then(Value::as_str);
            assert_eq!(url, expected, "{module:?}");
        }
    }
}

#[test]
fn cells_of_a_large_stack_are_disabled_by_default() {
    for (modules, expected) in [(2, true), (3, false)] {
        let state = test_data::stack(modules);
        with_context(&state, |context| {
            for entity in entities_of(context) {
                let enabled = entity.body.get("enabled_by_default") != Some(&json!(false));
                if entity.key.starts_with("cell_") && entity.key.ends_with("_voltage") {
                    assert_eq!(enabled, expected, "{} of {modules} modules", entity.key);
                }
                if entity.key.starts_with("module_") {
                    assert!(enabled);
                }
            }
        });
    }
}

#[test]
fn entities_before_the_first_read() {
    let state = test_data::unread_state();
    let keys = with_context(&state, |context| {
        entities_of(context).into_iter().map(|entity| entity.key).collect::<Vec<_>>()
    });
    assert_eq!(keys, ["connection", "read", "alarm", "read_errors", "readings_rejected"]);
}

/// Home Assistant rejects an entity whose unit or state class does not fit its class.
#[test]
fn units_and_state_classes_fit_the_device_class() {
    for quantity in CATALOG {
        let fields = presentation(quantity);
        let get = |key: &str| fields.get(key).and_then(Value::as_str);
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
            Some(other) => panic!("{}: unknown device class {other}", quantity.key),
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
        let digits = fields.get("suggested_display_precision").and_then(Value::as_u64);
        if state_class.is_some() || get("unit_of_measurement").is_some() {
            let digits = digits.expect(quantity.key);
            assert!(digits <= quantity.kind.decimals().into(), "{}", quantity.key);
        }
    }
}

#[test]
fn every_entity_has_ids_availability_and_name() {
    let state = pack();
    with_context(&state, |context| {
        let mut ids = std::collections::BTreeSet::new();
        for entity in entities_of(context) {
            let payload = entity_payload(context, &entity);
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
            let topic = topic_of(context, &entity);
            let legal = |c: char| c.is_ascii_alphanumeric() || "_-/".contains(c);
            assert!(topic.chars().all(legal), "{topic}");
        }
    });
}

#[test]
fn switch_exists_only_where_control_is_allowed() {
    let mut state = pack();
    let switches = |state: &DeviceState| {
        with_context(state, |context| {
            let list = entities_of(context);
            list.into_iter().filter(|entity| entity.component == "switch").collect::<Vec<_>>()
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
fn entity_ids_are_slugs() {
    let mut profile = test_data::profile();
    profile.id = crate::model::DeviceId::new("Rack-2").expect("an id");
    let state = DeviceState::new(profile);
    with_context(&state, |context| {
        let body = ids(context, "sensor", "soc");
        assert_eq!(body["unique_id"], "Rack-2_soc");
        assert_eq!(body["object_id"], "rack_2_soc");
        assert_eq!(body["default_entity_id"], "sensor.rack_2_soc");
    });
}

#[test]
fn values_outlive_the_refresh_interval() {
    for (interval_ms, publish, seconds) in [
        (500, Publish::All, 120),
        (60_000, Publish::All, 300),
        (30_000, CHANGES, 630),
        (3_600_000, CHANGES, 18_000),
    ] {
        let mut profile = test_data::profile();
        profile.interval_ms = interval_ms;
        let state = DeviceState::new(profile);
        let expiry = with_context(&state, |context| expiry(&Context { publish, ..*context }));
        assert_eq!(expiry, Duration::from_secs(seconds), "{interval_ms} {publish:?}");
    }
}

/// A will is lost when a broker loses its network, so a value must expire by itself.
#[test]
fn every_measured_value_expires() {
    // Times that may be unknown for days, results of weeks, and what concerns the reads themselves.
    let lasting = [
        "time_to_full",
        "time_to_empty",
        "cell_spread_full",
        "cell_spread_rest",
        "weakest_cell",
        "estimated_capacity",
        "rssi",
        "read_errors",
        "readings_rejected",
    ];
    for state in [pack(), test_data::stack(2)] {
        with_context(&state, |context| {
            let values = entities_of(context);
            let values = values.iter().filter(|entity| entity.key != CONNECTION);
            let values =
                values.filter(|entity| matches!(entity.component, "sensor" | "binary_sensor"));
            let mut count = 0;
            for entity in values {
                let key = entity.key.as_str();
                let lasts = lasting.contains(&key);
                let expiry = entity_payload(context, entity).get("expire_after").cloned();
                assert_eq!(expiry.is_none_or(|value| value.is_null()), lasts, "{key}");
                count += 1;
            }
            assert!(count > 40, "{count}");
        });
    }
}
