//! The conversation with a log-in, in the order of the older program:
//!
//! ```text
//! login debug -> info (once) -> getpwr -----------------------------> done
//!      ^                          | no data              ^
//!      |                          +-> tbar <barcode> ----+  (at most once per log-in)
//!      +-- `pylon>` prompt -------+
//! ```
//!
//! The log-in is kept between cycles. `tbar` may write (see [`crate::protocol::barcode`]), so it is sent only if
//! `getpwr` returns no data without it, never if `info` reports another controller, and never again
//! after it was refused.

use std::time::Duration;

use super::super::console::info::Info;
use super::super::console::query_plan::NO_SUCCESS_LINE;
use super::super::console::reply::{Prompt, Reply};
use super::super::console::{Command, ConsoleStep, Conversation, timed_out, unreadable};
use super::{INFO_TIMEOUTS, divide_into_modules, getpwr, serials};
use crate::model::Reading;
use crate::protocol::barcode::Barcode;
use crate::protocol::{CycleKind, DecodeError, Options, ProtocolError};

const LOGIN: &str = "login debug";
const INFO: &str = "info";
const GETPWR: &str = "getpwr";

/// The older program pauses this long after its log-in and its authorisation.
const PAUSE: Duration = Duration::from_millis(500);
/// Failures after which `info` is no longer sent.
const MAX_INFO_FAILURES: u8 = 2;
/// At most this many bytes are the echo with its line ends and no reply.
const ECHO_LENGTH: usize = GETPWR.len() + 4;
/// Log-ins per cycle: the rest of an incomplete command may corrupt the first one.
const MAX_LOGINS: u8 = 2;

#[derive(Debug, Clone, PartialEq)]
enum Phase {
    Login,
    Info,
    Getpwr,
    Authorise,
    Done(Box<Reading>),
    Failed(ProtocolError),
}

/// Reads a stack in the debug mode of the console.
#[derive(Debug)]
pub(super) struct Debug {
    barcode: Barcode,
    options: Options,
    phase: Phase,
    kind: CycleKind,
    /// Log-ins left in this cycle.
    logins: u8,
    /// The log-in happened in this cycle.
    new_login: bool,
    session: Session,
    info_failures: u8,
}

/// State that belongs to one log-in. It is dropped as a whole, because the next log-in may reach
/// another controller.
#[derive(Debug, Default)]
struct Session {
    logged_in: bool,
    info: Option<Info>,
    /// `getpwr` returned values, so no authorisation is needed.
    proven: bool,
    /// The result of `tbar`; the error is the first line of the reply.
    authorised: Option<Result<(), String>>,
}

impl Debug {
    pub(super) fn new(barcode: Barcode, options: &Options) -> Self {
        Debug {
            barcode,
            options: options.clone(),
            phase: Phase::Login,
            kind: CycleKind::Read,
            logins: MAX_LOGINS,
            new_login: false,
            session: Session::default(),
            info_failures: 0,
        }
    }

    fn tbar(&self) -> String {
        format!("tbar {}", self.barcode.as_str())
    }

    /// The console was logged out or restarted. A second log-in in the same cycle is not tried.
    fn on_logout(&mut self) {
        self.session = Session::default();
        self.phase = Phase::Login;
        if self.new_login {
            self.fail_login("the console logged out during the read".to_owned());
        }
    }

    fn fail_login(&mut self, reason: String) {
        self.phase = Phase::Failed(ProtocolError::Login { reason });
    }

    /// Continues after the log-in.
    fn continue_session(&mut self) {
        let needs_info = self.session.info.is_none() && self.info_failures < MAX_INFO_FAILURES;
        self.phase = match self.kind {
            _ if needs_info => Phase::Info,
            CycleKind::Read => Phase::Getpwr,
            CycleKind::Identify | CycleKind::Write(_) => self.done(Reading::default()),
        };
    }

    fn done(&self, mut reading: Reading) -> Phase {
        if let Some(info) = &self.session.info {
            info.apply(&mut reading);
        }
        // The order of the cells is undocumented. Like the older program this takes the first fifteen
        // cells for the module next to the controller, BMU 0.
        divide_into_modules(&mut reading, serials(self.session.info.as_ref()));
        Phase::Done(Box::new(reading))
    }

    fn on_login(&mut self, reply: &Reply) {
        if reply.prompt == Prompt::Debug {
            self.session = Session { logged_in: true, ..Session::default() };
            self.new_login = true;
            self.continue_session();
        } else if reply.unknown_command().is_none() || self.logins == 0 {
            self.fail_login(format!("the console replied to `{LOGIN}`: {}", reply.headline()));
        }
    }

    fn on_info(&mut self, reply: &Reply) {
        match Info::parse(&reply.lines) {
            Some(info) => match &info.module_barcode {
                Some(other) if !other.eq_ignore_ascii_case(self.barcode.as_str()) => {
                    let reason = format!(
                        "the serial number of the controller is {other}, but the configured barcode is {}; `tbar` was not sent",
                        self.barcode.as_str()
                    );
                    return self.fail_login(reason);
                }
                _ => self.session.info = Some(info),
            },
            None => self.info_failures += 1,
        }
        self.continue_session();
    }

    fn on_values(&mut self, reply: &Reply) {
        let mut reading = Reading::default();
        let error = match getpwr::decode(&reply.lines, &self.options, &mut reading) {
            Ok(()) if reply.succeeded() => {
                self.session.proven = true;
                self.phase = self.done(reading);
                return;
            }
            Ok(()) => unreadable(GETPWR, NO_SUCCESS_LINE),
            Err(DecodeError::Empty) => return self.authorise(reply.headline()),
            Err(error) => unreadable(GETPWR, error.to_string()),
        };
        self.phase = Phase::Failed(error);
    }

    /// `getpwr` returned no data. `headline` is the first line of its reply, empty without a reply.
    fn authorise(&mut self, headline: &str) {
        if self.session.authorised.is_none() && !self.session.proven {
            self.phase = Phase::Authorise;
            return;
        }
        if let Some(Err(refusal)) = &self.session.authorised {
            let reason = format!("the console refused `tbar`: {refusal}; it is not sent again");
            return self.fail_login(reason);
        }
        self.phase = Phase::Failed(match headline {
            "" => timed_out(GETPWR, 0),
            line => unreadable(GETPWR, format!("it has no data: {line}")),
        });
        // It worked before, so the next cycle tries another log-in.
        self.session = Session::default();
    }

    fn on_authorised(&mut self, reply: &Reply) {
        if let Some(line) = reply.unknown_command() {
            let reason = format!("the console does not accept `tbar`: {line}");
            self.session = Session::default();
            return self.fail_login(reason);
        }
        let passed = reply.lines.iter().any(|line| line.to_ascii_lowercase().contains("pass"));
        self.session.authorised = Some(match passed {
            true => Ok(()),
            false => Err(reply.headline().to_owned()),
        });
        if passed {
            self.phase = Phase::Getpwr;
        } else {
            self.authorise("");
        }
    }

    /// The state of the log-in is unknown after a timeout.
    fn fail_with_timeout(&mut self, command: &str, received: usize) {
        self.session = Session::default();
        self.phase = Phase::Failed(timed_out(command, received));
    }
}

impl Conversation for Debug {
    fn reset(&mut self) {
        self.session = Session::default();
        self.info_failures = 0;
    }

    fn start(&mut self, kind: CycleKind) {
        self.kind = kind;
        self.logins = MAX_LOGINS;
        self.new_login = false;
        if self.session.logged_in {
            self.continue_session();
        } else {
            self.phase = Phase::Login;
        }
    }

    fn step(&self) -> ConsoleStep {
        let pause = if self.new_login { PAUSE } else { Duration::ZERO };
        let timeout = self.options.timeout;
        let send = |text: String, timeout| ConsoleStep::Send(Command { text, timeout, pause });
        match &self.phase {
            Phase::Login => send(LOGIN.to_owned(), timeout),
            Phase::Info => send(INFO.to_owned(), timeout * INFO_TIMEOUTS),
            Phase::Getpwr => send(GETPWR.to_owned(), timeout),
            Phase::Authorise => send(self.tbar(), timeout),
            Phase::Done(reading) => ConsoleStep::Done(reading.clone()),
            Phase::Failed(error) => ConsoleStep::Failed(error.clone()),
        }
    }

    fn on_reply(&mut self, reply: &Reply) {
        if self.phase == Phase::Login {
            self.logins = self.logins.saturating_sub(1);
            return self.on_login(reply);
        }
        if reply.prompt == Prompt::User {
            return self.on_logout();
        }
        match self.phase {
            Phase::Info => self.on_info(reply),
            Phase::Getpwr => self.on_values(reply),
            Phase::Authorise => self.on_authorised(reply),
            Phase::Login | Phase::Done(_) | Phase::Failed(_) => {}
        }
    }

    fn on_timeout(&mut self, received: usize) {
        match self.phase {
            Phase::Login => self.fail_with_timeout(LOGIN, received),
            Phase::Info => {
                self.info_failures += 1;
                self.continue_session();
            }
            Phase::Getpwr if received <= ECHO_LENGTH && !self.session.proven => {
                self.authorise("");
            }
            Phase::Getpwr => self.fail_with_timeout(GETPWR, received),
            Phase::Authorise => self.fail_with_timeout("tbar", received),
            Phase::Done(_) | Phase::Failed(_) => {}
        }
    }
}

#[cfg(test)]
#[path = "debug_tests.rs"]
mod tests;
