use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use futures_util::FutureExt;
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::model::derive::derive;
use crate::model::{
    Alarm, Attempt, Cell, CentiPercent, DeciCelsius, DeviceId, Fault, FaultKind, Installation,
    LinkState, Microohms, Milliamps, Millis, Millivolts, Probe, Profile, Reading, SensorLocation,
    Snapshot, Uptime,
};

mod files;
mod home_assistant;
mod records;

/// Long enough that only a hang fails a test.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A server with two batteries: `rack` was read, `shed` was not.
struct TestServer {
    address: SocketAddr,
    board: Board,
    history: History,
    tasks: Tasks,
    stop: CancellationToken,
}

impl TestServer {
    async fn start() -> Self {
        let name = "Rack \"1\" <b>".into();
        let board =
            Board::new([Profile { name, ..Profile::sample("rack") }, Profile::sample("shed")]);
        board.update(&id("rack"), |state| {
            state.link = LinkState::Online;
            state.snapshot = Some(Arc::new(snapshot(now_ms(), 1)));
            state.counters.reads = 1;
            state.attempt = Some(attempt(None));
        });
        let history = History::new(&board, Duration::from_secs(48 * 3600));
        let stop = CancellationToken::new();
        tokio::spawn(crate::history::run(
            history.clone(),
            board.clone(),
            None,
            stop.clone().into(),
        ));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (guard, setup) = (Guard::new(Access::default()), set_up_page());
        let tasks = Tasks::default();
        let shared = (board.clone(), history.clone());
        let control = Control::new(CommandBus::default(), true);
        let routes =
            routes(AppState::new(shared, control, guard, setup, tasks.clone(), stop.clone()));
        let until = stop.clone();
        tokio::spawn(async move { serve::serve(listener, routes, &until).await });
        TestServer { address, board, history, tasks, stop }
    }

    async fn request(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// Status, headers in lower case, and body.
    async fn get(&self, path: &str) -> (u16, String, String) {
        let mut response = String::new();
        self.request(path).await.read_to_string(&mut response).await.unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_lowercase(), body.to_owned())
    }

    async fn json(&self, path: &str) -> Json {
        let (status, _, body) = self.get(path).await;
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Waits until the history contains the reading.
    async fn recorded(&self) {
        let end = Instant::now() + TIMEOUT;
        while self.history.answer(&id("rack"), &everything()).unwrap().times.is_empty() {
            assert!(Instant::now() < end, "not recorded");
            sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A set-up page whose task never runs.
fn set_up_page() -> SetupPage {
    let settings = SetupSettings {
        installation: Installation::Container,
        supervisor: None,
        options: Options::new(),
        battery_options: BatteryOptions::new(),
        brands: Vec::new(),
        check: |_| Vec::new(),
    };
    SetupPage::new(settings, Setup::new().0)
}

fn id(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap()
}

fn everything() -> crate::history::Query {
    let (from, to) = (Millis(0), Millis(u64::MAX));
    crate::history::Query { from, to, step: None, keys: None }
}

fn attempt(fault: Option<Fault>) -> Attempt {
    Attempt { number: 1, ended: Millis(now_ms()), took_ms: 250, connected: true, fault }
}

fn snapshot(taken: u64, sequence: u64) -> Snapshot {
    let mut reading = Reading::default();
    reading.identity.model = Some("DR-48100".into());
    reading.pack.voltage = Some(Millivolts(53_020));
    reading.pack.current = Some(Milliamps(-11_160));
    reading.pack.soc = Some(CentiPercent(6350));
    reading.pack.cycles = Some(12);
    reading.cells = vec![Cell::of(Millivolts(3309)), Cell::default(), Cell::of(Millivolts(3326))];
    reading.cells[0].resistance = Some(Microohms(70));
    reading.cells[2].balancing = Some(true);
    let probe = |value| Probe { location: SensorLocation::Cells, value: Some(DeciCelsius(value)) };
    reading.probes = vec![probe(-15), probe(220)];
    reading.alarms.note(Alarm::CellOvervoltage, true);
    reading.alarms.note(Alarm::FuseBlown, false);
    let derived = derive(&reading);
    Snapshot { device: id("rack"), sequence, taken: Millis(taken), took_ms: 250, reading, derived }
}

#[tokio::test]
async fn every_response_has_security_headers() {
    let server = TestServer::start().await;
    for (path, expected) in [
        ("/", 200),
        ("/healthz", 200),
        ("/metrics", 200),
        ("/api/overview", 200),
        ("/api/events", 200),
        ("/api/devices", 200),
        ("/api/devices/rack", 200),
        ("/api/devices/rack/history", 200),
        ("/api/energy", 200),
        ("/api/alarms", 200),
        ("/daren/rack/latest", 200),
        ("/api/setup", 200),
        ("/api/devices/unknown", 404),
        ("/unknown", 404),
        ("http://evil.example/api/devices", 421),
    ] {
        let (mut stream, mut text) = (server.request(path).await, String::new());
        receive_until(&mut stream, &mut text, "\r\n\r\n").await;
        let head = text.to_lowercase();
        assert!(head.starts_with(&format!("http/1.1 {expected} ")), "{path}: {head}");
        let cache = if path == "/" { "no-cache" } else { "no-store" };
        for header in [
            "x-content-type-options: nosniff",
            &format!("cache-control: {cache}"),
            "cross-origin-resource-policy: same-origin",
            "content-security-policy: default-src 'none'",
            "referrer-policy: no-referrer",
        ] {
            assert_eq!(head.matches(header).count(), 1, "{path}: {header}:\n{head}");
        }
    }
}

/// After a suspend, a request may come before any other task has run.
#[tokio::test]
async fn values_that_grew_old_in_a_suspend_are_not_live() {
    for (path, expected) in [
        ("/api/overview", "\"link\":\"offline\""),
        ("/api/events", "\"link\":\"offline\""),
        ("/metrics", "bms_up{device=\"rack\"} 0.0"),
    ] {
        let server = TestServer::start().await;
        let before = Uptime(clock::uptime().0.saturating_sub(60_000));
        server.board.update_profile(&id("rack"), |profile| profile.interval_ms = 1000);
        server.board.update(&id("rack"), |state| state.read_at = Some(before));
        server.board.detect_pause(before, Millis(1));
        let (mut stream, mut text) = (server.request(path).await, String::new());
        receive_until(&mut stream, &mut text, expected).await;
        // The page marks the last values as old.
        let (before, last) = text.split_once("\"last\":[").unwrap_or((&text, ""));
        let after = last.split_once(']').map_or("", |(_, after)| after);
        assert!(![before, after].concat().contains("53.02"), "{path}: {text}");
    }
}

#[tokio::test]
async fn history_has_columns_per_key() {
    let server = TestServer::start().await;
    server.recorded().await;
    let all = server.json("/api/devices/rack/history").await;
    assert_eq!(all["id"], "rack");
    assert_eq!(all["step"], 300.0);
    let taken = server.board.latest(&id("rack")).unwrap().snapshot.unwrap().taken.0;
    let seconds = all["times"][0].as_f64().unwrap();
    assert_eq!((seconds * 1000.0).round() as u64, taken);
    let volts = json!({"unit": "V", "mean": [3.326], "min": [3.326], "max": [3.326]});
    assert_eq!(all["series"]["cell_3_voltage"], volts);
    assert_eq!(all["series"]["temp_1"]["mean"], json!([-1.5]));
    for absent in ["cell_2_voltage", "cycle_count", "cell_1_resistance", "alarm_fuse_blown"] {
        assert_eq!(all["series"][absent], Json::Null, "{absent}");
    }
    let some = server.json("/api/devices/rack/history?hours=1&keys=soc,power&step=60").await;
    assert_eq!(some["step"], 60.0);
    let keys: Vec<_> = some["series"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["soc", "power"]);
    let none = server.json("/api/devices/shed/history").await;
    assert_eq!((&none["times"], &none["series"]), (&json!([]), &json!({})));
    assert_eq!((&all["oldest"], &none["oldest"]), (&all["times"][0], &Json::Null));
    let year = server.json("/api/devices/rack/history?hours=8784&keys=soc").await;
    assert_eq!((&year["step"], &year["times"]), (&json!(86_400), &all["times"]));
}

#[tokio::test]
async fn invalid_request_gets_an_error_message() {
    let server = TestServer::start().await;
    for (path, status, text) in [
        ("/api/devices/unknown", 404, "no battery named unknown"),
        ("/api/devices/rack/history?hours=two", 400, "hours is a number like 48, not two"),
        ("/api/devices/rack/history?hours=inf", 400, "hours is a number"),
        ("/api/devices/rack/history?step=0", 400, "1 to 86400"),
        ("/api/devices/rack/history?keys=soc,volts", 400, "unknown key \"volts\""),
        ("/api/devices/rack/history?begin=1", 400, "unknown parameter begin"),
        ("/api/devices/rack/history?from=1&hours=2", 400, "hours or from, not both"),
        ("/jk/rack/latest", 404, "rack is of the type daren, not jk"),
        ("/daren/unknown/history48h", 404, "no battery named unknown"),
    ] {
        let (actual, _, body) = server.get(path).await;
        assert_eq!(actual, status, "{path}");
        let body: Json = serde_json::from_str(&body).unwrap();
        assert!(body["error"].as_str().unwrap().contains(text), "{path}: {body}");
    }
}

#[tokio::test]
async fn gateway_routes_use_short_names() {
    let server = TestServer::start().await;
    server.recorded().await;
    let taken = server.board.latest(&id("rack")).unwrap().snapshot.unwrap().taken.0;
    let expected = json!({"ts": taken, "v": 53.02, "a": -11.16, "soc": 64, "t1": -1.5, "t2": 22.0,
        "tmos": null, "dv": 0.017, "p": -591.7});
    let latest = server.json("/daren/rack/latest").await;
    assert_eq!(latest["metrics"], expected);
    assert_eq!(latest["raw"]["status"]["cell_info"]["battery_soc"], 63.5);
    assert_eq!(server.json("/daren/rack/history48h").await, json!([expected]));
    assert_eq!(server.json("/daren/shed/latest").await["metrics"], Json::Null);
    assert_eq!(server.json("/daren/shed/history48h").await, json!([]));
}

#[tokio::test]
async fn metrics_snapshot() {
    let server = TestServer::start().await;
    server.board.update_broker(|broker| broker.connections = 2);
    server.board.mqtt_queue.store(7, Ordering::Relaxed);
    server.board.update(&id("shed"), |state| {
        state.counters.count_fault(FaultKind::Timeout);
        state.counters.count_fault(FaultKind::Timeout);
        state.counters.count_fault(FaultKind::BadChecksum);
    });
    let (status, head, text) = server.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(head.contains("application/openmetrics-text; version=1.0.0"), "{head}");
    // Ages and sizes vary.
    let is_stable = |line: &&str| {
        !["bms_reading_age_seconds{", "bms_history_bytes{"]
            .iter()
            .any(|name| line.starts_with(name))
    };
    let stable: Vec<&str> = text.lines().filter(is_stable).collect();
    insta::assert_snapshot!(stable.join("\n"));
    assert!(text.contains("bms_reading_age_seconds{device=\"rack\"}"), "{text}");
}

#[tokio::test]
async fn health_and_metrics_name_the_task() {
    let server = TestServer::start().await;
    let [sink, line] = ["mqtt", "line rack"].map(|name| server.tasks.register(name, &server.stop));
    sink.idle();
    line.progress(Duration::from_secs(5));
    assert_eq!(server.json("/healthz").await["stalled"], json!([]));
    (0..100).for_each(|_| server.tasks.count_second());
    let (status, _, body) = server.get("/healthz").await;
    let answer: Json = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &answer["stalled"]), (503, &json!(["line rack"])));
    let error = answer["error"].as_str().unwrap();
    assert!(error.starts_with("line rack makes no progress; restart"), "{error}");

    let stop = server.stop.child_token();
    let task = server.tasks.register("line shed", &stop);
    let crash = async |stop: &mut CancellationToken| {
        stop.cancel();
        assert!(!stop.is_cancelled(), "bug");
    };
    task.supervise(stop, |stop| crash(stop).boxed(), |_| {}).await;
    let (_, _, text) = server.get("/metrics").await;
    assert!(text.contains("bms_task_restarts_total{task=\"line shed\"} 1\n"), "{text}");
    assert!(text.contains("bms_task_restarts_total{task=\"mqtt\"} 0\n"), "{text}");
    assert!(text.contains("bms_panics_total 0\n"), "{text}");
}

#[tokio::test]
async fn offline_battery_has_no_gauges() {
    let server = TestServer::start().await;
    server.board.update(&id("rack"), |state| {
        state.link = LinkState::Offline { since: Millis(1) };
        state.attempt = Some(attempt(Some(Fault::new(FaultKind::Timeout, "no answer", "wake it"))));
    });
    let (_, _, text) = server.get("/metrics").await;
    let of_rack: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("device=\"rack\"") && !line.contains("history_bytes"))
        .map(|line| line.split('{').next().unwrap())
        .collect();
    let names = ["bms_device_info", "bms_up", "bms_reads_total", "bms_reconnects_total"];
    assert_eq!(of_rack, names, "{text}");
    assert!(text.contains("bms_up{device=\"rack\"} 0.0"), "{text}");
}

/// Reads until the text contains `expected`.
async fn receive_until(stream: &mut TcpStream, text: &mut String, expected: &str) {
    let until = async {
        while !text.contains(expected) {
            let mut bytes = [0; 4096];
            let count = stream.read(&mut bytes).await.unwrap();
            assert!(count > 0, "closed before {expected}: {text}");
            text.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    };
    tokio::time::timeout(TIMEOUT, until).await.expect(expected);
}

#[tokio::test]
async fn events_contain_changes_only() {
    let server = TestServer::start().await;
    let mut stream = server.request("/api/events").await;
    let mut text = String::new();
    receive_until(&mut stream, &mut text, "\"id\":\"shed\"").await;
    receive_until(&mut stream, &mut text, "event: broker\ndata: null").await;
    assert!(text.contains("text/event-stream") && text.contains("\"id\":\"rack\""), "{text}");

    text.clear();
    server.board.update(&id("rack"), |state| state.link = LinkState::Offline { since: Millis(1) });
    server.board.update_broker(|broker| broker.connected = true);
    receive_until(&mut stream, &mut text, "\"link\":\"offline\"").await;
    receive_until(&mut stream, &mut text, "\"connected\":true").await;
    assert!(!text.contains("\"id\":\"shed\""), "unchanged: {text}");

    server.stop.cancel();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(TIMEOUT, stream.read_to_end(&mut rest));
    ended.await.expect("closed by the stop").unwrap();
}

#[tokio::test]
async fn event_clients_are_counted_and_limited() {
    let server = TestServer::start().await;
    let mut clients = Vec::new();
    loop {
        let mut stream = server.request("/api/events").await;
        let mut text = String::new();
        receive_until(&mut stream, &mut text, "\r\n\r\n").await;
        if text.starts_with("HTTP/1.1 503 ") {
            break;
        }
        clients.push(stream);
        assert!(clients.len() < 100, "no client is rejected");
    }
    assert!(clients.len() >= 16, "{}", clients.len());
    let (_, _, text) = server.get("/metrics").await;
    let count = format!("bms_event_listeners {}.0", clients.len());
    assert!(text.contains(&count), "{text}");
    // A client that left is noticed at the next update.
    drop(clients);
    let end = Instant::now() + TIMEOUT;
    loop {
        assert!(Instant::now() < end, "no client is accepted any more");
        server.board.update(&id("rack"), |state| state.counters.reads += 1);
        let mut stream = server.request("/api/events").await;
        let mut text = String::new();
        receive_until(&mut stream, &mut text, "\r\n\r\n").await;
        if text.starts_with("HTTP/1.1 200 ") {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
}
