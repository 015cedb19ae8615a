//! Sans-IO drivers, one module per brand, and the registry that lists them.

pub mod advertisement;
mod ascii_family;
pub mod ascii_frame;
pub mod barcode;
pub mod bytes;
pub mod checksum;
pub mod console;
pub mod detection;
pub mod driver;
pub mod error;
mod frame;
pub mod info;
pub mod modbus;
pub mod query;
pub mod status_word;
#[cfg(test)]
mod testing;
mod values;

pub mod daly;
pub mod daren;
pub mod jbd;
pub mod jk;
pub mod pace;
pub mod pylontech;
pub mod pylontech_console;
pub mod pylontech_sc0500;
pub mod seplos;

pub use driver::{CapacityUnit, CycleKind, Driver, Medium, Options, Side, Step};
pub use error::{DecodeError, ProtocolError};
pub use info::{DriverInfo, ImpliedBy, uuid16};

// What most drivers need.
use advertisement::AdvertisementMatcher;
use bytes::{Reader, text};
use error::check;
use frame::FrameShape;
use info::{GattChannel, GattProfile, SerialDefaults, short};
use query::{Framing, Need, Pacing, RequestReply, Runner};
use status_word::{StatusWord, status_word};

/// Every brand. Being in this list is being configurable, documented and tested.
pub static DRIVERS: &[&DriverInfo] = &[
    &daren::INFO,
    &jbd::INFO,
    &jk::INFO,
    &pylontech_sc0500::INFO,
    &pylontech_console::INFO,
    &pylontech::INFO,
    &pace::INFO,
    &seplos::INFO,
    &daly::INFO,
];

/// The driver of that name.
pub fn find(name: &str) -> Option<&'static DriverInfo> {
    DRIVERS.iter().copied().find(|info| info.name == name)
}

/// The brand that this variable stands for where `BMS_TYPE` is missing.
pub fn implied_by(variable: ImpliedBy) -> Option<&'static DriverInfo> {
    DRIVERS.iter().copied().find(|info| info.implied_by == Some(variable))
}
