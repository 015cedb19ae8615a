//! Sans-IO drivers, one file per make, and the registry that lists them.

pub mod ascii_frame;
pub mod bytes;
pub mod driver;
pub mod query;

pub mod daren;
pub mod jk;

pub use driver::{Ask, Driver, DriverInfo, Options, ProtocolError, Step};

/// Every make. Being in this list is being configurable, documented and tested.
pub static DRIVERS: &[&DriverInfo] = &[&daren::INFO, &jk::INFO];

/// The driver of that name.
pub fn find(name: &str) -> Option<&'static DriverInfo> {
    DRIVERS.iter().copied().find(|info| info.name == name)
}
