//! The command line: the table of commands, parsing and help.
//!
//! Each command is a row in its own file. Parsing, help and the README's table are made from it.

mod help;
mod parse;

use std::pin::Pin;

use super::Outcome;

pub use parse::{Invocation, Matches, parse, usage_error};

pub const PROGRAM: &str = "bms-reader";

/// A command with its arguments.
pub type CommandFuture = Pin<Box<dyn Future<Output = Outcome>>>;

#[derive(Debug)]
pub struct Command {
    pub name: &'static str,
    /// What it does, in one sentence without a full stop.
    pub about: &'static str,
    /// Name and description of its required positional argument.
    pub positional: Option<(&'static str, &'static str)>,
    pub flags: &'static [Flag],
    /// Takes the arguments; an invalid one is reported before anything starts.
    pub prepare: fn(&Matches) -> Result<CommandFuture, String>,
}

/// An option of a command.
#[derive(Debug)]
pub struct Flag {
    pub name: &'static str,
    pub value: FlagValue,
    pub help: &'static str,
    pub default: Option<&'static str>,
    pub required: bool,
    /// For other programs: help does not show it.
    pub hidden: bool,
}

/// The values of a flag, with the name that the help shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlagValue {
    None,
    One(&'static str),
    Optional(&'static str),
    /// Any number of arguments.
    Many(&'static str),
    /// Separated by commas; the flag may be repeated.
    List(&'static str),
}

impl Flag {
    pub const fn new(name: &'static str, value: FlagValue, help: &'static str) -> Self {
        Flag { name, value, help, default: None, required: false, hidden: false }
    }

    pub const fn default(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }
}
