//! Groups the configured batteries into lines.

use tokio_util::sync::CancellationToken;

use crate::config::{self, Device};
use crate::model::Secret;
use crate::poll::{self, BleSettings, Line, LineMember, ReportedAdapterErrors};
use crate::protocol::driver::Medium;
use crate::sim::serve::{self, SimBus};
use crate::sim::{self, Faults, SimBrand};
use crate::transport::{BleConfig, Bluetooth, EsphomePort, LinkConfig, Passkey, esphome};

/// Fixed, so that the simulated batteries are the same at every start.
const SEED: u64 = 1;

/// How the simulated batteries behave.
#[derive(Debug, Clone)]
pub struct SimOptions {
    /// Simulated seconds per second.
    pub speed: f64,
    /// Simulated time at the start, in seconds.
    pub start: f64,
    /// What goes wrong on the simulated lines.
    pub faults: Faults,
}

impl Default for SimOptions {
    fn default() -> Self {
        SimOptions { speed: 1.0, start: 0.0, faults: Faults::default() }
    }
}

/// Builds the lines of all batteries. Those on the same port share a line, and so do simulated ones
/// of the same brand; a Bluetooth battery has a line of its own.
pub fn lines(
    devices: &[Device],
    bluetooth: &Bluetooth,
    sim: &SimOptions,
    stop: &CancellationToken,
) -> Vec<Line> {
    let adapter_errors = ReportedAdapterErrors::default();
    let of_proxy = |device: &esphome::Device| (device.address().to_owned(), device.clone());
    let mut esphome = EsphomeDevices(bluetooth.proxies().map(of_proxy).collect());
    let line = |(group, seed): (Vec<&Device>, u64)| {
        let mut members: Vec<_> = group.iter().map(|device| member(device)).collect();
        if members.len() > 1 {
            // A search for one of them would disturb the others.
            members.iter_mut().for_each(|member| member.search = None);
        }
        let endpoint = match &group[0].endpoint {
            config::Endpoint::Serial { path } => LinkConfig::Serial { path: path.clone() },
            config::Endpoint::Tcp { address } => LinkConfig::Tcp { address: address.clone() },
            config::Endpoint::Esphome(port) => LinkConfig::Esphome(esphome.port(port)),
            config::Endpoint::Ble { address, adapter } => {
                let keep_connected = group[0].keep_connected;
                let adapter_errors = adapter_errors.clone();
                let ble = Some(BleSettings { keep_connected, adapter_errors });
                let config = ble_config(group[0], bluetooth, address, adapter.clone());
                return Line { ble, ..Line::new(LinkConfig::Ble(config), members) };
            }
            config::Endpoint::Simulated => {
                let (bus, members) = simulated_bus(&group, seed, sim.faults.clone());
                let mut bus = SimBus::new(bus, sim.speed, None).starting_at(sim.start);
                bus.notification = simulated_brand(group[0]).notification;
                let port = serve::memory("simulated", bus, stop.clone());
                let line = Line::new(LinkConfig::Memory(port), members);
                return Line { speed: sim.speed, ..line };
            }
        };
        Line { bauds: group[0].bauds.clone(), ..Line::new(endpoint, members) }
    };
    groups(devices).into_iter().map(line).collect()
}

/// Access to the adapters of this machine and to these proxies.
pub fn bluetooth(proxies: &[config::BleProxy]) -> Bluetooth {
    let device = |proxy: &config::BleProxy| {
        let config::BleProxy { device, name } = proxy;
        let key = device.key.as_ref().map(|key| esphome::Key(key.0));
        (name.clone(), esphome::Device::new(device.address(), device.device(), key))
    };
    Bluetooth::with_proxies(proxies.iter().map(device).collect())
}

/// All ports of an ESPHome device share its connection, also with the batteries that it is the proxy of.
struct EsphomeDevices(Vec<(String, esphome::Device)>);

impl EsphomeDevices {
    fn port(&mut self, port: &config::SerialPort) -> EsphomePort {
        let address = port.address();
        let known = self.0.iter().find(|(known, _)| *known == address);
        let device = known.map(|(_, device)| device.clone()).unwrap_or_else(|| {
            let key = port.key.as_ref().map(|key| esphome::Key(key.0));
            let device = esphome::Device::new(address.clone(), port.device(), key);
            self.0.push((address, device.clone()));
            device
        });
        EsphomePort { device, name: port.name.clone(), endpoint: port.to_string() }
    }
}

/// The batteries of each line, with the seed of its simulation.
fn groups(devices: &[Device]) -> Vec<(Vec<&Device>, u64)> {
    let mut groups: Vec<Vec<&Device>> = Vec::new();
    for device in devices {
        match groups.iter_mut().find(|group| share_a_line(group[0], device)) {
            Some(group) => group.push(device),
            None => groups.push(vec![device]),
        }
    }
    // A bus adds the address to its seed, so the seeds of two lines must be further apart.
    groups.into_iter().zip((SEED..).step_by(256)).collect()
}

/// The buses of the simulated lines, without faults, each with its members.
pub(super) fn simulated_buses(devices: &[Device]) -> Vec<(sim::Bus, Vec<LineMember>)> {
    let is_simulated =
        |group: &Vec<&Device>| matches!(group[0].endpoint, config::Endpoint::Simulated);
    let simulated = groups(devices).into_iter().filter(|(group, _)| is_simulated(group));
    simulated.map(|(group, seed)| simulated_bus(&group, seed, Faults::default())).collect()
}

fn share_a_line(one: &Device, other: &Device) -> bool {
    match (&one.endpoint, &other.endpoint) {
        (config::Endpoint::Simulated, config::Endpoint::Simulated) => {
            let brand = simulated_brand(one);
            brand.name == simulated_brand(other).name && brand.notification.is_none()
        }
        (one, other) => one == other,
    }
}

fn simulated_brand(device: &Device) -> &'static SimBrand {
    device.driver.and_then(|info| sim::find(info.name)).unwrap_or(&sim::daren::BRAND)
}

fn simulated_bus(group: &[&Device], seed: u64, faults: Faults) -> (sim::Bus, Vec<LineMember>) {
    let brand = simulated_brand(group[0]);
    let mut members: Vec<_> = group.iter().map(|device| member(device)).collect();
    if brand.notification.is_some() {
        members.iter_mut().for_each(|member| member.options.medium = Medium::Ble);
    }
    let addresses: Vec<u8> = members.iter().map(|member| member.options.address).collect();
    (sim::Bus::with_batteries(brand, &addresses, seed, faults), members)
}

fn ble_config(
    device: &Device,
    bluetooth: &Bluetooth,
    address: &str,
    adapter: Option<String>,
) -> BleConfig {
    BleConfig {
        bluetooth: bluetooth.clone(),
        address: address.to_owned(),
        adapter,
        scan_timeout: device.scan_timeout,
        timeout: device.options.timeout,
        passkey: device.options.password.as_ref().map(Secret::expose).and_then(Passkey::parse),
        channels: device.driver.map(poll::ble_channels).unwrap_or_default(),
    }
}

fn member(device: &Device) -> LineMember {
    LineMember {
        id: device.profile.id.clone(),
        driver: device.driver,
        search: device.search.clone(),
        options: device.options.clone(),
        interval: device.interval,
        control: device.control,
        thresholds: device.thresholds.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::app::App;
    use crate::model::DeviceId;
    use crate::sim::load_profile;

    #[tokio::test(start_paused = true)]
    async fn energy_counts_simulated_time() {
        let environment = [
            ("BMS_OPTIONS_FILE", "/nonexistent/options.json"),
            ("BMS_TYPE", "simulated"),
            ("READ_INTERVAL", "2"),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = config::load(environment.into()).unwrap();
        let evening = load_profile::time(1, 19 * 3600);
        let sim = SimOptions { speed: 60.0, start: evening, ..SimOptions::default() };
        let app = App::build(&config, &sim, &CancellationToken::new());
        let id = DeviceId::new("bms").unwrap();
        let mut states = app.board.subscribe(&id).unwrap();
        let mut reading = async |number| {
            let state = states.wait_for(|state| state.counters.reads == number).await.unwrap();
            let snapshot = state.snapshot.clone().unwrap();
            let discharged = snapshot.derived.energy_since_start.discharged.milliwatt_hours().0;
            (snapshot.reading.pack.remaining.unwrap().0, discharged)
        };
        let (before, _) = reading(1).await;
        let (after, discharged) =
            tokio::time::timeout(Duration::from_secs(600), reading(61)).await.unwrap();
        // Two hours at about 52 V.
        let expected = (before - after) * 52;
        assert!(expected > 500_000, "{expected} mWh from the battery");
        assert!((discharged - expected).abs() < expected / 10, "{discharged} of {expected} mWh");
    }
}
