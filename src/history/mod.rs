//! The past of every battery, for charts: in memory, and in a file where one is named.
//!
//! ```text
//! board ──news──▶ record ──▶ track: readings of 2 h, minutes of HISTORY_HOURS ──▶ query ──▶ http
//!                   └─minutes, once a minute─▶ store (SQLite) ──at the start──▶ track
//! board ──energy counters, once a minute────────▶ store (SQLite) ──at the start──▶ board
//! ```
//!
//! Values are packed (see `packed`): 48 hours of a battery with 16 cells that is read every ten
//! seconds take less than 400 kB, even when every value moves all the time. The time of a row is
//! the battery's own reading time, so a clock that jumps moves rows, but loses and doubles none.

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

/// A handle on the past of all batteries; cheap to clone.
#[derive(Debug, Clone)]
pub struct History {
    span: Duration,
    tracks: Arc<Mutex<BTreeMap<DeviceId, Track>>>,
    /// The energy counters that the file kept are on the board.
    restored: Arc<watch::Sender<bool>>,
}

impl History {
    /// An empty past for each battery of the board, which is going to reach back so far.
    pub fn new(board: &Board, span: Duration) -> Self {
        let tracks = board.devices().map(|id| (id.clone(), Track::new(span))).collect();
        History { span, tracks: Arc::new(Mutex::new(tracks)), restored: Arc::default() }
    }

    /// How far back it goes.
    pub fn span(&self) -> Duration {
        self.span
    }

    /// Answers a question about one battery. Takes milliseconds for days, so it is nothing for a
    /// task that others wait for.
    pub fn answer(&self, device: &DeviceId, query: &Query) -> Option<Answer> {
        // A copy shares the packed rows, so recording goes on meanwhile.
        let track = self.tracks().get(device)?.clone();
        Some(track.answer(query))
    }

    /// Memory that a battery's past takes.
    pub fn size(&self, device: &DeviceId) -> Option<usize> {
        Some(self.tracks().get(device)?.size())
    }

    /// Waits until the energy counters that the file kept are on the board; where there is no file,
    /// or it cannot be read, until that is known. Whoever else has kept them comes afterwards.
    pub async fn restored(&self) {
        // We hold the sender ourselves, so it cannot go away.
        let _ = self.restored.subscribe().wait_for(|restored| *restored).await;
    }

    fn tell_restored(&self) {
        self.restored.send_replace(true);
    }

    fn is_empty(&self) -> bool {
        self.tracks().values().all(|track| track.newest().is_none())
    }

    fn tracks(&self) -> MutexGuard<'_, BTreeMap<DeviceId, Track>> {
        self.tracks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes back a minute that the file kept.
    fn restore(&self, device: &DeviceId, row: &MinuteRow) {
        if let Some(track) = self.tracks().get_mut(device) {
            track.restore(row);
        }
    }

    /// Ends every minute but the present one (`None`: every minute), and forgets what is too old.
    fn end_minutes(&self, now: Option<Millis>) -> Vec<(DeviceId, MinuteRow)> {
        let mut ended = Vec::new();
        for (id, track) in self.tracks().iter_mut() {
            ended.extend(track.end_minute(now).map(|row| (id.clone(), row)));
            if let Some(now) = now {
                track.forget(now);
            }
        }
        ended
    }
}
