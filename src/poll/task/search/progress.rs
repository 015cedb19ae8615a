//! The progress of a search.

use std::collections::{BTreeMap, BTreeSet};

use tracing::info;

use crate::model::FaultKind;
use crate::poll::ble::ble_channels;
use crate::poll::cycle::CycleError;
use crate::protocol::detection::{Candidate, Scope};
use crate::transport::{BleChannel, LinkError};

/// Tries all candidates in one round, and repeats that at each interval.
#[derive(Debug, Default)]
pub(in crate::poll::task) struct Search {
    pub scope: Scope,
    /// The battery has a type, which did not answer: there is only one round.
    pub is_fallback: bool,
    /// Number of the round, from 0.
    pub round: usize,
    /// Empty before a round.
    pub candidates: Vec<Candidate>,
    /// The candidates before this index are read only if they answer a quick question.
    quick: usize,
    /// By baud rate: the requests that had no reply in this round.
    pub unanswered: BTreeMap<Option<u32>, BTreeSet<Vec<u8>>>,
    /// Baud rates at which something was received in this round.
    pub active: BTreeSet<Option<u32>>,
    /// Candidates without a quick answer.
    silent: Vec<Candidate>,
    /// How many of them were tried in this round.
    tried: usize,
    /// On Bluetooth: the channels of known brands that the battery has; empty before the first
    /// connection of a round.
    pub channels: Vec<BleChannel>,
    /// The first candidate with a valid reply whose values do not fit together. It is accepted if no
    /// other candidate fits: some batteries measure strange values.
    pub doubtful: Option<Candidate>,
    pub accepts_doubtful: bool,
    /// The most informative error of this round.
    best_error: Option<CycleError>,
    /// A connection was established in this round, even if a wrong candidate ended it.
    pub reached: bool,
    /// The baud rate in the log.
    pub logged: Option<Option<u32>>,
}

impl Search {
    pub fn new(scope: Scope) -> Self {
        Search { scope, ..Search::default() }
    }

    /// The search for a battery whose type or address is only assumed.
    pub fn fallback(scope: Scope, round: usize) -> Self {
        Search { round, is_fallback: true, ..Search::new(scope) }
    }

    /// A round is over: its candidates are in the log.
    pub fn repeats(&self) -> bool {
        self.round > 0
    }

    /// Begins a round on a wire.
    pub fn ask_quickly(&mut self, candidates: Vec<Candidate>) {
        self.quick = candidates.len();
        self.candidates = candidates;
    }

    /// The current candidate is read only if it answers a quick question.
    pub fn is_quick(&self) -> bool {
        self.tried < self.quick
    }

    pub fn current(&self) -> Option<Candidate> {
        self.candidates.get(self.tried).copied()
    }

    /// Moves on to the next candidate. After the last one: why the round found nothing.
    pub fn rule_out(&mut self, error: CycleError) -> Option<CycleError> {
        if self.best_error.as_ref().map(information) < Some(information(&error)) {
            self.best_error = Some(error);
        }
        self.tried += 1;
        if self.tried == self.quick {
            self.add_slow_candidates();
        }
        if self.current().is_some() {
            return None;
        }
        let best = self.best_error.take().filter(|error| information(error) != SILENCE);
        let verdict = best.unwrap_or_else(|| CycleError::Unrecognised(summary(&self.candidates)));
        self.start_over();
        Some(verdict)
    }

    /// Logs the first candidate at each baud rate on a wire, and each one on Bluetooth.
    pub fn log_progress(&mut self, id: &str, candidate: &Candidate) {
        let tried = std::slice::from_ref(candidate);
        if !self.is_quick() {
            info!("{id}: trying {}", summary(tried));
        } else if self.logged.replace(candidate.baud) != Some(candidate.baud) {
            let same_rate = self.candidates[self.tried..].iter();
            let same_rate = same_rate.take_while(|next| next.baud == candidate.baud);
            info!("{id}: trying {}", summary(&same_rate.copied().collect::<Vec<_>>()));
        }
    }

    /// The current candidate did not answer a quick question.
    pub fn note_silence(&mut self) {
        self.silent.extend(self.current());
    }

    /// Where something was received, a battery may be slower than the quick questions: each brand
    /// gets a whole read at its first address.
    fn add_slow_candidates(&mut self) {
        let mut known = BTreeSet::new();
        for candidate in std::mem::take(&mut self.silent) {
            let is_active = self.active.contains(&candidate.baud);
            if is_active && known.insert((candidate.driver.name, candidate.baud)) {
                self.candidates.push(candidate);
            }
        }
    }

    /// The battery lacks the channels that were asked for: of the current candidate or, before the
    /// first connection of a round, of all.
    pub fn without_service(&mut self, endpoint: &str, error: &LinkError) -> CycleError {
        self.reached = true;
        if !self.channels.is_empty() {
            return error.clone().into();
        }
        self.tried = self.candidates.len().saturating_sub(1);
        CycleError::NoKnownService(endpoint.to_owned())
    }

    /// Keeps the brands that have a channel which exists: the recognised ones first, then the others
    /// by their channels, so that brands with the same channel are asked over one connection.
    pub fn narrow(&mut self, existing: &[BleChannel]) {
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

    pub fn start_over(&mut self) {
        let scope = std::mem::take(&mut self.scope);
        let (is_fallback, round) = (self.is_fallback, self.round + 1);
        *self = Search { is_fallback, round, ..Search::new(scope) };
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

/// `daren, jbd and jk at 9600 and 115200 baud, addresses 0 and 1`
pub(super) fn summary(candidates: &[Candidate]) -> String {
    let (mut names, mut bauds) = (Vec::new(), BTreeSet::new());
    let mut addresses = BTreeSet::new();
    for candidate in candidates {
        if !names.contains(&candidate.driver.name) {
            names.push(candidate.driver.name);
        }
        bauds.extend(candidate.baud);
        addresses.extend(candidate.address.filter(|_| has_addresses(candidate)));
    }
    let mut text = enumerate(names.iter());
    if !bauds.is_empty() {
        text += &format!(" at {} baud", enumerate(bauds.iter()));
    }
    match addresses.len() {
        0 => {}
        1 => text += &format!(", address {}", enumerate(addresses.iter())),
        _ => text += &format!(", addresses {}", enumerate(addresses.iter())),
    }
    text
}

/// Whether its brand has several addresses.
pub(super) fn has_addresses(candidate: &Candidate) -> bool {
    candidate.driver.addresses.start() != candidate.driver.addresses.end()
}

/// `a, b and c`
fn enumerate(words: impl Iterator<Item = impl ToString>) -> String {
    let words: Vec<_> = words.map(|word| word.to_string()).collect();
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{ProtocolError, daren, jbd};

    fn search(count: usize) -> Search {
        let candidate = Candidate::on_wire(&daren::INFO, Some(9600), 1);
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
        let unknown = CycleError::Unrecognised("daren at 9600 baud, address 1".into());
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

    /// Some bridges need longer than a quick question waits.
    #[test]
    fn brands_get_a_whole_read_at_a_rate_with_traffic() {
        let daren = |baud, address| Candidate::on_wire(&daren::INFO, Some(baud), address);
        let mut search = Search::default();
        search.ask_quickly(vec![daren(9600, 1), daren(9600, 0), daren(19_200, 1)]);
        for _ in 0..3 {
            assert!(search.is_quick());
            search.note_silence();
            search.active.insert(Some(9600));
            assert_eq!(search.rule_out(silence()), None);
        }
        assert!(!search.is_quick());
        let slow = search.current().map(|candidate| (candidate.baud, candidate.address));
        assert_eq!(slow, Some((Some(9600), Some(1))));
        assert!(search.rule_out(silence()).is_some(), "the address 0 is not tried again");
    }

    #[test]
    fn summary_lists_each_name_rate_and_address_once() {
        let candidates: Vec<_> = [(9600, 1), (9600, 0), (19_200, 1)]
            .map(|(baud, address)| Candidate::on_wire(&daren::INFO, Some(baud), address))
            .into_iter()
            .chain([Candidate::on_wire(&jbd::INFO, Some(9600), 1)])
            .collect();
        let expected = "daren and jbd at 9600 and 19200 baud, addresses 0 and 1";
        assert_eq!(summary(&candidates), expected);
    }
}
