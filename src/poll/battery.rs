//! A battery on a line: its driver, its health, and its slot on the board.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::LineMember;
use super::alarm_log::AlarmLog;
use super::cycle::{CycleError, ReadResult};
use super::health::{Health, HealthChange, next_due};
use crate::board::Board;
use crate::capture::{Recorder, TrafficLog};
use crate::clock;
use crate::command;
use crate::model::derived_state::DerivedState;
use crate::model::plausible::PlausibilityFilter;
use crate::model::units::{Uptime, millis};
use crate::model::{LinkState, Profile, Reading, Value};
use crate::protocol::{Driver, DriverInfo, Medium, Options};
use crate::transport::Link;

pub(super) struct PolledBattery {
    pub(super) member: LineMember,
    /// `None` while the brand is searched for and no candidate is being tried.
    pub(super) driver: Option<Box<dyn Driver>>,
    /// Bluetooth signal strength in dBm, as last measured.
    pub(super) signal: Option<i16>,
    pub(super) due: Instant,
    pub(super) paused: bool,
    pub(super) traffic: TrafficLog,
    health: Health,
    board: Board,
    plausibility: PlausibilityFilter,
    derived: DerivedState,
    alarms: AlarmLog,
    /// Longest wait for one reply, even if the timeout in the options is longer.
    max_reply_timeout: Duration,
    /// Seconds that pass for the battery in each second; 1 unless it is simulated.
    speed: f64,
    /// Zero of the battery's monotonic clock.
    began: Instant,
    /// The last reading was implausible; a second one like it will be accepted.
    pub(super) unconfirmed: bool,
}

impl PolledBattery {
    pub(super) fn new(
        member: LineMember,
        board: &Board,
        recorder: Option<&Recorder>,
        max_reply_timeout: Option<Duration>,
    ) -> Self {
        let now = Instant::now();
        let mut battery = PolledBattery {
            driver: None,
            signal: None,
            due: now,
            paused: false,
            traffic: TrafficLog::new(&member.id, recorder),
            health: Health::new(now),
            board: board.clone(),
            plausibility: PlausibilityFilter::default(),
            derived: DerivedState::new(member.thresholds.clone()),
            alarms: AlarmLog::default(),
            max_reply_timeout: max_reply_timeout.unwrap_or(Duration::MAX),
            speed: 1.0,
            began: now,
            unconfirmed: false,
            member,
        };
        battery.renew_driver();
        battery
    }

    pub(super) fn at_speed(self, speed: f64) -> Self {
        PolledBattery { speed, ..self }
    }

    /// Replaces the driver by one without any state, or removes it while the brand is unknown.
    pub(super) fn renew_driver(&mut self) {
        self.driver = None;
        if let Some(info) = self.member.driver {
            let options = self.member.options.clone();
            self.try_driver(info, &options);
        }
    }

    /// Uses this driver for now.
    pub(super) fn try_driver(&mut self, info: &'static DriverInfo, options: &Options) {
        let timeout = options.timeout.min(self.max_reply_timeout);
        let options = Options { timeout, ..options.clone() };
        self.driver = Some(info.driver(&options));
        self.traffic.driver(info.name, &options);
    }

    /// Keeps the driver that is being tried: the search for the brand is over.
    pub(super) fn identify(&mut self, info: &'static DriverInfo, options: Options) {
        self.member.driver = Some(info);
        self.member.options = options;
        let control = self.member.control;
        let Options { medium, address, timeout, .. } = self.member.options;
        let controls = info.controls_on(medium);
        self.update_profile(|profile| {
            info.name.clone_into(&mut profile.brand);
            info.title.clone_into(&mut profile.title);
            if medium == Medium::Serial {
                profile.address = Some(address.to_string());
                profile.timeout_ms = millis(timeout);
            }
            profile.controls = if control { controls.to_vec() } else { Vec::new() };
        });
    }

    /// Forgets everything about the battery, because its address is now that of another one.
    pub(super) fn change_battery(&mut self) {
        self.renew_driver();
        self.signal = None;
        self.health = Health::new(Instant::now());
        self.plausibility = PlausibilityFilter::default();
        self.unconfirmed = false;
        self.derived.change_battery(self.member.thresholds.clone());
        self.alarms = AlarmLog::default();
        let paused = self.paused;
        self.board.update(&self.member.id, |state| {
            state.counters.consecutive_errors = 0;
            if !paused {
                state.link = LinkState::Connecting;
            }
        });
    }

    pub(super) fn update_profile(&self, change: impl FnOnce(&mut Profile)) {
        self.board.update_profile(&self.member.id, change);
    }

    /// The connection was opened; `counts` unless it was closed on purpose before.
    pub(super) fn connected(&mut self, link: Option<&Link>, counts: bool) {
        let ble = link.and_then(Link::ble);
        if let Some(link) = ble
            && link.name() != self.member.options.name.as_deref()
        {
            self.member.options.name = link.name().map(str::to_owned);
            self.renew_driver();
        }
        if let Some(driver) = &mut self.driver {
            driver.reset();
            self.traffic.reset();
        }
        if counts {
            self.board.update(&self.member.id, |state| state.counters.reconnects += 1);
        }
        self.measure_signal(link);
        if let Some(link) = link.and_then(Link::ble) {
            let adapter = link.adapter().to_owned();
            self.update_profile(|profile| profile.adapter = Some(adapter));
        }
    }

    pub(super) fn measure_signal(&mut self, link: Option<&Link>) {
        if let Some(link) = link.and_then(Link::ble) {
            self.signal = link.rssi().or(self.signal);
        }
    }

    /// Publishes the result of an attempt that began at `started`, and schedules the next one.
    pub(super) fn record(&mut self, started: Instant, connected: bool, result: ReadResult) {
        let now = Instant::now();
        let took_ms = millis(now - started);
        let at = Uptime(millis(now - self.began));
        let result = result.and_then(|reading| {
            self.plausibility.check(*reading, at).map_err(CycleError::Implausible)
        });
        let fault = result.as_ref().err().map(CycleError::fault);
        let rejected = matches!(result, Err(CycleError::Implausible(_)));
        self.due = if rejected && !self.unconfirmed {
            // It may be an alarm, which must not wait for the next interval.
            now
        } else {
            next_due(self.due, self.member.interval, now)
        };
        self.unconfirmed = rejected;
        let change = match &fault {
            None => self.health.succeed(now),
            Some(fault) => self.health.fail(fault.kind, now),
        };
        self.log(change, &result, took_ms);
        let good = result.ok().map(|reading| {
            // Energy and forecasts count the time of the battery.
            let passed = |time: Duration| millis(time.mul_f64(self.speed));
            let (at, interval) = (Uptime(passed(now - self.began)), passed(self.member.interval));
            let derived = self.derived.derive(&reading, at, interval);
            (reading, derived)
        });
        let (is_good, is_offline) = (good.is_some(), self.health.is_offline());
        let mut published = None;
        let read_at = clock::uptime();
        self.board.update(&self.member.id, |state| {
            let ended = clock::now();
            state.record_attempt(ended, took_ms, connected, fault);
            state.rssi = self.signal.filter(|_| connected);
            state.counters.rejected += u64::from(rejected);
            match good {
                Some((reading, derived)) => {
                    state.accept((ended, read_at), took_ms, reading, derived);
                }
                None if is_offline => state.mark_offline(ended),
                None => {}
            }
            published = Some(state.clone());
        });
        let Some(state) = published else { return };
        if is_good {
            self.alarms.update(&state);
        }
        self.traffic.attempt(&state);
    }

    fn log(&self, change: HealthChange, result: &Result<Reading, CycleError>, took_ms: u64) {
        let id = &self.member.id;
        match (change, result) {
            (HealthChange::First, Ok(reading)) => info!("{id}: answers ({})", summary(reading)),
            (HealthChange::Recovered(failures, time), Ok(_)) => {
                let seconds = time.as_secs();
                info!("{id}: answers again after {failures} failed reads in {seconds} s");
            }
            (_, Ok(_)) => debug!("{id}: read in {took_ms} ms"),
            (HealthChange::Offline(failures), Err(error)) => {
                let hint = error.fault().hint;
                warn!("{id}: offline after {failures} failed reads: {error}; {hint}");
            }
            // A lost connection is logged once for the whole line.
            (HealthChange::Failing, Err(error)) if !matches!(error, CycleError::Link(_)) => {
                warn!("{id}: {error}; {}", error.fault().hint);
            }
            (_, Err(error)) => debug!("{id}: {error} after {took_ms} ms"),
        }
    }

    /// Applies the part of a change that does not depend on the kind of connection.
    pub(super) fn configure(&mut self, change: &command::ConfigChange) {
        let id = &self.member.id;
        if let Some(timeout) = change.timeout {
            info!("{id}: timeout set to {} s on request", timeout.as_secs_f64());
            self.member.options.timeout = timeout;
            self.renew_driver();
            self.update_profile(|profile| profile.timeout_ms = millis(timeout));
        }
        if let Some(interval) = change.interval {
            info!("{}: interval set to {} s on request", self.member.id, interval.as_secs_f64());
            self.member.interval = interval;
            self.due = self.due.min(Instant::now() + interval);
            self.update_profile(|profile| profile.interval_ms = millis(interval));
        }
        match change.paused {
            Some(true) if !self.paused => self.pause(),
            Some(false) if self.paused => self.resume(),
            _ => {}
        }
    }

    fn pause(&mut self) {
        info!("{}: paused on request, until {{\"paused\": false}} or a restart", self.member.id);
        self.paused = true;
        self.health.pause();
        let since = clock::now();
        self.board.update(&self.member.id, |state| {
            state.paused = true;
            state.link = LinkState::Offline { since };
        });
    }

    fn resume(&mut self) {
        info!("{}: resumed on request", self.member.id);
        self.paused = false;
        self.due = Instant::now();
        self.board.update(&self.member.id, |state| state.paused = false);
    }
}

/// The values in the first log line of a battery.
fn summary(reading: &Reading) -> String {
    let pack = &reading.pack;
    let mut parts = Vec::new();
    parts.extend(pack.soc.map(|soc| format!("{} %", Value::from(soc))));
    parts.extend(pack.voltage.map(|voltage| format!("{} V", Value::from(voltage))));
    parts.push(format!("{} cells", reading.cells.len()));
    parts.join(", ")
}
