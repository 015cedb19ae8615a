//! Detects lines that make no more attempts. Attempts are counted, because their time stamps are
//! misleading when the clock jumps (a Raspberry Pi has no battery-backed clock).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::board::Board;
use crate::model::DeviceId;

/// Intervals without an attempt after which a line counts as stalled.
const INTERVALS: u32 = 3;
/// Added to them: one cycle of a slow bus with many batteries that do not answer.
const ALLOWANCE: Duration = Duration::from_secs(180);

#[derive(Debug, Clone)]
pub(super) struct StallDetector {
    /// Number of each battery's last attempt, and when it was first seen.
    attempts: Arc<Mutex<BTreeMap<DeviceId, (u64, Instant)>>>,
}

impl StallDetector {
    pub(super) fn new(board: &Board) -> Self {
        let now = Instant::now();
        let attempts = board.devices().map(|id| (id.clone(), (0, now))).collect();
        StallDetector { attempts: Arc::new(Mutex::new(attempts)) }
    }

    /// The batteries without a recent attempt.
    pub(super) fn stalled(&self, board: &Board) -> Vec<DeviceId> {
        let now = Instant::now();
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stalled = Vec::new();
        for (id, (number, since)) in attempts.iter_mut() {
            let Some(state) = board.latest(id) else { continue };
            let newest = state.attempt.as_ref().map_or(0, |attempt| attempt.number);
            if newest != *number || state.paused {
                (*number, *since) = (newest, now);
            }
            let interval = Duration::from_millis(state.profile.interval_ms);
            if now - *since > interval * INTERVALS + ALLOWANCE {
                stalled.push(id.clone());
            }
        }
        stalled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Attempt, Fault, FaultKind, Millis, Profile};

    #[tokio::test(start_paused = true)]
    async fn battery_without_attempts_is_stalled() {
        let profile = Profile::sample("b");
        let id = profile.id.clone();
        let board = Board::new([profile]);
        let detector = StallDetector::new(&board);
        tokio::time::advance(Duration::from_secs(269)).await;
        assert_eq!(detector.stalled(&board), []);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(detector.stalled(&board), std::slice::from_ref(&id));
        board.update(&id, |state| {
            state.attempt = Some(Attempt {
                number: 1,
                ended: Millis(0),
                took_ms: 0,
                connected: false,
                fault: None,
            });
        });
        assert_eq!(detector.stalled(&board), []);
    }

    /// A battery is usually paused because it fails, so its last attempt has a fault.
    #[tokio::test(start_paused = true)]
    async fn paused_battery_is_not_stalled() {
        let profile = Profile::sample("b");
        let id = profile.id.clone();
        let board = Board::new([profile]);
        let detector = StallDetector::new(&board);
        let fault = Fault::new(FaultKind::Timeout, "no answer", "look at the cable");
        board.update(&id, |state| {
            let (number, ended, took_ms) = (1, Millis(0), 0);
            let (connected, fault) = (true, Some(fault));
            state.attempt = Some(Attempt { number, ended, took_ms, connected, fault });
            state.paused = true;
        });
        assert_eq!(detector.stalled(&board), []);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(detector.stalled(&board), []);
        board.update(&id, |state| state.paused = false);
        tokio::time::advance(Duration::from_secs(269)).await;
        assert_eq!(detector.stalled(&board), []);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(detector.stalled(&board), [id]);
    }
}
