//! When the file is written. A write costs a few pages, and the bookkeeping of the file system, however little it
//! contains. On SD cards that wears more than the data itself.

use std::time::Duration;

/// Time between two writes. A power cut loses no more than that and what the system has not yet passed to the disk.
const WRITE_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// Deleted rows free whole pages, which costs fewer writes if it happens rarely.
const DELETE_INTERVAL: Duration = Duration::from_secs(3600);
const SLACK: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct WriteSchedule {
    /// `None`: nothing has been written yet.
    since_write: Option<Duration>,
    since_delete: Duration,
}

/// What to do with the file now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DueWrite {
    /// Delete expired rows, too; the time since that was last due.
    pub(super) delete: Option<Duration>,
}

impl WriteSchedule {
    /// Call it once a minute. The first minute is written at once, so that a file that cannot be written is noticed soon.
    ///
    /// `elapsed`: since the last call. `has_rows`: something waits to be written. `urgent`: the program stops, or earlier
    /// writes have failed.
    pub(super) fn advance(
        &mut self,
        elapsed: Duration,
        has_rows: bool,
        urgent: bool,
    ) -> Option<DueWrite> {
        self.since_delete += elapsed;
        let is_first = self.since_write.is_none();
        let since_write = self.since_write.unwrap_or(WRITE_INTERVAL) + elapsed;
        // The calls are not exactly a minute apart.
        let is_due = urgent || has_rows && since_write + SLACK >= WRITE_INTERVAL;
        if !is_due {
            self.since_write = self.since_write.map(|_| since_write);
            return None;
        }
        self.since_write = Some(Duration::ZERO);
        let deletes = is_first || urgent || self.since_delete >= DELETE_INTERVAL;
        Some(DueWrite { delete: deletes.then(|| std::mem::take(&mut self.since_delete)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn writes_are_minutes_apart_and_deletions_an_hour() {
        let mut schedule = WriteSchedule::default();
        assert_eq!(schedule.advance(MINUTE, false, false), None, "no battery was read yet");
        let due =
            (0..=120).filter_map(|minute| Some((minute, schedule.advance(MINUTE, true, false)?)));
        let due: Vec<_> = due.collect();
        let writes: Vec<_> = due.iter().map(|(minute, _)| *minute).collect();
        assert_eq!(writes, (0..=120).step_by(5).collect::<Vec<_>>());
        let deletions = due.iter().filter_map(|(minute, due)| Some((*minute, due.delete?)));
        let deletions: Vec<_> = deletions.collect();
        assert_eq!(deletions, [(0, 2 * MINUTE), (60, 60 * MINUTE), (120, 60 * MINUTE)]);
    }

    #[test]
    fn urgent_write_is_due_at_once() {
        let mut schedule = WriteSchedule::default();
        schedule.advance(MINUTE, true, false);
        assert_eq!(schedule.advance(MINUTE, true, false), None);
        let due = DueWrite { delete: Some(2 * MINUTE) };
        assert_eq!(schedule.advance(MINUTE, false, true), Some(due));
        assert_eq!(schedule.advance(MINUTE, true, false), None);
    }
}
