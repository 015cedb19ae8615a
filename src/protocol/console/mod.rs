//! Text consoles, as Pylontech batteries have them: a command, its echo, `@`, lines of text,
//! `Command completed successfully`, `$$` and a prompt without an end of line.
//!
//! A brand writes a [`Script`]: what to say next, given what was answered. [`Terminal`] makes a
//! [`Driver`] of it; [`Survey`] is the script of those who ask the same few things in every cycle.
//!
//! Line ends are mixed on real wires (LF CR behind the echo, CR CR LF behind rows, CR LF CR before
//! the prompt: esphome/issues 7114), so both characters separate and empty lines do not count. A
//! stale prompt may come first, so everything in front of the echo of our command is skipped.

pub mod info;
pub mod reply;
pub mod survey;
pub mod table;
pub mod words;

use std::time::Duration;

use crate::model::Reading;
use crate::protocol::{CycleKind, Driver, ProtocolError, Step};
use reply::{Listener, Reply};

pub use survey::{Questions, Survey};

/// A console fresh from the start of its line may print to itself for a moment.
pub const SETTLING: Duration = Duration::from_secs(2);
/// Time to leave a console between two commands.
pub const GAP: Duration = Duration::from_millis(100);

/// The prompt at the end of an answer, which people who copy from a terminal may leave out.
pub const PROMPT: &str = "pylon>";

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What is typed, without its end of line.
    pub command: String,
    /// Time for the answer.
    pub patience: Duration,
    /// Quiet time before it.
    pub pause: Duration,
}

/// What a script wants.
#[derive(Debug, Clone)]
pub enum Turn {
    /// Type this and hear the answer.
    Say(Line),
    /// The cycle ended well.
    Done(Box<Reading>),
    /// The cycle ended badly.
    Failed(ProtocolError),
}

/// One conversation with a console, a whole answer at a time.
pub trait Script: Send {
    /// The link is new.
    fn forget(&mut self);
    /// A cycle begins.
    fn begin(&mut self, kind: CycleKind);
    /// What to do now; the same until something is answered or stays unanswered.
    fn turn(&self) -> Turn;
    /// The answer to the last command.
    fn answered(&mut self, reply: &Reply);
    /// No whole answer came, only so many bytes.
    fn unanswered(&mut self, received: usize);
}

/// Types the commands of a script and hears the answers.
#[derive(Debug)]
pub struct Terminal<S> {
    script: S,
    state: State,
    listener: Listener,
    /// Nothing was typed yet on this link.
    fresh: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Pausing,
    Typing,
    Listening,
    Over,
}

impl<S: Script> Terminal<S> {
    /// Ready for the first cycle of a session.
    pub fn new(script: S) -> Self {
        let (state, listener) = (State::Over, Listener::default());
        let mut terminal = Terminal { script, state, listener, fresh: true };
        terminal.start(CycleKind::Read);
        terminal
    }

    fn go_on(&mut self) {
        self.state = match self.script.turn() {
            Turn::Say(line) => {
                self.listener = Listener::for_answer_to(&line.command);
                if self.pause(&line).is_zero() { State::Typing } else { State::Pausing }
            }
            Turn::Done(_) | Turn::Failed(_) => State::Over,
        };
    }
}

impl<S: Script> Terminal<S> {
    fn pause(&self, line: &Line) -> Duration {
        if self.fresh { SETTLING.max(line.pause) } else { line.pause }
    }
}

impl<S: Script> Driver for Terminal<S> {
    fn reset(&mut self) {
        self.fresh = true;
        self.script.forget();
        self.start(CycleKind::Read);
    }

    fn start(&mut self, kind: CycleKind) {
        self.script.begin(kind);
        self.go_on();
    }

    fn step(&mut self) -> Step {
        match (self.script.turn(), self.state) {
            (Turn::Say(line), State::Pausing) => Step::Pause(self.pause(&line)),
            (Turn::Say(line), State::Typing) => Step::Send(format!("{}\n", line.command).into()),
            (Turn::Say(line), _) => Step::Await(line.patience),
            (Turn::Done(reading), _) => Step::Done(reading),
            (Turn::Failed(error), _) => Step::Failed(error),
        }
    }

    fn advance(&mut self) {
        match self.state {
            State::Pausing => self.state = State::Typing,
            State::Typing => {
                self.fresh = false;
                self.state = State::Listening;
            }
            State::Listening | State::Over => {}
        }
    }

    /// What comes while nothing is awaited answers no command of ours and is dropped.
    fn receive(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.state != State::Listening {
                return;
            }
            if let Some(reply) = self.listener.hear(*byte) {
                self.script.answered(&reply);
                self.go_on();
            }
        }
    }

    fn handle_timeout(&mut self) {
        if self.state == State::Listening {
            match self.listener.conclude() {
                Some(reply) => self.script.answered(&reply),
                None => self.script.unanswered(self.listener.received()),
            }
            self.go_on();
        }
    }
}

/// An answer that is not what was asked for.
pub(crate) fn unreadable(command: &str, reason: impl Into<String>) -> ProtocolError {
    ProtocolError::BadFrame { query: quoted(command), reason: reason.into() }
}

/// An answer that never came, or never ended.
pub(crate) fn silent(command: &str, received: usize) -> ProtocolError {
    ProtocolError::Timeout { query: quoted(command), received }
}

/// A command that this console does not have.
pub(crate) fn unknown(command: &str, complaint: &str) -> ProtocolError {
    ProtocolError::Unsupported { query: quoted(command), reason: complaint.to_owned() }
}

fn quoted(command: &str) -> String {
    format!("`{command}`")
}
