//! Notifications without Home Assistant: ntfy, Gotify, Telegram and webhooks.
//!
//! ```text
//! board ──updates──▶ watcher ──events──▶ outbox of each service ──▶ sender ──HTTP──▶ service
//!                    (throttle, summary; pure)   (bounded)
//! ```
//!
//! A service that is slow or away delays nothing but its own messages.

mod event;
mod http;
mod outbox;
mod sender;
mod service;
mod summary;
mod throttle;
mod watcher;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::time::sleep;
use tracing::info;

use self::event::{Event, EventKind, Level, Message};
use self::outbox::Outbox;
use self::sender::{Outage, Pace, Sender};
use self::summary::Day;
use self::watcher::Watcher;
use crate::board::Board;
use crate::clock;
use crate::model::{DeviceState, Millis, TimeZone};
use crate::tasks::Task;

pub use self::service::{SERVICES, Service, Target, secrets};
pub use crate::tls::Tls;

/// Events that were held back, and the time of the summary, are looked at this often.
const TICK: Duration = Duration::from_secs(5);
/// Nothing in the loop waits for longer than [`TICK`].
const STEP_LIMIT: Duration = Duration::from_secs(60);
/// A summary that is later than this is left out: the clock was set, or the machine slept.
const MAX_LATE_MS: u64 = 600_000;
/// The next summary is at most a day and the longest change of the clocks away.
const MAX_AHEAD: Duration = Duration::from_secs(27 * 3600);

#[derive(Debug, Clone)]
pub struct Settings {
    pub targets: Vec<Target>,
    /// For targets with TLS.
    pub tls: Tls,
    /// Minute of the day of the daily summary.
    pub daily: Option<u16>,
    /// `None`: UTC.
    pub zone: Option<TimeZone>,
}

/// Sends notifications until the stop. What is still waiting then is dropped.
pub async fn run(settings: Settings, board: Board, task: Task) {
    let labels: Vec<_> = settings.targets.iter().map(Target::label).collect();
    info!("notify: sending alarms and lost batteries to {}", labels.join(", "));
    let counts = board.notifications.get_or_init(Default::default);
    let outboxes: Vec<Arc<Outbox>> = settings.targets.iter().map(|_| Arc::default()).collect();
    let senders = settings.targets.iter().zip(&outboxes).map(|(target, outbox)| {
        let sender = Sender {
            target: target.clone(),
            tls: settings.tls.clone(),
            zone: settings.zone,
            outbox: outbox.clone(),
            counts: counts.clone(),
            pace: Pace::default(),
            outage: Outage::default(),
        };
        sender.run().boxed()
    });
    let queue = |event: Event| {
        for outbox in &outboxes {
            counts.left_out.fetch_add(outbox.add(event.clone()), Relaxed);
        }
    };
    tokio::select! {
        () = task.stop.cancelled() => {}
        () = watch(&settings, &board, &task, queue) => {}
        _ = join_all(senders) => {}
    }
}

/// Never returns.
async fn watch(settings: &Settings, board: &Board, task: &Task, queue: impl Fn(Event)) {
    let (mut watcher, mut day, mut updates) = (Watcher::default(), Day::default(), board.updates());
    let zone = settings.zone.as_ref();
    let mut schedule = settings.daily.map(|minute| Schedule::new(minute, zone, clock::now()));
    loop {
        task.progress(STEP_LIMIT);
        let states = tokio::select! {
            states = updates.next() => states,
            () = sleep(TICK) => Vec::new(),
        };
        board.detect_pause(clock::uptime(), clock::now());
        let (time, now) = (clock::now(), clock::uptime());
        for state in &states {
            day.update(state);
            watcher.update(state, time, now).into_iter().for_each(&queue);
        }
        watcher.due(now).into_iter().for_each(&queue);
        if schedule.as_mut().is_some_and(|schedule| schedule.is_due(time)) {
            let states: Vec<DeviceState> = board.states().collect();
            day.end(&states, time, zone).into_iter().for_each(&queue);
        }
    }
}

/// The times of the daily summary.
#[derive(Debug)]
struct Schedule {
    minute: u16,
    zone: TimeZone,
    next: Millis,
}

impl Schedule {
    fn new(minute: u16, zone: Option<&TimeZone>, now: Millis) -> Self {
        let zone = zone.copied().unwrap_or_default();
        Schedule { minute, zone, next: zone.next(now, minute) }
    }

    /// True once a day. A clock that is set back or forward does not repeat or catch up summaries.
    fn is_due(&mut self, now: Millis) -> bool {
        let is_reached = now >= self.next;
        let late = now.since(self.next);
        if is_reached || self.next > now.after(MAX_AHEAD) {
            self.next = self.zone.next(now, self.minute);
        }
        is_reached && late <= MAX_LATE_MS
    }
}

/// Sends a test message; the error contains its remedy.
pub async fn send_test(target: &Target, tls: &Tls) -> Result<(), String> {
    let text = "bms-reader can send notifications.";
    let events = [Event::new(EventKind::Test, Level::Success, clock::now(), text)];
    let message = Message::new(&events, 0, clock::now(), None);
    let sent = http::post(target, tls, &target.body(&message)).await;
    sent.map_err(|error| format!("{error}; {}", error.remedy()))
}

/// Opens a connection without sending anything; the error contains its remedy.
pub async fn probe(target: &Target, tls: &Tls) -> Result<(), String> {
    http::probe(target, tls).await.map_err(|error| format!("{error}; {}", error.remedy()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    #[test]
    fn summary_is_due_once_a_day_even_if_the_clock_is_set() {
        let start = Millis(20_000 * 24 * HOUR);
        let at = |hours: u64| start.after(Duration::from_millis(hours * HOUR));
        let mut schedule = Schedule::new(7 * 60, None, start);
        let due: Vec<u64> = (0..72).filter(|hour| schedule.is_due(at(*hour))).collect();
        assert_eq!(due, [7, 31, 55]);
        // The clock of a board without a battery begins in 1970.
        let mut schedule = Schedule::new(7 * 60, None, Millis(0));
        assert!(!schedule.is_due(start));
        assert!(schedule.is_due(at(7)));
        // It is set back by a week.
        assert!(!schedule.is_due(Millis(start.0 - 7 * 24 * HOUR)));
        assert!(schedule.is_due(Millis(start.0 - 7 * 24 * HOUR + 7 * HOUR)));
    }
}
