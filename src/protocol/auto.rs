//! A battery of which nobody said what it is: what to ask it as, in which order.
//!
//! Every question is one that the brand's own driver reads with, so a battery that is asked in the
//! wrong language loses nothing but a moment. Who answers with a sound frame is found.

use std::time::Duration;

use super::DRIVERS;
use super::advertisement::{Advertisement, recognise};
use super::driver::{DriverInfo, Options};

/// The type that stands for "find out".
pub const AUTO: &str = "auto";

/// Time for one answer while nobody knows which brand has to give it.
pub const TIMEOUT: Duration = Duration::from_secs(2);

/// Brands that are asked after all others. JK's packs of the inverter series are read by writing a
/// trigger register, which another brand on the same bus could take for one of its own.
const LAST: &[&str] = &["jk"];

/// One way to ask.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// As this brand.
    pub driver: &'static DriverInfo,
    /// At this rate, where the rate is ours to choose.
    pub baud: Option<u32>,
}

impl Candidate {
    /// What the operator said, as far as it suits this brand.
    pub fn options(&self, said: &Options) -> Options {
        let known = &self.driver.addresses;
        let address = if known.contains(&said.address) { said.address } else { *known.start() };
        Options { address, ..said.clone() }
    }
}

/// What to ask at a serial port, at these rates or, where none is given, at the rates that each
/// brand uses: first everybody's usual rate, then the rarer ones.
pub fn serial_candidates(bauds: &[u32]) -> Vec<Candidate> {
    let mut all: Vec<(bool, usize, Candidate)> = Vec::new();
    for driver in DRIVERS.iter().copied() {
        let Some(serial) = driver.serial else { continue };
        let rates = if bauds.is_empty() { serial.bauds } else { bauds };
        let late = LAST.contains(&driver.name);
        all.extend(
            rates
                .iter()
                .enumerate()
                .map(|(rank, &baud)| (late, rank, Candidate { driver, baud: Some(baud) })),
        );
    }
    all.sort_by_key(|(late, rank, _)| (*late, *rank));
    all.into_iter().map(|(_, _, candidate)| candidate).collect()
}

/// What to ask behind a bridge, which sets the rate itself.
pub fn bridge_candidates() -> Vec<Candidate> {
    let wired = DRIVERS.iter().copied().filter(|driver| driver.serial.is_some());
    let mut all: Vec<_> = wired.map(|driver| Candidate { driver, baud: None }).collect();
    all.sort_by_key(|candidate| LAST.contains(&candidate.driver.name));
    all
}

/// What to ask on Bluetooth: those that the advertisement speaks for, then everybody else.
pub fn ble_candidates(seen: Option<&Advertisement<'_>>) -> Vec<Candidate> {
    let guesses = seen.map(|seen| recognise(DRIVERS.iter().copied(), seen)).unwrap_or_default();
    let mut drivers: Vec<_> = guesses.into_iter().map(|guess| guess.driver).collect();
    for driver in DRIVERS.iter().copied().filter(|driver| driver.gatt.is_some()) {
        if drivers.iter().all(|known| known.name != driver.name) {
            drivers.push(driver);
        }
    }
    drivers.into_iter().map(|driver| Candidate { driver, baud: None }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(candidates: &[Candidate]) -> Vec<&'static str> {
        candidates.iter().map(|candidate| candidate.driver.name).collect()
    }

    #[test]
    fn every_wired_brand_is_asked_at_each_of_its_rates() {
        let candidates = serial_candidates(&[]);
        for driver in DRIVERS {
            for baud in driver.serial.map_or(&[][..], |serial| serial.bauds) {
                let asked =
                    |it: &&Candidate| it.driver.name == driver.name && it.baud == Some(*baud);
                assert_eq!(candidates.iter().filter(asked).count(), 1, "{} {baud}", driver.name);
            }
        }
    }

    #[test]
    fn the_usual_rates_come_first_and_the_brands_that_write_last() {
        let candidates = serial_candidates(&[]);
        let last = candidates.iter().map(|it| LAST.contains(&it.driver.name));
        assert!(last.is_sorted(), "{:?}", names(&candidates));
        let early = candidates.iter().filter(|it| !LAST.contains(&it.driver.name));
        let usual = |it: &Candidate| it.driver.serial.and_then(|s| s.bauds.first().copied());
        assert!(early.map(|it| it.baud != usual(it)).is_sorted(), "{:?}", names(&candidates));
    }

    #[test]
    fn a_given_rate_is_the_only_one() {
        let wired = DRIVERS.iter().filter(|driver| driver.serial.is_some()).count();
        assert_eq!(serial_candidates(&[4800]).len(), wired);
        assert!(serial_candidates(&[4800]).iter().all(|candidate| candidate.baud == Some(4800)));
        assert!(bridge_candidates().iter().all(|candidate| candidate.baud.is_none()));
        assert_eq!(bridge_candidates().len(), wired);
    }

    #[test]
    fn on_radio_everybody_who_has_one_is_asked_once() {
        let radio = DRIVERS.iter().filter(|driver| driver.gatt.is_some()).count();
        let seen = Advertisement {
            name: Some("JK_B2A20S20P"),
            address: "C8:47:80:05:73:8C",
            services: &[],
            manufacturer: &[],
        };
        assert_eq!(ble_candidates(None).len(), radio);
        assert_eq!(ble_candidates(Some(&seen)).len(), radio);
    }

    #[test]
    fn an_address_that_a_brand_cannot_have_becomes_its_first() {
        let daren = Candidate { driver: &crate::protocol::daren::INFO, baud: None };
        let said = |address| Options { address, ..Options::default() };
        assert_eq!(daren.options(&said(5)).address, 5);
        assert_eq!(daren.options(&said(200)).address, 0);
    }
}
