//! Energy counters continue from the values that the broker retained.

use bms_reader::model::EnergyTotals;
use bms_reader::model::energy::Energy;
use tokio_util::sync::CancellationToken;

use crate::BRIDGE;
use crate::fixture::{TestSink, pack};
use crate::mosquitto::Mosquitto;
use crate::proxy::Proxy;

fn totals(charged: &str, discharged: &str) -> Option<EnergyTotals> {
    let energy = |text| Energy::from_kwh(text).expect("a number");
    Some(EnergyTotals { charged: energy(charged), discharged: energy(discharged) })
}

/// The broker retains both counters of `both`, one of `one` and none of `none`.
fn sink_with_retained_counters(broker: &Mosquitto) -> TestSink {
    broker.publish("bms/both/energy_charged", "5.0", true);
    broker.publish("bms/both/energy_discharged", "3.0", true);
    broker.publish("bms/one/energy_charged", "7.0", true);
    TestSink::with_batteries(broker, &["both", "one", "none"])
}

#[test]
fn incomplete_counters_wait_for_a_delayed_echo() {
    // The proxy delays acknowledgements, too. With MQTT 5 no more than this many may be missing.
    let broker = Mosquitto::with_config("allow_anonymous true\nmax_inflight_messages 1000\n");
    let proxy = Proxy::to(broker.port());
    let mqtt = broker.subscribe();
    let mut sink = sink_with_retained_counters(&broker);
    sink.settings.port = proxy.port();
    proxy.hold_echo(true);
    let sink = sink.run();
    mqtt.wait_for(BRIDGE, "true");
    let energy = |id| sink.energy_before_start(id);
    assert_eq!((energy("one"), energy("none")), (None, None));
    proxy.hold_echo(false);
    sink.wait_until("the echo", |sink| sink.energy_before_start("none").is_some());
    assert_eq!(energy("both"), totals("5.0", "3.0"));
    assert_eq!(energy("one"), totals("7.0", "0.0"));
    assert_eq!(energy("none"), totals("0.0", "0.0"));
}

#[test]
fn history_file_precedes_the_broker_and_delays_nothing_else() {
    let broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    let mut sink = sink_with_retained_counters(&broker);
    let file_restored = CancellationToken::new();
    sink.file_restored = file_restored.clone();
    let sink = sink.run();
    sink.accept("both", pack(4));
    mqtt.wait_for("bms/both/online", "true");
    mqtt.wait_for(BRIDGE, "true");
    assert_eq!(sink.energy_before_start("both"), None, "the file has not been read");
    file_restored.cancel();
    sink.wait_until("the counters", |sink| sink.energy_before_start("none").is_some());
    assert_eq!(sink.energy_before_start("both"), totals("5.0", "3.0"));
}

#[test]
fn without_an_echo_only_complete_counters_are_restored() {
    let mut broker = Mosquitto::not_started();
    let rules = broker.folder().join("rules");
    std::fs::write(&rules, "topic readwrite #\ntopic deny bms/bridge/+/ping\n").expect("a file");
    broker.configure(&format!("allow_anonymous true\nacl_file {}\n", rules.display()));
    broker.restart();
    let mqtt = broker.subscribe();
    let sink = sink_with_retained_counters(&broker).run();
    mqtt.wait_for(BRIDGE, "true");
    let energy = ["both", "one", "none"].map(|id| sink.energy_before_start(id));
    assert_eq!(energy, [totals("5.0", "3.0"), None, None]);
}

#[test]
fn messages_of_others_are_no_echo() {
    let broker = Mosquitto::start();
    broker.publish(&BRIDGE.replace("online", "ping"), "echo", true);
    let mqtt = broker.subscribe();
    let sink = sink_with_retained_counters(&broker).run();
    mqtt.wait_for(BRIDGE, "true");
    let energy = ["both", "one", "none"].map(|id| sink.energy_before_start(id));
    assert_eq!(energy, [totals("5.0", "3.0"), totals("7.0", "0.0"), totals("0.0", "0.0")]);
}
