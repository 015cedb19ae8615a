//! One task per line: whose turn is it, is the connection open, has anybody asked for something.

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, trace_span, warn};

use super::exchange::CycleError;
use super::radio::{self, BleSettings};
use super::served::Served;
use super::wire::Wire;
use super::{Line, configure, control};
use crate::board::Board;
use crate::command::{Command, CommandError, CommandInbox, Request};
use crate::transport::{Link, LinkError};

/// Serves a line until the stop.
pub async fn run_line(line: Line, board: Board, mut inbox: CommandInbox, stop: CancellationToken) {
    let mut station = Station::new(line, &board, false);
    loop {
        let wake = station.wake();
        tokio::select! {
            () = stop.cancelled() => break,
            Some(request) = inbox.recv() => tokio::select! {
                () = stop.cancelled() => break,
                () = station.obey(request) => {}
            },
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
    for index in 0..station.served.len() {
        loop {
            if !station.wire.is_open() && station.open().await == Round::Over {
                break;
            }
            if !station.wire.is_open() && station.wire.postpones() {
                sleep_until(station.wire.wake(Instant::now())).await;
            } else if station.attempt(index).await == Round::Over {
                if station.served.get(index).is_some_and(Served::is_doubted) {
                    station.attempt(index).await;
                }
                break;
            }
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

/// Whether an attempt was booked, or another one with the same battery follows at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Round {
    Over,
    GoesOn,
}

/// Whose trouble keeps a line from being open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Line,
    Adapter,
}

pub(super) struct Station {
    pub(super) wire: Wire,
    pub(super) served: Vec<Served>,
    pub(super) radio: Option<BleSettings>,
    pub(super) board: Board,
    /// The connection was open before.
    opened: bool,
    /// Since when the connection is lost, and to what.
    lost: Option<(Instant, LinkError)>,
    /// Whose troubles were told in this outage.
    told: Vec<Whose>,
    patient: bool,
}

impl Station {
    fn new(line: Line, board: &Board, patient: bool) -> Self {
        let (members, radio, recorder) = (line.members, line.radio, line.recorder);
        let wire = Wire::new(line.endpoint, line.bauds, members.len(), radio.is_some());
        let serve = |member| Served::new(member, board.clone(), recorder.as_ref());
        let served = members.into_iter().map(serve).collect();
        let board = board.clone();
        Station { wire, served, radio, board, opened: false, lost: None, told: vec![], patient }
    }

    fn active(&self) -> impl Iterator<Item = (usize, &Served)> {
        self.served.iter().enumerate().filter(|(_, served)| !served.paused)
    }

    /// When the next battery is due; `None` while everything is paused.
    fn due(&self) -> Option<Instant> {
        self.active().map(|(_, served)| served.due).min()
    }

    /// When there is something to do.
    fn wake(&self) -> Option<Instant> {
        self.due().map(|due| self.wire.wake(due))
    }

    /// Opens the connection if it is time, then serves the battery that has waited longest.
    async fn turn(&mut self) {
        let wants_open = self.due().is_some_and(|due| self.wire.wants_open(due, Instant::now()));
        if wants_open && self.open().await == Round::Over {
            return;
        }
        if !self.wire.is_open() && self.wire.postpones() {
            return;
        }
        let due = self.active().min_by_key(|(_, served)| served.due);
        if let Some((index, served)) = due
            && served.due <= Instant::now()
        {
            self.attempt(index).await;
        }
    }

    /// The round is over when it was a search that ended with this.
    pub(super) async fn open(&mut self) -> Round {
        let rested = self.wire.is_resting();
        let opened = match self.aim().await {
            Ok(()) => self.wire.open().await,
            Err(error) => {
                self.wire.fail(error.clone()).await;
                Err(error)
            }
        };
        match opened {
            Ok(()) => self.note_open(rested),
            Err(error) => match self.pass_over(&error).await {
                Some(round) => return round,
                None => self.note_lost(&error),
            },
        }
        Round::GoesOn
    }

    fn note_open(&mut self, rested: bool) {
        if self.radio.as_ref().is_some_and(|radio| radio.troubles.over()) {
            info!("Bluetooth works again");
        }
        if let Some((since, error)) = self.lost.take() {
            let seconds = since.elapsed().as_secs();
            if !std::mem::take(&mut self.told).is_empty() {
                info!("{}: open again after {seconds} s", self.wire.endpoint);
            } else if radio::broke_off(&error) {
                info!("{error}; open again after {seconds} s");
            }
            for served in &mut self.served {
                served.due = Instant::now();
            }
        }
        for served in &mut self.served {
            if let Some(driver) = &mut served.driver {
                driver.reset();
                served.tap.reset();
            }
            if self.opened && !rested {
                served.reconnected();
            }
            if let Some(Link::Ble(link)) = self.wire.link() {
                served.signal = link.rssi().or(served.signal);
                let adapter = link.adapter().to_owned();
                served.profile(|profile| profile.adapter = Some(adapter));
            }
        }
        self.opened = true;
    }

    /// A lost connection is told once for the whole line. The trouble of a Bluetooth adapter is
    /// another matter than that of one battery, and told once for all that are on it.
    pub(super) fn note_lost(&mut self, error: &LinkError) {
        self.lost.get_or_insert_with(|| (Instant::now(), error.clone()));
        let whose = match &self.radio {
            Some(_) if radio::concerns_adapter(error) => Whose::Adapter,
            _ => Whose::Line,
        };
        if self.wire.postpones() || self.told.contains(&whose) {
            return;
        }
        self.told.push(whose);
        let hint = error.hint();
        if self.patient {
            // Somebody waits for this one attempt.
            warn!("{error}; {hint}");
            return;
        }
        match &self.radio {
            Some(radio) if whose == Whose::Adapter => {
                if radio.troubles.is_news(error) {
                    warn!("{error}; {hint}; trying again, batteries on Bluetooth must wait");
                }
            }
            _ => {
                let names: Vec<_> = self.served.iter().map(|s| s.member.id.to_string()).collect();
                warn!("{error}; {hint}; trying again, {} must wait", names.join(", "));
            }
        }
    }

    /// One attempt with one battery, booked whatever comes of it.
    async fn attempt(&mut self, index: usize) -> Round {
        let started = Instant::now();
        let limit = self.limit(index);
        let Some(served) = self.served.get_mut(index) else { return Round::Over };
        let Some(driver) = &mut served.driver else { return self.seek(index).await };
        let connected = self.wire.is_open();
        let span = trace_span!("line", device = %served.member.id);
        let attempt = self.wire.attempt(&mut **driver, limit, self.patient, &mut served.tap);
        let attempt = attempt.instrument(span);
        let result = match attempt.await {
            Ok(outcome) => outcome.result,
            Err(error) => Err(CycleError::Link(error)),
        };
        if let Err(CycleError::Broken(_)) = &result {
            served.renew();
        }
        if let Some(Link::Ble(link)) = self.wire.link() {
            served.signal = link.rssi().or(served.signal);
        }
        let lost = match &result {
            Err(CycleError::Link(error)) => Some(error.clone()),
            _ => None,
        };
        served.record(started, connected, result);
        if let Some(error) = lost {
            self.note_lost(&error);
        }
        self.settle(index).await;
        Round::Over
    }

    /// The longest time that one cycle with this battery may take.
    pub(super) fn limit(&self, index: usize) -> std::time::Duration {
        let usual = || self.served.get(index).map(Served::limit).unwrap_or_default();
        self.radio.as_ref().map_or_else(usual, |radio| radio.limit)
    }

    /// After an attempt: leaves a battery that others want to have, too, and a line that is mute.
    pub(super) async fn settle(&mut self, index: usize) {
        let driver = self.served.get(index).and_then(|served| served.member.driver);
        match &self.radio {
            Some(radio) if self.wire.is_open() && !radio.keeps_connected(driver) => {
                self.wire.rest().await;
            }
            _ => self.wire.refresh_if_mute().await,
        }
    }

    async fn obey(&mut self, request: Request) {
        let Some(index) = self.served.iter().position(|s| s.member.id == request.device) else {
            return;
        };
        if request.is_abandoned() {
            // A switch that turns minutes after its "failed" is worse than one that does not.
            info!("{}: a command came too late and is left alone", request.device);
            return;
        }
        let answer = match &request.command {
            Command::Read if self.served[index].paused => {
                Err(CommandError(format!("{}: {}", request.device, control::PAUSED)))
            }
            Command::Read => {
                self.served[index].due = Instant::now();
                Ok(())
            }
            Command::Configure(change) => configure::configure(self, index, change).await,
            Command::Switch(setting) => {
                let answer = control::turn(self, index, *setting, &request).await;
                self.settle(index).await;
                answer
            }
        };
        // Whoever asked may have gone away meanwhile.
        let _ = request.reply.send(answer);
        if self.active().next().is_none() {
            self.wire.close().await;
        }
    }
}
