//! A server for line protocol that keeps every point it takes, and fails on request.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What happens to a request.
#[derive(Debug, Clone, Copy)]
pub enum Mode {
    Accept,
    /// Status line and header lines; nothing is taken.
    Status(&'static str),
    /// The connection ends before the request was read.
    CutEarly,
    /// The points are taken, but the confirmation is lost.
    CutLate,
    /// Batches with a point of this battery are refused; with `partial` the other points are taken.
    Refuse {
        id: &'static str,
        partial: bool,
    },
    /// Batches with more points are too large.
    Limit(usize),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    pub id: String,
    pub second: u64,
    pub fields: String,
}

#[derive(Debug, Default)]
struct Shared {
    mode: Option<Mode>,
    points: Vec<Point>,
    /// Method, path and header lines of every request.
    heads: Vec<String>,
    stopped: bool,
}

#[derive(Debug)]
pub struct LineServer {
    pub port: u16,
    shared: Arc<Mutex<Shared>>,
    thread: Option<JoinHandle<()>>,
}

impl LineServer {
    pub fn start() -> Self {
        let mut server = LineServer { port: 0, shared: Arc::default(), thread: None };
        server.restart();
        server
    }

    /// Nothing listens on the port any more.
    pub fn stop(&mut self) {
        self.shared.lock().unwrap().stopped = true;
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    /// It takes points again, with those from before.
    pub fn restart(&mut self) {
        self.stop();
        let listener = TcpListener::bind(("127.0.0.1", self.port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        self.port = listener.local_addr().unwrap().port();
        let shared = self.shared.clone();
        {
            let mut shared = shared.lock().unwrap();
            shared.stopped = false;
            shared.mode = Some(Mode::Accept);
        }
        self.thread = Some(thread::spawn(move || {
            while !shared.lock().unwrap().stopped {
                match listener.accept() {
                    // Errors mean that the client is gone.
                    Ok((stream, _)) => drop(answer(&stream, &shared)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        thread::sleep(Duration::from_millis(5));
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }));
    }

    pub fn set_mode(&self, mode: Mode) {
        self.shared.lock().unwrap().mode = Some(mode);
    }

    pub fn heads(&self) -> Vec<String> {
        self.shared.lock().unwrap().heads.clone()
    }

    /// Waits for this many requests from now on.
    #[track_caller]
    pub fn wait_requests(&self, count: usize, limit: Duration) {
        let (deadline, wanted) = (Instant::now() + limit, self.heads().len() + count);
        while self.heads().len() < wanted {
            assert!(Instant::now() < deadline, "{} of {wanted} requests", self.heads().len());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The points of a battery in the order of their arrival. Like InfluxDB, it overwrites a point with itself.
    pub fn points(&self, id: &str) -> Vec<Point> {
        let mut seen = BTreeSet::new();
        let points = self.shared.lock().unwrap().points.clone();
        points.into_iter().filter(|point| point.id == id && seen.insert(point.clone())).collect()
    }
}

impl Drop for LineServer {
    fn drop(&mut self) {
        self.shared.lock().unwrap().stopped = true;
    }
}

fn answer(stream: &TcpStream, shared: &Mutex<Shared>) -> Option<()> {
    stream.set_nonblocking(false).ok()?;
    let mode = shared.lock().unwrap().mode?;
    if matches!(mode, Mode::CutEarly) {
        shared.lock().unwrap().heads.push(String::new());
        return None;
    }
    let (head, body) = read(stream)?;
    let lines: Vec<Point> = body.lines().map(|line| parse(line).expect(line)).collect();
    let mut shared = shared.lock().unwrap();
    shared.heads.push(head);
    let (status, taken) = match mode {
        Mode::Accept | Mode::CutEarly | Mode::CutLate => ("204 No Content", lines),
        Mode::Status(status) => (status, Vec::new()),
        Mode::Limit(max) if lines.len() > max => ("413 Request Entity Too Large", Vec::new()),
        Mode::Refuse { id, partial } if lines.iter().any(|point| point.id == id) => {
            let good = lines.into_iter().filter(|point| partial && point.id != id).collect();
            (if partial { "422 Unprocessable Entity" } else { "400 Bad Request" }, good)
        }
        Mode::Limit(_) | Mode::Refuse { .. } => ("204 No Content", lines),
    };
    shared.points.extend(taken);
    if matches!(mode, Mode::CutLate) {
        return None;
    }
    let body = if status.starts_with('2') { "" } else { r#"{"error":"of the test"}"# };
    let length = body.len();
    write!(&*stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}").ok()
}

fn read(stream: &TcpStream) -> Option<(String, String)> {
    let mut reader = BufReader::new(stream);
    let head: Vec<String> =
        reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let length = head.iter().find_map(|line| line.strip_prefix("Content-Length: "))?;
    let mut body = vec![0; length.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    Some((head.join("\n"), String::from_utf8(body).ok()?))
}

fn parse(line: &str) -> Option<Point> {
    let mut parts = line.strip_prefix("battery,id=")?.split(' ');
    let (id, fields, second) = (parts.next()?, parts.next()?, parts.next()?.parse().ok()?);
    let is_value = |value: &str| {
        ["true", "false"].contains(&value) || value.parse::<f64>().is_ok_and(f64::is_finite)
    };
    let mut pairs = fields.split(',').map(|field| field.split_once('='));
    let is_valid = pairs.all(|pair| pair.is_some_and(|(_, value)| is_value(value)));
    (is_valid && parts.next().is_none()).then(|| Point {
        id: id.to_owned(),
        second,
        fields: fields.to_owned(),
    })
}
