//! The task that records: readings from the board into memory, ended minutes into the file.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::History;
use super::store::Keeper;
use super::track::{MinuteRow, samples};
use crate::board::Board;
use crate::model::units::Millis;
use crate::model::{DeviceId, DeviceState};

/// The file is written so often, right after a minute of the clock ended.
const MINUTE: u64 = 60_000;
/// The last reading of a minute may be on its way when the minute ends.
const GRACE: u64 = 1_000;

/// Records until the stop; with a file, from what it kept and into it.
pub async fn run(history: History, board: Board, file: Option<String>, stop: CancellationToken) {
    let mut recorder = Recorder { history, keeper: None, seen: BTreeMap::new(), ended: Vec::new() };
    if let Some(file) = file {
        recorder.keeper = Some(Keeper::new(file));
        // Started again after a breakdown, everything is here already.
        if recorder.history.is_empty() {
            recorder.load().await;
        }
    }
    let mut news = board.news();
    loop {
        let now = wall_clock().0;
        let wait = Duration::from_millis(MINUTE - now % MINUTE + GRACE);
        let minute = async {
            tokio::select! {
                () = stop.cancelled() => false,
                () = sleep(wait) => true,
            }
        };
        tokio::pin!(minute);
        let goes_on = loop {
            tokio::select! {
                biased;
                goes_on = &mut minute => break goes_on,
                states = news.next() => states.iter().for_each(|state| recorder.note(state)),
            }
        };
        recorder.end_minutes(goes_on.then(wall_clock));
        recorder.write().await;
        if !goes_on {
            return;
        }
    }
}

struct Recorder {
    history: History,
    keeper: Option<Keeper>,
    /// The last reading of each battery that was recorded.
    seen: BTreeMap<DeviceId, u64>,
    /// Minutes that the file lacks.
    ended: Vec<(DeviceId, MinuteRow)>,
}

impl Recorder {
    /// Failed attempts are news, too, but bring no reading.
    fn note(&mut self, state: &DeviceState) {
        let Some(snapshot) = &state.snapshot else { return };
        let id = &state.profile.id;
        if self.seen.insert(id.clone(), snapshot.sequence) == Some(snapshot.sequence) {
            return;
        }
        let values = samples(state);
        let mut tracks = self.history.tracks();
        let ended = tracks.get_mut(id).and_then(|track| track.note(snapshot.taken, values));
        self.ended.extend(ended.map(|row| (id.clone(), row)));
    }

    fn end_minutes(&mut self, now: Option<Millis>) {
        self.ended.extend(self.history.end_minutes(now));
        if self.keeper.is_none() {
            self.ended.clear();
        }
    }

    async fn load(&mut self) {
        let history = self.history.clone();
        let now = wall_clock();
        self.with_keeper(move |keeper| keeper.load(&history, now)).await;
    }

    async fn write(&mut self) {
        let ended = std::mem::take(&mut self.ended);
        let span = u64::try_from(self.history.span().as_millis()).unwrap_or(u64::MAX);
        let oldest = Millis(wall_clock().0.saturating_sub(span));
        self.with_keeper(move |keeper| keeper.write(ended, oldest)).await;
    }

    /// Lets the keeper work where a slow card holds up nobody.
    async fn with_keeper(&mut self, work: impl FnOnce(&mut Keeper) + Send + 'static) {
        let Some(mut keeper) = self.keeper.take() else { return };
        let done = spawn_blocking(move || {
            work(&mut keeper);
            keeper
        });
        match done.await {
            Ok(keeper) => self.keeper = Some(keeper),
            Err(failure) => {
                tracing::error!(
                    "history: the file is no longer written ({failure}); please report this"
                );
            }
        }
    }
}

fn wall_clock() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
