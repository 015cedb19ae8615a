//! The connection of a line: opened when it can be, at the baud rate that works.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::exchange::{CycleError, Outcome, cycle};
use super::health::Backoff;
use super::radio;
use crate::capture::Tap;
use crate::model::reading::Setting;
use crate::model::{FaultKind, Reading};
use crate::protocol::auto::Candidate;
use crate::protocol::{CycleKind, Driver};
use crate::transport::{Endpoint, Link, LinkError};

/// Looking whether a device node exists costs nothing, so a replugged adapter is found soon.
const PAUSES_LOCAL: &[Duration] = &seconds([1, 2, 4, 5]);
/// A host that is away is left in peace.
const PAUSES_REMOTE: &[Duration] = &seconds([1, 2, 4, 8, 16, 32, 60]);
/// Radio noise is over in a moment; what lasts longer has gone away.
const PAUSES_RADIO: &[Duration] = &[
    QUICK,
    QUICK,
    QUICK,
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
];
const QUICK: Duration = Duration::from_millis(250);
/// So many tries on Bluetooth are nobody's business: one in a few fails even beside the battery.
const QUICK_TRIES: usize = 3;
/// Silent attempts of every member after which the connection is opened anew: a USB adapter can
/// hang, a TCP connection can be half open.
const SILENT_ROUNDS: usize = 3;
/// Saying goodbye must not hold up the stop.
const GOODBYE: Duration = Duration::from_millis(500);
/// Bluetooth: the battery has one slot, so the next connection waits until this one has ended.
const GOODBYE_RADIO: Duration = Duration::from_secs(8);

const fn seconds<const N: usize>(counts: [u64; N]) -> [Duration; N] {
    let mut list = [Duration::ZERO; N];
    let mut at = 0;
    while at < N {
        list[at] = Duration::from_secs(counts[at]);
        at += 1;
    }
    list
}

/// The connection of a line.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) endpoint: Endpoint,
    bauds: Vec<u32>,
    baud: usize,
    /// The one rate of the brand that is asked for, while that is being found out and afterwards.
    aimed: Option<u32>,
    state: State,
    backoff: Backoff,
    radio: bool,
    /// Somebody answered at this baud rate.
    proven: bool,
    /// Attempts in a row in which nothing at all was heard.
    silent: usize,
    members: usize,
}

#[derive(Debug)]
enum State {
    Open(Link),
    /// It failed, or it is being opened anew.
    Closed {
        why: Option<LinkError>,
        retry: Instant,
    },
    /// Closed until a battery is due, and not before this moment.
    Resting(Instant),
}

impl Wire {
    pub(super) fn new(endpoint: Endpoint, bauds: Vec<u32>, members: usize, radio: bool) -> Self {
        let pauses = match endpoint {
            _ if radio => PAUSES_RADIO,
            Endpoint::Tcp(_) => PAUSES_REMOTE,
            _ => PAUSES_LOCAL,
        };
        Wire {
            endpoint,
            bauds,
            baud: 0,
            aimed: None,
            state: State::Closed { why: None, retry: Instant::now() },
            backoff: Backoff::new(pauses),
            radio,
            proven: false,
            silent: 0,
            members,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// The rates to try, as they were configured.
    pub(super) fn bauds(&self) -> &[u32] {
        &self.bauds
    }

    /// The open link.
    pub(super) fn link(&self) -> Option<&Link> {
        match &self.state {
            State::Open(link) => Some(link),
            _ => None,
        }
    }

    /// When there is something to do, where the next battery is due at this moment.
    pub(super) fn wake(&self, due: Instant) -> Instant {
        match self.state {
            State::Open(_) => due,
            State::Closed { retry, .. } if self.postpones() => retry,
            State::Closed { retry, .. } => due.min(retry),
            State::Resting(until) => due.max(until),
        }
    }

    /// Whether it is to be opened now.
    pub(super) fn wants_open(&self, due: Instant, now: Instant) -> bool {
        match self.state {
            State::Open(_) => false,
            State::Closed { retry, .. } => retry <= now,
            State::Resting(until) => due.max(until) <= now,
        }
    }

    /// Whether a battery that is due should wait for the connection rather than book a failure.
    pub(super) fn postpones(&self) -> bool {
        match &self.state {
            State::Open(_) => false,
            State::Closed { why: None, .. } | State::Resting(_) => true,
            State::Closed { why: Some(error), .. } => {
                self.radio && self.backoff.tries() <= QUICK_TRIES && radio::may_pass(error)
            }
        }
    }

    /// Closed on purpose, not by a failure.
    pub(super) fn is_resting(&self) -> bool {
        matches!(self.state, State::Resting(_))
    }

    /// Opens the connection; a failure is kept as the reason of the attempts that follow.
    pub(super) async fn open(&mut self) -> Result<(), LinkError> {
        let usual = self.bauds.get(self.baud).copied().unwrap_or(9600);
        let baud = self.aimed.unwrap_or(usual);
        match self.endpoint.open(baud).await {
            Ok(link) => {
                self.state = State::Open(link);
                self.silent = 0;
                Ok(())
            }
            Err(error) => {
                self.fail(error.clone()).await;
                Err(error)
            }
        }
    }

    /// Closes the connection until somebody opens it again.
    pub(super) async fn close(&mut self) {
        self.leave(State::Closed { why: None, retry: Instant::now() }, GOODBYE).await;
    }

    /// Closes the connection until a battery is due.
    pub(super) async fn rest(&mut self) {
        self.leave(State::Resting(Instant::now()), GOODBYE_RADIO).await;
    }

    async fn leave(&mut self, state: State, patience: Duration) {
        if let State::Open(link) = std::mem::replace(&mut self.state, state) {
            // A goodbye that does not get through is no reason to stay.
            let _ = timeout(patience, link.close()).await;
        }
    }

    /// Closes it after a failure of the connection.
    pub(super) async fn fail(&mut self, why: LinkError) {
        self.close().await;
        let retry = Instant::now() + self.backoff.pause();
        self.state = State::Closed { why: Some(why), retry };
    }

    /// Prepares for asking as this brand; what was learned about another one is forgotten.
    pub(super) async fn aim(&mut self, candidate: &Candidate) {
        let changed = match (&mut self.endpoint, candidate.baud) {
            (Endpoint::Ble(config), _) => {
                let places = radio::places(candidate.driver);
                let changed = config.places != places;
                config.places = places;
                changed
            }
            (_, baud) => std::mem::replace(&mut self.aimed, baud) != baud,
        };
        if changed {
            self.start_over().await;
        }
    }

    /// Forgets everything that was learned about the other side.
    pub(super) async fn start_over(&mut self) {
        self.close().await;
        self.backoff.reset();
        (self.proven, self.silent) = (false, 0);
    }

    /// One attempt with one battery. Until somebody has answered on this wire, each baud rate is
    /// tried twice (a driver may alternate between two forms of its question); nobody else is
    /// slowed by that. Afterwards a silent battery costs one time-out. On Bluetooth a silent link
    /// may be a dead one, so the next attempt gets a new one instead.
    pub(super) async fn attempt(
        &mut self,
        driver: &mut dyn Driver,
        limit: Duration,
        patient: bool,
        tap: &mut Tap,
    ) -> Result<Outcome, LinkError> {
        let tries = match (self.proven, patient) {
            _ if self.radio => 1,
            (true, false) => 1,
            (true, true) => 2,
            (false, _) => self.rounds(),
        };
        for number in 1.. {
            let State::Open(link) = &mut self.state else { break };
            let outcome = cycle(driver, link, CycleKind::Read, limit, tap).await;
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
        let outcome = cycle(driver, link, CycleKind::Write(setting), limit, tap).await;
        self.note(&outcome).await;
        outcome.result
    }

    /// Attempts until everything was tried twice.
    fn rounds(&self) -> usize {
        if self.aimed.is_some() { 2 } else { 2 * self.bauds.len().max(1) }
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
        if self.aimed.is_none() && self.bauds.len() > 1 {
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
            Err(CycleError::Link(error)) => self.fail(error.clone()).await,
            Err(error) if self.radio => {
                if radio::leaves_doubt(error.fault().kind) {
                    let until = Instant::now() + self.backoff.pause();
                    self.leave(State::Resting(until), GOODBYE_RADIO).await;
                }
            }
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
