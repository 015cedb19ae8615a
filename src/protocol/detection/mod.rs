//! Finding out the brand of a battery: what to try, in which order.
//!
//! Every request is one that the driver of the brand reads with, so a battery of another brand loses
//! nothing but a moment. Only a valid reply confirms a brand; an advertisement is a hint, because
//! brands share modules and owners rename them.

mod probe;
mod wire;

use std::cmp::Reverse;
use std::time::Duration;

pub(crate) use probe::Probe;
pub use wire::{Scope, USUAL_ADDRESSES};

use super::advertisement::{Advertisement, Strength};
use super::{DriverInfo, Options, drivers};

/// The type that stands for "find out".
pub const AUTO: &str = "auto";

/// Time limit for one reply while the brand is unknown.
pub const TIMEOUT: Duration = Duration::from_secs(2);

/// Time for the first byte of a reply to a quick question, where a whole reply may take `timeout`.
/// Batteries answer within 0.2 s; a bridge adds the delays of a network.
pub fn probe_limit(timeout: Duration, is_remote: bool) -> Duration {
    if is_remote { timeout * 2 / 5 } else { timeout / 4 }
}

/// A brand that an advertisement may belong to.
#[derive(Debug, Clone, Copy)]
pub struct Guess {
    pub driver: &'static DriverInfo,
    /// The match is more than a service or an address, which brands share.
    pub likely: bool,
}

/// The brands that the device may be, the likeliest first; of two equal ones the first of
/// [`drivers`](super::drivers).
pub fn recognise(device: &Advertisement<'_>) -> Vec<Guess> {
    recognise_among(drivers(), device)
}

fn recognise_among(drivers: &[&'static DriverInfo], device: &Advertisement<'_>) -> Vec<Guess> {
    let strength = |driver: &DriverInfo| {
        let each = driver.matchers.iter().map(|matcher| matcher.strength(device));
        each.fold(Strength::default(), Strength::or)
    };
    let with_gatt = drivers.iter().copied().filter(|driver| driver.gatt.is_some());
    let mut guesses: Vec<_> = with_gatt
        .map(|driver| (strength(driver), driver))
        .filter(|(strength, _)| strength.is_match())
        .collect();
    // What only this brand advertises comes before what others advertise too.
    guesses.sort_by_key(|(strength, _)| Reverse((strength.is_likely(), *strength)));
    let guess = |(strength, driver): (Strength, _)| Guess { driver, likely: strength.is_likely() };
    guesses.into_iter().map(guess).collect()
}

/// The type to configure: the only likely brand. Otherwise a search has to decide.
pub fn type_to_set(guesses: &[Guess]) -> &'static str {
    match guesses {
        [first, others @ ..] if first.likely && others.iter().all(|other| !other.likely) => {
            first.driver.name
        }
        _ => AUTO,
    }
}

/// The likely brands, or else the possible ones, as people know them: `A or B`.
pub fn titles(guesses: &[Guess]) -> String {
    let best = guesses.first().is_some_and(|first| first.likely);
    let best = guesses.iter().filter(|guess| guess.likely == best);
    best.map(|guess| guess.driver.title).collect::<Vec<_>>().join(" or ")
}

/// A brand to try.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    pub driver: &'static DriverInfo,
    /// The baud rate, where it is ours to choose.
    pub baud: Option<u32>,
    /// The address on a wire.
    pub address: Option<u8>,
    /// The advertisement matches.
    pub recognised: bool,
}

impl Candidate {
    pub(crate) fn on_wire(driver: &'static DriverInfo, baud: Option<u32>, address: u8) -> Self {
        Candidate { driver, baud, address: Some(address), recognised: false }
    }

    /// The operator's settings with an address that the brand can have.
    pub fn options(&self, given: &Options) -> Options {
        let known = &self.driver.addresses;
        let wanted = self.address.unwrap_or(given.address);
        let address = if known.contains(&wanted) { wanted } else { *known.start() };
        Options { address, ..given.clone() }
    }
}

/// What to try on Bluetooth: the brands that match the advertisement, then all others. A brand
/// without checksums comes last, and only where the advertisement is likely its own.
pub fn ble_candidates(device: Option<&Advertisement<'_>>) -> Vec<Candidate> {
    let guesses = device.map(recognise).unwrap_or_default();
    let is_recognised =
        |driver: &DriverInfo| guesses.iter().any(|guess| guess.driver.name == driver.name);
    let checked = guesses.iter().map(|guess| guess.driver).filter(|driver| !driver.unchecked);
    let others = drivers()
        .iter()
        .copied()
        .filter(|driver| driver.gatt.is_some() && !driver.unchecked && !is_recognised(driver));
    let unchecked = guesses.iter().filter(|guess| guess.driver.unchecked && guess.likely);
    let all = checked.chain(others).chain(unchecked.map(|guess| guess.driver));
    let candidate = |driver: &'static DriverInfo| Candidate {
        driver,
        baud: None,
        address: None,
        recognised: is_recognised(driver),
    };
    all.map(candidate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::advertisement::AdvertisementMatcher::{
        self, Address, All, Manufacturer, Name, ReversedAddress, Service,
    };
    use crate::protocol::{daren, jbd, uuid16};

    const fn brand(name: &'static str, matchers: &'static [AdvertisementMatcher]) -> DriverInfo {
        let gatt = jbd::INFO.gatt;
        DriverInfo { gatt, matchers, ..DriverInfo::of(name, name, daren::INFO.source) }
    }

    static RED: DriverInfo = brand(
        "red",
        &[
            Service(uuid16(0xFF00)),
            ReversedAddress,
            All(&[ReversedAddress, Service(uuid16(0xFF00))]),
            Address("A4:C1:38"),
            Name("SP16S*"),
        ],
    );
    static BLUE: DriverInfo = brand(
        "blue",
        &[Service(uuid16(0xFFE0)), Manufacturer(0x0B65), Address("A4:C1:38"), Name("JK_*")],
    );

    fn guesses(device: &Advertisement<'_>) -> Vec<(&'static str, bool)> {
        let guesses = recognise_among(&[&daren::INFO, &RED, &BLUE], device);
        guesses.into_iter().map(|guess| (guess.driver.name, guess.likely)).collect()
    }

    const UNKNOWN: Advertisement<'static> = Advertisement {
        name: None,
        address: "00:11:22:33:44:55",
        services: &[],
        manufacturer: &[],
    };

    #[test]
    fn unknown_device_matches_no_brand() {
        assert_eq!(guesses(&UNKNOWN), []);
        assert_eq!(guesses(&Advertisement { name: Some("TV"), ..UNKNOWN }), []);
    }

    #[test]
    fn name_outweighs_shared_service_and_address() {
        let services = &[uuid16(0xFF00)];
        assert_eq!(guesses(&Advertisement { services, ..UNKNOWN }), [("red", false)]);
        let both = Advertisement { address: "a4:c1:38:00:00:01", ..UNKNOWN };
        assert_eq!(guesses(&both), [("red", false), ("blue", false)]);
        let named = Advertisement { name: Some("jk_b2a20s20p\0"), services, ..both };
        assert_eq!(guesses(&named), [("blue", true), ("red", false)]);
    }

    #[test]
    fn reversed_address_identifies_one_brand() {
        let manufacturer = &[(0x6D7C, vec![0xBE, 0x38, 0xC1, 0xA4])];
        let device = Advertisement { address: "A4:C1:38:BE:6D:7C", manufacturer, ..UNKNOWN };
        assert_eq!(guesses(&device), [("red", false), ("blue", false)], "another module");
        let services = &[uuid16(0xFF00)];
        let device = Advertisement { services, ..device };
        assert_eq!(guesses(&device), [("red", true), ("blue", false)]);
        assert_eq!(guesses(&Advertisement { manufacturer, ..UNKNOWN }), []);
    }

    #[test]
    fn company_id_outweighs_everything_else() {
        let device = Advertisement {
            name: Some("SP16S020"),
            services: &[uuid16(0xFF00)],
            manufacturer: &[(0x0B65, vec![0x88, 0xA0])],
            ..UNKNOWN
        };
        assert_eq!(guesses(&device), [("blue", true), ("red", true)]);
    }

    /// Advertisements of real modules, as their users reported them.
    #[test]
    fn reported_modules_are_recognised() {
        let reversed = [(0x6D7C, vec![0xBE, 0x38, 0xC1, 0xA4])];
        let jikong = [(0x0B65, vec![0x88, 0xA0, 0xC8, 0x47, 0x80, 0x05, 0x73, 0x8C])];
        let (ff00, ffe0) = (&[uuid16(0xFF00)], &[uuid16(0xFFE0)]);
        for (brand, name, address, services, manufacturer) in [
            ("jbd", None, "A4:C1:38:BE:6D:7C", ff00, &reversed[..]),
            ("jbd", Some("JBD-SP04S020"), "A5:C2:37:06:1B:C9", ff00, &[]),
            ("jbd", Some("SP16S003"), "70:3E:97:08:00:01", ff00, &[]),
            ("jk", Some("JK_B2A20S20P"), "C8:47:80:05:73:8C", ffe0, &jikong[..]),
            ("jk", Some("JK-BD4A8S-4P"), "C8:47:8C:00:00:01", ffe0, &[]),
            ("jk", None, "C8:47:80:37:02:E8", ffe0, &[]),
            ("daly", Some("DL-40D2123456"), "40:D6:12:34:56:78", ff00, &[]),
        ] {
            let device = Advertisement { name, address, services, manufacturer };
            let first = recognise(&device).first().map(|guess| guess.driver.name);
            assert_eq!(first, Some(brand), "{device:?}");
        }
    }

    #[test]
    fn every_bluetooth_brand_is_tried_once() {
        let checked = |driver: &&&DriverInfo| driver.gatt.is_some() && !driver.unchecked;
        let count = drivers().iter().filter(checked).count();
        let device = Advertisement { name: Some("JK_B2A20S20P"), ..UNKNOWN };
        assert_eq!(ble_candidates(None).len(), count);
        assert_eq!(ble_candidates(Some(&device)).len(), count);
    }

    #[test]
    fn brand_without_checksum_needs_a_likely_advertisement() {
        let position = |device: &Advertisement<'_>, name: &str| {
            let candidates = ble_candidates(Some(device));
            candidates.iter().rev().position(|candidate| candidate.driver.name == name)
        };
        let device = Advertisement { name: Some("Epsilon-201007664"), ..UNKNOWN };
        assert_eq!(position(&device, "superb"), Some(0), "the last one");
        assert_eq!(position(&UNKNOWN, "superb"), None);
        assert_eq!(position(&device, "tianpwr"), None);
    }
}
