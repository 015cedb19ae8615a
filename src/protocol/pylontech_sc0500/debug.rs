//! The way with a log-in, as the older program goes it:
//!
//! ```text
//! login debug -> info (once) -> getpwr -----------------------------> done
//!      ^                          | nothing readable     ^
//!      |                          +-> tbar <barcode> ----+  (at most once per log-in)
//!      +-- prompt of the user ----+
//! ```
//!
//! The log-in lasts over the cycles. `tbar` may write (see [`super::barcode`]), so it is sent only
//! where `getpwr` says nothing without it, never when `info` names another controller, and never
//! again after it was refused.

use std::time::Duration;

use super::super::console::info::Info;
use super::super::console::reply::{Prompt, Reply};
use super::super::console::{Line, Script, Turn, silent, unreadable};
use super::getpwr;
use super::{SLOW, divide_into_modules};
use crate::model::Reading;
use crate::protocol::barcode::Barcode;
use crate::protocol::{CapacityUnit, CycleKind, DecodeError, Options, ProtocolError};

const LOGIN: &str = "login debug";
const INFO: &str = "info";
const GETPWR: &str = "getpwr";

/// The older program pauses so long behind its log-in and its authorisation.
const PAUSE: Duration = Duration::from_millis(500);
/// A console that never answers `info` is not asked in every cycle.
const INFO_FAILURES: u8 = 2;
/// So many bytes are the echo with its ends of line, and no answer.
const MERE_ECHO: usize = GETPWR.len() + 4;
/// The rest of a half-typed command may corrupt the first log-in.
const LOGINS: u8 = 2;

#[derive(Debug, Clone, PartialEq)]
enum Phase {
    Login,
    Info,
    Getpwr,
    Authorise,
    Done(Box<Reading>),
    Failed(ProtocolError),
}

/// Reads a stack in the console's debug mode.
#[derive(Debug)]
pub(super) struct Debug {
    barcode: Barcode,
    unit: CapacityUnit,
    timeout: Duration,
    phase: Phase,
    kind: CycleKind,
    /// Log-ins that this cycle may still try.
    logins: u8,
    /// The last log-in was in this cycle.
    new_login: bool,
    session: Session,
    info_failures: u8,
}

/// What a log-in has led to. It is forgotten as a whole: behind a new log-in may be another
/// controller.
#[derive(Debug, Default)]
struct Session {
    logged_in: bool,
    info: Option<Info>,
    /// `getpwr` has given values, so there is nothing to authorise.
    proven: bool,
    /// What the console said to `tbar`.
    authorised: Option<Result<(), String>>,
}

impl Debug {
    pub(super) fn new(barcode: Barcode, options: &Options) -> Self {
        Debug {
            barcode,
            unit: options.capacity_unit,
            timeout: options.timeout,
            phase: Phase::Login,
            kind: CycleKind::Read,
            logins: LOGINS,
            new_login: false,
            session: Session::default(),
            info_failures: 0,
        }
    }

    fn tbar(&self) -> String {
        format!("tbar {}", self.barcode.as_str())
    }

    /// Somebody logged out, or the controller was started anew. One log-in in a cycle is enough.
    fn fall_back(&mut self) {
        self.session = Session::default();
        self.phase = if self.new_login {
            let reason = "the console fell back to the user's prompt".to_owned();
            Phase::Failed(ProtocolError::Login { reason })
        } else {
            Phase::Login
        };
    }

    fn enter(&mut self) {
        let wanted = self.session.info.is_none() && self.info_failures < INFO_FAILURES;
        self.phase = match self.kind {
            _ if wanted => Phase::Info,
            CycleKind::Read => Phase::Getpwr,
            CycleKind::Identify | CycleKind::Write(_) => self.done(Reading::default()),
        };
    }

    fn done(&self, mut reading: Reading) -> Phase {
        if let Some(info) = &self.session.info {
            info.tell(&mut reading.identity, &mut reading.pack);
            reading.received.device_info = true;
        }
        // Nobody documents the order of the cells. Like the older program we take the first fifteen
        // for the module next to the controller, BMU 0.
        let serials = self.session.info.iter().flat_map(|info| info.modules.values()).collect();
        divide_into_modules(&mut reading, serials);
        Phase::Done(Box::new(reading))
    }

    fn logged_in(&mut self, reply: &Reply) {
        if reply.prompt == Prompt::Debug {
            self.session = Session { logged_in: true, ..Session::default() };
            self.new_login = true;
            self.enter();
        } else if reply.complaint().is_none() || self.logins == 0 {
            let reason = format!("the console answers `{LOGIN}` with: {}", reply.headline());
            self.phase = Phase::Failed(ProtocolError::Login { reason });
        }
    }

    fn informed(&mut self, reply: &Reply) {
        match Info::parse(&reply.lines) {
            Some(info) => match &info.module_barcode {
                Some(other) if !other.eq_ignore_ascii_case(self.barcode.as_str()) => {
                    let reason = format!(
                        "the controller's number is {other}, but BMS_BARCODE is {}; it was not sent",
                        self.barcode.as_str()
                    );
                    self.phase = Phase::Failed(ProtocolError::Login { reason });
                    return;
                }
                _ => self.session.info = Some(info),
            },
            None => self.info_failures += 1,
        }
        self.enter();
    }

    fn measured(&mut self, reply: &Reply) {
        let mut reading = Reading::default();
        let error = match getpwr::decode(&reply.lines, self.unit, &mut reading) {
            Ok(()) if reply.succeeded() => {
                self.session.proven = true;
                self.phase = self.done(reading);
                return;
            }
            Ok(()) => unreadable(GETPWR, "no word of success behind it"),
            Err(DecodeError::Empty) => return self.ask_for_authority(reply.headline()),
            Err(misfit) => unreadable(GETPWR, misfit.to_string()),
        };
        self.phase = Phase::Failed(error);
    }

    /// `getpwr` has said nothing readable.
    fn ask_for_authority(&mut self, said: &str) {
        if self.session.authorised.is_none() && !self.session.proven {
            self.phase = Phase::Authorise;
            return;
        }
        if let Some(Err(refusal)) = &self.session.authorised {
            let reason = format!("the console refused `tbar`: {refusal}; it is not sent again");
            self.phase = Phase::Failed(ProtocolError::Login { reason });
            return;
        }
        self.phase = Phase::Failed(match said {
            "" => silent(GETPWR, 0),
            said => unreadable(GETPWR, format!("no data in it: {said}")),
        });
        // What worked before does no longer: perhaps it does after another log-in.
        self.session = Session::default();
    }

    fn authorised(&mut self, reply: &Reply) {
        if let Some(complaint) = reply.complaint() {
            let reason = format!("the console does not take `tbar`: {complaint}");
            self.session = Session::default();
            self.phase = Phase::Failed(ProtocolError::Login { reason });
            return;
        }
        let passed = reply.lines.iter().any(|line| line.to_ascii_lowercase().contains("pass"));
        self.session.authorised = Some(match passed {
            true => Ok(()),
            false => Err(reply.headline().to_owned()),
        });
        if passed {
            self.phase = Phase::Getpwr;
        } else {
            self.ask_for_authority("");
        }
    }

    /// Nobody knows what became of the log-in while the console was silent.
    fn give_up(&mut self, command: &str, received: usize) {
        self.session = Session::default();
        self.phase = Phase::Failed(silent(command, received));
    }
}

impl Script for Debug {
    fn forget(&mut self) {
        self.session = Session::default();
        self.info_failures = 0;
    }

    fn begin(&mut self, kind: CycleKind) {
        self.kind = kind;
        self.logins = LOGINS;
        self.new_login = false;
        if self.session.logged_in {
            self.enter();
        } else {
            self.phase = Phase::Login;
        }
    }

    fn turn(&self) -> Turn {
        let pause = if self.new_login { PAUSE } else { Duration::ZERO };
        let say = |command: String, patience| Turn::Say(Line { command, patience, pause });
        match &self.phase {
            Phase::Login => say(LOGIN.to_owned(), self.timeout),
            Phase::Info => say(INFO.to_owned(), self.timeout * SLOW),
            Phase::Getpwr => say(GETPWR.to_owned(), self.timeout),
            Phase::Authorise => say(self.tbar(), self.timeout),
            Phase::Done(reading) => Turn::Done(reading.clone()),
            Phase::Failed(error) => Turn::Failed(error.clone()),
        }
    }

    fn answered(&mut self, reply: &Reply) {
        if self.phase == Phase::Login {
            self.logins = self.logins.saturating_sub(1);
            return self.logged_in(reply);
        }
        if reply.prompt == Prompt::User {
            return self.fall_back();
        }
        match self.phase {
            Phase::Info => self.informed(reply),
            Phase::Getpwr => self.measured(reply),
            Phase::Authorise => self.authorised(reply),
            Phase::Login | Phase::Done(_) | Phase::Failed(_) => {}
        }
    }

    fn unanswered(&mut self, received: usize) {
        match self.phase {
            Phase::Login => self.give_up(LOGIN, received),
            Phase::Info => {
                self.info_failures += 1;
                self.enter();
            }
            Phase::Getpwr if received <= MERE_ECHO && !self.session.proven => {
                self.ask_for_authority("");
            }
            Phase::Getpwr => self.give_up(GETPWR, received),
            Phase::Authorise => self.give_up("tbar", received),
            Phase::Done(_) | Phase::Failed(_) => {}
        }
    }
}

#[cfg(test)]
#[path = "debug_tests.rs"]
mod tests;
