//! The tasks that run as long as the program: a panic ends only its own task, which is then
//! restarted, and a task that makes no progress is noticed.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::random::random;
use crate::remedy;

/// Pauses before a task is restarted, doubled with each panic in a row.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);
/// A task that ran for this long was restarted successfully.
const STABLE: Duration = Duration::from_secs(60);
/// How late progress may be, in seconds: a busy machine delays everything.
const GRACE: u64 = 60;

/// All tasks; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Tasks(Arc<Registry>);

#[derive(Debug, Default)]
struct Registry {
    tasks: Mutex<Vec<Arc<TaskState>>>,
    /// Seconds that the program has run. Time in suspend and while it was stopped does not count,
    /// because no task could make progress.
    seconds: AtomicU64,
    panics: AtomicU64,
}

#[derive(Debug)]
struct TaskState {
    name: String,
    restarts: AtomicU64,
    /// The second by which progress is due; `u64::MAX` while the task waits for work.
    due: AtomicU64,
}

/// What the health check and the metrics show of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskStatus {
    pub name: String,
    /// After a panic.
    pub restarts: u64,
    /// Its progress is overdue.
    pub stalled: bool,
}

impl Tasks {
    pub fn register(&self, name: impl Into<String>, stop: &CancellationToken) -> Task {
        let (name, restarts) = (name.into(), AtomicU64::new(0));
        let state = Arc::new(TaskState { name, restarts, due: AtomicU64::new(u64::MAX) });
        self.list().push(state.clone());
        Task { stop: stop.clone(), tasks: self.clone(), state }
    }

    /// In the order of their registration.
    pub fn status(&self) -> Vec<TaskStatus> {
        let now = self.0.seconds.load(Relaxed);
        let status = |task: &Arc<TaskState>| TaskStatus {
            name: task.name.clone(),
            restarts: task.restarts.load(Relaxed),
            stalled: task.due.load(Relaxed) < now,
        };
        self.list().iter().map(status).collect()
    }

    /// Panics since the start, of tasks and of anything else.
    pub fn panics(&self) -> u64 {
        self.0.panics.load(Relaxed)
    }

    /// From now on panics are counted, and logged instead of printed.
    pub fn log_panics(&self) {
        let tasks = self.clone();
        std::panic::set_hook(Box::new(move |info| {
            tasks.0.panics.fetch_add(1, Relaxed);
            let place = info.location().map_or_else(String::new, |place| format!(" at {place}"));
            error!("panic{place}: {}", panic_text(info.payload()));
        }));
    }

    /// Call it once a second.
    pub fn count_second(&self) {
        let before = self.0.seconds.fetch_add(1, Relaxed);
        for task in self.list().iter().filter(|task| task.due.load(Relaxed) == before) {
            error!("{} makes no progress; {}", task.name, remedy::STALLED.text());
        }
    }

    fn list(&self) -> MutexGuard<'_, Vec<Arc<TaskState>>> {
        self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a task knows about itself: when to stop, and where it reports progress.
#[derive(Debug, Clone)]
pub struct Task {
    pub stop: CancellationToken,
    pub tasks: Tasks,
    state: Arc<TaskState>,
}

/// For commands, which nothing watches.
impl Default for Task {
    fn default() -> Self {
        CancellationToken::new().into()
    }
}

impl From<CancellationToken> for Task {
    fn from(stop: CancellationToken) -> Self {
        Tasks::default().register("task", &stop)
    }
}

impl Task {
    /// The task works, and reports again within this time. What it waits for meanwhile has limits
    /// of its own, so the time is never reached because a battery or a broker does not answer.
    pub fn progress(&self, within: Duration) {
        let now = self.tasks.0.seconds.load(Relaxed);
        self.state.due.store(now.saturating_add(within.as_secs()).saturating_add(GRACE), Relaxed);
    }

    /// The task waits for work, for any time.
    pub fn idle(&self) {
        self.state.due.store(u64::MAX, Relaxed);
    }

    /// Runs until `run` returns, and again with the same state after each panic, with pauses that
    /// grow. `panicked` is called before each pause. Returns the state.
    pub async fn supervise<S: Send>(
        &self,
        mut state: S,
        run: impl for<'a> Fn(&'a mut S) -> BoxFuture<'a, ()>,
        panicked: impl Fn(&str),
    ) -> S {
        let mut panics = 0;
        loop {
            let started = Instant::now();
            let Err(text) = catch_panic(run(&mut state)).await else { return state };
            if started.elapsed() >= STABLE {
                panics = 0;
            }
            let pause = FIRST_PAUSE.saturating_mul(1 << panics.min(6)).min(LAST_PAUSE);
            let pause = pause.mul_f64(0.75 + 0.25 * random());
            panics += 1;
            self.state.restarts.fetch_add(1, Relaxed);
            self.progress(pause);
            let (name, seconds) = (&self.state.name, pause.as_secs_f64());
            let hint = remedy::CRASH.text();
            error!("{name} crashed ({text}) and is restarted in {seconds:.1} s; {hint}");
            panicked(&text);
            if self.stop.run_until_cancelled(sleep(pause)).await.is_none() {
                return state;
            }
        }
    }
}

/// The result, or the text of the panic that ended the future.
pub async fn catch_panic<F: Future>(future: F) -> Result<F::Output, String> {
    let mut future = pin!(future);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Err(panic_text(&*panic)).into(),
    })
    .await
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no reason given")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::FutureExt;

    use super::*;

    fn stalled(tasks: &Tasks) -> Vec<String> {
        let stalled = tasks.status().into_iter().filter(|task| task.stalled);
        stalled.map(|task| task.name).collect()
    }

    /// Crashes ten times, and once of them after a long time.
    async fn run(begins: &mut Vec<Instant>) {
        begins.push(Instant::now());
        sleep(if begins.len() == 9 { STABLE } else { Duration::ZERO }).await;
        assert!(begins.len() == 11, "bug {}", begins.len());
    }

    #[tokio::test(start_paused = true)]
    async fn panic_restarts_the_task_with_growing_pauses() {
        let (tasks, stop) = (Tasks::default(), CancellationToken::new());
        let task = tasks.register("sink", &stop);
        let reported = Cell::new(0);
        let panicked = |text: &str| {
            assert!(text.starts_with("bug "), "{text}");
            reported.set(reported.get() + 1);
        };
        let begins = task.supervise(Vec::new(), |begins| run(begins).boxed(), panicked).await;
        assert_eq!(reported.get(), 10);
        assert_eq!(tasks.status()[0].restarts, 10);
        let pauses: Vec<_> =
            begins.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
        // With less than a second before it was stable again, and after that.
        for (pause, nominal) in
            pauses.iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 61.0, 2.0])
        {
            assert!(
                (nominal * 0.74..=nominal + 0.01).contains(pause),
                "{pause} {nominal}: {pauses:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn stop_ends_the_pause_before_a_restart() {
        let stop = CancellationToken::new();
        let task = Task::from(stop.clone());
        task.supervise((), |()| async { panic!("bug") }.boxed(), |_| stop.cancel()).await;
    }

    #[test]
    fn overdue_task_is_stalled_until_it_reports() {
        let (tasks, stop) = (Tasks::default(), CancellationToken::new());
        let [idle, busy] = ["idle", "busy"].map(|name| tasks.register(name, &stop));
        idle.idle();
        busy.progress(Duration::from_secs(10));
        (0..10 + GRACE).for_each(|_| tasks.count_second());
        assert_eq!(stalled(&tasks), [""; 0]);
        tasks.count_second();
        assert_eq!(stalled(&tasks), ["busy"]);
        busy.progress(Duration::from_secs(10));
        assert_eq!(stalled(&tasks), [""; 0]);
    }
}
