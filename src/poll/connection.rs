//! The connection of a line: when it is opened and closed, and at which baud rate.

use std::future::pending;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tracing::debug;

use super::backoff::{Backoff, Pause};
use super::battery::PolledBattery;
use super::ble::{self, BleSettings};
use super::cycle::{CycleError, Outcome, ReadResult, cycle};
use crate::capture::TrafficLog;
use crate::model::FaultKind;
use crate::protocol::detection::{Candidate, Probe};
use crate::protocol::{CycleKind, DriverInfo};
use crate::tasks::Task;
use crate::transport::{BleChannel, Link, LinkConfig, LinkError, esphome};

/// Pauses in ms before a serial port is opened again. Looking for a device node costs nothing, so a
/// replugged adapter is found soon.
const SERIAL_PAUSES: &[u64] = &[1_000, 2_000, 4_000, 5_000];
/// Pauses in ms before a connection to a bridge or another device is retried. Asking one that is off
/// costs a few packets.
const TCP_PAUSES: &[u64] = &[1_000, 2_000, 4_000, 8_000, 15_000];
/// Pauses in ms before a Bluetooth connection is retried. Interference is over in a moment; a
/// battery that stays unreachable is out of range or in use, and each attempt keeps the adapter from
/// the others. The transport signals the return of the adapter or the battery.
const BLE_PAUSES: &[u64] = &[250, 250, 250, 5_000, 10_000, 30_000, 60_000];
/// Bluetooth connects that fail before a read counts as failed: one in a few fails even at close
/// range.
const UNCOUNTED_BLE_FAILURES: usize = 3;
/// Silent reads of every battery after which the connection is reopened: a USB adapter can hang
/// and a TCP connection can be half open.
const SILENT_READS: usize = 3;
/// Short, because closing must not delay the shutdown.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
/// A battery accepts one Bluetooth connection, so the next one waits until this one has ended.
const BLE_CLOSE_TIMEOUT: Duration = Duration::from_secs(8);
/// A cycle may take as long as this many replies.
const REPLIES_PER_CYCLE: u32 = 12;
/// A driver has a few quick questions at most.
const PROBE_LIMIT: Duration = Duration::from_secs(30);
/// The shortest limit of a cycle: a text console needs a pause before its first command.
const MIN_CYCLE_LIMIT: Duration = Duration::from_secs(10);
/// Longer than anything that the limits of an operation leave out, such as closing the connection.
const MARGIN: Duration = Duration::from_secs(60);
/// Other batteries may use the Bluetooth adapter: for a minute before each scan of five seconds, and
/// a few times besides.
const WAITS_PER_SCAN_TIME: u32 = 12;
const OTHER_WAITS: Duration = Duration::from_secs(5 * 60);

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) endpoint: LinkConfig,
    /// `None` everywhere else.
    pub(super) ble: Option<BleSettings>,
    /// Rates to try; the further ones only until a battery has answered.
    bauds: Vec<u32>,
    /// Index into `bauds` of the rate in use.
    baud: usize,
    state: ConnectionState,
    backoff: Backoff,
    /// A battery has answered at this baud rate.
    answered: bool,
    /// Consecutive reads in which no byte was received.
    silent_reads: usize,
    batteries: usize,
    /// Brands are tried on it, so a wrong one does not end it.
    pub(super) searching: bool,
    task: Task,
}

#[derive(Debug)]
enum ConnectionState {
    Open(Link),
    /// Lost to an error, or closed in order to be reopened (`None`).
    Closed {
        error: Option<LinkError>,
        pause: Pause,
    },
    /// Closed until a battery is due, and not before this moment.
    Resting(Instant),
}

impl Connection {
    pub(super) fn new(
        endpoint: LinkConfig,
        bauds: Vec<u32>,
        batteries: usize,
        ble: Option<BleSettings>,
        task: Task,
    ) -> Self {
        let pauses = match endpoint {
            _ if ble.is_some() => BLE_PAUSES,
            _ if endpoint.is_remote() => TCP_PAUSES,
            _ => SERIAL_PAUSES,
        };
        Connection {
            endpoint,
            ble,
            bauds,
            baud: 0,
            state: ConnectionState::Closed { error: None, pause: Pause::over() },
            backoff: Backoff::new(pauses),
            answered: false,
            silent_reads: 0,
            batteries,
            searching: false,
            task,
        }
    }

    /// Opening it never takes longer, even if nothing answers.
    pub(super) fn open_limit(&self) -> Duration {
        match &self.endpoint {
            LinkConfig::Ble(config) => {
                2 * config.timeout + WAITS_PER_SCAN_TIME * config.scan_timeout + OTHER_WAITS
            }
            LinkConfig::Esphome(_) => esphome::OPEN_LIMIT + MARGIN,
            _ => MARGIN,
        }
    }

    pub(super) fn link(&self) -> Option<&Link> {
        match &self.state {
            ConnectionState::Open(link) => Some(link),
            _ => None,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.link().is_some()
    }

    /// Whether a battery has answered at this baud rate.
    pub(super) fn has_answered(&self) -> bool {
        self.answered
    }

    /// Whether it was closed on purpose between two reads.
    pub(super) fn is_resting(&self) -> bool {
        matches!(self.state, ConnectionState::Resting(_))
    }

    /// When to open it for a battery that is due at this moment; `None` while it is open.
    pub(super) fn open_at(&self, due: Instant) -> Option<Instant> {
        match &self.state {
            ConnectionState::Open(_) => None,
            ConnectionState::Closed { pause, .. } => Some(pause.until()),
            ConnectionState::Resting(until) => Some(due.max(*until)),
        }
    }

    /// Waits until the back-off may end early: see [`RetrySignal`](crate::transport::RetrySignal).
    pub(super) async fn retry_signal(&self) {
        match &self.state {
            ConnectionState::Closed { pause, .. } => pause.signalled().await,
            _ => pending().await,
        }
    }

    pub(super) fn end_pause(&mut self) {
        if let ConnectionState::Closed { pause, .. } = &mut self.state {
            debug!("{}: worth another attempt before the pause is over", self.endpoint);
            pause.end(&mut self.backoff);
        }
    }

    /// Whether a battery that is due waits for the connection, instead of counting a failed read.
    pub(super) fn defers(&self) -> bool {
        match &self.state {
            ConnectionState::Open(_) => false,
            ConnectionState::Closed { error: None, .. } | ConnectionState::Resting(_) => true,
            ConnectionState::Closed { error: Some(error), .. } => {
                self.ble.is_some()
                    && self.backoff.tries() <= UNCOUNTED_BLE_FAILURES
                    && matches!(
                        error,
                        LinkError::Open { .. } | LinkError::Gone { .. } | LinkError::Busy { .. }
                    )
            }
        }
    }

    /// Opens it. An error becomes the result of the reads until the next try.
    pub(super) async fn open(&mut self) -> Result<(), LinkError> {
        let baud = self.bauds.get(self.baud).copied().unwrap_or(9600);
        if let ConnectionState::Closed { pause, .. } = &mut self.state {
            // What waited for the return of the adapter or the battery would disturb the attempt.
            *pause = Pause::over();
        }
        match self.endpoint.open(baud).await {
            Ok(link) => {
                self.state = ConnectionState::Open(link);
                self.silent_reads = 0;
                Ok(())
            }
            Err(error) => {
                self.fail(error.clone()).await;
                Err(error)
            }
        }
    }

    /// Closes it, to be opened again as soon as a battery is due.
    pub(super) async fn close(&mut self) {
        let closed = ConnectionState::Closed { error: None, pause: Pause::over() };
        self.leave(closed, CLOSE_TIMEOUT).await;
    }

    /// Closes it until the next battery is due.
    pub(super) async fn rest(&mut self) {
        self.leave(ConnectionState::Resting(Instant::now()), BLE_CLOSE_TIMEOUT).await;
    }

    async fn leave(&mut self, state: ConnectionState, limit: Duration) {
        if let ConnectionState::Open(link) = std::mem::replace(&mut self.state, state) {
            // An unresponsive peer does not keep the connection open.
            let _ = timeout(limit, link.close()).await;
        }
    }

    /// Closes it because of an error, until the back-off is over.
    pub(super) async fn fail(&mut self, error: LinkError) {
        self.close().await;
        let pause = Pause::new(&mut self.backoff, self.endpoint.retry_signal(&error));
        let seconds = (pause.until() - Instant::now()).as_secs_f32();
        debug!("{}: next attempt within {seconds:.1} s", self.endpoint);
        self.state = ConnectionState::Closed { error: Some(error), pause };
    }

    /// Why there is no link.
    pub(super) fn closed_reason(&self) -> LinkError {
        match &self.state {
            ConnectionState::Closed { error: Some(error), .. } => error.clone(),
            _ => LinkError::Gone {
                endpoint: self.endpoint.to_string(),
                reason: "it was closed and is being opened again".into(),
            },
        }
    }

    /// Sets what the candidate needs: its baud rate, or its first channel among those that the
    /// battery has.
    pub(super) async fn configure_for(&mut self, candidate: &Candidate, existing: &[BleChannel]) {
        let changed = match &mut self.endpoint {
            LinkConfig::Ble(config) => {
                let own = ble::ble_channels(candidate.driver);
                let channels = Vec::from_iter(own.into_iter().find(|one| existing.contains(one)));
                let changed = config.channels != channels;
                config.channels = channels;
                changed
            }
            _ => return self.use_bauds(Vec::from_iter(candidate.baud)).await,
        };
        if changed {
            self.start_over().await;
        }
    }

    /// Sets the baud rates to try.
    pub(super) async fn use_bauds(&mut self, bauds: Vec<u32>) {
        if self.bauds != bauds {
            (self.bauds, self.baud) = (bauds, 0);
            self.start_over().await;
        }
    }

    /// Asks quick questions. The error of the link, if that is lost.
    pub(super) async fn probe(
        &mut self,
        probe: &mut Probe<'_>,
        traffic: &mut TrafficLog,
    ) -> Result<(), CycleError> {
        let ConnectionState::Open(link) = &mut self.state else {
            return Err(self.closed_reason().into());
        };
        self.task.progress(PROBE_LIMIT + MARGIN);
        let outcome = cycle(probe, link, CycleKind::Read, PROBE_LIMIT, traffic).await;
        match outcome.result {
            Err(CycleError::Link(error)) => {
                self.fail(error.clone()).await;
                Err(error.into())
            }
            Err(error @ CycleError::Panicked(_)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Closes it and forgets what was learned about the other side.
    pub(super) async fn start_over(&mut self) {
        self.close().await;
        self.backoff.reset();
        self.answered = false;
        self.silent_reads = 0;
    }

    /// Runs a cycle with one battery.
    ///
    /// Until a battery has answered, a read is tried twice at each baud rate, because a driver may
    /// alternate between two forms of its request. Afterwards a silent battery costs one timeout,
    /// or two where `one_shot` says that there will be no other read. On Bluetooth a silent link
    /// may be dead, so the next read gets a new one instead.
    pub(super) async fn run(
        &mut self,
        battery: &mut PolledBattery,
        kind: CycleKind,
        one_shot: bool,
    ) -> ReadResult {
        let timeout = battery.member.options.timeout;
        let limit = match &self.ble {
            Some(_) => timeout,
            None => (timeout * REPLIES_PER_CYCLE).max(MIN_CYCLE_LIMIT),
        };
        let Some(driver) = &mut battery.driver else { return Err(self.closed_reason().into()) };
        let tries = match (kind, self.answered) {
            (CycleKind::Write(_), _) => 1,
            _ if self.ble.is_some() => 1,
            (_, true) => 1 + usize::from(one_shot),
            (_, false) => 2 * self.bauds.len().max(1),
        };
        for number in 1.. {
            let ConnectionState::Open(link) = &mut self.state else { break };
            self.task.progress(limit + MARGIN);
            let outcome = cycle(&mut **driver, link, kind, limit, &mut battery.traffic).await;
            self.note_outcome(&outcome).await;
            if !outcome.is_silent() || number >= tries {
                return outcome.result;
            }
            if !self.answered && number % 2 == 0 {
                self.next_baud().await?;
                driver.reset();
                battery.traffic.reset();
            }
        }
        Err(self.closed_reason().into())
    }

    async fn next_baud(&mut self) -> Result<(), LinkError> {
        if self.bauds.len() > 1 {
            self.baud = (self.baud + 1) % self.bauds.len();
            self.close().await;
            self.open().await?;
        }
        Ok(())
    }

    async fn note_outcome(&mut self, outcome: &Outcome) {
        match &outcome.result {
            Ok(_) => {
                self.answered = true;
                self.silent_reads = 0;
                self.backoff.reset();
            }
            Err(CycleError::Link(error)) => self.fail(error.clone()).await,
            Err(error) if self.ble.is_some() && !self.searching => {
                let kind = error.fault().kind;
                // A battery that replies with an error is awake and connected.
                if !matches!(
                    kind,
                    FaultKind::BmsError | FaultKind::AuthFailed | FaultKind::UnsupportedFrame
                ) {
                    let until = Instant::now() + self.backoff.pause();
                    self.leave(ConnectionState::Resting(until), BLE_CLOSE_TIMEOUT).await;
                }
            }
            Err(_) if outcome.is_silent() => self.silent_reads += 1,
            Err(_) => self.silent_reads = 0,
        }
    }

    /// After a read or a command: frees a Bluetooth battery for other programs. Closes a line on
    /// which all batteries are silent, so that it is reopened, at any of its baud rates.
    pub(super) async fn release(&mut self, driver: Option<&DriverInfo>) {
        match &self.ble {
            _ if !self.is_open() => {}
            Some(ble) if !ble.keeps_connected(driver) => self.rest().await,
            _ if self.silent_reads >= SILENT_READS * self.batteries => {
                self.answered = false;
                self.close().await;
            }
            _ => {}
        }
    }
}
