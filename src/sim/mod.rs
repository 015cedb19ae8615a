//! The other side of every driver: simulated batteries.
//!
//! A [`Responder`] is pure: bytes of a request in, bytes of the answer out. A [`Bus`] joins several
//! of them and disturbs their answers on request; [`serve`] puts it on a pseudo-terminal, a TCP port
//! or a link in memory.

mod ascii_frame;
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
pub mod pylontech;
pub mod pylontech_console;
pub mod pylontech_sc0500;
pub mod rng;
pub mod seplos;
pub mod serve;
pub mod state;

use std::ops::RangeInclusive;

pub use battery::Battery;
pub use bus::Bus;
pub use faults::{Fault, Faults};
pub use state::PackState;

/// The battery's side of a protocol, for one address on a bus.
pub trait Responder: Send {
    /// What the battery says when these bytes came along the line, and nothing when they were not
    /// for it. `seconds` is the simulated time since the start.
    fn respond(&mut self, request: &[u8], seconds: f64) -> Option<Vec<u8>>;

    /// What the battery says unasked at this moment; most never do. Asked every
    /// [`SimBrand::stream`] seconds.
    fn unsolicited(&mut self, _seconds: f64) -> Option<Vec<u8>> {
        None
    }

    /// Somebody new is on the line: what the last one had started is over.
    fn connected(&mut self) {}
}

/// A brand that can be simulated.
#[derive(Debug)]
pub struct SimBrand {
    /// The name of its driver, and behind a colon its dialect where there are several.
    pub name: &'static str,
    /// Addresses that it can have on a bus.
    pub addresses: RangeInclusive<u8>,
    /// A pack that says what the battery is and obeys the conditions among the faults.
    pub new: fn(address: u8, battery: Battery, faults: Faults) -> Box<dyn Responder>,
    /// Where the first request in a buffer ends.
    pub request_end: fn(&[u8]) -> Option<usize>,
    /// Seconds between two things that it says unasked; `None`: it only ever answers.
    pub stream: Option<f64>,
    /// Bytes of one Bluetooth notification; `None`: it is reached by wire.
    pub notification: Option<usize>,
    /// The same answer, spoiled as only somebody who knows the frame can do it.
    pub corrupt: fn(Corruption, &[u8]) -> Vec<u8>,
}

impl SimBrand {
    /// The name of the driver that reads it: a brand of several dialects is simulated in each of
    /// them, and `daly:a5` is read by `daly`.
    pub fn driver(&self) -> &'static str {
        self.name.split(':').next().unwrap_or(self.name)
    }

    /// The dialect to tell that driver, where it does not find it out.
    pub fn variant(&self) -> Option<&'static str> {
        self.name.split(':').nth(1)
    }
}

/// What can be wrong with an answer that still looks like one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Corruption {
    /// The checksum does not fit.
    Checksum,
    /// It comes from another address.
    Foreign,
    /// The battery refuses, with this code.
    Refused(u8),
}

/// Every brand that can be simulated.
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

/// The brand of that name.
pub fn find(name: &str) -> Option<&'static SimBrand> {
    BRANDS.iter().copied().find(|brand| brand.name == name)
}
