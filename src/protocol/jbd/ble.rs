//! What is different on Bluetooth, before the first reply:
//!
//! ```text
//! request --reply--> as on the wire
//!    | timeout: an idle board may sleep through the first request
//! request again
//!    | timeout                        | an echo of the request
//! handshake (15, 17, 18)           the module must be paired
//!    |
//! request, for the last time
//! ```
//!
//! On a wire none of this is done: there a timeout delays the other batteries.

use std::time::Duration;

use super::Jbd;
use super::frame::START;
use super::handshake::{self, Request, SECRET, scramble};
use crate::model::Secret;
use crate::protocol::{CycleKind, Driver, Options, ProtocolError, Runner, Side, Step};

/// The key and the password as the factory sets them.
const FACTORY: [u8; SECRET] = *b"000000";

/// What some modules insert between the notifications of one reply. No piece of a reply looks like
/// it: the first begins with DD, the last ends with 77, and those between are longer.
const NOISE: &[u8] = b"AT\r\n";

/// Bytes that may wait for the rest of a handshake reply.
const BUFFER: usize = 64;

const PAIRING: &str = "the battery repeats each request instead of answering it: its Bluetooth \
    module must first be paired with the password of the battery";
const KEY: &str = "the Bluetooth module refused the key (the password, or 000000 without one)";
const PASSWORD: &str = "the Bluetooth module refused the password";
const NO_PASSWORD: &str = "the Bluetooth module requires a password other than 000000: \
    set that of the phone app";
const LENGTH: &str = "the password of a JBD battery has six characters";
const NO_ADDRESS: &str = "the password is mixed with the Bluetooth address, which is unknown";

/// A conversation over Bluetooth.
#[derive(Debug)]
pub(super) struct JbdBle {
    runner: Runner,
    timeout: Duration,
    mac: Option<[u8; 6]>,
    password: Option<Secret>,
    kind: CycleKind,
    state: State,
    /// The request that waits for its reply.
    request: Vec<u8>,
    /// What was received since, as long as that may be its echo.
    received: Vec<u8>,
    /// A reply that arrived during the handshake, for the next request.
    early: Vec<u8>,
    cycle: Cycle,
    /// The module accepted the handshake on this connection.
    admitted: bool,
    /// It replies after the handshake only. That belongs to the module and not to the connection,
    /// so a new one begins with the handshake.
    needs_handshake: bool,
}

/// What happened in this cycle.
#[derive(Debug, Default)]
struct Cycle {
    /// Something was received that is no echo.
    replied: bool,
    /// The first request was repeated.
    repeated: bool,
    handshake_tried: bool,
    /// The factory password was refused, but reading may not need it.
    password_refused: bool,
}

#[derive(Debug)]
enum State {
    Running,
    Handshake { request: Request, sent: bool, received: Vec<u8> },
    Failed(ProtocolError),
}

impl JbdBle {
    pub(super) fn new(runner: Runner, options: &Options) -> Self {
        JbdBle {
            runner,
            timeout: Jbd::new(options).timeout,
            mac: options.mac,
            password: options.password.clone(),
            kind: CycleKind::Read,
            state: State::Running,
            request: Vec::new(),
            received: Vec::new(),
            early: Vec::new(),
            cycle: Cycle::default(),
            admitted: false,
            needs_handshake: false,
        }
    }

    /// Starts the requests over. Nothing had a reply before, so nothing is lost.
    fn restart(&mut self) {
        self.received.clear();
        self.runner.start(self.kind);
        self.state = State::Running;
    }

    fn shake_hands(&mut self, request: Request) {
        self.cycle.handshake_tried = true;
        self.state = State::Handshake { request, sent: false, received: Vec::new() };
    }

    fn fail(&mut self, reason: &str) {
        self.state = State::Failed(ProtocolError::Login { reason: reason.to_owned() });
    }

    fn admit(&mut self) {
        self.admitted = true;
        self.restart();
    }

    /// The operator's password, if there is one.
    fn password(&self) -> Result<Option<[u8; SECRET]>, &'static str> {
        let fits = |secret: &Secret| secret.expose().as_bytes().try_into().map_err(|_| LENGTH);
        self.password.as_ref().map(fits).transpose()
    }

    /// Continues the handshake. A module whose key is not that of the factory gets no password: the
    /// operator knows one secret only, and that was the key.
    fn handle_reply(&mut self, request: Request, reply: u8) -> Result<(), &'static str> {
        match (request, reply) {
            (Request::Key(FACTORY), 0) => self.shake_hands(Request::Random),
            (Request::Key(_), 0 | 2) | (Request::Password(_), 0) => self.admit(),
            (Request::Key(FACTORY), _) => match self.password()? {
                Some(secret) if secret != FACTORY => self.shake_hands(Request::Key(secret)),
                _ => return Err(KEY),
            },
            (Request::Key(_), _) => return Err(KEY),
            (Request::Random, random) => {
                let mac = self.mac.ok_or(NO_ADDRESS)?;
                let secret = self.password()?.unwrap_or(FACTORY);
                self.shake_hands(Request::Password(scramble(secret, mac, random)));
            }
            (Request::Password(_), _) if self.password.is_some() => return Err(PASSWORD),
            (Request::Password(_), _) => {
                self.cycle.password_refused = true;
                self.admit();
            }
        }
        Ok(())
    }

    /// What was received since the request, without the zero that modules send on a subscription.
    fn reply(&self) -> &[u8] {
        let zeros = self.received.iter().take_while(|&&byte| byte == 0).count();
        &self.received[zeros..]
    }

    /// The first request of a cycle had no reply.
    fn handle_first_timeout(&mut self) {
        let echo = !self.received.is_empty() && self.reply() == self.request;
        if !self.cycle.repeated {
            self.cycle.repeated = true;
            self.restart();
        } else if echo {
            self.fail(PAIRING);
        } else if !self.cycle.handshake_tried {
            self.shake_hands(Request::Key(FACTORY));
        } else if self.cycle.password_refused {
            self.fail(NO_PASSWORD);
        } else {
            self.runner.handle_timeout();
        }
    }
}

impl Driver for JbdBle {
    fn reset(&mut self) {
        self.runner.reset();
        self.admitted = false;
        self.start(CycleKind::Read);
    }

    fn start(&mut self, kind: CycleKind) {
        self.kind = kind;
        self.request.clear();
        self.early.clear();
        self.cycle = Cycle::default();
        self.restart();
        if self.needs_handshake && !self.admitted {
            self.shake_hands(Request::Key(FACTORY));
        }
    }

    fn step(&mut self) -> Step {
        match &self.state {
            State::Running => self.runner.step(),
            State::Handshake { request, sent: false, .. } => Step::Send(request.encode()),
            State::Handshake { .. } => Step::Await(self.timeout),
            State::Failed(error) => Step::Failed(error.clone()),
        }
    }

    fn advance(&mut self) {
        match &mut self.state {
            State::Running => {
                if let Step::Send(request) = self.runner.step() {
                    self.request = request;
                    self.received.clear();
                }
                self.runner.advance();
                if !self.early.is_empty() && self.runner.is_receiving() {
                    let early = std::mem::take(&mut self.early);
                    self.receive(&early);
                }
            }
            State::Handshake { sent, .. } => *sent = true,
            State::Failed(_) => {}
        }
    }

    fn receive(&mut self, bytes: &[u8]) {
        if bytes == NOISE {
            return;
        }
        match &mut self.state {
            // The module passes replies on, so the rest of the handshake is not needed.
            State::Handshake { request: Request::Random, sent: true, received }
                if received.is_empty() && bytes.first() == Some(&START) =>
            {
                self.early = bytes.to_vec();
                self.admit();
            }
            State::Running => {
                if !self.cycle.replied && self.runner.is_receiving() {
                    let free = BUFFER.saturating_sub(self.received.len());
                    self.received.extend(bytes.iter().take(free));
                    self.cycle.replied = !self.request.starts_with(self.reply());
                    self.needs_handshake |=
                        self.cycle.replied && self.cycle.handshake_tried && self.admitted;
                }
                self.runner.receive(bytes);
            }
            State::Handshake { request, sent: true, received } => {
                let request = *request;
                let mut reply = None;
                for &byte in bytes {
                    received.push(byte);
                    let excess = received.len().saturating_sub(BUFFER);
                    received.drain(..excess);
                    reply = reply.or_else(|| request.reply(received));
                }
                if let Some(Err(reason)) = reply.map(|reply| self.handle_reply(request, reply)) {
                    self.fail(reason);
                }
            }
            State::Handshake { .. } | State::Failed(_) => {}
        }
    }

    fn handle_timeout(&mut self) {
        match self.state {
            State::Running if self.cycle.replied => self.runner.handle_timeout(),
            State::Running if self.runner.is_receiving() => {
                self.handle_first_timeout();
            }
            // The module knows no handshake, and the request was repeated already.
            State::Handshake { request: Request::Key(_), sent: true, .. }
                if self.cycle.repeated =>
            {
                self.state = State::Running;
                self.runner.handle_timeout();
            }
            // It may reply to requests all the same.
            State::Handshake { sent: true, .. } => self.restart(),
            _ => {}
        }
    }

    fn redact(&self, side: Side, bytes: &mut [u8]) {
        if side == Side::Reader {
            handshake::redact(bytes);
        }
    }
}
