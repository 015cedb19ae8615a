//! Crowds of HTTP clients: they neither keep out others, nor delay reads, nor cost memory afterwards.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::fixture::{Packs, Service, run};
use crate::mosquitto::WAIT_LIMIT;

const CLIENTS: usize = 60;
/// Requests that a client sends without waiting for their responses.
const PIPELINED: usize = 20;

/// Clients that send requests on their connections without a pause, and connect again when one is
/// closed.
struct Crowd {
    stop: Arc<AtomicBool>,
    responses: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<()>>,
}

impl Crowd {
    fn start(service: &Service, paths: &[&str]) -> Self {
        let (stop, responses) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let mut crowd = Crowd { stop, responses, clients: Vec::new() };
        for path in paths.iter().cycle().take(CLIENTS) {
            let (listen, stop) = (service.listen(), crowd.stop.clone());
            let (responses, request) =
                (crowd.responses.clone(), format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
            crowd.clients.push(thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let _ = pipeline(&listen, &request, &stop, &responses);
                }
            }));
        }
        crowd
    }

    /// Waits until this many responses have been received.
    #[track_caller]
    fn wait(&self, responses: usize) {
        let deadline = Instant::now() + WAIT_LIMIT;
        while self.responses.load(Ordering::Relaxed) < responses {
            assert!(Instant::now() < deadline, "{:?} responses", self.responses);
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            let _ = client.join();
        }
    }
}

/// Keeps [`PIPELINED`] requests in progress until the server closes the connection.
fn pipeline(
    listen: &str,
    request: &str,
    stop: &AtomicBool,
    responses: &AtomicUsize,
) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(listen)?;
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    stream.write_all(request.repeat(PIPELINED).as_bytes())?;
    let mut buffer = vec![0; 64 * 1024];
    while !stop.load(Ordering::Relaxed) {
        let count = match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(_) => continue,
        };
        // A status line that is split between two reads is not counted, which only slows this client.
        let heads = buffer[..count].windows(9).filter(|bytes| bytes == b"HTTP/1.1 ").count();
        responses.fetch_add(heads, Ordering::Relaxed);
        stream.write_all(request.repeat(heads).as_bytes())?;
    }
    Ok(())
}

/// A service with three packs on a TCP port, which are read once a second.
fn start() -> (Packs, Service) {
    let packs = Packs::on_tcp(&[1, 2, 3]);
    let device = |address: u8| {
        json!({"id": format!("pack{address}"), "type": "daren", "port": packs.port,
               "slave_id": address, "interval": 1})
    };
    let devices = json!([device(1), device(2), device(3)]);
    let service = Service::start(&[("DEVICES", &devices.to_string())]);
    for id in ["pack1", "pack2", "pack3"] {
        service.wait_state(id, "a good read", |state| state["status"].is_object());
    }
    (packs, service)
}

/// Good reads of all packs so far.
fn reads(service: &Service) -> u64 {
    let (_, overview) = service.get("/api/overview").expect("an answer");
    let batteries = overview["batteries"].as_array().unwrap().iter();
    batteries.map(|battery| battery["reads"].as_u64().unwrap()).sum()
}

#[test]
fn pipelining_crowd_does_not_delay_reads() {
    let ((_packs, quiet), (_more, crowded)) = (start(), start());
    let crowd = Crowd::start(&crowded, &["/api/overview", "/metrics", "/api/devices"]);
    crowd.wait(CLIENTS);
    // The same time for both, measured in cycles of the one without a crowd.
    const CYCLES: u64 = 10;
    let (before, begin) = (reads(&crowded), reads(&quiet));
    let deadline = Instant::now() + 3 * WAIT_LIMIT;
    let mut expected = 0;
    while expected < 3 * CYCLES {
        assert!(Instant::now() < deadline, "{expected} reads without a crowd:\n{}", quiet.log());
        thread::sleep(Duration::from_millis(100));
        expected = reads(&quiet) - begin;
    }
    let actual = reads(&crowded) - before;
    println!("{actual} reads, {expected} without {:?} responses", crowd.responses);
    // On an idle machine they are equal. On a busy one this program answers the crowd as well, which is
    // slower than on its own. A starved service reads a tenth.
    assert!(2 * actual >= expected, "{actual} reads instead of {expected}");
}

#[test]
fn health_check_passes_while_clients_hold_connections() {
    let (_packs, service) = start();
    let listen = service.listen();
    let mut held = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(&listen).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        held.push(stream);
    }
    let check =
        || run(&["healthcheck"], &[("HTTP_LISTEN", &listen), ("BMS_TYPE", "simulated")], "");
    let output = check();
    assert!(output.status.success(), "{output:?}");
    drop(held);
    let crowd = Crowd::start(&service, &["/api/overview"]);
    crowd.wait(CLIENTS);
    let output = check();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn memory_returns_after_crowds() {
    const PATHS: [&str; 6] = [
        "/api/overview",
        "/metrics",
        "/api/devices",
        "/api/devices/pack1/history",
        "/",
        "/api/events",
    ];
    let (_packs, service) = start();
    let crowd = || {
        Crowd::start(&service, &PATHS).wait(8 * CLIENTS);
    };
    // What a crowd needs at once stays with the allocator and is used by the next one.
    (0..2).for_each(|_| crowd());
    let before = service.memory();
    for _ in 0..3 {
        crowd();
    }
    let after = service.memory();
    println!("{before} bytes before, {after} after");
    assert!(after <= before + (1 << 20), "from {before} to {after} bytes");
}
