//! HTTP: a dashboard, the newest readings, their history, metrics, and the health of the program. The set-up
//! page, and the switches and settings of the batteries alone can do more than read.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{from_fn_with_state, map_request};
use axum::response::Redirect;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::board::Board;
use crate::clock;
use crate::command::CommandBus;
use crate::history::History;
use crate::remedy;
use crate::setup::Setup;
use crate::tasks::{Task, Tasks};

mod access;
mod api;
mod connections;
mod control;
mod error;
mod events;
#[cfg(fuzzing)]
pub mod fuzzing;
mod gateway;
mod health;
mod history;
mod home_assistant;
mod limits;
mod metrics;
mod overview;
mod pace;
mod page;
mod records;
mod request;
mod serve;
mod setup;
#[cfg(test)]
mod tests;
mod texts;

pub use access::Access;
use access::Guard;
use control::Control;
use limits::{MAX_BODY, MAX_EVENT_CLIENTS, MAX_QUERIES};
pub use overview::battery as battery_json;
use setup::SetupPage;
pub use setup::{BatteryOptions, BrandChoice, Options, SetupSettings};
use texts::Texts;

/// Interval between two attempts to listen on a port that is in use.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// Settings of the server.
#[derive(Debug, Clone)]
pub struct Settings {
    pub listen: SocketAddr,
    pub access: Access,
    /// Whether the settings of a battery may be changed.
    pub allow_config: bool,
    pub setup: SetupSettings,
}

/// Serves until `stop`. A port that is in use is reported once and tried again.
pub async fn run(
    settings: Settings,
    (board, history): (Board, History),
    commands: CommandBus,
    setup: Setup,
    task: Task,
) {
    let Task { stop, tasks, .. } = task;
    let Settings { listen, access, allow_config, setup: page } = settings;
    let control = Control::new(commands, allow_config);
    let (guard, page) = (Guard::new(access), SetupPage::new(page, setup));
    let app = AppState::new((board, history), control, guard, page, tasks, stop.clone());
    let (texts, routes) = (app.texts.clone(), routes(app));
    let mut reported = false;
    loop {
        match TcpListener::bind(listen).await {
            Ok(listener) => {
                info!("http: listening on {listen}");
                return tokio::select! {
                    () = serve::serve(listener, routes, &stop) => {}
                    () = texts.drop_unused() => {}
                };
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

fn remedy(error: &io::Error) -> String {
    let setting = remedy::setting("HTTP_LISTEN");
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => format!(
            "set {setting} to an address of this machine, to 0.0.0.0 with a port for all of them"
        ),
        io::ErrorKind::PermissionDenied => format!("set {setting} to a port from 1024 up"),
        _ => format!("set {setting} to a free port"),
    }
}

/// What the request handlers use.
#[derive(Debug, Clone)]
struct AppState {
    board: Board,
    history: History,
    texts: Texts,
    tasks: Tasks,
    guard: Guard,
    setup: SetupPage,
    control: Control,
    /// One for each client that may receive events.
    event_permits: Arc<Semaphore>,
    /// One for each query of the history.
    query_permits: Arc<Semaphore>,
    stop: CancellationToken,
}

impl AppState {
    fn new(
        (board, history): (Board, History),
        control: Control,
        guard: Guard,
        setup: SetupPage,
        tasks: Tasks,
        stop: CancellationToken,
    ) -> Self {
        AppState {
            texts: Texts::new(board.clone(), history.clone(), tasks.clone()),
            board,
            history,
            tasks,
            guard,
            setup,
            control,
            event_permits: Arc::new(Semaphore::new(MAX_EVENT_CLIENTS)),
            query_permits: Arc::new(Semaphore::new(MAX_QUERIES)),
            stop,
        }
    }
}

fn routes(app: AppState) -> Router {
    let (awake, guard) = (app.board.clone(), app.guard.clone());
    let files = page::FILES.iter().fold(Router::new(), |router, file| {
        router.route(file.path, get(move || async { page::response(file) }))
    });
    files
        .route("/healthz", get(api::healthz))
        .route("/metrics", get(api::metrics))
        .route("/api/overview", get(api::overview))
        .route("/api/events", get(events::events))
        .route("/api/devices", get(api::devices))
        .route("/api/devices/{id}", get(api::device))
        .route("/api/devices/{id}/history", get(history::history))
        .route("/api/devices/{id}/history.csv", get(history::csv))
        .route("/api/devices/{id}/health", get(health::health))
        .route("/api/devices/{id}/switch", post(control::command))
        .route("/api/devices/{id}/config", post(control::command))
        .route("/api/devices/{id}/read", post(control::command))
        .route("/api/energy", get(records::energy))
        .route("/api/alarms", get(records::alarms))
        .route("/api/homeassistant/dashboard.yaml", get(home_assistant::dashboard))
        .route("/setup", get(async || Redirect::to("./#/setup/")))
        .route("/api/login", post(setup::login))
        .route("/api/setup", get(setup::state))
        .route("/api/setup/search", post(setup::search))
        .route("/api/setup/test", post(setup::test))
        .route("/api/setup/stop", post(setup::stop))
        .route("/api/setup/change", post(setup::change))
        .route("/api/setup/forget", post(setup::forget))
        // Used by flows written for a Node-RED gateway.
        .route("/{brand}/{id}/latest", get(history::latest))
        .route("/{brand}/{id}/history48h", get(history::history48h))
        .with_state(app)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn_with_state(guard, access::guard))
        .layer(map_request(move |request: Request| {
            awake.detect_pause(clock::uptime(), clock::now());
            async { request }
        }))
}
