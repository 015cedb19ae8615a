//! Environment and add-on options to [`Config`]: every default, every message about a bad value.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::model::Profile;
use crate::protocol::{DriverInfo, Options};
use crate::sink::mqtt;

/// Everything the operator said, checked.
#[derive(Debug)]
pub struct Config {
    /// The batteries.
    pub devices: Vec<Device>,
    /// Groups of batteries.
    pub banks: Vec<Bank>,
    /// `None`: no broker was named.
    pub mqtt: Option<mqtt::Settings>,
    /// Where the HTTP server listens; `None`: nowhere.
    pub http_listen: Option<SocketAddr>,
    /// How much is logged, and how.
    pub log: Log,
    /// What is worth a word, but no reason to stop.
    pub warnings: Vec<String>,
}

/// One battery.
#[derive(Debug, Clone)]
pub struct Device {
    /// Name and place.
    pub profile: Profile,
    /// How to talk to it.
    pub driver: &'static DriverInfo,
    /// What the operator said about it.
    pub options: Options,
    /// Where it is.
    pub place: Place,
    /// Baud rates to try; one when it was configured.
    pub bauds: Vec<u32>,
    /// Time between two reads.
    pub interval: Duration,
}

/// Where a battery is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Serial device.
    Serial {
        /// Its path.
        path: String,
    },
    /// RS485-to-Ethernet bridge.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// A simulator in this process.
    Simulated,
}

/// A group of batteries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bank {
    /// Identity.
    pub id: String,
    /// What people see.
    pub name: String,
    /// Ids of its batteries.
    pub members: Vec<String>,
}

/// How much is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// A filter in the words of `RUST_LOG`.
    pub filter: String,
    /// JSON lines instead of text.
    pub json: bool,
}

/// One thing that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The variable (or the place in `DEVICES`).
    pub variable: String,
    /// What was given; never a secret.
    pub value: Option<String>,
    /// What is allowed.
    pub allowed: String,
    /// A good value.
    pub example: String,
}

/// Reads the sources and checks everything; all faults at once.
pub fn load(_environment: BTreeMap<String, String>) -> Result<Config, Vec<ConfigError>> {
    Err(Vec::new())
}
