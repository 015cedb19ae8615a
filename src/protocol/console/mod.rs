//! Text consoles of Pylontech batteries: a command, its echo, `@`, lines of text,
//! `Command completed successfully`, `$$` and a prompt without an end of line.
//!
//! A brand implements [`Conversation`]: the next command, given the replies so far. [`ConsoleDriver`]
//! turns it into a [`Driver`]. [`QueryPlan`] is the conversation of a brand that sends the same
//! commands in every cycle, described by the table of a [`ConsoleDialect`].
//!
//! Line ends are mixed on real wires (LF CR behind the echo, CR CR LF behind rows, CR LF CR before
//! the prompt: esphome/issues 7114), so both characters separate lines and empty lines do not count.
//! A stale prompt may come first, so everything before the echo of our command is skipped.

pub mod info;
pub mod query_plan;
pub mod reply;
pub mod states;
pub mod table;

use std::time::Duration;

use super::query::TURN_ROUND;
use super::{CycleKind, Driver, Pause, ProtocolError, Step};
use crate::model::Reading;
use reply::{Reply, ReplyParser};

pub use query_plan::{ConsoleDialect, ConsoleQuery, Decode, QueryPlan, query};

/// The prompt behind a reply, which is often missing in text copied from a terminal.
pub const PROMPT: &str = "pylon>";

/// A freshly opened serial line may still deliver output of the console.
pub const SETTLE_TIME: Duration = Duration::from_secs(2);
/// Quiet time before a command. The prompt reports that the console is ready, and no source asks for
/// more.
pub const COMMAND_GAP: Duration = TURN_ROUND;

/// A command with its timing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Without the end of line.
    pub text: String,
    /// Limit for the whole reply.
    pub timeout: Duration,
    /// Quiet time before the command.
    pub pause: Duration,
}

/// What a conversation needs next.
#[derive(Debug, Clone)]
pub enum ConsoleStep {
    Send(Command),
    Done(Box<Reading>),
    Failed(ProtocolError),
}

/// One conversation with a console, in whole replies.
pub trait Conversation: Send {
    /// The link is new: forget log-ins and everything learned from the console.
    fn reset(&mut self);
    fn start(&mut self, kind: CycleKind);
    /// The next step; it stays the same until a reply or a timeout.
    fn step(&self) -> ConsoleStep;
    /// Handles the reply to the last command.
    fn on_reply(&mut self, reply: &Reply);
    /// No complete reply arrived, only this number of bytes.
    fn on_timeout(&mut self, received: usize);
}

/// Sends the commands of a conversation and parses the replies.
#[derive(Debug)]
pub struct ConsoleDriver<C> {
    conversation: C,
    state: State,
    parser: ReplyParser,
    /// Nothing was sent yet on this link.
    fresh: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Pausing,
    Sending,
    Receiving,
    Idle,
}

impl<C: Conversation> ConsoleDriver<C> {
    pub fn new(conversation: C) -> Self {
        let (state, parser) = (State::Idle, ReplyParser::default());
        let mut driver = ConsoleDriver { conversation, state, parser, fresh: true };
        driver.start(CycleKind::Read);
        driver
    }

    fn begin_step(&mut self) {
        self.state = match self.conversation.step() {
            ConsoleStep::Send(command) => {
                self.parser = ReplyParser::new(&command.text);
                if !self.fresh && command.pause.is_zero() { State::Sending } else { State::Pausing }
            }
            ConsoleStep::Done(_) | ConsoleStep::Failed(_) => State::Idle,
        };
    }

    fn pause(&self, command: &Command) -> Pause {
        if self.fresh { Pause::Full(SETTLE_TIME) } else { Pause::Quiet(command.pause) }
    }
}

impl<C: Conversation> Driver for ConsoleDriver<C> {
    fn reset(&mut self) {
        self.fresh = true;
        self.conversation.reset();
        self.start(CycleKind::Read);
    }

    fn start(&mut self, kind: CycleKind) {
        self.conversation.start(kind);
        self.begin_step();
    }

    fn step(&mut self) -> Step {
        match (self.conversation.step(), self.state) {
            (ConsoleStep::Send(command), State::Pausing) => Step::Pause(self.pause(&command)),
            (ConsoleStep::Send(command), State::Sending) => {
                Step::Send(format!("{}\n", command.text).into())
            }
            (ConsoleStep::Send(command), _) => Step::Await(command.timeout),
            (ConsoleStep::Done(reading), _) => Step::Done(reading),
            (ConsoleStep::Failed(error), _) => Step::Failed(error),
        }
    }

    fn advance(&mut self) {
        match self.state {
            State::Pausing => self.state = State::Sending,
            State::Sending => {
                self.fresh = false;
                self.state = State::Receiving;
            }
            State::Receiving | State::Idle => {}
        }
    }

    /// Bytes that arrive while no reply is awaited are dropped.
    fn receive(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.state != State::Receiving {
                return;
            }
            if let Some(reply) = self.parser.push(*byte) {
                self.conversation.on_reply(&reply);
                self.begin_step();
            }
        }
    }

    fn handle_timeout(&mut self) {
        if self.state == State::Receiving {
            match self.parser.finish() {
                Some(reply) => self.conversation.on_reply(&reply),
                None => self.conversation.on_timeout(self.parser.received),
            }
            self.begin_step();
        }
    }
}

/// The reply cannot be decoded.
pub(crate) fn unreadable(command: &str, reason: impl Into<String>) -> ProtocolError {
    ProtocolError::BadFrame { query: quoted(command), reason: reason.into() }
}

/// The reply did not arrive completely.
pub(crate) fn timed_out(command: &str, received: usize) -> ProtocolError {
    ProtocolError::Timeout { query: quoted(command), received }
}

fn quoted(command: &str) -> String {
    format!("`{command}`")
}
