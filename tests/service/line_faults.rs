//! What goes wrong on the line: the right word for it, and never a wrong or repeated value.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value as Json;

use crate::fixture::{Adapter, Packs, Service, borrowed, legacy_environment};
use crate::mosquitto::{Message, Mosquitto, Subscriber};

const ID: &str = "bms_lifepo4_01";
const BASE: &str = "bms/bms_lifepo4_01";
/// Keys that tell about the conversation and the time, and may change while the battery says the
/// same.
const OF_THE_CONVERSATION: [&str; 8] = [
    "last_update",
    "read_duration",
    "read_errors",
    "readings_rejected",
    "energy_charged",
    "energy_discharged",
    "time_to_full",
    "time_to_empty",
];

struct Rig {
    broker: Mosquitto,
    mqtt: Subscriber,
    service: Service,
}

impl Rig {
    /// A pack that was read well at least once.
    fn start(port: &str, extra: &[(&'static str, &str)]) -> Self {
        let broker = Mosquitto::start();
        let mqtt = broker.subscribe();
        let mut variables = legacy_environment(port, &broker);
        variables.extend(extra.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let service = Service::start(&borrowed(&variables));
        mqtt.wait_for(&format!("{BASE}/online"), "true");
        mqtt.wait("the whole reading", is_raw);
        Rig { broker, mqtt, service }
    }

    /// Everything published about the battery so far, by key, without the conversation.
    fn values(&self) -> BTreeMap<String, Vec<String>> {
        let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for message in self.mqtt.all() {
            let Some(key) = message.topic.strip_prefix(BASE).and_then(|it| it.strip_prefix('/'))
            else {
                continue;
            };
            let told = ["online", "raw", "meta", "alarms"];
            if !told.contains(&key) && !OF_THE_CONVERSATION.contains(&key) {
                values.entry(key.to_owned()).or_default().push(message.payload);
            }
        }
        values
    }

    fn wait_error(&self, kind: &str) -> Json {
        let raw = self.mqtt.wait(kind, |it| is_raw(it) && parse(it)["error"]["type"] == kind);
        parse(&raw)
    }
}

fn is_raw(message: &Message) -> bool {
    message.topic == format!("{BASE}/raw")
}

fn parse(message: &Message) -> Json {
    serde_json::from_str(&message.payload).unwrap()
}

#[test]
fn each_disturbance_has_its_word_and_publishes_no_value() {
    // All values at every read, so that a repeated old one would be seen.
    let packs = Packs::on_terminal(&[1, 2]);
    let rig = Rig::start(&packs.port, &[("MQTT_PUBLISH", "all"), ("BMS_TIMEOUT", "0.5")]);
    let good: BTreeMap<String, String> =
        rig.values().into_iter().map(|(key, mut all)| (key, all.remove(0))).collect();
    assert!(good.len() > 40, "{good:?}");
    for (fault, kind) in [
        ("silence", "timeout"),
        ("checksum", "bad_checksum"),
        ("cut", "timeout"),
        ("foreign,silence", "timeout"),
        ("rtn=04", "bms_error"),
    ] {
        packs.set_faults(fault);
        rig.mqtt.clear();
        let failed = rig.wait_error(kind);
        assert_eq!(failed["got"]["cell_info"], false);
        assert!(failed["error"]["hint"].as_str().is_some_and(|hint| !hint.is_empty()));
        assert!(failed["status"]["last_update"].is_number(), "the last known status stays");
        // From the failed read on, nothing is repeated as if it were fresh.
        rig.mqtt.clear();
        rig.wait_error(kind);
        assert_eq!(rig.values(), BTreeMap::new(), "during {fault}");

        packs.set_faults("");
        rig.mqtt.clear();
        rig.mqtt.wait("a good read", |it| is_raw(it) && parse(it)["error"].is_null());
    }
    // These disturb, but the answer is there to be found.
    for fault in ["echo", "noise", "foreign"] {
        packs.set_faults(fault);
        rig.mqtt.clear();
        for _ in 0..2 {
            rig.mqtt.wait("a good read", |it| is_raw(it) && parse(it)["error"].is_null());
            rig.mqtt.forget(is_raw);
        }
    }
    packs.set_faults("checksum=0.3,cut=0.2,noise=0.3,foreign=0.3,echo=0.3,silence=0.1");
    rig.mqtt.clear();
    for _ in 0..8 {
        rig.mqtt.wait("a read", is_raw);
        rig.mqtt.forget(is_raw);
    }
    for (key, published) in rig.values() {
        assert!(published.iter().all(|it| *it == good[&key]), "{key}: {published:?}");
    }
    drop(rig.broker);
}

#[test]
fn an_unplugged_adapter_is_offline_until_it_is_back() {
    let mut adapter = Adapter::plugged_in();
    let mut rig = Rig::start(&adapter.port, &[]);
    rig.mqtt.clear();
    adapter.unplug();
    let failed = rig.mqtt.wait("a failed read", |it| is_raw(it) && !parse(it)["error"].is_null());
    let kind = parse(&failed)["error"]["type"].as_str().unwrap().to_owned();
    assert!(["disconnected", "port_not_found"].contains(&kind.as_str()), "{kind}");
    rig.wait_error("port_not_found");
    // Three failures and thirty seconds, then it is offline.
    let offline = |it: &Message| it.topic == format!("{BASE}/online") && it.payload == "false";
    rig.mqtt.wait_up_to(Duration::from_secs(60), offline).expect("offline");
    assert_eq!(rig.values(), BTreeMap::new(), "nothing old is repeated");
    adapter.plug_in();
    rig.mqtt.wait_for(&format!("{BASE}/online"), "true");
    assert!(rig.service.is_running());
    let log = rig.service.log();
    assert_eq!(rig.service.logged("WARN"), 2, "one line for the port, one for offline:\n{log}");
    assert_eq!(rig.service.logged("open again"), 1, "{log}");
    assert_eq!(rig.service.logged("answers again"), 1, "{log}");
}

#[test]
fn commands_over_mqtt_are_obeyed_and_answered() {
    let packs = Packs::on_terminal(&[1]);
    let rig = Rig::start(&packs.port, &[("READ_INTERVAL", "3600")]);
    rig.mqtt.clear();
    rig.broker.publish(&format!("{BASE}/cmd/read"), "now", false);
    rig.mqtt.wait("a read on command", is_raw);

    let result = format!("{BASE}/cmd/config/result");
    let ask = |payload: &str| {
        rig.mqtt.clear();
        rig.broker.publish(&format!("{BASE}/cmd/config"), payload, false);
        parse(&rig.mqtt.wait("an answer", |it| it.topic == result))
    };
    assert_eq!(ask(r#"{"poll_interval_s": 1}"#)["ok"], true);
    rig.mqtt.wait("the new beat", is_raw);
    let refused = ask(r#"{"adapter": "hci1"}"#);
    assert_eq!(refused["ok"], false);
    assert!(refused["error"].as_str().unwrap().contains("Bluetooth"), "{refused}");
    assert_eq!(ask("nonsense")["ok"], false);

    assert_eq!(ask(r#"{"paused": true}"#)["ok"], true);
    rig.mqtt.wait_for(&format!("{BASE}/online"), "false");
    assert_eq!(ask(r#"{"paused": false}"#)["ok"], true);
    rig.mqtt.wait_for(&format!("{BASE}/online"), "true");
    rig.service.wait_state(ID, "a good read", |state| state["error"].is_null());
}
