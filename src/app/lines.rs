//! From configured batteries to the lines that they are on.

use tokio_util::sync::CancellationToken;

use crate::config::{self, Device};
use crate::model::Secret;
use crate::poll::{self, BleSettings, Line, Member, ReportedAdapterErrors};
use crate::protocol::driver::Medium;
use crate::sim::serve::{self, SimBus};
use crate::sim::{self, Faults};
use crate::transport::ble::Passkey;
use crate::transport::{BleConfig, Endpoint, SerialConfig, TcpConfig};

/// A simulated second is a second.
const REAL_TIME: f64 = 1.0;
/// The simulated batteries are the same at every start.
const SEED: u64 = 1;

/// How the simulated batteries live.
#[derive(Debug, Clone)]
pub struct SimOptions {
    /// So many times as fast as we do.
    pub speed: f64,
    /// What goes wrong on the simulated wires.
    pub faults: Faults,
}

impl Default for SimOptions {
    fn default() -> Self {
        SimOptions { speed: REAL_TIME, faults: Faults::default() }
    }
}

/// Batteries that share a port share a line, and so do simulated ones of one brand. On Bluetooth
/// each has its own; their adapter makes them take turns.
pub fn lines(devices: &[Device], play: &SimOptions, stop: &CancellationToken) -> Vec<Line> {
    let mut groups: Vec<(&Device, Vec<&Device>)> = Vec::new();
    for device in devices {
        match groups.iter_mut().find(|(first, _)| share_a_line(first, device)) {
            Some((_, members)) => members.push(device),
            None => groups.push((device, vec![device])),
        }
    }
    let troubles = ReportedAdapterErrors::default();
    // A bus adds the address to its seed, and no two batteries shall be the same.
    let groups = groups.iter().zip((SEED..).step_by(256));
    groups.map(|((first, group), seed)| line(first, group, play, seed, &troubles, stop)).collect()
}

fn share_a_line(one: &Device, other: &Device) -> bool {
    match (&one.place, &other.place) {
        (config::Endpoint::Simulated, config::Endpoint::Simulated) => {
            let (one, other) = (played(one), played(other));
            one.name == other.name && one.notification.is_none()
        }
        (one, other) => one == other,
    }
}

/// The brand that a simulated battery plays.
fn played(device: &Device) -> &'static sim::SimBrand {
    device.driver.and_then(|info| sim::find(info.name)).unwrap_or(&sim::daren::BRAND)
}

fn line(
    first: &Device,
    devices: &[&Device],
    play: &SimOptions,
    seed: u64,
    troubles: &ReportedAdapterErrors,
    stop: &CancellationToken,
) -> Line {
    let endpoint = match &first.place {
        config::Endpoint::Serial { path } => Endpoint::Serial(SerialConfig { path: path.clone() }),
        config::Endpoint::Tcp { host, port } => {
            Endpoint::Tcp(TcpConfig { host: host.clone(), port: *port })
        }
        config::Endpoint::Ble { address, adapter } => {
            return radio_line(first, address, adapter.clone(), troubles);
        }
        config::Endpoint::Simulated => {
            return simulated_line(played(first), devices, play, seed, stop);
        }
    };
    let members = devices.iter().map(|device| member(device)).collect();
    Line { endpoint, bauds: first.bauds.clone(), members, radio: None, recorder: None }
}

fn simulated_line(
    brand: &'static sim::SimBrand,
    devices: &[&Device],
    play: &SimOptions,
    seed: u64,
    stop: &CancellationToken,
) -> Line {
    let addresses: Vec<u8> = devices.iter().map(|it| it.options.address).collect();
    let bus = sim::Bus::living(brand, &addresses, seed, play.faults.clone());
    let mut stage = SimBus::new(bus, play.speed, None);
    let mut members: Vec<Member> = devices.iter().map(|device| member(device)).collect();
    if brand.notification.is_some() {
        stage = stage.by_radio();
        members.iter_mut().for_each(|member| member.options.medium = Medium::Ble);
    }
    let endpoint = Endpoint::Memory(serve::memory("simulated", stage, stop.clone()));
    Line { endpoint, bauds: Vec::new(), members, radio: None, recorder: None }
}

fn radio_line(
    device: &Device,
    address: &str,
    adapter: Option<String>,
    troubles: &ReportedAdapterErrors,
) -> Line {
    let limit = device.options.timeout;
    let passkey = device.options.password.as_ref().map(Secret::expose).and_then(Passkey::parse);
    let endpoint = Endpoint::Ble(BleConfig {
        address: address.to_owned(),
        adapter,
        scan_timeout: device.scan_timeout,
        timeout: limit,
        passkey,
        places: device.driver.map(poll::places).unwrap_or_default(),
    });
    let mut member = member(device);
    member.options.timeout = poll::answer_limit(limit);
    let radio =
        BleSettings { keep_connected: device.keep_connected, limit, troubles: troubles.clone() };
    Line { endpoint, bauds: Vec::new(), members: vec![member], radio: Some(radio), recorder: None }
}

fn member(device: &Device) -> Member {
    Member {
        id: device.profile.id.clone(),
        driver: device.driver,
        options: device.options.clone(),
        interval: device.interval,
        control: device.control,
        thresholds: device.thresholds.clone(),
    }
}
