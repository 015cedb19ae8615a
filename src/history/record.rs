//! The task that records: readings from the board into memory, ended minutes into the file.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::History;
use super::store::Keeper;
use super::track::{MinuteRow, samples};
use crate::board::Board;
use crate::clock;
use crate::model::units::Millis;
use crate::model::{DeviceId, DeviceState, EnergyTotals, Restored};

/// The file is written so often, right after a minute of the clock ended.
const MINUTE: u64 = 60_000;
/// The last reading of a minute may be on its way when the minute ends.
const GRACE: u64 = 1_000;

/// Records until the stop; with a file, from what it kept and into it.
pub async fn run(history: History, board: Board, file: Option<String>, stop: CancellationToken) {
    let keeper = file.map(Keeper::new);
    let (seen, ended) = (BTreeMap::new(), Vec::new());
    let mut recorder = Recorder { history, board: board.clone(), keeper, seen, ended };
    recorder.restore_counters().await;
    // Started again after a breakdown, everything is here already.
    if recorder.history.is_empty() {
        recorder.load().await;
    }
    let mut news = board.updates();
    loop {
        let now = clock::now().0;
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
        recorder.end_minutes(goes_on.then(clock::now));
        recorder.write().await;
        if !goes_on {
            return;
        }
    }
}

struct Recorder {
    history: History,
    board: Board,
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

    /// Lets the energy counters go on from what the file kept. What it does not know, somebody else
    /// may have kept.
    async fn restore_counters(&mut self) {
        let kept = self.with_keeper(Keeper::counters).await.unwrap_or_default();
        for (id, totals) in kept {
            if let Some(Restored::Resumed(totals)) = self.board.restore(&id, Some(totals)) {
                tracing::info!(
                    "{id}: energy counters continue from {} kWh in and {} kWh out (kept by the \
                     history file)",
                    totals.charged.kwh().rounded(3),
                    totals.discharged.kwh().rounded(3)
                );
            }
        }
        self.history.tell_restored();
    }

    async fn load(&mut self) {
        let history = self.history.clone();
        let now = clock::now();
        self.with_keeper(move |keeper| keeper.load(&history, now)).await;
    }

    async fn write(&mut self) {
        let ended = std::mem::take(&mut self.ended);
        let span = u64::try_from(self.history.span().as_millis()).unwrap_or(u64::MAX);
        let oldest = Millis(clock::now().0.saturating_sub(span));
        let counters: Vec<_> = self.board.states().filter_map(|state| counters(&state)).collect();
        self.with_keeper(move |keeper| keeper.write(ended, oldest, &counters)).await;
    }

    /// Lets the keeper work where a slow card holds up nobody.
    /// `None`: there is no file, or no keeper any more.
    async fn with_keeper<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Keeper) -> T + Send + 'static,
    ) -> Option<T> {
        let mut keeper = self.keeper.take()?;
        let done = spawn_blocking(move || {
            let result = work(&mut keeper);
            (keeper, result)
        });
        match done.await {
            Ok((keeper, result)) => {
                self.keeper = Some(keeper);
                Some(result)
            }
            Err(failure) => {
                tracing::error!(
                    "history: the file is no longer written ({failure}). Please report this"
                );
                None
            }
        }
    }
}

/// What was counted altogether, where that is known.
fn counters(state: &DeviceState) -> Option<(DeviceId, EnergyTotals)> {
    let totals = state.snapshot.as_ref()?.derived.energy?;
    Some((state.profile.id.clone(), totals))
}
