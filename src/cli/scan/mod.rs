//! `scan`: serial ports and Bluetooth devices, with the lines to put into the configuration.

mod text;

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::args::FlagValue::{self, Many, One};
use super::args::{Command, Flag, PROGRAM};
use super::{CommandError, Outcome, SUCCESS, log, print};
use crate::app;
use crate::app::probe::{Identified, ProbeResult, probe_device, probe_port};
use crate::config::{self, Endpoint, LogSettings, with_placeholder};
use crate::model::{Fault, FaultKind};
use crate::poll::{CycleError, advertisement};
use crate::protocol::detection;
use crate::protocol::detection::{Guess, recognise};
use crate::transport::Bluetooth;
use crate::transport::ble::{ANY_PROXY, BleDevice, ProxyInfo};
use crate::transport::serial::{self, PortInfo};

/// Batteries advertise every second or two.
const SCAN_TIME: Duration = Duration::from_secs(5);

pub(super) const COMMAND: Command = Command {
    name: "scan",
    about: "List serial ports and Bluetooth devices, with the lines to put into the configuration",
    positional: None,
    flags: &[
        Flag::new("seconds", One("N"), "Time to scan for Bluetooth devices").default("5"),
        Flag::new("json", FlagValue::None, "Print one JSON object instead of text"),
        Flag::new(
            "probe",
            Many("TARGET"),
            "Identify batteries with harmless read requests: at these ports and Bluetooth \
             addresses, or at all",
        ),
    ],
    prepare: |matches| {
        let seconds = matches.parsed("seconds", "a number from 1 to 120", |text| {
            text.parse().ok().filter(|seconds| (1..=120).contains(seconds))
        })?;
        let time = seconds.map_or(SCAN_TIME, Duration::from_secs);
        let (targets, as_json) = (matches.values("probe").map(<[_]>::to_vec), matches.has("json"));
        Ok(Box::pin(run(time, targets, as_json)))
    },
};

#[derive(Debug)]
struct ScanResult {
    ports: Vec<FoundPort>,
    proxies: Vec<Result<ProxyInfo, Fault>>,
    /// The strongest signal first; or why Bluetooth is not available.
    devices: Result<Vec<FoundDevice>, Fault>,
}

/// A serial port or a bridge.
#[derive(Debug)]
struct FoundPort {
    found: PortInfo,
    probe: Option<ProbeResult>,
}

#[derive(Debug)]
struct FoundDevice {
    found: BleDevice,
    /// A Bluetooth proxy has seen it.
    by_proxy: bool,
    /// Brands that the advertisement matches.
    guesses: Vec<Guess>,
    probe: Option<ProbeResult>,
}

/// `targets`: what to probe; `None` for nothing, an empty list for everything.
async fn run(time: Duration, targets: Option<Vec<String>>, as_json: bool) -> Outcome {
    if targets.is_some() {
        show_progress()?;
    }
    let result = scan(targets.as_deref(), time).await;
    for target in result.missing(targets.as_deref().unwrap_or_default()) {
        let target = with_placeholder(target);
        eprintln!("{PROGRAM}: {target} not probed: neither a port nor a Bluetooth device in range");
    }
    let text = if as_json { result.to_json().to_string() } else { text::render(&result) };
    print(text.trim_end())?;
    Ok(SUCCESS)
}

/// The log shows what is tried: a search takes up to a minute.
fn show_progress() -> Result<(), CommandError> {
    log::start(&LogSettings {
        filter: "warn,bms_reader=info".to_owned(),
        json: false,
        is_default: false,
    })
}

/// What is connected and in range, as text.
pub(super) async fn overview() -> String {
    text::render(&scan(None, SCAN_TIME).await)
}

async fn scan(targets: Option<&[String]>, time: Duration) -> ScanResult {
    let bluetooth = app::bluetooth(&config::load_proxies(config::environment()));
    let (ports, infos, found) = tokio::join!(
        scan_ports(targets, &bluetooth),
        bluetooth.proxy_infos(time),
        bluetooth.scan(None, time)
    );
    let shown = |info: Result<_, _>| info.map_err(|error| CycleError::Link(error).fault());
    let proxies: Vec<Result<ProxyInfo, Fault>> = infos.into_iter().map(shown).collect();
    let names: Vec<_> = proxies.iter().flatten().map(|info| info.name.as_str()).collect();
    let devices = match found {
        Ok(found) => Ok(identify_devices(found, targets, &names, &bluetooth).await),
        Err(error) => Err(CycleError::Link(error).fault()),
    };
    ScanResult { ports, proxies, devices }
}

async fn scan_ports(targets: Option<&[String]>, bluetooth: &Bluetooth) -> Vec<FoundPort> {
    let mut found = serial::list();
    // A target may be a port that is not listed: a bridge, a pseudo-terminal.
    for target in targets.unwrap_or_default() {
        let is_port = Endpoint::parse(target).is_some();
        if is_port && !found.iter().any(|port| is_called(port, target)) {
            found.push(PortInfo { path: target.clone(), device: None });
        }
    }
    let probe_if_target = async |found: PortInfo| {
        let is_target = targets
            .is_some_and(|list| list.is_empty() || list.iter().any(|name| is_called(&found, name)));
        let probe = if is_target { Some(probe_port(&found.path, bluetooth).await) } else { None };
        FoundPort { probe, found }
    };
    join_all(found.into_iter().map(probe_if_target)).await
}

fn is_called(port: &PortInfo, name: &str) -> bool {
    port.path == name || port.device.as_deref() == Some(name)
}

async fn identify_devices(
    found: Vec<BleDevice>,
    targets: Option<&[String]>,
    proxies: &[&str],
    bluetooth: &Bluetooth,
) -> Vec<FoundDevice> {
    let mut devices = Vec::new();
    for found in found {
        let guesses = recognise(&advertisement(&found));
        let is_target = targets.is_some_and(|list| {
            list.iter().any(|name| name.eq_ignore_ascii_case(&found.address))
                || (list.is_empty() && !guesses.is_empty())
        });
        let probe = if is_target {
            let place = [("bms_address", &*found.address), ("bms_adapter", &*found.adapter)];
            Some(probe_device(&place, bluetooth).await.map(|found| vec![found]))
        } else {
            None
        };
        let by_proxy = proxies.contains(&&*found.adapter);
        devices.push(FoundDevice { found, by_proxy, guesses, probe });
    }
    devices
}

impl ScanResult {
    fn devices(&self) -> &[FoundDevice] {
        self.devices.as_deref().unwrap_or_default()
    }

    /// Targets that were not found.
    fn missing<'a>(&self, targets: &'a [String]) -> Vec<&'a String> {
        let is_found = |target: &&String| {
            self.ports.iter().any(|port| is_called(&port.found, target))
                || self
                    .devices()
                    .iter()
                    .any(|device| device.found.address.eq_ignore_ascii_case(target))
        };
        targets.iter().filter(|target| !is_found(target)).collect()
    }

    fn to_json(&self) -> Value {
        json!({
            "serial": self.ports.iter().map(FoundPort::to_json).collect::<Vec<_>>(),
            "proxies": self.proxies.iter().map(proxy_json).collect::<Vec<_>>(),
            "bluetooth": self.devices().iter().map(FoundDevice::to_json).collect::<Vec<_>>(),
            "bluetooth_error": self.devices.as_ref().err(),
        })
    }
}

fn proxy_json(proxy: &Result<ProxyInfo, Fault>) -> Value {
    match proxy {
        Ok(ProxyInfo { name, endpoint, version, devices, slots }) => json!({
            "name": name, "endpoint": endpoint, "version": version, "devices": devices,
            "free_connections": slots.map(|(free, _)| free),
            "connections": slots.map(|(_, limit)| limit),
        }),
        Err(fault) => json!({"error": fault}),
    }
}

impl FoundPort {
    fn environment(&self) -> Environment {
        match &by_address(packs(self.probe.as_ref()))[..] {
            [] => vec![("BMS_TYPE", detection::AUTO.to_owned()), self.port()],
            [[only, ..]] => {
                let mut variables = vec![("BMS_TYPE", only.driver.name.to_owned()), self.port()];
                let address = only.address.filter(|it| *it != only.driver.default_address());
                variables.extend(address.map(|address| ("BMS_SLAVE_ID", address.to_string())));
                variables
            }
            several => self.bank(several),
        }
    }

    /// Without the key that a target may contain.
    fn path(&self) -> String {
        with_placeholder(&self.found.path)
    }

    fn port(&self) -> (&'static str, String) {
        ("BMS_PORT", self.path())
    }

    /// The settings for several packs, which are one bank. Of several brands that read one pack, the
    /// first one is set.
    fn bank(&self, packs: &[&[Identified]]) -> Environment {
        let packs = || packs.iter().filter_map(|brands| brands.first());
        let id = |pack: &Identified| format!("pack{}", pack.address.unwrap_or_default());
        let device = |pack: &Identified| {
            json!({"id": id(pack), "type": pack.driver.name, "port": self.path(),
                "slave_id": pack.address})
        };
        let devices: Vec<_> = packs().map(device).collect();
        let members: Vec<_> = packs().map(id).collect();
        let banks = json!([{"id": "bank", "members": members, "wiring": "parallel"}]);
        vec![("DEVICES", json!(devices).to_string()), ("BANKS", banks.to_string())]
    }

    /// Whether a target does not exist, so that there is nothing to configure.
    fn is_missing(&self) -> bool {
        matches!(&self.probe, Some(Err(fault)) if fault.kind == FaultKind::PortNotFound)
    }

    fn to_json(&self) -> Value {
        let mut object = json!({"path": self.path(), "device": self.found.device});
        if !self.is_missing() {
            object["environment"] = self.environment().into_iter().collect();
        }
        add_probe(&mut object, self.probe.as_ref());
        object
    }
}

impl FoundDevice {
    /// A mere guess is left to `auto`.
    fn environment(&self) -> Environment {
        let identified = packs(self.probe.as_ref()).first().map(|pack| pack.driver.name);
        let brand = identified.unwrap_or_else(|| detection::type_to_set(&self.guesses));
        let mut variables =
            vec![("BMS_TYPE", brand.to_owned()), ("BMS_ADDRESS", self.found.address.clone())];
        // An adapter of this machine would come first.
        variables.extend(self.by_proxy.then(|| ("BMS_ADAPTER", ANY_PROXY.to_owned())));
        variables
    }

    fn may_be_battery(&self) -> bool {
        !self.guesses.is_empty() || self.probe.is_some()
    }

    fn to_json(&self) -> Value {
        let found = &self.found;
        let mut object = json!({
            "address": found.address,
            "name": found.name,
            "adapter": found.adapter,
            "rssi": found.rssi,
            "connected": found.connected,
            "services": found.services.iter().map(|service| text::uuid(*service)).collect::<Vec<_>>(),
            "types": self.guesses.iter().map(|guess| guess.driver.name).collect::<Vec<_>>(),
            "likely": self.guesses.first().is_some_and(|guess| guess.likely),
        });
        if self.may_be_battery() {
            object["environment"] = self.environment().into_iter().collect();
        }
        add_probe(&mut object, self.probe.as_ref());
        object
    }
}

/// The variables to set.
type Environment = Vec<(&'static str, String)>;

/// The packs by address: at each, the brands whose requests it answers.
fn by_address(packs: &[Identified]) -> Vec<&[Identified]> {
    packs.chunk_by(|one, other| one.address == other.address).collect()
}

/// The batteries that answered, ordered by address.
fn packs(probe: Option<&ProbeResult>) -> &[Identified] {
    probe.and_then(|result| result.as_deref().ok()).unwrap_or_default()
}

fn add_probe(object: &mut Value, probe: Option<&ProbeResult>) {
    match probe {
        None => {}
        Some(Ok(packs)) => {
            object["answered"] = json!(packs.first().map(|pack| pack.driver.name));
            let pack = |it: &Identified| json!({"type": it.driver.name, "address": it.address, "model": it.model});
            object["packs"] = packs.iter().map(pack).collect();
        }
        Some(Err(fault)) => object["error"] = json!(fault),
    }
}

#[cfg(test)]
mod tests;
