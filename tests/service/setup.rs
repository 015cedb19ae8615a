//! The set-up page: from a search to a battery that is read.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fixture::{Packs, Service};
use crate::http::{Answer, FakeSupervisor, request};
use crate::mosquitto::Mosquitto;

const TOKEN: &str = "a-secret-token";
const PASSWORD: &str = "correct-horse";

fn get(service: &Service, path: &str, headers: &[&str]) -> Answer {
    request(&service.listen(), "GET", path, headers, &Value::Null).expect("an answer")
}

fn post(service: &Service, path: &str, body: &Value) -> Answer {
    request(&service.listen(), "POST", path, &[], body).expect("an answer")
}

/// For the whole search for other batteries on a line, on a busy machine.
const TEST_LIMIT: Duration = Duration::from_secs(300);

/// Waits until the state of the page is as wanted.
#[track_caller]
fn wait_for(service: &Service, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + TEST_LIMIT;
    loop {
        let answer = request(&service.listen(), "GET", "/api/setup", &[], &Value::Null);
        let state = answer.map(|answer| answer.json).unwrap_or_default();
        if wanted(&state) {
            return state;
        }
        assert!(Instant::now() < deadline, "{what}: {state:#}\n{}", service.log());
        thread::sleep(Duration::from_millis(50));
    }
}

/// Tests what is at the port, and returns the packs that answered. The first one is shown at once.
#[track_caller]
fn test(service: &Service, port: &str) -> Vec<Value> {
    wait_for(service, "the first search ends", |state| state["searching"] == false);
    let answer = post(service, "/api/setup/test", &json!({"port": port}));
    assert_eq!(answer.status, 200, "{answer:?}");
    let state = wait_for(service, "a battery", |state| state["test"]["packs"][0].is_object());
    assert_eq!(state["test"]["running"], true, "{state:#}");
    let state = wait_for(service, "the test ends", |state| state["test"]["running"] == false);
    let packs = state["test"]["packs"].as_array();
    packs.unwrap_or_else(|| panic!("{state:#}")).clone()
}

/// An add-on, and the file in which the Supervisor passes its options on.
struct Addon {
    supervisor: FakeSupervisor,
    file: PathBuf,
}

impl Addon {
    fn new(options: Value) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);

        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("bms-reader-options-{}-{number}.json", std::process::id());
        let file = std::env::temp_dir().join(name);
        Addon { supervisor: FakeSupervisor::start(options), file }
    }

    /// Starts the add-on as the Supervisor does.
    fn start(&self) -> Service {
        fs::write(&self.file, self.supervisor.options().to_string()).unwrap();
        Service::start(&[
            ("BMS_OPTIONS_FILE", self.file.to_str().unwrap()),
            ("SUPERVISOR_TOKEN", TOKEN),
            ("SUPERVISOR_API", &self.supervisor.url),
        ])
    }
}

impl Drop for Addon {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.file);
    }
}

#[test]
fn tested_batteries_are_added_to_the_options_of_the_addon() {
    let packs = Packs::on_terminal(&[1, 2]);
    let own = json!({"devices": [], "banks": [], "read_interval": 1, "log_level": "DEBUG",
        "alarm_cell_high": "3.6", "mqtt_password": "!secret broker"});
    let addon = Addon::new(own.clone());
    let service = addon.start();
    let state = wait_for(&service, "a state", |state| state["trusted"] == true);
    assert_eq!(
        (&state["installation"], &state["batteries"]),
        (&json!("home_assistant"), &json!([]))
    );

    let found = test(&service, &packs.port);
    let addresses: Vec<_> = found.iter().map(|pack| (&pack["type"], &pack["slave_id"])).collect();
    let daren = json!("daren");
    assert_eq!(addresses, [(&daren, &json!(1)), (&daren, &json!(2))], "{found:?}");
    let values = found[0]["values"].as_array().unwrap();
    let soc = values.iter().find(|value| value["key"] == "soc").unwrap();
    let known = f64::from(packs.state(1).soc.0) / 100.0;
    assert!((soc["value"].as_f64().unwrap() - known).abs() < 1.0, "{soc} instead of {known}");

    let device = |id: &str, address: u8| {
        json!({"id": id, "name": format!("Pack {address}"),
        "type": "daren", "port": packs.port, "slave_id": address})
    };
    let devices = [device("one", 1), device("two", 2)];
    let bank = json!({"id": "bank", "name": "Both"});
    let add = json!({"add": {"devices": devices, "bank": bank}});
    let answer = post(&service, "/api/setup/change", &add);
    assert_eq!((answer.status, &answer.json), (200, &json!({"restarting": true})));
    let mut expected = own;
    expected["devices"] = json!(devices);
    expected["banks"] = json!([{"id": "bank", "name": "Both", "members": ["one", "two"]}]);
    assert_eq!(addon.supervisor.options(), expected);
    for line in ["GET /addons/self/info", "POST /addons/self/options", "POST /addons/self/restart"]
    {
        let received = addon.supervisor.received(line);
        let [(_, token, _)] = &received[..] else { panic!("{line}: {received:?}") };
        assert_eq!(*token, format!("Bearer {TOKEN}"));
    }

    drop(service);
    let service = addon.start();
    for id in ["one", "two"] {
        service.wait_state(id, "a good read", |state| state["connected"] == true);
    }
    let answer = post(&service, "/api/setup/test", &json!({"port": packs.port}));
    assert_eq!(answer.status, 422, "{answer:?}");
    let error = answer.json["error"].as_str().unwrap();
    assert!(error.contains("in use by the battery Pack 1"), "{error}");
}

#[test]
fn configured_batteries_are_renamed_and_removed() {
    let addon = Addon::new(json!({"devices": [
        {"id": "one", "type": "simulated", "own": "stays"},
        {"id": "two", "type": "simulated"}],
        "banks": [{"id": "bank", "members": ["one", "two"]}]}));
    let service = addon.start();
    let state = wait_for(&service, "the batteries", |state| state["batteries"][1]["id"] == "two");
    assert_eq!(state["batteries"][0]["id"], "one");
    let rename = json!({"rename": {"id": "one", "name": "Shed"}});
    assert_eq!(post(&service, "/api/setup/change", &rename).status, 200);
    assert_eq!(post(&service, "/api/setup/change", &json!({"remove": {"id": "two"}})).status, 200);
    let expected = json!({"devices": [{"id": "one", "type": "simulated", "own": "stays", "name": "Shed"}],
        "banks": [{"id": "bank", "members": ["one"]}]});
    assert_eq!(addon.supervisor.options(), expected);

    // Options with which the program would not start are not stored.
    let twice = json!({"add": {"devices": [{"id": "one", "type": "simulated"}]}});
    let answer = post(&service, "/api/setup/change", &twice);
    assert_eq!(answer.status, 422, "{answer:?}");
    assert!(answer.json["error"].as_str().unwrap().contains("no other battery has"), "{answer:?}");
    assert_eq!(addon.supervisor.options(), expected);
    assert_eq!(addon.supervisor.received("POST /addons/self/restart").len(), 2);
}

#[test]
fn other_sites_can_neither_search_nor_change() {
    let addon = Addon::new(json!({"devices": []}));
    let service = addon.start();
    wait_for(&service, "a state", |state| state["trusted"] == true);
    let body = json!({"add": {"devices": [{"id": "x", "type": "simulated"}]}});
    for (path, body) in [
        ("/api/setup/search", &Value::Null),
        ("/api/setup/test", &json!({"port": "/dev/x"})),
        ("/api/setup/stop", &json!({})),
        ("/api/setup/change", &body),
    ] {
        for header in ["Origin: https://evil.example", "Sec-Fetch-Site: cross-site"] {
            let answer = request(&service.listen(), "POST", path, &[header], body).unwrap();
            assert_eq!(answer.status, 403, "{path} {header}: {answer:?}");
        }
        let get = get(&service, path, &[]);
        assert_eq!(get.status, 405, "{path}: {get:?}");
    }
    assert_eq!(addon.supervisor.received("POST /addons/self/options"), []);
    let rebound = request(&service.listen(), "GET", "/api/setup", &[], &Value::Null).unwrap();
    assert_eq!(rebound.status, 200);
}

#[test]
fn finished_settings_of_a_container_start_the_service() {
    let packs = Packs::on_tcp(&[1]);
    let service = Service::start(&[("container", "docker"), ("HTTP_TOKEN", PASSWORD)]);
    service.wait_for_log("http: listening");
    let bearer = format!("Authorization: Bearer {PASSWORD}");
    for path in ["/api/setup", "/api/overview", "/metrics"] {
        assert_eq!(get(&service, path, &[]).status, 401, "{path}");
        assert_eq!(get(&service, path, &[&bearer]).status, 200, "{path}");
    }
    for path in ["/healthz", "/", "/app.js"] {
        assert_eq!(get(&service, path, &[]).status, 200, "{path}");
    }
    let wrong = post(&service, "/api/login", &json!({"token": "wrong-horse"}));
    assert_eq!(wrong.status, 401);
    let login = post(&service, "/api/login", &json!({"token": PASSWORD}));
    let cookie = login.head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    assert!(cookie.contains("httponly") && cookie.contains("samesite=strict"), "{cookie}");
    let cookie = format!("Cookie: {}", cookie.split(';').next().unwrap());

    let device = json!({"id": "house", "name": "House battery", "type": "daren", "port": packs.port,
        "slave_id": 1, "interval": 1});
    let add = json!({"add": {"devices": [device]}});
    let answer = request(&service.listen(), "POST", "/api/setup/change", &[&cookie], &add).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let files = answer.json["files"].as_array().unwrap();
    let names: Vec<_> = files.iter().map(|file| file["name"].as_str().unwrap()).collect();
    assert_eq!(names, [".env", "docker-compose.override.yml"]);
    let variables: Vec<(&str, &str)> = files[0]["text"]
        .as_str()
        .unwrap()
        .lines()
        .map(|line| line.split_once('=').unwrap())
        .collect();
    let service = Service::start(&variables);
    service.wait_state("house", "a good read", |state| state["connected"] == true);
}

#[test]
fn page_open_to_the_network_is_warned_about() {
    let open = Service::start_with(&[], "0.0.0.0:0");
    open.wait_for_log("set HTTP_TOKEN");
    let closed = Service::start_with(&[("HTTP_TOKEN", PASSWORD)], "0.0.0.0:0");
    closed.wait_for_log("http: listening");
    assert_eq!(closed.logged("set HTTP_TOKEN"), 0, "{}", closed.log());
    assert!(!closed.log().contains(PASSWORD));
}

#[test]
fn battery_that_is_not_configured_any_more_is_removed_from_the_broker() {
    let broker = Mosquitto::start();
    broker.publish("bms/shed/soc", "50", true);
    let meta = json!({"id": "shed", "type": "jbd", "origin": "bms-reader"}).to_string();
    broker.publish("bms/shed/meta", &meta, true);
    let port = broker.port().to_string();
    let service = Service::start(&[
        ("BMS_TYPE", "simulated"),
        ("DEVICE_ID", "rack"),
        ("MQTT_HOST", "127.0.0.1"),
        ("MQTT_PORT", &port),
    ]);
    broker.subscribe().wait_for("bms/rack/online", "true");
    let forget = |id: &str| post(&service, "/api/setup/forget", &json!({"id": id}));
    let error = |answer: &Answer| answer.json["error"].as_str().unwrap_or_default().to_owned();
    let answer = forget("rack");
    assert!(error(&answer).contains("rack is configured"), "{answer:?}");
    let answer = forget("shed");
    assert_eq!(answer.json["topics"], 2, "{answer:?}");
    let left = broker.retained();
    assert!(left.iter().all(|message| !message.topic.starts_with("bms/shed/")), "{left:?}");
    assert!(left.iter().any(|message| message.topic == "bms/rack/soc"), "{left:?}");
    let answer = forget("shed");
    assert!(error(&answer).contains("retains nothing about shed"), "{answer:?}");
}
