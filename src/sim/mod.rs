//! Simulated batteries for every driver.
//!
//! A [`Responder`] is pure: it maps a request to a reply. A [`Bus`] connects several of them and applies
//! faults to their replies; [`serve`] attaches it to a pseudo-terminal, a TCP port or a link in memory.

mod ascii_pack;
pub mod battery;
pub mod bus;
pub mod console;
pub mod conversation;
pub mod daly;
pub mod daren;
pub mod direct;
pub mod faults;
pub mod gatt;
pub mod jbd;
pub mod jk;
pub mod load_profile;
pub mod pace;
mod pack;
mod payload;
pub mod pylontech;
pub mod pylontech_console;
pub mod pylontech_sc0500;
pub mod rng;
pub mod seplos;
pub mod serve;
pub mod state;
pub mod table;

use std::fmt::{self, Debug};
use std::ops::RangeInclusive;
use std::sync::OnceLock;

use crate::protocol::driver::Medium;
use crate::protocol::info::Source;
use crate::protocol::table::schema::Profile;
use crate::protocol::{self, DriverInfo, drivers};
use table::{TableBrand, TablePack};

pub use battery::Battery;
pub use bus::Bus;
pub use faults::{Fault, Faults};
pub use pack::SimPack;
pub use state::PackState;

/// Bytes per notification of most Bluetooth modules.
const NOTIFICATION: Option<usize> = Some(20);

/// The battery side of a protocol, for one address on a bus.
pub trait Responder: Send {
    /// The reply to a request; `None` if the request is for another address. `seconds` is the
    /// simulated time.
    fn respond(&mut self, request: &[u8], seconds: f64) -> Option<Vec<u8>>;

    /// What the battery sends without a request. Called every [`SimBrand::stream`] seconds.
    fn unsolicited(&mut self, _seconds: f64) -> Option<Vec<u8>> {
        None
    }

    /// A new connection: the state of the previous one is dropped.
    fn connected(&mut self) {}
}

// A supertrait would keep the code of `Debug` of all brands in the program.
impl Debug for dyn Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Responder")
    }
}

#[derive(Debug)]
pub struct SimBrand {
    /// The name of its driver, followed by `:` and the dialect if there are several.
    pub name: &'static str,
    pub addresses: RangeInclusive<u8>,
    /// Seconds between two unsolicited frames; `None` if there are none.
    pub stream: Option<f64>,
    /// Bytes per Bluetooth notification; `None` for a serial brand.
    pub notification: Option<usize>,
    pub protocol: SimProtocol,
}

/// What the battery side is made of.
#[derive(Debug, Clone, Copy)]
pub enum SimProtocol {
    Code {
        /// Creates a pack that reports the battery and the conditions among the faults.
        new: fn(SimPack) -> Box<dyn Responder>,
        /// The end of the first request in a buffer.
        request_end: fn(&[u8]) -> Option<usize>,
        /// Corrupts a reply in a way that needs knowledge of the frame.
        corrupt: fn(Corruption, &[u8]) -> Vec<u8>,
    },
    Profile(&'static TableBrand),
}

impl SimBrand {
    /// A brand on a serial line that only replies.
    pub(super) const fn serial(
        name: &'static str,
        addresses: RangeInclusive<u8>,
        new: fn(SimPack) -> Box<dyn Responder>,
        request_end: fn(&[u8]) -> Option<usize>,
        corrupt: fn(Corruption, &[u8]) -> Vec<u8>,
    ) -> Self {
        let protocol = SimProtocol::Code { new, request_end, corrupt };
        SimBrand { name, addresses, stream: None, notification: None, protocol }
    }

    /// The sides of a brand that is data: the Bluetooth side of one with a wire is `NAME:ble`.
    fn of(info: &'static DriverInfo, profile: &'static Profile) -> Vec<SimBrand> {
        let table: &'static _ = Box::leak(Box::new(TableBrand::new(profile)));
        let streams = profile.requests.iter().any(|it| it.send.is_none());
        let brand = |name, addresses, notification| SimBrand {
            name,
            addresses,
            stream: streams.then_some(1.0),
            notification,
            protocol: SimProtocol::Profile(table),
        };
        let wire = || brand(info.name, info.addresses.clone(), None);
        let ble = || brand(format!("{}:ble", info.name).leak(), 1..=1, NOTIFICATION);
        match (info.source, info.serial, info.gatt) {
            (Source::Both(..), ..) => vec![ble()],
            (_, Some(_), Some(_)) => vec![wire(), ble()],
            (_, Some(_), None) => vec![wire()],
            (_, None, _) => vec![brand(info.name, 1..=1, NOTIFICATION)],
        }
    }

    /// A pack that reports the battery and the conditions among the faults.
    pub fn pack(&self, pack: SimPack) -> Box<dyn Responder> {
        let medium = if self.notification.is_some() { Medium::Ble } else { Medium::Serial };
        self.pack_on(medium, pack)
    }

    pub(crate) fn pack_on(&self, medium: Medium, pack: SimPack) -> Box<dyn Responder> {
        match self.protocol {
            SimProtocol::Code { new, .. } => new(pack),
            SimProtocol::Profile(table) => Box::new(TablePack::new(table.profile, medium, pack)),
        }
    }

    /// The end of the first request in a buffer.
    pub fn request_end(&self, buffer: &[u8]) -> Option<usize> {
        match self.protocol {
            SimProtocol::Code { request_end, .. } => request_end(buffer),
            SimProtocol::Profile(table) => table.request_end(buffer),
        }
    }

    /// Corrupts a reply in a way that needs knowledge of the frame.
    fn corrupt(&self, corruption: Corruption, reply: &[u8]) -> Vec<u8> {
        match self.protocol {
            SimProtocol::Code { corrupt, .. } => corrupt(corruption, reply),
            SimProtocol::Profile(table) => table::corrupt(table.profile, corruption, reply),
        }
    }

    /// `daly:a5` is read by the driver `daly`.
    pub fn driver(&self) -> &'static str {
        self.name.split(':').next().unwrap_or(self.name)
    }

    /// The dialect for drivers that do not detect it.
    pub fn variant(&self) -> Option<&'static str> {
        self.name.split(':').nth(1)
    }
}

/// Corruption of a reply that keeps its form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Corruption {
    Checksum,
    /// The address of another battery.
    Foreign,
    /// A rejection with this code.
    Refused(u8),
}

static CODE: &[&SimBrand] = &[
    &daren::BRAND,
    &jbd::BRAND,
    &jk::BRAND,
    &jk::TTL,
    &jk::PB,
    &pylontech_sc0500::BRAND,
    &pylontech_console::BRAND,
    &pylontech::BRAND,
    &pace::BRAND,
    &seplos::BRAND,
    &daly::BRAND,
    &daly::BRAND_A5,
    &daly::BRAND_P81,
];

/// Every brand that can be simulated. A profile of the user also replaces the simulator of the brand.
pub fn brands() -> &'static [&'static SimBrand] {
    static ALL: OnceLock<Vec<&'static SimBrand>> = OnceLock::new();
    ALL.get_or_init(|| {
        let is_code = |brand: &&SimBrand| {
            let info = protocol::find(brand.driver());
            info.is_some_and(|info| !matches!(info.source, Source::Profile(_)))
        };
        let profiles = drivers().iter().filter_map(|info| Some((*info, info.source.profile()?)));
        let tables = profiles.flat_map(|(info, profile)| SimBrand::of(info, profile));
        let tables = tables.map(|brand| &*Box::leak(Box::new(brand)));
        CODE.iter().copied().filter(is_code).chain(tables).collect()
    })
}

/// The simulator of that name.
pub fn find(name: &str) -> Option<&'static SimBrand> {
    let named = |name: &str| brands().iter().copied().find(|brand| brand.name == name);
    named(name).or_else(|| {
        let info = protocol::find(name).filter(|info| info.bluetooth == Some(name))?;
        named(&format!("{}:ble", info.name))
    })
}
