//! The composition root: tasks from a [`Config`], and an orderly end.
//!
//! Lines are tasks of their own; sinks are tasks that are started again should one of them break
//! down. Nothing from outside ends the process; only the stop signal does.

mod bank;
mod lines;
mod suggest;

use std::path::Path;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::board::Board;
use crate::capture::Recorder;
use crate::command::CommandBus;
use crate::config::Config;
use crate::history::{self, History};
use crate::model::{DeviceId, Restored};
use crate::poll::{Line, run_line};
use crate::sink::{http, mqtt};
use crate::transport::Bluetooth;

pub use lines::{SimOptions, lines};

/// Lines get so long to leave what they are doing.
const LINES_STOP: Duration = Duration::from_millis(700);
/// The rest of a capture gets so long to reach the disk.
const CAPTURE_STOP: Duration = Duration::from_millis(200);
/// Sinks get so long for their goodbye.
const SINKS_STOP: Duration = Duration::from_millis(1000);
/// A sink that broke down is started again after this time.
const RESTART: Duration = Duration::from_secs(5);
/// The file of the history gets so long for its energy counters before the broker is asked for them.
const FILE_READ: Duration = Duration::from_secs(5);
/// After a power cut, a broker on a slow machine takes minutes to be there again.
const BROKER_COMES: Duration = Duration::from_secs(5 * 60);

/// Runs until SIGTERM or SIGINT.
pub async fn serve(config: Config) -> std::io::Result<()> {
    let stop = stop_on_signal()?;
    serve_until(config, stop).await;
    info!("stopped");
    Ok(())
}

/// A token that SIGTERM and SIGINT cancel. In an empty image this process is number 1, for which
/// the kernel ignores signals without a handler.
pub fn stop_on_signal() -> std::io::Result<CancellationToken> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let cancel = stop.clone();
    tokio::spawn(
        async move {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            cancel.cancel();
        }
        .boxed(),
    );
    Ok(stop)
}

/// Runs until `stop`; on return every battery has been said offline and every link is closed, as
/// far as that was possible in less than two seconds.
pub async fn serve_until(config: Config, stop: CancellationToken) {
    for warning in &config.warnings {
        warn!("{warning}");
    }
    let house = App::build(&config, &SimOptions::default(), &stop);
    run(house, &config, stop).await;
}

/// Runs the sinks of a house until `stop`, then ends it in order.
pub async fn run(house: App, config: &Config, stop: CancellationToken) {
    let stop_sinks = CancellationToken::new();
    let mut sinks = JoinSet::new();
    let history = History::new(&house.board, config.history.span);
    let (past, board, file) = (history.clone(), house.board.clone(), config.history.file.clone());
    supervise(&mut sinks, "history", &stop_sinks, move |stop| {
        history::run(past.clone(), board.clone(), file.clone(), stop).boxed()
    });
    if let Some(listen) = config.http_listen {
        let (board, access, history) = (house.board.clone(), config.http_access, history.clone());
        supervise(&mut sinks, "http", &stop_sinks, move |stop| {
            http::run(listen, access, board.clone(), history.clone(), stop).boxed()
        });
    }
    // The file kept the energy counters to the milliwatt-hour, so it is asked before the broker.
    let file_read = timeout(FILE_READ, history.restored());
    if let Some(Err(_)) = stop.run_until_cancelled(file_read).await {
        warn!("the history file takes long; energy counters go on without it until it is read");
    }
    if let Some(settings) = config.mqtt.clone() {
        let (board, commands) = (house.board.clone(), house.commands.clone());
        supervise(&mut sinks, "mqtt", &stop_sinks, move |stop| {
            mqtt::run(settings.clone(), board.clone(), commands.clone(), stop).boxed()
        });
        sinks.spawn(start_counters_without_broker(house.board.clone(), stop_sinks.clone()).boxed());
    } else if config.history.file.is_some() {
        start_counters_at_zero(&house.board, "the history file keeps them from now on");
    } else {
        let why = "without MQTT and HISTORY_FILE nothing keeps them over a restart";
        start_counters_at_zero(&house.board, why);
    }
    if config.devices.is_empty() {
        sinks.spawn(suggest::batteries(house.board.clone(), stop_sinks.clone()).boxed());
    }
    stop.cancelled().await;
    end("a line", house.lines, LINES_STOP).await;
    if let Some(capture) = house.capture {
        // The lines held the last handles of the recorder, so it is writing its last words.
        let _ = timeout(CAPTURE_STOP, capture).await;
    }
    stop_sinks.cancel();
    end("a sink", sinks, SINKS_STOP).await;
}

/// Nobody kept the energy counters of an earlier run of those batteries that have none by now.
fn start_counters_at_zero(board: &Board, why: &str) {
    let restored: Vec<_> = board.devices().filter_map(|id| board.restore(id, None)).collect();
    if restored.contains(&Restored::Zero) {
        info!("energy counters start at 0: {why}");
    }
}

/// Counters that wait for a broker that never comes would be unknown for ever. Should it come after
/// all, it still raises them to what it has kept.
async fn start_counters_without_broker(board: Board, stop: CancellationToken) {
    if stop.run_until_cancelled(sleep(BROKER_COMES)).await.is_some() {
        let why = "the broker that may have kept them is not there; they go on from its values \
                   should it come";
        start_counters_at_zero(&board, why);
    }
}

async fn end(what: &str, mut tasks: JoinSet<()>, limit: Duration) {
    let all = async { while tasks.join_next().await.is_some() {} };
    if timeout(limit, all).await.is_err() {
        warn!("{what} did not end in {} ms and is abandoned", limit.as_millis());
    }
}

/// Runs a sink and starts it again should it break down.
fn supervise(
    tasks: &mut JoinSet<()>,
    name: &'static str,
    stop: &CancellationToken,
    run: impl Fn(CancellationToken) -> BoxFuture<'static, ()> + Send + 'static,
) {
    let stop = stop.clone();
    tasks.spawn(
        async move {
            while let Err(failure) = tokio::spawn(run(stop.clone())).await {
                error!("{name} broke down ({failure}); please report this; it is started again");
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = sleep(RESTART) => {}
                }
            }
        }
        .boxed(),
    );
}

/// The board with everything that feeds it.
#[derive(Debug)]
pub struct App {
    board: Board,
    commands: CommandBus,
    lines: JoinSet<()>,
    capture: Option<JoinHandle<()>>,
}

impl App {
    /// Starts a task for each line; simulated batteries live as `play` says.
    pub fn build(config: &Config, play: &SimOptions, stop: &CancellationToken) -> Self {
        let batteries = config.devices.iter().map(|device| &device.profile);
        let banks = config.banks.iter().map(|bank| &bank.profile);
        let board = Board::new(batteries.chain(banks).cloned());
        let (recorder, capture) = config.capture.as_deref().and_then(recorder).unzip();
        let mut lines = lines(&config.devices, &Bluetooth::default(), play, stop);
        lines.iter_mut().for_each(|line| line.recorder.clone_from(&recorder));
        let of_line = |line: &Line| line.members.iter().map(|m| m.id.clone()).collect();
        let mut groups: Vec<Vec<DeviceId>> = lines.iter().map(of_line).collect();
        groups.extend(config.banks.iter().map(|bank| vec![bank.profile.id.clone()]));
        let (commands, inboxes) = CommandBus::new(&groups);
        let mut inboxes = inboxes.into_iter();
        let mut tasks = JoinSet::new();
        for (line, inbox) in lines.into_iter().zip(inboxes.by_ref()) {
            tasks.spawn(run_line(line, board.clone(), inbox, stop.clone()).boxed());
        }
        for (bank, inbox) in config.banks.iter().cloned().zip(inboxes) {
            let (board, commands) = (board.clone(), commands.clone());
            tasks.spawn(bank::run_bank(bank, board, commands, inbox, stop.clone()).boxed());
        }
        App { board, commands, lines: tasks, capture }
    }

    /// The newest state of every battery.
    pub fn board(&self) -> &Board {
        &self.board
    }
}

/// Opens the file of a capture; a service without one is better than none.
fn recorder(path: &Path) -> Option<(Recorder, JoinHandle<()>)> {
    match Recorder::open(path) {
        Ok(open) => {
            info!("everything that is said on the wires is written to {}", path.display());
            Some(open)
        }
        Err(error) => {
            warn!("BMS_CAPTURE: cannot write to {}: {error}; going on without", path.display());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::energy::Energy;
    use crate::model::{EnergyTotals, Profile};

    fn totals(charged: u64) -> EnergyTotals {
        EnergyTotals { charged: Energy(charged), ..EnergyTotals::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn counters_do_not_wait_for_ever_for_a_broker_which_may_still_raise_them() {
        let board = Board::new(["a", "b"].map(Profile::sample));
        let [a, b] = ["a", "b"].map(|name| DeviceId::new(name).unwrap());
        let before = |id| board.latest(id).and_then(|state| state.energy_before_start);
        board.restore(&a, Some(totals(7)));
        let stop = CancellationToken::new();
        let task = tokio::spawn(start_counters_without_broker(board.clone(), stop));
        sleep(BROKER_COMES / 2).await;
        assert_eq!((before(&a), before(&b)), (Some(totals(7)), None));
        task.await.unwrap();
        assert_eq!((before(&a), before(&b)), (Some(totals(7)), Some(totals(0))));
        board.restore(&b, Some(totals(5)));
        assert_eq!(before(&b), Some(totals(5)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_does_not_wait_for_the_broker() {
        let (board, stop) = (Board::new([Profile::sample("a")]), CancellationToken::new());
        stop.cancel();
        start_counters_without_broker(board.clone(), stop).await;
        assert_eq!(board.states().next().unwrap().energy_before_start, None);
    }
}
