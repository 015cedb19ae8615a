//! Which brand a Bluetooth device may be, by what it says of itself before anybody connects. A hint
//! and never a proof: modules are shared between brands and names are changed by their owners, so
//! only a good answer confirms it.

use super::driver::{AdvertisementMatcher, DriverInfo};
pub use crate::model::profile::address_bytes;

/// What a device says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Advertisement<'a> {
    /// Its name; many have none.
    pub name: Option<&'a str>,
    /// Its address: `C8:47:80:37:02:E8`.
    pub address: &'a str,
    /// The services that it advertises.
    pub services: &'a [u128],
    /// Company ids and what stands behind them.
    pub manufacturer: &'a [(u16, Vec<u8>)],
}

/// A brand that a device may be.
#[derive(Debug, Clone, Copy)]
pub struct Guess {
    /// The brand.
    pub driver: &'static DriverInfo,
    /// More than a service or an address speaks for it, which others share.
    pub likely: bool,
}

/// How much each kind of sign says. Powers of two: one of a better kind outweighs all weaker ones.
const MANUFACTURER: u8 = 8;
const NAME: u8 = 4;
const ADDRESS: u8 = 2;
const SERVICE: u8 = 1;

/// The brands of this list that the device may be, the likeliest first; of two equal ones the first
/// of the list.
pub fn recognise(
    drivers: impl IntoIterator<Item = &'static DriverInfo>,
    seen: &Advertisement<'_>,
) -> Vec<Guess> {
    let strength = |driver: &DriverInfo| {
        driver.matchers.iter().fold(0, |strength, sign| strength | weight(*sign, seen))
    };
    let mut guesses: Vec<(u8, &'static DriverInfo)> = drivers
        .into_iter()
        .filter(|driver| driver.gatt.is_some())
        .map(|driver| (strength(driver), driver))
        .filter(|(strength, _)| *strength > 0)
        .collect();
    guesses.sort_by_key(|(strength, _)| std::cmp::Reverse(*strength));
    guesses
        .into_iter()
        .map(|(strength, driver)| Guess { driver, likely: strength >= NAME })
        .collect()
}

/// What this sign says about the device; nothing when it does not fit.
fn weight(sign: AdvertisementMatcher, seen: &Advertisement<'_>) -> u8 {
    let (fits, weight) = match sign {
        AdvertisementMatcher::Name(beginning) => (named(seen, beginning), NAME),
        AdvertisementMatcher::Service(service) => (seen.services.contains(&service), SERVICE),
        AdvertisementMatcher::Address(beginning) => (begins(seen.address, beginning), ADDRESS),
        AdvertisementMatcher::Manufacturer(id) => {
            (seen.manufacturer.iter().any(|it| it.0 == id), MANUFACTURER)
        }
        AdvertisementMatcher::ReversedAddress => (says_its_address_backwards(seen), MANUFACTURER),
    };
    if fits { weight } else { 0 }
}

fn named(seen: &Advertisement<'_>, beginning: &str) -> bool {
    seen.name.is_some_and(|name| begins(name.trim(), beginning))
}

fn begins(text: &str, beginning: &str) -> bool {
    text.get(..beginning.len()).is_some_and(|start| start.eq_ignore_ascii_case(beginning))
}

/// The id has no meaning of its own there: it is the first two bytes of the address.
fn says_its_address_backwards(seen: &Advertisement<'_>) -> bool {
    let Some(mut address) = address_bytes(seen.address) else { return false };
    address.reverse();
    let [first, second, rest @ ..] = address;
    let id = u16::from_le_bytes([first, second]);
    seen.manufacturer.iter().any(|(other, data)| *other == id && *data == rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::DRIVERS;
    use crate::protocol::driver::{GattChannel, GattProfile, uuid16};

    const PLACE: GattChannel =
        GattChannel { service: uuid16(0xFF00), notify: uuid16(0xFF01), write: uuid16(0xFF02) };

    const fn brand(name: &'static str, matchers: &'static [AdvertisementMatcher]) -> DriverInfo {
        let gatt = Some(GattProfile { places: &[PLACE], streams: false });
        DriverInfo {
            name,
            title: name,
            serial: None,
            gatt,
            matchers,
            addresses: 1..=1,
            controls: &[],
            serial_control: true,
            verified: "for tests",
            new: crate::protocol::daren::INFO.new,
        }
    }

    static RED: DriverInfo = brand(
        "red",
        &[
            AdvertisementMatcher::Service(uuid16(0xFF00)),
            AdvertisementMatcher::ReversedAddress,
            AdvertisementMatcher::Address("A4:C1:38"),
            AdvertisementMatcher::Name("SP16S"),
        ],
    );
    static BLUE: DriverInfo = brand(
        "blue",
        &[
            AdvertisementMatcher::Service(uuid16(0xFFE0)),
            AdvertisementMatcher::Manufacturer(0x0B65),
            AdvertisementMatcher::Address("A4:C1:38"),
            AdvertisementMatcher::Name("JK_"),
        ],
    );

    fn guesses(seen: &Advertisement<'_>) -> Vec<(&'static str, bool)> {
        let list = [&crate::protocol::daren::INFO, &RED, &BLUE];
        recognise(list, seen).into_iter().map(|it| (it.driver.name, it.likely)).collect()
    }

    const NOBODY: Advertisement<'static> = Advertisement {
        name: None,
        address: "00:11:22:33:44:55",
        services: &[],
        manufacturer: &[],
    };

    #[test]
    fn what_says_nothing_is_nobody() {
        assert_eq!(guesses(&NOBODY), []);
        assert_eq!(guesses(&Advertisement { name: Some("TV"), ..NOBODY }), []);
    }

    #[test]
    fn a_shared_service_or_address_is_a_hint_and_a_name_is_more() {
        let services = &[uuid16(0xFF00)];
        assert_eq!(guesses(&Advertisement { services, ..NOBODY }), [("red", false)]);
        let address = "a4:c1:38:00:00:01";
        let both = Advertisement { address, ..NOBODY };
        assert_eq!(guesses(&both), [("red", false), ("blue", false)]);
        let named = Advertisement { name: Some("jk_b2a20s20p\0"), services, ..both };
        assert_eq!(guesses(&named), [("blue", true), ("red", false)]);
    }

    #[test]
    fn the_address_backwards_is_the_mark_of_one_brand() {
        let manufacturer = &[(0x6D7C, vec![0xBE, 0x38, 0xC1, 0xA4])];
        let seen = Advertisement { address: "A4:C1:38:BE:6D:7C", manufacturer, ..NOBODY };
        assert_eq!(guesses(&seen), [("red", true), ("blue", false)]);
        let stranger = Advertisement { manufacturer, ..NOBODY };
        assert_eq!(guesses(&stranger), []);
    }

    #[test]
    fn a_company_id_outweighs_everything_else() {
        let seen = Advertisement {
            name: Some("SP16S020"),
            services: &[uuid16(0xFF00)],
            manufacturer: &[(0x0B65, vec![0x88, 0xA0])],
            ..NOBODY
        };
        assert_eq!(guesses(&seen), [("blue", true), ("red", true)]);
    }

    #[test]
    fn addresses_are_six_pairs() {
        assert_eq!(address_bytes("A4:C1:38:be:6d:7c"), Some([0xA4, 0xC1, 0x38, 0xBE, 0x6D, 0x7C]));
        for wrong in ["", "A4:C1:38:BE:6D", "A4:C1:38:BE:6D:7C:00", "A4:C1:38:BE:6D:+C", "A:B"] {
            assert_eq!(address_bytes(wrong), None, "{wrong}");
        }
    }

    /// What the modules of each brand send, as its users reported it.
    #[test]
    fn each_brand_is_recognised_by_what_its_modules_send() {
        let reversed = vec![(0x6D7C, vec![0xBE, 0x38, 0xC1, 0xA4])];
        let jikong = vec![(0x0B65, vec![0x88, 0xA0, 0xC8, 0x47, 0x80, 0x05, 0x73, 0x8C])];
        let (ff00, ffe0) = (vec![uuid16(0xFF00)], vec![uuid16(0xFFE0)]);
        let nothing = Vec::new();
        for (brand, name, address, services, manufacturer) in [
            ("jbd", None, "A4:C1:38:BE:6D:7C", &ff00, &reversed),
            ("jbd", Some("JBD-SP04S020"), "A5:C2:37:06:1B:C9", &ff00, &nothing),
            ("jbd", Some("SP16S003"), "70:3E:97:08:00:01", &ff00, &nothing),
            ("jk", Some("JK_B2A20S20P"), "C8:47:80:05:73:8C", &ffe0, &jikong),
            ("jk", Some("JK-BD4A8S-4P"), "C8:47:8C:00:00:01", &ffe0, &nothing),
            ("jk", None, "C8:47:80:37:02:E8", &ffe0, &nothing),
        ] {
            if crate::protocol::find(brand).is_some_and(|info| info.gatt.is_some()) {
                let (services, manufacturer) = (services.as_slice(), manufacturer.as_slice());
                let seen = Advertisement { name, address, services, manufacturer };
                let first = recognise(DRIVERS.iter().copied(), &seen).first().map(|it| it.driver);
                assert_eq!(first.map(|it| it.name), Some(brand), "{seen:?}");
            }
        }
    }
}
