//! Schedules of random faults around the program, and an observer that checks what it promises.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

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
mod view;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;

use plan::Plan;
use report::Report;
use rig::{Outcome, Rig};

const USAGE: &str = "usage: chaos [COUNT] [OPTIONS]
  COUNT          schedules [8]; the n-th has the seed n
  --first N      the seed of the first one [1]
  --seed N       only the schedule with this seed
  --only 1,3     only these faults of each schedule
  --faults A/B   only faults with these names or of these groups
  --reduce       with --seed: leave out faults as long as the same promise is broken
  --jobs N       schedules at a time, which mostly sleep [16]
  --report FILE  write the figures into this document
  --resume FILE  leave out what an earlier run with this output has kept, and count it
Environment: CHAOS_PROGRAM is the program to test";

/// Tries of a reduced schedule, as a failure may depend on the moment.
const REPETITIONS: usize = 2;

fn main() -> ExitCode {
    let options = Options::parse();
    if options.reduces {
        reduce(options.plans().remove(0));
        return ExitCode::FAILURE;
    }
    let mut report = Report::default();
    let (plans, kept) = options.split(options.plans());
    kept.iter().for_each(|(plan, outcome)| report.count(plan, outcome));
    run(plans, options.jobs, |plan, outcome| report.add(plan, &outcome));
    println!("{report}");
    if let Some(document) = &options.document {
        report.write_to(document);
    }
    if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs several schedules at a time.
fn run(plans: Vec<Plan>, jobs: usize, done: impl FnMut(&Plan, Outcome) + Send) {
    let (done, plans) = (Mutex::new(done), Mutex::new(plans.into_iter()));
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let Some(plan) = plans.lock().unwrap().next() else { break };
                    let run = AssertUnwindSafe(|| Rig::start(plan.seed).run(&plan));
                    let outcome = catch_unwind(run).unwrap_or_else(|_| Outcome::not_run());
                    (done.lock().unwrap())(&plan, outcome);
                }
            });
        }
    });
}

/// Prints the fewest faults of the schedule that still break a promise.
fn reduce(plan: Plan) {
    let mut numbers: Vec<usize> = plan.numbers();
    loop {
        let without = |left_out: &usize| {
            let rest = numbers.iter().copied().filter(|number| number != left_out);
            plan.clone().only(&rest.collect::<Vec<_>>())
        };
        let shorter: Vec<_> = numbers
            .iter()
            .flat_map(|number| (0..REPETITIONS).map(move |_| without(number)))
            .collect();
        let (jobs, mut broken) = (shorter.len(), None);
        run(shorter, jobs, |plan, outcome| {
            if !outcome.broken.is_empty() {
                broken = Some((plan.numbers(), outcome.broken));
            }
        });
        let Some((fewer, promises)) = broken else { break };
        println!("still broken with --only {fewer:?}: {promises:?}");
        numbers = fewer;
    }
    let list: Vec<_> = numbers.iter().map(usize::to_string).collect();
    println!("repeat it with: ./test chaos --seed {} --only {}", plan.seed, list.join(","));
}

#[derive(Default)]
struct Options {
    count: u64,
    first: u64,
    jobs: usize,
    only: Option<Vec<usize>>,
    /// Names of faults or of groups.
    faults: Option<Vec<String>>,
    reduces: bool,
    document: Option<PathBuf>,
    /// The output of an earlier run.
    earlier: Option<String>,
}

impl Options {
    fn parse() -> Self {
        let mut options = Options { count: 8, first: 1, jobs: 16, ..Options::default() };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().unwrap_or_else(|| wrong(&name));
            match name.as_str() {
                "--first" => options.first = number(&value()),
                "--seed" => (options.first, options.count) = (number(&value()), 1),
                "--jobs" => options.jobs = number(&value()) as usize,
                "--only" => {
                    let list = value();
                    let numbers = list.split(',').map(|one| number(one) as usize);
                    options.only = Some(numbers.collect());
                }
                // Names contain commas.
                "--faults" => {
                    options.faults = Some(value().split('/').map(str::to_owned).collect());
                }
                "--reduce" => options.reduces = true,
                "--resume" => {
                    let name = value();
                    let output = std::fs::read_to_string(&name);
                    options.earlier = Some(output.unwrap_or_else(|_| wrong(&name)));
                }
                "--report" => options.document = Some(value().into()),
                count => options.count = number(count),
            }
        }
        options
    }

    fn plans(&self) -> Vec<Plan> {
        let plan = |seed| {
            let plan = Plan::new(seed, self.faults.as_deref());
            match &self.only {
                Some(numbers) => plan.only(numbers),
                None => plan,
            }
        };
        (self.first..self.first + self.count).map(plan).collect()
    }
}

/// Schedules to run, and what an earlier run has kept.
type Split = (Vec<Plan>, Vec<(Plan, Outcome)>);

impl Options {
    fn split(&self, plans: Vec<Plan>) -> Split {
        let earlier = self.earlier.iter().flat_map(|output| output.lines());
        let mut kept: BTreeMap<u64, Outcome> = earlier.filter_map(report::parse_kept).collect();
        let (mut open, mut done) = (Vec::new(), Vec::new());
        for plan in plans {
            match kept.remove(&plan.seed) {
                Some(outcome) => done.push((plan, outcome)),
                None => open.push(plan),
            }
        }
        (open, done)
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| wrong(text))
}

fn wrong(text: &str) -> ! {
    eprintln!("{text} is not understood\n{USAGE}");
    std::process::exit(2)
}
