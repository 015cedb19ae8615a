//! Everything the rest of the program knows about a brand.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::advertisement::AdvertisementMatcher;
pub use super::characteristic::{Characteristic, short, uuid16};
use super::driver::{Driver, Medium, Options};
use super::table::Table;
use super::table::schema::Profile;
use crate::model::Switch;

#[derive(Debug)]
pub struct DriverInfo {
    /// Configuration value, topic part, file name: `daren`.
    pub name: &'static str,
    /// The brand as people know it.
    pub title: &'static str,
    /// How it is reached by wire.
    pub serial: Option<SerialDefaults>,
    /// How it is reached by Bluetooth.
    pub gatt: Option<GattProfile>,
    /// The profile of the Bluetooth side of a brand that is code by wire. Its name is a second name
    /// of the brand.
    pub bluetooth: Option<&'static str>,
    /// How it is recognised in a Bluetooth scan. Each match is a hint and no proof.
    pub matchers: &'static [AdvertisementMatcher],
    /// Addresses that it can have on a bus.
    pub addresses: RangeInclusive<u8>,
    /// Dialects that `BMS_VARIANT` can name; empty where there is only one.
    pub variants: &'static [&'static str],
    /// Further variants that fit recordings only, for `decode`.
    pub replay_variants: &'static [&'static str],
    /// Conversations are lines of text without a checksum, not frames.
    pub text: bool,
    /// `auto` tries it after all others because its requests write.
    pub probe_last: bool,
    /// Its frames have no checksum, so another brand may seem to answer: `auto` tries it over
    /// Bluetooth after all others, and only where the advertisement is likely its own.
    pub unchecked: bool,
    /// The variable that stands for this brand where `BMS_TYPE` is missing.
    pub implied_by: Option<ImpliedBy>,
    /// Switches that [`CycleKind::Write`](super::CycleKind::Write) can set.
    pub controls: &'static [Switch],
    /// They can be set by wire too, and not only by Bluetooth.
    pub serial_control: bool,
    /// What the driver was verified with.
    pub verified: &'static str,
    pub source: Source,
}

/// What a driver is made of.
#[derive(Debug, Clone, Copy)]
pub enum Source {
    Code(fn(&Options) -> Box<dyn Driver>),
    Profile(&'static Profile),
    /// Code by wire, a profile over Bluetooth.
    Both(fn(&Options) -> Box<dyn Driver>, &'static Profile),
}

impl Source {
    pub fn profile(&self) -> Option<&'static Profile> {
        match self {
            Source::Code(_) => None,
            Source::Profile(profile) | Source::Both(_, profile) => Some(profile),
        }
    }
}

impl DriverInfo {
    /// A brand with one battery on the line and nothing special.
    pub const fn new(
        name: &'static str,
        title: &'static str,
        new: fn(&Options) -> Box<dyn Driver>,
    ) -> Self {
        DriverInfo::of(name, title, Source::Code(new))
    }

    pub(super) const fn of(name: &'static str, title: &'static str, source: Source) -> Self {
        DriverInfo {
            name,
            title,
            serial: None,
            gatt: None,
            bluetooth: None,
            matchers: &[],
            addresses: 1..=1,
            variants: &[],
            replay_variants: &[],
            text: false,
            probe_last: false,
            unchecked: false,
            implied_by: None,
            controls: &[],
            serial_control: true,
            verified: "",
            source,
        }
    }

    /// The address where none is configured: 1, or the first possible one.
    pub fn default_address(&self) -> u8 {
        1.clamp(*self.addresses.start(), *self.addresses.end())
    }

    /// A conversation with one battery.
    pub fn driver(&self, options: &Options) -> Box<dyn Driver> {
        match self.source {
            Source::Code(new) => new(options),
            Source::Both(new, _) if options.medium != Medium::Ble => new(options),
            Source::Both(_, profile) | Source::Profile(profile) => Table::driver(profile, options),
        }
    }

    /// What the driver of this medium was verified with.
    pub fn verified_on(&self, medium: Medium) -> &'static str {
        match self.source {
            Source::Both(_, profile) if medium == Medium::Ble => &profile.verified,
            _ => self.verified,
        }
    }

    /// The switches that can be set over this medium.
    pub fn controls_on(&self, medium: Medium) -> &'static [Switch] {
        if medium == Medium::Ble || self.serial_control { self.controls } else { &[] }
    }
}

/// A variable whose presence stands for a brand where `BMS_TYPE` is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImpliedBy {
    Barcode,
    Port,
}

/// Line settings of a brand; always 8 data bits, no parity, one stop bit.
#[derive(Debug, Clone, Copy)]
pub struct SerialDefaults {
    /// Baud rates in use, the usual one first. The others are tried while nothing is received.
    pub bauds: &'static [u32],
    /// Time limit for one reply.
    pub timeout: Duration,
}

impl SerialDefaults {
    pub const fn new(bauds: &'static [u32], timeout_s: u64) -> Option<Self> {
        Some(SerialDefaults { bauds, timeout: Duration::from_secs(timeout_s) })
    }
}

/// The Bluetooth side of a brand.
#[derive(Debug, Clone, Copy)]
pub struct GattProfile {
    /// Channels to look for, the usual one first; the first that the battery has is used.
    pub channels: &'static [GattChannel],
    /// It sends unasked once it was started, so keeping the connection open costs it nothing.
    pub streams: bool,
}

/// The characteristics of one conversation. Some modules have two characteristics of the same
/// UUID, which differ only in their properties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GattChannel {
    /// Characteristics that notify, all of which are subscribed to.
    pub notify: &'static [Characteristic],
    pub write: Characteristic,
    /// Write with a response even where the characteristic also allows to write without one.
    pub prefer_response: bool,
    /// Nothing is ever written, so `write` need not be writable.
    pub read_only: bool,
    /// Written once after subscribing, in this order. Characteristics that the module lacks are
    /// skipped.
    pub greeting: &'static [(Characteristic, &'static [u8])],
    /// Values that are read: a request is the number of one, and the reply is its value behind the
    /// number and its length. Then nothing is written but the greeting.
    pub read: &'static [Characteristic],
}

impl GattChannel {
    /// A channel that is written without response where the characteristic allows it.
    pub const fn new(notify: &'static [Characteristic], write: Characteristic) -> Self {
        GattChannel {
            notify,
            write,
            prefer_response: false,
            read_only: false,
            greeting: &[],
            read: &[],
        }
    }

    /// The channel of a battery that sends unasked and is never written to.
    pub const fn read_only(notify: &'static [Characteristic; 1]) -> Self {
        GattChannel { read_only: true, ..GattChannel::new(notify, notify[0]) }
    }
}
