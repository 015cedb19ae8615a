//! Outputs: they follow the board and publish what changes.

pub mod http;
pub mod influx;
pub mod mqtt;
pub mod notify;
