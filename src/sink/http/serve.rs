//! Accepts and serves connections. Their number is limited, and idle ones are closed, so that
//! clients cannot use up the file descriptors that ports and the broker need.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use futures_util::FutureExt;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::access::Client;

const MAX_CONNECTIONS: usize = 64;
/// A connection without a complete request for this long is closed.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection whose client reads nothing for this long is closed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after a failure to accept, for example when no descriptor is left.
const ACCEPT_BACKOFF: Duration = Duration::from_secs(1);

/// Serves until `stop`, then completes the requests in progress.
pub(super) async fn serve(listener: TcpListener, routes: Router, stop: &CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, client)) => {
                    let connection = handle(stream, client, routes.clone(), stop.clone());
                    connections.spawn(connection.boxed());
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

async fn handle(stream: TcpStream, client: SocketAddr, routes: Router, stop: CancellationToken) {
    // The kernel then also closes a connection whose receive window stays closed. On systems
    // without the option it lasts until the stop.
    let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(WRITE_TIMEOUT));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let routes = TowerToHyperService::new(routes);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Client(client.ip()));
        routes.call(request)
    });
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        // Errors are those of the client.
        _ = connection.as_mut() => return,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::{Instant, timeout};

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    async fn start() -> (SocketAddr, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (at, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let until = stop.clone();
        let routes = Router::new().route("/", get(|| async { "here" }));
        tokio::spawn(async move { serve(listener, routes, &until).await });
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

    #[tokio::test(start_paused = true)]
    async fn idle_and_slow_clients_are_disconnected() {
        let (at, _stop) = start().await;
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
        let (at, _stop) = start().await;
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
        let (at, stop) = start().await;
        let idle = connect(at).await;
        stop.cancel();
        assert!(time_to_close(idle).await < HEADER_TIMEOUT);
        assert!(TcpStream::connect(at).await.is_err(), "nothing listens");
    }

    #[tokio::test]
    async fn sockets_have_a_write_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _other = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, client) = listener.accept().await.unwrap();
        let kept = SockRef::from(&stream).try_clone().unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(handle(stream, client, Router::new(), stop.clone()));
        tokio::task::yield_now().await;
        assert_eq!(kept.tcp_user_timeout().unwrap(), Some(WRITE_TIMEOUT));
        stop.cancel();
        task.await.unwrap();
    }
}
