//! What a Bluetooth device advertises, and patterns that recognise a brand in it.

pub use crate::model::profile::address_bytes;

/// What a device advertises.
#[derive(Debug, Clone, Copy)]
pub struct Advertisement<'a> {
    /// Its name; many have none.
    pub name: Option<&'a str>,
    /// Its address: `C8:47:80:37:02:E8`.
    pub address: &'a str,
    pub services: &'a [u128],
    /// Manufacturer data by company id.
    pub manufacturer: &'a [(u16, Vec<u8>)],
}

/// A pattern in an advertisement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdvertisementMatcher {
    /// The name, in any case: `*` stands for any characters, `?` for one, `[0-9A-F]` for one of
    /// these.
    Name(&'static str),
    Service(u128),
    /// The beginning of the address: `C8:47:80`.
    Address(&'static str),
    /// Manufacturer data with this company id.
    Manufacturer(u16),
    /// Manufacturer data with this company id that begins like this.
    ManufacturerData(u16, &'static [u8]),
    /// Manufacturer data whose company id and content are the address backwards.
    ReversedAddress,
    /// All of these together.
    All(&'static [AdvertisementMatcher]),
    /// Devices that are no battery advertise this too.
    Shared(&'static AdvertisementMatcher),
}

// Points for each part of a match. A company id outweighs any name, a name outweighs address and
// service together, and parts that must match together outweigh each of them.
const SERVICE: u16 = 4;
const ADDRESS: u16 = 6;
/// The module and not the brand: it takes the service of the brand too.
const REVERSED_ADDRESS: u16 = 9;
/// Each character that a pattern prescribes adds one, up to [`MOST`].
const NAME: u16 = 10;
/// Each byte of the data that a pattern prescribes adds one, up to [`MOST`].
const MANUFACTURER: u16 = 40;
const MOST: usize = 9;

/// Company ids that no company owns, and that of the beacons of all brands (Apple).
const COMMON_IDS: [u16; 3] = [0, 0xFFFF, 0x004C];
const COMMON_MANUFACTURER: u16 = 2;

/// From here on a match is more than a service, an address or a company id that other devices share:
/// three characters of a name are enough.
const LIKELY: u16 = NAME + 3;

/// How well an advertisement matches; the greater one is the more specific.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Strength {
    /// 0 for no match.
    points: u16,
    /// Points for what no other device advertises.
    own: u16,
}

impl Strength {
    fn new(points: u16) -> Self {
        Strength { points, own: points }
    }

    pub(super) fn is_match(self) -> bool {
        self.points > 0
    }

    pub(super) fn is_likely(self) -> bool {
        self.own >= LIKELY
    }

    /// That of a brand of which both match.
    pub(super) fn or(self, other: Self) -> Self {
        Strength { points: self.points.max(other.points), own: self.own.max(other.own) }
    }
}

impl AdvertisementMatcher {
    pub(super) fn strength(&self, device: &Advertisement<'_>) -> Strength {
        let (matches, points) = match *self {
            AdvertisementMatcher::Name(pattern) => {
                // Some names begin with a blank, and modules pad names at the end.
                let matches = |name: &str| {
                    let name =
                        name.trim_end_matches(|it: char| it.is_whitespace() || it.is_control());
                    let name = if pattern.starts_with(' ') { name } else { name.trim_start() };
                    is_match(pattern.as_bytes(), name.as_bytes())
                };
                (device.name.is_some_and(matches), NAME + limited(prescribed(pattern.as_bytes())))
            }
            AdvertisementMatcher::Service(service) => (device.services.contains(&service), SERVICE),
            AdvertisementMatcher::Address(prefix) => {
                let start = device.address.get(..prefix.len());
                (start.is_some_and(|start| start.eq_ignore_ascii_case(prefix)), ADDRESS)
            }
            AdvertisementMatcher::Manufacturer(id) => {
                (device.manufacturer.iter().any(|(company, _)| *company == id), company(id, &[]))
            }
            AdvertisementMatcher::ManufacturerData(id, start) => {
                let matches =
                    |(company, data): &(u16, Vec<u8>)| *company == id && data.starts_with(start);
                (device.manufacturer.iter().any(matches), company(id, start))
            }
            AdvertisementMatcher::ReversedAddress => {
                (advertises_reversed_address(device), REVERSED_ADDRESS)
            }
            AdvertisementMatcher::All(matchers) => {
                let points = || matchers.iter().map(|matcher| matcher.strength(device).points);
                (points().all(|points| points > 0), points().sum())
            }
            AdvertisementMatcher::Shared(matcher) => {
                return Strength { own: 0, ..matcher.strength(device) };
            }
        };
        Strength::new(if matches { points } else { 0 })
    }
}

fn company(id: u16, start: &[u8]) -> u16 {
    let own = MANUFACTURER + limited(start.len());
    if COMMON_IDS.contains(&id) { COMMON_MANUFACTURER } else { own }
}

fn limited(count: usize) -> u16 {
    count.min(MOST) as u16
}

/// The number of characters that a pattern prescribes; a class is one.
fn prescribed(pattern: &[u8]) -> usize {
    match pattern {
        [] => 0,
        [b'*' | b'?', rest @ ..] => prescribed(rest),
        [b'[', rest @ ..] => {
            let end = rest.iter().position(|byte| *byte == b']').unwrap_or(rest.len());
            1 + prescribed(rest.get(end + 1..).unwrap_or_default())
        }
        [_, rest @ ..] => 1 + prescribed(rest),
    }
}

/// Whether a pattern with wildcards matches the whole text, in any case.
pub(super) fn is_match(pattern: &[u8], text: &[u8]) -> bool {
    let (matches, rest) = match (pattern, text) {
        ([], _) => return text.is_empty(),
        ([b'*', rest @ ..], _) => {
            return (0..=text.len()).any(|skipped| is_match(rest, &text[skipped..]));
        }
        (_, []) => return false,
        ([b'?', rest @ ..], _) => (true, rest),
        ([b'[', rest @ ..], [byte, ..]) => {
            let end = rest.iter().position(|byte| *byte == b']').unwrap_or(rest.len());
            (is_in_class(&rest[..end], *byte), rest.get(end + 1..).unwrap_or_default())
        }
        ([expected, rest @ ..], [byte, ..]) => (expected.eq_ignore_ascii_case(byte), rest),
    };
    matches && is_match(rest, &text[1..])
}

/// Whether a class such as `0-9A-F` contains this byte, in any case.
fn is_in_class(class: &[u8], byte: u8) -> bool {
    let upper = byte.to_ascii_uppercase();
    match class.to_ascii_uppercase()[..] {
        [first, b'-', last, ..] if (first..=last).contains(&upper) => true,
        [_, b'-', _, ..] => is_in_class(&class[3..], byte),
        [first, ..] => first == upper || is_in_class(&class[1..], byte),
        [] => false,
    }
}

/// The company id has no meaning of its own then: it is two bytes of the address.
fn advertises_reversed_address(device: &Advertisement<'_>) -> bool {
    let Some(mut address) = address_bytes(device.address) else { return false };
    address.reverse();
    let [first, second, rest @ ..] = address;
    let id = u16::from_le_bytes([first, second]);
    device.manufacturer.iter().any(|(company, data)| *company == id && *data == rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_patterns_have_wildcards_and_ignore_case() {
        for (pattern, name, expected) in [
            ("JK_*", "jk_b2a20s20p\0", true),
            ("JK_*", "JK-1", false),
            ("JK_", "JK_1", false),
            ("LT-12???BG-A0[7-9]*", "LT-12100BG-A07123", true),
            ("LT-12???BG-A0[7-9]*", "LT-12100BG-A06123", false),
            ("LT-12???BG-A0[7-9]*", "LT-1210BG-A07123", false),
            ("*-[0-9A-F][0-9a-f]", "pack-5c", true),
            ("*-[0-9A-F][0-9a-f]", "pack-5G", false),
            ("S[KP]1", "SP1", true),
            ("", "", true),
            ("?", "", false),
        ] {
            assert_eq!(is_match(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn all_of_several_matchers_must_match() {
        const BOTH: AdvertisementMatcher = AdvertisementMatcher::All(&[
            AdvertisementMatcher::Name("R-12*"),
            AdvertisementMatcher::Manufacturer(0x585A),
        ]);
        let (ours, other) = ([(0x585A, vec![1])], [(1, vec![])]);
        let named = |name, manufacturer| Advertisement {
            name: Some(name),
            address: "00:11:22:33:44:55",
            services: &[],
            manufacturer,
        };
        assert_eq!(BOTH.strength(&named("R-12100", &ours)).points, NAME + 4 + MANUFACTURER);
        assert_eq!(BOTH.strength(&named("R-12100", &other)).points, 0);
        assert_eq!(BOTH.strength(&named("R-24100", &ours)).points, 0);
    }

    #[test]
    fn longer_pattern_is_more_specific() {
        for (pattern, count) in [("*", 0), ("S-*", 2), ("R-12[0-9]??*", 5), ("[A-F]", 1)] {
            assert_eq!(prescribed(pattern.as_bytes()), count, "{pattern}");
        }
    }

    #[test]
    fn shared_mark_is_never_likely() {
        static NAME: AdvertisementMatcher = AdvertisementMatcher::Name("GModule");
        let device = Advertisement {
            name: Some("GModule\0\r"),
            address: "00:11:22:33:44:55",
            services: &[],
            manufacturer: &[],
        };
        assert!(NAME.strength(&device).is_likely());
        let shared = AdvertisementMatcher::Shared(&NAME).strength(&device);
        assert!(shared.is_match() && !shared.is_likely());
    }

    #[test]
    fn addresses_have_six_pairs_of_digits() {
        assert_eq!(address_bytes("A4:C1:38:be:6d:7c"), Some([0xA4, 0xC1, 0x38, 0xBE, 0x6D, 0x7C]));
        for wrong in ["", "A4:C1:38:BE:6D", "A4:C1:38:BE:6D:7C:00", "A4:C1:38:BE:6D:+C", "A:B"] {
            assert_eq!(address_bytes(wrong), None, "{wrong}");
        }
    }
}
