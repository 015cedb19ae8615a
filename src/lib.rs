//! Reads battery management systems and publishes them to MQTT and Home Assistant.
//!
//! ```text
//! battery <-> transport <-> poll --Reading--> derive --Snapshot--> board --> sinks
//!                 |           |                                      ^         |
//!               bytes      protocol (pure)                           +-commands+
//! ```
//!
//! Drivers turn bytes into a [`model::Reading`] without doing IO; one task per line runs them;
//! a [`board`] holds the newest state of every battery; sinks subscribe to the board.

pub mod app;
pub mod board;
pub mod capture;
pub mod cli;
pub mod clock;
pub mod command;
pub mod config;
pub mod did_you_mean;
pub mod history;
pub mod http_client;
mod lz4;
pub mod model;
pub mod poll;
pub mod protocol;
pub mod random;
pub mod raw;
pub mod remedy;
pub mod setup;
pub mod sim;
pub mod sink;
pub mod supervisor;
pub mod tasks;
pub mod tls;
pub mod transport;
