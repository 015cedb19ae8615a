//! The conversation over a serial line: detects the dialect and whether requests are allowed at all.
//!
//! The driver listens before its first request, because a request would collide with those of a master.
//! On a quiet line the dialects are tried in turn, one per cycle, so a silent line costs one timeout.

use std::time::Duration;

use super::passive::{BusEvent, BusParser, MASTER, POLL_ROUND, PassiveReader};
use super::pb::Pb;
use super::ttl::Ttl;
use crate::protocol::{CycleKind, Driver, Options, ProtocolError, Runner, Step};

pub(super) const VARIANTS: &[&str] = &["ttl", "pb"];

/// A master polls one pack after the other and is never quiet for this long.
const LISTEN_TIME: Duration = Duration::from_secs(5);
/// Cycles without any traffic after which the master counts as gone.
const MAX_MISSES: u8 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Ttl,
    Pb,
    Passive,
}

pub(super) struct JkSerial {
    address: u8,
    ttl: Runner,
    pb: Runner,
    passive: PassiveReader,
    /// Detects a master while requests are sent.
    parser: BusParser,
    /// Configured, or detected by a reply.
    dialect: Option<Mode>,
    /// Tried next while `dialect` is unknown.
    next: Mode,
    current: Mode,
    /// No master was detected since the line was opened.
    no_master: bool,
    kind: CycleKind,
    state: State,
    misses: u8,
    timeout: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// For a master, before the first request.
    Listening,
    Active,
    Failed(ProtocolError),
}

impl JkSerial {
    pub(super) fn new(options: &Options) -> Self {
        let dialect = match options.variant.as_deref() {
            Some("ttl") => Some(Mode::Ttl),
            Some("pb") => Some(Mode::Pb),
            _ => None,
        };
        let mut serial = JkSerial {
            address: options.address,
            ttl: Runner::new(Ttl::new(options)),
            pb: Runner::new(Pb::new(options)),
            passive: PassiveReader::new(options.address),
            parser: BusParser::default(),
            dialect,
            next: Mode::Ttl,
            current: Mode::Ttl,
            no_master: false,
            kind: CycleKind::Read,
            state: State::Listening,
            misses: 0,
            timeout: options.timeout,
        };
        serial.start(CycleKind::Read);
        serial
    }

    fn runner(&mut self) -> Option<&mut Runner> {
        match self.current {
            Mode::Ttl => Some(&mut self.ttl),
            Mode::Pb => Some(&mut self.pb),
            Mode::Passive => None,
        }
    }

    /// Starts requests in the known or the next dialect.
    fn start_requests(&mut self) {
        self.state = State::Active;
        self.current = self.dialect.unwrap_or(self.next);
        // The only reply of this dialect contains everything.
        let kind = if self.current == Mode::Ttl { CycleKind::Read } else { self.kind };
        self.next = if self.next == Mode::Ttl { Mode::Pb } else { Mode::Ttl };
        self.parser.clear();
        if let Some(runner) = self.runner() {
            runner.start(kind);
        }
    }

    fn start_passive(&mut self) {
        self.current = Mode::Passive;
        self.state = State::Active;
    }

    /// A reply identifies the dialect.
    fn note_success(&mut self) {
        let current = self.current;
        let done = self.runner().is_some_and(|runner| runner.is_done());
        if done {
            self.dialect = Some(current);
        }
    }

    /// The pack sent nothing in a whole round of the master.
    fn fail_passive(&mut self) {
        self.misses = if self.passive.busy { 0 } else { self.misses + 1 };
        if self.misses >= MAX_MISSES {
            self.no_master = false;
            self.current = Mode::Ttl;
        }
        self.state = State::Failed(ProtocolError::Timeout {
            query: format!("the request of the master to address {}", self.address),
            received: 0,
        });
    }
}

impl Driver for JkSerial {
    fn reset(&mut self) {
        self.ttl.reset();
        self.pb.reset();
        self.passive.reset();
        self.no_master = false;
        self.current = Mode::Ttl;
        self.misses = 0;
        self.start(CycleKind::Read);
    }

    fn start(&mut self, kind: CycleKind) {
        if matches!(kind, CycleKind::Write(_)) {
            self.state = State::Failed(ProtocolError::Unsupported {
                query: "the switch command".into(),
                reason: "this brand can be switched over Bluetooth only".into(),
            });
            return;
        }
        self.kind = kind;
        self.passive.start();
        let master = self.address == MASTER && self.dialect != Some(Mode::Ttl);
        if self.current == Mode::Passive || master {
            self.start_passive();
        } else if self.no_master || self.dialect == Some(Mode::Ttl) {
            self.start_requests();
        } else {
            self.state = State::Listening;
        }
    }

    fn step(&mut self) -> Step {
        match &self.state {
            State::Listening => Step::Await(LISTEN_TIME),
            State::Failed(error) => Step::Failed(error.clone()),
            State::Active => match (self.passive.reading.clone(), self.runner()) {
                (_, Some(runner)) => runner.step(),
                (Some(reading), None) => Step::Done(Box::new(reading)),
                (None, None) => Step::Await((self.timeout * 8).clamp(LISTEN_TIME, POLL_ROUND)),
            },
        }
    }

    fn advance(&mut self) {
        if let (State::Active, Some(runner)) = (self.state.clone(), self.runner()) {
            runner.advance();
        }
    }

    /// Byte by byte, because the request of a master may arrive in the middle of a chunk.
    fn receive(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match self.state {
                State::Failed(_) => return,
                State::Listening => {
                    self.passive.push(byte);
                    if self.passive.busy {
                        self.start_passive();
                    }
                }
                State::Active if self.current == Mode::Passive => {
                    if self.passive.reading.is_none() {
                        self.passive.push(byte);
                    }
                }
                State::Active => {
                    let foreign = matches!(self.parser.push(byte), Some(BusEvent::Trigger(address))
                        if address != self.address);
                    if foreign {
                        self.start_passive();
                    } else if let Some(runner) = self.runner() {
                        runner.receive(&[byte]);
                        self.note_success();
                    }
                }
            }
        }
    }

    fn handle_timeout(&mut self) {
        match self.state {
            State::Failed(_) => {}
            State::Listening => {
                self.no_master = true;
                self.start_requests();
            }
            State::Active if self.current == Mode::Passive => {
                self.passive.on_timeout();
                if self.passive.reading.is_none() {
                    self.fail_passive();
                }
            }
            State::Active => {
                if let Some(runner) = self.runner() {
                    runner.handle_timeout();
                    self.note_success();
                }
            }
        }
    }
}
