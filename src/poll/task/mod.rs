//! The task of a line: waits until a battery is due or a command arrives, opens the connection,
//! reads, and records the result.

mod commands;
mod search;

use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, sleep_until};
use tracing::{Instrument, info, trace_span, warn};

use super::battery::PolledBattery;
use super::ble;
use super::connection::Connection;
use super::cycle::{CycleError, ReadResult};
use super::{Line, LineMember};
use crate::board::Board;
use crate::clock;
use crate::command::CommandInbox;
use crate::model::DeviceId;
use crate::model::staleness::is_interrupted;
use crate::protocol::CycleKind;
use crate::tasks::Task;
use crate::transport::LinkError;
use search::{Fallback, Search, SearchStep};

/// Serves a line until the stop. After a panic it continues with new drivers on a new connection.
pub async fn run_line(line: Line, board: Board, inbox: CommandInbox, task: Task) {
    let ids: Vec<DeviceId> = line.members.iter().map(|member| member.id.clone()).collect();
    let line = LineTask::new(line, &board, task.clone(), false);
    let crashed = |panic: &str| {
        ids.iter().for_each(|id| board.record_crash(id, panic, clock::now(), clock::uptime()));
    };
    let state = (line, inbox, false);
    let (mut line, ..) = task.supervise(state, |state| serve(state).boxed(), crashed).await;
    line.connection.close().await;
}

/// The flag: it ran before, and crashed.
async fn serve((line, inbox, crashed): &mut (LineTask, CommandInbox, bool)) {
    if std::mem::replace(crashed, true) {
        line.recover().await;
    }
    let stop = line.task.stop.clone();
    stop.run_until_cancelled(line.serve(inbox)).await;
}

/// Reads each battery of a line once, for `read`, `check` and `scan`.
pub async fn read_once(line: Line, board: &Board) {
    let mut task = LineTask::new(line, board, Task::default(), true);
    for index in 0..task.batteries.len() {
        task.read_one(index).await;
    }
    task.connection.close().await;
}

async fn sleep_until_some(wakeup: Option<Instant>) {
    match wakeup {
        Some(wakeup) => sleep_until(wakeup).await,
        None => std::future::pending().await,
    }
}

/// The connection is lost.
struct Outage {
    since: Instant,
    error: LinkError,
    /// An error of the line is in the log.
    line_reported: bool,
    /// An error of the Bluetooth adapter is in the log.
    adapter_reported: bool,
}

struct LineTask {
    connection: Connection,
    batteries: Vec<PolledBattery>,
    /// The search for the brand of the line's only battery; `None` as soon as it is known.
    search: Option<Search>,
    /// What begins a search while the line's only battery does not answer; `None` as soon as it has.
    fallback: Option<Fallback>,
    board: Board,
    /// The connection was open before, so that opening it again counts as a reconnect.
    was_open: bool,
    outage: Option<Outage>,
    one_shot: bool,
    probes_first: bool,
    task: Task,
}

impl LineTask {
    fn new(line: Line, board: &Board, task: Task, one_shot: bool) -> Self {
        let unknown = line.members.iter().find(|member| member.driver.is_none());
        let search = unknown.map(|member| Search::new(member.search.clone().unwrap_or_default()));
        let fallback = match &line.members[..] {
            [LineMember { search: Some(scope), driver: Some(_), .. }] => {
                Some(Fallback::new(scope.clone(), line.bauds.clone()))
            }
            _ => None,
        };
        let recorder = line.recorder.as_ref();
        let max_reply_timeout = line.ble.as_ref().map(|_| ble::MAX_REPLY_TIMEOUT);
        let battery = |member| {
            PolledBattery::new(member, board, recorder, max_reply_timeout).at_speed(line.speed)
        };
        LineTask {
            search,
            fallback,
            connection: Connection::new(
                line.endpoint,
                line.bauds,
                line.members.len(),
                line.ble,
                task.clone(),
            ),
            batteries: line.members.into_iter().map(battery).collect(),
            board: board.clone(),
            was_open: false,
            outage: None,
            one_shot,
            probes_first: line.probes_first,
            task,
        }
    }

    async fn serve(&mut self, inbox: &mut CommandInbox) {
        loop {
            let wakeup = self.wakeup();
            let planned = wakeup.map_or(Duration::MAX, |wakeup| wakeup - Instant::now());
            match planned {
                Duration::MAX => self.task.idle(),
                // Without a wait only a read or a connection is progress.
                Duration::ZERO => {}
                wait => self.task.progress(wait),
            }
            let began = clock::uptime();
            let request = tokio::select! {
                Some(request) = inbox.recv() => Some(request),
                () = sleep_until_some(wakeup) => None,
                () = self.connection.retry_signal() => {
                    self.connection.end_pause();
                    continue;
                }
            };
            if self.connection.is_open() && is_interrupted(planned, began, clock::uptime()) {
                // What has arrived meanwhile may be of any age, and more of it may be on its way.
                self.connection.rest().await;
            }
            match request {
                Some(request) => self.handle(*request).await,
                None => self.poll_next().await,
            }
        }
    }

    /// After a panic: a driver or the connection may have stopped half-way. Readings, alarms and
    /// energy counters continue.
    async fn recover(&mut self) {
        self.connection.start_over().await;
        self.batteries.iter_mut().for_each(PolledBattery::renew_driver);
    }

    /// The battery that has waited longest, and since when; `None` while all are paused.
    fn next_due(&self) -> Option<(usize, Instant)> {
        let active = self.batteries.iter().enumerate().filter(|(_, battery)| !battery.paused);
        active.map(|(index, battery)| (index, battery.due)).min_by_key(|(_, due)| *due)
    }

    /// When to call [`poll_next`](Self::poll_next).
    fn wakeup(&self) -> Option<Instant> {
        let (_, due) = self.next_due()?;
        Some(match self.connection.open_at(due) {
            None => due,
            Some(open) if self.connection.defers() => open,
            Some(open) => due.min(open),
        })
    }

    /// Opens the connection if it is time, and reads the next battery if it is due.
    async fn poll_next(&mut self) {
        let Some((_, due)) = self.next_due() else { return };
        let opens = self.connection.open_at(due).is_some_and(|open| open <= Instant::now());
        if opens && self.open().await == SearchStep::Recorded {
            return;
        }
        if self.connection.defers() {
            return;
        }
        // With a new connection another battery may be the next one.
        if let Some((index, due)) = self.next_due()
            && due <= Instant::now()
        {
            self.attempt(index).await;
        }
    }

    /// Reads one battery regardless of when it is due, until there is a result.
    async fn read_one(&mut self, index: usize) {
        loop {
            if !self.connection.is_open() && self.open().await == SearchStep::Recorded {
                return;
            }
            if self.connection.defers() {
                sleep_until_some(self.connection.open_at(Instant::now())).await;
            } else if self.attempt(index).await == SearchStep::Recorded {
                break;
            }
        }
        if self.batteries[index].unconfirmed {
            self.attempt(index).await;
        }
    }

    /// Opens the connection, for the next candidate where the brand is unknown.
    async fn open(&mut self) -> SearchStep {
        self.task.progress(self.connection.open_limit());
        let counts = self.was_open && !self.connection.is_resting();
        let opened = match self.prepare_search().await {
            Ok(()) => self.connection.open().await,
            Err(error) => {
                self.connection.fail(error.clone()).await;
                Err(error)
            }
        };
        match opened {
            Ok(()) => {
                self.note_open(counts);
                self.narrow_search().await;
            }
            Err(error) => {
                // Without its service the battery is of another brand.
                if let LinkError::NoService { endpoint } = &error
                    && let Some(search) = &mut self.search
                {
                    let error = search.without_service(endpoint, &error);
                    return self.skip_candidate(Instant::now(), error).await;
                }
                self.note_lost(&error);
            }
        }
        SearchStep::Continue
    }

    fn note_open(&mut self, counts: bool) {
        if self.connection.ble.as_ref().is_some_and(|ble| ble.adapter_errors.clear()) {
            info!("Bluetooth works again");
        }
        if let Some(outage) = self.outage.take() {
            let (error, seconds) = (&outage.error, outage.since.elapsed().as_secs());
            if outage.line_reported || outage.adapter_reported {
                info!("{}: open again after {seconds} s", self.connection.endpoint);
            } else if matches!(error, LinkError::Gone { .. } | LinkError::Stuck { .. }) {
                // A dropped link is logged even if no read failed; a failed connect is not.
                info!("{error}; open again after {seconds} s");
            }
            for battery in &mut self.batteries {
                battery.due = Instant::now();
            }
        }
        for battery in &mut self.batteries {
            battery.connected(self.connection.link(), counts);
        }
        self.was_open = true;
    }

    /// Logs an error of the connection once per outage, and an error of the Bluetooth adapter once
    /// for all batteries.
    fn note_lost(&mut self, error: &LinkError) {
        let outage = self.outage.get_or_insert_with(|| Outage {
            since: Instant::now(),
            error: error.clone(),
            line_reported: false,
            adapter_reported: false,
        });
        let ble = self.connection.ble.as_ref().filter(|_| ble::is_adapter_error(error));
        let reported = match ble {
            Some(_) => &mut outage.adapter_reported,
            None => &mut outage.line_reported,
        };
        if self.connection.defers() || std::mem::replace(reported, true) {
            return;
        }
        let hint = error.hint();
        match ble {
            _ if self.one_shot => warn!("{error}; {hint}"),
            Some(ble) if ble.adapter_errors.insert(error) => {
                warn!("{error}; {hint}; retrying; batteries on Bluetooth are waiting");
            }
            Some(_) => {}
            None => {
                let waiting = waiting(&self.batteries);
                warn!("{error}; {hint}; retrying; {waiting}");
            }
        }
    }

    /// Reads one battery and records the result.
    async fn attempt(&mut self, index: usize) -> SearchStep {
        let started = Instant::now();
        let connected = self.connection.is_open();
        if connected && let Some(candidate) = self.search.as_ref().and_then(Search::current) {
            return self.probe_next(candidate, started).await;
        }
        if connected && self.probes_first && self.connection.has_answered() {
            match self.is_present(index).await {
                Ok(true) => {}
                Ok(false) => return SearchStep::Recorded,
                Err(error) => {
                    self.record(index, started, connected, Err(error)).await;
                    return SearchStep::Recorded;
                }
            }
        }
        let battery = &mut self.batteries[index];
        let span = trace_span!("line", device = %battery.member.id);
        let read = self.connection.run(battery, CycleKind::Read, self.one_shot);
        let result = read.instrument(span).await;
        if self.begin_fallback(&result).await {
            return SearchStep::Continue;
        }
        self.record(index, started, connected, result).await;
        SearchStep::Recorded
    }

    async fn record(
        &mut self,
        index: usize,
        started: Instant,
        connected: bool,
        result: ReadResult,
    ) {
        let battery = &mut self.batteries[index];
        if let Err(CycleError::Panicked(_)) = &result {
            battery.renew_driver();
        }
        battery.measure_signal(self.connection.link());
        let lost = match &result {
            Err(CycleError::Link(error)) => Some(error.clone()),
            _ => None,
        };
        battery.record(started, connected, result);
        if let Some(error) = lost {
            self.note_lost(&error);
        }
        self.connection.release(self.batteries[index].member.driver).await;
    }
}

/// `rack1 is waiting`, `rack1, rack2 and rack3 are waiting`
fn waiting(batteries: &[PolledBattery]) -> String {
    let names: Vec<_> = batteries.iter().map(|battery| battery.member.id.as_str()).collect();
    match names.split_last() {
        Some((last, [])) => format!("{last} is waiting"),
        Some((last, others)) => format!("{} and {last} are waiting", others.join(", ")),
        None => String::new(),
    }
}
