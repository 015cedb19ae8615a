//! The search for the brand of a battery (`BMS_TYPE=auto`): the line tries one candidate after the
//! other and keeps the first whose driver gets a valid reply.

use tokio::time::Instant;
use tracing::info;

use super::LineTask;
use crate::model::FaultKind;
use crate::poll::ble::advertisement;
use crate::poll::cycle::CycleError;
use crate::protocol::CycleKind;
use crate::protocol::detection::{self, Candidate};
use crate::transport::{LinkConfig, LinkError};

/// What follows an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SearchStep {
    /// The next candidate is tried at once.
    Continue,
    /// The battery has a new result on the board and waits for its next turn.
    Recorded,
}

/// The progress of a search. It tries all candidates in one round, and repeats that at each
/// interval.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// The configured rates; empty for the usual ones of each brand.
    bauds: Vec<u32>,
    /// Empty before a round.
    candidates: Vec<Candidate>,
    /// How many of them were tried in this round.
    tried: usize,
    /// The most informative error of this round.
    best_error: Option<CycleError>,
    /// A connection was established in this round, even if a wrong candidate ended it.
    pub(super) reached: bool,
    announced: bool,
}

impl Search {
    pub(super) fn new(bauds: Vec<u32>) -> Self {
        Search { bauds, ..Search::default() }
    }

    pub(super) fn current(&self) -> Option<Candidate> {
        self.candidates.get(self.tried).copied()
    }

    /// Moves on to the next candidate. After the last one: why the round found nothing.
    fn rule_out(&mut self, error: CycleError) -> Option<CycleError> {
        if self.best_error.as_ref().map(information) < Some(information(&error)) {
            self.best_error = Some(error);
        }
        self.tried += 1;
        if self.current().is_some() {
            return None;
        }
        let best = self.best_error.take().filter(|error| information(error) != SILENCE);
        let verdict = best.unwrap_or_else(|| CycleError::Unrecognised(names(&self.candidates)));
        self.start_over();
        Some(verdict)
    }

    pub(super) fn start_over(&mut self) {
        let bauds = std::mem::take(&mut self.bauds);
        *self = Search { bauds, announced: self.announced, ..Search::default() };
    }
}

const SILENCE: u8 = 1;

/// How much an error reveals: a damaged reply more than silence, and silence more than a
/// connection that failed.
fn information(error: &CycleError) -> u8 {
    match error {
        CycleError::Link(_) => 0,
        _ if error.fault().kind == FaultKind::Timeout => SILENCE,
        _ => 2,
    }
}

fn names(candidates: &[Candidate]) -> String {
    let name = |candidate: &Candidate| match candidate.baud {
        Some(baud) => format!("{} at {baud} baud", candidate.driver.name),
        None => candidate.driver.name.to_owned(),
    };
    candidates.iter().map(name).collect::<Vec<_>>().join(", ")
}

impl LineTask {
    /// Configures the connection for the next candidate; does nothing once the brand is known.
    pub(super) async fn prepare_search(&mut self) -> Result<(), LinkError> {
        let Some(search) = &mut self.search else { return Ok(()) };
        let battery = &mut self.batteries[0];
        if search.candidates.is_empty() {
            let (candidates, signal) = candidates(&self.connection.endpoint, &search.bauds).await?;
            if !std::mem::replace(&mut search.announced, true) {
                let (id, names) = (&battery.member.id, names(&candidates));
                let endpoint = &self.connection.endpoint;
                info!("{id}: detecting the battery at {endpoint}; trying: {names}");
            }
            search.candidates = candidates;
            battery.signal = signal;
        }
        if let Some(candidate) = search.current() {
            self.connection.configure_for(&candidate).await;
        }
        Ok(())
    }

    /// Reads the battery with the driver of a candidate.
    pub(super) async fn probe_next(
        &mut self,
        candidate: Candidate,
        started: Instant,
    ) -> SearchStep {
        let Some(search) = &mut self.search else { return SearchStep::Recorded };
        let battery = &mut self.batteries[0];
        search.reached = true;
        let (info, options) = (candidate.driver, candidate.options(&battery.member.options));
        battery.try_driver(info, &options);
        let result = self.connection.run(battery, CycleKind::Read, false).await;
        if let Err(error) = result {
            battery.driver = None;
            return self.skip_candidate(started, error).await;
        }
        let (id, title, name) = (&battery.member.id, info.title, info.name);
        info!("{id}: found {title}; set the type to {name} to skip the search");
        battery.identify(info, options);
        self.search = None;
        self.record(0, started, true, result).await;
        SearchStep::Recorded
    }

    /// Moves on to the next candidate. A round without a result counts as one failed read.
    pub(super) async fn skip_candidate(
        &mut self,
        started: Instant,
        error: CycleError,
    ) -> SearchStep {
        let Some(search) = &mut self.search else { return SearchStep::Recorded };
        let battery = &mut self.batteries[0];
        let reached = search.reached;
        if let Some(verdict) = search.rule_out(error) {
            battery.record(started, reached, Err(verdict));
            if self.connection.is_open() {
                self.connection.rest().await;
            }
            return SearchStep::Recorded;
        }
        battery.due = Instant::now();
        if let Some(candidate) = search.current() {
            self.connection.configure_for(&candidate).await;
        }
        SearchStep::Continue
    }
}

/// What the battery may be, the likeliest first, and its Bluetooth signal strength.
async fn candidates(
    endpoint: &LinkConfig,
    bauds: &[u32],
) -> Result<(Vec<Candidate>, Option<i16>), LinkError> {
    let config = match endpoint {
        LinkConfig::Ble(config) => config,
        LinkConfig::Tcp { .. } => return Ok((detection::bridge_candidates(), None)),
        _ => return Ok((detection::serial_candidates(bauds), None)),
    };
    let found = config.bluetooth.scan(config.adapter.as_deref(), config.scan_timeout).await?;
    let found =
        found.into_iter().find(|device| device.address.eq_ignore_ascii_case(&config.address));
    let seen = found.as_ref().map(advertisement);
    Ok((detection::ble_candidates(seen.as_ref()), found.as_ref().and_then(|device| device.rssi)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{ProtocolError, daren};

    fn search(count: usize) -> Search {
        let candidate = Candidate { driver: &daren::INFO, baud: Some(9600) };
        Search { candidates: vec![candidate; count], ..Search::default() }
    }

    fn silence() -> CycleError {
        ProtocolError::Timeout { query: "?".into(), received: 0 }.into()
    }

    fn damage() -> CycleError {
        ProtocolError::BadFrame { query: "?".into(), reason: "noise".into() }.into()
    }

    fn no_port() -> CycleError {
        LinkError::NotFound { endpoint: "/dev/x".into() }.into()
    }

    #[test]
    fn round_ends_with_its_most_informative_error() {
        let unknown = CycleError::Unrecognised("daren at 9600 baud, daren at 9600 baud".into());
        for (first, second, verdict) in [
            (silence(), silence(), unknown.clone()),
            (silence(), no_port(), unknown),
            (no_port(), no_port(), no_port()),
            (damage(), silence(), damage()),
            (silence(), damage(), damage()),
        ] {
            let mut search = search(2);
            assert_eq!(search.rule_out(first), None);
            assert!(search.current().is_some());
            assert_eq!(search.rule_out(second), Some(verdict));
            assert!(search.current().is_none(), "the next round begins with a new scan");
        }
    }
}
