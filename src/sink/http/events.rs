//! Server-sent events: the state of each battery and of the broker whenever it changes.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::IntoResponse;
use futures_util::FutureExt;
use http_body_util::channel::{Channel, Sender};
use serde_json::Value as Json;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, timeout};

use super::AppState;
use super::error::ApiError;
use super::overview;

pub(super) const MAX_CLIENTS: usize = 24;
/// Chunks that wait for a slow client. The board keeps the newest states, so no more are needed.
const CHANNEL_CAPACITY: usize = 2;
/// A client that does not read for this long is disconnected.
const SEND_TIMEOUT: Duration = Duration::from_secs(20);
/// Changes within this time are sent together.
const BATCH_INTERVAL: Duration = Duration::from_millis(200);
/// A comment is sent before proxies close an idle connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

impl AppState {
    /// Sends all changes until the client disconnects or the program stops.
    async fn stream(self, mut client: Sender<Bytes>, _permit: OwnedSemaphorePermit) {
        let mut updates = self.board.updates();
        let mut sent_broker = None;
        loop {
            let states = tokio::select! {
                () = self.stop.cancelled() => return,
                states = timeout(KEEP_ALIVE, updates.next()) => states.unwrap_or_default(),
            };
            let battery = |state| event("battery", &overview::battery(state));
            let mut text: String = states.iter().map(battery).collect();
            let broker = overview::broker(self.board.broker().as_ref());
            if sent_broker.as_ref() != Some(&broker) {
                text.push_str(&event("broker", &broker));
                sent_broker = Some(broker);
            }
            if text.is_empty() {
                text.push_str(": keep-alive\n\n");
            }
            if !matches!(timeout(SEND_TIMEOUT, client.send_data(text.into())).await, Ok(Ok(()))) {
                return;
            }
            sleep(BATCH_INTERVAL).await;
        }
    }
}

fn event(name: &str, data: &Json) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

pub(super) async fn events(State(app): State<AppState>) -> Result<impl IntoResponse, ApiError> {
    let permit = app.event_permits.clone().try_acquire_owned().map_err(|_| {
        let error = "too many clients receive events; poll /api/overview instead".to_owned();
        ApiError(StatusCode::SERVICE_UNAVAILABLE, error)
    })?;
    let (sender, body) = Channel::new(CHANNEL_CAPACITY);
    tokio::spawn(app.stream(sender, permit).boxed());
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // nginx and others buffer responses without this header.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::new(body)))
}
