//! Clients of the HTTP server that want too much of it.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::{Fault, Undo};
use crate::plan::Random;
use crate::rig::Rig;

const fn fault(name: &'static str, apply: fn(&mut Rig, &mut Random) -> Undo) -> Fault {
    Fault { name, group: "http", apply }
}

/// As many as the server has places, and more.
fn clients(rig: &mut Rig, random: &mut Random, behaviour: Behaviour) -> Undo {
    let server = SocketAddr::from(([127, 0, 0, 1], rig.program.http_port()));
    let clients = Clients::start(server, behaviour, 40 + random.below(60) as usize);
    Box::new(move |_| drop(clients))
}

pub const FAULTS: &[Fault] = &[
    fault("crowd of HTTP clients", |rig, random| clients(rig, random, Behaviour::Crowd)),
    fault("pipelining HTTP clients", |rig, random| clients(rig, random, Behaviour::Pipelining)),
    fault("HTTP clients that read nothing", |rig, random| {
        clients(rig, random, Behaviour::SlowReader)
    }),
    fault("HTTP clients that write slowly", |rig, random| {
        clients(rig, random, Behaviour::SlowWriter)
    }),
    fault("HTTP clients that keep their connection", |rig, random| {
        clients(rig, random, Behaviour::KeepAlive)
    }),
    fault("open pages", |rig, random| clients(rig, random, Behaviour::Pages)),
];

/// A client that waits for a place of the server is given up after this time.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(200);

/// Bytes per attempt to read or write.
const CHUNK: usize = 64 * 1024;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Behaviour {
    /// Many clients, each with one request on a new connection, again and again.
    Crowd,
    /// Requests without waiting for the answers.
    Pipelining,
    /// Requests, but the answers are never read.
    SlowReader,
    /// One byte of a request at a time, without an end.
    SlowWriter,
    /// One request, then the connection stays open.
    KeepAlive,
    /// Open pages, which wait for events.
    Pages,
}

impl Behaviour {
    fn request(self) -> Vec<u8> {
        let get = |path: &str, end: &str| {
            format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{end}\r\n").into_bytes()
        };
        match self {
            Behaviour::Crowd => get("/api/overview", "Connection: close\r\n"),
            Behaviour::Pipelining => get("/api/overview", "").repeat(200),
            Behaviour::SlowReader => get("/api/overview", "").repeat(50),
            Behaviour::SlowWriter => b"X".repeat(CHUNK),
            Behaviour::KeepAlive => get("/healthz", ""),
            Behaviour::Pages => get("/api/events", ""),
        }
    }

    /// Bytes of the request that are sent at once.
    fn step(self) -> usize {
        if self == Behaviour::SlowWriter { 1 } else { CHUNK }
    }

    fn repeats(self) -> bool {
        matches!(self, Behaviour::Pipelining | Behaviour::SlowReader)
    }
}

/// Clients that behave in this way until they are dropped.
struct Clients {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Clients {
    fn start(server: SocketAddr, behaviour: Behaviour, count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let request = behaviour.request();
            let mut clients: Vec<Option<Client>> = (0..count).map(|_| None).collect();
            while !stopped.load(Ordering::Relaxed) {
                let mut refused = false;
                for client in &mut clients {
                    if client.is_none() && !refused {
                        *client = Client::connect(server);
                        refused = client.is_none();
                    }
                    if client.as_mut().is_some_and(|client| !client.turn(behaviour, &request)) {
                        *client = None;
                    }
                }
                thread::sleep(Duration::from_millis(20));
            }
        });
        Clients { stop, thread: Some(thread) }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

struct Client {
    stream: TcpStream,
    /// Bytes of the request that were sent.
    sent: usize,
}

impl Client {
    fn connect(server: SocketAddr) -> Option<Client> {
        let socket = Socket::new(Domain::for_address(server), Type::STREAM, None).ok()?;
        // A small window, so that a client that does not read is noticed soon.
        socket.set_recv_buffer_size(4096).ok()?;
        socket.connect_timeout(&server.into(), CONNECT_TIMEOUT).ok()?;
        let stream = TcpStream::from(socket);
        stream.set_nonblocking(true).ok()?;
        // No connections in TIME-WAIT, which would use up the ports of the machine.
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).ok()?;
        Some(Client { stream, sent: 0 })
    }

    /// Reads and writes what is possible without waiting; false once the connection has ended.
    fn turn(&mut self, behaviour: Behaviour, request: &[u8]) -> bool {
        if self.sent == request.len() && behaviour.repeats() {
            self.sent = 0;
        }
        let end = request.len().min(self.sent + behaviour.step());
        match self.stream.write(&request[self.sent..end]) {
            Ok(written) => self.sent += written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
        if behaviour == Behaviour::SlowReader {
            return true;
        }
        let mut answer = [0; CHUNK];
        match self.stream.read(&mut answer) {
            Ok(length) => length > 0,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }
}
