//! Accepts and serves connections. Their number is limited, and idle ones are closed, so that
//! clients cannot use up the file descriptors that ports and the broker need.

use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use futures_util::FutureExt;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::debug;

const MAX_CONNECTIONS: usize = 64;
/// A connection without a complete request for this long is closed.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection whose client reads nothing for this long is closed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after a failure to accept, for example when no descriptor is left.
const ACCEPT_BACKOFF: Duration = Duration::from_secs(1);

/// Serves clients that `allows` accepts until `stop`, then completes the requests in progress.
pub(super) async fn serve(
    listener: TcpListener,
    allows: impl Fn(IpAddr) -> bool,
    routes: Router,
    stop: &CancellationToken,
) {
    let forbidden = || async { (StatusCode::FORBIDDEN, "open this page in Home Assistant") };
    let forbidden = Router::new().fallback(forbidden);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, client)) => {
                    let routes = if allows(client.ip()) { &routes } else { &forbidden };
                    connections.spawn(handle(stream, routes.clone(), stop.clone()).boxed());
                }
                Err(error) => {
                    debug!("http: cannot accept a connection: {error}");
                    stop.run_until_cancelled(sleep(ACCEPT_BACKOFF)).await;
                }
            }
        }
    }
    while connections.join_next().await.is_some() {}
}

async fn handle(stream: TcpStream, routes: Router, stop: CancellationToken) {
    // The kernel then also closes a connection whose receive window stays closed. On systems
    // without the option it lasts until the stop.
    let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(WRITE_TIMEOUT));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let routes = TowerToHyperService::new(routes);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), routes));
    tokio::select! {
        // Errors are those of the client.
        _ = connection.as_mut() => return,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::{Instant, timeout};

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    async fn start(allows: fn(IpAddr) -> bool) -> (SocketAddr, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (at, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let until = stop.clone();
        let routes = Router::new().route("/", get(|| async { "here" }));
        tokio::spawn(async move { serve(listener, allows, routes, &until).await });
        (at, stop)
    }

    /// A connection that was served once and stays open.
    async fn connect(at: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(REQUEST).await.unwrap();
        let mut response = Vec::new();
        while !response.ends_with(b"here") {
            assert_ne!(stream.read_buf(&mut response).await.unwrap(), 0, "{response:?}");
        }
        stream
    }

    /// Time until the server closes the connection.
    async fn time_to_close(mut stream: TcpStream) -> Duration {
        let begin = Instant::now();
        let mut rest = Vec::new();
        timeout(10 * HEADER_TIMEOUT, stream.read_to_end(&mut rest)).await.expect("closed").unwrap();
        begin.elapsed()
    }

    #[tokio::test]
    async fn forbidden_client_gets_403_on_every_path() {
        let (at, _stop) = start(|_| false).await;
        for path in ["/", "/api/overview"] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            let mut stream = TcpStream::connect(at).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut response = String::new();
            stream.read_to_string(&mut response).await.unwrap();
            assert!(response.starts_with("HTTP/1.1 403 "), "{response}");
            assert!(response.ends_with("\r\n\r\nopen this page in Home Assistant"), "{response}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn idle_and_slow_clients_are_disconnected() {
        let (at, _stop) = start(|_| true).await;
        let silent = TcpStream::connect(at).await.unwrap();
        let mut slow = TcpStream::connect(at).await.unwrap();
        slow.write_all(&REQUEST[..20]).await.unwrap();
        let idle = connect(at).await;
        for (name, stream) in [("silent", silent), ("slow", slow), ("idle", idle)] {
            let time = time_to_close(stream).await;
            assert!(time <= HEADER_TIMEOUT + ACCEPT_BACKOFF, "{name}: {time:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn excess_connections_wait() {
        let (at, _stop) = start(|_| true).await;
        let mut open = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            open.push(connect(at).await);
        }
        let mut late = TcpStream::connect(at).await.unwrap();
        late.write_all(REQUEST).await.unwrap();
        let mut first = [0; 1];
        let early = timeout(HEADER_TIMEOUT / 2, late.read_exact(&mut first)).await;
        assert!(early.is_err(), "served as number {MAX_CONNECTIONS} + 1");
        drop(open.pop());
        timeout(HEADER_TIMEOUT / 4, late.read_exact(&mut first)).await.expect("served").unwrap();
    }

    #[tokio::test]
    async fn stop_closes_open_connections() {
        let (at, stop) = start(|_| true).await;
        let idle = connect(at).await;
        stop.cancel();
        assert!(time_to_close(idle).await < HEADER_TIMEOUT);
        assert!(TcpStream::connect(at).await.is_err(), "nothing listens");
    }

    #[tokio::test]
    async fn sockets_have_a_write_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _other = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let kept = SockRef::from(&stream).try_clone().unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(handle(stream, Router::new(), stop.clone()));
        tokio::task::yield_now().await;
        assert_eq!(kept.tcp_user_timeout().unwrap(), Some(WRITE_TIMEOUT));
        stop.cancel();
        task.await.unwrap();
    }
}
