//! Sends what waits: one request at a time, oldest lines first, repeated until the server has confirmed them.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::queue::{Batch, Queue};
use super::server::{Failure, Outcome, Server};
use crate::random::random;
use crate::remedy;

/// Readings of the same moment become one request.
const COLLECT: Duration = Duration::from_secs(3);
const MAX_LINES: usize = 1000;
/// Pauses between attempts, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);
/// The same, where the user has to change something. A proxy also refuses while the server starts.
const FIRST_LASTING_PAUSE: Duration = Duration::from_secs(15);
const LAST_LASTING_PAUSE: Duration = Duration::from_secs(600);
/// Failed requests after which a refused line is probably not the reason.
const MAX_REFUSALS: u32 = 3;

#[derive(Debug)]
pub struct Sender {
    server: Server,
    queue: Arc<Queue>,
    window: Window,
    /// Failed requests in a row.
    failures: u32,
    /// What the user was advised to do about them.
    advice: Option<&'static str>,
}

impl Sender {
    pub fn new(server: Server, queue: Arc<Queue>) -> Self {
        Sender { server, queue, window: Window::default(), failures: 0, advice: None }
    }

    /// Never returns.
    pub async fn run(&mut self) {
        loop {
            self.queue.wait().await;
            sleep(COLLECT).await;
            while let Some(pause) = self.send().await {
                sleep(pause).await;
            }
        }
    }

    /// Sends a batch. Returns the time until the next one, `None` if nothing waits.
    pub async fn send(&mut self) -> Option<Duration> {
        let batch = self.queue.batch(self.window.count(self.queue.first()))?;
        let result = self.server.write(&batch.body).await;
        let result = result.and_then(|outcome| self.handle(&batch, outcome));
        let Err(failure) = result else { return Some(Duration::ZERO) };
        self.failures = self.failures.saturating_add(1);
        let was_reachable = self.queue.counts.written.load(Relaxed) > 0;
        if !(batch.is_retry && was_reachable && self.failures < MAX_REFUSALS) {
            self.log_failure(&failure);
        }
        Some(pause(self.failures, &failure, random()))
    }

    fn handle(&mut self, batch: &Batch, outcome: Outcome) -> Result<(), Failure> {
        self.window.update(batch, &outcome);
        match outcome {
            Outcome::Written => {
                self.queue.remove(batch);
                self.failures = 0;
                self.log_success(batch);
            }
            Outcome::Refused(reason) | Outcome::TooLarge(reason) if batch.count == 1 => {
                match self.queue.refuse(batch) {
                    Some(dropped) => log_refusal(&batch.body, &reason, dropped),
                    None if batch.is_retry => {
                        let remedy = &remedy::INFLUX_DATABASE;
                        return Err(Failure {
                            reason,
                            remedy,
                            retry_after: None,
                            is_lasting: true,
                        });
                    }
                    None => {}
                }
            }
            // A part of it is sent next.
            Outcome::Refused(_) | Outcome::TooLarge(_) => {}
        }
        Ok(())
    }

    fn log_failure(&mut self, failure: &Failure) {
        let (label, reason, advice) = (self.server.label(), &failure.reason, failure.remedy.text());
        // A server that is started is unreachable first, and refuses or is busy afterwards.
        match self.advice.replace(advice) == Some(advice) {
            false => warn!("influx: {label}: {reason}; {advice}; readings are kept meanwhile"),
            true => debug!("influx: {label}: {reason}"),
        }
    }

    fn log_success(&mut self, batch: &Batch) {
        let label = self.server.label();
        match self.advice.take() {
            Some(_) => info!("influx: {label}: readings are accepted again"),
            None => debug!("influx: {label}: sent {} readings", batch.count),
        }
    }
}

/// `count`: readings that were dropped since the start.
fn log_refusal(line: &str, reason: &str, count: u64) {
    // Every reading of a battery may be refused for the same reason.
    if !count.is_power_of_two() {
        return debug!("influx: {reason}: {line}");
    }
    let head = line.split(' ').next().unwrap_or_default();
    warn!(
        "influx: a reading of {head} is dropped ({count} so far): {reason}; another program may write a field \
         with another type, or the retention is shorter; look at the log of the server"
    );
}

/// Time until the next attempt. `jitter` is in `0.0..1.0`; it keeps many programs from coming back at the
/// same moment.
fn pause(failures: u32, failure: &Failure, jitter: f64) -> Duration {
    let (first, last) = match failure.is_lasting {
        true => (FIRST_LASTING_PAUSE, LAST_LASTING_PAUSE),
        false => (FIRST_PAUSE, LAST_PAUSE),
    };
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(last);
    let backoff = doubled.mul_f64(1.0 - jitter / 2.0);
    let wanted = failure.retry_after.map(|wanted| wanted.mul_f64(1.0 + jitter / 10.0));
    wanted.map_or(backoff, |wanted| wanted.max(backoff))
}

/// How many lines the next request has, so that a line that the server refuses is found and the others go on.
#[derive(Debug)]
struct Window {
    /// Doubled after each accepted request, up to `max`.
    limit: usize,
    /// Requests with more lines are too large for the server.
    max: usize,
    /// A line before this number was refused.
    suspect_end: u64,
}

impl Default for Window {
    fn default() -> Self {
        Window { limit: MAX_LINES, max: MAX_LINES, suspect_end: 0 }
    }
}

impl Window {
    /// `first`: number of the oldest line.
    fn count(&self, first: u64) -> usize {
        let suspects = usize::try_from(self.suspect_end.saturating_sub(first)).unwrap_or(MAX_LINES);
        match suspects {
            0 => self.limit,
            suspects => (suspects / 2).clamp(1, self.max),
        }
    }

    fn update(&mut self, batch: &Batch, outcome: &Outcome) {
        match outcome {
            Outcome::Written => self.limit = self.limit.saturating_mul(2).min(self.max),
            // More of them may follow.
            _ if batch.count == 1 => self.limit = 1,
            Outcome::Refused(_) => self.suspect_end = batch.first + batch.count as u64,
            Outcome::TooLarge(_) => {
                self.max = batch.count / 2;
                self.limit = self.max;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::model::Millis;
    use crate::sink::influx::{Address, Database};
    use crate::tls::Tls;

    fn sender() -> Sender {
        let address = Address::parse("http://127.0.0.1:1").unwrap();
        let server = Server::new(address, &Database::Name("bms".into()), None, Tls::default());
        Sender::new(server, Arc::default())
    }

    /// Adds lines with these numbers. Returns how often the server has taken each, and the number of requests.
    fn deliver(
        sender: &mut Sender,
        numbers: std::ops::Range<usize>,
        mut answer: impl FnMut(&[usize]) -> (Outcome, Vec<usize>),
    ) -> (BTreeMap<usize, usize>, usize) {
        numbers.for_each(|number| sender.queue.add(0, number.to_string(), Millis(0)));
        let (mut written, mut requests) = (BTreeMap::new(), 0);
        while let Some(batch) = sender.queue.batch(sender.window.count(sender.queue.first())) {
            let lines: Vec<usize> = batch.body.lines().map(|line| line.parse().unwrap()).collect();
            requests += 1;
            let (outcome, taken) = answer(&lines);
            taken.into_iter().for_each(|line| *written.entry(line).or_default() += 1);
            if sender.handle(&batch, outcome).is_err() {
                break;
            }
        }
        (written, requests)
    }

    fn refused() -> Outcome {
        Outcome::Refused("refused with status 400".into())
    }

    proptest! {
        #[test]
        fn refused_lines_are_dropped_and_all_others_written_once(
            count in 1..400_usize,
            refusable in proptest::collection::btree_set(0..400_usize, 0..6),
            max in 1..500_usize,
        ) {
            let bad: BTreeSet<usize> = refusable.into_iter().filter(|it| *it < count).collect();
            let mut sender = sender();
            let answer = |lines: &[usize]| {
                if lines.len() > max {
                    (Outcome::TooLarge(String::new()), Vec::new())
                } else if lines.iter().any(|line| bad.contains(line)) {
                    (refused(), Vec::new())
                } else {
                    (Outcome::Written, lines.to_vec())
                }
            };
            let (written, requests) = deliver(&mut sender, 0..count, answer);
            let good = (0..count).filter(|line| !bad.contains(line));
            let expected: BTreeMap<usize, usize> = good.map(|line| (line, 1)).collect();
            prop_assert_eq!(written, expected);
            // Those after the last accepted line wait until the server has taken another one.
            deliver(&mut sender, 400..401, answer);
            let dropped = sender.queue.counts.dropped.load(Relaxed) as usize;
            prop_assert_eq!((dropped, sender.queue.len()), (bad.len(), 0));
            // Halving finds a line with two requests a step; small batches grow as fast again.
            let bound = 30 + bad.len() * 40 + 4 * count / max;
            prop_assert!(requests <= bound, "{} requests for {}, bound {}", requests, count, bound);
        }
    }

    #[test]
    fn server_that_refuses_everything_loses_no_lines() {
        let mut sender = sender();
        let (written, requests) = deliver(&mut sender, 0..100, |_| (refused(), Vec::new()));
        assert!(written.is_empty() && requests < 120, "{requests}");
        assert_eq!(sender.queue.len(), 100);
        assert_eq!(sender.queue.counts.dropped.load(Relaxed), 0);
    }

    /// InfluxDB 1 writes what it can of a batch, so the same points are written again.
    #[test]
    fn partial_write_drops_only_the_refused_line() {
        let mut sender = sender();
        let (written, _) = deliver(&mut sender, 0..1000, |lines| {
            let taken: Vec<usize> = lines.iter().copied().filter(|line| *line != 777).collect();
            (if taken.len() == lines.len() { Outcome::Written } else { refused() }, taken)
        });
        assert_eq!((written.len(), sender.queue.counts.dropped.load(Relaxed)), (999, 1));
    }

    #[test]
    fn pauses_grow_and_respect_the_server() {
        let failure = |is_lasting, retry_after| Failure {
            reason: String::new(),
            remedy: &remedy::SERVER_BUSY,
            retry_after,
            is_lasting,
        };
        let pauses = |failure: &Failure| {
            [1, 2, 3, 7, u32::MAX].map(|failures| pause(failures, failure, 0.0).as_secs())
        };
        assert_eq!(pauses(&failure(false, None)), [1, 2, 4, 60, 60]);
        assert_eq!(pauses(&failure(true, None)), [15, 30, 60, 600, 600]);
        let wanted = failure(false, Some(Duration::from_secs(20)));
        assert_eq!(pauses(&wanted), [20, 20, 20, 60, 60]);
        assert_eq!(pause(1, &wanted, 0.5).as_secs(), 21);
        assert!(pause(1, &failure(false, None), 0.999) >= FIRST_PAUSE / 2);
    }
}
