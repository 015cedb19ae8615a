//! HTTP: a dashboard, the newest readings, their history, metrics, and the health of the program.
//! Read-only.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::board::Board;
use crate::history::History;

mod api;
mod error;
mod events;
mod history;
mod metrics;
mod overview;
mod page;
mod serve;
mod stall;
#[cfg(test)]
mod tests;

use stall::StallDetector;

/// Interval between two attempts to listen on a port that is in use.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// Requests of Home Assistant's ingress come from this address (developer documentation,
/// "Ingress").
const INGRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 30, 32, 2));

/// Which clients are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Anyone,
    /// Home Assistant's ingress, which authenticates its users, and this machine.
    HomeAssistant,
}

impl Access {
    fn allows(self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        self == Access::Anyone || client == INGRESS || client.is_loopback()
    }
}

/// Serves until `stop`. A port that is in use is reported once and tried again.
pub async fn run(
    listen: SocketAddr,
    access: Access,
    board: Board,
    history: History,
    stop: CancellationToken,
) {
    let routes = routes(board, history, stop.clone());
    let mut reported = false;
    loop {
        match TcpListener::bind(listen).await {
            Ok(listener) => {
                info!("http: listening on {listen}");
                let allows = |client| access.allows(client);
                return serve::serve(listener, allows, routes, &stop).await;
            }
            Err(error) if !reported => {
                reported = true;
                let (interval, remedy) = (RETRY_INTERVAL.as_secs(), remedy(&error));
                warn!(
                    "http: cannot listen on {listen}: {error}; {remedy}, or to off; retrying every \
                     {interval} s"
                );
            }
            Err(_) => {}
        }
        if stop.run_until_cancelled(sleep(RETRY_INTERVAL)).await.is_none() {
            return;
        }
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => {
            "set HTTP_LISTEN to an address of this machine, to 0.0.0.0 with a port for all of them"
        }
        io::ErrorKind::PermissionDenied => "set HTTP_LISTEN to a port from 1024 up",
        _ => "set HTTP_LISTEN to a free port",
    }
}

/// What the request handlers use.
#[derive(Debug, Clone)]
struct AppState {
    board: Board,
    history: History,
    stalls: StallDetector,
    /// One for each client that may receive events.
    event_permits: Arc<Semaphore>,
    stop: CancellationToken,
}

fn routes(board: Board, history: History, stop: CancellationToken) -> Router {
    let stalls = StallDetector::new(&board);
    let event_permits = Arc::new(Semaphore::new(events::MAX_CLIENTS));
    let files = page::FILES.iter().fold(Router::new(), |router, file| {
        router.route(file.path, get(move || async { page::response(file) }))
    });
    files
        .route("/healthz", get(api::healthz))
        .route("/metrics", get(metrics::metrics))
        .route("/api/overview", get(api::overview))
        .route("/api/events", get(events::events))
        .route("/api/devices", get(api::devices))
        .route("/api/devices/{id}", get(api::device))
        .route("/api/devices/{id}/history", get(history::history))
        // Used by flows written for a Node-RED gateway.
        .route("/{brand}/{id}/latest", get(history::latest))
        .route("/{brand}/{id}/history48h", get(history::history48h))
        .with_state(AppState { board, history, stalls, event_permits, stop })
}
