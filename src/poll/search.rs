//! A battery of which nobody said what it is: it is asked as one brand after the other, and stays
//! what it answered to.

use tokio::time::Instant;
use tracing::info;

use super::exchange::CycleError;
use super::line::{Round, Station};
use super::radio::advertisement;
use super::wire::Wire;
use crate::model::FaultKind;
use crate::protocol::auto::{self, Candidate};
use crate::transport::{Endpoint, LinkError, ble};

/// How far the search for the brand of one battery has come.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// What it may be; empty before a round.
    candidates: Vec<Candidate>,
    /// So many of them did not answer in this round.
    tried: usize,
    /// The most telling answer of this round that was not a good one.
    telling: Option<CycleError>,
    /// A connection came about in this round, though a wrong guess may have ended it.
    reached: bool,
    /// What is being done was told.
    told: bool,
}

impl Search {
    fn current(&self) -> Option<Candidate> {
        self.candidates.get(self.tried).copied()
    }

    /// The one that is asked now has not answered well; what that means when it was the last one.
    fn rule_out(&mut self, error: CycleError) -> Option<CycleError> {
        let weight_so_far = self.telling.as_ref().map(weight);
        if weight_so_far < Some(weight(&error)) {
            self.telling = Some(error);
        }
        self.tried += 1;
        if self.current().is_some() {
            return None;
        }
        let telling = self.telling.take().filter(|error| weight(error) != SILENCE);
        let verdict = telling.unwrap_or_else(|| CycleError::Unrecognised(names(&self.candidates)));
        self.start_over();
        Some(verdict)
    }

    /// The next question begins a new round.
    pub(super) fn start_over(&mut self) {
        *self = Search { told: self.told, ..Search::default() };
    }
}

const SILENCE: u8 = 1;

/// How much a failure tells about what is there: a damaged answer more than silence, and silence
/// more than a place where nobody could be asked.
fn weight(error: &CycleError) -> u8 {
    match error {
        CycleError::Link(_) => 0,
        _ if error.fault().kind == FaultKind::Timeout => SILENCE,
        _ => 2,
    }
}

fn names(candidates: &[Candidate]) -> String {
    let name = |it: &Candidate| match it.baud {
        Some(baud) => format!("{} at {baud} baud", it.driver.name),
        None => it.driver.name.to_owned(),
    };
    candidates.iter().map(name).collect::<Vec<_>>().join(", ")
}

impl Station {
    /// Points the connection at what is asked next; nothing to do where the brand is known.
    pub(super) async fn aim(&mut self) -> Result<(), LinkError> {
        let Some(index) = self.served.iter().position(|served| served.driver.is_none()) else {
            return Ok(());
        };
        if self.served[index].search.candidates.is_empty() {
            let (candidates, signal) = candidates(&self.wire).await?;
            let place = self.wire.endpoint.to_string();
            let served = &mut self.served[index];
            if !std::mem::replace(&mut served.search.told, true) {
                let (id, names) = (&served.member.id, names(&candidates));
                info!("{id}: finding out what is at {place}: asking as {names}");
            }
            served.search.candidates = candidates;
            served.signal = signal;
        }
        if let Some(candidate) = self.served[index].search.current() {
            self.wire.aim(&candidate).await;
        }
        Ok(())
    }

    /// A connection that did not come about may only mean that it is another brand; `None` when
    /// it means something else.
    pub(super) async fn pass_over(&mut self, error: &LinkError) -> Option<Round> {
        let LinkError::NoService { .. } = error else { return None };
        let index = self.served.iter().position(|served| served.driver.is_none())?;
        self.served[index].search.reached = true;
        Some(self.next_candidate(index, Instant::now(), CycleError::Link(error.clone())).await)
    }

    /// Asks as one brand. Not until all of them were asked in vain is a failure booked.
    pub(super) async fn seek(&mut self, index: usize) -> Round {
        let (started, limit, connected) = (Instant::now(), self.limit(index), self.wire.is_open());
        let Self { served, wire, .. } = self;
        let served = &mut served[index];
        let Some(candidate) = served.search.current().filter(|_| connected) else {
            let why = wire.why();
            served.record(started, connected, Err(CycleError::Link(why.clone())));
            self.note_lost(&why);
            return Round::Over;
        };
        served.search.reached = true;
        let options = candidate.options(&served.member.options);
        let mut driver = (candidate.driver.new)(&options);
        served.tap.driver(candidate.driver.name, &options);
        let result = match wire.attempt(&mut *driver, limit, false, &mut served.tap).await {
            Ok(outcome) => outcome.result,
            Err(error) => Err(CycleError::Link(error)),
        };
        match result {
            Ok(reading) => {
                let (id, info) = (&served.member.id, candidate.driver);
                let (name, title) = (info.name, info.title);
                info!("{id}: found: {title}; with its type set to {name} it needs no search");
                served.member.options = options;
                served.adopt(info, driver);
                served.record(started, true, Ok(reading));
                self.settle(index).await;
                Round::Over
            }
            Err(error) => self.next_candidate(index, started, error).await,
        }
    }

    async fn next_candidate(&mut self, index: usize, started: Instant, why: CycleError) -> Round {
        let served = &mut self.served[index];
        let reached = served.search.reached;
        if let Some(verdict) = served.search.rule_out(why) {
            served.record(started, reached, Err(verdict));
            if self.wire.is_open() {
                self.wire.rest().await;
            }
            return Round::Over;
        }
        served.due = Instant::now();
        if let Some(candidate) = served.search.current() {
            self.wire.aim(&candidate).await;
        }
        Round::GoesOn
    }
}

/// What it may be, the likeliest first, and how well it is heard on Bluetooth.
async fn candidates(wire: &Wire) -> Result<(Vec<Candidate>, Option<i16>), LinkError> {
    let config = match &wire.endpoint {
        Endpoint::Ble(config) => config,
        Endpoint::Tcp(_) => return Ok((auto::bridge_candidates(), None)),
        _ => return Ok((auto::serial_candidates(wire.bauds()), None)),
    };
    let found = ble::scan(config.adapter.as_deref(), config.scan_timeout).await?;
    let found = found.into_iter().find(|it| it.address.eq_ignore_ascii_case(&config.address));
    let seen = found.as_ref().map(advertisement);
    Ok((auto::ble_candidates(seen.as_ref()), found.as_ref().and_then(|it| it.rssi)))
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

    fn absence() -> CycleError {
        LinkError::NotFound { place: "/dev/x".into() }.into()
    }

    #[test]
    fn a_round_ends_with_the_most_telling_failure() {
        let nobody = CycleError::Unrecognised("daren at 9600 baud, daren at 9600 baud".into());
        for (first, second, verdict) in [
            (silence(), silence(), nobody.clone()),
            (silence(), absence(), nobody),
            (absence(), absence(), absence()),
            (damage(), silence(), damage()),
            (silence(), damage(), damage()),
        ] {
            let mut search = search(2);
            assert_eq!(search.rule_out(first), None);
            assert!(search.current().is_some());
            assert_eq!(search.rule_out(second), Some(verdict));
            assert!(search.current().is_none(), "the next round begins with a new look");
        }
    }
}
