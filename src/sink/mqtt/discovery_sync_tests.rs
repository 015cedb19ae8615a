use std::time::Duration;

use super::*;
use crate::model::DeviceState;
use crate::sink::mqtt::topics::Topics;
use crate::sink::mqtt::{Publish, test_data};

const DEVICE: &str = "homeassistant/device/rack/config";

fn planned(format: Discovery, state: &DeviceState, announced: &mut RetainedDiscovery) -> Plan {
    let topics = Topics::new("bms/{id}", "homeassistant", &state.profile);
    let mut known = Known::default();
    known.update(state);
    let subject = Subject {
        profile: &state.profile,
        identity: state.snapshot.as_ref().map(|snapshot| &snapshot.reading.identity),
        modules: state.snapshot.as_ref().map_or(&[], |snapshot| &snapshot.reading.modules),
        topics: &topics,
        bridge: "bms/bridge/x/online",
        publish: Publish::Changes(Duration::from_secs(300)),
    };
    plan(format, &subject, &known, state.snapshot.is_some(), announced)
}

fn pack(cells: i32) -> DeviceState {
    test_data::read(test_data::reading(cells), 1)
}

fn entity(key: &str) -> String {
    format!("homeassistant/sensor/rack/{key}/config")
}

/// A short word for each message: `migrate`, `erase` or `fact`, with its topic.
fn steps(plan: &Plan) -> Vec<(&'static str, String)> {
    let kind = |message: &Message| match (&*message.payload, message.retain) {
        (r#"{"migrate_discovery":true}"#, false) => "migrate",
        ("", true) => "erase",
        (_, true) => "fact",
        _ => "strange",
    };
    plan.messages.iter().map(|message| (kind(message), message.topic.clone())).collect()
}

#[test]
fn nothing_is_announced_twice() {
    for format in [Discovery::Entity, Discovery::Device] {
        let mut announced = RetainedDiscovery::default();
        let first = planned(format, &pack(16), &mut announced);
        assert!(!first.messages.is_empty());
        assert_eq!(planned(format, &pack(16), &mut announced), Plan::default());
        announced.doubt();
        assert_eq!(planned(format, &pack(16), &mut announced), first, "again after a birth");
    }
}

#[test]
fn only_what_changed_is_announced_and_what_is_gone_is_erased() {
    let mut announced = RetainedDiscovery::default();
    planned(Discovery::Entity, &pack(16), &mut announced);
    let fewer = planned(Discovery::Entity, &pack(15), &mut announced);
    assert_eq!(steps(&fewer), [("erase", entity("cell_16_voltage"))]);
    assert_eq!(fewer.gone, BTreeSet::from(["cell_16_voltage".to_owned()]));
    let more = planned(Discovery::Entity, &pack(16), &mut announced);
    assert_eq!(steps(&more), [("fact", entity("cell_16_voltage"))]);
}

#[test]
fn a_component_goes_in_two_steps() {
    let mut announced = RetainedDiscovery::default();
    planned(Discovery::Device, &pack(16), &mut announced);
    let fewer = planned(Discovery::Device, &pack(15), &mut announced);
    assert_eq!(steps(&fewer), [("fact", DEVICE.to_owned()), ("fact", DEVICE.to_owned())]);
    let cell = |index: usize| {
        let payload: Value = serde_json::from_str(&fewer.messages[index].payload).expect("JSON");
        payload["components"].get("cell_16_voltage").cloned()
    };
    assert_eq!(cell(0), Some(json!({ "platform": "sensor" })));
    assert_eq!(cell(1), None);
    assert_eq!(fewer.gone, BTreeSet::from(["cell_16_voltage".to_owned()]));
}

#[test]
fn leftovers_wait_until_the_battery_was_read() {
    let mut announced = RetainedDiscovery::default();
    announced.found_entity("sensor", "soc");
    announced.found_entity("sensor", "cell_17_voltage");
    let asleep = planned(Discovery::Entity, &test_data::unread(), &mut announced);
    assert!(steps(&asleep).iter().all(|(kind, _)| *kind == "fact"), "{asleep:?}");
    assert!(asleep.gone.is_empty());
    let awake = planned(Discovery::Entity, &pack(16), &mut announced);
    assert!(steps(&awake).contains(&("erase", entity("cell_17_voltage"))));
    assert!(steps(&awake).contains(&("fact", entity("soc"))));
    assert_eq!(awake.gone, BTreeSet::from(["cell_17_voltage".to_owned()]));
}

#[test]
fn a_kept_device_keeps_its_components_until_the_battery_was_read() {
    let mut announced = RetainedDiscovery::default();
    let old = json!({ "soc": { "platform": "sensor", "unique_id": "rack_soc" } });
    announced.found_device(None, old.as_object().cloned().expect("an object"));
    let asleep = planned(Discovery::Device, &test_data::unread(), &mut announced);
    let payload: Value = serde_json::from_str(&asleep.messages[0].payload).expect("JSON");
    assert_eq!(payload["components"]["soc"]["unique_id"], "rack_soc");
    assert_eq!(payload["components"]["connection"]["platform"], "binary_sensor");
    assert!(asleep.gone.is_empty());
}

#[test]
fn from_entities_to_a_device() {
    let mut announced = RetainedDiscovery::default();
    announced.found_entity("sensor", "soc");
    announced.found_entity("sensor", "old");
    let asleep = planned(Discovery::Device, &test_data::unread(), &mut announced);
    assert_eq!(asleep, Plan::default(), "a battery that was not read keeps what it has");
    let plan = planned(Discovery::Device, &pack(16), &mut announced);
    let expected = [
        ("migrate", entity("soc")),
        ("erase", entity("old")),
        ("erase", entity("soc")),
        ("fact", DEVICE.to_owned()),
    ];
    assert_eq!(steps(&plan), expected);
    assert_eq!(plan.gone, BTreeSet::from(["old".to_owned()]));
}

#[test]
fn from_a_device_to_entities() {
    let mut announced = RetainedDiscovery::default();
    planned(Discovery::Device, &pack(16), &mut announced);
    let mut asleep = announced.clone();
    let held = planned(Discovery::Entity, &test_data::unread(), &mut asleep);
    assert_eq!(held, Plan::default());
    let plan = planned(Discovery::Entity, &pack(16), &mut announced);
    let steps = steps(&plan);
    let device = |kind| (kind, DEVICE.to_owned());
    assert_eq!(steps[..2], [device("migrate"), device("erase")]);
    let facts = &steps[2..];
    assert!(facts.len() > 40 && facts.iter().all(|(kind, _)| *kind == "fact"));
    assert!(plan.gone.is_empty());
}

fn module(number: usize) -> String {
    format!("homeassistant/device/rack/module_{number}/config")
}

#[test]
fn each_module_of_a_stack_is_a_device_of_its_own_behind_the_stack() {
    let mut announced = RetainedDiscovery::default();
    let first = planned(Discovery::Device, &test_data::stack(3), &mut announced);
    let fact = |topic| ("fact", topic);
    let all = [DEVICE.to_owned(), module(1), module(2), module(3)].map(fact);
    assert_eq!(steps(&first), all);
    assert_eq!(planned(Discovery::Device, &test_data::stack(3), &mut announced), Plan::default());

    let fewer = planned(Discovery::Device, &test_data::stack(2), &mut announced);
    let steps = steps(&fewer);
    assert_eq!(steps.last(), Some(&("erase", module(3))), "{steps:?}");
    assert!(fewer.gone.contains("module_3_min_cell_voltage"));
    assert!(!fewer.gone.contains("module_2_min_cell_voltage"));
}

#[test]
fn modules_move_between_the_formats_with_their_stack() {
    let mut announced = RetainedDiscovery::default();
    planned(Discovery::Device, &test_data::stack(1), &mut announced);
    let plan = planned(Discovery::Entity, &test_data::stack(1), &mut announced);
    let moved = [
        ("migrate", DEVICE.to_owned()),
        ("migrate", module(1)),
        ("erase", module(1)),
        ("erase", DEVICE.to_owned()),
    ];
    assert_eq!(steps(&plan)[..4], moved);
    assert!(plan.gone.is_empty());
    let back = steps(&planned(Discovery::Device, &test_data::stack(1), &mut announced));
    assert!(back.contains(&("migrate", entity("module_1_min_cell_voltage"))));
    assert_eq!(back[back.len() - 2..], [("fact", DEVICE.to_owned()), ("fact", module(1))]);
}

#[test]
fn off_removes_ours_and_leaves_the_values() {
    let mut announced = RetainedDiscovery::default();
    announced.found_entity("sensor", "soc");
    planned(Discovery::Device, &pack(16), &mut announced);
    announced.found_entity("sensor", "soc");
    let plan = planned(Discovery::Off, &test_data::unread(), &mut announced);
    assert_eq!(steps(&plan), [("erase", entity("soc")), ("erase", DEVICE.to_owned())]);
    assert!(plan.gone.is_empty());
    assert_eq!(planned(Discovery::Off, &pack(16), &mut announced), Plan::default());
}
