//! Does every line still make its attempts? Counted by attempts, not by their time stamps, so that
//! a clock that jumps (a Raspberry Pi has none of its own) does not look like a standstill.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::board::Board;
use crate::model::DeviceId;

/// Intervals without an attempt after which a line counts as stalled.
const INTERVALS: u32 = 3;
/// Even on a fast line a read may take this long: a slow bus with many silent batteries.
const ALLOWANCE: Duration = Duration::from_secs(180);

/// When each battery's last attempt was seen.
#[derive(Clone)]
pub(super) struct StallDetector {
    seen: Arc<Mutex<BTreeMap<DeviceId, (u64, Instant)>>>,
}

impl StallDetector {
    pub(super) fn new(board: &Board) -> Self {
        let now = Instant::now();
        let seen = board.devices().map(|id| (id.clone(), (0, now))).collect();
        StallDetector { seen: Arc::new(Mutex::new(seen)) }
    }

    /// The batteries that nobody has tried to read for too long.
    pub(super) fn stalled(&self, board: &Board) -> Vec<DeviceId> {
        let now = Instant::now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stalled = Vec::new();
        for (id, (number, since)) in seen.iter_mut() {
            let Some(state) = board.latest(id) else { continue };
            let attempts = state.attempt.as_ref().map_or(0, |attempt| attempt.number);
            if attempts != *number || state.paused {
                (*number, *since) = (attempts, now);
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
    use crate::model::units::Millis;
    use crate::model::{Attempt, Fault, FaultKind, Profile};

    #[tokio::test(start_paused = true)]
    async fn a_line_without_attempts_is_stalled_until_it_moves() {
        let profile = Profile::sample("b");
        let id = profile.id.clone();
        let board = Board::new([profile]);
        let stalls = StallDetector::new(&board);
        tokio::time::advance(Duration::from_secs(269)).await;
        assert_eq!(stalls.stalled(&board), []);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(stalls.stalled(&board), std::slice::from_ref(&id));
        board.update(&id, |state| {
            state.attempt = Some(Attempt {
                number: 1,
                ended: Millis(0),
                took_ms: 0,
                connected: false,
                fault: None,
            });
        });
        assert_eq!(stalls.stalled(&board), []);
    }

    /// That it failed is the usual reason to pause a battery.
    #[tokio::test(start_paused = true)]
    async fn a_paused_battery_is_not_stalled_whatever_its_last_attempt_was() {
        let profile = Profile::sample("b");
        let id = profile.id.clone();
        let board = Board::new([profile]);
        let stalls = StallDetector::new(&board);
        let fault = Fault::new(FaultKind::Timeout, "no answer", "look at the cable");
        board.update(&id, |state| {
            let (number, ended, took_ms) = (1, Millis(0), 0);
            let (connected, fault) = (true, Some(fault));
            state.attempt = Some(Attempt { number, ended, took_ms, connected, fault });
            state.paused = true;
        });
        assert_eq!(stalls.stalled(&board), []);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(stalls.stalled(&board), []);
        board.update(&id, |state| state.paused = false);
        tokio::time::advance(Duration::from_secs(269)).await;
        assert_eq!(stalls.stalled(&board), []);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(stalls.stalled(&board), [id]);
    }
}
