//! Messages of others that are too large, too many or too fast.

use std::time::Duration;

use bms_reader::model::Reading;
use serde_json::json;

use crate::BRIDGE;
use crate::fixture::{TestSink, pack};
use crate::mosquitto::Mosquitto;

/// More than the library accepts.
const HUGE: usize = 1_100_000;

#[test]
fn huge_retained_messages_do_not_silence_the_sink() {
    let broker = Mosquitto::start();
    let huge = "x".repeat(HUGE);
    for topic in [
        "homeassistant/status",
        "bms/rack/cmd/read",
        "bms/rack/cmd/config",
        "bms/rack/alarms",
        "bms/rack/energy_charged",
        "homeassistant/sensor/rack/soc/config",
        "homeassistant/device/rack/config",
    ] {
        broker.publish_large(topic, &huge);
    }
    let mqtt = broker.subscribe();
    let mut sink = TestSink::start(&broker);
    sink.read(pack(16));
    mqtt.wait_for("bms/rack/soc", "64.0");
    mqtt.wait_for("bms/rack/online", "true");
    mqtt.wait_for(BRIDGE, "true");
    // Commands and the birth message still arrive, and a huge one in between changes nothing.
    broker.publish_large("bms/rack/cmd/config", &huge);
    broker.publish("bms/rack/cmd/read", "", false);
    sink.accept_command();
    mqtt.clear();
    broker.publish("homeassistant/status", "online", false);
    mqtt.wait_for("bms/rack/soc", "64.0");
    assert_eq!(sink.broker_state().connections, 1, "{}", broker.log());
}

#[test]
fn retained_announcements_are_bounded_in_number_and_size() {
    let broker = Mosquitto::start();
    let components: serde_json::Map<_, _> = (0..2000)
        .map(|n| (format!("key_{n}"), json!({ "platform": "sensor", "x": "y".repeat(75) })))
        .collect();
    let payload = json!({ "o": { "name": "bms-reader" }, "components": components }).to_string();
    assert!(payload.len() > 200_000 && payload.len() < 256 * 1024, "{}", payload.len());
    for module in 1..=30 {
        broker
            .publish_large(&format!("homeassistant/device/rack/module_{module}/config"), &payload);
    }
    let mqtt = broker.subscribe();
    let sink = TestSink::start(&broker);
    sink.read(pack(16));
    mqtt.wait_for("bms/rack/online", "true");
    mqtt.wait_for(BRIDGE, "true");
    // Those within the limit are removed, the others were never stored.
    let cleared = mqtt.all().into_iter().filter(|message| {
        message.topic.starts_with("homeassistant/device/rack/module_") && message.payload.is_empty()
    });
    let cleared = cleared.count();
    assert!((1..=2).contains(&cleared), "{cleared}");
}

#[test]
fn flood_of_read_commands_is_limited() {
    let broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    let mut sink = TestSink::start(&broker);
    mqtt.wait_for(BRIDGE, "true");
    broker.publish_many("bms/rack/cmd/read", "x", 20_000);
    broker.publish("bms/rack/cmd/config", "{\"paused\": false}", false);
    mqtt.wait_on("bms/rack/cmd/config");
    let mut commands = 0;
    while !matches!(sink.accept_command(), bms_reader::command::Command::Configure(_)) {
        commands += 1;
    }
    // Five at once, and one every two seconds while the flood lasted.
    assert!((5..60).contains(&commands), "{commands}");
    assert_eq!(sink.broker_state().connections, 1, "{}", broker.log());
}

#[test]
fn foreign_fields_of_the_retained_alarms_are_not_published() {
    let broker = Mosquitto::start();
    let alarm = json!([{ "battery": "rack", "name": "cell_overvoltage", "words": "<script>x</script>",
        "url": "http://evil", "cell": 4 }]);
    broker.publish("bms/rack/alarms", &alarm.to_string(), true);
    let mqtt = broker.subscribe();
    let sink = TestSink::start(&broker);
    sink.read(pack(16));
    let event = mqtt.wait("an event", |message| message.topic == crate::EVENT).payload;
    assert!(event.contains("ended") && event.contains("&lt;script&gt;"), "{event}");
    assert!(!event.contains("url") && !event.contains("<script>"), "{event}");
}

#[test]
fn impossible_counters_of_the_broker_are_refused_and_can_be_set() {
    let broker = Mosquitto::start();
    broker.publish("bms/rack/energy_charged", "999999.5", true);
    broker.publish("bms/rack/energy_discharged", "1.0", true);
    let mqtt = broker.subscribe();
    let sink = TestSink::start(&broker);
    mqtt.wait_for(BRIDGE, "true");
    let reading = || {
        let mut reading: Reading = pack(16);
        reading.pack.full = Some(bms_reader::model::MilliampHours(100_000));
        reading
    };
    sink.accept("rack", reading());
    mqtt.wait_for("bms/rack/energy_charged", "0.0");
    broker.publish(
        "bms/rack/cmd/config",
        r#"{"energy_charged_kwh": 12.5, "energy_discharged_kwh": 0.25}"#,
        false,
    );
    mqtt.wait_for(
        "bms/rack/cmd/config/result",
        r#"{"ok":true,"energy_charged_kwh":12.5,"energy_discharged_kwh":0.25}"#,
    );
    sink.accept("rack", reading());
    mqtt.wait_for("bms/rack/energy_charged", "12.5");
    mqtt.wait_for("bms/rack/energy_discharged", "0.25");
}

#[test]
fn old_reading_is_not_live_after_a_reconnect() {
    let mut broker = Mosquitto::start();
    let sink = TestSink::start(&broker);
    sink.wait_until("a connection", |sink| sink.broker_state().connected);
    broker.stop();
    sink.read_earlier("rack", pack(16), Duration::from_secs(91));
    broker.restart();
    let mqtt = broker.subscribe();
    mqtt.wait_for(BRIDGE, "true");
    assert_eq!(mqtt.payloads("bms/rack/online"), ["false"]);
    assert!(mqtt.payloads("bms/rack/soc").is_empty());
    sink.read(pack(16));
    mqtt.wait_for("bms/rack/online", "true");
    mqtt.wait_for("bms/rack/soc", "64.0");
}
