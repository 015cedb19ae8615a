//! Bluetooth against a fake bluetoothd on a private D-Bus, with all its known failures. After each
//! test, everything has to be released: scans, connections, subscriptions, pairing agents.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr
)]

#[path = "../common/attempts.rs"]
mod attempts;
#[path = "../common/bluez.rs"]
mod bluez;
#[path = "../common/esphome/mod.rs"]
mod esphome_device;
#[path = "../common/http.rs"]
mod http;

mod adapter_sharing;
mod basics;
mod battery;
mod brands;
mod bus_faults;
mod commands;
mod disconnect;
mod every_brand;
mod failures;
mod floods;
mod gatt;
mod outages;
mod pairing;
mod proxies;
mod recovery;
mod retry_signal;
mod rig;
mod scanning;
mod setup;
mod soak;
mod timeouts;
