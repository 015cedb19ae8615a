//! What only MQTT 5 has, and brokers that do not have it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command as Process, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use bms_reader::sink::mqtt::Version;

use crate::BRIDGE;
use crate::fixture::{TestSink, pack};
use crate::mosquitto::Mosquitto;

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        LOG.lock().expect("no panic").extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Each test is a process of its own, and so is its log.
fn record_log() {
    tracing_subscriber::fmt().with_ansi(false).with_writer(|| LogWriter).init();
}

fn log() -> String {
    String::from_utf8_lossy(&LOG.lock().expect("no panic")).into_owned()
}

fn sink(broker: &Mosquitto) -> TestSink {
    let mut sink = TestSink::with_batteries(broker, &["rack"]);
    sink.settings.version = Version::V5;
    sink
}

/// Topic, expiry and user properties of the retained messages that match a filter.
fn retained(broker: &Mosquitto, filter: &str) -> Vec<(String, String, String)> {
    let mut process = Process::new("mosquitto_sub");
    process.args(["-h", "127.0.0.1", "-p", &broker.port().to_string(), "-V", "5"]);
    process.args(["-t", filter, "-F", "%t|%E|%P", "-W", "2"]).stderr(Stdio::null());
    let output = process.output().expect("mosquitto_sub starts").stdout;
    let text = String::from_utf8(output).expect("text");
    let message = |line: &str| {
        let mut parts = line.splitn(3, '|').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        (next(), next(), next())
    };
    text.lines().map(message).collect()
}

#[test]
fn only_live_values_expire_and_every_message_names_its_origin() {
    let broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    let sink = sink(&broker);
    sink.accept("rack", pack(16));
    let _sink = sink.run();
    mqtt.wait_for("bms/rack/online", "true");
    mqtt.wait_on("bms/rack/energy_charged");
    mqtt.wait_for(BRIDGE, "true");
    let values = retained(&broker, "bms/#");
    let expiry = |key: &str| {
        let topic = format!("bms/rack/{key}");
        let found = values.iter().find(|(found, ..)| *found == topic);
        found.unwrap_or_else(|| panic!("{topic} in {values:?}")).1.clone()
    };
    for key in ["soc", "cell_16_voltage", "last_update"] {
        // Two refreshes of 300 s and an interval of 30 s, less what has passed.
        let seconds: u32 = expiry(key).parse().expect("an expiry");
        assert!((600..=630).contains(&seconds), "{key}: {seconds}");
    }
    for key in ["online", "meta", "alarms", "energy_charged", "energy_discharged"] {
        assert_eq!(expiry(key), "", "{key}");
    }
    let discovery = retained(&broker, "homeassistant/#");
    assert!(discovery.len() > 20 && discovery.iter().all(|(_, expiry, _)| expiry.is_empty()));
    let published = values.iter().chain(&discovery);
    for (topic, _, properties) in published.filter(|(topic, ..)| topic != BRIDGE) {
        assert!(
            properties.contains("origin:bms-reader") && properties.contains("schema:1"),
            "{topic}: {properties}"
        );
    }
}

#[test]
fn with_mqtt_3_nothing_expires() {
    let broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    let mut sink = sink(&broker);
    sink.settings.version = Version::V311;
    sink.read(pack(16));
    let _sink = sink.run();
    mqtt.wait_for("bms/rack/online", "true");
    let soc = retained(&broker, "bms/rack/soc");
    assert_eq!(soc, [("bms/rack/soc".to_owned(), String::new(), String::new())]);
}

#[test]
fn refused_message_is_named_in_the_log() {
    record_log();
    let mut broker = Mosquitto::not_started();
    let rules = broker.folder().join("rules");
    std::fs::write(&rules, "topic read #\ntopic readwrite probe/#\ntopic readwrite bms/#\n")
        .expect("a file");
    broker.configure(&format!("allow_anonymous true\nacl_file {}\n", rules.display()));
    broker.restart();
    let mqtt = broker.subscribe();
    let sink = sink(&broker);
    sink.read(pack(16));
    let sink = sink.run();
    mqtt.wait_for(BRIDGE, "true");
    sink.wait_until("a refusal", |_| log().contains("not authorized"));
    assert!(log().contains("the message on homeassistant/"), "{}", log());
    let lines = log().matches("not authorized").count();
    assert!((1..=3).contains(&lines), "{}", log());
    assert_eq!(sink.broker_state().connections, 1);
}

#[test]
fn end_of_the_connection_has_a_reason() {
    let broker = Mosquitto::not_started();
    let listener = TcpListener::bind(("127.0.0.1", broker.port())).expect("a port");
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let mut connect = [0; 1000];
            if client.read(&mut connect).is_ok() {
                // Accepted, and taken over by another client.
                let _ = client.write_all(&[0x20, 3, 0, 0, 0, 0xe0, 1, 0x8e]);
                thread::sleep(Duration::from_millis(100));
            }
        }
    });
    let sink = sink(&broker).run();
    sink.wait_until("an end", |sink| {
        sink.broker_state().error.is_some_and(|error| error.contains("session taken over"))
    });
}

#[test]
fn limits_of_the_broker_are_kept() {
    let broker = Mosquitto::with_config(
        "allow_anonymous true\nmax_inflight_messages 2\nmax_packet_size 3000\nmax_keepalive 10\n",
    );
    let mqtt = broker.subscribe();
    let sink = sink(&broker);
    sink.read(pack(32));
    let sink = sink.run();
    mqtt.wait_for("bms/rack/cell_32_voltage", "3.34");
    mqtt.wait_for("bms/rack/online", "true");
    mqtt.wait_for(BRIDGE, "true");
    assert!(mqtt.payloads("bms/rack/raw").iter().all(|raw| raw.len() < 3000));
    // Longer than the broker waits for a sign of life.
    thread::sleep(Duration::from_secs(17));
    assert_eq!(sink.broker_state().connections, 1, "{}", broker.log());
}

#[test]
fn session_ends_with_the_connection() {
    let broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    for _ in 0..2 {
        let sink = sink(&broker).run();
        mqtt.wait_for(BRIDGE, "true");
        sink.stop();
        mqtt.wait_for(BRIDGE, "false");
        mqtt.clear();
    }
    // Neither was resumed: Mosquitto reports a clean start as c1.
    assert!(!broker.log().contains(" as bms-reader-rack (p5, c0"), "{}", broker.log());
    assert!(broker.log().contains(" as bms-reader-rack (p5, c1"), "{}", broker.log());
}

/// What a broker without MQTT 5 does with it.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    /// With a CONNACK of MQTT 3.
    Old,
    /// With a CONNACK of MQTT 5.
    New,
    Hangs,
    Closes,
}

/// Forwards connections of MQTT 3.1.1 to a broker. Its port, and how many others it has refused.
fn old_broker(broker: &Mosquitto, refusal: Refusal) -> (u16, &'static Mutex<usize>) {
    static REFUSED: Mutex<usize> = Mutex::new(0);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (port, target) = (listener.local_addr().expect("an address").port(), broker.port());
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || serve(client, target, refusal, &REFUSED));
        }
    });
    (port, &REFUSED)
}

fn serve(mut client: TcpStream, target: u16, refusal: Refusal, refused: &Mutex<usize>) {
    let mut first = [0; 10];
    if client.read_exact(&mut first).is_err() {
        return;
    }
    // The level follows a length of one or two bytes and the name.
    let at = if first[1] & 0x80 == 0 { 8 } else { 9 };
    if first[at] == 5 {
        *refused.lock().expect("no panic") += 1;
        let answer: &[u8] = match refusal {
            Refusal::Old => &[0x20, 2, 0, 1],
            Refusal::New => &[0x20, 3, 0, 0x84, 0],
            Refusal::Hangs | Refusal::Closes => &[],
        };
        client.write_all(answer).expect("a connection");
        if matches!(refusal, Refusal::Hangs) {
            let _ = client.read_to_end(&mut Vec::new());
        }
        return;
    }
    let mut server = TcpStream::connect(("127.0.0.1", target)).expect("the broker");
    server.write_all(&first).expect("the broker");
    let (mut from, mut to) =
        (server.try_clone().expect("a socket"), client.try_clone().expect("a socket"));
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
    let _ = io::copy(&mut client, &mut server);
    let _ = server.shutdown(Shutdown::Both);
}

fn fall_back(refusal: Refusal) {
    record_log();
    let mut broker = Mosquitto::start();
    let mqtt = broker.subscribe();
    let (port, refused) = old_broker(&broker, refusal);
    let mut sink = sink(&broker);
    sink.settings.port = port;
    sink.read(pack(16));
    let sink = sink.run();
    mqtt.wait_for("bms/rack/soc", "64.0");
    mqtt.wait_for(BRIDGE, "true");
    assert!(
        mqtt.payloads("bms/bridge/bms-reader-rack/info")[0].contains(r#""mqtt_version":"3.1.1""#)
    );
    broker.restart();
    sink.wait_until("a second connection", |sink| sink.broker_state().connections == 2);
    assert_eq!(*refused.lock().expect("no panic"), 1, "the next connection does not try again");
    assert_eq!(log().matches("does not accept MQTT 5").count(), 1, "{}", log());
}

#[test]
fn broker_that_answers_as_mqtt_3_gets_mqtt_3() {
    fall_back(Refusal::Old);
}

#[test]
fn broker_that_refuses_the_version_gets_mqtt_3() {
    fall_back(Refusal::New);
}

#[test]
fn broker_that_closes_the_connection_gets_mqtt_3() {
    fall_back(Refusal::Closes);
}

#[test]
fn broker_that_is_silent_gets_mqtt_3() {
    fall_back(Refusal::Hangs);
}

#[test]
fn refused_login_is_no_reason_to_fall_back() {
    record_log();
    let broker = Mosquitto::with_login("reader", "right");
    let mut sink = sink(&broker);
    sink.settings.login = Some(("reader".into(), bms_reader::model::Secret::new("wrong")));
    let sink = sink.run();
    sink.wait_until("an error", |sink| {
        sink.broker_state().error.is_some_and(|error| error.contains("login refused"))
    });
    assert!(!log().contains("MQTT 5"), "{}", log());
}
