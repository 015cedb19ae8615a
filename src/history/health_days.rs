//! What is known about the cells of one battery, by local day.

use crate::model::cell_health::{HealthDay, HealthMonitor, KeptRun, MAX_GAP};
use crate::model::{Millis, Snapshot, TimeZone, Uptime};

/// A year, with a leap day.
pub(super) const MAX_DAYS: u16 = 366;
/// A year of 16 cells has less than 46,000. Stacks with more cells have fewer days in memory.
const MAX_NUMBERS: usize = 60_000;

/// Days in their order.
#[derive(Debug, Default)]
pub(super) struct HealthDays {
    monitor: HealthMonitor,
    pub(super) days: Vec<HealthDay>,
    /// What was observed since the last call of `take_unwritten`.
    unwritten: Vec<HealthDay>,
    /// When the last reading was taken.
    last: Millis,
    /// The run in progress at the end of the last run of the program, and its last reading. Until the first reading.
    kept: Option<(Millis, KeptRun)>,
}

impl HealthDays {
    pub(super) fn observe(&mut self, zone: &TimeZone, read_at: Uptime, snapshot: &Snapshot) {
        self.last = snapshot.taken;
        if let Some((last, run)) = self.kept.take() {
            let gap = snapshot.taken.since(last);
            if snapshot.taken >= last && gap <= MAX_GAP {
                self.monitor.restore_run(run, read_at, gap);
            }
        }
        let Some(part) = self.monitor.observe(read_at, snapshot) else { return };
        let part = part.on(zone.day(snapshot.taken).0);
        add(&mut self.unwritten, &part);
        self.restore(&part);
    }

    /// Adds what was observed in an earlier run.
    pub(super) fn restore(&mut self, day: &HealthDay) {
        add(&mut self.days, day);
        let numbers =
            |days: &[HealthDay]| days.iter().map(|day| day.numbers().len()).sum::<usize>();
        while self.days.len() > usize::from(MAX_DAYS)
            || self.days.len() > 1 && numbers(&self.days) > MAX_NUMBERS
        {
            self.days.remove(0);
        }
    }

    /// The last reading, and the run from full to empty in progress.
    pub(super) fn run(&self) -> Option<(Millis, KeptRun)> {
        self.kept.or_else(|| Some((self.last, self.monitor.kept_run()?)))
    }

    pub(super) fn restore_run(&mut self, last: Millis, run: KeptRun) {
        self.kept = Some((last, run));
    }

    pub(super) fn take_unwritten(&mut self) -> Vec<HealthDay> {
        std::mem::take(&mut self.unwritten)
    }
}

/// Adds the day to the list, or its numbers to those of the same day.
pub(super) fn add(days: &mut Vec<HealthDay>, day: &HealthDay) {
    match days.binary_search_by_key(&day.number, |known| known.number) {
        Ok(index) => days[index].add(day),
        Err(index) => days.insert(index, day.clone()),
    }
}
