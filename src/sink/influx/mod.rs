//! Writes readings to InfluxDB, VictoriaMetrics and Telegraf: line protocol over HTTP.
//!
//! ```text
//! board ──new readings──▶ points ──lines──▶ queue ──▶ sender ──HTTP──▶ server
//!                    (interval; pure)     (bounded)   (retries)
//! ```
//!
//! A line leaves the queue when the server has confirmed it, so an outage loses nothing that fits into the queue.

mod line;
mod queue;
mod sender;
mod server;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::timeout;
use tracing::{info, warn};

use self::queue::Queue;
use self::sender::Sender;
use crate::board::{Board, Updates};
use crate::clock;
use crate::history::unsent::{FIRST, Record, Unsent};
use crate::model::units::millis;
use crate::model::{DeviceId, DeviceState, LinkState, Millis, Uptime};
use crate::tasks::Task;

pub use self::line::{MEASUREMENT, TAG};
pub use self::server::{Address, Database, Login, Outcome, Server};
pub use crate::tls::Tls;

/// Taking note of changed batteries waits for nothing.
const STEP_LIMIT: Duration = Duration::from_secs(60);
/// For what still waits when the program stops. Sinks have a second.
const STOP_TIMEOUT: Duration = Duration::from_millis(700);
/// The same if the file keeps it, which then has to be written.
const KEPT_STOP_TIMEOUT: Duration = Duration::from_millis(300);

/// Readings wait until the lines of the last run are read.
const RESTORE_LIMIT: Duration = Duration::from_secs(2);

#[derive(Debug, Clone)]
pub struct Settings {
    pub server: Server,
    /// Time between two readings of a battery that are written; zero: every reading.
    pub interval: Duration,
}

/// What outlives a crash of the task.
#[derive(Debug, Default)]
pub struct Backlog {
    queue: Arc<Queue>,
    points: Mutex<Points>,
    kept: Option<Kept>,
}

/// What the history file keeps over a restart.
#[derive(Debug, Clone)]
pub struct Kept {
    pub lines: Arc<Unsent>,
    /// The last second of each battery, so that the first reading of the next run does not replace its point.
    pub seconds: Arc<Unsent>,
}

impl Backlog {
    pub fn new(kept: Option<Kept>) -> Self {
        let queue = Arc::new(Queue::new(kept.as_ref().map(|kept| kept.lines.clone())));
        Backlog { queue, points: Mutex::default(), kept }
    }

    /// Continues what the last run has left in the file.
    async fn restore(&self) {
        let Some(Kept { seconds, .. }) = &self.kept else { return };
        self.queue.restore().await;
        let records = seconds.restored().await;
        let numbers = FIRST - records.len() as u64..;
        for (number, Record { time, text }) in numbers.zip(records) {
            seconds.remove(number);
            if let Some(id) = DeviceId::new(&text) {
                let point = Point { sequence: 0, read_at: Uptime(0), second: time.0 / 1000 };
                self.points().0.entry(id).or_insert(point);
            }
        }
    }

    /// Leaves to the next run what it needs.
    fn close(&self) {
        let Some(Kept { lines, seconds }) = &self.kept else { return };
        for (number, (id, point)) in (FIRST..).zip(&self.points().0) {
            let record = Record { time: Millis(point.second * 1000), text: id.as_str().into() };
            seconds.add(number, record, clock::uptime());
        }
        lines.closed.cancel();
        seconds.closed.cancel();
    }

    fn points(&self) -> MutexGuard<'_, Points> {
        self.points.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, interval: Duration, states: &[DeviceState]) {
        let now = clock::uptime();
        for state in states {
            let second = self.points().next(state, interval, now);
            if let Some((second, line)) = second.and_then(|it| Some((it, line::line(state, it)?))) {
                self.queue.add(second, line, clock::now());
            }
        }
    }
}

/// Writes readings until the stop.
pub async fn run(settings: Settings, board: Board, backlog: Arc<Backlog>, task: Task) {
    let (label, queue) = (settings.server.label(), &backlog.queue);
    info!("influx: writing readings to {label}");
    let _ = board.outputs.influx.set(queue.counts.clone());
    let mut sender = Sender::new(settings.server, queue.clone());
    let mut updates = board.updates();
    tokio::select! {
        () = task.stop.cancelled() => {}
        () = async {
            // A file that is slower is continued by the next run.
            let _ = timeout(RESTORE_LIMIT, backlog.restore()).await;
            tokio::join!(collect(settings.interval, &mut updates, &backlog, &task), sender.run());
        } => {}
    }
    // The last readings, if they are not collected yet.
    backlog.add(settings.interval, &updates.next().now_or_never().unwrap_or_default());
    let limit = if backlog.kept.is_some() { KEPT_STOP_TIMEOUT } else { STOP_TIMEOUT };
    let _ = timeout(limit, sender.send()).await;
    backlog.close();
    let waiting = queue.len();
    if waiting > 0 && backlog.kept.is_some() {
        info!("influx: {label}: {waiting} readings wait in the history file");
    } else if waiting > 0 {
        warn!("influx: {label}: {waiting} readings were not written before the stop and are lost");
    }
}

/// Never returns.
async fn collect(interval: Duration, updates: &mut Updates, backlog: &Backlog, task: &Task) {
    loop {
        task.idle();
        let states = updates.next().await;
        task.progress(STEP_LIMIT);
        backlog.add(interval, &states);
    }
}

/// The last point of each battery.
#[derive(Debug, Default)]
struct Points(BTreeMap<DeviceId, Point>);

#[derive(Debug, Clone, Copy)]
struct Point {
    sequence: u64,
    read_at: Uptime,
    /// Since 1970.
    second: u64,
}

impl Points {
    /// The second at which this state is written; `None` unless it is a new reading, current and due.
    fn next(&mut self, state: &DeviceState, interval: Duration, now: Uptime) -> Option<u64> {
        let (snapshot, read_at) = (state.snapshot.as_deref()?, state.read_at?);
        if state.link != LinkState::Online || state.is_stale(now) {
            return None;
        }
        let (sequence, mut second) = (snapshot.sequence, snapshot.taken.0 / 1000);
        if let Some(last) = self.0.get(&state.profile.id) {
            // Each battery of a bank makes a new reading of the bank.
            let own = if state.profile.is_bank() { state.profile.interval_ms } else { 0 };
            // The reading that is nearest to the time counts, because none is exactly in time.
            let half = state.profile.interval_ms / 2;
            let is_due = read_at.since(last.read_at) + half >= millis(interval).max(own);
            second = last.free_second(second)?;
            if sequence == last.sequence || !is_due {
                return None;
            }
        }
        self.0.insert(state.profile.id.clone(), Point { sequence, read_at, second });
        Some(second)
    }
}

impl Point {
    /// A battery has one point in a second. Of two reads a second apart, both may end in the same one: the later
    /// gets the next second. `None` if that has a point, too, because the battery is read more often.
    fn free_second(&self, second: u64) -> Option<u64> {
        match self.second.checked_sub(second) {
            Some(0) => Some(second + 1),
            Some(1) => None,
            // The clock was set back.
            Some(_) | None => Some(second),
        }
    }
}

/// Sends nothing and looks at the answer; the error contains its remedy.
pub async fn probe(server: &Server) -> Result<(), String> {
    let result = server.write("").await;
    result.map(drop).map_err(|error| format!("{}; {}", error.reason, error.remedy.text()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Profile;

    const NEVER: Duration = Duration::ZERO;

    fn state(id: &str, interval_ms: u64) -> DeviceState {
        DeviceState::new(Profile { interval_ms, ..Profile::sample(id) })
    }

    /// The seconds at which reads that end at these milliseconds are written.
    fn seconds(interval: Duration, mut state: DeviceState, ends: &[u64]) -> Vec<u64> {
        let mut points = Points::default();
        let written = ends.iter().filter_map(|end| {
            state.accept((Millis(*end), Uptime(*end)), 1, Default::default(), Default::default());
            let written = points.next(&state, interval, Uptime(*end));
            assert_eq!(points.next(&state, interval, Uptime(*end)), None, "the same reading");
            written
        });
        written.collect()
    }

    #[test]
    fn every_reading_has_a_second_of_its_own() {
        let each_second = [10_003, 10_998, 12_001, 12_997, 14_002];
        assert_eq!(seconds(NEVER, state("a", 1000), &each_second), [10, 11, 12, 13, 14]);
        // Two points in a second would be one.
        let twice = [10_000, 10_500, 11_000, 11_500, 12_000, 12_500];
        let written = seconds(NEVER, state("a", 500), &twice);
        assert!(
            written.is_sorted_by(|one, other| one < other) && written.len() >= 3,
            "{written:?}"
        );
        let set_back = [10_000, 5_000, 5_000];
        assert_eq!(seconds(NEVER, state("a", 1000), &set_back), [10, 5, 6]);
    }

    #[tokio::test]
    async fn first_reading_after_a_restart_does_not_replace_the_last_point() {
        let kept = || Kept { lines: Unsent::new("lines").into(), seconds: Unsent::new("s").into() };
        let (before, after) = (Backlog::new(Some(kept())), kept());
        let mut state = state("a", 1000);
        let mut read = |backlog: &Backlog, end| {
            state.accept((Millis(end), Uptime(end)), 1, Default::default(), Default::default());
            backlog.points().next(&state, NEVER, Uptime(end))
        };
        assert_eq!(read(&before, 10_100), Some(10));
        before.close();
        let seconds = before.kept.unwrap().seconds;
        assert!(seconds.closed.is_cancelled());
        after.lines.restore_for_test(&[]);
        after.seconds.restore_for_test(&[(1, "10000 a\n10000 not/an/id\n".into())]);
        let after = Backlog::new(Some(after));
        after.restore().await;
        assert_eq!(read(&after, 10_900), Some(11));
        assert_eq!(read(&after, 12_000), Some(12));
        assert_eq!(read(&Backlog::default(), 10_900), Some(10), "without the file");
    }

    #[test]
    fn interval_selects_the_nearest_readings() {
        let ends: Vec<u64> = (0..13).map(|number| number * 5000 + number % 3).collect();
        let minute = Duration::from_secs(20);
        assert_eq!(seconds(minute, state("a", 5000), &ends), [0, 20, 40, 60]);
        let bank = Profile { brand: "bank".into(), interval_ms: 10_000, ..Profile::sample("a") };
        let ends = [0, 300, 600, 10_000, 10_300, 20_000];
        assert_eq!(seconds(NEVER, DeviceState::new(bank), &ends), [0, 10, 20]);
    }

    #[test]
    fn stale_and_lost_batteries_are_not_written() {
        let mut state = state("a", 1000);
        let mut points = Points::default();
        assert_eq!(points.next(&state, NEVER, Uptime(0)), None, "it was never read");
        state.accept((Millis(1000), Uptime(0)), 1, Default::default(), Default::default());
        assert_eq!(points.next(&state, NEVER, Uptime(31_000)), None, "it is stale");
        state.mark_offline(Millis(1000));
        assert_eq!(points.next(&state, NEVER, Uptime(0)), None, "it is offline");
        state.accept((Millis(1000), Uptime(0)), 1, Default::default(), Default::default());
        assert_eq!(points.next(&state, NEVER, Uptime(0)), Some(1));
    }
}
