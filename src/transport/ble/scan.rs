//! Scanning: for one battery, or for everything in reach.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::time::Duration;

use bluer::{Adapter, AdapterEvent, Device, DiscoveryFilter, DiscoveryTransport, ErrorKind};
use futures_util::{Stream, StreamExt};
use tokio::time::{Instant, sleep, timeout_at};

use super::bus::{AdapterHandle, call_quick, is_connected, unless_missing};
use super::error::BleError;
use super::{ANY_PROXY, BleDevice, Bluetooth, LinkError};

/// How often a scan for one battery checks whether it was seen. Batteries advertise every 0.1 to 2 s.
pub(super) const SCAN_POLL: Duration = Duration::from_millis(200);

/// How often a scan for everything reads the list of devices: BlueZ drops some within seconds.
const LIST_INTERVAL: Duration = Duration::from_secs(2);

/// A scan that runs until it is stopped or dropped.
pub(super) struct Scan {
    adapter: AdapterHandle,
    /// `None`: BlueZ claims to be scanning for us already, as it does after a failed stop. Only
    /// leaving the bus ends such a scan.
    events: Option<Pin<Box<dyn Stream<Item = AdapterEvent> + Send>>>,
}

impl Scan {
    pub(super) async fn start(adapter: &AdapterHandle) -> Result<Scan, BleError> {
        wait_stopped(&adapter.adapter).await?;
        let bluez = adapter.adapter.clone();
        let discover = async move { Ok(bluez.discover_devices().await?.boxed()) };
        let events = match call_quick("starting a scan", adapter.bus.detached(discover)).await {
            Ok(events) => Some(events),
            Err(error) if error.kind() == Some(&ErrorKind::InProgress) => None,
            Err(error) => return Err(error),
        };
        Ok(Scan { adapter: adapter.clone(), events })
    }

    /// Stops, and waits until BlueZ has confirmed it: connecting during a scan often fails.
    pub(super) async fn stop(self) -> Result<(), BleError> {
        if self.events.is_none() {
            self.adapter.bluetooth.abandon(&self.adapter.bus).await;
        }
        drop(self.events);
        wait_stopped(&self.adapter.adapter).await
    }

    /// The signal strength of the device as soon as it is seen; `None` when time is up.
    pub(super) async fn wait_for(
        &mut self,
        device: &Device,
        until: Instant,
    ) -> Result<Option<i16>, BleError> {
        let mut running = true;
        loop {
            let time_is_up = Instant::now() >= until;
            if let Some(rssi) = signal_strength(device).await? {
                return Ok(Some(rssi));
            }
            if time_is_up || !running {
                return Ok(None);
            }
            let next_poll = until.min(Instant::now() + SCAN_POLL);
            running = timeout_at(next_poll, self.next_event()).await.unwrap_or(true);
            if !running {
                sleep(SCAN_POLL).await;
            }
        }
    }

    /// Takes an event of the scan so that they do not pile up; false when BlueZ has ended the scan.
    pub(super) async fn next_event(&mut self) -> bool {
        match &mut self.events {
            Some(events) => events.next().await.is_some(),
            None => std::future::pending().await,
        }
    }
}

/// bluer accepts no filter until the end of the last scan was confirmed.
async fn wait_stopped(adapter: &Adapter) -> Result<(), BleError> {
    let filter = DiscoveryFilter { transport: DiscoveryTransport::Le, ..Default::default() };
    match call_quick("ending a scan", adapter.set_discovery_filter(filter)).await {
        Err(error) if error.kind() == Some(&ErrorKind::DiscoveryActive) => Ok(()),
        other => other,
    }
}

/// In dBm. BlueZ keeps it only while a scan sees the device.
async fn signal_strength(device: &Device) -> Result<Option<i16>, BleError> {
    let rssi = call_quick("reading the signal strength", device.rssi()).await;
    Ok(unless_missing(rssi)?.flatten())
}

/// How many devices the adapter reaches: those that the present scan sees, and connected ones, most
/// of which no longer advertise.
pub(super) async fn count_in_reach(adapter: &Adapter) -> Result<usize, BleError> {
    let mut count = 0;
    for address in call_quick("listing the devices", adapter.device_addresses()).await? {
        let Ok(device) = adapter.device(address) else { continue };
        let in_reach = signal_strength(&device).await?.is_some()
            || unless_missing(is_connected(&device).await)? == Some(true);
        count += usize::from(in_reach);
    }
    Ok(count)
}

impl Bluetooth {
    /// Scans for the given time, without a name with an adapter and all proxies. The device with the
    /// strongest signal comes first.
    pub async fn scan(
        &self,
        adapter: Option<&str>,
        time: Duration,
    ) -> Result<Vec<BleDevice>, LinkError> {
        let mut devices = match adapter {
            None if !self.proxies.is_empty() => {
                let proxies = self.proxies.named(ANY_PROXY).await;
                let remote = self.proxies.scan(&proxies, time);
                match tokio::join!(self.scan_locally(None, time), remote) {
                    (Ok(local), Ok(remote)) => [local, remote].concat(),
                    (_, Ok(devices)) | (Ok(devices), _) => devices,
                    (_, Err(error)) => return Err(error),
                }
            }
            name => match self.route(name, None).await {
                Some(proxies) => self.proxies.scan(&proxies, time).await?,
                None => self.scan_locally(name, time).await?,
            },
        };
        devices.sort_by_key(|device| device.rssi.map_or(i16::MAX, |rssi| -rssi));
        let mut seen = BTreeSet::new();
        devices.retain(|device| seen.insert(device.address.clone()));
        Ok(devices)
    }

    async fn scan_locally(
        &self,
        adapter: Option<&str>,
        time: Duration,
    ) -> Result<Vec<BleDevice>, LinkError> {
        let adapter = self.adapter(adapter).await?;
        let _permit = adapter.lock.acquire(adapter.name()).await?;
        match scan_all(&adapter, time).await {
            Ok(devices) => Ok(devices.into_values().collect()),
            Err(error) => Err(adapter.link_error(&error, adapter.name()).await),
        }
    }
}

/// The devices in reach by address.
async fn scan_all(
    adapter: &AdapterHandle,
    time: Duration,
) -> Result<BTreeMap<String, BleDevice>, BleError> {
    let until = Instant::now() + time;
    let mut devices = BTreeMap::new();
    let mut scan = Scan::start(adapter).await?;
    while Instant::now() < until {
        let next_list = until.min(Instant::now() + LIST_INTERVAL);
        while let Ok(running) = timeout_at(next_list, scan.next_event()).await {
            if !running {
                // The adapter was switched off, or bluetoothd ended.
                return Err(BleError::bluez(ErrorKind::NotReady, ""));
            }
        }
        update(&adapter.adapter, &mut devices).await?;
    }
    scan.stop().await?;
    Ok(devices)
}

async fn update(
    adapter: &Adapter,
    devices: &mut BTreeMap<String, BleDevice>,
) -> Result<(), BleError> {
    for address in call_quick("listing the devices", adapter.device_addresses()).await? {
        let Ok(device) = adapter.device(address) else { continue };
        let described = call_quick("reading a device", describe(&device)).await;
        let Some(mut found) = unless_missing(described)?.flatten() else { continue };
        if let Some(earlier) = devices.remove(&found.address) {
            found.name = found.name.or(earlier.name);
            found.rssi = found.rssi.or(earlier.rssi);
        }
        devices.insert(found.address.clone(), found);
    }
    Ok(())
}

/// `None` for a device that BlueZ only remembers.
async fn describe(device: &Device) -> bluer::Result<Option<BleDevice>> {
    let (rssi, connected) = (device.rssi().await?, device.is_connected().await?);
    if rssi.is_none() && !connected {
        return Ok(None);
    }
    let services = device.uuids().await?.unwrap_or_default();
    let mut services: Vec<_> = services.iter().map(bluer::Uuid::as_u128).collect();
    services.sort_unstable();
    let manufacturer = device.manufacturer_data().await?.unwrap_or_default();
    let mut manufacturer: Vec<_> = manufacturer.into_iter().collect();
    manufacturer.sort_unstable();
    Ok(Some(BleDevice {
        adapter: device.adapter_name().into(),
        address: device.address().to_string(),
        name: device.name().await?,
        rssi,
        services,
        manufacturer,
        connected,
    }))
}
