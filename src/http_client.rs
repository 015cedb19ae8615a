//! One request over HTTP/1.1. Nothing is kept open: requests are rare.

mod url;

use std::io;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::tls::{self, Stream, Tls, TlsError};

pub use url::{Url, base64, decode, encode};

/// For the name, the connection, TLS, the request and the response together.
const TIMEOUT: Duration = Duration::from_secs(20);
/// In bytes, head and body. The rest of a longer response is not read.
const MAX_RESPONSE: usize = 16 * 1024;
/// In characters.
const MAX_REASON: usize = 120;
/// A server may ask for more time, but not for any.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("{0}")]
    Unreachable(String),
    /// The certificate of the server, or the file that should vouch for it.
    #[error("{0}")]
    Certificate(String),
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    Timeout,
    #[error("the answer is not HTTP")]
    NotHttp,
}

impl From<io::Error> for HttpError {
    fn from(error: io::Error) -> Self {
        let text = error.to_string();
        // The standard library has no kind for it.
        let is_unknown = text.starts_with("failed to lookup address");
        HttpError::Unreachable(if is_unknown { "host name not found".to_owned() } else { text })
    }
}

impl From<TlsError> for HttpError {
    fn from(error: TlsError) -> Self {
        let text = format!("TLS: {error}");
        match error {
            TlsError::NotSpoken(_) => HttpError::Unreachable(text),
            TlsError::Settings(_) | TlsError::Handshake(_) => HttpError::Certificate(text),
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// `None`: without encryption.
    pub tls: Option<&'a Tls>,
    pub host: &'a str,
    pub port: u16,
    /// With the query.
    pub path: &'a str,
    /// For the authentication.
    pub header: Option<(&'a str, &'a str)>,
    pub content_type: &'a str,
    pub body: &'a str,
}

/// Sends the body. Redirects are not followed.
pub async fn post(request: &Request<'_>) -> Result<Response, HttpError> {
    let response = timeout(TIMEOUT, exchange(request)).await;
    let response = response.unwrap_or(Err(HttpError::Timeout))?;
    if response.is_empty() {
        let message = "closed the connection without an answer".to_owned();
        return Err(HttpError::Unreachable(message));
    }
    Response::parse(&response).ok_or(HttpError::NotHttp)
}

/// Opens a connection and closes it.
pub async fn probe(request: &Request<'_>) -> Result<(), HttpError> {
    let connection = timeout(TIMEOUT, connect(request)).await;
    connection.unwrap_or(Err(HttpError::Timeout)).map(drop)
}

async fn connect(request: &Request<'_>) -> Result<Box<dyn Stream>, HttpError> {
    let stream = TcpStream::connect((request.host, request.port)).await?;
    Ok(tls::encrypt(request.tls, request.host, stream).await?)
}

async fn exchange(request: &Request<'_>) -> Result<Vec<u8>, HttpError> {
    let mut stream = connect(request).await?;
    stream.write_all(request.text().as_bytes()).await?;
    stream.flush().await?;
    read(stream.as_mut()).await
}

impl Request<'_> {
    fn text(&self) -> String {
        let Request { host, port, path, content_type, body, .. } = self;
        let host = if host.contains(':') { format!("[{host}]") } else { (*host).to_owned() };
        let default_port = if self.tls.is_some() { 443 } else { 80 };
        let port = if *port == default_port { String::new() } else { format!(":{port}") };
        let header = self.header.map(|(name, value)| format!("{name}: {value}\r\n"));
        format!(
            "POST {path} HTTP/1.1\r\nHost: {host}{port}\r\nUser-Agent: bms-reader/{}\r\n{}\
             Content-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            env!("CARGO_PKG_VERSION"),
            header.unwrap_or_default(),
            body.len(),
        )
    }
}

/// The response, or its beginning. Many servers end TLS without `close_notify`, so an error after the head
/// is the end.
async fn read(stream: &mut dyn Stream) -> Result<Vec<u8>, HttpError> {
    let mut response = Vec::new();
    let mut buffer = [0; 2048];
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) => return Ok(response),
            Ok(length) => response.extend_from_slice(&buffer[..length]),
            Err(_) if Response::parse(&response).is_some() => return Ok(response),
            Err(error) => return Err(error.into()),
        }
        let complete = Response::parse(&response).is_some_and(|response| response.is_complete());
        if complete || response.len() >= MAX_RESPONSE {
            return Ok(response);
        }
    }
}

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    head: String,
    body: Vec<u8>,
}

impl Response {
    /// `None` until the head is complete.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = std::str::from_utf8(bytes.get(..end)?).ok()?;
        let mut words = head.strip_prefix("HTTP/1.")?.split([' ', '\r']);
        let status = words.nth(1).filter(|digits| digits.len() == 3)?.parse().ok()?;
        let body = bytes.get(end + 4..)?;
        // The final response follows an interim one.
        if (100..200).contains(&status) {
            Response::parse(body)
        } else {
            Some(Response { status, head: head.to_owned(), body: body.to_vec() })
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        let (_, value) = lines.find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        Some(value.trim())
    }

    /// The body of a success does not matter.
    fn is_complete(&self) -> bool {
        let length = self.header("content-length").and_then(|text| text.parse().ok());
        let is_chunked_end = || self.body.ends_with(b"0\r\n\r\n");
        self.is_success()
            || length.map_or_else(is_chunked_end, |length: usize| self.body.len() >= length)
    }

    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether the same request may be accepted later: too many of them, or an error of the server.
    pub fn is_temporary(&self) -> bool {
        matches!(self.status, 408 | 425 | 429 | 500..)
    }

    /// How long to wait before the next request. `seconds`: what the body asks for.
    pub fn retry_after(&self, seconds: Option<u64>) -> Option<Duration> {
        let header = self.header("retry-after").and_then(|text| text.parse().ok());
        header.or(seconds).map(|seconds| Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
    }

    /// What happened; `reason` is that of the server. The path of a redirection may contain a token.
    pub fn refusal(&self, reason: Option<String>) -> String {
        if (300..400).contains(&self.status) {
            let place = self.header("location").and_then(Url::parse);
            let place =
                place.map(|url| format!(" to {}://{}", url.scheme, printable(url.authority)));
            return format!("status {}: redirected{}", self.status, place.unwrap_or_default());
        }
        let reason = reason.map(|text| format!(": {text}")).unwrap_or_default();
        format!("refused with status {}{reason}", self.status)
    }

    /// One short line; empty without a body.
    pub fn text(&self) -> String {
        printable(&String::from_utf8_lossy(&self.body))
    }

    /// `Null` unless the body contains an object. A chunked body is one chunk, because it is short.
    pub fn json(&self) -> Value {
        let begin = self.body.iter().position(|byte| *byte == b'{');
        let end = self.body.iter().rposition(|byte| *byte == b'}');
        let object = begin.zip(end).and_then(|(begin, end)| self.body.get(begin..=end));
        object.and_then(|object| serde_json::from_slice(object).ok()).unwrap_or_default()
    }
}

/// One short line.
pub fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_REASON).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_has_exact_length_and_host() {
        let gotify = Request {
            tls: None,
            host: "::1",
            port: 8080,
            path: "/sub/message",
            header: Some(("X-Gotify-Key", "token")),
            content_type: "application/json",
            body: "{\"a\": \"ä\"}",
        };
        let text = gotify.text();
        let expected = [
            "POST /sub/message HTTP/1.1",
            "Host: [::1]:8080",
            "X-Gotify-Key: token",
            "Content-Type: application/json",
            "Content-Length: 11",
            "Connection: close",
        ];
        for line in expected {
            assert!(text.contains(&format!("{line}\r\n")), "{line}: {text}");
        }
        assert!(text.ends_with("\r\n\r\n{\"a\": \"ä\"}"), "{text}");
        let tls = Tls::default();
        let webhook =
            Request { tls: Some(&tls), host: "host", port: 443, header: None, body: "", ..gotify };
        assert!(webhook.text().contains("Host: host\r\n"));
    }
}
