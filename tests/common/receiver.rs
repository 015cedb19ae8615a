//! A server that receives notifications: it gives the configured answers and records every request.

#![allow(dead_code, reason = "no test crate uses all of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// What happens to a request.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Status line and header lines, and the body.
    Http(&'static str, &'static str),
    /// These bytes, whatever they are.
    Raw(&'static str),
    /// An accepted request whose answer comes byte by byte.
    Slow,
    /// The connection stays open without an answer.
    Hang,
    /// The connection is closed without an answer.
    Close,
}

pub const ACCEPTED: Answer = Answer::Http("200 OK", "{}");

#[derive(Debug, Clone)]
pub struct Request {
    /// Method and path.
    pub line: String,
    /// The header lines in lower case, without those that depend on the port.
    pub head: String,
    pub body: Value,
    pub at: Instant,
}

impl Request {
    /// Title and text, whatever the service calls them.
    pub fn text(&self) -> String {
        let parts = ["title", "message", "text"].map(|name| self.body[name].as_str());
        parts.into_iter().flatten().collect::<Vec<_>>().join(": ")
    }
}

#[derive(Debug)]
pub struct Receiver {
    port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
}

trait Connection: Read + Write {}

impl<T: Read + Write> Connection for T {}

impl Receiver {
    /// Gives these answers one after the other, and repeats the last one.
    pub fn start(answers: &[Answer]) -> Self {
        Receiver::start_at(0, answers)
    }

    pub fn start_at(port: u16, answers: &[Answer]) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        Receiver::serve(listener, answers, |stream| Some(Box::new(stream)))
    }

    /// Speaks TLS with the certificate and key of these files.
    #[cfg(feature = "tls")]
    pub fn start_tls(certificate: &str, key: &str, answers: &[Answer]) -> Self {
        use rustls::pki_types::pem::PemObject;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};
        let certificates = CertificateDer::pem_file_iter(certificate).unwrap();
        let certificates = certificates.collect::<Result<Vec<_>, _>>().unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(certificates, PrivateKeyDer::from_pem_file(key).unwrap())
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Receiver::serve(listener, answers, move |stream| {
            let connection = rustls::ServerConnection::new(config.clone()).ok()?;
            Some(Box::new(rustls::StreamOwned::new(connection, stream)))
        })
    }

    fn serve(
        listener: TcpListener,
        answers: &[Answer],
        wrap: impl Fn(TcpStream) -> Option<Box<dyn Connection + Send>> + Send + 'static,
    ) -> Self {
        let port = listener.local_addr().unwrap().port();
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (recorded, answers) = (requests.clone(), answers.to_vec());
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let Some(mut stream) = wrap(stream) else { continue };
                let Some(request) = read(stream.as_mut()) else { continue };
                let number = {
                    let mut recorded = recorded.lock().unwrap();
                    recorded.push(request);
                    recorded.len() - 1
                };
                let answer = answers[number.min(answers.len() - 1)].clone();
                // A hanging connection must not delay the next one.
                thread::spawn(move || reply(stream, &answer));
            }
        });
        Receiver { port, requests }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Waits for this many requests.
    #[track_caller]
    pub fn wait(&self, count: usize, limit: Duration) -> Vec<Request> {
        let deadline = Instant::now() + limit;
        loop {
            let requests = self.requests();
            if requests.len() >= count {
                return requests;
            }
            assert!(Instant::now() < deadline, "{count} requests expected: {requests:#?}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn read(stream: &mut dyn Connection) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let head: Vec<String> =
        reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let (line, headers) = head.split_first()?;
    let length = headers.iter().find_map(|line| line.strip_prefix("Content-Length: "));
    let mut body = vec![0; length?.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    let (line, head) = (line.strip_suffix(" HTTP/1.1")?.to_owned(), headers.join("\n"));
    Some(Request { line, head, body: serde_json::from_slice(&body).ok()?, at: Instant::now() })
}

/// Errors mean that the client is gone.
fn reply(mut stream: Box<dyn Connection + Send>, answer: &Answer) {
    let _ = match answer {
        Answer::Http(head, body) => {
            let length = body.len();
            write!(stream, "HTTP/1.1 {head}\r\nContent-Length: {length}\r\n\r\n{body}")
        }
        Answer::Raw(bytes) => write!(stream, "{bytes}"),
        Answer::Slow => {
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".bytes().try_for_each(|byte| {
                thread::sleep(Duration::from_millis(20));
                stream.write_all(&[byte]).and_then(|()| stream.flush())
            })
        }
        Answer::Hang => {
            thread::sleep(Duration::from_secs(120));
            Ok(())
        }
        Answer::Close => Ok(()),
    };
    let _ = stream.flush();
}
