//! The server: its address, and what its answers mean.

use std::time::Duration;

use crate::http_client::{self, HttpError, Request, Response, Url, base64, encode, printable};
use crate::model::Secret;
use crate::model::secret::MASK;
use crate::remedy::{self, Remedy};
use crate::tls::Tls;

/// An address without login and query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub tls: bool,
    host: String,
    port: u16,
    /// Without a slash at the end.
    path: String,
}

impl Address {
    /// From `http://host:port/path` or `https://...`.
    pub fn parse(text: &str) -> Option<Self> {
        let url = Url::parse(text).filter(|url| url.login.is_none() && url.query.is_empty())?;
        let tls = url.scheme.eq_ignore_ascii_case("https");
        let is_http = tls || url.scheme.eq_ignore_ascii_case("http");
        let (host, port) = url.host_and_port(if tls { 443 } else { 80 })?;
        let path = url.path.trim_end_matches('/').to_owned();
        is_http.then_some(Address { tls, host, port, path })
    }
}

/// Where the server keeps the readings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// InfluxDB 2 and 3, Telegraf.
    Bucket { bucket: String, org: Option<String> },
    /// InfluxDB 1, VictoriaMetrics.
    Name(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    Token(Secret),
    Password { user: String, password: Secret },
}

#[derive(Debug, Clone)]
pub struct Server {
    address: Address,
    tls: Tls,
    /// With the query.
    path: String,
    authorization: Option<Secret>,
    /// Password or token, which no message contains.
    secret: Option<Secret>,
}

/// What a server did with a request.
#[derive(Debug)]
pub enum Outcome {
    Written,
    /// Because of one of the lines. Some servers have taken the others, some none.
    Refused(String),
    TooLarge(String),
}

/// Why the same request may be accepted later.
#[derive(Debug)]
pub struct Failure {
    pub reason: String,
    pub remedy: &'static Remedy,
    pub retry_after: Option<Duration>,
    /// The user has to change something first.
    pub is_lasting: bool,
}

impl Server {
    /// `tls`: settings for an address with TLS.
    pub fn new(address: Address, database: &Database, login: Option<Login>, tls: Tls) -> Self {
        let path = &address.path;
        let path = match database {
            Database::Bucket { bucket, org } => {
                let org = org.iter().map(|org| format!("&org={}", encode(org))).collect::<String>();
                format!("{path}/api/v2/write?precision=s&bucket={}{org}", encode(bucket))
            }
            Database::Name(name) => format!("{path}/write?precision=s&db={}", encode(name)),
        };
        let (authorization, secret) = match login {
            None => (None, None),
            Some(Login::Token(token)) => (Some(format!("Token {}", token.expose())), Some(token)),
            Some(Login::Password { user, password }) => {
                let login = base64(&format!("{user}:{}", password.expose()));
                (Some(format!("Basic {login}")), Some(password))
            }
        };
        Server { address, tls, path, authorization: authorization.map(Secret::new), secret }
    }

    /// Scheme, host and port, for messages.
    pub fn label(&self) -> String {
        let Address { tls, host, port, .. } = &self.address;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        format!("{}://{host}:{port}", if *tls { "https" } else { "http" })
    }

    pub async fn write(&self, lines: &str) -> Result<Outcome, Failure> {
        let authorization = self.authorization.as_ref();
        let request = Request {
            tls: Some(&self.tls).filter(|_| self.address.tls),
            host: &self.address.host,
            port: self.address.port,
            path: &self.path,
            header: authorization.map(|value| ("Authorization", value.expose())),
            content_type: "text/plain; charset=utf-8",
            body: lines,
        };
        match http_client::post(&request).await {
            Ok(response) => self.outcome(&response),
            Err(error) => {
                let remedy = match error {
                    HttpError::Certificate(_) => &remedy::INFLUX_CERTIFICATE,
                    _ => &remedy::INFLUX_SERVER,
                };
                let reason = error.to_string();
                Err(Failure { reason, remedy, retry_after: None, is_lasting: false })
            }
        }
    }

    fn outcome(&self, response: &Response) -> Result<Outcome, Failure> {
        if response.is_success() {
            return Ok(Outcome::Written);
        }
        let reason = response.refusal(Some(self.reason(response)).filter(|it| !it.is_empty()));
        let remedy = match response.status {
            400 | 422 => return Ok(Outcome::Refused(reason)),
            413 => return Ok(Outcome::TooLarge(reason)),
            _ if response.is_temporary() => {
                let retry_after = response.retry_after(None);
                let remedy = &remedy::SERVER_BUSY;
                return Err(Failure { reason, remedy, retry_after, is_lasting: false });
            }
            401 | 403 => &remedy::INFLUX_LOGIN,
            300..400 => &remedy::INFLUX_SERVER,
            _ => &remedy::INFLUX_DATABASE,
        };
        Err(Failure { reason, remedy, retry_after: None, is_lasting: true })
    }

    /// `error` of InfluxDB 1 and 3, `message` of InfluxDB 2, or the text of the others.
    fn reason(&self, response: &Response) -> String {
        let json = response.json();
        let text = ["message", "error"].iter().find_map(|name| json[name].as_str());
        let text = text.map_or_else(|| response.text(), printable);
        match &self.secret {
            Some(secret) if !secret.expose().is_empty() => text.replace(secret.expose(), MASK),
            _ => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "http://host:8086/sub/";

    fn server(database: &Database, login: Option<Login>) -> Server {
        Server::new(Address::parse(URL).unwrap(), database, login, Tls::default())
    }

    fn bucket(org: Option<&str>) -> Database {
        Database::Bucket { bucket: "my bucket".into(), org: org.map(str::to_owned) }
    }

    #[test]
    fn path_and_authorization_are_those_of_the_server() {
        let token = || Some(Login::Token(Secret::new("abc==")));
        let password = Some(Login::Password { user: "me".into(), password: Secret::new("p@ss") });
        for (server, path, header) in [
            (
                server(&bucket(Some("a&b")), token()),
                "/sub/api/v2/write?precision=s&bucket=my%20bucket&org=a%26b",
                "Token abc==",
            ),
            (
                server(&bucket(None), token()),
                "/sub/api/v2/write?precision=s&bucket=my%20bucket",
                "Token abc==",
            ),
            (
                server(&Database::Name("bms".into()), password),
                "/sub/write?precision=s&db=bms",
                "Basic bWU6cEBzcw==",
            ),
        ] {
            assert_eq!(server.path, path);
            assert_eq!(server.authorization.as_ref().map(Secret::expose), Some(header));
            let shown = format!("{server:?} {}", server.label());
            assert!(!shown.contains("abc==") && !shown.contains("p@ss"), "{shown}");
        }
    }

    #[test]
    fn address_has_neither_login_nor_query() {
        let address = Address::parse("https://[::1]").unwrap();
        assert_eq!((address.tls, address.port, address.host.as_str()), (true, 443, "::1"));
        assert_eq!(server(&bucket(None), None).label(), "http://host:8086");
        for wrong in
            ["", "host:8086", "http://", "ftp://host", "http://a:b@host", "http://host/?db=x"]
        {
            assert_eq!(Address::parse(wrong), None, "{wrong}");
        }
    }

    /// The answers are those of the servers.
    #[test]
    fn status_decides_what_happens_to_the_lines() {
        let token = Some(Login::Token(Secret::new("t0ken")));
        let server = server(&bucket(None), token);
        let of = |status: &str, body: &str| {
            let response = format!("HTTP/1.1 {status}\r\n\r\n{body}");
            match server.outcome(&Response::parse(response.as_bytes()).unwrap()) {
                Ok(Outcome::Written) => "written".to_owned(),
                Ok(Outcome::Refused(reason)) => format!("refused: {reason}"),
                Ok(Outcome::TooLarge(reason)) => format!("too large: {reason}"),
                Err(failure) => {
                    let Failure { reason, retry_after, is_lasting, .. } = failure;
                    let after = retry_after.map(|time| time.as_secs());
                    format!("lasting {is_lasting}, after {after:?}: {reason}")
                }
            }
        };
        for (status, body, expected) in [
            ("204 No Content", "", "written"),
            (
                "400 Bad Request",
                r#"{"error":"partial write: field type conflict: input field \"soc\""}"#,
                "refused: refused with status 400: partial write: field type conflict: input field \"soc\"",
            ),
            (
                "422 Unprocessable Entity",
                r#"{"code":"unprocessable entity","message":"points beyond retention"}"#,
                "refused: refused with status 422: points beyond retention",
            ),
            (
                "400 Bad Request",
                "cannot parse\n \"x\"",
                "refused: refused with status 400: cannot parse \"x\"",
            ),
            ("413 Too Large", "", "too large: refused with status 413"),
            (
                "401 Unauthorized",
                r#"{"code":"unauthorized","message":"t0ken is wrong"}"#,
                "lasting true, after None: refused with status 401: *** is wrong",
            ),
            (
                "404 Not Found",
                r#"{"error":"database not found: \"bms\""}"#,
                "lasting true, after None: refused with status 404: database not found: \"bms\"",
            ),
            (
                "301 Moved\r\nLocation: https://host/x",
                "",
                "lasting true, after None: status 301: redirected to https://host",
            ),
            (
                "429 Too Many\r\nRetry-After: 17",
                "",
                "lasting false, after Some(17): refused with status 429",
            ),
            ("503 Busy", "", "lasting false, after None: refused with status 503"),
        ] {
            assert_eq!(of(status, body), expected);
        }
    }
}
