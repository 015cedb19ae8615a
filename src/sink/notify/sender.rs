//! Delivers the events of one service: paced, repeated after errors, and logged once per outage.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info, warn};

use super::event::{MAX_EVENTS, Message};
use super::http::{self, SendError};
use super::outbox::{Batch, Outbox};
use super::service::Target;
use crate::board::NotificationCounts;
use crate::clock;
use crate::model::TimeZone;
use crate::random::random;
use crate::tls::Tls;

/// Events of the same moment become one message.
const COLLECT: Duration = Duration::from_secs(1);
/// Messages in a row, and the interval after them. ntfy.sh allows 60 in a row and 250 a day.
const BURST: u32 = 10;
const INTERVAL: Duration = Duration::from_secs(30);
/// Pauses between attempts, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LAST_PAUSE: Duration = Duration::from_secs(600);
/// A refused message is tried this often: a proxy also refuses while the service restarts.
const MAX_REFUSALS: u32 = 6;

/// The task of one service.
#[derive(Debug)]
pub struct Sender {
    pub target: Target,
    pub tls: Tls,
    pub zone: Option<TimeZone>,
    pub outbox: Arc<Outbox>,
    pub counts: Arc<NotificationCounts>,
    pub pace: Pace,
    pub outage: Outage,
}

impl Sender {
    /// Never returns.
    pub async fn run(mut self) {
        loop {
            self.outbox.wait().await;
            if self.target.service.combines {
                sleep(COLLECT).await;
            }
            sleep_until(self.pace.next(Instant::now())).await;
            self.deliver().await;
        }
    }

    /// Tries until the message is delivered or discarded. Each attempt includes newer events.
    async fn deliver(&mut self) {
        let limit = if self.target.service.combines { MAX_EVENTS } else { 1 };
        for attempt in 1.. {
            self.count_left_out(self.outbox.expire(clock::now()));
            let batch = self.outbox.batch(limit);
            if batch.events.is_empty() {
                return;
            }
            let Err(error) = self.send(&batch).await else {
                self.outbox.remove(&batch);
                self.counts.sent.fetch_add(1, Relaxed);
                let label = self.target.label();
                match self.outage.end() {
                    true => info!("notify: {label}: messages are accepted again"),
                    false => debug!("notify: {label}: sent {} events", batch.events.len()),
                }
                return;
            };
            self.counts.failed.fetch_add(1, Relaxed);
            let is_refused = matches!(error, SendError::Refused { .. });
            self.log(&error);
            let pause = pause(attempt, &error, random());
            if is_refused && attempt >= MAX_REFUSALS {
                self.count_left_out(self.outbox.discard(&batch));
                return;
            }
            sleep(pause).await;
        }
    }

    async fn send(&self, batch: &Batch) -> Result<(), SendError> {
        let message = Message::new(&batch.events, batch.left_out, clock::now(), self.zone.as_ref());
        http::post(&self.target, &self.tls, &self.target.body(&message)).await
    }

    fn count_left_out(&self, count: u64) {
        self.counts.left_out.fetch_add(count, Relaxed);
    }

    fn log(&mut self, error: &SendError) {
        let label = self.target.label();
        match self.outage.begin() {
            true => warn!("notify: {label}: {error}; {}; trying again", error.remedy()),
            false => debug!("notify: {label}: {error}"),
        }
    }
}

/// Whether messages are not accepted, so that it is logged once.
#[derive(Debug, Default)]
pub struct Outage(bool);

impl Outage {
    /// True unless it lasts already.
    fn begin(&mut self) -> bool {
        !std::mem::replace(&mut self.0, true)
    }

    /// True if there was one.
    fn end(&mut self) -> bool {
        std::mem::take(&mut self.0)
    }
}

/// Time until the next attempt. `jitter` is in `0.0..1.0`; it keeps many programs from coming back at
/// the same moment.
fn pause(attempt: u32, error: &SendError, jitter: f64) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << (attempt - 1).min(10)).min(LAST_PAUSE);
    let backoff = doubled.mul_f64(1.0 - jitter / 2.0);
    match error {
        SendError::Busy { retry_after: Some(wanted), .. } => {
            backoff.max(wanted.mul_f64(1.0 + jitter / 10.0))
        }
        _ => backoff,
    }
}

/// [`BURST`] messages at once, then one in each [`INTERVAL`].
#[derive(Debug, Default)]
pub struct Pace {
    /// When the messages so far would have been sent at the interval.
    paid_until: Option<Instant>,
}

impl Pace {
    /// When the next message may be sent.
    fn next(&mut self, now: Instant) -> Instant {
        let start = self.paid_until.map_or(now, |paid| paid.max(now));
        let allowed = start.checked_sub(INTERVAL * (BURST - 1)).map_or(now, |time| time.max(now));
        self.paid_until = Some(start + INTERVAL);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http_client::HttpError;

    #[test]
    fn messages_are_paced_after_a_burst() {
        let (mut pace, start) = (Pace::default(), Instant::now() + Duration::from_secs(3600));
        let waits: Vec<u64> = (0..13).map(|_| (pace.next(start) - start).as_secs()).collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 30, 60, 90]);
        let later = start + INTERVAL * 13;
        assert_eq!(pace.next(later), later);
        let calm = later + INTERVAL * BURST;
        assert!((0..BURST).all(|_| pace.next(calm) == calm));
    }

    #[test]
    fn pauses_grow_and_respect_the_server() {
        let seconds = |attempt, error: &SendError, jitter| pause(attempt, error, jitter).as_secs();
        let late = SendError::Http(HttpError::Timeout);
        let pauses = [1, 2, 3, 4, 9, 4_000_000].map(|it| seconds(it, &late, 0.0));
        assert_eq!(pauses, [5, 10, 20, 40, 600, 600]);
        assert!(pause(1, &late, 0.999) >= FIRST_PAUSE / 2);
        let busy = |retry_after| SendError::Busy { reason: String::new(), retry_after };
        assert_eq!(seconds(1, &busy(Some(Duration::from_secs(100))), 0.5), 105);
        assert_eq!(seconds(5, &busy(Some(Duration::from_secs(1))), 0.0), 80);
        assert_eq!(seconds(1, &busy(None), 0.0), 5);
    }

    #[test]
    fn outage_begins_and_ends_once() {
        let mut outage = Outage::default();
        assert!(!outage.end());
        assert_eq!(
            [outage.begin(), outage.begin(), outage.end(), outage.end()],
            [true, false, true, false]
        );
    }
}
