//! One request over HTTP/1.1. Nothing is kept open: messages are rare.

use std::io;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::service::Target;
use super::url::Url;
use crate::remedy::{self, Remedy};
use crate::tls::{self, Stream, Tls, TlsError};

/// For the name, the connection, TLS, the request and the response together.
const TIMEOUT: Duration = Duration::from_secs(20);
/// In bytes, head and body. The rest of a longer response is not read.
const MAX_RESPONSE: usize = 16 * 1024;
/// In characters.
const MAX_REASON: usize = 120;
/// A server may ask for more time, but not for any.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// Why a message was not accepted. Contains no secrets.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error("{message}")]
    Unreachable { message: String, remedy: &'static Remedy },
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    Timeout,
    #[error("the answer is not HTTP")]
    NotHttp,
    /// Too many messages, or an error of the server.
    #[error("{reason}")]
    Busy { reason: String, retry_after: Option<Duration> },
    /// The same request will probably be refused again.
    #[error("{reason}")]
    Refused { reason: String, remedy: &'static Remedy },
}

impl SendError {
    /// What the user can do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            SendError::Unreachable { remedy, .. } | SendError::Refused { remedy, .. } => {
                remedy.text()
            }
            SendError::Timeout | SendError::NotHttp => remedy::NOTIFY_SERVER.text(),
            SendError::Busy { .. } => remedy::NOTIFY_BUSY.text(),
        }
    }
}

impl From<io::Error> for SendError {
    fn from(error: io::Error) -> Self {
        let text = error.to_string();
        // The standard library has no kind for it.
        let is_unknown = text.starts_with("failed to lookup address");
        let message = if is_unknown { "host name not found".to_owned() } else { text };
        SendError::Unreachable { message, remedy: &remedy::NOTIFY_SERVER }
    }
}

impl From<TlsError> for SendError {
    fn from(error: TlsError) -> Self {
        let remedy = match error {
            TlsError::NotSpoken(_) => &remedy::NOTIFY_SERVER,
            TlsError::Settings(_) | TlsError::Handshake(_) => &remedy::NOTIFY_CERTIFICATE,
        };
        SendError::Unreachable { message: format!("TLS: {error}"), remedy }
    }
}

/// Sends a JSON body. `tls`: settings for targets with TLS.
pub async fn post(target: &Target, tls: &Tls, body: &str) -> Result<(), SendError> {
    let response = timeout(TIMEOUT, exchange(target, tls, body)).await;
    let response = response.unwrap_or(Err(SendError::Timeout))?;
    if response.is_empty() {
        let message = "closed the connection without an answer".to_owned();
        return Err(SendError::Unreachable { message, remedy: &remedy::NOTIFY_SERVER });
    }
    Response::parse(&response).ok_or(SendError::NotHttp)?.check(target)
}

/// Opens a connection and closes it.
pub async fn probe(target: &Target, tls: &Tls) -> Result<(), SendError> {
    let connection = timeout(TIMEOUT, connect(target, tls)).await;
    connection.unwrap_or(Err(SendError::Timeout)).map(drop)
}

async fn connect(target: &Target, tls: &Tls) -> Result<Box<dyn Stream>, SendError> {
    let stream = TcpStream::connect((target.host.as_str(), target.port)).await?;
    let tls = Some(tls).filter(|_| target.tls);
    Ok(tls::encrypt(tls, &target.host, stream).await?)
}

async fn exchange(target: &Target, tls: &Tls, body: &str) -> Result<Vec<u8>, SendError> {
    let mut stream = connect(target, tls).await?;
    stream.write_all(request(target, body).as_bytes()).await?;
    stream.flush().await?;
    read(stream.as_mut()).await
}

fn request(target: &Target, body: &str) -> String {
    let host =
        if target.host.contains(':') { format!("[{}]", target.host) } else { target.host.clone() };
    let default_port = if target.tls { 443 } else { 80 };
    let port =
        if target.port == default_port { String::new() } else { format!(":{}", target.port) };
    let header = target.header.as_ref();
    let header = header.map(|(name, value)| format!("{name}: {}\r\n", value.expose()));
    format!(
        "POST {} HTTP/1.1\r\nHost: {host}{port}\r\nUser-Agent: bms-reader/{}\r\n{}\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        target.path.expose(),
        env!("CARGO_PKG_VERSION"),
        header.unwrap_or_default(),
        body.len(),
    )
}

/// The response, or its beginning. Many servers end TLS without `close_notify`, so an error after the head
/// is the end.
async fn read(stream: &mut dyn Stream) -> Result<Vec<u8>, SendError> {
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
struct Response<'a> {
    status: u16,
    head: &'a str,
    body: &'a [u8],
}

impl<'a> Response<'a> {
    /// `None` until the head is complete.
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = std::str::from_utf8(bytes.get(..end)?).ok()?;
        let mut words = head.strip_prefix("HTTP/1.")?.split([' ', '\r']);
        let status = words.nth(1).filter(|digits| digits.len() == 3)?.parse().ok()?;
        let body = bytes.get(end + 4..)?;
        // The final response follows an interim one.
        if (100..200).contains(&status) {
            Response::parse(body)
        } else {
            Some(Response { status, head, body })
        }
    }

    fn header(&self, name: &str) -> Option<&'a str> {
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

    fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    fn check(&self, target: &Target) -> Result<(), SendError> {
        if self.is_success() {
            return Ok(());
        }
        let json = self.json();
        let reason =
            json[target.service.reason].as_str().map(|text| target.redact(&printable(text)));
        let reason = reason.map(|text| format!(": {text}")).unwrap_or_default();
        let reason = format!("refused with status {}{reason}", self.status);
        Err(match self.status {
            300..400 => {
                let place = self.header("location").and_then(Url::parse);
                // The path may contain a token.
                let place =
                    place.map(|url| format!(" to {}://{}", url.scheme, printable(url.authority)));
                let reason =
                    format!("status {}: redirected{}", self.status, place.unwrap_or_default());
                SendError::Refused { reason, remedy: &remedy::NOTIFY_REDIRECT }
            }
            408 | 425 | 429 | 500.. => {
                let seconds = self.header("retry-after").and_then(|text| text.parse().ok());
                let seconds = seconds.or_else(|| json["parameters"]["retry_after"].as_u64());
                let retry_after =
                    seconds.map(Duration::from_secs).map(|time| time.min(MAX_RETRY_AFTER));
                SendError::Busy { reason, retry_after }
            }
            _ => SendError::Refused { reason, remedy: &remedy::NOTIFY_REFUSED },
        })
    }

    /// `Null` unless the body contains an object. A chunked body is one chunk, because it is short.
    fn json(&self) -> Value {
        let begin = self.body.iter().position(|byte| *byte == b'{');
        let end = self.body.iter().rposition(|byte| *byte == b'}');
        let object = begin.zip(end).and_then(|(begin, end)| self.body.get(begin..=end));
        object.and_then(|object| serde_json::from_slice(object).ok()).unwrap_or_default()
    }
}

/// One short line.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_REASON).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(service: &str, response: &str) -> Result<(), SendError> {
        let target = Target::parse(service).unwrap();
        Response::parse(response.as_bytes()).ok_or(SendError::NotHttp)?.check(&target)
    }

    #[test]
    fn request_has_exact_length_and_host() {
        let target = Target::parse("gotify://[::1]:8080/sub/token").unwrap();
        let text = request(&target, "{\"a\": \"ä\"}");
        let expected = [
            "POST /sub/message HTTP/1.1",
            "Host: [::1]:8080",
            "X-Gotify-Key: token",
            "Content-Length: 11",
            "Connection: close",
        ];
        for line in expected {
            assert!(text.contains(&format!("{line}\r\n")), "{line}: {text}");
        }
        assert!(text.ends_with("\r\n\r\n{\"a\": \"ä\"}"), "{text}");
        let target = Target::parse("https://host/hook").unwrap();
        assert!(request(&target, "").contains("Host: host\r\n"));
    }

    #[test]
    fn status_decides_whether_a_retry_helps() {
        let of = |head: &str| check("ntfy://host/topic", &format!("{head}\r\n\r\n"));
        for accepted in
            ["HTTP/1.1 200 OK", "HTTP/1.0 204", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 A"]
        {
            assert!(of(accepted).is_ok(), "{accepted}");
        }
        for (head, seconds) in [
            ("HTTP/1.1 429 Too Many\r\nRETRY-AFTER: 17", Some(17)),
            ("HTTP/1.1 503 Busy\r\nRetry-After: 99999999", Some(3600)),
            ("HTTP/1.1 503 Busy\r\nRetry-After: Fri, 31 Dec 2027 23:59:59 GMT", None),
            ("HTTP/1.1 500 Error", None),
            ("HTTP/1.1 408 Timeout", None),
        ] {
            let Err(SendError::Busy { retry_after, .. }) = of(head) else { panic!("{head}") };
            assert_eq!(retry_after.map(|time| time.as_secs()), seconds, "{head}");
        }
        for refused in ["HTTP/1.1 401 Unauthorized", "HTTP/1.1 404 Not Found", "HTTP/1.1 302 Found"]
        {
            assert!(matches!(of(refused), Err(SendError::Refused { .. })), "{refused}");
        }
        for junk in ["SSH-2.0-OpenSSH_9", "HTTP/1.1 banana", "HTTP/2 200", "HTTP/1.1 20"] {
            assert!(matches!(of(junk), Err(SendError::NotHttp)), "{junk}");
        }
    }

    /// The answers are those of the servers.
    #[test]
    fn refusal_contains_the_reason_of_the_server_without_secrets() {
        for (service, body, expected) in [
            (
                "ntfy://host/topic",
                r#"{"code":40301,"http":403,"error":"forbidden","link":"x"}"#,
                "403: forbidden",
            ),
            (
                "gotify://host/AbCdEf12",
                r#"{"error":"Unauthorized","errorCode":401,"errorDescription":"you need to provide a valid token"}"#,
                "403: you need to provide a valid token",
            ),
            (
                "tgram://12:abcdef/1",
                r#"{"ok":false,"error_code":400,"description":"Bad Request: chat not found 12:abcdef"}"#,
                "403: Bad Request: chat not found ***",
            ),
            ("json://host/hook", "<html>", "403"),
            ("json://host/hook", "1a\r\n{\"error\":\"a\\u0007\\nb\"}\r\n0\r\n\r\n", "403: ab"),
        ] {
            let error =
                check(service, &format!("HTTP/1.1 403 Forbidden\r\n\r\n{body}")).unwrap_err();
            assert_eq!(error.to_string(), format!("refused with status {expected}"));
        }
        let moved = "HTTP/1.1 301 Moved\r\nLocation: https://host.example/secret\r\n\r\n";
        let error = check("ntfy://host/topic", moved).unwrap_err().to_string();
        assert_eq!(error, "status 301: redirected to https://host.example");
    }

    #[test]
    fn telegram_reports_the_wait_in_its_body() {
        let response = "HTTP/1.1 429 Too Many Requests\r\n\r\n{\"ok\":false,\"error_code\":429,\
            \"description\":\"Too Many Requests: retry after 8\",\"parameters\":{\"retry_after\":8}}";
        let Err(SendError::Busy { retry_after, .. }) = check("tgram://12:ab/1", response) else {
            panic!()
        };
        assert_eq!(retry_after, Some(Duration::from_secs(8)));
    }
}
