//! The history of every battery, for charts: in memory, and in a file if one is configured.
//!
//! ```text
//! board ─updates─▶ record ──▶ track: readings of 2 h, minutes of HISTORY_HOURS ──▶ query ──▶ http
//!                   └─minutes, once a minute─▶ store (SQLite) ──at the start──▶ track
//! board ──energy counters, once a minute────────▶ store (SQLite) ──at the start──▶ board
//! ```
//!
//! Values are delta-encoded (see `packed`): 48 hours of a battery with 16 cells that is read every
//! ten seconds take less than 400 kB, even if every value changes all the time. The time of a row is
//! that of the reading, so a jump of the clock moves rows, but loses and duplicates none.

mod packed;
mod query;
mod record;
mod ring;
mod store;
mod track;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::board::Board;
use crate::model::DeviceId;
use crate::model::units::Millis;

pub use packed::{Series, Spread};
pub use query::{Answer, Query};
pub use record::run;

use track::{MinuteRow, Track};

/// A handle to the history of all batteries; cheap to clone.
#[derive(Debug, Clone)]
pub struct History {
    span: Duration,
    tracks: Arc<Mutex<BTreeMap<DeviceId, Track>>>,
    /// Whether the energy counters of the file have been restored to the board.
    restored: Arc<watch::Sender<bool>>,
}

impl History {
    /// Keeps rows of each battery of the board for `span`.
    pub fn new(board: &Board, span: Duration) -> Self {
        let tracks = board.devices().map(|id| (id.clone(), Track::new(span))).collect();
        History { span, tracks: Arc::new(Mutex::new(tracks)), restored: Arc::default() }
    }

    pub fn span(&self) -> Duration {
        self.span
    }

    /// Takes milliseconds for a range of days, so call it from a blocking task. `None`: unknown battery.
    pub fn answer(&self, device: &DeviceId, query: &Query) -> Option<Answer> {
        // A copy shares the packed rows, so recording continues meanwhile.
        let track = self.tracks().get(device)?.clone();
        Some(track.answer(query))
    }

    /// Memory of a battery's history in bytes.
    pub fn size(&self, device: &DeviceId) -> Option<usize> {
        Some(self.tracks().get(device)?.size())
    }

    /// Waits until the energy counters of the file are on the board, or it is clear that there is no
    /// readable file. Other sources of the counters (the broker) come afterwards.
    pub async fn restored(&self) {
        // Cannot fail: `self` holds the sender.
        let _ = self.restored.subscribe().wait_for(|restored| *restored).await;
    }

    fn is_empty(&self) -> bool {
        self.tracks().values().all(|track| track.newest().is_none())
    }

    fn tracks(&self) -> MutexGuard<'_, BTreeMap<DeviceId, Track>> {
        self.tracks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn restore(&self, device: &DeviceId, row: &MinuteRow) {
        if let Some(track) = self.tracks().get_mut(device) {
            track.restore(row);
        }
    }

    /// Ends every minute but that of `now` (`None`: every minute), and drops old rows.
    fn end_minutes(&self, now: Option<Millis>) -> Vec<(DeviceId, MinuteRow)> {
        let mut ended = Vec::new();
        for (id, track) in self.tracks().iter_mut() {
            ended.extend(track.end_minute(now).map(|row| (id.clone(), row)));
            if let Some(now) = now {
                track.expire(now);
            }
        }
        ended
    }
}
