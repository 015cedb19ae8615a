//! Identifies the batteries at a port or Bluetooth address, as the type `auto` does.

use tracing::info;

use super::read::{read, read_lines};
use crate::config::Device;
use crate::model::{DeviceState, Fault, FaultKind};
use crate::protocol::{self, DriverInfo, detection};
use crate::transport::Bluetooth;

/// Each battery that answers, by address; at least one.
pub type ProbeResult = Result<Vec<Identified>, Fault>;

#[derive(Debug, Clone)]
pub struct Identified {
    pub driver: &'static DriverInfo,
    /// As the battery reports it.
    pub model: Option<String>,
    /// Address of the pack on its bus.
    pub address: Option<u8>,
}

/// Addresses of a brand that are asked; racks have no more packs.
const MAX_ADDRESSES: usize = 16;
/// Seconds for a whole reply; a pack that sends nothing within a part of it is absent.
const TIMEOUT: &str = "2";

/// Identifies the battery with this Bluetooth address.
pub async fn probe_device(address: &str, adapter: &str, bluetooth: &Bluetooth) -> ProbeResult {
    let state = read_one(&[("bms_address", address), ("bms_adapter", adapter)], bluetooth).await?;
    identified(&state, None).map(|found| vec![found])
}

/// Identifies every pack at a port.
pub async fn probe_port(path: &str, bluetooth: &Bluetooth) -> ProbeResult {
    let state = read_one(&[("bms_type", detection::AUTO), ("bms_port", path)], bluetooth).await?;
    let address = state.profile.address.as_ref().and_then(|address| address.parse().ok());
    let first = identified(&state, address)?;
    let others = read_others(path, &first, bluetooth).await;
    let mut packs: Vec<_> = std::iter::once(first).chain(others).collect();
    packs.sort_by_key(|pack| pack.address);
    Ok(packs)
}

/// The packs at the other addresses of the same line. The first one is read again, so that the baud
/// rate is known.
async fn read_others(path: &str, first: &Identified, bluetooth: &Bluetooth) -> Vec<Identified> {
    let others = first.driver.addresses.clone().filter(|address| Some(*address) != first.address);
    let addresses: Vec<_> =
        first.address.into_iter().chain(others.take(MAX_ADDRESSES - 1)).collect();
    if addresses.len() < 2 {
        return Vec::new();
    }
    info!("{path}: asking {} addresses for {}", addresses.len(), first.driver.title);
    let device = |address: &u8| {
        let (number, id) = (address.to_string(), format!("pack{address}"));
        Device::from_variables(&[
            ("bms_type", first.driver.name),
            ("bms_port", path),
            ("bms_slave_id", &number),
            ("device_id", &id),
            ("bms_timeout", TIMEOUT),
        ])
    };
    let devices: Vec<_> = addresses.iter().filter_map(device).collect();
    let states = read_lines(&devices, bluetooth, |line| line.probes_first = true).await;
    let found = addresses.iter().zip(&states).skip(1);
    found.filter_map(|(address, state)| identified(state, Some(*address)).ok()).collect()
}

/// Reads the battery that these variables configure, with their names in lower case.
async fn read_one(variables: &[(&str, &str)], bluetooth: &Bluetooth) -> Result<DeviceState, Fault> {
    let device = Device::from_variables(variables).ok_or_else(not_probed)?;
    read(&[device], bluetooth, None).await.pop().ok_or_else(not_probed)
}

fn identified(state: &DeviceState, address: Option<u8>) -> Result<Identified, Fault> {
    match protocol::find(&state.profile.brand).zip(state.snapshot.as_ref()) {
        Some((driver, snapshot)) => {
            Ok(Identified { driver, model: snapshot.reading.identity.model.clone(), address })
        }
        None => {
            let fault = state.attempt.as_ref().and_then(|attempt| attempt.fault.clone());
            Err(fault.unwrap_or_else(not_probed))
        }
    }
}

fn not_probed() -> Fault {
    Fault::new(FaultKind::Timeout, "not probed", "please report this")
}
