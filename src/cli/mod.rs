//! Sub-commands. Only this folder writes to stdout: what `read`, `scan`, `decode` and `check`
//! answer. Logs and complaints go to stderr.
#![allow(clippy::print_stdout, clippy::print_stderr)]

/// A line of the answer. The standard macro of this name panics when nobody listens any more, and
/// a person who has seen enough (`bms-reader scan | head`) is no mistake of ours.
macro_rules! println {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

mod check;
mod decode;
mod demo;
mod diagnose;
mod healthcheck;
pub mod line;
mod read;
mod replay;
mod scan;
mod simulate;

use std::io::IsTerminal;
use std::process::ExitCode;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::app;
use crate::config::{self, Config, Diagnostics, LogSettings};
use crate::sim::serve::MAX_SPEED;
use line::{Asked, Command, Given, Job, Misuse, PROGRAM};

/// Everything went well.
const FINE: u8 = 0;
/// Something that was asked for failed.
const FAILED: u8 = 1;
/// The configuration or the command line is wrong.
const MISCONFIGURED: u8 = 2;

/// Every command, in the order in which a person comes to need it.
pub const COMMANDS: &[&Command] = &[
    &read::COMMAND,
    &check::COMMAND,
    &scan::COMMAND,
    &diagnose::COMMAND,
    &replay::COMMAND,
    &decode::COMMAND,
    &simulate::COMMAND,
    &demo::COMMAND,
    &healthcheck::COMMAND,
];

/// Parses the command line, obeys it, and gives the exit code.
pub fn main() -> ExitCode {
    let job = match job() {
        Ok(job) => job,
        Err(code) => return ExitCode::from(code),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(job);
            // A name server that does not answer must not hold up the end.
            runtime.shutdown_background();
            ExitCode::from(code)
        }
        Err(error) => {
            eprintln!("{PROGRAM}: cannot start: {error}");
            ExitCode::from(FAILED)
        }
    }
}

/// What there is to do, or the exit code where that is done already.
fn job() -> Result<Job, u8> {
    let refused = |misuse: Misuse| {
        eprintln!("{PROGRAM}: {misuse}");
        MISCONFIGURED
    };
    match line::parse(COMMANDS, std::env::args_os().skip(1)).map_err(refused)? {
        Asked::Service => Ok(Box::pin(with_config(serve))),
        Asked::Command(given) => (given.command.prepare)(&given)
            .map_err(|reason| refused(Misuse::new(Some(given.command), reason))),
        Asked::Help(help) => {
            println!("{}", help.trim_end());
            Err(FINE)
        }
        Asked::Version => {
            println!("{PROGRAM} {}", env!("CARGO_PKG_VERSION"));
            Err(FINE)
        }
    }
}

/// Loads the configuration, or prints everything that there is to say about it.
async fn with_config<F: Future<Output = u8>>(run: impl FnOnce(Config) -> F) -> u8 {
    match config::load(config::environment()) {
        Ok(config) => match start_log(&config.log) {
            Ok(()) => run(config).await,
            Err(code) => code,
        },
        Err(rejected) => complain(&rejected),
    }
}

/// How fast simulated time runs.
fn speed(given: &Given) -> Result<f64, String> {
    let fits = |speed: &f64| (0.0..=MAX_SPEED).contains(speed);
    let wanted = format!("from 0 (time stands still) to {MAX_SPEED}");
    let speed = given.value("speed", &wanted, |text| text.parse().ok().filter(fits))?;
    Ok(speed.unwrap_or(1.0))
}

/// The warnings first: the faults that they led to are the last thing to be read.
fn complain(rejected: &Diagnostics) -> u8 {
    for warning in &rejected.warnings {
        eprintln!("bms-reader: warning: {warning}");
    }
    for fault in &rejected.errors {
        eprintln!("bms-reader: {fault}");
    }
    MISCONFIGURED
}

/// What is wrong with Bluetooth, to be read after a heading that names it.
fn without_heading(trouble: &str) -> &str {
    trouble.strip_prefix("no Bluetooth: ").unwrap_or(trouble)
}

async fn serve(config: Config) -> u8 {
    match app::serve(config).await {
        Ok(()) => FINE,
        Err(error) => {
            eprintln!("bms-reader: cannot handle signals: {error}");
            FAILED
        }
    }
}

/// Logs go to stderr, without colour unless a person watches. The filter is the one without regular
/// expressions: those are 0.2 MB in a static binary, for matching fields of spans that nobody has.
fn start_log(log: &LogSettings) -> Result<(), u8> {
    let filter: Targets = log.filter.parse().map_err(|error| {
        eprintln!(
            "bms-reader: RUST_LOG is no log filter ({error}); for example: warn,bms_reader=debug"
        );
        MISCONFIGURED
    })?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    let filtered = tracing_subscriber::registry().with(filter);
    // A second start in one process (tests) keeps the first log.
    let _ = match log.json {
        true => filtered.with(lines.json()).try_init(),
        false => filtered.with(lines).try_init(),
    };
    Ok(())
}
