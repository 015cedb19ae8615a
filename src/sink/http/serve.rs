//! Connections: how many, and how long the other end may keep one without using it. Whoever holds
//! many open must not take the descriptors that ports and the broker need.

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

/// So many are served at the same time; more wait until one of them ends.
const CONNECTIONS: usize = 64;
/// Whoever has not asked a whole question for so long is hung up on.
const SILENCE: Duration = Duration::from_secs(30);
/// So is whoever takes nothing of the answer for so long.
const DEAFNESS: Duration = Duration::from_secs(30);
/// After a connection that could not be accepted (no descriptor left), before the next try.
const BREATH: Duration = Duration::from_secs(1);

/// Answers whoever is admitted until the stop, and then ends what has begun.
pub(super) async fn serve(
    listener: TcpListener,
    allows: impl Fn(IpAddr) -> bool,
    routes: Router,
    stop: &CancellationToken,
) {
    let refused = || async { (StatusCode::FORBIDDEN, "open this page in Home Assistant") };
    let outside = Router::new().fallback(refused);
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = open.join_next() => {}
            accepted = listener.accept(), if open.len() < CONNECTIONS => match accepted {
                Ok((stream, from)) => {
                    let routes = if allows(from.ip()) { &routes } else { &outside };
                    open.spawn(converse(stream, routes.clone(), stop.clone()).boxed());
                }
                Err(error) => {
                    debug!("http: cannot accept a connection: {error}");
                    stop.run_until_cancelled(sleep(BREATH)).await;
                }
            }
        }
    }
    while open.join_next().await.is_some() {}
}

async fn converse(stream: TcpStream, routes: Router, stop: CancellationToken) {
    // The kernel ends a connection whose window stays closed, too. Without it the stop does.
    let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(DEAFNESS));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(SILENCE);
    let routes = TowerToHyperService::new(routes);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), routes));
    tokio::select! {
        // An end before its time is the other's affair.
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

    const QUESTION: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    async fn started(allows: fn(IpAddr) -> bool) -> (SocketAddr, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (at, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let until = stop.clone();
        let routes = Router::new().route("/", get(|| async { "here" }));
        tokio::spawn(async move { serve(listener, allows, routes, &until).await });
        (at, stop)
    }

    /// A connection that has been answered and stays open.
    async fn answered(at: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(QUESTION).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"here") {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "{answer:?}");
        }
        stream
    }

    /// How long it takes until the other end hangs up.
    async fn hung_up(mut stream: TcpStream) -> Duration {
        let begin = Instant::now();
        let mut rest = Vec::new();
        timeout(10 * SILENCE, stream.read_to_end(&mut rest)).await.expect("an end").unwrap();
        begin.elapsed()
    }

    #[tokio::test]
    async fn who_is_not_admitted_is_told_where_to_go_and_nothing_else() {
        let (at, _stop) = started(|_| false).await;
        for path in ["/", "/api/overview"] {
            let question = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            let mut stream = TcpStream::connect(at).await.unwrap();
            stream.write_all(question.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
            assert!(answer.ends_with("\r\n\r\nopen this page in Home Assistant"), "{answer}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_nothing_is_hung_up_on() {
        let (at, _stop) = started(|_| true).await;
        let silent = TcpStream::connect(at).await.unwrap();
        let mut slow = TcpStream::connect(at).await.unwrap();
        slow.write_all(&QUESTION[..20]).await.unwrap();
        let idle = answered(at).await;
        for (who, stream) in [("silent", silent), ("slow", slow), ("idle", idle)] {
            let time = hung_up(stream).await;
            assert!(time <= SILENCE + BREATH, "{who}: {time:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_wait_until_one_ends() {
        let (at, _stop) = started(|_| true).await;
        let mut open = Vec::new();
        for _ in 0..CONNECTIONS {
            open.push(answered(at).await);
        }
        let mut late = TcpStream::connect(at).await.unwrap();
        late.write_all(QUESTION).await.unwrap();
        let mut first = [0; 1];
        let early = timeout(SILENCE / 2, late.read_exact(&mut first)).await;
        assert!(early.is_err(), "served beside {CONNECTIONS} others");
        drop(open.pop());
        timeout(SILENCE / 4, late.read_exact(&mut first)).await.expect("in turn").unwrap();
    }

    #[tokio::test]
    async fn the_stop_ends_open_connections() {
        let (at, stop) = started(|_| true).await;
        let idle = answered(at).await;
        stop.cancel();
        assert!(hung_up(idle).await < SILENCE);
        assert!(TcpStream::connect(at).await.is_err(), "nobody listens any more");
    }

    #[tokio::test]
    async fn a_closed_window_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _other = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let kept = SockRef::from(&stream).try_clone().unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(converse(stream, Router::new(), stop.clone()));
        tokio::task::yield_now().await;
        assert_eq!(kept.tcp_user_timeout().unwrap(), Some(DEAFNESS));
        stop.cancel();
        task.await.unwrap();
    }
}
