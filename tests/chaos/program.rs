//! The program under test, as a process of its own.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Variable with the program to test; otherwise it is the one that `cargo test` builds.
const PROGRAM: &str = "CHAOS_PROGRAM";

/// The program with its configuration.
pub struct Program {
    variables: Vec<(String, String)>,
    log: PathBuf,
    http_port: u16,
    process: Child,
}

/// What the process uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resources {
    pub descriptors: u64,
    pub threads: u64,
    pub memory_kb: u64,
}

impl Program {
    /// Starts it with these variables and no others.
    pub fn start(variables: Vec<(String, String)>, http_port: u16, folder: &Path) -> Self {
        let log = folder.join("program.log");
        let process = spawn(&variables, &log);
        Program { variables, log, http_port, process }
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn http_port(&self) -> u16 {
        self.http_port
    }

    /// Starts it again, for faults that end it on purpose.
    pub fn restart(&mut self) {
        self.kill();
        self.process = spawn(&self.variables, &self.log);
    }

    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    pub fn signal(&self, name: Signal) {
        signal(self.pid(), name);
    }

    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().expect("a child process")
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// `None` when the process has ended.
    pub fn resources(&self) -> Option<Resources> {
        let folder = PathBuf::from(format!("/proc/{}", self.pid()));
        let status = fs::read_to_string(folder.join("status")).ok()?;
        let number = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse().ok()
        };
        Some(Resources {
            descriptors: fs::read_dir(folder.join("fd")).ok()?.count() as u64,
            threads: number("Threads:")?,
            memory_kb: number("VmRSS:")?,
        })
    }

    /// Whether `/healthz` answers with success.
    pub fn is_healthy(&self) -> bool {
        let answer = || {
            let mut stream = TcpStream::connect(("127.0.0.1", self.http_port)).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
            write!(stream, "GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            Some(answer)
        };
        answer().is_some_and(|answer| answer.split(' ').nth(1) == Some("200"))
    }
}

/// How long the threads of a process were ready to run, but had no processor.
pub fn waiting(process: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let waiting = threads.filter_map(|thread| {
        let statistics = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        statistics.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    Duration::from_nanos(waiting.sum())
}

pub fn signal(process: u32, signal: Signal) {
    let id = Pid::from_raw(process.try_into().expect("a process id"));
    // It may have ended, which the observer reports.
    let _ = kill(id, signal);
}

fn spawn(variables: &[(String, String)], log: &Path) -> Child {
    let program = std::env::var_os(PROGRAM).unwrap_or(env!("CARGO_BIN_EXE_bms-reader").into());
    let log = File::options().create(true).append(true).open(log).expect("a log file");
    Command::new(program)
        .env_clear()
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("the program starts")
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}
