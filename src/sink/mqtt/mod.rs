//! MQTT with Home Assistant discovery.
//!
//! ```text
//! board ──updates──▶ session ──messages──▶ client ⇄ broker
//!                    │      ◀──events─────
//!                    battery: what to publish (publish_filter, discovery, discovery_sync; all pure)
//! ```
//!
//! Nothing is queued while the broker is away: the board keeps the newest values, and each new
//! connection publishes everything, in this order: subscribe, discovery, values, `online` of each
//! battery, `online` of the program, alarm events.

mod alarms;
mod backfill;
mod backoff;
mod battery;
mod bridge;
mod client;
mod command_reply;
mod discovery;
mod discovery_sync;
mod echo;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod inbound;
mod ingress;
mod json;
mod limits;
mod message;
mod probe;
mod publish_filter;
mod remote_config;
mod remove;
mod retained_check;
mod seen_quantities;
mod session;
mod supervisor;
#[cfg(test)]
mod test_data;
mod topics;
mod victron;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::board::Board;
use crate::command::CommandBus;
use crate::model::{DeviceId, Secret};
use crate::random::random;
use crate::remedy;
use crate::supervisor::Supervisor;
use crate::tasks::Task;

use self::backoff::{Backoff, ConnectionEnd};
use self::error::MqttError;
use self::session::Publisher;

pub use self::backfill::{Backfill, Mode as BackfillMode};
pub use self::probe::probe;
pub use self::remove::{Removal, bridge_topics, clear_retained, find_retained, remove};
pub use self::supervisor::SupervisedBroker;
pub use self::victron::{Format as VictronFormat, Limits as VictronLimits, Victron};
pub use crate::tls::Tls;

/// The stop of the program must not wait longer for the broker.
const DISCONNECT_TIMEOUT: Duration = Duration::from_millis(800);
/// Applies even after an attempt that took longer than its back-off.
const MIN_PAUSE: Duration = Duration::from_millis(200);
/// Progress is reported this often, even if there is nothing to publish.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);
/// For one step, such as connecting or sending a message on a slow link. A connection on which the
/// broker does not answer ends earlier.
const STEP_LIMIT: Duration = Duration::from_secs(60);

/// The broker, and what to publish there.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Reports host, port, login and TLS, which then replace those below.
    pub supervisor: Option<SupervisedBroker>,
    pub host: String,
    pub port: u16,
    /// User name and password.
    pub login: Option<(String, Secret)>,
    pub client_id: String,
    pub keep_alive: Duration,
    pub version: Version,
    pub tls: Option<Tls>,
    /// Template of a battery's base topic, with `{id}` and `{type}`.
    pub base_topic: String,
    /// Home Assistant's discovery prefix.
    pub discovery_prefix: String,
    pub discovery: Discovery,
    pub publish: Publish,
    /// Whether `cmd/config` may change settings.
    pub allow_config: bool,
    /// Whether settings that are retained at the broker apply.
    pub remote_config: bool,
    /// URL of the dashboard, to which Home Assistant links from each battery. `None`: unknown.
    pub dashboard: Option<String>,
    /// Reports where Home Assistant shows the dashboard, if `dashboard` is unknown.
    pub ingress: Option<Supervisor>,
    /// The batteries and banks that drivers of Venus OS read.
    pub victron: BTreeMap<DeviceId, Victron>,
    /// What the broker missed; `None`: it is not sent later.
    pub backfill: Option<Arc<Backfill>>,
}

/// Version of MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V311,
    /// Where the broker refuses it, 3.1.1 is used.
    V5,
}

/// Format of the Home Assistant discovery messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discovery {
    /// One topic for each entity.
    Entity,
    /// One topic for each device (Home Assistant 2024.11 or newer).
    Device,
    Off,
}

/// When a value is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publish {
    /// When it changed, and again after this time.
    Changes(Duration),
    /// Again after each read.
    All,
}

/// Publishes the batteries of the board until the stop. Once `file_restored` is cancelled, the broker
/// may restore the energy counters that the history file lacks: the file has them to the
/// milliwatt-hour, the broker has them rounded.
pub async fn run(
    settings: Settings,
    board: Board,
    commands: CommandBus,
    file_restored: CancellationToken,
    task: Task,
) {
    let (backfill, readings) = (settings.backfill.clone(), board.clone());
    let publish = publish(settings, board, commands, file_restored, task);
    match backfill {
        Some(backfill) => backfill.run(&readings, publish).await,
        None => publish.await,
    }
}

async fn publish(
    settings: Settings,
    board: Board,
    commands: CommandBus,
    file_restored: CancellationToken,
    task: Task,
) {
    let stop = task.stop.clone();
    let mut publisher = Publisher::new(settings, board, commands, file_restored, task);
    let mut backoff = Backoff::default();
    let mut reported_duplicate = false;
    loop {
        publisher.task.progress(STEP_LIMIT);
        let started = Instant::now();
        let Err(error) = publisher.run_connection(&stop).await else { return };
        publisher.report_error(&error);
        publisher.report_blanks(&error);
        let mut relocated = false;
        if error.is_login_refused() {
            // Reinstalling the broker app changes the login.
            let located = stop.run_until_cancelled(publisher.settings.locate_broker()).await;
            let Some(located) = located else { return };
            relocated = located.unwrap_or_default();
        }
        let uptime = publisher.connected_since.take().map(|since| since.elapsed());
        let mut pause = MIN_PAUSE;
        if uptime.is_some() || !relocated {
            let end = connection_end(&error, uptime);
            let next = backoff.next(end, random());
            let unreachable = end == ConnectionEnd::Unreachable;
            let elapsed = if unreachable { started.elapsed() } else { Duration::ZERO };
            pause = next.saturating_sub(elapsed).max(MIN_PAUSE);
        }
        if backoff.suspects_duplicate_client() && !std::mem::replace(&mut reported_duplicate, true)
        {
            let Settings { host, port, client_id, .. } = &publisher.settings;
            let setting = remedy::setting("MQTT_CLIENT_ID");
            tracing::warn!(
                "MQTT: the connection to {host}:{port} keeps breaking; is another client with the \
                 ID \"{client_id}\" connected? Give each client its own {setting}"
            );
        }
        publisher.task.progress(pause);
        if stop.run_until_cancelled(sleep(pause)).await.is_none() {
            return;
        }
    }
}

/// `uptime`: how long the broker had accepted the connection.
fn connection_end(error: &MqttError, uptime: Option<Duration>) -> ConnectionEnd {
    match uptime {
        Some(uptime) => ConnectionEnd::Lost(uptime),
        None if error.is_login_refused() => ConnectionEnd::LoginRefused,
        None => ConnectionEnd::Unreachable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longer_pause_only_when_the_login_was_refused() {
        let pause =
            |error: &MqttError, uptime| Backoff::default().next(connection_end(error, uptime), 0.0);
        let refused = MqttError::LoginRefused("not authorised");
        let (minute, second) = (Duration::from_secs(60), Duration::from_secs(1));
        assert!(pause(&refused, None) > second);
        assert!(pause(&refused, Some(minute)) <= second);
        assert!(pause(&MqttError::Closed, None) <= second);
    }
}
