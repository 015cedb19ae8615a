//! Server-sent events: the state of each battery and of the broker whenever it changes.

use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::IntoResponse;
use futures_util::FutureExt;
use http_body_util::channel::{Channel, Sender};
use tokio::time::{sleep, timeout};

use super::AppState;
use super::connections::Connection;
use super::error::ApiError;

/// Chunks that wait for a slow client. The board keeps the newest states, so no more are needed.
const CHANNEL_CAPACITY: usize = 2;
/// A client that does not read for this long is disconnected.
const SEND_TIMEOUT: Duration = Duration::from_secs(20);
/// Changes within this time are sent together.
const BATCH_INTERVAL: Duration = Duration::from_millis(200);
/// A comment is sent before proxies close an idle connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

impl AppState {
    /// Sends all changes until the client disconnects.
    async fn stream(&self, client: &mut Sender<Bytes>) {
        let mut changes = self.board.changes();
        let mut sent = 0;
        loop {
            changes.mark_unchanged();
            let (mut events, last) = self.texts.events_since(sent).await;
            if events.is_empty() {
                match timeout(KEEP_ALIVE, changes.changed()).await {
                    Ok(_) => continue,
                    Err(_) => events.push(Bytes::from_static(b": keep-alive\n\n")),
                }
            }
            for event in events {
                if !matches!(timeout(SEND_TIMEOUT, client.send_data(event)).await, Ok(Ok(()))) {
                    return;
                }
            }
            sent = last;
            sleep(BATCH_INTERVAL).await;
        }
    }
}

pub(super) async fn events(
    State(app): State<AppState>,
    connection: Option<Extension<Connection>>,
) -> Result<impl IntoResponse, ApiError> {
    let permit = app.event_permits.clone().try_acquire_owned().map_err(|_| {
        let error = "too many clients receive events; poll /api/overview instead".to_owned();
        ApiError(StatusCode::SERVICE_UNAVAILABLE, error)
    })?;
    let mark = connection.map(|Extension(connection)| connection.mark_events());
    let (mut sender, body) = Channel::new(CHANNEL_CAPACITY);
    let stream = async move {
        let _place = (permit, mark);
        app.stop.run_until_cancelled(app.stream(&mut sender)).await;
    };
    tokio::spawn(stream.boxed());
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // nginx and others buffer responses without this header.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::new(body)))
}
