//! MQTT with Home Assistant discovery.
//!
//! ```text
//! board ──news──▶ session ──messages──▶ client ⇄ broker
//!                 │      ◀──inputs─────
//!                 battery: what is to be said (publish_filter, discovery, announce; all pure)
//! ```
//!
//! Nothing is queued while the broker is away: the board keeps the newest values, and a new
//! connection starts by saying everything, in the order subscribe, discovery, values, `online` of
//! each battery, `online` of the program, events.

mod alarms;
mod backoff;
mod battery;
mod client;
mod connection_log;
mod discovery;
mod discovery_sync;
mod error;
mod inbound;
mod message;
mod probe;
mod publish_filter;
mod session;
mod supervisor;
#[cfg(test)]
mod test_data;
#[cfg(feature = "tls")]
mod tls;
mod topics;

use std::time::{Duration, Instant};

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::board::Board;
use crate::command::CommandBus;
use crate::model::Secret;
use crate::random::random;

use self::backoff::{Backoff, Ending};
use self::connection_log::ConnectionLog;
use self::error::MqttError;
use self::session::Publisher;

pub use self::probe::probe;
pub use self::supervisor::Supervisor;

/// The goodbye takes no longer, whatever the broker does.
const GOODBYE: Duration = Duration::from_millis(800);
/// Even a broker that kept us waiting gets a moment's peace.
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);

/// Everything the operator can say about the broker and what is published there.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who knows host, port and login; `None`: they are given here.
    pub supervisor: Option<Supervisor>,
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User name and password.
    pub login: Option<(String, Secret)>,
    /// Our name at the broker.
    pub client_id: String,
    /// Longest silence on the connection.
    pub keep_alive: Duration,
    /// `None`: plain text. Follows the Supervisor where there is one.
    pub tls: Option<Tls>,
    /// Template of a battery's base topic, with `{id}` and `{type}`.
    pub base_topic: String,
    /// Home Assistant's discovery prefix.
    pub discovery_prefix: String,
    /// How entities are announced.
    pub discovery: Discovery,
    /// What is sent when a value did not move.
    pub publish: Publish,
}

/// How the connection is secured. The files are read at each connection, so renewed ones count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// PEM file with further roots beside the bundled ones.
    pub ca_file: Option<String>,
    /// PEM files with our certificate and key.
    pub client_files: Option<(String, String)>,
    /// Take any certificate.
    pub insecure: bool,
}

/// How entities are announced to Home Assistant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discovery {
    /// One topic for each entity.
    Entity,
    /// One topic for each device (Home Assistant 2024.11 or newer).
    Device,
    /// Not at all.
    Off,
}

/// When a value is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publish {
    /// When it moved, and again after this time.
    Changes(Duration),
    /// At every read.
    All,
}

/// Publishes until the stop, then says goodbye.
pub async fn run(settings: Settings, board: Board, commands: CommandBus, stop: CancellationToken) {
    let mut log = ConnectionLog::default();
    let mut publisher = Publisher::new(settings, &board, commands);
    let mut backoff = Backoff::default();
    loop {
        let began = Instant::now();
        let Some(trouble) = connection(&mut publisher, &mut log, &stop).await else { return };
        log.trouble(&trouble, Instant::now());
        publisher.tell_trouble(&trouble);
        let mut moved = false;
        if trouble.is_denied() {
            // The login changes when the broker's app is installed anew.
            tokio::select! {
                () = stop.cancelled() => return,
                located = publisher.locate() => moved = located.unwrap_or_default(),
            }
        }
        let pause = match publisher.end_of_connection() {
            None if moved => SHORTEST_PAUSE,
            since => {
                let ending = ending(&trouble, since.map(|since| since.elapsed()));
                let spent =
                    if ending == Ending::Unreachable { began.elapsed() } else { Duration::ZERO };
                backoff.next(ending, random()).saturating_sub(spent).max(SHORTEST_PAUSE)
            }
        };
        if backoff.suspects_rival() {
            log.rival(&publisher.settings().client_id);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// One connection from its beginning to its end; `None` when the end was asked for.
async fn connection(
    publisher: &mut Publisher,
    log: &mut ConnectionLog,
    stop: &CancellationToken,
) -> Option<MqttError> {
    let located = tokio::select! {
        () = stop.cancelled() => return None,
        located = publisher.locate() => located,
    };
    if let Err(trouble) = located {
        return Some(trouble);
    }
    log.heads_for(publisher.settings());
    let (pump, mut link) = match publisher.open() {
        Ok(ends) => ends,
        Err(trouble) => return Some(trouble),
    };
    let session = async {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            trouble = publisher.serve(&mut link, log) => return Some(trouble),
        }
        if publisher.is_connected() {
            // Whatever hinders the goodbye, there is no time left to do anything about it.
            let _ = timeout(GOODBYE, publisher.goodbye(&link)).await;
        }
        None
    };
    tokio::select! {
        trouble = pump.run() => Some(trouble).filter(|_| !stop.is_cancelled()),
        ended = session => ended,
    }
}

/// How a connection of which the broker knew for so long has ended.
fn ending(trouble: &MqttError, lived: Option<Duration>) -> Ending {
    match lived {
        Some(lived) => Ending::Lost(lived),
        None if trouble.is_denied() => Ending::Denied,
        None => Ending::Unreachable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_before_the_connection_came_about_is_left_alone_for_long() {
        let minute = Duration::from_secs(60);
        let pause =
            |trouble: &MqttError, lived| Backoff::default().next(ending(trouble, lived), 0.0);
        let denied = MqttError::Denied("not authorised");
        assert!(pause(&denied, None) >= minute);
        assert!(pause(&denied, Some(minute)) < minute);
        assert!(pause(&MqttError::Closed, None) < minute);
    }
}
