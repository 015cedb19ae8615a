//! Readings of the running program in a database, whatever its server does.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::fixture::{Packs, Service, run};
use crate::line_server::{LineServer, Mode};
use crate::mosquitto::free_port;

/// Upper bound for pauses between attempts; only a failing test reaches it.
const LIMIT: Duration = Duration::from_secs(120);
const IDS: [&str; 3] = ["a", "b", "c"];

/// Three batteries that are read every second.
fn start(packs: &Packs, server: &LineServer) -> Service {
    let devices = IDS.iter().zip(1..).map(|(id, slave_id)| {
        serde_json::json!({"id": id, "type": "daren", "port": packs.port, "slave_id": slave_id})
    });
    let devices = serde_json::Value::from(devices.collect::<Vec<_>>()).to_string();
    Service::start(&[
        ("DEVICES", &devices),
        ("READ_INTERVAL", "1"),
        ("BMS_TIMEOUT", "0.2"),
        ("INFLUX_URL", &format!("http://127.0.0.1:{}/sub", server.port)),
        ("INFLUX_TOKEN", "hidden-token"),
        ("INFLUX_BUCKET", "bms"),
        ("INFLUX_ORG", "my home"),
    ])
}

fn metric(service: &Service, name: &str) -> usize {
    let text = service.text("/metrics");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|number| number.parse::<f64>().ok()).map_or(0, |number| number as usize)
}

/// Good reads so far. The batteries are silent, so there will be no more.
fn reads(service: &Service, id: &str) -> usize {
    metric(service, &format!("bms_reads_total{{device=\"{id}\"}}"))
}

#[track_caller]
fn wait(service: &Service, what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}:\n{}", service.log());
        sleep(Duration::from_millis(50));
    }
}

/// Silences the batteries and waits until no read is under way.
fn silence(packs: &Packs, service: &Service) {
    packs.set_faults("silence");
    for id in IDS {
        service.wait_state(id, "a failed read", |state| !state["error"].is_null());
    }
}

#[track_caller]
fn assert_ascending(server: &LineServer, id: &str) {
    let points = server.points(id);
    assert!(points.is_sorted_by(|one, other| one.second < other.second), "{points:?}");
}

#[test]
fn every_reading_arrives_once_and_in_order_after_outages() {
    let packs = Packs::on_terminal(&[1, 2, 3]);
    let mut server = LineServer::start();
    let service = start(&packs, &server);
    wait(&service, "first points", || IDS.iter().all(|id| !server.points(id).is_empty()));
    for mode in [
        Mode::Status("503 Service Unavailable\r\nRetry-After: 1"),
        Mode::CutLate,
        Mode::Status("429 Too Many Requests"),
        Mode::CutEarly,
        Mode::Limit(2),
        Mode::Status("404 Not Found"),
        Mode::Refuse { id: "unknown", partial: true },
    ] {
        server.set_mode(mode);
        server.wait_requests(2, LIMIT);
        server.stop();
        let waiting = || metric(&service, "bms_influx_queue") > 3;
        wait(&service, "readings that wait", waiting);
        server.restart();
        server.wait_requests(1, LIMIT);
    }
    silence(&packs, &service);
    for id in IDS {
        let expected = reads(&service, id);
        wait(&service, "all readings", || server.points(id).len() >= expected);
        assert_eq!(server.points(id).len(), expected, "{id}");
        assert_ascending(&server, id);
    }
    assert_eq!(metric(&service, "bms_influx_dropped_total"), 0);
    assert_eq!(metric(&service, "bms_influx_queue"), 0);
    let line = "POST /sub/api/v2/write?precision=s&bucket=bms&org=my%20home HTTP/1.1";
    let heads = server.heads();
    let complete: Vec<_> = heads.iter().filter(|head| !head.is_empty()).collect();
    for head in complete {
        assert!(head.starts_with(line) && head.contains("\nAuthorization: Token hidden-token\n"));
    }
    for text in ["refused with status 404: of the test; check INFLUX_BUCKET", "accepted again"] {
        assert!(service.logged(text) > 0, "{text}:\n{}", service.log());
    }
    assert_eq!(service.logged("hidden-token"), 0);
}

#[test]
fn refused_readings_do_not_block_those_of_other_batteries() {
    for partial in [false, true] {
        let packs = Packs::on_terminal(&[1, 2, 3]);
        let server = LineServer::start();
        server.set_mode(Mode::Refuse { id: "b", partial });
        let service = start(&packs, &server);
        wait(&service, "points", || server.points("a").len() > 4 && server.points("c").len() > 4);
        silence(&packs, &service);
        for id in ["a", "c"] {
            let expected = reads(&service, id);
            wait(&service, "all readings", || server.points(id).len() >= expected);
            assert_eq!(server.points(id).len(), expected, "{id}");
            assert_ascending(&server, id);
        }
        assert_eq!(server.points("b"), []);
        // The last ones wait for another point that proves that the server takes any.
        let gone =
            || metric(&service, "bms_influx_dropped_total") + metric(&service, "bms_influx_queue");
        assert_eq!(gone(), reads(&service, "b"));
        service.assert_logged(
            1,
            "a reading of battery,id=b is dropped (1 so far): refused with status",
        );
    }
}

#[test]
fn readings_of_the_last_seconds_are_written_at_the_stop() {
    let packs = Packs::on_terminal(&[1, 2, 3]);
    let server = LineServer::start();
    let mut service = start(&packs, &server);
    wait(&service, "a reading that waits", || metric(&service, "bms_influx_queue") > 0);
    service.signal("-TERM");
    assert!(service.wait_for_exit().success());
    assert!(IDS.iter().any(|id| !server.points(id).is_empty()));
    assert_eq!(service.logged("not written before the stop"), 0, "{}", service.log());
}

#[test]
fn check_reports_the_server() {
    let (server, dead) = (LineServer::start(), free_port());
    let text = |port: u16| {
        let url = format!("http://127.0.0.1:{port}");
        let variables = [
            ("DEVICES", r#"[{"id": "a", "type": "simulated"}]"#),
            ("INFLUX_URL", url.as_str()),
            ("INFLUX_DATABASE", "bms"),
        ];
        String::from_utf8(run(&["check"], &variables, "").stdout).unwrap()
    };
    let shown = text(server.port);
    assert!(shown.contains(&format!("OK    InfluxDB http://127.0.0.1:{}", server.port)), "{shown}");
    let shown = text(dead);
    assert!(shown.contains(&format!("FAIL  InfluxDB http://127.0.0.1:{dead}: ")), "{shown}");
    assert!(shown.contains("check the host, the port and the scheme in INFLUX_URL"), "{shown}");
    server.set_mode(Mode::Status("401 Unauthorized"));
    let shown = text(server.port);
    assert!(shown.contains("refused with status 401: of the test; check INFLUX_TOKEN"), "{shown}");
}
