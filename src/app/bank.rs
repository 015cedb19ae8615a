//! A bank at work: follows its members and puts what they are together on the board.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::board::Board;
use crate::clock;
use crate::command::{Command, CommandBus, CommandError, CommandInbox, Request};
use crate::config;
use crate::model::bank::{Bank, Member};
use crate::model::units::Uptime;
use crate::model::{DeviceId, DeviceState, Fault, FaultKind, LinkState};

/// Members of one bus are read one after the other; so long the bank waits for the next one.
const SETTLE: Duration = Duration::from_millis(500);
/// Commands that are being handed on at the same time.
const ERRANDS: usize = 8;

/// Keeps a bank up to date until the stop.
pub(super) async fn run_bank(
    bank: config::Bank,
    board: Board,
    commands: CommandBus,
    mut inbox: CommandInbox,
    stop: CancellationToken,
) {
    let bell = Arc::new(Notify::new());
    let mut ringers = JoinSet::new();
    let mut members = Vec::new();
    for id in &bank.members {
        let (Some(slot), Some(mut followed)) = (board.subscribe(id), board.subscribe(id)) else {
            continue;
        };
        members.push(Seen { slot, sequence: 0, heard: None, present: false });
        let bell = bell.clone();
        ringers.spawn(
            async move {
                while followed.changed().await.is_ok() {
                    bell.notify_one();
                }
            }
            .boxed(),
        );
    }
    let mut post = Post::new(bank, members, board);
    let mut errands = JoinSet::new();
    loop {
        let wake = post.look(Instant::now());
        tokio::select! {
            () = stop.cancelled() => return,
            Some(request) = inbox.recv() => post.obey(request, &commands, &mut errands),
            Some(_) = errands.join_next(), if !errands.is_empty() => {}
            () = bell.notified() => tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(SETTLE) => {}
            },
            () = sleep_until(wake) => {}
        }
    }
}

/// A member, and when something was heard of it.
struct Seen {
    slot: watch::Receiver<DeviceState>,
    /// Number of its last good read.
    sequence: u64,
    heard: Option<Instant>,
    present: bool,
}

impl Seen {
    /// Until when what it said holds; afterwards it is missing.
    fn holds_until(&self) -> Option<Instant> {
        let interval = Duration::from_millis(self.slot.borrow().profile.interval_ms);
        Some(self.heard? + LinkState::patience(interval))
    }

    /// Takes note of what is new; true when that changes the bank.
    fn look(&mut self, now: Instant) -> bool {
        let (sequence, online) = {
            let state = self.slot.borrow_and_update();
            (state.snapshot.as_ref().map_or(0, |it| it.sequence), state.link == LinkState::Online)
        };
        let moved = sequence != self.sequence;
        if moved {
            self.sequence = sequence;
            self.heard = Some(now);
        }
        let present = online && self.holds_until().is_some_and(|until| now < until);
        let changed = present != self.present;
        self.present = present;
        changed || (moved && present)
    }
}

struct Post {
    id: DeviceId,
    bank: Bank,
    members: Vec<Seen>,
    board: Board,
    began: Instant,
    /// When the last attempt was booked.
    booked: Instant,
    /// That of its slowest member.
    interval: Duration,
    /// Whether all were there; `None` before the first time.
    complete: Option<bool>,
}

impl Post {
    fn new(bank: config::Bank, members: Vec<Seen>, board: Board) -> Self {
        let now = Instant::now();
        Post {
            id: bank.profile.id,
            bank: Bank::new(bank.wiring),
            members,
            board,
            began: now,
            booked: now,
            interval: SETTLE,
            complete: None,
        }
    }

    /// Puts what is new on the board; returns when to look again although nothing was heard.
    fn look(&mut self, now: Instant) -> Instant {
        let mut changed = false;
        for member in &mut self.members {
            changed |= member.look(now);
        }
        self.keep_pace();
        let answering = self.members.iter().any(|member| member.present);
        let first = self.complete.is_none();
        if first && self.is_undecided() {
            // Said now, a member would be missing that is merely the next to be asked.
        } else if answering {
            if first || changed {
                self.book_good(now);
            }
        } else if first || changed || now >= self.booked + self.interval {
            self.book_bad(now);
        }
        let stale = self.members.iter().filter(|member| member.present);
        let stale = stale.filter_map(Seen::holds_until).min();
        let beat = now + self.interval;
        stale.map_or(beat, |stale| stale.min(beat))
    }

    /// Operators change how often the members are read while the program runs.
    fn keep_pace(&mut self) {
        let paces = self.members.iter().map(|it| it.slot.borrow().profile.interval_ms);
        let Some(slowest) = paces.max() else { return };
        self.interval = Duration::from_millis(slowest).max(SETTLE);
        self.board.update_profile(&self.id, |profile| profile.interval_ms = slowest);
    }

    /// Somebody has not answered yet, and has not failed often enough to count as offline.
    fn is_undecided(&self) -> bool {
        self.members.iter().any(|member| member.slot.borrow().link == LinkState::Connecting)
    }

    fn book_good(&mut self, now: Instant) {
        let states: Vec<(DeviceState, bool)> =
            self.members.iter().map(|it| (it.slot.borrow().clone(), it.present)).collect();
        let members: Vec<Member<'_>> =
            states.iter().map(|(state, present)| Member { state, present: *present }).collect();
        let at = u64::try_from((now - self.began).as_millis()).unwrap_or(u64::MAX);
        let (reading, derived) = self.bank.combine(&members, Uptime(at));
        let missing: Vec<_> =
            derived.bank.iter().flat_map(|it| &it.missing).map(ToString::to_string).collect();
        self.tell(missing.is_empty(), &missing.join(", "));
        self.record(now, None, |state| state.accept(clock::now(), 0, reading, derived));
    }

    fn book_bad(&mut self, now: Instant) {
        self.tell(false, "anybody");
        let message = "no battery of the bank answers";
        let hint = "each battery says what is wrong with it";
        let fault = Fault::new(FaultKind::Timeout, message, hint);
        self.record(now, Some(fault), |state| state.mark_offline(clock::now()));
    }

    fn record(
        &mut self,
        now: Instant,
        fault: Option<Fault>,
        change: impl FnOnce(&mut DeviceState),
    ) {
        self.booked = now;
        self.board.update(&self.id, |state| {
            state.record_attempt(clock::now(), 0, fault.is_none(), fault);
            change(state);
        });
    }

    fn tell(&mut self, complete: bool, missing: &str) {
        let id = &self.id;
        match (self.complete, complete) {
            (None | Some(true), false) => {
                warn!("{id}: without {missing}; what stands for all batteries is not published");
            }
            (Some(false), true) => info!("{id}: complete again"),
            _ => {}
        }
        self.complete = Some(complete);
    }

    /// A read of the bank is one of each member; nothing else can be asked of it.
    fn obey(&self, request: Request, commands: &CommandBus, errands: &mut JoinSet<()>) {
        let refuse = |why: &str| Err(CommandError(format!("{} {why}", self.id)));
        let answer = match request.command {
            Command::Read if errands.len() < ERRANDS => {
                let members = self.members.iter();
                for id in members.map(|member| member.slot.borrow().profile.id.clone()) {
                    let commands = commands.clone();
                    errands.spawn(
                        async move {
                            // A member that cannot be read says so itself.
                            let _ = commands.send(&id, Command::Read).await;
                        }
                        .boxed(),
                    );
                }
                Ok(())
            }
            Command::Read => refuse("is being read already"),
            Command::Configure(_) => refuse("is a bank: configure its batteries"),
            Command::Switch(_) => refuse("is a bank: switch its batteries"),
        };
        // Whoever asked may have gone away meanwhile.
        let _ = request.reply.send(answer);
    }
}

#[cfg(test)]
#[path = "bank_tests.rs"]
mod tests;
