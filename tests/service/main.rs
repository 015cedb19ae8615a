//! Simulator, program and broker together, as users run them: the program is its own process with
//! its own environment, the broker a real Mosquitto, the battery on a pseudo-terminal or TCP port.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../common/esphome/mod.rs"]
mod esphome_device;
#[path = "../common/http.rs"]
mod http;
#[path = "../common/line_server.rs"]
mod line_server;
#[path = "../common/mosquitto.rs"]
mod mosquitto;
#[path = "../common/proxy.rs"]
mod proxy;
#[path = "../common/receiver.rs"]
mod receiver;
#[path = "../common/schema.rs"]
mod schema;

mod addon;
mod brokers;
mod cli;
mod commands;
mod control;
mod crowd;
mod demo;
mod derived;
mod esphome;
mod fixture;
mod history;
mod influx;
mod legacy_environment;
mod lifecycle;
mod line_faults;
mod notifications;
mod profiles;
mod recovery;
mod remove;
mod sc0500;
mod scale;
mod setup;
mod status;
mod victron;
