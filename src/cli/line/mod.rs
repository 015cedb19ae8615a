//! The command line: what commands may be told, and what this one was told.
//!
//! Each command is one row, in the command's own file. Parsing, help and the README's table are
//! made from it.

mod help;
mod parse;

use std::pin::Pin;

pub use parse::{Asked, Given, Misuse, parse};

/// The program's name, as it is typed.
pub const PROGRAM: &str = "bms-reader";

/// What a command does, once it knows everything; it gives the exit code.
pub type Job = Pin<Box<dyn Future<Output = u8>>>;

/// One command.
#[derive(Debug)]
pub struct Command {
    /// How it is called.
    pub name: &'static str,
    /// What it does, in one sentence without a full stop.
    pub does: &'static str,
    /// The one thing without a flag that it has to be given, and what that is.
    pub operand: Option<(&'static str, &'static str)>,
    /// What else it may be told.
    pub flags: &'static [Flag],
    /// Takes what it needs from the line; a wrong value is told before anything starts.
    pub prepare: fn(&Given) -> Result<Job, String>,
}

/// Something that a command may be told.
#[derive(Debug)]
pub struct Flag {
    name: &'static str,
    takes: Takes,
    help: &'static str,
    default: Option<&'static str>,
    required: bool,
    hidden: bool,
}

/// What follows a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Nothing.
    Nothing,
    /// A value of this name.
    One(&'static str),
    /// A value or none.
    Maybe(&'static str),
    /// Any number of values, each a word of its own.
    Words(&'static str),
    /// Values between commas, or the flag several times.
    List(&'static str),
}

impl Flag {
    /// One that may be left out.
    pub const fn new(name: &'static str, takes: Takes, help: &'static str) -> Self {
        Flag { name, takes, help, default: None, required: false, hidden: false }
    }

    /// What counts when it is left out.
    pub const fn or(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    /// It must not be left out.
    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// For programs, so help does not speak of it.
    pub const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }
}
