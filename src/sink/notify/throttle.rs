//! Limits how often one thing is reported, such as an alarm that starts and ends again and again.

use super::event::Event;
use crate::model::Uptime;

/// Reported at once: an alarm that starts and ends twice.
const BURST: u32 = 4;
/// Without a change for this long, the next ones are reported at once again.
const CALM_MS: u64 = 3_600_000;
/// After the burst, only what has lasted for this long is reported. Doubled with each report.
const FIRST_HOLD_MS: u64 = 300_000;
/// Something that keeps changing is reported this often.
const MAX_HOLD_MS: u64 = 3_600_000;

/// The changes of one thing.
#[derive(Debug, Default)]
pub struct Throttle {
    /// In a row, without a calm hour in between.
    reports: u32,
    last_report: Uptime,
    last_change: Uptime,
    /// The last change, if it is not reported yet.
    held: Option<Event>,
    /// Changes that will not be reported.
    left_out: u32,
}

impl Throttle {
    /// The event, unless it is held back.
    pub fn change(&mut self, event: Event, now: Uptime) -> Option<Event> {
        if now.since(self.last_change) >= CALM_MS && self.held.is_none() {
            self.reports = 0;
        }
        self.last_change = now;
        if self.reports < BURST && self.held.is_none() {
            return Some(self.report(event, now));
        }
        if self.held.replace(event).is_some() {
            self.left_out = self.left_out.saturating_add(1);
        }
        None
    }

    /// An event that was held back for long enough.
    pub fn due(&mut self, now: Uptime) -> Option<Event> {
        let hold = FIRST_HOLD_MS << self.reports.saturating_sub(BURST).min(6);
        let has_lasted = now.since(self.last_change) >= hold.min(MAX_HOLD_MS);
        let is_due = has_lasted || now.since(self.last_report) >= MAX_HOLD_MS;
        let event = self.held.take_if(|_| is_due)?;
        Some(self.report(event, now))
    }

    fn report(&mut self, mut event: Event, now: Uptime) -> Event {
        self.reports = self.reports.saturating_add(1);
        self.last_report = now;
        event.left_out = std::mem::take(&mut self.left_out);
        event
    }

    /// Whether it can be forgotten.
    pub fn is_calm(&self, now: Uptime) -> bool {
        self.held.is_none() && now.since(self.last_change) >= CALM_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Millis;
    use crate::sink::notify::event::{EventKind, Level};

    const MINUTE: u64 = 60_000;

    fn event(number: u64) -> Event {
        Event::new(EventKind::AlarmStarted, Level::Warning, Millis(number), number.to_string())
    }

    /// Number and left-out changes of the events that are reported while it changes every
    /// `period` until `end` and time goes on for three hours.
    fn reported(throttle: &mut Throttle, period: u64, end: u64) -> Vec<(u64, u32)> {
        let mut all = Vec::new();
        for second in 0..(end + 180 * MINUTE) / 1000 {
            let now = Uptime(second * 1000 + 1);
            let changes = second * 1000 % period == 0 && second * 1000 < end;
            let change = changes.then(|| throttle.change(event(second), now)).flatten();
            all.extend(change.into_iter().chain(throttle.due(now)));
        }
        all.iter().map(|event| (event.time.0, event.left_out)).collect()
    }

    #[test]
    fn flapping_is_reported_four_times_and_then_hourly_with_the_number_left_out() {
        let mut throttle = Throttle::default();
        let all = reported(&mut throttle, 10_000, 240 * MINUTE);
        let (burst, later) = all.split_at(4);
        assert_eq!(burst, [(0, 0), (10, 0), (20, 0), (30, 0)]);
        // Every hour, and after the end.
        assert_eq!(later.len(), 4, "{later:?}");
        assert!(later[..3].iter().all(|(_, left_out)| *left_out == 359), "{later:?}");
        // No change is lost: each is reported or counted.
        let counted: u32 = all.iter().map(|(_, left_out)| left_out + 1).sum();
        assert_eq!(counted, 240 * 6);
        assert_eq!(later[3].0, 240 * 60 - 10, "the last state is reported");
    }

    #[test]
    fn state_that_lasts_after_flapping_is_reported_within_minutes() {
        let mut throttle = Throttle::default();
        let all = reported(&mut throttle, 30_000, 5 * MINUTE);
        assert_eq!(all.last(), Some(&(270, 5)));
        let lasting = Uptime(270_001 + FIRST_HOLD_MS);
        let mut throttle = Throttle::default();
        for change in 0..10 {
            throttle.change(event(change), Uptime(change * 30_000 + 1));
        }
        assert!(throttle.due(Uptime(lasting.0 - 1)).is_none());
        assert!(throttle.due(lasting).is_some());
    }

    #[test]
    fn rare_changes_are_reported_at_once() {
        let mut throttle = Throttle::default();
        let all = reported(&mut throttle, 61 * MINUTE, 610 * MINUTE);
        assert_eq!(all.len(), 10);
        assert!(all.iter().all(|(_, left_out)| *left_out == 0));
        assert!(throttle.is_calm(Uptime(u64::MAX)));
    }
}
