//! Who may use the server: the guard in front of every request.
//!
//! - The `Host` must be one that public DNS cannot point at this machine; otherwise any web site could
//!   read everything through a name of its own (DNS rebinding).
//! - With a token, everything but the health check and the files of the page requires it.
//! - Requests that start or change something must come from the page itself, and only a trusted
//!   client may make them.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::Mutex;
use tokio::time::sleep;

use super::error::ApiError;
use super::page;
use crate::model::Secret;
use crate::remedy;

/// Requests of Home Assistant's ingress come from this address (developer documentation,
/// "Ingress").
const INGRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 30, 32, 2));
/// Ends of names that only the local network resolves (RFC 6761, 6762, 8375 and ICANN's `internal`),
/// and the usual one of routers, which is no public domain either.
const LOCAL_NAMES: [&str; 6] = [".localhost", ".local", ".home.arpa", ".internal", ".lan", ".home"];
/// Wrong tokens are checked one after the other, and each takes this long.
const WRONG_TOKEN_DELAY: Duration = Duration::from_secs(1);
/// Contains the token. The page asks for it once per browser.
const COOKIE: &str = "bms_reader_token";
/// Added by reverse proxies: the client behind one is not this machine.
const FORWARDED: [HeaderName; 2] = [header::FORWARDED, HeaderName::from_static("x-forwarded-for")];
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Which clients are served, and with what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Home Assistant's ingress authenticates its users. Other machines need the token.
    pub home_assistant: bool,
    pub token: Option<Secret>,
    /// Names of this machine in lower case, in addition to its addresses and local names.
    pub allowed_hosts: Vec<String>,
}

/// The rules, and the queue of those who guess the token.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    access: Arc<Access>,
    guesses: Arc<Mutex<()>>,
}

/// The address of the client; part of each request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client(pub(super) IpAddr);

/// Whether the client may start and change something; part of each request.
#[derive(Debug, Clone, Copy)]
pub(super) struct IsTrusted(pub(super) bool);

impl Guard {
    pub(super) fn new(access: Access) -> Self {
        Guard { access: Arc::new(access), guesses: Arc::default() }
    }

    pub(super) fn has_token(&self) -> bool {
        self.access.token.is_some()
    }

    /// Checks a token. A wrong one costs time, so that guessing takes forever.
    pub(super) async fn accepts(&self, given: &str) -> bool {
        let expected = self.access.token.as_ref().map(Secret::expose);
        if expected.is_some_and(|expected| equal(expected.as_bytes(), given.as_bytes())) {
            return true;
        }
        let _turn = self.guesses.lock().await;
        sleep(WRONG_TOKEN_DELAY).await;
        false
    }

    /// Whether the request may pass; then whether its client is trusted.
    async fn check(&self, request: &Parts) -> Result<bool, Response> {
        let client = request.extensions.get::<Client>().map(|client| client.0.to_canonical());
        let (headers, path) = (&request.headers, request.uri.path());
        if self.access.home_assistant && client == Some(INGRESS) {
            self.check_origin(request).map_err(IntoResponse::into_response)?;
            return Ok(true);
        }
        let checked = self.check_host(request).and_then(|()| self.check_origin(request));
        checked.map_err(IntoResponse::into_response)?;
        let is_local = client.is_some_and(|client| client.is_loopback());
        if self.access.token.is_some() {
            let is_authorised = match given_token(headers) {
                Some(given) => self.accepts(given).await,
                None => false,
            };
            let is_public =
                ["/healthz", "/setup", "/api/login"].contains(&path) || page::is_file(path);
            return match is_authorised || is_public {
                true => Ok(is_authorised),
                false => Err(unauthorised()),
            };
        }
        if self.access.home_assistant && !is_local {
            return Err((StatusCode::FORBIDDEN, "open this page in Home Assistant").into_response());
        }
        Ok(is_local && !FORWARDED.iter().any(|name| headers.contains_key(name)))
    }

    /// Proxies and caches may look at the target or at either of two headers, so all must be allowed.
    fn check_host(&self, request: &Parts) -> Result<(), ApiError> {
        let mut hosts = request.headers.get_all(header::HOST).iter();
        match (hosts.next(), hosts.next()) {
            (Some(host), None) => self.check_name(host.to_str().unwrap_or_default())?,
            // HTTP/1.0 has no such header. No browser uses it.
            (None, None) if request.version < Version::HTTP_11 => {}
            _ => {
                let error = "a request has exactly one Host header; send one".to_owned();
                return Err(ApiError(StatusCode::BAD_REQUEST, error));
            }
        }
        request.uri.authority().map_or(Ok(()), |target| self.check_name(target.as_str()))
    }

    /// Checks a name with or without a port.
    fn check_name(&self, host: &str) -> Result<(), ApiError> {
        let name = host_name(host).to_ascii_lowercase();
        let is_local = name == "localhost"
            || !name.contains('.')
            || LOCAL_NAMES.iter().any(|end| name.ends_with(end));
        let is_address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        if is_local || is_address || self.access.allowed_hosts.contains(&name) {
            return Ok(());
        }
        let error = format!(
            "the name {name} is not allowed: set {}, or use the address of this machine",
            remedy::assignment("HTTP_ALLOWED_HOSTS", &name)
        );
        Err(ApiError(StatusCode::MISDIRECTED_REQUEST, error))
    }

    /// Other web sites can send requests through the browser of a user, but they cannot hide where
    /// these come from.
    fn check_origin(&self, request: &Parts) -> Result<(), ApiError> {
        if [Method::GET, Method::HEAD].contains(&request.method) {
            return Ok(());
        }
        let headers = &request.headers;
        let is_same = match (text(headers, &FETCH_SITE), text(headers, &header::ORIGIN)) {
            (Some(site), _) => ["same-origin", "none"].contains(&site),
            // On plain HTTP browsers send the origin alone. Proxies pass on the name that the browser used.
            (None, Some(origin)) => {
                let authority = origin.split_once("://").map(|(_, authority)| authority);
                let names = [&header::HOST, &FORWARDED_HOST].map(|name| text(headers, name));
                authority.is_some() && names.contains(&authority)
            }
            // No browser.
            (None, None) => true,
        };
        let is_json = text(headers, &header::CONTENT_TYPE)
            .is_some_and(|kind| kind.split(';').next() == Some("application/json"));
        let error = match (is_same, is_json) {
            (true, true) => return Ok(()),
            (false, _) => (StatusCode::FORBIDDEN, "requests from other sites are refused"),
            (true, false) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "send JSON as application/json"),
        };
        Err(ApiError(error.0, error.1.to_owned()))
    }

    /// Lets the browser send the token with each request. Scripts cannot read it, and other sites
    /// cannot use it.
    pub(super) fn cookie(token: &str) -> String {
        format!("{COOKIE}={token}; Path=/; Max-Age=31536000; HttpOnly; SameSite=Strict")
    }
}

/// The middleware: rejects a request, or passes it on with [`IsTrusted`].
pub(super) async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let (mut request, body) = request.into_parts();
    let mut response = match guard.check(&request).await {
        Ok(is_trusted) => {
            request.extensions.insert(IsTrusted(is_trusted));
            next.run(Request::from_parts(request, body)).await
        }
        Err(response) => response,
    };
    page::add_security_headers(response.headers_mut(), &guard.access.allowed_hosts);
    response
}

/// The token of a script, or the cookie of the page.
fn given_token(headers: &HeaderMap) -> Option<&str> {
    let bearer = text(headers, &header::AUTHORIZATION).and_then(|text| text.split_once(' '));
    if let Some((_, token)) = bearer.filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer")) {
        return Some(token.trim());
    }
    let cookies = headers.get_all(header::COOKIE).into_iter();
    let pairs = cookies.filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(';'));
    pairs
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|pair| pair.0 == COOKIE)
        .map(|pair| pair.1)
}

fn unauthorised() -> Response {
    let token = remedy::setting("HTTP_TOKEN");
    let error =
        format!("send the {token} as `Authorization: Bearer ...`, or open the page to log in");
    let response = ApiError(StatusCode::UNAUTHORIZED, error);
    ([(header::WWW_AUTHENTICATE, "Bearer")], response).into_response()
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    // What is not text matches nothing.
    headers.get(name).map(|value| value.to_str().unwrap_or_default())
}

/// `[fe80::1]:8099` without the port.
fn host_name(host: &str) -> &str {
    match host.rfind(']') {
        Some(end) => &host[..=end],
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

/// In a time that does not depend on where the texts differ.
fn equal(one: &[u8], other: &[u8]) -> bool {
    let differences = one.iter().zip(other).fold(0, |found, (one, other)| found | (one ^ other));
    std::hint::black_box(differences) == 0 && one.len() == other.len()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    const TOKEN: &str = "correct-horse";

    fn guard(home_assistant: bool, token: Option<&str>) -> Guard {
        let allowed_hosts = vec!["battery.example.org".to_owned()];
        Guard::new(Access { home_assistant, token: token.map(Secret::new), allowed_hosts })
    }

    fn request(client: &str, method: &str, path: &str, headers: &[(&str, &str)]) -> Request {
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == "Host") {
            request = request.header("Host", "localhost");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.extension(Client(client.parse().unwrap())).body(Body::empty()).unwrap()
    }

    /// `Ok`: whether the client is trusted; `Err`: the status.
    async fn check(guard: &Guard, request: Request) -> Result<bool, u16> {
        guard.check(&request.into_parts().0).await.map_err(|response| response.status().as_u16())
    }

    #[tokio::test]
    async fn without_token_everybody_reads_and_this_machine_is_trusted() {
        let open = guard(false, None);
        for (client, headers, expected) in [
            ("127.0.0.1", &[][..], true),
            ("::1", &[], true),
            ("::ffff:127.0.0.1", &[], true),
            ("192.168.1.7", &[], false),
            ("172.30.32.2", &[], false),
            ("127.0.0.1", &[("X-Forwarded-For", "203.0.113.9")], false),
        ] {
            let request = request(client, "GET", "/api/devices", headers);
            assert_eq!(check(&open, request).await, Ok(expected), "{client} {headers:?}");
        }
    }

    #[tokio::test]
    async fn home_assistant_serves_ingress_and_loopback_only() {
        let ingress = guard(true, None);
        for (client, expected) in [
            ("172.30.32.2", Ok(true)),
            ("::ffff:172.30.32.2", Ok(true)),
            ("127.0.0.1", Ok(true)),
            ("172.30.32.3", Err(403)),
            ("192.168.1.7", Err(403)),
        ] {
            let request = request(client, "GET", "/api/devices", &[]);
            assert_eq!(check(&ingress, request).await, expected, "{client}");
        }
        // Home Assistant may have any name.
        let request = request("172.30.32.2", "GET", "/", &[("Host", "ha.example.com")]);
        assert_eq!(check(&ingress, request).await, Ok(true));
    }

    #[tokio::test]
    async fn host_must_be_an_address_or_a_local_or_allowed_name() {
        let open = guard(false, None);
        for host in [
            "192.168.1.5:8099",
            "[fe80::1]:8099",
            "localhost:8099",
            "LOCALHOST",
            "pi",
            "bms-reader:8099",
            "pi.local:8099",
            "pi.lan",
            "nas.home.arpa",
            "battery.example.org:8099",
            "Battery.Example.Org",
        ] {
            let request = request("192.168.1.7", "GET", "/", &[("Host", host)]);
            assert_eq!(check(&open, request).await, Ok(false), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "192.168.1.5.nip.io:8099",
            "local.evil.example",
            ".",
            "a.b:c",
        ] {
            let request = request("127.0.0.1", "GET", "/", &[("Host", host)]);
            assert_eq!(check(&open, request).await, Err(421), "{host}");
        }
    }

    #[tokio::test]
    async fn request_has_one_host_and_one_target() {
        let open = guard(false, None);
        let two = [("Host", "localhost"), ("Host", "localhost")];
        assert_eq!(check(&open, request("127.0.0.1", "GET", "/", &two)).await, Err(400));
        for (version, expected) in [(Version::HTTP_11, Err(400)), (Version::HTTP_10, Ok(true))] {
            let mut none = request("127.0.0.1", "GET", "/", &[]);
            none.headers_mut().remove(header::HOST);
            *none.version_mut() = version;
            assert_eq!(check(&open, none).await, expected, "{version:?}");
        }
        for (target, expected) in
            [("http://localhost:8099/", Ok(true)), ("http://evil.example/", Err(421))]
        {
            let request = request("127.0.0.1", "GET", target, &[]);
            assert_eq!(check(&open, request).await, expected, "{target}");
        }
    }

    #[tokio::test]
    async fn token_is_required_except_for_health_and_page_files() {
        let closed = guard(false, Some(TOKEN));
        let bearer = format!("Bearer {TOKEN}");
        let cookie = format!("other=1; {COOKIE}={TOKEN}");
        for path in ["/", "/app.js", "/healthz", "/api/login"] {
            let request = request("127.0.0.1", "GET", path, &[]);
            assert_eq!(check(&closed, request).await, Ok(false), "{path}");
        }
        for path in [
            "/metrics",
            "/api/overview",
            "/api/setup",
            "/daren/rack/latest",
            "/app.js/x",
            "/unknown",
        ] {
            let of = |headers: &[(&str, &str)]| request("127.0.0.1", "GET", path, headers);
            assert_eq!(check(&closed, of(&[])).await, Err(401), "{path}");
            assert_eq!(check(&closed, of(&[("Authorization", &bearer)])).await, Ok(true), "{path}");
            assert_eq!(check(&closed, of(&[("Cookie", &cookie)])).await, Ok(true), "{path}");
        }
        let ingress = guard(true, Some(TOKEN));
        let of = |client| request(client, "GET", "/api/overview", &[]);
        assert_eq!(check(&ingress, of("172.30.32.2")).await, Ok(true));
        assert_eq!(check(&ingress, of("192.168.1.7")).await, Err(401));
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_tokens_wait_for_each_other() {
        let closed = guard(false, Some(TOKEN));
        let begin = tokio::time::Instant::now();
        let wrong =
            ["", "correct-hors", "correct-horse2", "wrong"].map(|given| closed.accepts(given));
        let accepted = futures_util::future::join_all(wrong).await;
        assert_eq!(accepted, [false; 4]);
        assert_eq!(begin.elapsed(), 4 * WRONG_TOKEN_DELAY);
        assert!(closed.accepts(TOKEN).await);
        assert_eq!(begin.elapsed(), 4 * WRONG_TOKEN_DELAY);
    }

    #[tokio::test]
    async fn only_the_page_itself_may_post() {
        let open = guard(true, None);
        let json = ("Content-Type", "application/json");
        for (headers, expected) in [
            (
                &[json, ("Sec-Fetch-Site", "same-origin"), ("Origin", "https://outer.example")][..],
                Ok(true),
            ),
            (&[json, ("Host", "10.0.0.2"), ("Origin", "http://10.0.0.2")], Ok(true)),
            (
                &[
                    json,
                    ("Host", "10.0.0.2"),
                    ("X-Forwarded-Host", "ha.lan:8123"),
                    ("Origin", "http://ha.lan:8123"),
                ],
                Ok(true),
            ),
            (&[json], Ok(true)),
            (&[json, ("Sec-Fetch-Site", "cross-site")], Err(403)),
            (&[json, ("Sec-Fetch-Site", "same-site")], Err(403)),
            (&[json, ("Host", "10.0.0.2"), ("Origin", "http://10.0.0.2:81")], Err(403)),
            (&[json, ("Host", "10.0.0.2"), ("Origin", "https://evil.example")], Err(403)),
            (&[json, ("Origin", "null")], Err(403)),
            (&[("Content-Type", "text/plain")], Err(415)),
            (&[], Err(415)),
        ] {
            for client in ["172.30.32.2", "127.0.0.1"] {
                let request = request(client, "POST", "/api/setup/search", headers);
                assert_eq!(check(&open, request).await, expected, "{client} {headers:?}");
            }
        }
    }
}
