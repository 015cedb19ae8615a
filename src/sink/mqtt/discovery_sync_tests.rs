use super::*;
use crate::model::DeviceState;
use crate::sink::mqtt::topics::Topics;
use crate::sink::mqtt::{Publish, test_data};

const DEVICE: &str = "homeassistant/device/rack/config";

fn updated(
    format: Discovery,
    state: &DeviceState,
    retained: &mut RetainedDiscovery,
) -> DiscoveryUpdate {
    let topics = Topics::new("bms/{id}", "homeassistant", &state.profile);
    let mut seen = SeenQuantities::default();
    seen.update(state);
    let (bridge, publish) = ("bms/bridge/x/online", Publish::All);
    let context = Context { state, topics: &topics, bridge, publish, dashboard: None };
    retained.update(format, &context, &seen, state.snapshot.is_some())
}

fn add_entity(retained: &mut RetainedDiscovery, key: &str) {
    let target = DiscoveryTarget::Entity("sensor".to_owned(), key.to_owned());
    let component = (key.to_owned(), discovery::platform("sensor"));
    retained.add(target, Map::from_iter([component]));
}

fn pack(cells: i32) -> DeviceState {
    test_data::state(test_data::reading(cells), 1)
}

fn entity(key: &str) -> String {
    format!("homeassistant/sensor/rack/{key}/config")
}

/// Kind and topic of each message: `migrate`, `clear` or `publish`.
fn steps(update: &DiscoveryUpdate) -> Vec<(&'static str, String)> {
    let kind = |message: &Message| match (&*message.payload, message.retain) {
        (r#"{"migrate_discovery":true}"#, false) => "migrate",
        ("", true) => "clear",
        (_, true) => "publish",
        _ => "unexpected",
    };
    update.messages.iter().map(|message| (kind(message), message.topic.clone())).collect()
}

#[test]
fn unchanged_discovery_is_published_once() {
    for format in [Discovery::Entity, Discovery::Device] {
        let mut retained = RetainedDiscovery::default();
        let first = updated(format, &pack(16), &mut retained);
        assert!(!first.messages.is_empty());
        assert_eq!(updated(format, &pack(16), &mut retained), DiscoveryUpdate::default());
        retained.invalidate();
        assert_eq!(updated(format, &pack(16), &mut retained), first, "again after a birth");
    }
}

#[test]
fn only_changed_entities_are_published_or_cleared() {
    let mut retained = RetainedDiscovery::default();
    updated(Discovery::Entity, &pack(16), &mut retained);
    let fewer = updated(Discovery::Entity, &pack(15), &mut retained);
    assert_eq!(steps(&fewer), [("clear", entity("cell_16_voltage"))]);
    assert_eq!(fewer.removed_keys, BTreeSet::from(["cell_16_voltage".to_owned()]));
    let more = updated(Discovery::Entity, &pack(16), &mut retained);
    assert_eq!(steps(&more), [("publish", entity("cell_16_voltage"))]);
}

#[test]
fn component_is_removed_in_two_steps() {
    let mut retained = RetainedDiscovery::default();
    updated(Discovery::Device, &pack(16), &mut retained);
    let fewer = updated(Discovery::Device, &pack(15), &mut retained);
    assert_eq!(steps(&fewer), [("publish", DEVICE.to_owned()), ("publish", DEVICE.to_owned())]);
    let cell = |index: usize| {
        let payload: Value = serde_json::from_str(&fewer.messages[index].payload).expect("JSON");
        payload["components"].get("cell_16_voltage").cloned()
    };
    assert_eq!(cell(0), Some(json!({ "platform": "sensor" })));
    assert_eq!(cell(1), None);
    assert_eq!(fewer.removed_keys, BTreeSet::from(["cell_16_voltage".to_owned()]));
}

#[test]
fn old_entities_stay_until_the_battery_was_read() {
    let mut retained = RetainedDiscovery::default();
    add_entity(&mut retained, "soc");
    add_entity(&mut retained, "cell_17_voltage");
    let asleep = updated(Discovery::Entity, &test_data::unread_state(), &mut retained);
    assert!(steps(&asleep).iter().all(|(kind, _)| *kind == "publish"), "{asleep:?}");
    assert!(asleep.removed_keys.is_empty());
    let awake = updated(Discovery::Entity, &pack(16), &mut retained);
    assert!(steps(&awake).contains(&("clear", entity("cell_17_voltage"))));
    assert!(steps(&awake).contains(&("publish", entity("soc"))));
    assert_eq!(awake.removed_keys, BTreeSet::from(["cell_17_voltage".to_owned()]));
}

#[test]
fn old_components_stay_until_the_battery_was_read() {
    let mut retained = RetainedDiscovery::default();
    let old = json!({ "soc": { "platform": "sensor", "unique_id": "rack_soc" } });
    retained.add(DiscoveryTarget::Device(None), old.as_object().cloned().expect("an object"));
    let asleep = updated(Discovery::Device, &test_data::unread_state(), &mut retained);
    let payload: Value = serde_json::from_str(&asleep.messages[0].payload).expect("JSON");
    assert_eq!(payload["components"]["soc"]["unique_id"], "rack_soc");
    assert_eq!(payload["components"]["connection"]["platform"], "binary_sensor");
    assert!(asleep.removed_keys.is_empty());
}

#[test]
fn entities_migrate_to_a_device() {
    let mut retained = RetainedDiscovery::default();
    add_entity(&mut retained, "soc");
    add_entity(&mut retained, "old");
    let asleep = updated(Discovery::Device, &test_data::unread_state(), &mut retained);
    assert_eq!(asleep, DiscoveryUpdate::default(), "a battery that was not read keeps what it has");
    let update = updated(Discovery::Device, &pack(16), &mut retained);
    let expected = [
        ("migrate", entity("soc")),
        ("clear", entity("soc")),
        ("clear", entity("old")),
        ("publish", DEVICE.to_owned()),
    ];
    assert_eq!(steps(&update), expected);
    assert_eq!(update.removed_keys, BTreeSet::from(["old".to_owned()]));
}

#[test]
fn device_migrates_to_entities() {
    let mut retained = RetainedDiscovery::default();
    updated(Discovery::Device, &pack(16), &mut retained);
    let mut asleep = retained.clone();
    let held = updated(Discovery::Entity, &test_data::unread_state(), &mut asleep);
    assert_eq!(held, DiscoveryUpdate::default());
    let update = updated(Discovery::Entity, &pack(16), &mut retained);
    let steps = steps(&update);
    let device = |kind| (kind, DEVICE.to_owned());
    assert_eq!(steps[..2], [device("migrate"), device("clear")]);
    let published = &steps[2..];
    assert!(published.len() > 40 && published.iter().all(|(kind, _)| *kind == "publish"));
    assert!(update.removed_keys.is_empty());
}

fn module(number: usize) -> String {
    format!("homeassistant/device/rack/module_{number}/config")
}

#[test]
fn modules_are_devices_after_their_stack() {
    let mut retained = RetainedDiscovery::default();
    let first = updated(Discovery::Device, &test_data::stack(3), &mut retained);
    let publish = |topic| ("publish", topic);
    let all = [DEVICE.to_owned(), module(1), module(2), module(3)].map(publish);
    assert_eq!(steps(&first), all);
    assert_eq!(
        updated(Discovery::Device, &test_data::stack(3), &mut retained),
        DiscoveryUpdate::default()
    );

    let fewer = updated(Discovery::Device, &test_data::stack(2), &mut retained);
    let steps = steps(&fewer);
    assert_eq!(steps.last(), Some(&("clear", module(3))), "{steps:?}");
    assert!(fewer.removed_keys.contains("module_3_min_cell_voltage"));
    assert!(!fewer.removed_keys.contains("module_2_min_cell_voltage"));
}

#[test]
fn modules_migrate_with_their_stack() {
    let mut retained = RetainedDiscovery::default();
    updated(Discovery::Device, &test_data::stack(1), &mut retained);
    let update = updated(Discovery::Entity, &test_data::stack(1), &mut retained);
    let moved = [
        ("migrate", DEVICE.to_owned()),
        ("migrate", module(1)),
        ("clear", module(1)),
        ("clear", DEVICE.to_owned()),
    ];
    assert_eq!(steps(&update)[..4], moved);
    assert!(update.removed_keys.is_empty());
    let back = steps(&updated(Discovery::Device, &test_data::stack(1), &mut retained));
    assert!(back.contains(&("migrate", entity("module_1_min_cell_voltage"))));
    assert_eq!(back[back.len() - 2..], [("publish", DEVICE.to_owned()), ("publish", module(1))]);
}

#[test]
fn off_clears_own_discovery_and_keeps_values() {
    let mut retained = RetainedDiscovery::default();
    add_entity(&mut retained, "soc");
    updated(Discovery::Device, &pack(16), &mut retained);
    add_entity(&mut retained, "soc");
    let update = updated(Discovery::Off, &test_data::unread_state(), &mut retained);
    assert_eq!(steps(&update), [("clear", DEVICE.to_owned()), ("clear", entity("soc"))]);
    assert!(update.removed_keys.is_empty());
    assert_eq!(updated(Discovery::Off, &pack(16), &mut retained), DiscoveryUpdate::default());
}
