//! Brokers that cannot do everything. `tests/lab/brokers.sh` has the real ones.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use crate::fixture::Service;
use crate::mosquitto::Mosquitto;

fn service(port: u16, variables: &[(&str, &str)]) -> Service {
    let port = port.to_string();
    let fixed = [
        ("BMS_TYPE", "simulated"),
        ("DEVICE_ID", "rack"),
        ("MQTT_HOST", "127.0.0.1"),
        ("MQTT_PORT", &port),
    ];
    Service::start(&[&fixed, variables].concat())
}

/// As RabbitMQ, this one does not return the retained `online`.
#[test]
fn missing_retained_message_is_logged_once() {
    let mut broker = Mosquitto::start();
    let rules = broker.folder().join("rules");
    let denied = "topic readwrite #\ntopic deny bms/bridge/bms-reader-rack/online\n";
    std::fs::write(&rules, denied).unwrap();
    broker.configure(&format!("allow_anonymous true\nacl_file {}\n", rules.display()));
    broker.restart();
    let service = service(broker.port(), &[]);
    service.assert_logged(1, "no retained messages to subscriptions with wildcards");
    assert!(service.log().contains("HISTORY_FILE"), "{}", service.log());
}

/// As NATS does after a topic with a blank.
#[test]
fn connection_closed_over_a_blank_is_explained_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, connections) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut packet = [0; 1024];
            let _ = stream.read(&mut packet);
            let _ = stream.write_all(b"\x20\x02\x00\x00");
            let _ = stream.read(&mut packet);
            let _ = sender.send(());
        }
    });
    let service = service(port, &[("MQTT_BASE_TOPIC", "my bms/{id}")]);
    for _ in 0..3 {
        connections.recv_timeout(crate::mosquitto::WAIT_LIMIT).unwrap();
    }
    service.assert_logged(1, "for the blank in \"my bms/rack/online\"");
}
