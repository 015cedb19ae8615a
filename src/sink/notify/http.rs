//! One message to a service, and what its response means.

use std::time::Duration;

use super::service::Target;
use crate::http_client::{self, HttpError, Request, Response, printable};
use crate::remedy::{self, Remedy};
use crate::tls::Tls;

/// Why a message was not accepted. Contains no secrets.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error("{0}")]
    Http(#[from] HttpError),
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
        let remedy = match self {
            SendError::Http(HttpError::Certificate(_)) => &remedy::NOTIFY_CERTIFICATE,
            SendError::Http(_) => &remedy::NOTIFY_SERVER,
            SendError::Busy { .. } => &remedy::SERVER_BUSY,
            SendError::Refused { remedy, .. } => remedy,
        };
        remedy.text()
    }
}

/// Sends a JSON body. `tls`: settings for targets with TLS.
pub async fn post(target: &Target, tls: &Tls, body: &str) -> Result<(), SendError> {
    check(target, &http_client::post(&request(target, tls, body)).await?)
}

/// Opens a connection and closes it.
pub async fn probe(target: &Target, tls: &Tls) -> Result<(), SendError> {
    Ok(http_client::probe(&request(target, tls, "")).await?)
}

fn request<'a>(target: &'a Target, tls: &'a Tls, body: &'a str) -> Request<'a> {
    Request {
        tls: Some(tls).filter(|_| target.tls),
        host: &target.host,
        port: target.port,
        path: target.path.expose(),
        header: target.header.as_ref().map(|(name, value)| (*name, value.expose())),
        content_type: "application/json",
        body,
    }
}

fn check(target: &Target, response: &Response) -> Result<(), SendError> {
    if response.is_success() {
        return Ok(());
    }
    let json = response.json();
    let reason = json[target.service.reason].as_str().map(|text| target.redact(&printable(text)));
    let reason = response.refusal(reason);
    Err(match response.status {
        300..400 => SendError::Refused { reason, remedy: &remedy::NOTIFY_REDIRECT },
        _ if response.is_temporary() => {
            let seconds = json["parameters"]["retry_after"].as_u64();
            SendError::Busy { reason, retry_after: response.retry_after(seconds) }
        }
        _ => SendError::Refused { reason, remedy: &remedy::NOTIFY_REFUSED },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(service: &str, response: &str) -> Result<(), SendError> {
        let target = Target::parse(service).unwrap();
        super::check(&target, &Response::parse(response.as_bytes()).ok_or(HttpError::NotHttp)?)
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
            assert!(matches!(of(junk), Err(SendError::Http(HttpError::NotHttp))), "{junk}");
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
