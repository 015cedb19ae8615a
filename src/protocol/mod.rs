//! Sans-IO drivers, one file per brand, and the registry that lists them.

pub mod advertisement;
mod ascii_family;
pub mod ascii_frame;
pub mod auto;
pub mod bytes;
pub mod console;
pub mod driver;
pub mod modbus;
pub mod query;
mod status_word;

pub mod daly;
pub mod daren;
pub mod jbd;
pub mod jk;
pub mod pace;
pub mod pylontech;
pub mod pylontech_console;
pub mod pylontech_sc0500;
pub mod seplos;

pub use driver::{CycleKind, Driver, DriverInfo, Options, ProtocolError, Step};

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

/// What `BMS_VARIANT` can name: the dialects of a brand that has several.
pub fn variants(info: &DriverInfo) -> &'static [&'static str] {
    match info.name {
        "daly" => daly::VARIANTS,
        "jk" => jk::VARIANTS,
        _ => &[],
    }
}

/// The driver of that name.
pub fn find(name: &str) -> Option<&'static DriverInfo> {
    DRIVERS.iter().copied().find(|info| info.name == name)
}
