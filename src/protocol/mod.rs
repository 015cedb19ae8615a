//! Sans-IO drivers, one module per brand, and the registry that lists them.

use std::sync::OnceLock;

pub mod advertisement;
mod ascii_family;
pub mod ascii_frame;
pub mod barcode;
pub mod bytes;
mod characteristic;
pub mod checksum;
pub mod console;
pub mod detection;
pub mod driver;
pub mod error;
mod frame;
pub mod info;
pub mod modbus;
mod nickname;
pub mod profiles;
pub mod query;
mod receive_buffer;
pub mod status_word;
pub mod table;
#[cfg(test)]
mod testing;
mod values;

pub mod daly;
pub mod daren;
pub mod dometic;
pub mod dpwrcore;
pub mod felicity;
pub mod jbd;
pub mod jk;
pub mod lithionics;
pub mod myvolta;
pub mod ogt;
pub mod pace;
pub mod pylontech;
pub mod pylontech_console;
pub mod pylontech_sc0500;
pub mod seplos;
pub mod smart123;

pub use driver::{CapacityUnit, CycleKind, Driver, Medium, Options, Pause, Side, Step};
pub use error::{DecodeError, ProtocolError};
pub use info::{DriverInfo, ImpliedBy, uuid16};
pub use nickname::nickname;
#[cfg(test)]
pub(crate) use receive_buffer::work;

// What most drivers need.
use advertisement::AdvertisementMatcher;
use bytes::{Reader, text};
use error::check;
use frame::FrameShape;
use info::{GattChannel, GattProfile, SerialDefaults, short};
use query::{Framing, Need, Pacing, RequestReply, Runner};
use status_word::{StatusWord, status_word};

/// The brands whose protocol is code.
static CODE: &[&DriverInfo] = &[
    &daren::INFO,
    &jbd::INFO,
    &jk::INFO,
    &pylontech_sc0500::INFO,
    &pylontech_console::INFO,
    &pylontech::INFO,
    &pace::INFO,
    &seplos::INFO,
    &daly::INFO,
    &dometic::INFO,
    &dpwrcore::INFO,
    &felicity::INFO,
    &lithionics::INFO,
    &myvolta::INFO,
    &ogt::INFO,
    &smart123::INFO,
];

/// Every brand, the user's own first. Being in this list is being configurable, documented and
/// tested.
pub fn drivers() -> &'static [&'static DriverInfo] {
    static ALL: OnceLock<Vec<&'static DriverInfo>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut all: Vec<&'static DriverInfo> = Vec::new();
        for info in names().filter_map(find) {
            if all.iter().all(|known| known.name != info.name) {
                all.push(info);
            }
        }
        all
    })
}

/// Every name that a brand can be configured by. Some brands have two.
pub fn names() -> impl Iterator<Item = &'static str> {
    let own = profiles::own().iter().chain(CODE).map(|info| info.name);
    own.chain(profiles::names())
}

/// Whether the program has a brand of that name without the profiles of the user.
pub fn is_built_in(name: &str) -> bool {
    CODE.iter().any(|info| info.name == name) || profiles::names().any(|known| known == name)
}

/// The driver of that name.
pub fn find(name: &str) -> Option<&'static DriverInfo> {
    own(name).or_else(|| code(name)).or_else(|| profiles::built_in(name))
}

fn own(name: &str) -> Option<&'static DriverInfo> {
    profiles::own().iter().copied().find(|info| info.name == name)
}

/// The brand that is code, also by the name of its Bluetooth side.
fn code(name: &str) -> Option<&'static DriverInfo> {
    static COMPLETE: [OnceLock<&'static DriverInfo>; CODE.len()] =
        [const { OnceLock::new() }; CODE.len()];
    let is_called = |info: &&DriverInfo| {
        info.name == name || (info.bluetooth == Some(name) && own(info.name).is_none())
    };
    let at = CODE.iter().position(is_called)?;
    Some(COMPLETE[at].get_or_init(|| profiles::with_bluetooth(CODE[at])))
}

/// Overwrites secrets that batteries send, whatever their type is: that may be set wrongly, or not be
/// known yet. The secrets that a reader sends are those of the driver that sends them.
pub fn redact(side: Side, bytes: &mut [u8]) {
    if side == Side::Battery {
        jk::redact::redact(bytes);
    }
}

/// The brand that this variable stands for where `BMS_TYPE` is missing.
pub fn implied_by(variable: ImpliedBy) -> Option<&'static DriverInfo> {
    CODE.iter().find(|info| info.implied_by == Some(variable)).and_then(|info| find(info.name))
}
