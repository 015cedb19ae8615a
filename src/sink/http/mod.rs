//! HTTP: the health of the program and the newest readings. Read-only.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::board::Board;
use crate::model::DeviceId;
use crate::raw::raw;

mod liveness;
mod page;

use liveness::Liveness;

/// A port that is taken is tried again so often.
const RETRY: Duration = Duration::from_secs(10);

/// Home Assistant's ingress asks from this address (developer documentation, "Ingress").
const INGRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 30, 32, 2));

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Whoever reaches the port.
    Everybody,
    /// Home Assistant's ingress, which has logged its users in, and this machine.
    Ingress,
}

impl Audience {
    fn admits(self, from: IpAddr) -> bool {
        let from = from.to_canonical();
        self == Audience::Everybody || from == INGRESS || from.is_loopback()
    }
}

/// Serves until the stop. A port that is taken is no reason to end: it is told and tried again.
pub async fn run(listen: SocketAddr, audience: Audience, board: Board, stop: CancellationToken) {
    let routes = routes(board)
        .layer(middleware::from_fn_with_state(audience, guard))
        .into_make_service_with_connect_info::<SocketAddr>();
    let mut told = false;
    loop {
        match TcpListener::bind(listen).await {
            Ok(listener) => {
                info!("http: listening on {listen}");
                told = false;
                let until = stop.clone().cancelled_owned();
                let served =
                    axum::serve(listener, routes.clone()).with_graceful_shutdown(until).await;
                if let Err(error) = served {
                    warn!("http: {error}; starting again");
                }
            }
            Err(error) if !told => {
                told = true;
                let every = RETRY.as_secs();
                warn!(
                    "http: cannot listen on {listen}: {error}; set HTTP_LISTEN to a free port or \
                     to off; trying again every {every} s"
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

#[derive(Clone)]
struct Shared {
    board: Board,
    liveness: Liveness,
}

fn routes(board: Board) -> Router {
    let liveness = Liveness::new(&board);
    Router::new()
        .route("/", get(status_page))
        .route("/healthz", get(healthz))
        .route("/api/devices", get(devices))
        .route("/api/devices/{id}", get(device))
        .with_state(Shared { board, liveness })
}

async fn guard(
    State(audience): State<Audience>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    if audience.admits(from.ip()) {
        next.run(request).await
    } else {
        (StatusCode::FORBIDDEN, "open this page in Home Assistant").into_response()
    }
}

async fn status_page(State(shared): State<Shared>) -> Html<String> {
    Html(page::page(&shared.board))
}

/// Whether this program does its work; never whether a battery or a broker can be reached.
async fn healthz(State(shared): State<Shared>) -> Response {
    let stalled = shared.liveness.stalled(&shared.board);
    let status = if stalled.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let version = env!("CARGO_PKG_VERSION");
    let body = json!({"ok": stalled.is_empty(), "version": version, "stalled": stalled});
    (status, Json(body)).into_response()
}

async fn devices(State(shared): State<Shared>) -> Response {
    let states = shared.board.devices().filter_map(|id| shared.board.latest(id));
    Json(states.map(|state| raw(&state)).collect::<Vec<_>>()).into_response()
}

async fn device(State(shared): State<Shared>, Path(id): Path<String>) -> Response {
    let state = DeviceId::new(&id).and_then(|id| shared.board.latest(&id));
    match state {
        Some(state) => Json(raw(&state)).into_response(),
        None => {
            let error = format!("no battery named {id}; /api/devices lists them");
            (StatusCode::NOT_FOUND, Json(json!({"error": error}))).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_the_app_only_the_ingress_and_this_machine_may_ask() {
        let admits = |audience: Audience, from: &str| audience.admits(from.parse().unwrap());
        assert!(admits(Audience::Everybody, "192.168.1.7"));
        assert!(!admits(Audience::Ingress, "192.168.1.7"));
        assert!(!admits(Audience::Ingress, "172.30.32.3"));
        for from in ["172.30.32.2", "::ffff:172.30.32.2", "127.0.0.1", "::1"] {
            assert!(admits(Audience::Ingress, from), "{from}");
        }
    }
}
