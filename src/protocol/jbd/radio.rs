//! What is different on Bluetooth, before the first answer:
//!
//! ```text
//! question --answer--> as on the wire
//!    | nothing: an idle board may sleep through the first question
//! question again
//!    | nothing                        | the question came back
//! handshake (15, 17, 18)           the link must be paired
//!    |
//! question, for the last time
//! ```
//!
//! On a wire none of this is done: there silence costs the other batteries time.

use std::time::Duration;

use super::Jbd;
use super::handshake::{self, SECRET, Word, scramble};
use crate::model::Secret;
use crate::protocol::query::Runner;
use crate::protocol::{CycleKind, Driver, Options, ProtocolError, Side, Step};

/// The key and the password as the factory sets them.
const FACTORY: [u8; SECRET] = *b"000000";

/// What some modules slip in between the notifications of one answer. No piece of an answer looks
/// so: the first begins with DD, the last ends with 77, and those between are longer.
const CHATTER: &[u8] = b"AT\r\n";

/// Bytes that may wait for the rest of a word of the handshake.
const BUFFER: usize = 64;

const PAIRING: &str = "the battery repeats each question instead of answering it: its Bluetooth \
    module wants to be paired with its passkey first (BMS_PASSWORD)";
const KEY: &str = "the Bluetooth module refused the key (BMS_PASSWORD, or 000000 when not set)";
const PASSWORD: &str = "the Bluetooth module refused the password (BMS_PASSWORD)";
const NO_PASSWORD: &str = "the Bluetooth module wants a password, and it is not 000000: set \
    BMS_PASSWORD to the one of the phone app";
const LENGTH: &str = "a password of this brand (BMS_PASSWORD) has six characters";
const NO_ADDRESS: &str = "the password is mixed with the Bluetooth address, which is not known";

/// A conversation over Bluetooth.
#[derive(Debug)]
pub(super) struct JbdBle {
    runner: Runner<Jbd>,
    timeout: Duration,
    mac: Option<[u8; 6]>,
    password: Option<Secret>,
    kind: CycleKind,
    state: State,
    /// The question that waits for its answer.
    question: Vec<u8>,
    /// What came after it, for as long as that may be its echo.
    heard: Vec<u8>,
    /// Something came in this cycle that is no echo.
    spoken: bool,
    repeated: bool,
    /// The handshake was tried in this cycle.
    tried: bool,
    /// The module let us in, on this link.
    entered: bool,
    /// The password was tried and refused, but reading may not need it.
    locked: bool,
    /// It answers after the handshake only. That belongs to the module, not to the link, so a new
    /// link begins with it.
    reserved: bool,
}

#[derive(Debug)]
enum State {
    Talking,
    Shaking { word: Word, said: bool, heard: Vec<u8> },
    Over(ProtocolError),
}

impl JbdBle {
    pub(super) fn new(runner: Runner<Jbd>, options: &Options) -> Self {
        JbdBle {
            runner,
            timeout: Jbd::new(options).timeout,
            mac: options.mac,
            password: options.password.clone(),
            kind: CycleKind::Read,
            state: State::Talking,
            question: Vec::new(),
            heard: Vec::new(),
            spoken: false,
            repeated: false,
            tried: false,
            entered: false,
            locked: false,
            reserved: false,
        }
    }

    /// Asks from the beginning. Nothing was answered before, so nothing is lost.
    fn talk(&mut self) {
        self.heard.clear();
        self.runner.start(self.kind);
        self.state = State::Talking;
    }

    fn say(&mut self, word: Word) {
        self.tried = true;
        self.state = State::Shaking { word, said: false, heard: Vec::new() };
    }

    fn refuse(&mut self, reason: &str) {
        self.state = State::Over(ProtocolError::Login { reason: reason.to_owned() });
    }

    fn enter(&mut self) {
        self.entered = true;
        self.talk();
    }

    /// The operator's password, if there is one of the right length.
    fn password(&self) -> Result<Option<[u8; SECRET]>, &'static str> {
        let fits = |secret: &Secret| secret.expose().as_bytes().try_into().map_err(|_| LENGTH);
        self.password.as_ref().map(fits).transpose()
    }

    /// Goes on with the handshake. A module whose key is not that of the factory is asked for no
    /// password: the operator knows but one secret, and the key was it.
    fn follow(&mut self, word: Word, answer: u8) -> Result<(), &'static str> {
        match (word, answer) {
            (Word::Key(FACTORY), 0) => self.say(Word::Random),
            (Word::Key(_), 0 | 2) | (Word::Password(_), 0) => self.enter(),
            (Word::Key(FACTORY), _) => match self.password()? {
                Some(secret) if secret != FACTORY => self.say(Word::Key(secret)),
                _ => return Err(KEY),
            },
            (Word::Key(_), _) => return Err(KEY),
            (Word::Random, random) => {
                let mac = self.mac.ok_or(NO_ADDRESS)?;
                let secret = self.password()?.unwrap_or(FACTORY);
                self.say(Word::Password(scramble(secret, mac, random)));
            }
            (Word::Password(_), _) if self.password.is_some() => return Err(PASSWORD),
            (Word::Password(_), _) => {
                self.locked = true;
                self.enter();
            }
        }
        Ok(())
    }

    /// What came since the question, without the zero that modules send when somebody subscribes.
    fn words(&self) -> &[u8] {
        let zeros = self.heard.iter().take_while(|&&byte| byte == 0).count();
        &self.heard[zeros..]
    }

    /// The first question stayed without an answer.
    fn unanswered(&mut self) {
        let echo = !self.heard.is_empty() && self.words() == self.question;
        if !self.repeated {
            self.repeated = true;
            self.talk();
        } else if echo {
            self.refuse(PAIRING);
        } else if !self.tried {
            self.say(Word::Key(FACTORY));
        } else if self.locked {
            self.refuse(NO_PASSWORD);
        } else {
            self.runner.handle_timeout();
        }
    }
}

impl Driver for JbdBle {
    fn reset(&mut self) {
        self.runner.reset();
        self.entered = false;
        self.start(CycleKind::Read);
    }

    fn start(&mut self, kind: CycleKind) {
        self.kind = kind;
        self.question.clear();
        (self.spoken, self.repeated, self.tried, self.locked) = (false, false, false, false);
        self.talk();
        if self.reserved && !self.entered {
            self.say(Word::Key(FACTORY));
        }
    }

    fn step(&mut self) -> Step {
        match &self.state {
            State::Talking => self.runner.step(),
            State::Shaking { word, said: false, .. } => Step::Send(word.encode()),
            State::Shaking { .. } => Step::Await(self.timeout),
            State::Over(error) => Step::Failed(error.clone()),
        }
    }

    fn advance(&mut self) {
        match &mut self.state {
            State::Talking => {
                if let Step::Send(question) = self.runner.step() {
                    self.question = question;
                    self.heard.clear();
                }
                self.runner.advance();
            }
            State::Shaking { said, .. } => *said = true,
            State::Over(_) => {}
        }
    }

    fn receive(&mut self, bytes: &[u8]) {
        if bytes == CHATTER {
            return;
        }
        match &mut self.state {
            State::Talking => {
                if !self.spoken && matches!(self.runner.step(), Step::Await(_)) {
                    let room = BUFFER.saturating_sub(self.heard.len());
                    self.heard.extend(bytes.iter().take(room));
                    self.spoken = !self.question.starts_with(self.words());
                    self.reserved |= self.spoken && self.tried && self.entered;
                }
                self.runner.receive(bytes);
            }
            State::Shaking { word, said: true, heard } => {
                let word = *word;
                let mut answer = None;
                for &byte in bytes {
                    heard.push(byte);
                    let excess = heard.len().saturating_sub(BUFFER);
                    heard.drain(..excess);
                    answer = answer.or_else(|| word.answer(heard));
                }
                if let Some(Err(reason)) = answer.map(|answer| self.follow(word, answer)) {
                    self.refuse(reason);
                }
            }
            State::Shaking { .. } | State::Over(_) => {}
        }
    }

    fn redact(&self, side: Side, bytes: &mut [u8]) {
        if side == Side::Reader {
            handshake::redact(bytes);
        }
    }

    fn handle_timeout(&mut self) {
        match self.state {
            State::Talking if self.spoken => self.runner.handle_timeout(),
            State::Talking if matches!(self.runner.step(), Step::Await(_)) => self.unanswered(),
            // It knows no handshake, and has been asked often enough.
            State::Shaking { word: Word::Key(_), said: true, .. } if self.repeated => {
                self.state = State::Talking;
                self.runner.handle_timeout();
            }
            // Perhaps it answers all the same.
            State::Shaking { said: true, .. } => self.talk(),
            _ => {}
        }
    }
}
