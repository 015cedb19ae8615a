//! The search for the brand of a battery (`BMS_TYPE=auto`, or no type): the line tries one candidate
//! after the other and keeps the first whose driver gets a valid reply. On a wire a candidate is read
//! only if it answers a quick question.

mod progress;

use std::collections::BTreeSet;

use tokio::time::Instant;
use tracing::info;

use super::LineTask;
use crate::capture::TrafficLog;
use crate::model::plausible::{Implausible, PlausibilityFilter, contradiction};
use crate::model::units::Uptime;
use crate::model::{DeviceId, Reading};
use crate::poll::LineMember;
use crate::poll::ble::{advertisement, ble_channels};
use crate::poll::connection::Connection;
use crate::poll::cycle::{CycleError, ReadResult};
use crate::protocol::detection::{self, Candidate, Probe, Scope};
use crate::protocol::{CycleKind, DriverInfo, Medium, Options, ProtocolError};
use crate::transport::{BleChannel, BleConfig, Link, LinkConfig, LinkError};
pub(super) use progress::Search;
use progress::{has_addresses, summary};

/// While a battery of an assumed type stays silent, every so many failed reads are followed by a
/// search: the line may be shared, and questions for other brands disturb it.
const READS_PER_SEARCH: usize = 4;

/// What follows an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SearchStep {
    /// The next candidate is tried at once.
    Continue,
    /// The battery has a new result on the board and waits for its next turn.
    Recorded,
}

/// The search that begins when the line's only battery, whose type or address is assumed, does not
/// answer.
#[derive(Debug)]
pub(super) struct Fallback {
    scope: Scope,
    /// The baud rates of the assumed type.
    bauds: Vec<u32>,
    /// Failed reads, without those of a search.
    failures: usize,
}

impl Fallback {
    pub(super) fn new(scope: Scope, bauds: Vec<u32>) -> Self {
        Fallback { scope, bauds, failures: 0 }
    }

    /// Whether a read with this result is followed by a search. An error reply may come from another
    /// brand, which is no reason to doubt a configured type.
    fn begins(&mut self, result: &ReadResult) -> bool {
        let is_doubtful = match result {
            Err(CycleError::Protocol(ProtocolError::Timeout { .. }))
            | Err(CycleError::Overrun { .. }) => true,
            Err(CycleError::Protocol(error)) => {
                self.scope.driver.is_none() && !matches!(error, ProtocolError::BadChecksum { .. })
            }
            _ => false,
        };
        let begins = is_doubtful && self.failures.is_multiple_of(READS_PER_SEARCH);
        self.failures += usize::from(is_doubtful);
        begins
    }
}

impl LineTask {
    /// Begins the search for a battery of an assumed type or address, if this result of a read calls
    /// for one.
    pub(super) async fn begin_fallback(&mut self, result: &ReadResult) -> bool {
        let Some(fallback) = &mut self.fallback else { return false };
        let battery = &mut self.batteries[0];
        if result.is_ok() {
            self.fallback = None;
            return false;
        }
        if !fallback.begins(result) {
            return false;
        }
        let (id, endpoint) = (&battery.member.id, &self.connection.endpoint);
        let round = fallback.failures / READS_PER_SEARCH;
        if round == 0 {
            let address = battery.member.options.address;
            let title = battery.member.driver.map_or("battery", |driver| driver.title);
            match fallback.scope.driver {
                Some(_) => info!(
                    "{id}: no answer from {title} at address {address}, which is assumed because \
                     none is set; trying other addresses at {endpoint}"
                ),
                None => info!(
                    "{id}: no answer from {title} at address {address}, the type that is assumed \
                     because none is set; searching for other types at {endpoint}"
                ),
            }
        }
        self.search = Some(Search::fallback(fallback.scope.clone(), round));
        battery.driver = None;
        battery.due = Instant::now();
        // Opening it again prepares the first candidate.
        self.connection.close().await;
        true
    }

    /// Configures the connection for the next candidate; does nothing once the brand is known.
    pub(super) async fn prepare_search(&mut self) -> Result<(), LinkError> {
        let Some(search) = &mut self.search else { return Ok(()) };
        let battery = &mut self.batteries[0];
        self.connection.searching = true;
        if search.candidates.is_empty() {
            if !search.repeats() && !search.is_fallback {
                let id = &battery.member.id;
                info!("{id}: detecting the battery at {}", self.connection.endpoint);
            }
            let is_bridge = matches!(self.connection.endpoint, LinkConfig::Tcp { .. });
            if let LinkConfig::Ble(config) = &mut self.connection.endpoint {
                (search.candidates, battery.signal) = ble_candidates(config).await?;
                // Which brands come into question is known when the services are.
                config.channels = all_channels(&search.candidates);
            } else {
                search.ask_quickly(search.scope.candidates(is_bridge, search.round));
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
        let Some(link) = self.connection.link().and_then(Link::ble) else { return };
        if !search.channels.is_empty() {
            return;
        }
        search.narrow(link.channels());
        if !search.repeats() {
            let id = &self.batteries[0].member.id;
            info!("{id}: its services fit {}", summary(&search.candidates));
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
        if !search.repeats() {
            search.log_progress(battery.member.id.as_str(), &candidate);
        }
        if search.is_quick() {
            match self.is_answered(info, &options, candidate.baud).await {
                Ok(true) => {}
                Ok(false) => {
                    let query = "a quick question".into();
                    let silence = ProtocolError::Timeout { query, received: 0 };
                    return self.skip_candidate(started, silence.into()).await;
                }
                Err(error) => return self.skip_candidate(started, error).await,
            }
        }
        let Some(search) = &mut self.search else { return SearchStep::Recorded };
        let battery = &mut self.batteries[0];
        let mut trial = options.clone();
        if options.medium == Medium::Ble && !candidate.recognised {
            // There may be a dozen of them.
            trial.timeout = trial.timeout.min(detection::TIMEOUT);
        }
        battery.try_driver(info, &trial);
        let mut result = self.connection.run(battery, CycleKind::Read, false).await;
        if info.unchecked
            && let Ok(first) = result
        {
            // Without a checksum, another brand may seem to answer.
            let second = self.connection.run(battery, CycleKind::Read, false).await;
            result = agreeing(first, second);
        }
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
        info!("{}: {}", battery.member.id, found(&candidate, &options));
        let is_final = trial == options;
        battery.identify(info, options);
        if !is_final {
            battery.renew_driver();
        }
        self.search = None;
        self.fallback = None;
        self.connection.searching = false;
        self.record(0, started, true, result).await;
        SearchStep::Recorded
    }

    /// Asks the quick questions of a candidate. Whether something was received.
    async fn is_answered(
        &mut self,
        info: &DriverInfo,
        options: &Options,
        baud: Option<u32>,
    ) -> Result<bool, CycleError> {
        let Some(search) = &mut self.search else { return Ok(false) };
        let unanswered = search.unanswered.entry(baud).or_default();
        let (connection, id) = (&mut self.connection, &self.batteries[0].member.id);
        let is_answered = ask_quickly(connection, id, info, options, unanswered).await?;
        if is_answered {
            search.active.insert(baud);
        } else {
            search.note_silence();
        }
        Ok(is_answered)
    }

    /// Whether this battery answers a quick question, on a line where another one has answered.
    pub(super) async fn is_present(&mut self, index: usize) -> Result<bool, CycleError> {
        let LineMember { id, driver, options, .. } = &self.batteries[index].member;
        let Some(info) = driver else { return Ok(true) };
        ask_quickly(&mut self.connection, id, info, options, &mut BTreeSet::new()).await
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
            if let Some(fallback) = self.fallback.as_ref() {
                // The assumed type is read again at the next interval.
                self.search = None;
                self.connection.searching = false;
                self.connection.use_bauds(fallback.bauds.clone()).await;
                battery.renew_driver();
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

async fn ask_quickly(
    connection: &mut Connection,
    id: &DeviceId,
    info: &DriverInfo,
    options: &Options,
    unanswered: &mut BTreeSet<Vec<u8>>,
) -> Result<bool, CycleError> {
    let limit = detection::probe_limit(options.timeout, connection.endpoint.is_remote());
    let mut probe = Probe::new(info.driver(options), unanswered, limit);
    // A replay of a capture runs whole reads only.
    connection.probe(&mut probe, &mut TrafficLog::new(id, None)).await?;
    Ok(probe.is_answered())
}

/// The second of two readings, if they may be of one battery.
fn agreeing(first: Box<Reading>, second: ReadResult) -> ReadResult {
    let mut filter = PlausibilityFilter::default();
    // An implausible one needs a second one like it.
    let _ = filter.check(*first, Uptime(0));
    let second = filter.check(*second?, Uptime(0)).map_err(CycleError::Implausible)?;
    Ok(Box::new(second))
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

/// What the battery may be, the likeliest first, and its signal strength.
async fn ble_candidates(config: &BleConfig) -> Result<(Vec<Candidate>, Option<i16>), LinkError> {
    let found = config.bluetooth.scan(config.adapter.as_deref(), config.scan_timeout).await?;
    let found =
        found.into_iter().find(|device| device.address.eq_ignore_ascii_case(&config.address));
    let seen = found.as_ref().map(advertisement);
    Ok((detection::ble_candidates(seen.as_ref()), found.as_ref().and_then(|device| device.rssi)))
}

/// `found Seplos (9600 baud, address 0): set the type to seplos and the slave ID to 0 to skip ...`
fn found(candidate: &Candidate, options: &Options) -> String {
    let (driver, address) = (candidate.driver, options.address);
    let mut place = Vec::from_iter(candidate.baud.map(|baud| format!("{baud} baud")));
    let mut settings = format!("the type to {}", driver.name);
    if candidate.address.is_some() && has_addresses(candidate) {
        place.push(format!("address {address}"));
        if address != driver.default_address() {
            settings += &format!(" and the slave ID to {address}");
        }
    }
    let place = if place.is_empty() { String::new() } else { format!(" ({})", place.join(", ")) };
    format!("found {}{place}: set {settings} to skip the search", driver.title)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Millivolts;

    fn reading(volts: i32) -> Box<Reading> {
        let mut reading = Reading::default();
        reading.pack.voltage = Some(Millivolts(volts * 1000));
        Box::new(reading)
    }

    #[test]
    fn readings_without_checksum_must_agree() {
        let second = agreeing(reading(13), Ok(reading(13)));
        assert_eq!(second.map(|reading| reading.pack.voltage), Ok(Some(Millivolts(13_000))));
        let second = agreeing(reading(13), Ok(reading(48)));
        assert!(matches!(second, Err(CycleError::Implausible(_))), "{second:?}");
        let silence = ProtocolError::Timeout { query: "?".into(), received: 0 };
        let second = agreeing(reading(13), Err(silence.clone().into()));
        assert_eq!(second.err(), Some(silence.into()));
    }
}
