//! Identifies the batteries at a port or Bluetooth address, as the type `auto` does.

use std::collections::BTreeSet;

use tracing::info;

use super::read::{read, read_lines};
use crate::config::{Device, Endpoint};
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
    /// With the values of the read.
    pub state: DeviceState,
}

/// The usual addresses: that of a single pack, and that of a master.
const USUAL_ADDRESSES: [u8; 2] = [1, 0];
/// Addresses of a brand that are asked; racks have no more packs.
const MAX_ADDRESSES: usize = 16;
/// Seconds for a whole reply; a pack that sends nothing within a part of it is absent.
const TIMEOUT: &str = "2";

/// Identifies the battery that these variables configure, with their names in lower case.
pub async fn probe_device(
    variables: &[(&str, &str)],
    bluetooth: &Bluetooth,
) -> Result<Identified, Fault> {
    let device = Device::from_variables(variables).ok_or_else(not_probed)?;
    let state = read(&[device], bluetooth, None).await.pop().ok_or_else(not_probed)?;
    // A Bluetooth address is no number.
    let address = state.profile.address.as_ref().and_then(|address| address.parse().ok());
    identified(&state, address)
}

/// Identifies every pack at a port, of every brand.
pub async fn probe_port(path: &str, bluetooth: &Bluetooth) -> ProbeResult {
    let first = probe_first(path, bluetooth).await?;
    let mut packs = probe_others(path, &first, bluetooth).await;
    packs.push(first);
    packs.sort_by_key(|pack| pack.address);
    Ok(packs)
}

/// Identifies the pack that answers first.
pub async fn probe_first(path: &str, bluetooth: &Bluetooth) -> Result<Identified, Fault> {
    probe_device(&[("bms_type", detection::AUTO), ("bms_port", path)], bluetooth).await
}

/// Identifies the other packs on the line of a known one.
pub async fn probe_others(
    path: &str,
    first: &Identified,
    bluetooth: &Bluetooth,
) -> Vec<Identified> {
    let mut packs = ask(path, first, addresses_of(first.driver), bluetooth).await;
    // People number the packs of one wire from one brand to the next.
    let next = packs.iter().chain([first]).filter_map(|pack| pack.address).max();
    let next = next.and_then(|last| last.checked_add(1));
    let usual: Vec<u8> = USUAL_ADDRESSES.into_iter().chain(next).collect();
    for found in ask(path, first, other_brands(first.driver, &usual), bluetooth).await {
        if packs.iter().all(|pack| pack.driver.name != found.driver.name) {
            packs.extend(ask(path, first, addresses_of(found.driver), bluetooth).await);
        }
    }
    packs
}

fn addresses_of(driver: &'static DriverInfo) -> Vec<(&'static DriverInfo, u8)> {
    driver.addresses.clone().take(MAX_ADDRESSES).map(|address| (driver, address)).collect()
}

/// The usual addresses of the other brands with a wire, without those whose requests write.
fn other_brands(known: &DriverInfo, usual: &[u8]) -> Vec<(&'static DriverInfo, u8)> {
    let others = protocol::drivers().iter().copied().filter(|driver| {
        driver.serial.is_some() && !driver.probe_last && driver.name != known.name
    });
    let each = |driver: &'static DriverInfo| {
        let known = &driver.addresses;
        let addresses =
            usual.iter().filter(|address| known.contains(address)).chain([known.start()]);
        addresses
            .copied()
            .collect::<BTreeSet<u8>>()
            .into_iter()
            .map(move |address| (driver, address))
    };
    others.flat_map(each).collect()
}

/// Reads the batteries of these brands and addresses that a known one shares a line with, and
/// returns those that answer. The known one is read first, so that the baud rate is known.
async fn ask(
    path: &str,
    known: &Identified,
    mut targets: Vec<(&'static DriverInfo, u8)>,
    bluetooth: &Bluetooth,
) -> Vec<Identified> {
    let first = (known.driver, known.address.unwrap_or_default());
    targets.retain(|(driver, address)| (driver.name, *address) != (first.0.name, first.1));
    if targets.is_empty() {
        return Vec::new();
    }
    let brands: BTreeSet<_> = targets.iter().map(|(driver, _)| driver.title).collect();
    let brands: Vec<_> = brands.into_iter().collect();
    // Without the key of an ESPHome device.
    let port = Endpoint::parse(path).map(|endpoint| endpoint.to_string()).unwrap_or_default();
    info!("{port}: asking {} addresses for {}", targets.len(), brands.join(", "));
    let device = |(driver, address): &(&'static DriverInfo, u8)| {
        let (number, id) = (address.to_string(), format!("{}-{address}", driver.name));
        let device = Device::from_variables(&[
            ("bms_type", driver.name),
            ("bms_port", path),
            ("bms_slave_id", &number),
            ("device_id", &id),
            ("bms_timeout", TIMEOUT),
        ]);
        device.map(|device| (device, *address))
    };
    let devices = std::iter::once(&first).chain(&targets).filter_map(device);
    let (devices, addresses): (Vec<_>, Vec<_>) = devices.unzip();
    let states = read_lines(&devices, bluetooth, |line| line.probes_first = true).await;
    let found = addresses.iter().zip(&states).skip(1);
    found.filter_map(|(address, state)| identified(state, Some(*address)).ok()).collect()
}

fn identified(state: &DeviceState, address: Option<u8>) -> Result<Identified, Fault> {
    match protocol::find(&state.profile.brand).zip(state.snapshot.as_ref()) {
        Some((driver, snapshot)) => {
            let model = snapshot.reading.identity.model.clone();
            Ok(Identified { driver, model, address, state: state.clone() })
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
