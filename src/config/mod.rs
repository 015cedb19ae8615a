//! From the environment and the add-on options to a checked [`Config`].

mod bank;
mod brand;
mod broker;
mod correction;
mod device;
mod endpoint;
mod error;
mod esphome;
mod http;
mod influx;
mod installation;
mod notify;
mod profiles;
mod proxies;
mod redacted;
mod rule;
mod service;
mod source;
#[cfg(test)]
mod tests;
mod unknown;
mod values;
pub mod variables;
mod victron;
mod zone;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

pub use endpoint::Endpoint;
pub use error::{ConfigError, Diagnostics};
pub use esphome::{SerialPort, with_placeholder};
pub use installation::installation;
pub use profiles::read_profile;
pub use proxies::BleProxy;
pub use redacted::{RedactedConfig, redacted};
pub use rule::Rule;
pub use service::{HistorySettings, LogSettings, log_filter};
pub use source::environment;

use error::Reporter;
use values::Values;

use crate::model::bank::Wiring;
use crate::model::{AlarmThresholds, DeviceId, Profile};
use crate::protocol::detection::Scope;
use crate::protocol::{DriverInfo, Options};
use crate::sink::http::{Options as SetupOptions, Settings as HttpSettings};
use crate::sink::{influx as influx_sink, mqtt, notify as notify_sink};

#[derive(Debug)]
pub struct Config {
    pub devices: Vec<Device>,
    pub banks: Vec<Bank>,
    pub proxies: Vec<BleProxy>,
    /// `None`: no broker is configured.
    pub mqtt: Option<mqtt::Settings>,
    /// `None`: the HTTP server is off.
    pub http: Option<HttpSettings>,
    /// `None`: no service is configured.
    pub notify: Option<notify_sink::Settings>,
    /// `None`: no server for line protocol is configured.
    pub influx: Option<influx_sink::Settings>,
    pub history: HistorySettings,
    /// Whether commands may change a battery.
    pub allow_control: bool,
    /// File that records all traffic with the batteries.
    pub capture: Option<PathBuf>,
    pub log: LogSettings,
    pub warnings: Vec<String>,
}

/// The configuration of one battery.
#[derive(Debug, Clone)]
pub struct Device {
    pub profile: Profile,
    /// `None`: the brand is to be identified.
    pub driver: Option<&'static DriverInfo>,
    /// On a wire: what to search while it does not answer; `None` if its type and address are
    /// configured.
    pub search: Option<Scope>,
    pub options: Options,
    pub endpoint: Endpoint,
    /// Baud rates to try, the usual one first.
    pub bauds: Vec<u32>,
    /// Time between two reads.
    pub interval: Duration,
    /// Whether commands may operate its switches.
    pub control: bool,
    /// Bluetooth: time to search for a device that the system does not know.
    pub scan_timeout: Duration,
    /// Bluetooth: whether the connection stays open between two reads; `None`: depends on the brand.
    pub keep_connected: Option<bool>,
    pub thresholds: AlarmThresholds,
    /// `None`: no driver of Venus OS reads it.
    pub victron: Option<mqtt::Victron>,
}

/// The configuration of a group of batteries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bank {
    pub profile: Profile,
    pub members: Vec<DeviceId>,
    pub wiring: Wiring,
    /// `None`: no driver of Venus OS reads it.
    pub victron: Option<mqtt::Victron>,
}

/// Reads and checks the configuration; reports all errors at once. The result depends on the
/// argument and the files that it names, and on the add-on's options.
pub fn load(environment: BTreeMap<String, String>) -> Result<Config, Diagnostics> {
    let reporter = Reporter::default();
    let options = http::options(environment.clone());
    let values = source::collect(environment, &reporter);
    profiles::load(&values);
    build(&values, options, &reporter)
}

/// `options`: the configuration as the set-up page shows it.
fn build(
    values: &Values,
    options: SetupOptions,
    reporter: &Reporter,
) -> Result<Config, Diagnostics> {
    let thresholds = service::thresholds(values);
    let mut batteries = device::all(values, &thresholds);
    let proxies = proxies::all(values);
    proxies::share(values, &proxies, &mut batteries.devices);
    let allow_control = values.is_on(&variables::ALLOW_CONTROL);
    if allow_control {
        for device in &mut batteries.devices {
            device.control = true;
            let controls = device.driver.map(|info| info.controls_on(device.options.medium));
            device.profile.controls = controls.unwrap_or_default().to_vec();
        }
    }
    let banks = bank::all(values, &batteries);
    let bank_ids = banks.iter().map(|bank| bank.profile.id.as_str());
    let ids: Vec<&str> = batteries.ids.iter().map(String::as_str).chain(bank_ids).collect();
    let mut mqtt = broker::settings(values, &ids);
    if let Some(mqtt) = &mut mqtt {
        let of_batteries = batteries.devices.iter().map(|it| (&it.profile.id, &it.victron));
        let of_banks = banks.iter().map(|bank| (&bank.profile.id, &bank.victron));
        let all = of_batteries.chain(of_banks);
        mqtt.victron = all.filter_map(|(id, it)| Some((id.clone(), it.clone()?))).collect();
    }
    let http = http::settings(values, options);
    let zone = zone::local(values);
    let notify = notify::settings(values, zone);
    let influx = influx::settings(values);
    warn_about_unknown_types(values, &batteries.devices, mqtt.as_ref());
    let diagnostics = reporter.take();
    if !diagnostics.errors.is_empty() {
        return Err(diagnostics);
    }
    Ok(Config {
        devices: batteries.devices,
        banks,
        proxies,
        mqtt,
        http,
        notify,
        influx,
        history: service::history(values, zone.unwrap_or_default()),
        allow_control,
        capture: values.value(&variables::BMS_CAPTURE).map(PathBuf::from),
        log: service::log(values),
        warnings: diagnostics.warnings,
    })
}

/// The Bluetooth proxies alone, for commands that need no other part of the configuration.
pub fn load_proxies(environment: BTreeMap<String, String>) -> Vec<BleProxy> {
    proxies::all(&source::collect(environment, &Reporter::default()))
}

/// Loads the user's profiles alone, for commands that need no other part of the configuration.
pub fn load_profiles(environment: BTreeMap<String, String>) -> Diagnostics {
    let reporter = Reporter::default();
    let values = source::collect(environment, &reporter);
    // What else is wrong does not matter here.
    reporter.take();
    profiles::load(&values);
    reporter.take()
}

/// Topics are fixed at the start, but the type of these batteries is identified later.
fn warn_about_unknown_types(values: &Values, devices: &[Device], mqtt: Option<&mqtt::Settings>) {
    if mqtt.is_some_and(|mqtt| mqtt.base_topic.contains("{type}")) {
        for device in devices.iter().filter(|device| device.driver.is_none()) {
            let Profile { id, brand, .. } = &device.profile;
            let name = variables::MQTT_BASE_TOPIC.name;
            values.warn(format!("{id}: {{type}} in {name} stays {brand}; set the type"));
        }
    }
}
