//! As a Home Assistant app: options from a file, the broker from the Supervisor.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::json;

use crate::fixture::{Packs, Service};
use crate::mosquitto::Mosquitto;

const TOKEN: &str = "a-token-that-nobody-may-see";

/// Answers questions for the broker one after the other; the last answer holds.
struct Supervisor {
    url: String,
    /// Request line and authorization of each question.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Supervisor {
    fn start(answers: Vec<(&'static str, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let requests = asked.clone();
        thread::spawn(move || {
            for (number, stream) in listener.incoming().map_while(Result::ok).enumerate() {
                let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
                let head: Vec<String> =
                    lines.by_ref().take_while(|line| !line.is_empty()).collect();
                let token =
                    head.iter().find(|line| line.to_lowercase().starts_with("authorization"));
                let said = format!("{} {}", head[0], token.cloned().unwrap_or_default());
                requests.lock().unwrap().push(said);
                let (status, body) = &answers[number.min(answers.len() - 1)];
                let length = body.len();
                let head = "Content-Type: application/json\r\nConnection: close";
                let _ = write!(
                    &stream,
                    "HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {length}\r\n\r\n{body}"
                );
            }
        });
        Supervisor { url, asked }
    }
}

#[test]
fn options_and_supervisor_are_all_the_app_needs() {
    let broker = Mosquitto::with_login("addons", "the-new-password");
    let mqtt = broker.subscribe();
    let packs = Packs::on_terminal(&[1]);
    let named = |password: &str| {
        let data = json!({"addon": "core_mosquitto", "host": "127.0.0.1", "port": broker.port(),
            "ssl": false, "username": "addons", "password": password, "protocol": "3.1.1"});
        json!({"result": "ok", "data": data}).to_string()
    };
    let supervisor = Supervisor::start(vec![
        ("400 Bad Request", r#"{"result":"error","message":"Service not enabled"}"#.into()),
        ("200 OK", named("the-old-password")),
        ("200 OK", named("the-new-password")),
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
    mqtt.wait("a value", |it| it.topic == "bms/shed/soc");

    let asked = supervisor.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 4, "three answers, and once more before connecting: {asked:?}");
    for question in &asked {
        assert!(question.starts_with("GET /services/mqtt HTTP/1.1"), "{question}");
        assert!(question.ends_with(&format!("Bearer {TOKEN}")), "{question}");
    }
    let log = service.log();
    for secret in [TOKEN, "the-old-password", "the-new-password"] {
        assert!(!log.contains(secret), "{log}");
    }
}

/// `bms-reader diagnose | head -1`: whoever has seen enough closes the pipe.
#[test]
fn a_listener_who_leaves_early_is_no_mistake() {
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_bms-reader"))
        .arg("diagnose")
        .env_clear()
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panic"), "{output:?}");
}
