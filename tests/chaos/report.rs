//! What many schedules showed.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::faults::FAULTS;
use crate::plan::Plan;
use crate::program::Resources;
use crate::promise::Promise;
use crate::rig::Outcome;

/// Around the generated part of a document.
const MARKS: [&str; 2] = ["<!-- chaos -->\n", "<!-- /chaos -->"];

#[derive(Debug, Default)]
pub struct Report {
    /// The smallest and the largest seed.
    seeds: Option<(u64, u64)>,
    schedules: u64,
    /// How often each fault was tried.
    tried: BTreeMap<&'static str, u64>,
    /// How often each promise was broken in a schedule with this fault.
    broken: BTreeMap<(&'static str, Promise), u64>,
    failed: Vec<u64>,
    recoveries: Vec<Duration>,
    values: u64,
    /// The largest amount of memory that was not returned, in kB.
    growth_kb: i64,
}

impl Report {
    /// Adds a schedule.
    pub fn count(&mut self, plan: &Plan, outcome: &Outcome) {
        let seed = plan.seed;
        let (first, last) = self.seeds.unwrap_or((seed, seed));
        self.seeds = Some((first.min(seed), last.max(seed)));
        self.schedules += 1;
        self.recoveries.push(outcome.recovery);
        self.values += outcome.values;
        let [before, after] = outcome.resources;
        self.growth_kb = self.growth_kb.max(after.memory_kb as i64 - before.memory_kb as i64);
        for event in &plan.events {
            *self.tried.entry(event.fault.name).or_default() += 1;
        }
        for promise in Promise::ALL {
            let is_broken = outcome.broken.iter().any(|broken| broken.promise == promise);
            for event in plan.events.iter().filter(|_| is_broken) {
                *self.broken.entry((event.fault.name, promise)).or_default() += 1;
            }
        }
        if !outcome.broken.is_empty() {
            self.failed.push(seed);
        }
    }

    /// Adds a schedule and prints a line for it, which [`parse_kept`] reads.
    pub fn add(&mut self, plan: &Plan, outcome: &Outcome) {
        self.count(plan, outcome);
        let (seed, [before, after]) = (plan.seed, outcome.resources);
        println!(
            "seed {seed}: {}, {} faults, {} values, well after {:.1} s, memory {} -> {} kB; {}",
            if outcome.broken.is_empty() { "kept" } else { "BROKEN" },
            plan.events.len(),
            outcome.values,
            outcome.recovery.as_secs_f64(),
            before.memory_kb,
            after.memory_kb,
            outcome.slowest
        );
        if !outcome.broken.is_empty() {
            print_details(plan, outcome);
        }
    }

    pub fn is_clean(&self) -> bool {
        self.failed.is_empty()
    }

    /// Replaces the part of the document between the marks.
    pub fn write_to(&self, document: &Path) {
        let text = fs::read_to_string(document).expect("the document");
        let (head, rest) = text.split_once(MARKS[0]).expect("a mark in the document");
        let (_, tail) = rest.split_once(MARKS[1]).expect("a second mark in the document");
        let text = format!("{head}{}{self}{}{tail}", MARKS[0], MARKS[1]);
        fs::write(document, text).expect("the document is written");
    }

    fn quantile(&self, share: f64) -> Duration {
        let mut sorted = self.recoveries.clone();
        sorted.sort();
        let index = (sorted.len() as f64 * share) as usize;
        sorted.get(index.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

/// The seed of a schedule that kept all promises, from the line that [`Report::add`] printed.
pub fn parse_kept(line: &str) -> Option<(u64, Outcome)> {
    let (seed, rest) = line.strip_prefix("seed ")?.split_once(": kept, ")?;
    let words: Vec<&str> = rest.split([' ', ',']).filter(|word| !word.is_empty()).collect();
    let after = |name: &str| words.iter().skip_while(|word| **word != name).nth(1).copied();
    let values = words.get(2)?.parse().ok()?;
    let recovery = Duration::from_secs_f64(after("after")?.parse().ok()?);
    let memory = [after("memory")?, after("->")?].map(|text| text.parse::<u64>().ok());
    let [Some(before), Some(grown)] = memory else { return None };
    let resources =
        [before, grown].map(|memory_kb| Resources { memory_kb, ..Resources::default() });
    Some((seed.parse().ok()?, Outcome { values, recovery, resources, ..Outcome::default() }))
}

fn print_details(plan: &Plan, outcome: &Outcome) {
    for broken in &outcome.broken {
        println!("  {:.1?} {}: {}", broken.at, broken.promise.name(), broken.detail);
    }
    for event in &plan.events {
        let (start, duration) = (event.start, event.duration);
        println!("  {}. {start:.1?} {} for {duration:.1?}", event.number, event.fault.name);
    }
    println!("  repeat it with: ./test chaos --seed {}", plan.seed);
    outcome.log.lines().for_each(|line| println!("  | {line}"));
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = self.seeds.unwrap_or_default();
        let tried: u64 = self.tried.values().sum();
        let [median, most, all] = [0.5, 0.95, 1.0].map(|share| self.quantile(share));
        writeln!(f, "{} schedules (seeds {first} to {last}) with {tried} faults;", self.schedules)?;
        writeln!(f, "{} values were compared with what the packs had sent. ", self.values)?;
        match &self.failed[..] {
            [] => writeln!(f, "No promise was broken.")?,
            failed => writeln!(f, "Promises were broken with the seeds {failed:?}.")?,
        }
        write!(f, "After the last fault everything was well within {median:.1?} (median), ")?;
        writeln!(f, "{most:.1?} (95 %) and {all:.1?} (all).")?;
        writeln!(f, "Memory grew by at most {:.1} MB.\n", self.growth_kb as f64 / 1024.0)?;
        let promises = Promise::ALL.map(Promise::name).join(" | ");
        writeln!(f, "| group | fault | tried | {promises} |")?;
        writeln!(f, "|---|---|---|{}", "---|".repeat(Promise::ALL.len()))?;
        for fault in FAULTS.iter().copied().flatten() {
            let tried = self.tried.get(fault.name).unwrap_or(&0);
            write!(f, "| {} | {} | {tried} |", fault.group, fault.name)?;
            for promise in Promise::ALL {
                let broken = self.broken.get(&(fault.name, promise)).unwrap_or(&0);
                write!(f, " {broken} |")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
