//! Commands. Only this folder writes to stdout: the results of the commands. Logs and errors go to
//! stderr.
#![allow(clippy::print_stdout, clippy::print_stderr)]

/// Prints a line to stdout whose loss is no failure of the command. The standard macro panics when
/// the reader is gone.
macro_rules! println {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

pub mod args;
mod check;
mod decode;
mod demo;
mod diagnose;
mod healthcheck;
mod http;
mod log;
mod migrate;
mod notify;
mod profile;
mod read;
mod remove;
mod replay;
mod scan;
mod simulate;
mod status;
mod table;
mod terminal;

#[cfg(fuzzing)]
pub use replay::replay as replay_capture;

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::app;
use crate::config::{self, Config, Diagnostics};
use crate::did_you_mean::closest;
use crate::protocol;
use crate::remedy;
use args::{Command, CommandFuture, Invocation, PROGRAM};

/// Exit codes of the contract.
const SUCCESS: u8 = 0;
const FAILED: u8 = 1;
const MISCONFIGURED: u8 = 2;
/// The end was requested by a command; whatever supervises the program starts it again.
const RESTART: u8 = 75;

/// Every command, in the order of the help.
pub const COMMANDS: &[&Command] = &[
    &read::COMMAND,
    &status::COMMAND,
    &check::COMMAND,
    &notify::COMMAND,
    &scan::COMMAND,
    &remove::COMMAND,
    &diagnose::COMMAND,
    &replay::COMMAND,
    &decode::COMMAND,
    &simulate::COMMAND,
    &profile::CHECK,
    &profile::SHOW,
    &profile::NEW,
    &demo::COMMAND,
    &migrate::COMMAND,
    &healthcheck::COMMAND,
];

/// Commands that look up types of batteries without loading the configuration.
const WITH_PROFILES: [&str; 4] = ["scan", "replay", "decode", "simulate"];

/// The exit code of a command, or the error that ended it.
pub type Outcome = Result<u8, CommandError>;

/// An error that ends the program.
#[derive(Debug)]
pub struct CommandError {
    exit_code: u8,
    message: String,
}

fn failed(message: impl Display) -> CommandError {
    CommandError { exit_code: FAILED, message: message.to_string() }
}

fn misconfigured(message: impl Display) -> CommandError {
    CommandError { exit_code: MISCONFIGURED, message: message.to_string() }
}

/// The probable type, and where the list is.
fn unknown_type(name: &str, command: &str) -> String {
    let near = || closest(name, protocol::names()).map(|(near, _)| near);
    let near = protocol::nickname(name).or_else(near);
    let near = near.map(|near| format!("did you mean {near}? ")).unwrap_or_default();
    format!("unknown type {name}; {near}`{PROGRAM} {command} --help` lists all types")
}

/// Prints a line of the result of a command. A reader that closes the pipe, as in
/// `bms-reader scan | head`, is no error; a full disk is one.
fn print(line: impl Display) -> Result<(), CommandError> {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let error = format!("cannot write to stdout: {error}; free space, or print elsewhere");
            Err(failed(error))
        }
        _ => Ok(()),
    }
}

/// The warnings come first: the errors that they cause are the last thing to be read.
impl From<Diagnostics> for CommandError {
    fn from(diagnostics: Diagnostics) -> Self {
        let warnings = diagnostics.warnings.iter().map(|warning| format!("warning: {warning}"));
        let errors = diagnostics.errors.iter().map(ToString::to_string);
        let lines: Vec<_> = warnings.chain(errors).collect();
        misconfigured(lines.join(&format!("\n{PROGRAM}: ")))
    }
}

/// Parses the command line and runs the command.
pub fn main() -> ExitCode {
    app::process::disable_core_dumps();
    remedy::set_installation(config::installation(&config::environment()));
    let outcome = parse().and_then(|command| command.map_or(Ok(SUCCESS), run));
    log::flush();
    ExitCode::from(outcome.unwrap_or_else(|error| {
        eprintln!("{PROGRAM}: {}", error.message);
        error.exit_code
    }))
}

/// The command to run; `None` if help or the version was printed.
fn parse() -> Result<Option<CommandFuture>, CommandError> {
    match args::parse(COMMANDS, std::env::args_os().skip(1)).map_err(misconfigured)? {
        Invocation::Service => Ok(Some(Box::pin(serve()))),
        Invocation::Command(matches) => {
            if WITH_PROFILES.contains(&matches.command.name) {
                load_profiles()?;
            }
            match (matches.command.prepare)(&matches) {
                Ok(command) => Ok(Some(command)),
                Err(reason) => {
                    Err(misconfigured(args::usage_error(Some(matches.command), &reason)))
                }
            }
        }
        Invocation::Print(text) => {
            print(text.trim_end())?;
            Ok(None)
        }
    }
}

fn run(command: CommandFuture) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed(format!("cannot start: {error}")))?;
    let outcome = runtime.block_on(command);
    // A DNS server that does not answer must not delay the exit.
    runtime.shutdown_background();
    outcome
}

async fn serve() -> Outcome {
    let config = load_config()?;
    log::start_queued(&config.log)?;
    let served = app::serve(config, log::set_level).await;
    let restart = served.map_err(|error| failed(format!("cannot handle signals: {error}")))?;
    Ok(if restart { RESTART } else { SUCCESS })
}

/// The warnings go to stderr, because these commands have no log.
fn load_profiles() -> Result<(), CommandError> {
    let diagnostics = config::load_profiles(config::environment());
    if !diagnostics.errors.is_empty() {
        return Err(diagnostics.into());
    }
    for warning in &diagnostics.warnings {
        eprintln!("{PROGRAM}: warning: {warning}");
    }
    Ok(())
}

fn load_config() -> Result<Config, CommandError> {
    Ok(config::load(config::environment())?)
}
