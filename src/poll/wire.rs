//! The connection of a line: opened when it can be, at the baud rate that works.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::exchange::{CycleError, Outcome, cycle};
use super::health::Backoff;
use crate::capture::Tap;
use crate::model::reading::Setting;
use crate::model::{FaultKind, Reading};
use crate::protocol::{Ask, Driver};
use crate::transport::{Endpoint, Link, LinkError};

/// Looking whether a device node exists costs nothing, so a replugged adapter is found soon.
const LONGEST_PAUSE_LOCAL: Duration = Duration::from_secs(5);
/// A host that is away is left in peace.
const LONGEST_PAUSE_REMOTE: Duration = Duration::from_secs(60);
/// Silent attempts of every member after which the connection is opened anew: a USB adapter can
/// hang, a TCP connection can be half open.
const SILENT_ROUNDS: usize = 3;
/// Saying goodbye must not hold up the stop.
const GOODBYE: Duration = Duration::from_millis(500);

/// The connection of a line.
#[derive(Debug)]
pub(super) struct Wire {
    endpoint: Endpoint,
    bauds: Vec<u32>,
    baud: usize,
    state: State,
    backoff: Backoff,
    /// Somebody answered at this baud rate.
    proven: bool,
    /// Attempts in a row in which nothing at all was heard.
    silent: usize,
    members: usize,
}

#[derive(Debug)]
enum State {
    Open(Link),
    Closed { why: Option<LinkError>, retry: Instant },
}

impl Wire {
    pub(super) fn new(endpoint: Endpoint, bauds: Vec<u32>, members: usize) -> Self {
        let longest = match endpoint {
            Endpoint::Tcp(_) | Endpoint::Ble(_) => LONGEST_PAUSE_REMOTE,
            Endpoint::Serial(_) | Endpoint::Memory(_) => LONGEST_PAUSE_LOCAL,
        };
        Wire {
            endpoint,
            bauds,
            baud: 0,
            state: State::Closed { why: None, retry: Instant::now() },
            backoff: Backoff::new(Duration::from_secs(1), longest),
            proven: false,
            silent: 0,
            members,
        }
    }

    pub(super) fn place(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// When to try to open it; `None` while it is open.
    pub(super) fn retry(&self) -> Option<Instant> {
        match &self.state {
            State::Open(_) => None,
            State::Closed { retry, .. } => Some(*retry),
        }
    }

    /// Opens the connection; a failure is kept as the reason of the attempts that follow.
    pub(super) async fn open(&mut self) -> Result<(), LinkError> {
        let baud = self.bauds.get(self.baud).copied().unwrap_or(9600);
        match self.endpoint.open(baud).await {
            Ok(link) => {
                self.state = State::Open(link);
                self.silent = 0;
                Ok(())
            }
            Err(error) => {
                self.close_for(error.clone()).await;
                Err(error)
            }
        }
    }

    /// Closes the connection until somebody opens it again.
    pub(super) async fn close(&mut self) {
        let closed = State::Closed { why: None, retry: Instant::now() };
        if let State::Open(link) = std::mem::replace(&mut self.state, closed) {
            // A goodbye that does not get through is no reason to stay.
            let _ = timeout(GOODBYE, link.close()).await;
        }
    }

    async fn close_for(&mut self, why: LinkError) {
        self.close().await;
        let retry = Instant::now() + self.backoff.pause();
        self.state = State::Closed { why: Some(why), retry };
    }

    /// One attempt with one battery. Until somebody has answered on this wire, each baud rate is
    /// tried twice (a driver may alternate between two forms of its question); nobody else is
    /// slowed by that. Afterwards a silent battery costs one time-out.
    pub(super) async fn attempt(
        &mut self,
        driver: &mut dyn Driver,
        limit: Duration,
        patient: bool,
        tap: &mut Tap,
    ) -> Result<Outcome, LinkError> {
        let tries = match (self.proven, patient) {
            (true, false) => 1,
            (true, true) => 2,
            (false, _) => 2 * self.bauds.len(),
        };
        for number in 1.. {
            let State::Open(link) = &mut self.state else { break };
            let outcome = cycle(driver, link, Ask::Read, limit, tap).await;
            self.note(&outcome).await;
            if !was_silent(&outcome) || number >= tries {
                return Ok(outcome);
            }
            if !self.proven && number % 2 == 0 {
                self.next_baud().await?;
                driver.reset();
                tap.reset();
            }
        }
        Err(self.why())
    }

    /// One order to one battery, on the connection as it is.
    pub(super) async fn order(
        &mut self,
        driver: &mut dyn Driver,
        setting: Setting,
        limit: Duration,
        tap: &mut Tap,
    ) -> Result<Box<Reading>, CycleError> {
        let State::Open(link) = &mut self.state else { return Err(self.why().into()) };
        let outcome = cycle(driver, link, Ask::Write(setting), limit, tap).await;
        self.note(&outcome).await;
        outcome.result
    }

    /// Why it is closed.
    pub(super) fn why(&self) -> LinkError {
        match &self.state {
            State::Closed { why: Some(why), .. } => why.clone(),
            _ => LinkError::Gone {
                place: self.endpoint.to_string(),
                reason: "it was closed and is being opened again".into(),
            },
        }
    }

    async fn next_baud(&mut self) -> Result<(), LinkError> {
        if self.bauds.len() > 1 {
            self.baud = (self.baud + 1) % self.bauds.len();
            self.close().await;
            self.open().await?;
        }
        Ok(())
    }

    async fn note(&mut self, outcome: &Outcome) {
        match &outcome.result {
            Ok(_) => {
                self.proven = true;
                self.silent = 0;
                self.backoff.reset();
            }
            Err(CycleError::Link(error)) => self.close_for(error.clone()).await,
            Err(_) if was_silent(outcome) => self.silent += 1,
            Err(_) => self.silent = 0,
        }
    }

    /// After a long silence of everybody: look again for the baud rate, on a new connection.
    pub(super) async fn refresh_if_mute(&mut self) {
        if self.is_open() && self.silent >= SILENT_ROUNDS * self.members.max(1) {
            self.proven = false;
            self.close().await;
        }
    }
}

fn was_silent(outcome: &Outcome) -> bool {
    let timed_out = |error: &CycleError| error.fault().kind == FaultKind::Timeout;
    outcome.heard == 0 && outcome.result.as_ref().is_err_and(timed_out)
}
