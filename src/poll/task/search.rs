//! The search for the brand of a battery (`BMS_TYPE=auto`): the line tries one candidate after the
//! other and keeps the first whose driver gets a valid reply.

use tokio::time::Instant;
use tracing::info;

use super::LineTask;
use crate::model::FaultKind;
use crate::model::plausible::{Implausible, contradiction};
use crate::poll::ble::{advertisement, ble_channels};
use crate::poll::cycle::CycleError;
use crate::protocol::detection::{self, Candidate};
use crate::protocol::{CycleKind, Medium};
use crate::transport::{BleChannel, Link, LinkConfig, LinkError};

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
    /// On Bluetooth: the channels of known brands that the battery has; empty before the first
    /// connection of a round.
    channels: Vec<BleChannel>,
    /// The first candidate with a valid reply whose values do not fit together. It is accepted if no
    /// other candidate fits: some batteries measure strange values.
    doubtful: Option<Candidate>,
    accepts_doubtful: bool,
    /// The most informative error of this round.
    best_error: Option<CycleError>,
    /// A connection was established in this round, even if a wrong candidate ended it.
    pub(super) reached: bool,
    /// A round is over: its candidates are in the log.
    repeats: bool,
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

    /// The battery lacks the channels that were asked for: of the current candidate or, before the
    /// first connection of a round, of all.
    pub(super) fn without_service(&mut self, endpoint: &str, error: &LinkError) -> CycleError {
        self.reached = true;
        if !self.channels.is_empty() {
            return error.clone().into();
        }
        self.tried = self.candidates.len().saturating_sub(1);
        CycleError::NoKnownService(endpoint.to_owned())
    }

    /// Keeps the brands that have a channel which exists: the recognised ones first, then the others
    /// by their channels, so that brands with the same channel are asked over one connection.
    fn narrow(&mut self, existing: &[BleChannel]) {
        let rank = |candidate: &Candidate| {
            let own = ble_channels(candidate.driver);
            let first = own.iter().find_map(|one| existing.iter().position(|other| other == one));
            first.map(|channel| match () {
                () if candidate.driver.unchecked => (2, channel),
                () if candidate.recognised => (0, 0),
                () => (1, channel),
            })
        };
        self.candidates.retain(|candidate| rank(candidate).is_some());
        self.candidates.sort_by_key(rank);
        self.channels = existing.to_vec();
    }

    pub(super) fn start_over(&mut self) {
        let bauds = std::mem::take(&mut self.bauds);
        *self = Search { bauds, repeats: true, ..Search::default() };
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
        self.connection.searching = true;
        if search.candidates.is_empty() {
            let (candidates, signal) = candidates(&self.connection.endpoint, &search.bauds).await?;
            if !search.repeats {
                let id = &battery.member.id;
                info!("{id}: detecting the battery at {}", self.connection.endpoint);
            }
            search.candidates = candidates;
            battery.signal = signal;
            if let LinkConfig::Ble(config) = &mut self.connection.endpoint {
                // Which brands come into question is known when the services are.
                config.channels = all_channels(&search.candidates);
            }
        }
        let is_ble = matches!(self.connection.endpoint, LinkConfig::Ble(_));
        if let Some(candidate) = search.current()
            && (!is_ble || !search.channels.is_empty())
        {
            self.connection.configure_for(&candidate, &search.channels).await;
        }
        Ok(())
    }

    /// Limits the search on Bluetooth to the brands whose characteristics the battery has.
    pub(super) async fn narrow_search(&mut self) {
        let Some(search) = &mut self.search else { return };
        let Some(Link::Ble(link)) = self.connection.link() else { return };
        if !search.channels.is_empty() {
            return;
        }
        search.narrow(link.channels());
        if !search.repeats {
            let id = &self.batteries[0].member.id;
            info!("{id}: its services fit {}", names(&search.candidates));
        }
        if let LinkConfig::Ble(config) = &mut self.connection.endpoint {
            config.channels = Vec::from_iter(search.channels.first().cloned());
        }
        if let Some(candidate) = search.current() {
            self.connection.configure_for(&candidate, &search.channels).await;
        }
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
        if !search.repeats {
            info!("{}: trying {}", battery.member.id, names(&[candidate]));
        }
        let mut trial = options.clone();
        if options.medium == Medium::Ble && !candidate.recognised {
            // There may be a dozen of them.
            trial.timeout = trial.timeout.min(detection::TIMEOUT);
        }
        battery.try_driver(info, &trial);
        let result = self.connection.run(battery, CycleKind::Read, false).await;
        let result = result.and_then(|reading| match contradiction(&reading) {
            Some(reason) if !search.accepts_doubtful => {
                search.doubtful.get_or_insert(candidate);
                Err(CycleError::Implausible(Implausible(reason)))
            }
            _ => Ok(reading),
        });
        if let Err(error) = result {
            battery.driver = None;
            return self.skip_candidate(started, error).await;
        }
        let (id, title, name) = (&battery.member.id, info.title, info.name);
        info!("{id}: found {title}; set the type to {name} to skip the search");
        let is_final = trial == options;
        battery.identify(info, options);
        if !is_final {
            battery.renew_driver();
        }
        self.search = None;
        self.connection.searching = false;
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
        let (doubtful, channels) = (search.doubtful, search.channels.clone());
        if let Some(verdict) = search.rule_out(error) {
            if let Some(candidate) = doubtful {
                search.candidates = vec![candidate];
                (search.channels, search.accepts_doubtful) = (channels, true);
                self.connection.configure_for(&candidate, &search.channels).await;
                return SearchStep::Continue;
            }
            battery.record(started, reached, Err(verdict));
            if self.connection.is_open() {
                self.connection.rest().await;
            }
            return SearchStep::Recorded;
        }
        battery.due = Instant::now();
        if let Some(candidate) = search.current() {
            self.connection.configure_for(&candidate, &search.channels).await;
        }
        SearchStep::Continue
    }
}

/// Every channel of these brands, in their order.
fn all_channels(candidates: &[Candidate]) -> Vec<BleChannel> {
    let mut all = Vec::new();
    for channel in candidates.iter().flat_map(|candidate| ble_channels(candidate.driver)) {
        if !all.contains(&channel) {
            all.push(channel);
        }
    }
    all
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
        let candidate = Candidate::new(&daren::INFO, Some(9600));
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
