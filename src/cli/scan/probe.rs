//! Identifies the battery at a port or Bluetooth address, as the type `auto` does.

use futures_util::FutureExt;
use tokio::task::JoinSet;

use crate::cli::read::read;
use crate::config::{Device, Endpoint};
use crate::model::{Fault, FaultKind};
use crate::protocol::{self, DriverInfo};
use crate::transport::Bluetooth;
use crate::transport::ble::BleDevice;

pub(super) type ProbeResult = Result<Identified, Fault>;

#[derive(Debug, Clone)]
pub(super) struct Identified {
    pub driver: &'static DriverInfo,
    /// As the battery reports it.
    pub model: Option<String>,
}

/// Whether this is a port, and not a Bluetooth address.
pub(super) fn is_port(endpoint: &str) -> bool {
    Endpoint::parse(endpoint).is_some()
}

/// Probes all ports concurrently; returns the results in no particular order.
pub(super) async fn ports(
    paths: impl Iterator<Item = String>,
    bluetooth: &Bluetooth,
) -> Vec<(String, ProbeResult)> {
    let mut probes = JoinSet::new();
    for path in paths {
        let bluetooth = bluetooth.clone();
        let probe = async move {
            let result = probe(&[("bms_type", "auto"), ("bms_port", &path)], &bluetooth).await;
            (path, result)
        };
        probes.spawn(probe.boxed());
    }
    probes.join_all().await
}

pub(super) async fn ble_device(found: &BleDevice, bluetooth: &Bluetooth) -> ProbeResult {
    probe(&[("bms_address", &found.address), ("bms_adapter", &found.adapter)], bluetooth).await
}

async fn probe(variables: &[(&str, &str)], bluetooth: &Bluetooth) -> ProbeResult {
    let not_probed = || Fault::new(FaultKind::Timeout, "not probed", "please report this");
    let device = Device::from_variables(variables).ok_or_else(not_probed)?;
    let id = device.profile.id.clone();
    let state = read(&[device], bluetooth, None).await.latest(&id).ok_or_else(not_probed)?;
    match protocol::find(&state.profile.brand).zip(state.snapshot) {
        Some((driver, snapshot)) => {
            Ok(Identified { driver, model: snapshot.reading.identity.model.clone() })
        }
        None => Err(state.attempt.and_then(|attempt| attempt.fault).unwrap_or_else(not_probed)),
    }
}
