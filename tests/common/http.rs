//! HTTP requests to the program, and a Supervisor that keeps the options of an add-on.

#![allow(dead_code, reason = "every test file uses its own part of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// In lower case.
    pub head: String,
    /// `Null` unless the body is JSON.
    pub json: Value,
}

/// Sends a request with the body as JSON, and these header lines. `None` without an answer.
pub fn request(
    address: &str,
    method: &str,
    path: &str,
    headers: &[&str],
    body: &Value,
) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).ok()?;
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    let json = serde_json::from_str(body).unwrap_or_default();
    Some(Answer { status, head: head.to_lowercase(), json })
}

/// Method and path, authorization, and body of a request.
pub type Received = (String, String, Value);

/// Home Assistant's Supervisor, as far as an add-on may use it without any permission.
#[derive(Debug, Clone)]
pub struct FakeSupervisor {
    pub url: String,
    options: Arc<Mutex<Value>>,
    received: Arc<Mutex<Vec<Received>>>,
}

impl FakeSupervisor {
    pub fn start(options: Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let options = Arc::new(Mutex::new(options));
        let supervisor = FakeSupervisor { url, options, received: Arc::default() };
        let server = supervisor.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let _ = server.answer(&stream);
            }
        });
        supervisor
    }

    fn answer(&self, stream: &TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream);
        let head: Vec<String> = reader
            .by_ref()
            .lines()
            .map_while(Result::ok)
            .take_while(|line| !line.is_empty())
            .collect();
        let header = |name: &str| {
            let mut lines = head.iter().filter_map(|line| line.split_once(": "));
            lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, text)| text.to_owned())
        };
        let length = header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let line = head.first()?.trim_end_matches(" HTTP/1.1").to_owned();
        let answer = self.data(&line, &body);
        let token = header("authorization").unwrap_or_default();
        self.received.lock().unwrap().push((line, token, body));
        let (status, answer) = match answer {
            Some(data) => ("200 OK", json!({"result": "ok", "data": data})),
            None => ("400 Bad Request", json!({"result": "error", "message": "not here"})),
        };
        let answer = answer.to_string();
        let length = answer.len();
        let head = "Content-Type: application/json\r\nConnection: close";
        write!(&*stream, "HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {length}\r\n\r\n{answer}")
            .ok()
    }

    /// `None` for what an add-on may not do.
    fn data(&self, line: &str, body: &Value) -> Option<Value> {
        match line {
            "GET /addons/self/info" => {
                Some(json!({"slug": "bms_reader", "options": *self.options.lock().unwrap()}))
            }
            "POST /addons/self/options" => {
                let new = body["options"].as_object()?.clone();
                *self.options.lock().unwrap() = Value::Object(new);
                Some(json!({}))
            }
            "POST /addons/self/restart" => Some(json!({})),
            _ => None,
        }
    }

    pub fn options(&self) -> Value {
        self.options.lock().unwrap().clone()
    }

    /// The requests for this path of the add-on itself.
    pub fn received(&self, line: &str) -> Vec<Received> {
        let all = self.received.lock().unwrap();
        all.iter().filter(|(received, ..)| received == line).cloned().collect()
    }
}
