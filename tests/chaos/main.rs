//! Schedules of random faults around the program, and an observer that checks what it promises.
//!
//! Usage: `chaos [COUNT] [--seed N] [--jobs N] [--only 1,3] [--faults NAME/GROUP...]`. Schedule `n` has seed `n`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(dead_code, reason = "some parts are for faults that come later")]
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::too_many_lines)]

#[path = "../common/bluez.rs"]
mod bluez;
mod clock;
mod faults;
mod line;
#[path = "../common/mosquitto.rs"]
mod mosquitto;
mod observer;
mod plan;
mod program;
mod promise;
#[path = "../common/proxy.rs"]
mod proxy;
mod radio;
mod report;
mod rig;
mod state;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use plan::Plan;
use report::Report;
use rig::Rig;

/// Schedules of the short form.
const COUNT: u64 = 16;
/// Schedules at a time; they mostly sleep.
const JOBS: u64 = 16;

fn main() -> ExitCode {
    let options = Options::parse();
    let (report, next) = (Mutex::new(Report::default()), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..options.jobs.min(options.count) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= options.count {
                        break;
                    }
                    let plan = options.plan(options.seed + number);
                    let outcome = Rig::start(plan.seed).run(&plan);
                    report.lock().unwrap().add(&plan, &outcome);
                }
            });
        }
    });
    let report = report.into_inner().unwrap();
    println!("{report}");
    if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Options {
    count: u64,
    seed: u64,
    jobs: u64,
    only: Option<Vec<usize>>,
    /// Names of faults or of groups.
    faults: Option<Vec<String>>,
}

impl Options {
    fn parse() -> Self {
        let mut options = Options { count: COUNT, seed: 1, jobs: JOBS, only: None, faults: None };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().unwrap_or_else(|| panic!("{name} needs a value"));
            match name.as_str() {
                "--seed" => (options.seed, options.count) = (number(&value()), 1),
                "--first" => options.seed = number(&value()),
                "--jobs" => options.jobs = number(&value()),
                "--only" => {
                    let numbers = value();
                    let numbers = numbers.split(',').map(|one| number(one) as usize);
                    options.only = Some(numbers.collect());
                }
                // Names contain commas.
                "--faults" => {
                    options.faults = Some(value().split('/').map(str::to_owned).collect());
                }
                count => options.count = number(count),
            }
        }
        options
    }

    fn plan(&self, seed: u64) -> Plan {
        let plan = Plan::new(seed, self.faults.as_deref());
        match &self.only {
            Some(numbers) => plan.only(numbers),
            None => plan,
        }
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("{text} is not a number"))
}
