//! A battery while it is served: its driver, its health, and its slot on the board.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::Member;
use super::alarms::AlarmLog;
use super::exchange::CycleError;
use super::health::{Change, Health, next_due};
use super::search::Search;
use crate::board::Board;
use crate::capture::{Recorder, Tap};
use crate::clock;
use crate::command;
use crate::model::derived_state::DerivedState;
use crate::model::plausible::PlausibilityFilter;
use crate::model::units::Uptime;
use crate::model::{DeviceState, Fault, LinkState, Profile, Reading};
use crate::protocol::{Driver, DriverInfo};

/// A whole cycle may take so many single answers' time.
const ANSWERS_PER_CYCLE: u32 = 12;
/// And at least this: a console wants to be left quiet before it is spoken to.
const SHORTEST_LIMIT: Duration = Duration::from_secs(10);

/// A battery while it is served.
pub(super) struct Served {
    pub(super) member: Member,
    /// `None` until it is found out what it is.
    pub(super) driver: Option<Box<dyn Driver>>,
    pub(super) search: Search,
    /// Strength of its Bluetooth signal when it was last heard.
    pub(super) signal: Option<i16>,
    pub(super) due: Instant,
    pub(super) paused: bool,
    /// Where its conversation is written down.
    pub(super) tap: Tap,
    health: Health,
    board: Board,
    gate: PlausibilityFilter,
    past: DerivedState,
    alarms: AlarmLog,
    /// When its own clock began, which never jumps.
    began: Instant,
    doubted: bool,
}

impl Served {
    pub(super) fn new(member: Member, board: Board, recorder: Option<&Recorder>) -> Self {
        let now = Instant::now();
        let mut tap = Tap::new(&member.id, recorder);
        if let Some(info) = member.driver {
            tap.driver(info.name, &member.options);
        }
        Served {
            driver: member.driver.map(|info| (info.new)(&member.options)),
            search: Search::default(),
            signal: None,
            tap,
            due: now,
            paused: false,
            health: Health::new(now),
            board,
            gate: PlausibilityFilter::default(),
            past: DerivedState::new(member.thresholds.clone()),
            alarms: AlarmLog::default(),
            began: now,
            doubted: false,
            member,
        }
    }

    /// The longest time that one cycle may take.
    pub(super) fn limit(&self) -> Duration {
        (self.member.options.timeout * ANSWERS_PER_CYCLE).max(SHORTEST_LIMIT)
    }

    /// A new conversation: nothing is known of the state of the old one.
    pub(super) fn renew(&mut self) {
        self.driver = self.member.driver.map(|info| (info.new)(&self.member.options));
        if let Some(info) = self.member.driver {
            self.tap.driver(info.name, &self.member.options);
        }
    }

    /// It was found out what it is.
    pub(super) fn adopt(&mut self, info: &'static DriverInfo, driver: Box<dyn Driver>) {
        self.member.driver = Some(info);
        self.driver = Some(driver);
        let control = self.member.control;
        let controls = info.controls_on(self.member.options.medium);
        self.profile(|profile| {
            info.name.clone_into(&mut profile.brand);
            info.title.clone_into(&mut profile.title);
            profile.controls = if control { controls.to_vec() } else { Vec::new() };
        });
    }

    /// Another battery is meant from now on: what the old one said says nothing of it.
    pub(super) fn change_battery(&mut self) {
        self.renew();
        self.search.start_over();
        self.signal = None;
        self.health = Health::new(Instant::now());
        self.gate = PlausibilityFilter::default();
        self.doubted = false;
        self.past.change_battery(self.member.thresholds.clone());
        self.alarms = AlarmLog::default();
        let paused = self.paused;
        self.board.update(&self.member.id, |state| {
            state.counters.consecutive_errors = 0;
            if !paused {
                state.link = LinkState::Connecting;
            }
        });
    }

    /// Tells the board what has changed about the battery's name and place.
    pub(super) fn profile(&self, change: impl FnOnce(&mut Profile)) {
        self.board.update_profile(&self.member.id, change);
    }

    /// Books an attempt that began at `started`, and plans the next one.
    pub(super) fn record(
        &mut self,
        started: Instant,
        connected: bool,
        result: Result<Box<Reading>, CycleError>,
    ) {
        let now = Instant::now();
        let took_ms = millis(now - started);
        let at = Uptime(millis(now - self.began));
        let result = result
            .and_then(|reading| self.gate.pass(*reading, at).map_err(CycleError::Implausible));
        self.due = next_due(self.due, self.member.interval, now);
        match result {
            Ok(reading) => self.record_good(reading, at, took_ms, now),
            Err(error) => self.record_bad(&error, connected, took_ms, now),
        }
        if let Some(state) = self.board.latest(&self.member.id) {
            self.tap.attempt(&state);
        }
    }

    /// What it said last waits for a second answer like it.
    pub(super) fn is_doubted(&self) -> bool {
        self.doubted
    }

    fn record_good(&mut self, reading: Reading, at: Uptime, took_ms: u64, now: Instant) {
        let id = &self.member.id;
        match self.health.succeed(now) {
            Change::First => info!("{id}: answers ({})", summary(&reading)),
            Change::Back(failures, time) => {
                let seconds = time.as_secs();
                info!("{id}: answers again after {failures} failed reads in {seconds} s");
            }
            _ => {}
        }
        let derived = self.past.derive(&reading, at, millis(self.member.interval));
        self.doubted = false;
        self.update(took_ms, true, None, |state| {
            state.accept(clock::now(), took_ms, reading, derived);
        });
        debug!("{id}: read in {took_ms} ms");
        if let Some(state) = self.board.latest(id) {
            self.alarms.update(&state);
        }
    }

    fn record_bad(&mut self, error: &CycleError, connected: bool, took_ms: u64, now: Instant) {
        let id = &self.member.id;
        let fault = error.fault();
        let rejected = matches!(error, CycleError::Implausible(_));
        if rejected && !self.doubted {
            // An alarm must not wait for the next turn.
            self.due = now;
        }
        self.doubted = rejected;
        let change = self.health.fail(fault.kind, now);
        // A lost connection is told once for the whole line, not by each of its batteries.
        match change {
            Change::Failing if !matches!(error, CycleError::Link(_)) => {
                warn!("{id}: {}; {}", fault.message, fault.hint);
            }
            Change::Offline => {
                let failures = self.health.consecutive();
                warn!(
                    "{id}: offline after {failures} failed reads: {}; {}",
                    fault.message, fault.hint
                );
            }
            _ => debug!("{id}: {} after {took_ms} ms", fault.message),
        }
        let offline = self.health.online() == Some(false);
        self.update(took_ms, connected, Some(fault), |state| {
            state.counters.rejected += u64::from(rejected);
            if offline {
                state.mark_offline(clock::now());
            }
        });
    }

    fn update(
        &self,
        took_ms: u64,
        connected: bool,
        fault: Option<Fault>,
        change: impl FnOnce(&mut DeviceState),
    ) {
        self.board.update(&self.member.id, |state| {
            state.record_attempt(clock::now(), took_ms, connected, fault);
            state.rssi = self.signal.filter(|_| connected);
            change(state);
        });
    }

    /// Counts that the connection was opened again.
    pub(super) fn reconnected(&mut self) {
        self.board.update(&self.member.id, |state| state.counters.reconnects += 1);
    }

    /// Takes over what an operator asked for at run time, as far as it concerns the conversation.
    pub(super) fn configure(&mut self, change: &command::ConfigChange) {
        if let Some(timeout) = change.timeout {
            self.member.options.timeout = timeout;
            self.renew();
            let seconds = timeout.as_secs_f64();
            info!("{}: an answer may take {seconds} s, on request", self.member.id);
        }
        if let Some(interval) = change.interval {
            info!("{}: read every {} s, on request", self.member.id, interval.as_secs_f64());
            self.member.interval = interval;
            self.due = self.due.min(Instant::now() + interval);
            let interval_ms = millis(interval);
            self.profile(|profile| profile.interval_ms = interval_ms);
        }
        if let Some(paused) = change.paused {
            self.pause(paused);
        }
    }

    fn pause(&mut self, paused: bool) {
        let id = &self.member.id;
        if paused && !self.paused {
            info!(
                "{id}: paused on request; it is left alone until {{\"paused\": false}} or a restart"
            );
            self.health.pause();
            let since = clock::now();
            self.board.update(id, |state| {
                state.paused = true;
                state.link = LinkState::Offline { since };
            });
        } else if !paused && self.paused {
            info!("{id}: taken up again on request");
            self.board.update(id, |state| state.paused = false);
            self.due = Instant::now();
        }
        self.paused = paused;
    }
}

/// What a person looks for in the first line about a battery.
fn summary(reading: &Reading) -> String {
    let pack = &reading.pack;
    let mut parts = Vec::new();
    parts.extend(pack.soc.map(|soc| format!("{} %", crate::model::Value::from(soc))));
    parts.extend(pack.voltage.map(|volts| format!("{} V", crate::model::Value::from(volts))));
    parts.push(format!("{} cells", reading.cells.len()));
    parts.join(", ")
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
