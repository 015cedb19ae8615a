//! Those who look at the board and tell the world.

pub mod http;
pub mod mqtt;
