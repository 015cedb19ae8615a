//! One task per line: whose turn is it, is the connection open, has anybody asked for something.

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, trace_span, warn};

use super::Line;
use super::exchange::CycleError;
use super::served::Served;
use super::wire::Wire;
use crate::board::Board;
use crate::command::{Command, CommandInbox, Request};
use crate::transport::LinkError;

/// Serves a line until the stop.
pub async fn run_line(line: Line, board: Board, mut inbox: CommandInbox, stop: CancellationToken) {
    let mut station = Station::new(line, &board, false);
    loop {
        let wake = station.wake();
        tokio::select! {
            () = stop.cancelled() => break,
            Some(request) = inbox.recv() => station.obey(request).await,
            () = until(wake) => tokio::select! {
                () = stop.cancelled() => break,
                () = station.turn() => {}
            },
        }
    }
    station.wire.close().await;
}

/// One attempt with every battery of the line, as `read` and `check` want it.
pub async fn read_once(line: Line, board: &Board) {
    let mut station = Station::new(line, board, true);
    station.open().await;
    for index in 0..station.served.len() {
        if !station.wire.is_open() {
            station.open().await;
        }
        station.attempt(index).await;
        if station.served.get(index).is_some_and(Served::is_doubted) {
            station.attempt(index).await;
        }
    }
    station.wire.close().await;
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

struct Station {
    wire: Wire,
    served: Vec<Served>,
    /// The connection was open before.
    opened: bool,
    /// Since when the connection is lost, once that was told.
    lost: Option<Instant>,
    patient: bool,
}

impl Station {
    fn new(line: Line, board: &Board, patient: bool) -> Self {
        let wire = Wire::new(line.endpoint, line.bauds, line.members.len());
        let served = line.members.into_iter().map(|m| Served::new(m, board.clone())).collect();
        Station { wire, served, opened: false, lost: None, patient }
    }

    fn active(&self) -> impl Iterator<Item = (usize, &Served)> {
        self.served.iter().enumerate().filter(|(_, served)| !served.paused)
    }

    /// When there is something to do; `None` while everything is paused.
    fn wake(&self) -> Option<Instant> {
        let due = self.active().map(|(_, served)| served.due).min()?;
        Some(self.wire.retry().map_or(due, |retry| due.min(retry)))
    }

    /// Opens the connection if it is time, then serves the battery that has waited longest.
    async fn turn(&mut self) {
        if self.wire.retry().is_some_and(|retry| retry <= Instant::now()) {
            self.open().await;
        }
        let due = self.active().min_by_key(|(_, served)| served.due);
        if let Some((index, served)) = due
            && served.due <= Instant::now()
        {
            self.attempt(index).await;
        }
    }

    async fn open(&mut self) {
        match self.wire.open().await {
            Ok(()) => self.note_open(),
            Err(error) => self.note_lost(&error),
        }
    }

    fn note_open(&mut self) {
        if let Some(since) = self.lost.take() {
            let seconds = since.elapsed().as_secs();
            info!("{}: open again after {seconds} s", self.wire.place());
            for served in &mut self.served {
                served.due = Instant::now();
            }
        }
        if self.opened {
            self.served.iter_mut().for_each(Served::reconnected);
        }
        self.opened = true;
    }

    fn note_lost(&mut self, error: &LinkError) {
        if self.lost.is_none() {
            self.lost = Some(Instant::now());
            let names: Vec<_> = self.served.iter().map(|s| s.member.id.to_string()).collect();
            warn!("{error}; {}; trying again, {} must wait", error.hint(), names.join(", "));
        }
    }

    /// One attempt with one battery, booked whatever comes of it.
    async fn attempt(&mut self, index: usize) {
        let started = Instant::now();
        let Some(served) = self.served.get_mut(index) else { return };
        let limit = served.limit();
        let connected = self.wire.is_open();
        let span = trace_span!("line", device = %served.member.id);
        let attempt = self.wire.attempt(&mut *served.driver, limit, self.patient).instrument(span);
        let result = match attempt.await {
            Ok(outcome) => outcome.result,
            Err(error) => Err(CycleError::Link(error)),
        };
        if let Err(CycleError::Broken(_)) = &result {
            // Nothing is known of the state of a driver that panicked.
            served.driver = (served.member.driver.new)(&served.member.options);
        }
        let lost = match &result {
            Err(CycleError::Link(error)) => Some(error.clone()),
            _ => None,
        };
        served.record(started, connected, result);
        if let Some(error) = lost {
            self.note_lost(&error);
        }
        self.wire.refresh_if_mute().await;
    }

    async fn obey(&mut self, request: Request) {
        let Some(served) = self.served.iter_mut().find(|s| s.member.id == request.device) else {
            return;
        };
        let answer = match &request.command {
            Command::Read => {
                served.due = Instant::now();
                Ok(())
            }
            Command::Configure(change) => served.configure(change),
        };
        // Whoever asked may have gone away meanwhile.
        let _ = request.reply.send(answer);
        if self.active().next().is_none() {
            self.wire.close().await;
        }
    }
}
