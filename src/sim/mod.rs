//! Simulated batteries for every driver.
//!
//! A [`Responder`] is pure: it maps a request to a reply. A [`Bus`] connects several of them and applies
//! faults to their replies; [`serve`] attaches it to a pseudo-terminal, a TCP port or a link in memory.

mod ascii_pack;
pub mod battery;
pub mod bus;
pub mod console;
pub mod daly;
pub mod daren;
pub mod faults;
pub mod gatt;
pub mod jbd;
pub mod jk;
mod load_profile;
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

use std::fmt::Debug;
use std::ops::RangeInclusive;

pub use battery::Battery;
pub use bus::Bus;
pub use faults::{Fault, Faults};
pub use pack::SimPack;
pub use state::PackState;

/// The battery side of a protocol, for one address on a bus.
pub trait Responder: Debug + Send {
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

#[derive(Debug)]
pub struct SimBrand {
    /// The name of its driver, followed by `:` and the dialect if there are several.
    pub name: &'static str,
    pub addresses: RangeInclusive<u8>,
    /// Creates a pack that reports the battery and the conditions among the faults.
    pub new: fn(SimPack) -> Box<dyn Responder>,
    /// The end of the first request in a buffer.
    pub request_end: fn(&[u8]) -> Option<usize>,
    /// Seconds between two unsolicited frames; `None` if there are none.
    pub stream: Option<f64>,
    /// Bytes per Bluetooth notification; `None` for a serial brand.
    pub notification: Option<usize>,
    /// Corrupts a reply in a way that needs knowledge of the frame.
    pub corrupt: fn(Corruption, &[u8]) -> Vec<u8>,
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
        SimBrand { name, addresses, new, request_end, stream: None, notification: None, corrupt }
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

pub static BRANDS: &[&SimBrand] = &[
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

pub fn find(name: &str) -> Option<&'static SimBrand> {
    BRANDS.iter().copied().find(|brand| brand.name == name)
}
