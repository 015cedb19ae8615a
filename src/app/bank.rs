//! The task of a bank: combines the readings of its members whenever they change.

use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

use crate::board::Board;
use crate::clock;
use crate::command::{Command, CommandBus, CommandError, CommandInbox, Request};
use crate::config;
use crate::model::bank::{Bank, Member};
use crate::model::units::millis;
use crate::model::{DeviceId, DeviceState, Fault, FaultKind, LinkState, Uptime, staleness};
use crate::tasks::Task;

/// Members that share a line are read in turn, so wait this long for the next reading before
/// publishing.
const SETTLE: Duration = Duration::from_millis(500);
/// Reads that may be forwarded to members at the same time.
const MAX_FORWARDED: usize = 8;

/// Keeps a bank up to date until the stop.
pub(super) async fn run_bank(
    bank: config::Bank,
    board: Board,
    commands: CommandBus,
    inbox: CommandInbox,
    task: Task,
) {
    let id = bank.profile.id.clone();
    let state = (BankTask::new(bank, board.clone()), inbox, commands, task.clone());
    let crashed = |panic: &str| {
        board.record_crash(&id, panic, clock::now(), clock::uptime());
    };
    task.supervise(state, |state| serve(state).boxed(), crashed).await;
}

async fn serve((bank, inbox, commands, task): &mut (BankTask, CommandInbox, CommandBus, Task)) {
    let mut changes = bank.board.changes();
    let serve = async {
        loop {
            let now = Instant::now();
            let wakeup = bank.update(now);
            task.progress(wakeup.saturating_duration_since(now));
            tokio::select! {
                Some(request) = inbox.recv() => bank.handle(*request, commands),
                Some(_) = bank.forwarded.join_next() => {}
                Ok(()) = changes.changed() => sleep(SETTLE).await,
                () = sleep_until(wakeup) => {}
            }
        }
    };
    task.stop.run_until_cancelled(serve).await;
}

struct MemberState {
    state: watch::Receiver<DeviceState>,
    /// Number of the last good read.
    sequence: u64,
    last_read: Option<Instant>,
    present: bool,
}

impl MemberState {
    /// When the member is missing unless it is read again; `None` before the first read.
    fn valid_until(&self) -> Option<Instant> {
        let interval = Duration::from_millis(self.state.borrow().profile.interval_ms);
        Some(self.last_read? + staleness::reading_lifetime(interval))
    }

    /// Takes note of the newest state; true if that changes the bank.
    fn update(&mut self, now: Instant) -> bool {
        let state = self.state.borrow();
        let sequence = state.snapshot.as_ref().map_or(0, |snapshot| snapshot.sequence);
        let online = state.link == LinkState::Online;
        drop(state);
        let is_new = std::mem::replace(&mut self.sequence, sequence) != sequence;
        if is_new {
            self.last_read = Some(now);
        }
        let was_present = self.present;
        self.present = online && self.valid_until().is_some_and(|until| now < until);
        was_present != self.present || (is_new && self.present)
    }
}

struct BankTask {
    id: DeviceId,
    bank: Bank,
    members: Vec<MemberState>,
    board: Board,
    /// Zero of the bank's monotonic clock.
    began: Instant,
    last_record: Instant,
    /// The longest interval of the members.
    interval: Duration,
    /// Whether all members were present; `None` before the first record.
    complete: Option<bool>,
    forwarded: JoinSet<()>,
}

impl BankTask {
    fn new(bank: config::Bank, board: Board) -> Self {
        let now = Instant::now();
        let states = bank.members.iter().filter_map(|id| board.subscribe(id));
        let member = |state| MemberState { state, sequence: 0, last_read: None, present: false };
        BankTask {
            id: bank.profile.id,
            bank: Bank::new(bank.wiring),
            members: states.map(member).collect(),
            board,
            began: now,
            last_record: now,
            interval: SETTLE,
            complete: None,
            forwarded: JoinSet::new(),
        }
    }

    /// Publishes what has changed. Returns when to call this again if no member changes.
    fn update(&mut self, now: Instant) -> Instant {
        let mut changed = false;
        for member in &mut self.members {
            changed |= member.update(now);
        }
        self.update_interval();
        let is_first = self.complete.is_none();
        let connecting = |member: &MemberState| member.state.borrow().link == LinkState::Connecting;
        // Published now, a member would be missing that is merely the next one to be read.
        let waits = is_first && self.members.iter().any(connecting);
        let failure_due = !self.any_present() && now >= self.last_record + self.interval;
        if !waits && (is_first || changed || failure_due) {
            self.record(now);
        }
        let present = self.members.iter().filter(|member| member.present);
        let next = now + self.interval;
        present.filter_map(MemberState::valid_until).min().map_or(next, |until| until.min(next))
    }

    /// Operators change the intervals of the members at run time.
    fn update_interval(&mut self) {
        let intervals = self.members.iter().map(|member| member.state.borrow().profile.interval_ms);
        let Some(longest) = intervals.max() else { return };
        self.interval = Duration::from_millis(longest).max(SETTLE);
        self.board.update_profile(&self.id, |profile| profile.interval_ms = longest);
    }

    /// Publishes the totals, or that no battery answers.
    fn record(&mut self, now: Instant) {
        self.last_record = now;
        let time = clock::now();
        if !self.any_present() {
            self.log_missing(true, "no battery answers");
            let message = "no battery of the bank answers";
            let fault = Fault::new(FaultKind::Timeout, message, "see the error of each battery");
            return self.board.update(&self.id, |state| {
                state.record_attempt(time, 0, false, Some(fault));
                state.mark_offline(time);
            });
        }
        let states: Vec<_> =
            self.members.iter().map(|member| member.state.borrow().clone()).collect();
        let members = states.iter().zip(&self.members);
        let members: Vec<_> =
            members.map(|(state, member)| Member { state, present: member.present }).collect();
        let (reading, derived) = self.bank.combine(&members, Uptime(millis(now - self.began)));
        let present = members.iter().filter(|member| member.present);
        let oldest = present.filter_map(|member| member.state.read_at).min();
        let read_at = oldest.unwrap_or_else(clock::uptime);
        let missing = derived.bank.iter().flat_map(|bank| &bank.missing);
        let missing: Vec<_> = missing.map(DeviceId::as_str).collect();
        self.log_missing(!missing.is_empty(), &format!("missing: {}", missing.join(", ")));
        self.board.update(&self.id, |state| {
            state.record_attempt(time, 0, true, None);
            state.accept((time, read_at), 0, reading, derived);
        });
    }

    fn any_present(&self) -> bool {
        self.members.iter().any(|member| member.present)
    }

    /// Logs the first record of an incomplete bank, and when it is complete again.
    fn log_missing(&mut self, incomplete: bool, reason: &str) {
        let id = &self.id;
        if incomplete && self.complete != Some(false) {
            warn!("{id}: {reason}; bank totals are not published");
        } else if !incomplete && self.complete == Some(false) {
            info!("{id}: complete again");
        }
        self.complete = Some(!incomplete);
    }

    /// Forwards a read to all members; a bank accepts no other command.
    fn handle(&mut self, request: Request, commands: &CommandBus) {
        let refuse = |reason: &str| Err(CommandError(format!("{} {reason}", self.id)));
        let answer = match request.command {
            Command::Read if self.forwarded.len() < MAX_FORWARDED => {
                for member in &self.members {
                    let id = member.state.borrow().profile.id.clone();
                    let commands = commands.clone();
                    // A member that cannot be read has an error of its own on the board.
                    let send = async move { drop(commands.send(&id, Command::Read).await) };
                    self.forwarded.spawn(send.boxed());
                }
                Ok(())
            }
            Command::Read => refuse("is already being read"),
            Command::Configure(_) => refuse("is a bank: configure its batteries"),
            Command::Switch(_) => refuse("is a bank: switch its batteries"),
        };
        // The requester may have dropped its receiver.
        let _ = request.reply.send(answer);
    }
}

#[cfg(test)]
#[path = "bank_tests.rs"]
mod tests;
