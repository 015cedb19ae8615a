//! The composition root: starts the tasks that a [`Config`] asks for and stops them in order.
//!
//! A task that panics is restarted. Only the stop signal ends the process.

mod bank;
mod lines;
mod past;
pub mod probe;
pub mod process;
mod read;
mod setup;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::board::Board;
use crate::capture::Recorder;
use crate::clock;
use crate::command::CommandBus;
use crate::config::Config;
use crate::history::{self, History};
use crate::model::{DeviceId, EnergySource, Restored};
use crate::poll::{Line, run_line};
use crate::remedy;
use crate::setup::Setup;
use crate::sink::{http, influx, mqtt, notify};
use crate::tasks::{Task, Tasks};
use crate::transport::Bluetooth;

pub use lines::{SimOptions, bluetooth, lines};
pub(crate) use past::Past;
pub use process::stop_on_signal;
pub use read::read;

/// Time for the lines to abandon their reads and close their connections.
const LINES_STOP: Duration = Duration::from_millis(700);
/// Time for the rest of a capture to reach the disk.
const CAPTURE_STOP: Duration = Duration::from_millis(200);
/// Time for the sinks to publish that every battery is offline, and to disconnect.
const SINKS_STOP: Duration = Duration::from_millis(1000);
/// Time for the history file to deliver its energy counters before the broker is asked for them.
const HISTORY_TIMEOUT: Duration = Duration::from_secs(5);
/// After a power cut, a broker on a slow machine takes minutes to start.
const BROKER_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// Below [`MAX_PAUSE`](crate::model::staleness::MAX_PAUSE), and rarely, because each wake-up of a resting
/// process costs as much as decoding several frames.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);

/// Runs the service until a signal or a command stops it; true if it is to be started again.
pub async fn serve(config: Config, set_log_level: fn(&'static str)) -> std::io::Result<bool> {
    let stop = stop_on_signal()?;
    info!("bms-reader {}", env!("CARGO_PKG_VERSION"));
    for warning in &config.warnings {
        warn!("{warning}");
    }
    let mut app = App::build(&config, &SimOptions::default(), &stop);
    app.tasks.log_panics();
    app.commands.program.set_log_level = set_log_level;
    let program = app.commands.program.clone();
    run(app, &config, stop).await;
    info!("stopped");
    Ok(program.is_restart_requested())
}

/// Runs the sinks until `stop`. On return every battery is published as offline and every
/// connection is closed, as far as that was possible within two seconds.
pub async fn run(app: App, config: &Config, stop: CancellationToken) {
    let board = &app.board;
    let stop_sinks = CancellationToken::new();
    let sink = |name: &str| app.tasks.register(name, &stop_sinks);
    let mut sinks = JoinSet::new();
    let mut history = app.history;
    let kept = config.influx.is_some().then(|| influx_kept(&mut history)).flatten();
    if let Some(backfill) = config.mqtt.as_ref().and_then(|mqtt| mqtt.backfill.as_ref())
        && let Some(unsent) = history.keep_unsent("mqtt")
    {
        // The program runs once.
        let _ = backfill.unsent.set(unsent);
    }
    // Only the page and the file show it, and it takes more memory than a battery.
    let has_history = config.http.is_some() || config.history.file.is_some();
    if has_history {
        let (shared, file) = ((history.clone(), board.clone()), config.history.file.clone());
        supervise(&mut sinks, sink("history"), move |task| {
            let (history, board) = shared.clone();
            history::run(history, board, file.clone(), task).boxed()
        });
    }
    let (setup, setup_task) = Setup::new();
    let (bluetooth, broker) = (app.bluetooth, config.mqtt.clone());
    let shared = bluetooth.clone();
    sinks.spawn(setup::run(setup_task, board.clone(), shared, broker, sink("setup")).boxed());
    if let Some(settings) = config.http.clone() {
        let shared = ((board.clone(), history.clone()), app.commands.clone(), setup);
        supervise(&mut sinks, sink("http"), move |task| {
            let (state, commands, setup) = shared.clone();
            http::run(settings.clone(), state, commands, setup, task).boxed()
        });
    }
    start_senders(&mut sinks, config, board, kept, sink);
    let file_restored = CancellationToken::new();
    if let Some(settings) = config.mqtt.clone() {
        sinks.spawn(start_counters_without_broker(board.clone(), stop_sinks.clone()).boxed());
        let shared = (board.clone(), app.commands.clone(), file_restored.clone());
        supervise(&mut sinks, sink("mqtt"), move |task| {
            let (board, commands, file_restored) = shared.clone();
            mqtt::run(settings.clone(), board, commands, file_restored, task).boxed()
        });
    }
    let loaded = timeout(HISTORY_TIMEOUT, history.restored());
    if has_history && let Some(Err(_)) = stop.run_until_cancelled(loaded).await {
        warn!("the history file is slow; energy counters continue without it until it is loaded");
    }
    file_restored.cancel();
    if config.mqtt.is_none() {
        start_counters_at_zero(board, &reason_for_zero(config));
    }
    sinks.spawn(watch_time(board.clone(), app.tasks.clone(), stop_sinks.clone()).boxed());
    stop.cancelled().await;
    join_all("a line", app.lines, LINES_STOP).await;
    if let Some(capture) = app.capture {
        // It ends because the lines have dropped their handles of the recorder.
        let _ = timeout(CAPTURE_STOP, capture).await;
    }
    stop_sinks.cancel();
    tokio::join!(join_all("a sink", sinks, SINKS_STOP), bluetooth.close());
}

/// `None` without a file.
fn influx_kept(history: &mut History) -> Option<influx::Kept> {
    let (lines, seconds) = ("influx", "influx seconds");
    Some(influx::Kept {
        lines: history.keep_unsent(lines)?,
        seconds: history.keep_unsent(seconds)?,
    })
}

/// Starts the sinks that send to servers other than the broker. `register` makes the task of one.
fn start_senders(
    sinks: &mut JoinSet<()>,
    config: &Config,
    board: &Board,
    kept: Option<influx::Kept>,
    register: impl Fn(&str) -> Task,
) {
    if let Some(settings) = config.notify.clone() {
        let board = board.clone();
        supervise(sinks, register("notify"), move |task| {
            notify::run(settings.clone(), board.clone(), task).boxed()
        });
    }
    if let Some(settings) = config.influx.clone() {
        let shared = (board.clone(), Arc::new(influx::Backlog::new(kept)));
        supervise(sinks, register("influx"), move |task| {
            let (board, backlog) = shared.clone();
            influx::run(settings.clone(), board, backlog, task).boxed()
        });
    }
}

/// Starts the energy counters of the batteries for which nothing was restored.
fn start_counters_at_zero(board: &Board, reason: &str) {
    let restored: Vec<_> =
        board.devices().filter_map(|id| board.restore(id, None, EnergySource::File)).collect();
    if restored.contains(&Restored::Zero) {
        info!("energy counters start at 0: {reason}");
    }
}

/// Why nothing was restored, where there is no broker.
fn reason_for_zero(config: &Config) -> String {
    match &config.history.file {
        Some(_) => "no earlier values were found".to_owned(),
        None => {
            let file = remedy::setting("HISTORY_FILE");
            format!("without MQTT or {file} they are lost at a restart")
        }
    }
}

/// Energy counters must not stay unknown because the broker is away. If it comes later, it still
/// raises them to the values that it has retained.
async fn start_counters_without_broker(board: Board, stop: CancellationToken) {
    if stop.run_until_cancelled(sleep(BROKER_TIMEOUT)).await.is_some() {
        let reason = "the broker is not reachable; they are raised to its values when it is back";
        start_counters_at_zero(&board, reason);
    }
}

async fn join_all(what: &str, mut tasks: JoinSet<()>, limit: Duration) {
    let all = async { while tasks.join_next().await.is_some() {} };
    if timeout(limit, all).await.is_err() {
        warn!("{what} did not stop within {} ms and was abandoned", limit.as_millis());
    }
}

/// Spawns a task that is restarted if it panics.
fn supervise(
    tasks: &mut JoinSet<()>,
    task: Task,
    run: impl Fn(Task) -> BoxFuture<'static, ()> + Send + Sync + 'static,
) {
    let supervised = async move { task.supervise((), |()| run(task.clone()), |_| {}).await };
    tasks.spawn(supervised.boxed());
}

/// Notices when the process was stopped or the machine slept, even if no sink looks at the board, and
/// lets the time of the tasks pass.
async fn watch_time(board: Board, tasks: Tasks, stop: CancellationToken) {
    while stop.run_until_cancelled(sleep(WATCH_INTERVAL)).await.is_some() {
        board.detect_pause(clock::uptime(), clock::now());
        (0..WATCH_INTERVAL.as_secs()).for_each(|_| tasks.count_second());
    }
}

/// The board and the tasks that fill it.
#[derive(Debug)]
pub struct App {
    /// The newest state of every battery.
    pub board: Board,
    pub tasks: Tasks,
    bluetooth: Bluetooth,
    /// Empty until [`run`], which fills it from the board.
    history: History,
    commands: CommandBus,
    lines: JoinSet<()>,
    capture: Option<JoinHandle<()>>,
}

impl App {
    /// Spawns a task for each line and each bank.
    pub fn build(config: &Config, sim: &SimOptions, stop: &CancellationToken) -> Self {
        let batteries = config.devices.iter().map(|device| &device.profile);
        let banks = config.banks.iter().map(|bank| &bank.profile);
        let board = Board::new(batteries.chain(banks).cloned());
        let (recorder, capture) = config.capture.as_deref().and_then(open_capture).unzip();
        let bluetooth = bluetooth(&config.proxies);
        let lines = lines(&config.devices, &bluetooth, sim, stop);
        let ids = |line: &Line| line.members.iter().map(|member| member.id.clone()).collect();
        let mut groups: Vec<Vec<DeviceId>> = lines.iter().map(ids).collect();
        groups.extend(config.banks.iter().map(|bank| vec![bank.profile.id.clone()]));
        let (mut commands, inboxes) = CommandBus::new(&groups);
        commands.program.started = clock::uptime();
        commands.program.stop = stop.clone();
        let mut inboxes = inboxes.into_iter();
        let (tasks, mut running) = (Tasks::default(), JoinSet::new());
        for (line, inbox) in lines.into_iter().zip(inboxes.by_ref()) {
            let first = line.members.first().map_or("", |member| member.id.as_str());
            let task = tasks.register(format!("line {first}"), stop);
            let line = Line { recorder: recorder.clone(), ..line };
            running.spawn(run_line(line, board.clone(), inbox, task).boxed());
        }
        for (bank, inbox) in config.banks.iter().cloned().zip(inboxes) {
            let (board, commands) = (board.clone(), commands.clone());
            let task = tasks.register(format!("bank {}", bank.profile.id), stop);
            running.spawn(bank::run_bank(bank, board, commands, inbox, task).boxed());
        }
        let mut history = History::new(&board, config.history.span);
        history.zone = config.history.zone;
        history.is_kept = config.history.file.is_some();
        App { board, tasks, bluetooth, history, commands, lines: running, capture }
    }
}

/// Opens the capture file. The service also runs without one.
fn open_capture(path: &Path) -> Option<(Recorder, JoinHandle<()>)> {
    let file = path.display();
    Recorder::open(path)
        .inspect(|_| info!("capturing all traffic to {file}"))
        .inspect_err(|error| {
            let setting = remedy::setting("BMS_CAPTURE");
            warn!("{setting}: cannot write to {file}: {error}; not capturing");
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Energy, EnergyTotals, LinkState, Millis, Profile, Uptime};

    fn totals(charged: u64) -> EnergyTotals {
        EnergyTotals { charged: Energy(charged), ..EnergyTotals::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn counters_start_without_the_broker_which_may_still_raise_them() {
        let board = Board::new(["a", "b"].map(Profile::sample));
        let [a, b] = ["a", "b"].map(|name| DeviceId::new(name).unwrap());
        let before = |id| board.latest(id).and_then(|state| state.energy.before_start);
        board.restore(&a, Some(totals(7)), EnergySource::File);
        let stop = CancellationToken::new();
        let task = tokio::spawn(start_counters_without_broker(board.clone(), stop));
        sleep(BROKER_TIMEOUT / 2).await;
        assert_eq!((before(&a), before(&b)), (Some(totals(7)), None));
        task.await.unwrap();
        assert_eq!((before(&a), before(&b)), (Some(totals(7)), Some(totals(0))));
        board.restore(&b, Some(totals(5)), EnergySource::Broker);
        assert_eq!(before(&b), Some(totals(5)));
    }

    #[tokio::test(start_paused = true)]
    async fn values_that_grew_old_in_a_suspend_are_offline_without_sinks() {
        let (board, stop) = (Board::new([Profile::sample("a")]), CancellationToken::new());
        let (a, before) = (DeviceId::new("a").unwrap(), clock::uptime().0.saturating_sub(60_000));
        board.update_profile(&a, |profile| profile.interval_ms = 1000);
        board.update(&a, |state| {
            state.accept((Millis(0), Uptime(before)), 1, Default::default(), Default::default());
        });
        board.detect_pause(Uptime(before), Millis(1));
        let mut updates = board.subscribe(&a).unwrap();
        let task = tokio::spawn(watch_time(board.clone(), Tasks::default(), stop.clone()));
        let offline = updates.wait_for(|state| state.link != LinkState::Online);
        timeout(2 * WATCH_INTERVAL, offline).await.expect("it is offline").unwrap();
        stop.cancel();
        task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn stop_does_not_wait_for_the_broker() {
        let (board, stop) = (Board::new([Profile::sample("a")]), CancellationToken::new());
        stop.cancel();
        start_counters_without_broker(board.clone(), stop).await;
        assert_eq!(board.states().next().unwrap().energy.before_start, None);
    }
}
