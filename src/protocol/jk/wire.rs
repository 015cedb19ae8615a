//! A wire: which of the two dialects is spoken on it, and whether we may speak at all.
//!
//! Before the first word we listen: where a master asks its packs, a question of ours would collide
//! with its own. On a quiet line the dialects are tried in turn, one in each cycle, so that a silent
//! line costs no more than one time-out.

use std::time::Duration;

use super::listener::{Ear, Heard, Listener, ROUND};
use super::pb::Pb;
use super::secrets::{Redactor, TtlRedactor};
use super::ttl::Ttl;
use crate::protocol::query::Runner;
use crate::protocol::{CycleKind, Driver, Options, ProtocolError, Side, Step};

/// What `BMS_VARIANT` may say about a wire.
pub(super) const VARIANTS: &[&str] = &["ttl", "pb"];

/// A master asks one pack after the other and is never quiet for so long.
const SURVEY: Duration = Duration::from_secs(5);
/// Cycles in which nothing at all is heard, before we take the master for gone.
const MISSES: u8 = 2;
/// The address of a master. Asking it would be asking everybody.
const MASTER: u8 = 0;

/// How the line is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Ttl,
    Pb,
    Listening,
}

/// A conversation over a wire.
pub(super) struct Wire {
    address: u8,
    ttl: Runner<Ttl>,
    pb: Runner<Pb>,
    listener: Listener,
    /// To notice a master while we ask.
    ear: Ear,
    /// Named by the operator, or proven by an answer.
    dialect: Option<Use>,
    /// Tried next, as long as nothing is proven.
    next: Use,
    current: Use,
    /// Nobody else asks on this line, as far as we have heard since it was opened.
    surveyed: bool,
    kind: CycleKind,
    state: State,
    misses: u8,
    timeout: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Surveying,
    Speaking,
    /// Nothing of this address was heard, or the caller asked for what cannot be done here.
    Failed(ProtocolError),
}

impl Wire {
    pub(super) fn new(options: &Options) -> Self {
        let dialect = match options.variant.as_deref() {
            Some("ttl") => Some(Use::Ttl),
            Some("pb") => Some(Use::Pb),
            _ => None,
        };
        let mut wire = Wire {
            address: options.address,
            ttl: Runner::new(Ttl::new(options)),
            pb: Runner::new(Pb::new(options)),
            listener: Listener::new(options.address),
            ear: Ear::default(),
            dialect,
            next: Use::Ttl,
            current: Use::Ttl,
            surveyed: false,
            kind: CycleKind::Read,
            state: State::Surveying,
            misses: 0,
            timeout: options.timeout,
        };
        wire.start(CycleKind::Read);
        wire
    }

    fn runner(&mut self) -> Option<&mut dyn Driver> {
        match self.current {
            Use::Ttl => Some(&mut self.ttl),
            Use::Pb => Some(&mut self.pb),
            Use::Listening => None,
        }
    }

    /// Begins to ask, in the dialect that is known or next.
    fn speak(&mut self) {
        self.state = State::Speaking;
        self.current = self.dialect.unwrap_or(self.next);
        // The one answer of the socket has everything in it.
        let kind = if self.current == Use::Ttl { CycleKind::Read } else { self.kind };
        self.next = if self.next == Use::Ttl { Use::Pb } else { Use::Ttl };
        self.ear.clear();
        if let Some(runner) = self.runner() {
            runner.start(kind);
        }
    }

    fn listen(&mut self) {
        self.current = Use::Listening;
        self.state = State::Speaking;
    }

    /// An answer proves the dialect.
    fn note_success(&mut self) {
        let current = self.current;
        let done = self.runner().is_some_and(|runner| matches!(runner.step(), Step::Done(_)));
        if done {
            self.dialect = Some(current);
        }
    }

    /// Nothing came from the pack in a whole round of the master.
    fn miss(&mut self) {
        self.misses = if self.listener.is_busy() { 0 } else { self.misses + 1 };
        if self.misses >= MISSES {
            self.surveyed = false;
            self.current = Use::Ttl;
        }
        self.state = State::Failed(ProtocolError::Timeout {
            query: format!("the master's question to address {}", self.address),
            received: 0,
        });
    }
}

impl Driver for Wire {
    fn redact(&self, side: Side, bytes: &mut [u8]) {
        if side == Side::Battery {
            // Until it is known which of the two dialects it is, it may be either.
            Redactor::default().redact(bytes);
            TtlRedactor::default().redact(bytes);
        }
    }

    fn reset(&mut self) {
        self.ttl.reset();
        self.pb.reset();
        self.listener.reset();
        self.surveyed = false;
        self.current = Use::Ttl;
        self.misses = 0;
        self.start(CycleKind::Read);
    }

    fn start(&mut self, kind: CycleKind) {
        if matches!(kind, CycleKind::Write(_)) {
            self.state = State::Failed(ProtocolError::Unsupported {
                query: "the order".into(),
                reason: "switches of this brand are turned over Bluetooth only".into(),
            });
            return;
        }
        self.kind = kind;
        self.listener.start();
        let master = self.address == MASTER && self.dialect != Some(Use::Ttl);
        if self.current == Use::Listening || master {
            self.listen();
        } else if self.surveyed || self.dialect == Some(Use::Ttl) {
            self.speak();
        } else {
            self.state = State::Surveying;
        }
    }

    fn step(&mut self) -> Step {
        match &self.state {
            State::Surveying => Step::Await(SURVEY),
            State::Failed(error) => Step::Failed(error.clone()),
            State::Speaking => match (self.listener.reading().cloned(), self.runner()) {
                (_, Some(runner)) => runner.step(),
                (Some(reading), None) => Step::Done(Box::new(reading)),
                (None, None) => Step::Await((self.timeout * 8).clamp(SURVEY, ROUND)),
            },
        }
    }

    fn advance(&mut self) {
        if let (State::Speaking, Some(runner)) = (self.state.clone(), self.runner()) {
            runner.advance();
        }
    }

    /// Byte by byte, as a master may be heard in the middle of a piece.
    fn receive(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match self.state {
                State::Failed(_) => return,
                State::Surveying => {
                    self.listener.hear(byte);
                    if self.listener.is_busy() {
                        self.listen();
                    }
                }
                State::Speaking if self.current == Use::Listening => {
                    if self.listener.reading().is_none() {
                        self.listener.hear(byte);
                    }
                }
                State::Speaking => {
                    let foreign = matches!(self.ear.hear(byte), Some(Heard::Trigger(address))
                        if address != self.address);
                    if foreign {
                        self.listen();
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
            State::Surveying => {
                self.surveyed = true;
                self.speak();
            }
            State::Speaking if self.current == Use::Listening => {
                self.listener.silence();
                if self.listener.reading().is_none() {
                    self.miss();
                }
            }
            State::Speaking => {
                if let Some(runner) = self.runner() {
                    runner.handle_timeout();
                    self.note_success();
                }
            }
        }
    }
}
