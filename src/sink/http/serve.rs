//! Accepts and serves connections, within the limits of all clients and of each.

use std::net::SocketAddr;
use std::pin::pin;

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
use super::connections::{Connections, Place};
use super::limits::{
    ACCEPT_BACKOFF, IDLE_TIMEOUT, MAX_AGE, MAX_CONNECTIONS, MAX_HEAD, MAX_REPLACED,
    MAX_RESPONSE_TIME, REPLACED_GRACE, WRITE_TIMEOUT,
};
use super::pace::Pace;

/// Serves until `stop`, then completes the requests in progress.
pub(super) async fn serve(listener: TcpListener, routes: Router, stop: &CancellationToken) {
    let (places, pace) = (Connections::default(), Pace::new());
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS + MAX_REPLACED => match accepted {
                Ok((stream, client)) => {
                    let local = stream.local_addr().unwrap_or(client);
                    let place = places.admit(client.ip(), local.ip());
                    let connection = handle(stream, client, place, pace.clone(), routes.clone(), stop.clone());
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

async fn handle(
    stream: TcpStream,
    client: SocketAddr,
    place: Place,
    pace: Pace,
    routes: Router,
    stop: CancellationToken,
) {
    // The kernel then also closes a connection whose receive window stays closed. On systems
    // without the option it lasts until another limit ends it.
    let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(WRITE_TIMEOUT));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(IDLE_TIMEOUT).max_buf_size(MAX_HEAD);
    let routes = TowerToHyperService::new(routes);
    let connection = place.connection().clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        connection.touch();
        request.extensions_mut().insert(Client(client.ip()));
        request.extensions_mut().insert(connection.clone());
        let (pace, routes) = (pace.clone(), routes.clone());
        async move {
            pace.turn().await;
            routes.call(request).await
        }
    });
    let mut served = pin!(http.serve_connection(TokioIo::new(stream), service));
    let grace = tokio::select! {
        // Errors are those of the client.
        _ = served.as_mut() => return,
        () = stop.cancelled() => WRITE_TIMEOUT,
        () = place.replaced() => REPLACED_GRACE,
        () = sleep(MAX_AGE) => MAX_RESPONSE_TIME,
    };
    served.as_mut().graceful_shutdown();
    tokio::select! {
        _ = served => {}
        () = sleep(grace) => {}
        () = async { place.replaced().await; sleep(REPLACED_GRACE).await } => {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::Body;
    use axum::body::Bytes;
    use axum::routing::get;
    use http_body_util::channel::{Channel, Sender};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::{Instant, timeout};

    use super::super::limits::MAX_PER_ADDRESS;
    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    /// A response that never ends, and one that is larger than the buffers of the system.
    const ENDLESS: &[u8] = b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n";
    const LARGE: &[u8] = b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n";
    const SLACK: Duration = Duration::from_secs(1);

    async fn start() -> (SocketAddr, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (at, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let until = stop.clone();
        let endless = || async {
            let (sender, body): (Sender<Bytes>, _) = Channel::new(1);
            tokio::spawn(async move {
                std::future::pending::<()>().await;
                drop(sender);
            });
            Body::new(body)
        };
        let routes = Router::new()
            .route("/", get(|| async { "here" }))
            .route("/endless", get(endless))
            .route("/large", get(|| async { vec![0; 64 << 20] }));
        tokio::spawn(async move { serve(listener, routes, &until).await });
        (at, stop)
    }

    async fn send(stream: &mut TcpStream, request: &[u8]) {
        stream.write_all(request).await.unwrap();
    }

    async fn receive(stream: &mut TcpStream) {
        let mut response = Vec::new();
        while !response.ends_with(b"here") {
            assert_ne!(stream.read_buf(&mut response).await.unwrap(), 0, "{response:?}");
        }
    }

    /// A connection that was served once and stays open.
    async fn connect(at: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(at).await.unwrap();
        send(&mut stream, REQUEST).await;
        receive(&mut stream).await;
        stream
    }

    /// Time until the server closes the connection.
    async fn time_to_close(mut stream: TcpStream) -> Duration {
        let begin = Instant::now();
        let mut rest = Vec::new();
        // A connection with unread requests is reset.
        let closed = timeout(2 * (MAX_AGE + MAX_RESPONSE_TIME), stream.read_to_end(&mut rest));
        let _ = closed.await.expect("closed");
        begin.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn idle_and_slow_clients_are_disconnected() {
        let (at, _stop) = start().await;
        let silent = TcpStream::connect(at).await.unwrap();
        let mut slow = TcpStream::connect(at).await.unwrap();
        send(&mut slow, &REQUEST[..20]).await;
        let idle = connect(at).await;
        for (name, stream) in [("silent", silent), ("slow", slow), ("idle", idle)] {
            let time = time_to_close(stream).await;
            assert!(time <= IDLE_TIMEOUT + SLACK, "{name}: {time:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn old_connection_is_closed_although_it_is_used() {
        let (at, _stop) = start().await;
        let (mut used, begin) = (connect(at).await, Instant::now());
        while begin.elapsed() < MAX_AGE - IDLE_TIMEOUT {
            sleep(IDLE_TIMEOUT / 2).await;
            send(&mut used, REQUEST).await;
            receive(&mut used).await;
        }
        time_to_close(used).await;
        assert!(begin.elapsed() <= MAX_AGE + SLACK, "{:?}", begin.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn endless_response_is_cut_off() {
        let (at, _stop) = start().await;
        let mut endless = TcpStream::connect(at).await.unwrap();
        send(&mut endless, ENDLESS).await;
        let time = time_to_close(endless).await;
        let limit = MAX_AGE + MAX_RESPONSE_TIME;
        assert!((limit..limit + SLACK).contains(&time), "{time:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn unused_connections_make_way_for_new_ones() {
        let (at, _stop) = start().await;
        let mut open = Vec::new();
        for _ in 0..3 * MAX_CONNECTIONS {
            open.push(connect(at).await);
        }
        let newest = open.split_off(open.len() - MAX_PER_ADDRESS);
        let begin = Instant::now();
        for stream in open {
            time_to_close(stream).await;
        }
        assert!(begin.elapsed() < IDLE_TIMEOUT / 2, "{:?}", begin.elapsed());
        for mut stream in newest {
            send(&mut stream, REQUEST).await;
            receive(&mut stream).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn slow_readers_and_pipelining_clients_make_way() {
        let (at, _stop) = start().await;
        let mut open = Vec::new();
        for _ in 0..MAX_PER_ADDRESS / 2 {
            let mut reader = TcpStream::connect(at).await.unwrap();
            send(&mut reader, LARGE).await;
            let mut pipelining = TcpStream::connect(at).await.unwrap();
            send(&mut pipelining, &REQUEST.repeat(1000)).await;
            open.extend([reader, pipelining]);
        }
        for stream in &mut open {
            stream.read_exact(&mut [0; 16]).await.unwrap();
        }
        for _ in 0..MAX_PER_ADDRESS {
            let late = timeout(IDLE_TIMEOUT / 2, connect(at)).await;
            drop(late.expect("served"));
        }
    }

    #[tokio::test]
    async fn stop_closes_open_connections() {
        let (at, stop) = start().await;
        let idle = connect(at).await;
        stop.cancel();
        assert!(time_to_close(idle).await < IDLE_TIMEOUT);
        assert!(TcpStream::connect(at).await.is_err(), "nothing listens");
    }

    #[tokio::test]
    async fn large_head_is_refused() {
        let (at, _stop) = start().await;
        let head = |size: usize| {
            format!("GET / HTTP/1.1\r\nHost: x\r\nCookie: {}\r\n\r\n", "c".repeat(size))
        };
        for (size, expected) in [(MAX_HEAD / 2, "HTTP/1.1 200 "), (2 * MAX_HEAD, "HTTP/1.1 431 ")] {
            let mut stream = TcpStream::connect(at).await.unwrap();
            send(&mut stream, head(size).as_bytes()).await;
            let mut status = [0; 13];
            stream.read_exact(&mut status).await.unwrap();
            assert_eq!(String::from_utf8_lossy(&status), expected, "{size} bytes");
        }
    }

    #[tokio::test]
    async fn sockets_have_a_write_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _other = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, client) = listener.accept().await.unwrap();
        let kept = SockRef::from(&stream).try_clone().unwrap();
        let stop = CancellationToken::new();
        let place = Connections::default().admit(client.ip(), client.ip());
        let (pace, routes) = (Pace::new(), Router::new());
        let task = tokio::spawn(handle(stream, client, place, pace, routes, stop.clone()));
        tokio::task::yield_now().await;
        assert_eq!(kept.tcp_user_timeout().unwrap(), Some(WRITE_TIMEOUT));
        stop.cancel();
        task.await.unwrap();
    }
}
