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
mod read;
mod replay;
mod scan;
mod simulate;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::app;
use crate::config::{self, Config, Log, Rejected};

/// Everything went well.
const FINE: u8 = 0;
/// Something that was asked for failed.
const FAILED: u8 = 1;
/// The configuration or the command line is wrong.
const MISCONFIGURED: u8 = 2;

/// Reads battery management systems and publishes them to MQTT and Home Assistant.
///
/// Without a command it runs as a service, configured by environment variables: BMS_PORT,
/// MQTT_HOST and so on. `bms-reader check` tells what is wrong with them.
#[derive(Debug, Parser)]
#[command(name = "bms-reader", version, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read each battery once; one JSON object per battery on stdout
    Read {
        /// Only this battery
        #[arg(long, value_name = "ID")]
        device: Option<String>,
        /// Write everything that is said to this file, for a bug report
        #[arg(long, value_name = "FILE")]
        capture: Option<PathBuf>,
    },
    /// Play a capture back through the drivers; one JSON object per attempt on stdout
    Replay {
        /// What `read --capture` or BMS_CAPTURE wrote
        file: PathBuf,
    },
    /// Try the configuration, the ports, Bluetooth and the broker, and say what to do
    Check,
    /// Print what a bug report needs, as Markdown to paste; secrets, hosts and Bluetooth
    /// addresses are masked
    Diagnose,
    /// List serial ports and Bluetooth devices, with the lines to put into the configuration
    Scan(scan::Arguments),
    /// Decode frames given as hex lines on stdin into one JSON object
    Decode {
        /// The make
        #[arg(long = "type", value_name = "TYPE")]
        make: String,
    },
    /// Simulate a battery on a pseudo-terminal or a TCP port, until stopped
    Simulate(simulate::Arguments),
    /// Everything at once with simulated batteries: no hardware, no broker, no configuration
    Demo(demo::Arguments),
    /// Ask the running service whether it is well (for Docker's HEALTHCHECK)
    Healthcheck,
}

/// Parses the command line, obeys it, and gives the exit code.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(obey(arguments.command));
            // A name server that does not answer must not hold up the end.
            runtime.shutdown_background();
            ExitCode::from(code)
        }
        Err(error) => {
            eprintln!("bms-reader: cannot start: {error}");
            ExitCode::from(FAILED)
        }
    }
}

async fn obey(command: Option<Command>) -> u8 {
    match command {
        Some(Command::Decode { make }) => decode::run(&make),
        Some(Command::Scan(arguments)) => scan::run(arguments).await,
        Some(Command::Simulate(options)) => simulate::run(options).await,
        Some(Command::Demo(arguments)) => demo::run(arguments).await,
        Some(Command::Diagnose) => diagnose::run().await,
        Some(Command::Check) => check::run().await,
        None => with_config(serve).await,
        Some(Command::Read { device, capture }) => {
            with_config(|config| read::run(config, device, capture)).await
        }
        Some(Command::Replay { file }) => replay::run(&file),
        Some(Command::Healthcheck) => healthcheck::run(),
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

/// The warnings first: the faults that they led to are the last thing to be read.
fn complain(rejected: &Rejected) -> u8 {
    for warning in &rejected.warnings {
        eprintln!("bms-reader: warning: {warning}");
    }
    for fault in &rejected.faults {
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
fn start_log(log: &Log) -> Result<(), u8> {
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
