//! Server-sent events: every change of a battery, as it happens.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http_body_util::channel::{Channel, Sender};
use serde_json::Value as Json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::api::refuse;
use super::overview;
use crate::board::Board;

/// So many may listen at the same time.
const LISTENERS: usize = 24;
/// Parts that wait for a slow listener; the board keeps the newest, so nothing else has to.
const PARTS: usize = 2;
/// A listener who takes nothing for so long is gone.
const PATIENCE: Duration = Duration::from_secs(20);
/// Changes within this time travel together.
const TOGETHER: Duration = Duration::from_millis(200);
/// A sign of life, before proxies think that the connection is dead.
const QUIET: Duration = Duration::from_secs(15);

/// Who listens, and to what.
#[derive(Debug, Clone)]
pub(super) struct Events {
    board: Board,
    places: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Events {
    pub(super) fn new(board: Board, stop: CancellationToken) -> Self {
        Events { board, places: Arc::new(Semaphore::new(LISTENERS)), stop }
    }

    /// How many listen.
    pub(super) fn listeners(&self) -> usize {
        LISTENERS - self.places.available_permits()
    }

    /// Tells everything that is new, until the listener or the program goes.
    async fn tell(self, mut to: Sender<Bytes>, _place: OwnedSemaphorePermit) {
        let mut news = self.board.updates();
        let mut broker = None;
        loop {
            let text = tokio::select! {
                () = self.stop.cancelled() => return,
                states = timeout(QUIET, news.next()) => {
                    let states = states.unwrap_or_default();
                    states.iter().map(|state| event("battery", &overview::battery(state))).collect()
                }
            };
            let text = self.with_broker(text, &mut broker);
            if !matches!(timeout(PATIENCE, to.send_data(text.into())).await, Ok(Ok(()))) {
                return;
            }
            sleep(TOGETHER).await;
        }
    }

    /// Adds how the broker does, where that is news; an empty text becomes a sign of life.
    fn with_broker(&self, mut text: String, told: &mut Option<Json>) -> String {
        let broker = overview::broker(self.board.broker().as_ref());
        if told.as_ref() != Some(&broker) {
            text.push_str(&event("broker", &broker));
            *told = Some(broker);
        }
        if text.is_empty() {
            text.push_str(": still here\n\n");
        }
        text
    }
}

fn event(name: &str, data: &Json) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

pub(super) async fn events(State(shared): State<Shared>) -> Response {
    let Ok(place) = shared.events.places.clone().try_acquire_owned() else {
        let error = "too many listen already; ask /api/overview now and then instead";
        return refuse(StatusCode::SERVICE_UNAVAILABLE, error);
    };
    let (sender, body) = Channel::new(PARTS);
    tokio::spawn(shared.events.tell(sender, place).boxed());
    let head = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // Some proxies gather what they pass on unless they are told not to (nginx).
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (head, Body::new(body)).into_response()
}
