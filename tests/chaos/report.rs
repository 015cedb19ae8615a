//! What many schedules showed.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::faults::FAULTS;
use crate::plan::Plan;
use crate::promise::Promise;
use crate::rig::Outcome;

#[derive(Debug, Default)]
pub struct Report {
    seeds: Vec<u64>,
    /// How often each fault was tried.
    tried: BTreeMap<&'static str, u64>,
    /// How often each promise was broken in a schedule with this fault.
    broken: BTreeMap<(&'static str, Promise), u64>,
    failed: Vec<u64>,
    recoveries: Vec<Duration>,
    values: u64,
}

impl Report {
    /// Prints a line for the schedule and adds it.
    pub fn add(&mut self, plan: &Plan, outcome: &Outcome) {
        let seed = plan.seed;
        self.seeds.push(seed);
        self.recoveries.push(outcome.recovery);
        self.values += outcome.values;
        for event in &plan.events {
            *self.tried.entry(event.fault.name).or_default() += 1;
            for broken in &outcome.broken {
                *self.broken.entry((event.fault.name, broken.promise)).or_default() += 1;
            }
        }
        let [before, after] = outcome.resources;
        let word = if outcome.broken.is_empty() { "kept" } else { "BROKEN" };
        println!(
            "seed {seed}: {word}, {} faults, {} values, well after {:.1?}, memory {} -> {} kB",
            plan.events.len(),
            outcome.values,
            outcome.recovery,
            before.memory_kb,
            after.memory_kb
        );
        if outcome.broken.is_empty() {
            return;
        }
        self.failed.push(seed);
        for broken in &outcome.broken {
            println!("  {:.1?} {}: {}", broken.at, broken.promise.name(), broken.detail);
        }
        for (number, event) in (1..).zip(&plan.events) {
            println!(
                "  {number}. {:.1?} {} for {:.1?}",
                event.start, event.fault.name, event.duration
            );
        }
        println!("  repeat it with: ./test chaos --seed {seed}");
        outcome.log.lines().for_each(|line| println!("  | {line}"));
    }

    pub fn is_clean(&self) -> bool {
        self.failed.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let promises = Promise::ALL.map(Promise::name).join(" | ");
        writeln!(f, "| fault | tried | {promises} |")?;
        writeln!(f, "|---|---|{}", "---|".repeat(Promise::ALL.len()))?;
        for fault in FAULTS.iter().copied().flatten() {
            let tried = self.tried.get(fault.name).unwrap_or(&0);
            write!(f, "| {} | {tried} |", fault.name)?;
            for promise in Promise::ALL {
                let broken = self.broken.get(&(fault.name, promise)).unwrap_or(&0);
                write!(f, " {broken} |")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
