//! HTTP: a dashboard, the newest readings, their past, metrics, and the health of the program.
//! Read-only.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::board::Board;
use crate::history::History;

mod api;
mod events;
mod history;
mod metrics;
mod overview;
mod page;
mod serve;
mod stall;
#[cfg(test)]
mod tests;

use events::Events;
use stall::StallDetector;

/// A port that is taken is tried again so often.
const RETRY: Duration = Duration::from_secs(10);

/// Home Assistant's ingress asks from this address (developer documentation, "Ingress").
const INGRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 30, 32, 2));

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Whoever reaches the port.
    Anyone,
    /// Home Assistant's ingress, which has logged its users in, and this machine.
    HomeAssistant,
}

impl Access {
    fn allows(self, from: IpAddr) -> bool {
        let from = from.to_canonical();
        self == Access::Anyone || from == INGRESS || from.is_loopback()
    }
}

/// Serves until the stop. A port that is taken is no reason to end: it is told and tried again.
pub async fn run(
    listen: SocketAddr,
    access: Access,
    board: Board,
    history: History,
    stop: CancellationToken,
) {
    let routes = routes(board, history, stop.clone());
    let mut told = false;
    loop {
        match TcpListener::bind(listen).await {
            Ok(listener) => {
                info!("http: listening on {listen}");
                let allows = |from| access.allows(from);
                return serve::serve(listener, allows, routes, &stop).await;
            }
            Err(error) if !told => {
                told = true;
                let (every, remedy) = (RETRY.as_secs(), remedy(&error));
                warn!(
                    "http: cannot listen on {listen}: {error}; {remedy}, or to off; trying again \
                     every {every} s"
                );
            }
            Err(_) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(RETRY) => {}
        }
    }
}

/// What the operator can do about a place where nobody can listen.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => {
            "set HTTP_LISTEN to an address of this machine, to 0.0.0.0 with a port for all of them"
        }
        io::ErrorKind::PermissionDenied => "set HTTP_LISTEN to a port from 1024 on",
        _ => "set HTTP_LISTEN to a free port",
    }
}

/// What the routes know.
#[derive(Clone)]
struct Shared {
    board: Board,
    history: History,
    stalls: StallDetector,
    events: Events,
}

fn routes(board: Board, history: History, stop: CancellationToken) -> Router {
    let stalls = StallDetector::new(&board);
    let events = Events::new(board.clone(), stop);
    Router::new()
        .route("/", get(page::page))
        .route("/app.js", get(page::script))
        .route("/chart.js", get(page::chart))
        .route("/views.js", get(page::views))
        .route("/style.css", get(page::style))
        .route("/healthz", get(api::healthz))
        .route("/metrics", get(metrics::metrics))
        .route("/api/overview", get(api::overview))
        .route("/api/events", get(events::events))
        .route("/api/devices", get(api::devices))
        .route("/api/devices/{id}", get(api::device))
        .route("/api/devices/{id}/history", get(history::history))
        // What flows of a Node-RED gateway ask for.
        .route("/{brand}/{id}/latest", get(history::latest))
        .route("/{brand}/{id}/history48h", get(history::history48h))
        .with_state(Shared { board, history, stalls, events })
}
