//! Requests to a running service, for `status` and `healthcheck`.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use serde_json::Value as Json;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::model::Secret;

/// Less than the 5 s that Docker waits for a health check.
const TIMEOUT: Duration = Duration::from_secs(4);
/// In bytes; far more than the readings of all batteries.
const MAX_RESPONSE: usize = 16 * 1024 * 1024;

/// A service and how to access it.
#[derive(Debug)]
pub(super) struct Service {
    /// Without a slash at the end.
    pub(super) url: String,
    /// Its `HTTP_TOKEN`.
    pub(super) token: Option<Secret>,
}

impl Service {
    /// A service of this machine, from its `HTTP_LISTEN`.
    pub(super) fn local(listen: SocketAddr, token: Option<Secret>) -> Self {
        let ip = match listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        Service { url: format!("http://{}", SocketAddr::new(ip, listen.port())), token }
    }

    /// Completes a URL; the error describes what is wrong with it.
    pub(super) fn check(url: &str) -> Result<String, String> {
        let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let url = url.trim_end_matches('/').to_owned();
        let uri: Option<Uri> = url.parse().ok();
        let is_valid = |uri: &Uri| uri.scheme_str() == Some("http") && uri.query().is_none();
        match uri.filter(is_valid) {
            Some(_) => Ok(url),
            None => Err(format!("{url:?} is not a URL like http://192.168.1.20:8099")),
        }
    }

    /// Status and JSON of the answer. The error names the service.
    pub(super) async fn get(&self, path: &str) -> Result<(StatusCode, Json), String> {
        let answer = timeout(TIMEOUT, self.request(path)).await;
        let answer =
            answer.unwrap_or_else(|_| Err(format!("no answer in {} s", TIMEOUT.as_secs())));
        let (status, body) = answer.map_err(|error| format!("{}: {error}", self.url))?;
        let not_json = |_| format!("{}: the answer is not that of bms-reader", self.url);
        if status == StatusCode::UNAUTHORIZED {
            return Err(format!(
                "{}: access denied; set HTTP_TOKEN to that of the service",
                self.url
            ));
        }
        let json: Json = serde_json::from_slice(&body).map_err(not_json)?;
        match json["error"].as_str() {
            Some(error) if status.is_client_error() => Err(format!("{}: {error}", self.url)),
            _ => Ok((status, json)),
        }
    }

    async fn request(&self, path: &str) -> Result<(StatusCode, Bytes), String> {
        fn text(error: impl Display) -> String {
            error.to_string()
        }
        let uri: Uri = format!("{}{path}", self.url).parse().map_err(text)?;
        let host = uri.host().ok_or("the URL has no host")?;
        // In a URL an IPv6 address is in brackets.
        let name = host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((name, uri.port_u16().unwrap_or(80))).await;
        let stream = TokioIo::new(stream.map_err(text)?);
        let (mut sender, connection) = http1::handshake(stream).await.map_err(text)?;
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let authority = uri.authority().map_or(host, |authority| authority.as_str());
        let mut request = Request::get(target).header(header::HOST, authority);
        if let Some(token) = &self.token {
            let bearer = format!("Bearer {}", token.expose());
            request = request.header(header::AUTHORIZATION, bearer);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(text)?;
        let exchange = async move {
            let response = sender.send_request(request).await.map_err(text)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_RESPONSE).collect().await;
            Ok::<_, String>((status, body.map_err(text)?.to_bytes()))
        };
        // The connection ends when its sender is dropped; the exchange reports its errors.
        let (answer, _) = tokio::join!(exchange, connection);
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_is_checked_and_completed() {
        for (url, expected) in [
            ("192.168.1.20:8099", "http://192.168.1.20:8099"),
            ("http://pi.local:8099/", "http://pi.local:8099"),
            ("http://host/bms/", "http://host/bms"),
            ("http://[::1]:8099", "http://[::1]:8099"),
        ] {
            assert_eq!(Service::check(url).as_deref(), Ok(expected));
        }
        for wrong in ["https://host", "mqtt://host", "", "a b", "http://host/?x=1"] {
            assert!(Service::check(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn local_service_is_reached_over_loopback() {
        let url = |listen: &str| Service::local(listen.parse().unwrap(), None).url;
        assert_eq!(url("0.0.0.0:8099"), "http://127.0.0.1:8099");
        assert_eq!(url("[::]:8099"), "http://[::1]:8099");
        assert_eq!(url("192.168.1.20:80"), "http://192.168.1.20:80");
    }
}
