//! The demo as a person runs it, without a terminal.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use crate::fixture::{get, program};
use crate::mosquitto::{Mosquitto, WAIT_LIMIT, free_port};

struct Demo {
    process: Child,
    output: BufReader<ChildStdout>,
    listen: String,
}

impl Demo {
    /// With a short past, which is simulated faster.
    fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        Demo::start_with_past(1, arguments, variables)
    }

    fn start_with_past(hours: u32, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let path = std::env::var("PATH").unwrap();
        let listen = format!("127.0.0.1:{}", free_port());
        let mut process = program(&[("PATH", &path), ("HTTP_LISTEN", &listen)])
            .env("HISTORY_HOURS", hours.to_string())
            .envs(variables.iter().copied())
            .arg("demo")
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Demo { process, output, listen }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.output.read_line(&mut line).unwrap() > 0, "the demo has ended");
        line.trim_end().to_owned()
    }

    /// Waits until each of these has been read.
    fn wait_values(&mut self, names: &[&str]) {
        let mut missing = names.to_vec();
        while !missing.is_empty() {
            let line = self.line();
            missing.retain(|name| !line.starts_with(&format!("{name}: ")) || !line.contains(" V,"));
        }
    }

    /// Stops it as Ctrl-C does; the rest of its output and its log.
    fn stop(mut self) -> (String, String) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
        let (mut output, mut log) = (String::new(), String::new());
        self.output.read_to_string(&mut output).unwrap();
        self.process.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        assert_eq!(self.process.wait().unwrap().code(), Some(0), "{log}");
        (output, log)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits for an answer. The page appears once the past is simulated, which takes its time in a debug build.
fn wait_json(listen: &str, path: &str) -> Json {
    let deadline = Instant::now() + 10 * WAIT_LIMIT;
    loop {
        if let Some((200, body)) = get(listen, path) {
            return body;
        }
        assert!(Instant::now() < deadline, "no answer from http://{listen}{path}");
        sleep(Duration::from_millis(50));
    }
}

#[test]
fn demo_starts_without_a_warning_and_with_a_past() {
    let mut demo = Demo::start_with_past(48, &[], &[]);
    let dashboard = format!("Dashboard: http://{}/", demo.listen);
    assert_eq!(demo.line(), dashboard);
    assert!(demo.line().starts_with("Watch MQTT: mosquitto_sub -p "));
    demo.line();
    demo.wait_values(&["Rack 1", "Rack 2", "Rack", "Garage left", "Camper", "Cellar stack"]);
    for id in ["demo_rack_1", "demo_camper", "demo_garage"] {
        let path = format!("/api/devices/{id}/history?hours=48&step=300&keys=soc,energy_charged");
        let history = wait_json(&demo.listen, &path);
        let points = history["times"].as_array().unwrap().len();
        assert!(points > 550, "{id}: {points} points");
    }
    let (_, log) = demo.stop();
    // The simulated faults are logged after a while, but nothing about the broker.
    assert!(!log.contains("MQTT") && !log.contains("refused"), "{log}");
}

#[test]
fn demo_with_a_taken_port_prints_its_own_url() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap();
    let mut demo = Demo::start(&[], &[("HTTP_LISTEN", &taken.to_string())]);
    let line = demo.line();
    let reason = format!("/ (port {} is in use)", taken.port());
    let url = line.strip_prefix("Dashboard: http://").and_then(|it| it.strip_suffix(&reason));
    let listen = url.unwrap_or_else(|| panic!("{line}")).to_owned();
    let overview = wait_json(&listen, "/api/overview");
    assert_eq!(overview["batteries"].as_array().unwrap().len(), 9, "{overview}");
    demo.stop();
}

/// The retained messages but those of the probes.
fn retained(broker: &Mosquitto) -> Vec<String> {
    broker.retained().into_iter().map(|message| message.topic).collect()
}

#[test]
fn demo_leaves_a_foreign_broker_alone() {
    let broker = Mosquitto::start();
    let port = broker.port().to_string();
    let mqtt = broker.subscribe();
    let mut demo = Demo::start(&[], &[("MQTT_HOST", "127.0.0.1"), ("MQTT_PORT", &port)]);
    demo.wait_values(&["Rack 1", "Cellar stack"]);
    demo.stop();
    assert_eq!(mqtt.all(), []);
}

#[test]
fn demo_removes_what_it_published() {
    let broker = Mosquitto::start();
    broker.publish("bms/real/soc", "64.0", true);
    broker.publish("homeassistant/sensor/real/soc/config", "{}", true);
    let before = retained(&broker);
    let port = broker.port().to_string();
    let mqtt = broker.subscribe();
    let variables = [("MQTT_HOST", "127.0.0.1"), ("MQTT_PORT", &port)];
    let mut demo = Demo::start(&["--publish"], &variables);
    demo.line();
    assert_eq!(demo.line(), format!("Publishing to 127.0.0.1:{port}"));
    for id in ["demo_rack_1", "demo_cellar", "demo_garage"] {
        mqtt.wait_on(&format!("bms/{id}/soc"));
        mqtt.wait_on(&format!("homeassistant/sensor/{id}/soc/config"));
    }
    let (output, _) = demo.stop();
    assert!(output.contains("Removed ") && output.contains(" retained topics"), "{output}");
    assert_eq!(retained(&broker), before);
}

#[test]
fn demo_at_speed_0_stands_still() {
    let mut demo = Demo::start(&["--speed", "0"], &[]);
    demo.wait_values(&["Rack 1"]);
    let values = |json: Json| json["status"]["cell_info"].clone();
    let first = values(wait_json(&demo.listen, "/api/devices/demo_rack_1"));
    demo.wait_values(&["Rack 1", "Rack 1"]);
    demo.wait_values(&["Rack 1"]);
    assert_eq!(values(wait_json(&demo.listen, "/api/devices/demo_rack_1")), first);
    demo.stop();
}
