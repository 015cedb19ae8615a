//! The brands that are data: those in the program, and those of the user.

use std::sync::OnceLock;
use std::time::Duration;

use super::advertisement::AdvertisementMatcher;
use super::info::{DriverInfo, GattChannel, GattProfile, SerialDefaults, Source, short};
use super::table::built_in::PROFILES;
pub use super::table::built_in::{names, text};
use super::table::load;
use super::table::scalar::Channel;
use super::table::schema::{Gatt, Profile, ScanMark};

/// Profiles of the user, which replace those of the same name.
static OWN: OnceLock<Vec<&'static DriverInfo>> = OnceLock::new();

/// The brand of a profile in the program, which is read when it is used for the first time.
pub fn built_in(name: &str) -> Option<&'static DriverInfo> {
    static READ: [OnceLock<Option<&'static DriverInfo>>; PROFILES.len()] =
        [const { OnceLock::new() }; PROFILES.len()];
    let at = names().position(|known| known == name)?;
    *READ[at].get_or_init(|| load::parse(&text(name)?).ok().map(info))
}

/// The profiles of the user.
pub fn own() -> &'static [&'static DriverInfo] {
    OWN.get().map_or(&[], Vec::as_slice)
}

/// Adds the profiles of the user, before any brand is looked up; later ones are ignored.
pub fn add(profiles: Vec<&'static DriverInfo>) {
    let _ = OWN.set(profiles);
}

/// What the rest of the program knows about the brand.
pub fn info(profile: Profile) -> &'static DriverInfo {
    let profile: &'static Profile = Box::leak(Box::new(profile));
    let timeout = profile.timeout.unwrap_or(Duration::from_secs(2));
    let gatt = (!profile.ble.is_empty()).then(|| GattProfile {
        channels: leak(profile.ble.iter().map(channel).collect()),
        streams: profile.streams,
    });
    let serial = profile.serial.as_ref();
    Box::leak(Box::new(DriverInfo {
        serial: serial.map(|serial| SerialDefaults { bauds: &serial.baud, timeout }),
        gatt,
        matchers: leak(profile.scan.iter().map(matcher).collect()),
        addresses: serial.map_or(1..=1, |serial| serial.first_address..=serial.last_address),
        unchecked: !has_checksums(profile),
        verified: &profile.verified,
        ..DriverInfo::of(&profile.name.0, &profile.title, Source::Profile(profile))
    }))
}

/// A brand that is code, together with the profile of its Bluetooth side.
pub(super) fn with_bluetooth(info: &'static DriverInfo) -> &'static DriverInfo {
    let side = info.bluetooth.and_then(built_in);
    let profile = side.and_then(|side| side.source.profile());
    let (Some(side), Some(profile), Source::Code(new)) = (side, profile, info.source) else {
        return info;
    };
    Box::leak(Box::new(DriverInfo {
        gatt: side.gatt,
        matchers: side.matchers,
        addresses: info.addresses.clone(),
        unchecked: side.unchecked,
        source: Source::Both(new, profile),
        ..*info
    }))
}

/// Names on the batteries that this brand reads; only profiles contain them.
pub fn brands(info: &DriverInfo) -> impl Iterator<Item = &'static str> {
    let brands = info.source.profile().map_or(&[][..], |profile| &profile.brands);
    brands.iter().map(String::as_str)
}

/// Whether every reply with values is protected; Modbus always is.
fn has_checksums(profile: &Profile) -> bool {
    let replies = profile.requests.iter().flat_map(|request| &request.replies);
    let mut valued = replies.filter(|reply| !reply.fields.is_empty());
    let common = profile.modbus.is_some() || profile.frame.check.is_some();
    common || valued.all(|reply| reply.check.is_some())
}

fn leak<T>(list: Vec<T>) -> &'static [T] {
    Box::leak(list.into_boxed_slice())
}

fn channel(gatt: &Gatt) -> GattChannel {
    let all = |list: &[Channel]| leak(list.iter().map(|channel| channel.0).collect());
    let first = gatt.write.as_ref().or(gatt.notify.first()).or(gatt.read.first());
    let greeting = gatt.greeting.iter().map(|it| (it.to.0, leak(it.bytes.fixed()))).collect();
    GattChannel {
        notify: all(&gatt.notify),
        write: first.map_or(short(0, 0), |it| it.0),
        read_only: gatt.write.is_none(),
        prefer_response: gatt.response,
        greeting: leak(greeting),
        read: all(&gatt.read),
    }
}

fn matcher(mark: &'static ScanMark) -> AdvertisementMatcher {
    let data = mark.data.fixed();
    let all = [
        mark.name.as_deref().map(AdvertisementMatcher::Name),
        mark.address.as_deref().map(AdvertisementMatcher::Address),
        mark.service.map(|service| AdvertisementMatcher::Service(service.0)),
        mark.manufacturer.map(|id| AdvertisementMatcher::ManufacturerData(id, leak(data))),
    ];
    let all: Vec<_> = all.into_iter().flatten().collect();
    let matcher = match all[..] {
        [only] => only,
        _ => AdvertisementMatcher::All(leak(all)),
    };
    if mark.shared { AdvertisementMatcher::Shared(&leak(vec![matcher])[0]) } else { matcher }
}
