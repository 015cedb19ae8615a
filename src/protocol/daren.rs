//! Daren over RS485 ("service 42").

use std::time::Duration;

use super::driver::{DriverInfo, Options, SerialDefaults};

/// What the rest of the program knows about this make.
pub static INFO: DriverInfo = DriverInfo {
    name: "daren",
    title: "Daren",
    serial: Some(SerialDefaults { bauds: &[9600, 19_200], timeout: Duration::from_secs(2) }),
    addresses: 0..=15,
    verified: "recorded frames of six packs",
    new: |_options: &Options| panic!("being built"),
};
