//! The Home Assistant add-on: options from a file, the broker from the Supervisor.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value as Json, json};

use crate::fixture::{Packs, Service};
use crate::mosquitto::Mosquitto;

const TOKEN: &str = "a-secret-token";

/// The part of the app's own information and of that about the system that is used.
const INFO: [(&str, &str); 2] = [
    ("GET /addons/self/info ", r#"{"result":"ok","data":{"slug":"a1b2_bms_reader"}}"#),
    ("GET /info ", r#"{"result":"ok","data":{"homeassistant":"2026.11.0"}}"#),
];

/// Answers requests for the broker one after the other, and repeats its last answer.
struct Supervisor {
    url: String,
    /// Request line and authorization header of each request.
    requests: Arc<Mutex<Vec<String>>>,
}

impl Supervisor {
    fn start(answers: Vec<(&'static str, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let received = requests.clone();
        thread::spawn(move || {
            let mut number = 0;
            for stream in listener.incoming().map_while(Result::ok) {
                let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
                let head: Vec<String> =
                    lines.by_ref().take_while(|line| !line.is_empty()).collect();
                let token =
                    head.iter().find(|line| line.to_lowercase().starts_with("authorization"));
                let request = format!("{} {}", head[0], token.cloned().unwrap_or_default());
                let info = INFO.iter().find(|(begin, _)| request.starts_with(begin));
                received.lock().unwrap().push(request);
                let (status, body) = match info {
                    Some((_, body)) => ("200 OK", *body),
                    None => {
                        let (status, body) = &answers[number.min(answers.len() - 1)];
                        number += 1;
                        (*status, body.as_str())
                    }
                };
                let length = body.len();
                let head = "Content-Type: application/json\r\nConnection: close";
                let _ = write!(
                    &stream,
                    "HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {length}\r\n\r\n{body}"
                );
            }
        });
        Supervisor { url, requests }
    }
}

#[test]
fn addon_starts_from_options_and_supervisor() {
    let broker = Mosquitto::with_login("addons", "the-new-password");
    let mqtt = broker.subscribe();
    let packs = Packs::on_terminal(&[1]);
    let service_info = |password: &str| {
        let data = json!({"addon": "core_mosquitto", "host": "127.0.0.1", "port": broker.port(),
            "ssl": false, "username": "addons", "password": password, "protocol": "3.1.1"});
        json!({"result": "ok", "data": data}).to_string()
    };
    let supervisor = Supervisor::start(vec![
        ("400 Bad Request", r#"{"result":"error","message":"Service not enabled"}"#.into()),
        ("200 OK", service_info("the-old-password")),
        ("200 OK", service_info("the-new-password")),
    ]);
    let options = broker.folder().join("options.json");
    let devices = json!([{"id": "shed", "type": "daren", "port": packs.port}]);
    let text =
        json!({"devices": devices, "read_interval": 1, "log_level": "DEBUG", "mqtt_host": ""});
    std::fs::write(&options, text.to_string()).unwrap();

    let service = Service::start(&[
        ("BMS_OPTIONS_FILE", options.to_str().unwrap()),
        ("SUPERVISOR_TOKEN", TOKEN),
        ("SUPERVISOR_API", &supervisor.url),
    ]);
    service.wait_for_log("install the Mosquitto broker app");
    service.wait_for_log("login refused");
    mqtt.wait_for("bms/shed/online", "true");
    mqtt.wait_on("bms/shed/soc");

    let config = mqtt.wait_on("homeassistant/sensor/shed/soc/config");
    let config: Json = serde_json::from_str(&config.payload).unwrap();
    let link = "homeassistant://app/a1b2_bms_reader";
    assert_eq!(config["device"]["configuration_url"], link);

    let requests = supervisor.requests.lock().unwrap().clone();
    for request in &requests {
        assert!(request.ends_with(&format!("Bearer {TOKEN}")), "{request}");
    }
    let (info, broker): (Vec<_>, Vec<_>) = requests
        .iter()
        .partition(|request| INFO.iter().any(|(begin, _)| request.starts_with(begin)));
    assert_eq!(info.len(), 2, "once: {requests:?}");
    assert_eq!(broker.len(), 4, "three answers, and once more before connecting: {requests:?}");
    let wanted = |request: &&String| request.starts_with("GET /services/mqtt HTTP/1.1");
    assert!(broker.iter().all(wanted), "{requests:?}");
    let log = service.log();
    for secret in [TOKEN, "the-old-password", "the-new-password"] {
        assert!(!log.contains(secret), "{log}");
    }
}
