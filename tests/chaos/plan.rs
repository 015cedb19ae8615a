//! What happens in a schedule. It follows from the seed alone, so that a failure can be repeated.

use std::time::Duration;

use crate::faults::{FAULTS, Fault};

/// Repeatable random numbers: splitmix64.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `limit - 1`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }
}

/// A fault of a schedule.
#[derive(Debug, Clone)]
pub struct Event {
    /// From 1, in the whole schedule.
    pub number: usize,
    pub fault: &'static Fault,
    pub start: Duration,
    pub duration: Duration,
    /// Of the random numbers of the fault.
    pub seed: u64,
}

#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    /// Ordered by start. Each group has one fault at a time.
    pub events: Vec<Event>,
}

/// Times of a schedule in milliseconds.
struct Timing {
    /// All faults start and end within this time.
    length: u64,
    /// The longest time between two faults of a group.
    pause: u64,
    /// The shortest duration of a long fault.
    long: u64,
}

const ALL_FAULTS: Timing = Timing { length: 60_000, pause: 15_000, long: 32_000 };
/// Few faults are more frequent, and some last longer than the observer waits for their effect.
const CHOSEN_FAULTS: Timing = Timing { length: 90_000, pause: 4_000, long: 62_000 };
/// One fault in this many is longer than a battery may be silent.
const LONG: u64 = 5;

impl Plan {
    /// With faults whose name or group is in the list; `None`: with all.
    pub fn new(seed: u64, names: Option<&[String]>) -> Self {
        let is_wanted = |fault: &&Fault| {
            names.is_none_or(|names| {
                names.iter().any(|name| *name == fault.name || *name == fault.group)
            })
        };
        let timing = if names.is_some() { CHOSEN_FAULTS } else { ALL_FAULTS };
        let Timing { length, pause, long } = timing;
        let mut random = Random(seed);
        let mut events = Vec::new();
        for faults in FAULTS {
            let faults: Vec<_> = faults.iter().filter(is_wanted).collect();
            if faults.is_empty() {
                continue;
            }
            let mut time = random.below(pause);
            while time < length - 5_000 {
                let is_long = random.below(LONG) == 0;
                let duration = if is_long { long } else { 1_000 } + random.below(14_000);
                let duration = duration.min(length - time);
                let pick = random.below(faults.len() as u64) as usize;
                events.push(Event {
                    number: 0,
                    fault: faults[pick],
                    start: Duration::from_millis(time),
                    duration: Duration::from_millis(duration),
                    seed: random.next(),
                });
                time += duration + 1_000 + random.below(pause);
            }
        }
        events.sort_by_key(|event| event.start);
        (1..).zip(&mut events).for_each(|(number, event)| event.number = number);
        Plan { seed, events }
    }

    /// Only the events with these numbers.
    pub fn only(mut self, numbers: &[usize]) -> Self {
        self.events.retain(|event| numbers.contains(&event.number));
        self
    }

    pub fn numbers(&self) -> Vec<usize> {
        self.events.iter().map(|event| event.number).collect()
    }
}
