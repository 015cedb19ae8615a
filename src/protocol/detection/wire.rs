//! What to try on a wire, in which order.

use super::Candidate;
use crate::protocol::{DriverInfo, drivers};

/// Addresses that are tried for every brand: the usual one, and that of masters.
pub const USUAL_ADDRESSES: [u8; 2] = [1, 0];

/// The highest address that a search tries; racks have no more packs.
const LAST_ADDRESS: u8 = 15;

/// Attempts at other than the usual addresses in one round. The next round continues.
const FURTHER_PER_ROUND: usize = 40;

/// What a search on a wire covers.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// The only brand; `None` for all.
    pub driver: Option<&'static DriverInfo>,
    /// The address to try first, where the operator set one.
    pub address: Option<u8>,
    /// No other address is tried.
    pub fixed: bool,
    /// The only baud rates; empty for the usual ones of each brand.
    pub bauds: Vec<u32>,
}

impl Scope {
    /// What to try in this round, counted from 0: every brand at the usual addresses and each of its
    /// rates, and a part of the other addresses. A bridge has a baud rate of its own.
    pub fn candidates(&self, is_bridge: bool, round: usize) -> Vec<Candidate> {
        let mut all = self.usual(is_bridge);
        let further = self.further(is_bridge);
        let parts = further.len().div_ceil(FURTHER_PER_ROUND).max(1);
        let part = further.into_iter().skip(round % parts * FURTHER_PER_ROUND);
        all.extend(part.take(FURTHER_PER_ROUND));
        all
    }

    /// The usual rate of every brand before the rarer ones. Equal rates are next to each other,
    /// because the port is opened again for another one.
    pub(super) fn usual(&self, is_bridge: bool) -> Vec<Candidate> {
        let mut rates: Vec<Option<u32>> = Vec::new();
        let mut all = Vec::new();
        for driver in self.drivers() {
            for (rank, baud) in self.rates(driver, is_bridge).into_iter().enumerate() {
                let order = rates.iter().position(|known| *known == baud).unwrap_or(rates.len());
                if order == rates.len() {
                    rates.push(baud);
                }
                for (turn, address) in self.addresses(driver).into_iter().enumerate() {
                    let key = (driver.probe_last, rank > 0, order, turn);
                    all.push((key, Candidate::on_wire(driver, baud, address)));
                }
            }
        }
        all.sort_by_key(|(key, _)| *key);
        all.into_iter().map(|(_, candidate)| candidate).collect()
    }

    /// The other addresses, at the usual rate of each brand.
    fn further(&self, is_bridge: bool) -> Vec<Candidate> {
        if self.fixed {
            return Vec::new();
        }
        let mut all = Vec::new();
        for address in 0..=LAST_ADDRESS {
            for driver in self.drivers() {
                let is_usual = self.addresses(driver).contains(&address);
                if driver.addresses.contains(&address) && !is_usual {
                    let baud = self.rates(driver, is_bridge).first().copied().flatten();
                    all.push((address, baud, Candidate::on_wire(driver, baud, address)));
                }
            }
        }
        all.sort_by_key(|(address, baud, _)| (*address, *baud));
        all.into_iter().map(|(.., candidate)| candidate).collect()
    }

    fn drivers(&self) -> impl Iterator<Item = &'static DriverInfo> {
        let only = self.driver;
        let included = move |driver: &&'static DriverInfo| {
            driver.serial.is_some() && only.is_none_or(|only| only.name == driver.name)
        };
        drivers().iter().copied().filter(included)
    }

    fn rates(&self, driver: &DriverInfo, is_bridge: bool) -> Vec<Option<u32>> {
        let usual = driver.serial.map_or(&[][..], |serial| serial.bauds);
        match (is_bridge, self.bauds.is_empty()) {
            (true, _) => vec![None],
            (false, true) => usual.iter().copied().map(Some).collect(),
            (false, false) => self.bauds.iter().copied().map(Some).collect(),
        }
    }

    /// The given address and the usual ones as far as the brand can have them, or else its first
    /// one.
    fn addresses(&self, driver: &DriverInfo) -> Vec<u8> {
        let usual = USUAL_ADDRESSES.into_iter().filter(|address| Some(*address) != self.address);
        let wanted = self.address.into_iter().chain(usual.filter(|_| !self.fixed));
        let possible: Vec<_> =
            wanted.filter(|address| driver.addresses.contains(address)).collect();
        if possible.is_empty() { vec![*driver.addresses.start()] } else { possible }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{pylontech, seplos};

    fn names(candidates: &[Candidate]) -> Vec<&'static str> {
        candidates.iter().map(|candidate| candidate.driver.name).collect()
    }

    fn all() -> Vec<Candidate> {
        Scope::default().usual(false)
    }

    #[test]
    fn every_wired_brand_is_tried_at_each_of_its_rates() {
        for driver in drivers() {
            for baud in driver.serial.map_or(&[][..], |serial| serial.bauds) {
                let same = |candidate: &&Candidate| {
                    candidate.driver.name == driver.name && candidate.baud == Some(*baud)
                };
                let count = all().iter().filter(same).count();
                let expected = Scope::default().addresses(driver).len();
                assert_eq!(count, expected, "{} {baud}", driver.name);
            }
        }
    }

    #[test]
    fn usual_rates_come_first_and_writing_brands_last() {
        let candidates = all();
        let last = |candidate: &Candidate| candidate.driver.probe_last;
        assert!(candidates.iter().map(last).is_sorted(), "{:?}", names(&candidates));
        assert!(candidates.iter().any(last), "a driver that writes a trigger register");
        let usual = |candidate: &Candidate| candidate.driver.serial.map(|serial| serial.bauds[0]);
        let early = candidates.iter().filter(|candidate| !last(candidate));
        assert!(
            early.map(|candidate| candidate.baud != usual(candidate)).is_sorted(),
            "{:?}",
            names(&candidates)
        );
    }

    #[test]
    fn given_rate_is_the_only_one() {
        let given = Scope { bauds: vec![4800], ..Scope::default() }.candidates(false, 0);
        assert!(given.iter().all(|candidate| candidate.baud == Some(4800)), "{:?}", names(&given));
        let bridge = Scope::default().candidates(true, 0);
        assert!(bridge.iter().all(|candidate| candidate.baud.is_none()));
        let wired = drivers().iter().filter(|driver| driver.serial.is_some());
        for driver in wired {
            assert!(names(&given).contains(&driver.name) && names(&bridge).contains(&driver.name));
        }
    }

    #[test]
    fn rounds_cover_every_address_of_a_brand() {
        let scope = Scope::default();
        let rounds = (0..8).flat_map(|round| scope.candidates(false, round));
        let mut asked: Vec<_> = rounds
            .filter(|candidate| candidate.driver.name == seplos::INFO.name)
            .filter_map(|candidate| candidate.address)
            .collect();
        asked.sort_unstable();
        asked.dedup();
        assert_eq!(asked, (0..=LAST_ADDRESS).collect::<Vec<_>>());
        for (address, expected) in [(None, [1, 0]), (Some(0), [0, 1])] {
            let first = Scope { address, ..Scope::default() }.candidates(false, 0);
            let seplos = first.iter().filter(|candidate| candidate.driver.name == "seplos");
            let addresses = seplos.filter_map(|candidate| candidate.address).take(2);
            assert_eq!(addresses.collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn given_address_is_the_only_one_where_it_is_possible() {
        let scope = Scope { address: Some(5), fixed: true, ..Scope::default() };
        for candidate in (0..8).flat_map(|round| scope.candidates(false, round)) {
            let known = &candidate.driver.addresses;
            let expected = if known.contains(&5) { 5 } else { *known.start() };
            assert_eq!(candidate.address, Some(expected), "{}", candidate.driver.name);
        }
        let scope = Scope { driver: Some(&pylontech::INFO), ..Scope::default() };
        let first = scope.candidates(false, 0).first().and_then(|candidate| candidate.address);
        assert_eq!(first, Some(2), "it has neither address 0 nor 1");
        let only: Vec<_> = names(&scope.candidates(false, 0));
        assert!(only.iter().all(|name| *name == "pylontech"), "{only:?}");
    }
}
