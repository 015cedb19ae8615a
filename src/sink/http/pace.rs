//! Spreads requests over time, so that the reads of the batteries get theirs.

use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use super::limits::{REQUEST_BURST, REQUEST_INTERVAL};

/// A queue of requests. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Pace(Arc<Mutex<Instant>>);

impl Pace {
    pub(super) fn new() -> Self {
        Pace(Arc::new(Mutex::new(Instant::now())))
    }

    /// Waits until the next request may be handled. Requests are admitted in the order of their arrival.
    pub(super) async fn turn(&self) {
        let mut next = self.0.lock().await;
        let now = Instant::now();
        // While no request arrives, a burst becomes possible again.
        *next = (*next).max(now) + REQUEST_INTERVAL;
        let due = *next - REQUEST_INTERVAL * REQUEST_BURST;
        if due > now {
            sleep_until(due).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_beyond_the_burst_wait_for_their_interval() {
        let (pace, begin) = (Pace::new(), Instant::now());
        let turns = |count: u32| join_all((0..count).map(|_| pace.turn()));
        turns(REQUEST_BURST).await;
        assert_eq!(begin.elapsed(), std::time::Duration::ZERO);
        turns(100).await;
        assert_eq!(begin.elapsed(), 100 * REQUEST_INTERVAL);
        // A pause refills the burst, but never more than that.
        tokio::time::sleep(REQUEST_INTERVAL * REQUEST_BURST * 3).await;
        let begin = Instant::now();
        turns(REQUEST_BURST + 1).await;
        assert_eq!(begin.elapsed(), REQUEST_INTERVAL);
    }
}
