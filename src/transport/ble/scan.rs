//! Looking around: for one battery, or for all there is.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use bluer::{Adapter, AdapterEvent, Device, DiscoveryFilter, DiscoveryTransport, ErrorKind};
use futures_util::{Stream, StreamExt};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};

use super::bus::{self, Reached, ask};
use super::radio::Radio;
use super::trouble::Snag;
use super::{BleFound, LinkError};

/// How often a scan is asked whether it has seen the battery. Batteries advertise every 0.1 to 2 s.
const GLANCE: Duration = Duration::from_millis(200);

/// How often the list of all devices is brought up to date: BlueZ forgets some within seconds.
const ROUND: Duration = Duration::from_secs(2);

/// A scan that runs until it is stopped or dropped.
pub(super) struct Scan {
    adapter: Adapter,
    /// `None`: BlueZ says that it scans for us already. That happens after a stop went wrong.
    events: Option<Pin<Box<dyn Stream<Item = AdapterEvent> + Send>>>,
}

impl Scan {
    pub(super) async fn start(reached: &Reached) -> Result<Scan, Snag> {
        let adapter = reached.adapter.clone();
        settle(&adapter).await?;
        let scan = Scan { adapter: adapter.clone(), events: None };
        let discover = async move { Ok(adapter.discover_devices().await?.boxed()) };
        let started = reached.bus.to_the_end(discover);
        match ask("starting a scan", started).await {
            Ok(events) => Ok(Scan { events: Some(events), ..scan }),
            Err(snag) if snag.kind() == Some(&ErrorKind::InProgress) => Ok(scan),
            Err(snag) => Err(snag),
        }
    }

    /// BlueZ refuses to begin because it has not ended an earlier one; only leaving the bus ends it.
    pub(super) fn is_stale(&self) -> bool {
        self.events.is_none()
    }

    /// Stops, and waits until BlueZ has confirmed it: a connect during a scan often fails.
    pub(super) async fn stop(mut self) -> Result<(), Snag> {
        self.events = None;
        settle(&self.adapter).await
    }

    /// The signal strength of the device as soon as it is seen; `None` when the time is over.
    pub(super) async fn see(
        &mut self,
        device: &Device,
        until: Instant,
    ) -> Result<Option<i16>, Snag> {
        let mut glance = interval(GLANCE);
        glance.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut goes_on = true;
        loop {
            let over = Instant::now() >= until;
            if let Some(rssi) = strength(device).await? {
                return Ok(Some(rssi));
            }
            if over || !goes_on {
                return Ok(None);
            }
            let waited = timeout_at(until, async {
                tokio::select! {
                    goes_on = self.attend() => goes_on,
                    _ = glance.tick() => true,
                }
            });
            goes_on = waited.await.unwrap_or(true);
            if !goes_on {
                sleep(GLANCE).await;
            }
        }
    }

    /// Takes what the scan reports, so that it does not pile up; false when BlueZ ended the scan.
    async fn attend(&mut self) -> bool {
        match &mut self.events {
            Some(events) => events.next().await.is_some(),
            None => std::future::pending().await,
        }
    }
}

/// bluer lets nobody set a filter before the end of the last scan was confirmed.
async fn settle(adapter: &Adapter) -> Result<(), Snag> {
    let filter = DiscoveryFilter { transport: DiscoveryTransport::Le, ..Default::default() };
    match ask("ending a scan", adapter.set_discovery_filter(filter)).await {
        Err(snag) if snag.kind() == Some(&ErrorKind::DiscoveryActive) => Ok(()),
        other => other,
    }
}

/// BlueZ keeps a signal strength only while a scan sees the device.
async fn strength(device: &Device) -> Result<Option<i16>, Snag> {
    match ask("reading the signal strength", device.rssi()).await {
        Err(snag) if snag.is_missing() => Ok(None),
        other => other,
    }
}

async fn is_connected(device: &Device) -> Result<bool, Snag> {
    match ask("looking for a connection", device.is_connected()).await {
        Err(snag) if snag.is_missing() => Ok(false),
        other => other,
    }
}

/// How many devices the adapter reaches: the scan under way sees them, or they are connected, which
/// most do not tell the scan any more.
pub(super) async fn in_reach(adapter: &Adapter) -> Result<usize, Snag> {
    let mut seen = 0;
    for address in ask("listing the devices", adapter.device_addresses()).await? {
        let Ok(device) = adapter.device(address) else { continue };
        seen += usize::from(strength(&device).await?.is_some() || is_connected(&device).await?);
    }
    Ok(seen)
}

/// What is in reach now, over the given time. The strongest signal comes first.
pub async fn scan(adapter: Option<&str>, time: Duration) -> Result<Vec<BleFound>, LinkError> {
    let reached = bus::adapter(adapter).await?;
    let name = reached.adapter.name();
    let radio = Radio::of(name);
    let _turn = radio.turn(name).await?;
    let seen = match look_around(&reached, time).await {
        Ok(seen) => seen,
        Err(snag) => {
            if snag.bus().is_some() {
                reached.leave_bus().await;
            }
            return Err(snag.at(name, name));
        }
    };
    let mut found: Vec<_> = seen.into_values().collect();
    found.sort_by_key(|device| device.rssi.map_or(i16::MAX, |rssi| -rssi));
    Ok(found)
}

async fn look_around(
    reached: &Reached,
    time: Duration,
) -> Result<BTreeMap<String, BleFound>, Snag> {
    let until = Instant::now() + time;
    let mut seen = BTreeMap::new();
    let mut scan = Scan::start(reached).await?;
    while Instant::now() < until {
        let round = until.min(Instant::now() + ROUND);
        while let Ok(going_on) = timeout_at(round, scan.attend()).await {
            if !going_on {
                // The adapter was switched off, or its daemon ended.
                return Err(Snag::Said(bluer::Error {
                    kind: ErrorKind::NotReady,
                    message: String::new(),
                }));
            }
        }
        gather(&reached.adapter, &mut seen).await?;
    }
    if scan.is_stale() {
        reached.leave_bus().await;
    }
    scan.stop().await?;
    Ok(seen)
}

async fn gather(adapter: &Adapter, seen: &mut BTreeMap<String, BleFound>) -> Result<(), Snag> {
    for address in ask("listing the devices", adapter.device_addresses()).await? {
        let Ok(device) = adapter.device(address) else { continue };
        match ask("looking at a device", describe(&device)).await {
            Ok(Some(mut found)) => {
                if let Some(before) = seen.remove(&found.address) {
                    found.name = found.name.or(before.name);
                    found.rssi = found.rssi.or(before.rssi);
                }
                seen.insert(found.address.clone(), found);
            }
            Ok(None) => {}
            Err(snag) if snag.is_missing() => {}
            Err(snag) => return Err(snag),
        }
    }
    Ok(())
}

/// `None` for a device that BlueZ only remembers.
async fn describe(device: &Device) -> bluer::Result<Option<BleFound>> {
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
    Ok(Some(BleFound {
        adapter: device.adapter_name().into(),
        address: device.address().to_string(),
        name: device.name().await?,
        rssi,
        services,
        manufacturer,
        connected,
    }))
}
