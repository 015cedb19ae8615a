//! Line tasks against scripted and simulated batteries. Where the clock is paused, minutes pass at
//! once and the order of events is always the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/esphome/mod.rs"]
mod esphome_device;
#[path = "../common/faulty_bridge/mod.rs"]
mod faulty_bridge;

mod ble;
mod bridge;
mod commands;
mod esphome;
mod fixture;
mod line;
mod proxy;
mod proxy_soak;
mod search;
