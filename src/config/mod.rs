//! Environment and add-on options to [`Config`]: every default, every message about a bad value.

mod bank;
mod brand;
mod broker;
mod device;
mod endpoint;
mod fault;
mod redacted;
mod reference;
mod rule;
mod service;
mod source;
#[cfg(test)]
mod tests;
mod values;
pub mod variables;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use endpoint::Endpoint;
pub use fault::ConfigError;
pub use redacted::{RedactedConfig, redacted};
pub use reference::reference;
pub use rule::Rule;
pub use service::{History, Log};
pub use source::environment;

use crate::model::bank::Wiring;
use crate::model::{AlarmThresholds, DeviceId, Profile};
use crate::protocol::{DriverInfo, Options};
use crate::sink::{http, mqtt};

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
    /// Who may ask it.
    pub http_access: http::Access,
    /// How much of the past is kept.
    pub history: History,
    /// Whether commands may change a battery.
    pub allow_control: bool,
    /// Where everything that is said on the wires is written down.
    pub capture: Option<PathBuf>,
    /// How much is logged, and how.
    pub log: Log,
    /// What is worth a word, but no reason to stop.
    pub warnings: Vec<String>,
}

/// What keeps the program from starting. The warnings are told with the faults, as a name that is
/// spelled wrongly is often the reason of one.
#[derive(Debug)]
pub struct Rejected {
    /// Each thing that is wrong.
    pub faults: Vec<ConfigError>,
    /// What would be worth a word anyway.
    pub warnings: Vec<String>,
}

/// One battery.
#[derive(Debug, Clone)]
pub struct Device {
    /// Name and place.
    pub profile: Profile,
    /// How to talk to it; `None`: that is to be found out.
    pub driver: Option<&'static DriverInfo>,
    /// What the operator said about it.
    pub options: Options,
    /// Where it is.
    pub place: Endpoint,
    /// Baud rates to try; one when it was configured.
    pub bauds: Vec<u32>,
    /// Time between two reads.
    pub interval: Duration,
    /// Whether its switches may be turned.
    pub control: bool,
    /// Bluetooth: time to look for a device that the system does not know.
    pub scan_timeout: Duration,
    /// Bluetooth: whether the link stays open between two reads; `None`: as suits the brand.
    pub keep_connected: Option<bool>,
    /// Own alarm limits.
    pub thresholds: AlarmThresholds,
}

/// A group of batteries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bank {
    /// Identity, name, and what else is seen of it.
    pub profile: Profile,
    /// Its batteries.
    pub members: Vec<DeviceId>,
    /// How they are connected.
    pub wiring: Wiring,
}

/// Reads the sources and checks everything; all faults at once. Apart from the files that the
/// environment names (and the add-on's options) the result follows from the argument alone.
pub fn load(environment: BTreeMap<String, String>) -> Result<Config, Rejected> {
    let mut findings = fault::Findings::default();
    let values = source::collect(environment, &mut findings);
    let thresholds = service::thresholds(&values, &mut findings);
    let mut batteries = device::all(&values, &thresholds, &mut findings);
    let allow_control = values.switch(&variables::ALLOW_CONTROL);
    if allow_control {
        for device in &mut batteries.devices {
            device.control = true;
            let controls = device.driver.map(|info| info.controls_on(device.options.medium));
            device.profile.controls = controls.unwrap_or_default().to_vec();
        }
    }
    let banks = bank::all(&values, &batteries, &mut findings);
    let of_banks = banks.iter().map(|bank| bank.profile.id.as_str());
    let ids: Vec<&str> = batteries.ids.iter().map(String::as_str).chain(of_banks).collect();
    let mqtt = broker::settings(&values, &ids, &mut findings);
    warn_of_unknown_types(&batteries.devices, mqtt.as_ref(), &mut findings);
    if !findings.faults.is_empty() {
        return Err(Rejected { faults: findings.faults, warnings: findings.warnings });
    }
    Ok(Config {
        devices: batteries.devices,
        banks,
        mqtt,
        http_access: match values.mentions(&variables::SUPERVISOR_TOKEN) {
            true => http::Access::HomeAssistant,
            false => http::Access::Anyone,
        },
        http_listen: values.text(&variables::HTTP_LISTEN).and_then(rule::listen).flatten(),
        history: service::history(&values),
        allow_control,
        capture: values.text(&variables::BMS_CAPTURE).map(PathBuf::from),
        log: service::log(&values),
        warnings: findings.warnings,
    })
}

/// Topics are fixed at the start, and the type of these batteries is known later.
fn warn_of_unknown_types(
    devices: &[Device],
    mqtt: Option<&mqtt::Settings>,
    findings: &mut fault::Findings,
) {
    if mqtt.is_some_and(|mqtt| mqtt.base_topic.contains("{type}")) {
        for device in devices.iter().filter(|device| device.driver.is_none()) {
            let (id, name) = (&device.profile.id, variables::MQTT_BASE_TOPIC.name);
            let brand = &device.profile.brand;
            findings.warn(format!("{id}: {{type}} in {name} stays {brand} until its type is set"));
        }
    }
}
