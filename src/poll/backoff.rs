//! Pauses between attempts to open a connection, and what ends one early.

use std::future::pending;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::random::random;
use crate::transport::RetrySignal;

/// What early ends add up to: 1 s after the first one, then twice as much each time, up to this
/// power of two.
const MAX_EARLY_ENDS: u32 = 7;

/// Growing pauses between attempts, with jitter so that many lines do not retry at the same moment.
#[derive(Debug, Clone)]
pub struct Backoff {
    pauses_ms: &'static [u64],
    tries: usize,
    /// Pauses that a signal has ended, less those that were not.
    early_ends: u32,
    /// A signal has ended the present pause.
    ended_early: bool,
}

impl Backoff {
    /// Uses these pauses one after the other, and the last one from then on.
    pub fn new(pauses_ms: &'static [u64]) -> Self {
        Backoff { pauses_ms, tries: 0, early_ends: 0, ended_early: false }
    }

    /// The next pause: between three quarters and the whole of the nominal one.
    pub fn pause(&mut self) -> Duration {
        if !std::mem::take(&mut self.ended_early) {
            self.early_ends = self.early_ends.saturating_sub(1);
        }
        let nominal = self.pauses_ms.get(self.tries).or(self.pauses_ms.last());
        self.tries = self.tries.saturating_add(1);
        let nominal = Duration::from_millis(nominal.copied().unwrap_or_default());
        nominal.mul_f64(0.75 + 0.25 * random())
    }

    /// The shortest time between a failed attempt and one that a signal suggests. It is zero at
    /// first and doubles with each signal that did not help: a battery that advertises and refuses
    /// connections, or an adapter that comes and goes, is retried no more often than without.
    fn min_pause(&self) -> Duration {
        let doublings = self.early_ends.checked_sub(1);
        doublings.map_or(Duration::ZERO, |doublings| Duration::from_secs(1 << doublings))
    }

    fn note_early_end(&mut self) {
        self.ended_early = true;
        self.early_ends = (self.early_ends + 1).min(MAX_EARLY_ENDS);
    }

    /// The number of pauses since the last reset.
    pub fn tries(&self) -> usize {
        self.tries
    }

    pub fn reset(&mut self) {
        *self = Backoff::new(self.pauses_ms);
    }
}

/// The time until the next attempt. A signal of the transport ends it early.
#[derive(Debug)]
pub struct Pause {
    until: Instant,
    /// A signal that comes sooner has to wait.
    earliest: Instant,
    signal: Option<RetrySignal>,
}

impl Pause {
    /// The pause after a failed attempt.
    pub fn new(backoff: &mut Backoff, signal: Option<RetrySignal>) -> Self {
        let now = Instant::now();
        let until = now + backoff.pause();
        Pause { until, earliest: now + backoff.min_pause(), signal }
    }

    /// No pause at all.
    pub fn over() -> Self {
        let now = Instant::now();
        Pause { until: now, earliest: now, signal: None }
    }

    pub fn until(&self) -> Instant {
        self.until
    }

    /// Waits until the pause may end early. Dropping the future loses nothing.
    pub async fn signalled(&self) {
        match &self.signal {
            Some(signal) => signal.clone().await,
            None => pending().await,
        }
        sleep_until(self.earliest).await;
    }

    pub fn end(&mut self, backoff: &mut Backoff) {
        backoff.note_early_end();
        *self = Pause::over();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const PAUSES: &[u64] = &[1_000, 5_000, 60_000];

    #[test]
    fn backoff_grows_to_the_longest_pause_until_reset() {
        let mut backoff = Backoff::new(PAUSES);
        let pauses: Vec<_> = (0..40).map(|_| backoff.pause()).collect();
        for (tries, pause) in pauses.iter().enumerate() {
            let nominal = Duration::from_millis(PAUSES[tries.min(2)]);
            assert!(*pause <= nominal && *pause >= nominal.mul_f64(0.75), "{tries}: {pause:?}");
        }
        assert_eq!(backoff.tries(), 40);
        assert!(pauses[20..].windows(2).any(|pair| pair[0] != pair[1]), "no jitter");
        backoff.reset();
        assert!(backoff.pause() <= SECOND);
    }

    /// The moment at which a pause may end early, from its start.
    async fn early_end(backoff: &mut Backoff, signal: RetrySignal) -> Option<Duration> {
        let started = Instant::now();
        let mut pause = Pause::new(backoff, Some(signal));
        timeout(pause.until() - started, pause.signalled()).await.ok()?;
        pause.end(backoff);
        assert_eq!(pause.until(), Instant::now());
        Some(started.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn signal_ends_the_pause_when_it_comes() {
        let mut backoff = Backoff::new(&[60_000]);
        let signal = sleep_until(Instant::now() + 7 * SECOND).boxed().shared();
        assert_eq!(early_end(&mut backoff, signal).await, Some(7 * SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn signal_survives_a_wait_that_is_dropped() {
        let mut backoff = Backoff::new(&[60_000]);
        let (send, received) = oneshot::channel::<()>();
        let pause = Pause::new(&mut backoff, Some(received.map(drop).boxed().shared()));
        assert!(timeout(SECOND, pause.signalled()).await.is_err());
        send.send(()).unwrap();
        for _ in 0..2 {
            timeout(SECOND, pause.signalled()).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pause_without_a_signal_never_ends_early() {
        let pause = Pause::new(&mut Backoff::new(&[1_000]), None);
        assert!(timeout(3600 * SECOND, pause.signalled()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn signals_that_do_not_help_are_heeded_ever_later() {
        let mut backoff = Backoff::new(&[60_000]);
        let mut waits = Vec::new();
        let at_once = || async {}.boxed().shared();
        while let Some(wait) = early_end(&mut backoff, at_once()).await {
            waits.push(wait.as_secs());
            assert!(waits.len() < 20, "{waits:?}");
        }
        assert_eq!(waits[..6], [0, 1, 2, 4, 8, 16]);
        // A signal is heeded again, but no sooner than before.
        let wait = early_end(&mut backoff, at_once()).await.unwrap();
        assert!(wait >= 16 * SECOND, "{wait:?}");
        backoff.reset();
        assert_eq!(early_end(&mut backoff, at_once()).await, Some(Duration::ZERO));
    }
}
