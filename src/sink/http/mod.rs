//! HTTP: the health of the program and the newest readings. Read-only.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
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

use liveness::Liveness;

/// A port that is taken is tried again so often.
const RETRY: Duration = Duration::from_secs(10);

/// Serves until the stop. A port that is taken is no reason to end: it is told and tried again.
pub async fn run(listen: SocketAddr, board: Board, stop: CancellationToken) {
    let routes = routes(board);
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
        .route("/healthz", get(healthz))
        .route("/api/devices", get(devices))
        .route("/api/devices/{id}", get(device))
        .with_state(Shared { board, liveness })
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
